"""What arrives at the loopback server: read as text, and sent to a login that waits."""

from __future__ import annotations

import asyncio
import re
import select
import socket
import ssl
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

from hypothesis import strategies as st

from loopback_auth.redirect.requests import Request
from tests.login.program import Program, Running
from tests.login.strict import StrictServer
from tests.login.wire import arrive, to_redirect

from .shapes import ODD_TEXT, nearly, nearly_bytes
from .target import MARK, Target, tells_nothing

HOST = "HOST.example"
"""Stands for the redirect URI's authority, which nobody knows before a login waits."""

TARGETS_ASKED = nearly(
    st.sampled_from(
        [
            f"/?code={MARK}code&state={MARK}state",
            f"/?error=access_denied&state={MARK}",
            "/",
            "/start",
            "/favicon.ico",
            "*",
            f"http://{HOST}/",
            "//",
            "/../",
            f"/?code={MARK}" + "x" * 5000,
            "/?" + "&" * 3000,
            "?code=a",
            HOST,
        ]
    ),
    1,
)
HEADERS = st.lists(
    nearly(
        st.sampled_from(
            [
                f"Cookie: loopback-auth-0={MARK}; a=b",
                "Cookie: ;;=;a",
                f"Cookie: {'c' * 9000}",
                "Origin: null",
                "X: ü",
                "Origin: https://evil.example",
                "Connection: close",
                "Connection: keep-alive, Upgrade",
                "Upgrade: h2c",
                "Content-Length: 0",
                "Content-Length: 5",
                "Content-Length: -1",
                "Transfer-Encoding: chunked",
                "Expect: 100-continue",
                "Sec-Purpose: prefetch",
                f"Host: {HOST}",
                "Host: evil.example",
                " folded",
                "",
            ]
        ),
        1,
    ),
    max_size=3,
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request that is nearly one: line, headers, now and then a body, or another one behind it."""
    method = draw(
        st.sampled_from(["GET"] * 12 + ["HEAD", "POST", "OPTIONS", "get", "PRI", "CONNECT", "G\tT", "x" * 9000])
    )
    version = draw(st.sampled_from(["HTTP/1.1"] * 12 + ["HTTP/1.0", "HTTP/2.0", "HTTP/1.10", "http/1.1", "HTTP/9", ""]))
    end = draw(st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "\r\r\n"]))
    host = draw(st.sampled_from([[f"Host: {HOST}"]] * 9 + [[], ["Host: localhost"], [f"Host: {HOST}"] * 2]))
    lines = [f"{method} {draw(TARGETS_ASKED)} {version}", *host, *draw(HEADERS), "", ""]
    body = draw(st.sampled_from([""] * 6 + ["0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello", "GET / HTTP/1.1\r\n\r\n"]))
    return (end.join(lines) + body).encode(errors="surrogatepass")


RUBBISH = st.sampled_from(
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
        b"\r\n" * 2000,
        b"\0" * 9000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 3000 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * 70_000 + b": b\r\n\r\n",
        b"GET /" + b"a" * 70_000,
    ]
)
SENT = nearly_bytes(st.one_of(requests(), requests(), requests(), RUBBISH, st.binary(max_size=200)), 1)

# --- read as text ---


def check_head(head: bytes) -> bool:
    """A request whose method is a word, whose target holds no space, and none of whose headers can end a line."""
    request = Request.parse(head)
    if request is None:
        return False
    tells_nothing(request)
    assert re.fullmatch(r"[!-~]+", request.method)
    assert request.target
    assert not set(request.target) & set("\0\r\n\t ")
    assert request.target.encode("latin-1") in head
    for name, values in request.headers.items():
        assert name == name.lower()
        assert re.fullmatch(r"[!-9;-~]+", name)
        for value in values:
            assert not set(value) & set("\0\r\n")
    cookies = request.every("cookie")
    for name in ("loopback-auth-0", "a", "", "\0"):
        value = request.cookies().get(name, "")
        assert not value or any(f"{name}={value}" in pair.replace(" ", "") or value in pair for pair in cookies)
        assert ";" not in value
    return True


HEADS = nearly_bytes(requests().map(lambda sent: sent.partition(b"\r\n\r\n")[0]), 1)
HEAD: Target[bytes] = Target(
    "request line, headers, cookies",
    HEADS,
    check_head,
    kept=(
        *tuple(
            b"GET / HTTP/1.1" + tail
            for tail in (
                *(
                    b"",
                    b"\r\n",
                    b"\r\n:",
                    b"\r\n: b",
                    b"\r\na",
                    b"\r\n a: b",
                    b"\r\na: b\r\n c",
                    b"\r\na\x00: b",
                    b"\r\na: \x00",
                ),
                *(
                    b"\n",
                    b"\nHost: x",
                    b"\r\na: b\nc: d",
                    b"\r\na: b\rc",
                    b" ",
                    b"\r\nCookie: a=1; a=2\r\nCookie: =;;=",
                    b"\r\n\xff: b",
                ),
            )
        ),
        b"",
        b"GET",
        b"GET  / HTTP/1.1",
        b"GET /\xa0x HTTP/1.1",
        b"GET /\x85 HTTP/1.1",
        b"G\x00T / HTTP/1.1",
    ),
    share=0.1,
    examples=150,
    large=(
        lambda size: b"GET /" + b"a" * size + b" HTTP/1.1",
        lambda size: b"GET / HTTP/1.1" + b"\r\na: b" * (size // 6),
        lambda size: b"GET / HTTP/1.1" + b"\r\n" * (size // 2),
        lambda size: b"GET / HTTP/1.1\r\nCookie: " + b";" * size,
        lambda size: b"GET / HTTP/1.1\r\nCookie: " + b"a=b; " * (size // 5),
        lambda size: b"GET / HTTP/1.1\r\na: " + b" " * size + b"x",
        lambda size: b" " * size,
    ),
    limit=256 * 1024,
)

TARGETS = (HEAD,)

# --- sent to a login that waits ---


class Waiting:
    """A login in a process of its own that waits for its redirect; whatever is sent to it must leave that as it is."""

    def __init__(self, scheme: str = "http") -> None:
        self._scheme = scheme
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.tried = 0
        self.answered = 0

    def __enter__(self) -> Waiting:
        try:
            self._runner.run(self._begin())
        except BaseException:
            self._runner.run(self._stack.aclose())
            self._runner.close()
            raise
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        try:
            self._runner.run(self._end(whole=kind is None))
        finally:
            self._runner.close()

    async def _begin(self) -> None:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="loopback-auth-fuzz-"))
        self._program = Program(Path(folder))
        server = await self._stack.enter_async_context(StrictServer(secrets=self._program.secrets))
        self._stack.push_async_callback(self._program.settled)
        uri = f"{self._scheme}://localhost:0/"
        flags = (*server.flags, "--redirect-uri", uri, "--timeout", "15m")
        self._running: Running = await self._stack.enter_async_context(self._program.start("login", *flags))
        start = await self._running.start_url()
        self._tls = None
        if self._scheme == "https":
            self._tls = ssl.create_default_context(cafile=str(self._program.home / "certificate" / "localhost.pem"))
        self._redirect = await to_redirect(start, self._tls)
        self._authority = urlsplit(start).netloc
        self._port = urlsplit(start).port or 0
        self._server = server

    async def _end(self, *, whole: bool) -> None:
        """The right redirect still works, and nothing was said that should not be."""
        async with self._stack:
            if not whole:
                return
            assert self._running.runs, f"the login has ended: {self._running.stderr}"
            page = await arrive(self._redirect, self._tls)
            assert page.status == 200, page
            ended = await self._running.end()
            assert ended.status == 0, ended
            assert "Traceback" not in ended.stderr
            assert len(ended.stderr.splitlines()) < 30, "it said something about every one of them"
            assert len(self._server.token_requests) == 1
        assert [one for one in self._program.complaints() if "still listened" not in one] == []

    def check(self, sent: bytes) -> bool:
        """An answer without a piece of what was sent, or the end of the connection, at once; and the login waits on."""
        self.tried += 1
        reply = self._reply(sent.replace(HOST.encode(), self._authority.encode()))
        if self._scheme == "http" or reply[:5] == b"HTTP/":
            assert re.match(rb"(HTTP/1\.[01] [1-5][0-9][0-9] |$)", reply), reply[:100]
        for told in (MARK.encode(), b"Traceback", b"aiohttp", b"Python"):
            assert told not in reply, reply[:1000]
        self.answered += bool(reply)
        if self.tried % 25 == 0 and self._scheme == "http":
            there = self._reply(
                f"GET /nothing HTTP/1.1\r\nHost: {self._authority}\r\nConnection: close\r\n\r\n".encode()
            )
            assert there.startswith(b"HTTP/1.1 404 "), there[:100]
        assert self._running.process.returncode is None
        return bool(reply)

    def _reply(self, sent: bytes) -> bytes:
        """Send it, let the server answer, say that there is no more, and return all that came."""
        if self._tls is not None and self.tried % 2:
            return self._reply_within_tls(sent)
        reply = b""
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", self._port), timeout=10) as connection, suppress(ConnectionError):
            connection.sendall(sent)
            if b"\n\r\n" in sent or b"\n\n" in sent:
                select.select([connection], [], [], 0.25)
            with suppress(OSError):  # it was closed over there
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                reply += piece
        assert time.monotonic() - begun < 7, "it took too long"
        return reply

    def _reply_within_tls(self, sent: bytes) -> bytes:
        assert self._tls is not None
        reply = b""
        with (
            socket.create_connection(("127.0.0.1", self._port), timeout=10) as plain,
            suppress(ConnectionError, ssl.SSLEOFError, TimeoutError),
            self._tls.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(sent)
            connection.settimeout(0.1)
            while piece := connection.recv(65536):
                reply += piece
        return reply


KEPT_SENT = (
    b"",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"GET /?code=s3kr1t-code&state=\xff HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n" * 2,
    b"GET /?code=s3kr1t-\xed\xa0\x80 HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nCookie: \xff=\xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    b"CONNECT " + HOST.encode() + b" HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n",
    b"\x16\x03\x01\xff\xff\x01",
    *(text.encode(errors="surrogatepass") for text in ODD_TEXT[:20]),
)
