"""Whom a new connection meets first: the start page is answered at once, all else waits until aiohttp is imported.

Browsers also open connections on which they say nothing for a while; nobody waits for those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from loopback_auth.redirect.requests import Reply, Request

_HEAD_LIMIT = 256 * 1024
"""Bytes that are kept for aiohttp, which has limits of its own; after that the sender waits."""


class Doorman:
    """Makes the protocol of each new connection, and keeps those that wait."""

    def __init__(self, first_reply: Callable[[Request], Reply | None]) -> None:
        """`first_reply` answers what needs no waiting, and returns None for all else."""
        self._first_reply = first_reply
        self._serve: Callable[[], asyncio.Protocol] | None = None
        self._waiting: dict[_Visitor, None] = {}
        """In the order in which they last spoke: the first redirect decides."""
        self._answered = asyncio.Event()
        self._closed = False

    async def first_answered(self, timeout: float) -> None:
        """Wait until somebody was answered, `timeout` seconds at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), timeout)

    def reply_to(self, request: Request) -> Reply | None:
        """Answer what needs no waiting."""
        reply = self._first_reply(request)
        if reply is not None:
            self._answered.set()
        return reply

    def meet(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        if self._serve is not None:
            return self._serve()
        visitor = _Visitor(self)
        self.heard(visitor)
        return visitor

    def hand_over(self, serve: Callable[[], asyncio.Protocol]) -> None:
        """Let all that wait, and all that come from now on, be served by the protocols that `serve` makes."""
        self._serve = serve
        for visitor in list(self._waiting):
            self.met(visitor)

    def met(self, visitor: _Visitor) -> None:
        """Pass on a visitor whose connection is there; the TLS of one may take until now."""
        if self._closed:
            visitor.end()
        elif self._serve is not None and visitor.is_there:
            visitor.hand_over(self._serve())

    def heard(self, visitor: _Visitor) -> None:
        """Put it behind those who spoke before."""
        self.forget(visitor)
        self._waiting[visitor] = None

    def forget(self, visitor: _Visitor) -> None:
        """Know of it no longer."""
        self._waiting.pop(visitor, None)

    def close(self) -> None:
        """End what still waits, and what is still being made."""
        self._closed = True
        for visitor in list(self._waiting):
            visitor.end()


class _Visitor(asyncio.Protocol):
    """A connection before aiohttp serves it: what came is kept, and at most one request is answered."""

    def __init__(self, doorman: Doorman) -> None:
        self._doorman = doorman
        self._transport: asyncio.Transport | None = None
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (TCP or TLS, never datagrams)
        self._transport = transport
        self._doorman.met(self)

    @property
    def is_there(self) -> bool:
        """Whether there is a connection yet: TLS may still be being made."""
        return self._transport is not None

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None  # noqa: S101 (data comes on a connection)
        self._came += data
        self._doorman.heard(self)
        if len(self._came) > _HEAD_LIMIT:
            self._transport.pause_reading()
        request = Request.parse(self._came)
        reply = self._doorman.reply_to(request) if request else None
        if request is not None and reply is not None:
            self._came = b""
            self._transport.write(reply.wire())
            if not request.keeps_alive:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._doorman.forget(self)

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Let `protocol` go on as if it had met the connection first."""
        self._doorman.forget(self)
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._came:
            protocol.data_received(self._came)
        self._transport.resume_reading()

    def end(self) -> None:
        """Close the connection."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
