"""Requests byte by byte, as a browser would send them and as no browser ever would; and the way through a login."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from .program import PATIENCE

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """One answer, as it came. Status 0: the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def location(self) -> str:
        return self.headers["location"]

    @property
    def title(self) -> str:
        found = re.search(rb"<title>(.*)</title>", self.body)
        return found[1].decode() if found else ""


class Exchange:
    """One connection with one request on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def answer(self, within: float = PATIENCE) -> Answer:
        """Wait for the answer. Raises TimeoutError: the request is being held."""
        async with asyncio.timeout(within):
            try:
                received = await self._reader.read(-1)
            except ConnectionResetError:
                received = b""
        await self.close()
        return _parsed(received)

    def write(self, sent: bytes) -> None:
        """Send just this."""
        self._writer.write(sent)

    async def on_the_way(self, url: str) -> str:
        """Send a GET, keep the connection, and return the Location of the answer, which has no body."""
        target = url.partition("://")[2].partition("/")[2]
        self.write(f"GET /{target} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            return _parsed(await self._reader.readuntil(b"\r\n\r\n")).location

    async def close(self) -> None:
        """Go away, answer or not."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return


async def connect(url: str, tls: ssl.SSLContext | None = None) -> Exchange:
    """Connect to where `url` is served, and say nothing."""
    parts = urlsplit(url)
    name = parts.hostname if tls is not None else None
    return Exchange(*await asyncio.open_connection(parts.hostname, parts.port, ssl=tls, server_hostname=name))


async def send(
    url: str, *, method: str = "GET", headers: Headers = (), host: str | None = None, tls: ssl.SSLContext | None = None
) -> Exchange:
    """Send a request and do not wait. `host` is the Host header; with `""` there is none."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1"]
    if host != "":
        lines.append(f"Host: {host or parts.netloc}")
    lines += [f"{name}: {value}" for name, value in headers]
    exchange = await connect(url, tls)
    exchange.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    return exchange


async def ask(
    url: str, *, method: str = "GET", headers: Headers = (), host: str | None = None, tls: ssl.SSLContext | None = None
) -> Answer:
    """Send a request and return its answer."""
    exchange = await send(url, method=method, headers=headers, host=host, tls=tls)
    return await exchange.answer()


async def to_redirect(start_url: str, tls: ssl.SSLContext | None = None) -> str:
    """From the start page through the authorization endpoint; return where that sends the browser, unvisited."""
    started = await ask(start_url, tls=tls)
    assert started.status == 303, started
    answer = await ask(started.location)
    assert answer.status == 302, answer
    return answer.location


async def arrive(redirect: str, tls: ssl.SSLContext | None = None) -> Answer:
    """Follow the redirect to the last page, and return that."""
    sent_on = await ask(redirect, tls=tls)
    assert sent_on.status == 303, sent_on
    return await ask(urljoin(redirect, sent_on.location), tls=tls)


def _parsed(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    if not head:
        return Answer(0, {}, b"")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return Answer(int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}, body)
