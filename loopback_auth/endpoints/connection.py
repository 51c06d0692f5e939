"""One connection to a server: name, proxy, TCP, TLS, and nothing sent on it. asyncio alone: aiohttp comes later."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from aiohappyeyeballs import start_connection

from loopback_auth.endpoints.trust import tls_context
from loopback_auth.errors import TokenEndpointUnreachable
from loopback_auth.text import printable

HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds after which the next address is tried as well (RFC 8305 §8)."""
_PROXY_ANSWER_LIMIT = 16 * 1024


class IdleConnection(asyncio.Protocol):
    """A connection on which nothing was sent. What comes all the same ends it: it is the answer to nothing."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.made_at = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether a request can go out on it, as far as this side knows."""
        return not (self.closed.done() or self.transport.is_closing())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport: whoever sends takes it over (`set_protocol`)."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (TCP or TLS, never datagrams)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Take nothing for an answer that nobody asked for."""
        self.abort()

    def abort(self) -> None:
        """Close it at once, if it is open."""
        if self.is_open:
            self.transport.abort()

    def give_up_after(self, seconds: float) -> None:
        """End it when what was sent stays unacknowledged for that long, where the system can; else that takes minutes.

        A path may be dead without anybody having said so: a laptop that slept, a NAT that forgot.
        """
        if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:  # Linux; RFC 5482; in milliseconds
            with suppress(OSError):  # it was closed meanwhile
                self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, round(seconds * 1000))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who keeps it ready."""
        if not self.closed.done():
            self.closed.set_result(None)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to connect to: `url`'s host, through `proxy` if there is one."""

    url: str
    tls: Callable[[], Awaitable[ssl.SSLContext]]
    """Called for an https `url`, once TCP is there: to read the certificates takes 20 ms."""
    proxy: str | None = field(default=None, repr=False)
    """As `proxy_for` returns it; may hold a password."""

    async def connect(self, timeout: float) -> IdleConnection:
        """Make a connection within `timeout` seconds. Raises TokenEndpointUnreachable."""
        try:
            async with asyncio.timeout(timeout):
                return await self._connect()
        except OSError as error:  # TimeoutError and ssl.SSLError among them
            raise why_unreachable(error, self.url) from error
        except RuntimeError as error:  # the interpreter is ending: there are no more threads to look a name up in
            raise why_unreachable(OSError(), self.url) from error

    async def _connect(self) -> IdleConnection:
        url = urlsplit(self.url)
        if self.proxy is None:
            return await _open(url, self.tls)
        tunnel = await _tunnel(self.proxy, url)
        connection = IdleConnection()
        try:
            context = await self.tls()
            if tunnel.is_closing():  # start_tls would wait for ever
                raise _ProxyFailedError
        except BaseException:
            tunnel.abort()
            raise
        transport = await asyncio.get_running_loop().start_tls(
            tunnel, connection, context, server_hostname=url.hostname
        )
        if transport is None:
            raise ConnectionResetError
        connection.connection_made(transport)
        return connection


def why_unreachable(error: OSError, url: str) -> TokenEndpointUnreachable:
    """Return in plain words why no connection to `url` came about."""
    host = printable(urlsplit(url).netloc, 100)
    hints: tuple[str, ...] = ("nothing was sent, nothing was spent; try again",)
    match error:
        case ssl.SSLCertVerificationError():
            reason = f"its certificate is not trusted ({printable(error.verify_message)})"
            hints = ("nothing was sent; if that server has a private CA, name its certificate with --ca-file",)
        case socket.gaierror():
            reason = "its name is not known (DNS)"
        case ssl.SSLError():
            reason = f"no TLS connection came about ({printable((error.reason or '').replace('_', ' ').lower())})"
        case _ProxyFailedError():
            reason = "the proxy refused or cannot be reached"
            hints = ("nothing was sent; look at HTTPS_PROXY and NO_PROXY",)
        case TimeoutError() if error.errno is None:
            reason = "it did not answer in time"
        case _:
            reason = os.strerror(error.errno).lower() if error.errno else "no connection"
    return TokenEndpointUnreachable(f"{host} cannot be reached: {reason}", hint=hints)


async def _open(url: SplitResult, tls: Callable[[], Awaitable[ssl.SSLContext]]) -> IdleConnection:
    loop = asyncio.get_running_loop()
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        addresses = socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except UnicodeError as error:  # an empty label, or one that is too long
        raise socket.gaierror(socket.EAI_NONAME, "no name") from error
    except socket.gaierror:  # a name: it may take seconds to look that up
        addresses = await _look_up(url.hostname or "", port)
    connected = await start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY)
    try:
        context, name = (await tls(), url.hostname) if url.scheme == "https" else (None, None)
    except BaseException:
        connected.close()
        raise
    _, connection = await loop.create_connection(IdleConnection, sock=connected, ssl=context, server_hostname=name)
    return connection


async def _look_up(host: str, port: int) -> Any:
    """Look a name up in a thread that nobody waits for: it may take half a minute, and cannot be stopped."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Any] = loop.create_future()

    def tell(outcome: Any) -> None:
        if not found.done():
            (found.set_exception if isinstance(outcome, OSError) else found.set_result)(outcome)

    def look() -> None:
        try:
            outcome: Any = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            outcome = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, outcome)

    threading.Thread(target=look, name="loopback-auth-dns", daemon=True).start()
    return await found


# --- by way of a proxy: CONNECT (RFC 9110 §9.3.6) ---


class _ProxyFailedError(OSError):
    """The proxy cannot be reached, or does not make the connection."""


class _ConnectAnswer(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT, up to the empty line. What comes behind it is the answer to nothing."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport = transport
        self._came = b""

    def data_received(self, data: bytes) -> None:
        if self.head.done():
            self._transport.abort()
            return
        self._came += data
        if b"\r\n\r\n" in self._came or len(self._came) > _PROXY_ANSWER_LIMIT:
            self.head.set_result(self._came)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(_ProxyFailedError())


async def _tunnel(proxy: str, url: SplitResult) -> asyncio.Transport:
    """Return a connection to the host of `url` that the proxy has made. Raises _ProxyFailedError."""
    parts = urlsplit(proxy)
    try:
        transport = (await _open(parts, _default_tls)).transport
    except OSError as error:
        raise _ProxyFailedError from error
    answer = _ConnectAnswer(transport)
    transport.set_protocol(answer)
    transport.write(_connect_request(parts, url))
    try:
        head = await answer.head
    except BaseException:
        transport.abort()
        raise
    if not (head.startswith(b"HTTP/1.") and head[8:10] == b" 2" and head.endswith(b"\r\n\r\n")):
        transport.abort()
        raise _ProxyFailedError
    return transport


async def _default_tls() -> ssl.SSLContext:
    return await asyncio.to_thread(tls_context, None)


def _connect_request(proxy: SplitResult, url: SplitResult) -> bytes:
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    authority = f"{host}:{url.port or 443}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.username is not None:
        credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()
