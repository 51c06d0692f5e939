"""Whom a connection meets first: who is answered at once, who is turned away, and who is passed on to aiohttp.

Most of what comes needs no waiting, or deserves none: it is answered here, before aiohttp is imported and at next to no
cost. What may be the redirect waits for aiohttp, and then for its answer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from loopback_auth.redirect.peers import Owner
from loopback_auth.redirect.requests import HEADER_LIMIT, LINE_LIMIT, Reply, Request

_HEAD_LIMIT = HEADER_LIMIT + 64 * 1024
"""Bytes of a request line and its headers."""
_USUAL = 16 * 1024
"""Bytes of one that is answered on its socket."""


class Doorman:
    """Makes the protocol of each new connection, and keeps those that wait."""

    def __init__(self, first_reply: Callable[[Request], Reply | None]) -> None:
        """`first_reply` answers what needs no waiting, and returns None for what may be the redirect."""
        self._first_reply = first_reply
        self._serve: Callable[[Owner], asyncio.Protocol] | None = None
        self._waiting: dict[Visitor, None] = {}
        """In the order in which they spoke: the first redirect decides."""
        self._answered = asyncio.Event()
        self._is_closed = False

    def meet(self) -> Visitor:
        """Return the protocol of a new connection."""
        return Visitor(self)

    async def first_answered(self, timeout: float) -> None:
        """Wait until somebody was answered, `timeout` seconds at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), timeout)

    def reply_to(self, came: bytes, sender: Owner) -> Reply | Literal["more", "wait"]:
        """Answer a request at once; or say that there must come more of it, or that it may be the redirect."""
        head, end, rest = came.partition(b"\r\n\r\n")
        if not end and len(head) <= _HEAD_LIMIT and len(head.partition(b"\r\n")[0]) <= LINE_LIMIT:
            return "more"
        request = Request.parse(head, sender) if end else None
        reply = self._first_reply(request) if request else Reply.bare(400)
        if reply is None:
            return "wait"
        if request is None or request.is_last or rest or reply.status >= 400:  # nobody here reads a body
            reply.headers["Connection"] = "close"
        self._answered.set()
        return reply

    def hand_over(self, serve: Callable[[Owner], asyncio.Protocol]) -> None:
        """Let those who wait, and who will wait from now on, be served by the protocols that `serve` makes."""
        self._serve = serve
        waiting, self._waiting = self._waiting, {}
        for visitor in waiting:
            visitor.hand_over(serve(visitor.owner))

    def wait(self, visitor: Visitor) -> None:
        """Let a visitor be served, now or when that is possible."""
        if self._is_closed:
            visitor.end()
        elif self._serve is not None:
            visitor.hand_over(self._serve(visitor.owner))
        else:
            self._waiting[visitor] = None

    def forget(self, visitor: Visitor) -> None:
        """Know of it no longer."""
        self._waiting.pop(visitor, None)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._is_closed = True
        for visitor in list(self._waiting):
            visitor.end()


class Visitor(asyncio.Protocol):
    """A connection, until aiohttp serves it.

    One that says nothing costs a descriptor and no more. What an http connection says is answered on its socket; only
    for TLS, for requests in pieces and for those that wait is a transport made.
    """

    _connection: socket.socket
    _tls: ssl.SSLContext | None

    def __init__(self, doorman: Doorman) -> None:
        self._doorman = doorman
        self._loop = asyncio.get_running_loop()
        self._coming: asyncio.Task[object] | None = None
        self._transport: asyncio.Transport | None = None
        self._came = b""
        self._is_read = False
        self._is_closed = False
        self.came_at = self.since = self._loop.time()
        """`since` it began to say something, was answered, or came. Seconds of the loop's clock."""
        self.owner: Owner = "ours"
        self.is_settled = False
        """Whether it sent what may be the redirect: it must not be ended before its answer."""

    def arrive(self, connection: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Begin to listen to `connection`, which must not block."""
        self._connection, self._tls = connection, tls
        if tls is None:
            self._speaks()
        if self._coming is None and not self._is_closed:
            try:
                self._loop.add_reader(connection, self._speaks)
                self._is_read = True
            except NotImplementedError:  # Windows: its loop watches no sockets, only transports
                self._make_transport()

    @property
    def is_busy(self) -> bool:
        """Whether it has begun to say something that is not answered yet; a TLS handshake is something too."""
        return bool(self._came) or (self._coming is not None and self._transport is None)

    @property
    def is_leaving(self) -> bool:
        """Whether it was sent away, and goes when the other end has noticed."""
        return self._transport is not None and self._transport.is_closing()

    @property
    def is_gone(self) -> bool:
        """Whether there is no connection any more."""
        return self._is_closed or (self.is_settled and self.is_leaving)

    def end(self) -> None:
        """Close the connection, whatever is under way on it."""
        if self._transport is not None:
            self._transport.abort()
        elif self._coming is not None:
            self._coming.cancel()
        else:
            self._close()

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Let `protocol` go on as if it had met the connection first."""
        assert self._transport is not None  # noqa: S101 (it has spoken)
        if self._transport.is_closing():
            return
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._came)
        self._transport.resume_reading()

    def _speaks(self) -> None:
        """Answer what stands on the socket, or make a transport."""
        if self._tls is not None or not self._answered():
            self._make_transport()

    def _answered(self) -> bool:
        """Answer on the socket, if that can be done: a flood costs a third of what it would with transports."""
        try:
            came = self._connection.recv(_USUAL, socket.MSG_PEEK)
            reply = self._doorman.reply_to(came, self.owner) if came else None
            if isinstance(reply, str):
                return False
            if reply is not None:
                self._connection.recv(len(came))
                self._connection.send(reply.wire())
                self.since = self._loop.time()
            if reply is None or reply.is_last:
                self._close()
        except BlockingIOError:
            return True  # nothing was said yet
        except OSError:
            self._close()
        return True

    def _make_transport(self) -> None:
        self._stop_reading()
        self.since = self._loop.time()
        self._coming = self._loop.create_task(
            self._loop.connect_accepted_socket(
                lambda: self, self._connection, ssl=self._tls, ssl_shutdown_timeout=None if self._tls is None else 1
            )
        )
        self._coming.add_done_callback(self._has_come)

    def _has_come(self, coming: asyncio.Task[object]) -> None:
        self._coming = None
        error = None if coming.cancelled() else coming.exception()
        if error is not None:
            error.__traceback__ = None  # it leads to the TLS buffers: a flood must not wait for the cycle collector
        if error is not None or coming.cancelled():
            self._close()

    def _stop_reading(self) -> None:
        if self._is_read:
            self._is_read = False
            self._loop.remove_reader(self._connection)

    def _close(self) -> None:
        self._stop_reading()
        self._connection.close()
        self._is_closed = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Go on with a transport; TLS is done."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (TCP or TLS, never datagrams)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the request once it is whole, or let it wait for aiohttp."""
        assert self._transport is not None  # noqa: S101 (data comes on a connection)
        if self._transport.is_closing():
            return
        if not self._came:
            self.since = self._loop.time()
        self._came += data
        if self.is_settled:  # what else it says is for aiohttp
            if len(self._came) > _HEAD_LIMIT:
                self._transport.pause_reading()
            return
        reply = self._doorman.reply_to(self._came, self.owner)
        if reply == "wait":
            self.is_settled = True
            self._doorman.wait(self)
        elif isinstance(reply, Reply):
            self._came = b""
            self._transport.write(reply.wire())
            self.since = self._loop.time()
            if reply.is_last:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Be forgotten."""
        self._is_closed = True
        self._transport = None
        self._doorman.forget(self)
