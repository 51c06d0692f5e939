"""The token endpoint: one request out, one answer in. The connection is made early, held, and nothing is sent on it.

No redirect is followed and nothing is tried twice: what travels here can be spent once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import NoReturn

import aiohttp

from loopback_auth.endpoints.connection import proxy_for, tls_context, why_unreachable
from loopback_auth.errors import OutcomeUnknown
from loopback_auth.oauth.token import ANSWER_LIMIT, TokenAnswer, TokenRequest

CONNECT_TIMEOUT = 10.0
"""Seconds for name, TCP and TLS."""
TOTAL_TIMEOUT = 15.0
"""Seconds for a whole request, its answer included: with the connection before it, less than a waiter's patience."""
HELD_FOR = 3600.0
"""Seconds a connection made early is kept; the server may close it sooner, and then another is made."""


class TokenEndpoint:
    """One token endpoint and the connection to it. Made by `open`, which also closes it."""

    def __init__(self, url: str) -> None:
        self._session: aiohttp.ClientSession
        self._url = url
        self._proxy = proxy_for(url)
        self.sent_at: float | None = None
        """When the last request was written, by `time.monotonic`."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        ca_file: str | None = None,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        total_timeout: float = TOTAL_TIMEOUT,
    ) -> AsyncIterator[TokenEndpoint]:
        """Open a session for `url`; nothing is connected yet. Raises ConfigurationError (the CA file)."""
        endpoint = cls(url)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls_context(ca_file), keepalive_timeout=HELD_FOR, limit=1),
            timeout=aiohttp.ClientTimeout(total=total_timeout, connect=connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[endpoint._tracing()],
            trust_env=False,
            auto_decompress=False,  # kept as it came
        ) as endpoint._session:
            yield endpoint

    async def connect(self) -> None:
        """Make the connection (name, TCP, TLS) and hold it. Raises TokenEndpointUnreachable."""
        try:
            await self._session.post(self._url, proxy=self._proxy, middlewares=(_connect_only,))
        except _ConnectedError:
            return
        except (aiohttp.ClientError, TimeoutError) as error:
            raise why_unreachable(error, self._url) from error

    async def send(self, request: TokenRequest, stage: Callable[[bytes], None] = lambda _piece: None) -> TokenAnswer:
        """Send `request`, once, and return what came back, at most `ANSWER_LIMIT` bytes of it.

        `stage` is given each piece of the body the moment it comes. Raises TokenEndpointUnreachable if no connection
        came about (nothing was sent), and OutcomeUnknown if the request left, or may have left, and no answer came.
        """
        self.sent_at = None
        progress = SimpleNamespace(connected=False)
        await asyncio.sleep(0)  # let the loop hear of it first, if the server has closed the held connection meanwhile
        try:
            async with self._session.post(
                request.url,
                data=request.body.reveal().encode("ascii"),
                headers=request.headers,
                proxy=self._proxy,
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as response:
                body = await _read(response, stage)
                return TokenAnswer(
                    status=response.status,
                    body=body,
                    content_type=response.headers.get("Content-Type", ""),
                    retry_after=response.headers.get("Retry-After"),
                )
        except (aiohttp.ClientError, TimeoutError, ValueError, RuntimeError) as error:  # the last: no more DNS at exit
            if not progress.connected:
                raise why_unreachable(error, self._url) from error
            how = "no answer in time" if isinstance(error, TimeoutError) else "the connection broke"
            raise OutcomeUnknown(f"the request reached the token endpoint, and then {how}") from error

    def _tracing(self) -> aiohttp.TraceConfig:
        """Mark the two moments that decide what was spent: the connection is there, the request is written."""

        async def connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
            if context.trace_request_ctx is not None:  # None: the connection is made early, nothing follows
                context.trace_request_ctx.connected = True

        async def written(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
            self.sent_at = time.monotonic()

        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(connected)
        tracing.on_connection_reuseconn.append(connected)
        tracing.on_request_headers_sent.append(written)
        return tracing


class _ConnectedError(Exception):
    """The connection is made, and goes back to the pool unused."""


async def _connect_only(request: aiohttp.ClientRequest, _send: aiohttp.ClientHandlerType) -> NoReturn:
    connector = request.session.connector
    assert connector is not None  # noqa: S101 (an open session has one)
    connection = await connector.connect(request, [], request.session.timeout)
    connection.release()
    raise _ConnectedError


async def _read(response: aiohttp.ClientResponse, stage: Callable[[bytes], None]) -> bytes:
    """Read the body up to the limit. A broken answer is kept as far as it came: it may hold the tokens."""
    body = bytearray()
    try:
        while len(body) < ANSWER_LIMIT:
            piece = await response.content.read(ANSWER_LIMIT - len(body))
            if not piece:
                break
            stage(piece)
            body += piece
    except (TimeoutError, aiohttp.ClientError):
        if not body:
            raise
    return bytes(body)
