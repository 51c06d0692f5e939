"""HTTP for the loopback server, by aiohttp: parsing, limits, keep-alive. What is answered is decided elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress

from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from loopback_auth.redirect.peers import Owner
from loopback_auth.redirect.requests import HEADER_LIMIT, LINE_LIMIT, Reply, Request

_muted = logging.getLogger("loopback_auth.redirect.muted")  # aiohttp logs the request line, and the code is in it
_muted.disabled = True


class HTTPServer(Server):
    """Makes the protocols that serve the connections, and ends them."""

    def __init__(self, answer: Callable[[Request], Awaitable[Reply]]) -> None:
        """`answer` is asked once for each request, and may take its time."""

        async def handle(request: BaseRequest) -> StreamResponse:
            headers = {name.lower(): request.headers.getall(name) for name in request.headers}
            assert isinstance(request.protocol, _Connection)  # noqa: S101 (made below)
            reply = await answer(Request(request.method, request.raw_path, headers, request.protocol.sender))
            return _response(reply) if reply.pieces is None else await _streamed(request, reply, reply.pieces)

        super().__init__(handle)

    def __call__(self, sender: Owner = "ours") -> RequestHandler:
        """Return the protocol of one connection, whose other end is `sender`'s."""
        connection = _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "no log", and says otherwise
            logger=_muted,
            max_line_size=LINE_LIMIT,
            max_field_size=HEADER_LIMIT,
            max_headers=HEADER_LIMIT,
            lingering_time=0,
            keepalive_timeout=10,
        )
        connection.sender = sender
        return connection

    async def end(self, timeout: float) -> None:
        """Close the connections: idle ones at once, those with an answer under way when it is out, or in time."""
        await asyncio.sleep(0)  # a request that has come is answered
        self.pre_shutdown()
        await self.shutdown(timeout)


class _Connection(RequestHandler):
    """One connection, as aiohttp handles it, except for what it says about a request it cannot read."""

    sender: Owner

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """Answer with the bare status: aiohttp's own text would repeat a piece of the request."""
        response = _response(Reply.bare(status))
        response.force_close()
        return response


def _response(reply: Reply) -> Response:
    return Response(status=reply.status, headers=reply.headers, body=reply.body)


async def _streamed(request: BaseRequest, reply: Reply, pieces: AsyncGenerator[bytes, None]) -> StreamResponse:
    """Send pieces as they come, until there are no more or nobody listens."""
    stream = StreamResponse(status=reply.status, headers=reply.headers)
    async with aclosing(pieces):
        with suppress(ConnectionError):
            await stream.prepare(request)
            async for piece in pieces:
                await stream.write(piece)
    return stream
