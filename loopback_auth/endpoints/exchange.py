"""The exchange on the wire: one request on a connection that is there, and what comes back, by aiohttp."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.tracing import Trace

from loopback_auth.endpoints.connection import IdleConnection
from loopback_auth.errors import OutcomeUnknown, TokenEndpointUnreachable
from loopback_auth.oauth.token import ANSWER_LIMIT, TokenAnswer, TokenRequest

HEAD_LIMIT = 64 * 1024
"""Bytes of a status line, and of each header: what comes beside the tokens may be odd."""
HEARD_LIMIT = 1024 * 1024
"""Bytes of an answer with all that is around its body; when more come, the connection is closed."""
_HEAD = re.compile(rb"HTTP/[\d.]+ +(\d)\d\d\b.*?\n\r?\n", re.DOTALL | re.IGNORECASE)


class Exchange:
    """One request and its answer, and how far it got: that decides whether something may have been spent."""

    def __init__(self, connection: Callable[[], Awaitable[IdleConnection]]) -> None:
        """`connection` returns what the request goes out on; where it raises, nothing is sent."""
        self.connection = connection
        self.transport: asyncio.Transport | None = None
        """What the request went out on; None as long as nothing can have been spent."""
        self.sent_at: float | None = None
        """By `time.monotonic`."""
        self.heard = bytearray()
        """The answer as it comes, head and all, as far as it is kept."""

    async def send(self, request: TokenRequest, stage: Callable[[bytes], None], timeout: float) -> TokenAnswer:
        """Send `request`, once, and return the answer. Raises what `connection` raises, and OutcomeUnknown."""
        async with aiohttp.ClientSession(
            connector=_Connector(self),
            timeout=aiohttp.ClientTimeout(total=timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_tracing(self)],
            trust_env=False,
            auto_decompress=False,  # kept as it came
            max_line_size=HEAD_LIMIT,
            max_field_size=HEAD_LIMIT,
        ) as session:
            try:
                async with session.post(
                    request.url,
                    data=request.body.reveal().encode("ascii"),
                    headers=request.headers,
                    allow_redirects=False,
                ) as response:
                    body = await _read(response, stage)
                    return TokenAnswer(
                        status=response.status,
                        body=body,
                        content_type=response.headers.get("Content-Type", ""),
                        retry_after=response.headers.get("Retry-After"),
                    )
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                if self.transport is None:
                    raise TokenEndpointUnreachable(
                        "the token endpoint cannot be reached in time", hint="nothing was sent; try again"
                    ) from error
                if body := _body_of_a_broken_yes(bytes(self.heard)):
                    stage(body)
                    return TokenAnswer(200, body)
                how = "no answer in time" if isinstance(error, TimeoutError) else "the connection broke"
                raise OutcomeUnknown(f"the request reached the token endpoint, and then {how}") from error
            finally:
                self.end()

    def end(self) -> None:
        """Close the connection: an end in good order would take TLS another round trip."""
        if self.transport is not None:
            with suppress(AttributeError):  # Python 3.11.2: it was closed twice by now
                self.transport.abort()


class _Connector(aiohttp.BaseConnector):
    """Hands aiohttp a connection that was made before."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        connection = await self._exchange.connection()
        protocol = _Listening(self._loop, self._exchange)
        connection.transport.set_protocol(protocol)
        protocol.connection_made(connection.transport)
        self._exchange.transport = connection.transport
        return protocol


class _Listening(ResponseHandler):
    """aiohttp's reader of answers, and what it heard."""

    def __init__(self, loop: asyncio.AbstractEventLoop, exchange: Exchange) -> None:
        super().__init__(loop)
        self._exchange = exchange

    def data_received(self, data: bytes) -> None:
        self._exchange.heard += data
        super().data_received(data)
        if len(self._exchange.heard) > HEARD_LIMIT and self.is_connected():
            self._exchange.end()


def _tracing(exchange: Exchange) -> aiohttp.TraceConfig:
    async def written(*_event: object) -> None:
        exchange.sent_at = time.monotonic()

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(written)
    return tracing


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


def _body_of_a_broken_yes(heard: bytes) -> bytes:
    """Return what may be tokens in an answer that says 2xx and breaks the rules of HTTP otherwise."""
    at, first_digit = 0, b"1"
    while first_digit == b"1":  # RFC 9110 §15.2: others may come before it
        head = _HEAD.match(heard, at)
        if head is None:
            return b""
        first_digit, at = head[1], head.end()
    at = heard.find(b"{", at) if first_digit == b"2" else -1
    return heard[at : at + ANSWER_LIMIT] if at >= 0 else b""
