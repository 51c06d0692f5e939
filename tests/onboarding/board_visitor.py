"""Who comes to a board over a socket: any request, byte for byte; and events as they come."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.onboarding.boards import Shown

NOBODY = 65534
BROWSER = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
TYPED = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: str = field(repr=False)


class Visitor:
    """A browser, as far as a board can tell: it has one cookie, or none."""

    def __init__(
        self, at: Shown, cookie: str | None = None, tls: ssl.SSLContext | None = None, *, is_another_user: bool = False
    ) -> None:
        """Another user takes root."""
        self._at = at
        self._tls = tls
        self._is_another_user = is_another_user
        self.cookie = cookie

    async def enter(self) -> Answer:
        """Open a new address of the board, and keep the cookie."""
        answer = await self.ask("GET", urlsplit(self._at.board.new_url()).path, TYPED)
        self.cookie = answer.headers["set-cookie"].split(";")[0]
        return answer

    async def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send one request on a connection of its own."""
        reader, writer = await self._connect()
        writer.write(self.head(method, path, {"Connection": "close", **(headers or {})}) + body)
        try:
            async with asyncio.timeout(5):
                head, _, content = (await reader.read()).decode().partition("\r\n\r\n")
        finally:
            writer.close()
        status, *lines = head.split("\r\n")
        found = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Answer(int(status.split()[1]), found, content)

    async def post(self, path: str, headers: Mapping[str, str | None] | None = None, body: bytes = b"") -> Answer:
        """Send what the page's buttons send, with other headers, or without those that are None."""
        usual = {**BROWSER, "Origin": self._at.origin, "X-Loopback-Auth": "board", "Content-Length": "0"}
        kept = {name: value for name, value in {**usual, **(headers or {})}.items() if value is not None}
        return await self.ask("POST", path, kept, body)

    @asynccontextmanager
    async def events(self, path: str = "/board/events") -> AsyncIterator[Events]:
        """Open the event stream while this lasts."""
        reader, writer = await self._connect()
        try:
            writer.write(self.head("GET", path, BROWSER))
            async with asyncio.timeout(5):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("HTTP/1.1 200 "), head
            assert "\r\nContent-Type: text/event-stream\r\n" in head
            assert "\r\nCache-Control: no-store\r\n" in head
            yield Events(reader)
        finally:
            writer.close()

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        all_headers = {"Host": urlsplit(self._at.origin).netloc, **headers}
        if self.cookie is not None:
            all_headers["Cookie"] = self.cookie
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = urlsplit(self._at.origin).port
        return await connected(port or 0, self._tls, is_another_user=self._is_another_user)


async def connected(
    port: int, tls: ssl.SSLContext | None = None, *, is_another_user: bool = False
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port of this computer."""
    connection = socket.socket()
    connection.setblocking(False)
    if is_another_user:
        os.fchown(connection.fileno(), NOBODY, NOBODY)  # a socket is a file: this is what makes it theirs
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=connection, ssl=tls, server_hostname="localhost" if tls else None)


class Events:
    """Events of one stream, in order."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._came = ""

    async def next(self, within: float = 5) -> tuple[str, Any]:
        """Return name and content of the next event; raises IncompleteReadError at the end of the stream."""
        async with asyncio.timeout(within):
            while "\n\n" not in self._came:
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                chunk = await self._reader.readexactly(size + 2)
                if not size:
                    raise asyncio.IncompleteReadError(b"", None)
                self._came += chunk[:-2].decode()
        block, _, self._came = self._came.partition("\n\n")
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        return fields["event"], json.loads(fields["data"])

    async def rows(self, within: float = 5) -> list[dict[str, Any]]:
        """Return the rows of the next event that has some; signs of life are no news."""
        while True:
            name, content = await self.next(within)
            if name == "rows":
                rows: list[dict[str, Any]] = content
                return rows
            assert name in ("run", "still here")
