"""Who may come in to the loopback server, how many at once, and for how long.

Every program on this machine can connect, as often and as slowly as it likes; the right redirect must get through.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from loopback_auth.redirect.doorman import Visitor
from loopback_auth.redirect.peers import Peers


class Limits(NamedTuple):
    """How much of the entrance one may take."""

    connections: int = 32
    """At once. Of too many, those who said nothing must leave first, then those who came first."""
    strangers: int = 8
    """Connections at once of other users of this machine: theirs never cost one of ours."""
    crowd: int = 128
    """Connections at once while they have just come: who comes in a crowd has a moment to speak."""
    moment: float = 0.1
    """Seconds."""
    head: float = 5.0
    """Seconds for a request, from its first byte to the end of its headers; for TLS too."""
    idle: float = 10.0
    """Seconds without a request."""


LIMITS = Limits()
_IN_A_ROW = 16
"""Connections that are let in before those inside have their turn."""
_PAUSE = 0.05
"""Seconds until the next try when no descriptor was free."""
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: who is not let in leaves nothing behind in the kernel


class Entrance:
    """Lets connections in. Made by `open`, which also ends it."""

    def __init__(self, meet: Callable[[], Visitor], tls: ssl.SSLContext | None, limits: Limits) -> None:
        self._meet = meet
        self._tls = tls
        self._limits = limits
        self._peers = Peers()
        self._inside: list[Visitor] = []
        """In the order in which they came."""
        self._strangers: list[Visitor] = []
        self._is_pressed = False
        """Whether more come than can be heard."""
        self._making_room: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._accepting: list[asyncio.Task[None]] = []
        """Only where the loop cannot watch sockets."""
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        listening: list[socket.socket],
        tls: ssl.SSLContext | None,
        meet: Callable[[], Visitor],
        limits: Limits = LIMITS,
    ) -> AsyncIterator[None]:
        """Let connections in while this lasts, each to the protocol that `meet` makes for it."""
        entrance = cls(meet, tls, limits)
        for each in listening:
            entrance._listen(each)
        watching = asyncio.create_task(entrance._watch())
        try:
            yield
        finally:
            watching.cancel()
            entrance._close(listening)

    def _listen(self, listening: socket.socket) -> None:
        try:
            self._loop.add_reader(listening, self._accept, listening)
        except NotImplementedError:  # Windows: its loop watches no sockets, it accepts in a task
            self._accepting.append(self._loop.create_task(self._accept_in_turn(listening)))

    def _accept(self, listening: socket.socket) -> None:
        try:
            for _ in range(_IN_A_ROW):
                connection, _address = listening.accept()
                connection.setblocking(False)
                self._let_in(connection)
            self._is_pressed = True
        except BlockingIOError:
            self._is_pressed = False
        except OSError:  # no descriptor is free
            self._loop.remove_reader(listening)
            self._pauses[listening] = self._loop.call_later(_PAUSE, self._listen, listening)

    async def _accept_in_turn(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(_PAUSE)
            else:
                self._loop.call_soon(self._let_in, connection)  # what goes wrong with one must not end this

    def _let_in(self, connection: socket.socket) -> None:
        visitor = self._meet()
        visitor.owner = self._peers.owner(connection)
        if visitor.owner == "nobody" and self._tls is not None:  # nobody is there for a handshake
            connection.close()
            return
        if visitor.owner != "ours":
            self._strangers = [stranger for stranger in self._strangers if not stranger.is_gone]
            if self._is_pressed or len(self._strangers) >= self._limits.strangers:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.close()
                return
            self._strangers.append(visitor)
        visitor.arrive(connection, self._tls)
        if visitor.is_gone:  # heard and answered: whoever floods us is, mostly
            return
        self._inside.append(visitor)
        if len(self._inside) >= self._limits.crowd + _IN_A_ROW:
            self._make_room()
        elif len(self._inside) > self._limits.connections:
            self._make_room_later()

    def _close(self, listening: list[socket.socket]) -> None:
        for each in listening if not self._accepting else ():
            self._loop.remove_reader(each)
        for task in self._accepting:
            task.cancel()
        for pause in self._pauses.values():
            pause.cancel()
        if self._making_room is not None:
            self._making_room.cancel()
        self._peers.close()
        for visitor in self._inside:
            if not visitor.is_settled:
                visitor.end()

    async def _watch(self) -> None:
        """End the connections whose time is over."""
        while True:
            await asyncio.sleep(1)
            self._inside = [visitor for visitor in self._inside if not visitor.is_gone]
            for visitor in self._inside:
                deadline = self._limits.head if visitor.is_busy else self._limits.idle
                if not visitor.is_settled and self._loop.time() - visitor.since > deadline:
                    visitor.end()

    def _make_room(self) -> None:
        """End the least worthy of too many."""
        if self._making_room is not None:
            self._making_room.cancel()
            self._making_room = None
        self._inside = [visitor for visitor in self._inside if not visitor.is_gone]
        limits, many = self._limits, len(self._inside)
        moment_ago = self._loop.time() - limits.moment
        old: list[Visitor] = []
        young: list[Visitor] = []
        for visitor in self._inside:
            if not visitor.is_settled:
                (old if visitor.came_at <= moment_ago else young).append(visitor)
        old.sort(key=_worth)
        least = max(many - len(young) - limits.connections, 0)
        leaving, staying = old[:least], old[least:] + young
        if many - len(leaving) > limits.crowd:
            busy = [visitor for visitor in staying if visitor.is_busy]
            silent = [visitor for visitor in staying if not visitor.is_busy]
            flood = max(busy, silent, key=len)  # whoever drowns the others is many
            leaving += flood[: many - len(leaving) - limits.crowd]
        for visitor in leaving:
            visitor.end()
        if young and many > limits.connections:
            self._make_room_later()

    def _make_room_later(self) -> None:
        if self._making_room is None:
            self._making_room = self._loop.call_later(self._limits.moment, self._make_room)


def _worth(visitor: Visitor) -> tuple[bool, bool, bool]:
    return not visitor.is_leaving, visitor.owner == "ours", visitor.is_busy
