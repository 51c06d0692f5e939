"""Real servers on this machine for the client to talk to: ones that misbehave byte by byte, and a token endpoint."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from loopback_auth.redirect.certificate import own_leaf, server_context

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def certificate(folder: Path, now: datetime.datetime | None = None) -> tuple[str, ssl.SSLContext]:
    """Return the file of a certificate for this machine, and a server's context with it."""
    pem, _ = own_leaf(folder, now)
    return str(pem), server_context(pem, pem)


@dataclass
class Listener:
    """A server that was started: where it is, and what each connection to it sent."""

    url: str
    connections: list[bytearray] = field(default_factory=list)


@asynccontextmanager
async def listening(
    answer: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Listener]:
    """Serve with `answer`, which is called for every request, its head and body read and recorded."""
    listener = Listener("")
    tasks: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = bytearray()
        listener.connections.append(sent)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                sent += head
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                sent += await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                await answer(reader, writer)
                await writer.drain()
        except asyncio.IncompleteReadError as end:
            sent += end.partial
        except OSError:
            pass
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        tasks.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(connected, host, 0, ssl=tls)
    listener.url = f"{'https' if tls else 'http'}://{host}:{server.sockets[0].getsockname()[1]}/token"
    try:
        yield listener
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            with suppress(AttributeError):  # Python 3.11.2: TLS that was closed twice
                writer.transport.abort()
        await asyncio.sleep(0.01)


def says(response: bytes, *, then_close: bool = False) -> Answer:
    """Answer every request with these bytes."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        if then_close:
            await writer.drain()
            writer.close()

    return answer


def http(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """Return a response as it goes over the wire."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class TokenServer:
    """A token endpoint whose refresh tokens work once, and which counts how often each was presented."""

    url: str = ""
    current: str = "s3kr1t-refresh"
    lifetime: object = 3600
    rotates: bool = True
    delay: float = 0.0
    refuses: str | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    presented: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    async def token(self, request: web.Request) -> web.Response:
        """Answer a token request."""
        body = {name: str(value) for name, value in (await request.post()).items()}
        self.bodies.append(body)
        self.authorizations.append(request.headers.get("Authorization"))
        presented = body["refresh_token"]
        self.presented[presented] += 1
        self.arrived.set()
        number = len(self.bodies)
        refused = self.refuses or ("invalid_grant" if presented != self.current else None)
        if refused:
            return web.json_response({"error": refused}, status=400)
        members: dict[str, object] = {"access_token": f"s3kr1t-access-{number}", "expires_in": self.lifetime}
        if self.rotates:
            self.current = members["refresh_token"] = f"s3kr1t-refresh-{number}"
        await asyncio.sleep(self.delay)
        return web.json_response(members)


@asynccontextmanager
async def token_server(**settings: object) -> AsyncIterator[TokenServer]:
    """Serve a token endpoint on http at 127.0.0.1."""
    server = TokenServer(**settings)  # type: ignore[arg-type]  # any of its fields
    application = web.Application()
    application.router.add_post("/token", server.token)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"{site.name}/token"
    try:
        yield server
    finally:
        await runner.cleanup()
