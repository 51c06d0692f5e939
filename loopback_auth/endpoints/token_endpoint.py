"""The token endpoint: one request out, one answer in, on a connection that was made before there was anything to send.

No redirect is followed, and nothing is tried twice but where the caller says that it may be: what travels here can be
spent once. aiohttp is imported meanwhile, in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from loopback_auth.endpoints.connection import Destination, IdleConnection
from loopback_auth.endpoints.proxy import proxy_for
from loopback_auth.endpoints.ready import ReadyConnection
from loopback_auth.endpoints.trust import check_ca_file, tls_context
from loopback_auth.errors import OutcomeUnknown, TokenEndpointUnreachable
from loopback_auth.importing import imported
from loopback_auth.oauth.registration import is_loopback
from loopback_auth.oauth.token import TokenAnswer, TokenRequest

if TYPE_CHECKING:
    from loopback_auth.endpoints.exchange import Exchange

CONNECT_TIMEOUT = 10.0
"""Seconds for name, proxy, TCP and TLS."""
TOTAL_TIMEOUT = 15.0
"""Seconds for a whole request, its answer included: with the connection before it, less than a waiter's patience."""
LOCAL_TIMEOUT = 0.1
"""Seconds within which a port of this very computer is connected, or has refused."""

_T = TypeVar("_T")


class TokenEndpoint:
    """One token endpoint and the connection to it. Made by `open`, which also closes it."""

    def __init__(
        self, url: str, ca_file: str | None, proxy: str | None, connect_timeout: float, total_timeout: float
    ) -> None:
        self._url = url
        self._destination = Destination(
            url, _Once(lambda: asyncio.to_thread(tls_context, ca_file)), proxy_for(url, proxy)
        )
        self._connect_timeout = connect_timeout
        self._total_timeout = total_timeout
        self._ready = ReadyConnection(self._connect)
        self._exchange = _Once(lambda: imported(_import_exchange))
        self.sent_at: float | None = None
        """When the last request was written, by `time.monotonic`."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        ca_file: str | None = None,
        proxy: str | None = None,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        total_timeout: float = TOTAL_TIMEOUT,
    ) -> AsyncIterator[TokenEndpoint]:
        """Get ready to talk to `url`; nothing is connected yet. Raises ConfigurationError (the CA file).

        `proxy` is the configured one; what the environment names goes before it.
        """
        if ca_file is not None:
            check_ca_file(ca_file)
        endpoint = cls(url, ca_file, proxy, connect_timeout, total_timeout)
        try:
            yield endpoint
        finally:
            endpoint._ready.close()
            await endpoint._exchange.end()

    async def connect(self) -> None:
        """Make the connection and hold it. Raises TokenEndpointUnreachable, ConfigurationError (CA file, proxy)."""
        self._exchange.begin()
        await self._ready.make()

    @asynccontextmanager
    async def stay_connected(self) -> AsyncIterator[asyncio.Task[None]]:
        """Connect, and connect anew before that is stale, until something is sent, or this ends.

        The task raises TokenEndpointUnreachable if the first connection does not come about. Whether this very computer
        refuses is known at once, and waited for: then the start page says so.
        """
        connecting = asyncio.create_task(self._ready.keep())
        self._ready.made.add_done_callback(lambda _: self._exchange.begin())  # not while a browser waits for a page
        try:
            if is_loopback(urlsplit(self._url).hostname or ""):
                either: set[asyncio.Future[None]] = {connecting, self._ready.made}
                await asyncio.wait(either, timeout=LOCAL_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            yield connecting
        finally:
            connecting.cancel()

    async def send(
        self,
        request: TokenRequest,
        stage: Callable[[bytes], None] = lambda _piece: None,
        *,
        again_before: float | None = None,
    ) -> TokenAnswer:
        """Send `request`, once, and return what came back, at most `ANSWER_LIMIT` bytes of it.

        `stage` is given each piece of the body the moment it comes. If not one byte came, the request is sent once more
        on a new connection, provided that it is earlier than `again_before` by the loop's clock: for a code alone,
        whose tokens nobody can hold then. Raises TokenEndpointUnreachable if no connection came about (nothing was
        sent), and OutcomeUnknown if the request left, or may have left, and no answer came.
        """
        exchange_on = await self._exchange()
        self.sent_at = None
        first = exchange_on(self._ready.take)
        try:
            return await first.send(request, stage, self._total_timeout)
        except OutcomeUnknown:
            if first.heard or again_before is None or asyncio.get_running_loop().time() >= again_before:
                raise
        finally:
            self.sent_at = first.sent_at
        try:
            return await exchange_on(self._connect).send(request, stage, self._total_timeout)
        except TokenEndpointUnreachable as error:
            raise OutcomeUnknown("the request left, no answer came, and then there was no connection") from error

    async def _connect(self) -> IdleConnection:
        return await self._destination.connect(self._connect_timeout)


def _import_exchange() -> type[Exchange]:
    """Import aiohttp: it takes longer than all else in a login that is not waiting."""
    from loopback_auth.endpoints.exchange import Exchange

    return Exchange


class _Once(Generic[_T]):
    """Something that takes a while and is done once: when it is asked for, or begun before."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self._work = work
        self._task: asyncio.Task[_T] | None = None

    def begin(self) -> asyncio.Task[_T]:
        self._task = self._task or asyncio.create_task(self._work())
        return self._task

    async def __call__(self) -> _T:
        return await asyncio.shield(self.begin())

    async def end(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})
