"""The doorman: the start page before aiohttp is there, and everything else once it is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth.redirect.certificate import own_leaf, server_context
from loopback_auth.redirect.doorman import Doorman
from loopback_auth.redirect.entrance import Entrance
from loopback_auth.redirect.http import HTTPServer
from loopback_auth.redirect.requests import Reply, Request
from loopback_auth.redirect.sockets import listen

START = b"GET /start HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = START[:-4]
OTHER = b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def answer(request: Request) -> Reply:
    return Reply.bare(418, Location=request.target)


def first(request: Request) -> Reply | None:
    match request.target:
        case "/start":
            return Reply.bare(303, Location="https://server.example/")
        case "/no":
            return Reply.bare(400)
        case _:
            return None


class House:
    """A doorman at a port, without the server behind it until `arrive`."""

    def __init__(self, doorman: Doorman, port: int, tls: ssl.SSLContext | None) -> None:
        self.doorman = doorman
        self.port = port
        self.tls = tls

    async def visit(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "localhost" if self.tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, server_hostname=name)
        writer.write(sent)
        await asyncio.sleep(0.02)
        return reader, writer

    def arrive(self) -> HTTPServer:
        http = HTTPServer(answer)
        self.doorman.hand_over(http)
        return http


@asynccontextmanager
async def house(folder: Path, *, tls: bool = False) -> AsyncIterator[House]:
    doorman = Doorman(first)
    context = client = None
    if tls:
        pem, _ = own_leaf(folder)
        context, client = server_context(pem, pem), ssl.create_default_context(cafile=str(pem))
    listening = listen("127.0.0.1", 0)
    async with Entrance.open(listening, context, doorman.meet):
        yield House(doorman, listening[0].getsockname()[1], client)
        doorman.close()
    listening[0].close()
    await asyncio.sleep(0.02)


async def head(reader: asyncio.StreamReader) -> tuple[int, str]:
    text = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    return int(text.split()[1]), text.partition("Location: ")[2].split("\r\n")[0]


@pytest.mark.parametrize("tls", [False, True])
async def test_the_start_page_is_answered_at_once(tmp_path: Path, tls: bool) -> None:
    """The start page needs no aiohttp; the next request on the same connection waits for it and is then answered."""
    async with house(tmp_path, tls=tls) as at:
        reader, writer = await at.visit(START)
        assert await head(reader) == (303, "https://server.example/")
        writer.write(OTHER)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        http = at.arrive()
        assert await head(reader) == (418, "/other")
        writer.write(START)
        assert await head(reader) == (418, "/start")
        writer.close()
        await http.end(1)


async def test_all_who_wait_are_served(tmp_path: Path) -> None:
    """Whole requests, halves, silence, and those who come later: all meet aiohttp."""
    async with house(tmp_path) as at:
        whole, half, silent = await at.visit(OTHER), await at.visit(OTHER[:10]), await at.visit()
        http = at.arrive()
        assert await head(whole[0]) == (418, "/other")
        half[1].write(OTHER[10:])
        assert await head(half[0]) == (418, "/other")
        silent[1].write(OTHER)
        assert await head(silent[0]) == (418, "/other")
        later = await at.visit(OTHER)
        assert await head(later[0]) == (418, "/other")
        for _, writer in (whole, half, silent, later):
            writer.close()
        await http.end(1)


async def test_who_spoke_first_is_served_first(tmp_path: Path) -> None:
    """Those who wait are served in the order in which they spoke: of two redirects the first decides."""
    served: list[str] = []

    async def note(request: Request) -> Reply:
        served.append(request.target)
        return Reply.bare(404)

    async with house(tmp_path) as at:
        visits = [await at.visit() for _ in range(20)]
        for number, (_, writer) in enumerate(reversed(visits)):
            writer.write(OTHER.replace(b"/other", b"/%d" % number))
            await asyncio.sleep(0.002)
        http = HTTPServer(note)
        at.doorman.hand_over(http)
        for reader, writer in visits:
            await head(reader)
            writer.close()
        assert served == [f"/{number}" for number in range(20)]
        await http.end(1)


@pytest.mark.parametrize("tls", [False, True])
async def test_who_is_turned_away_is_heard_no_longer(tmp_path: Path, tls: bool) -> None:
    """A refusal ends the connection, and so does a second request that came before the first was answered."""
    refused, pipelined = b"GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n", START + START
    async with house(tmp_path, tls=tls) as at:
        for sent in (refused, refused + START, b"nonsense\r\n\r\n", b"nonsense\r\n\r\n" + START, pipelined):
            reader, writer = await at.visit(sent)
            came = await asyncio.wait_for(reader.read(), 5)
            assert came.startswith(b"HTTP/1.1 303 " if sent == pipelined else b"HTTP/1.1 400 ")
            assert came.count(b"HTTP/1.1") == 1
            assert b"Connection: close" in came
            writer.close()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("sent", [b"GET /" + b"x" * 9000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200_000])
async def test_a_head_without_end_is_refused(tmp_path: Path, tls: bool, sent: bytes) -> None:
    """A request line over 8 KiB, or headers over 1 MiB, are 400, however they come."""
    async with house(tmp_path, tls=tls) as at:
        reader, writer = await at.visit(sent)
        with suppress(ConnectionError):  # a reset, for what was not read: it may overtake the answer
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert reader.at_eof() or isinstance(reader.exception(), ConnectionError)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_start_page_in_two_pieces(tmp_path: Path) -> None:
    """A request that comes in pieces is answered when it is whole."""
    async with house(tmp_path) as at:
        reader, writer = await at.visit(START[:-1])
        writer.write(START[-1:])
        assert (await head(reader))[0] == 303
        writer.close()


async def test_connection_close_is_heeded(tmp_path: Path) -> None:
    """Who asks for the end of the connection gets it."""
    async with house(tmp_path) as at:
        reader, writer = await at.visit(START.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 303 \r\n")
        writer.close()


async def test_who_leaves_is_forgotten(tmp_path: Path) -> None:
    """A connection that ended while it waited costs nothing later; one that comes without end is made to wait."""
    async with house(tmp_path) as at:
        _, gone = await at.visit(OTHER)
        gone.close()
        _, endless = await at.visit()
        endless.write(OTHER + b"x" * (16 * 1024 * 1024))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(endless.drain(), 0.3)
        http = at.arrive()
        endless.transport.abort()
        await http.end(1)


@pytest.mark.parametrize("closed", [False, True])
async def test_tls_that_is_being_made_when_aiohttp_comes(tmp_path: Path, closed: bool) -> None:
    """A browser in mid-handshake at that moment is served as soon as it is through, or let go if all is over."""
    async with house(tmp_path, tls=True) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        await asyncio.sleep(0.02)
        http = at.arrive()
        if closed:
            at.doorman.close()
        assert at.tls is not None
        await writer.start_tls(at.tls, server_hostname="localhost")
        writer.write(OTHER)
        if closed:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
                await asyncio.wait_for(reader.readexactly(1), 5)
        else:
            assert await head(reader) == (418, "/other")
        writer.close()
        await http.end(1)


async def test_those_who_wait_at_the_end_are_let_go(tmp_path: Path) -> None:
    """When the login is over, nobody is kept."""
    async with house(tmp_path) as at:
        reader, writer = await at.visit(OTHER)
        at.doorman.close()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_none(came: bytes) -> None:
    """Whatever comes is a request, or it is none; no exception gets out."""
    Request.parse(came)
    Request.parse(b"GET / HTTP/1.1\r\n" + came)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        HEAD.replace(b"HTTP/1.1", b"HTTP/2"),
        HEAD.replace(b"HTTP/1.1", b"http/1.1"),
        HEAD.replace(b"GET ", b"GET  "),
        HEAD.replace(b"/start", b"/st\0art"),
        HEAD.replace(b"/start", b"/st art"),
        HEAD.replace(b"/start", b"/" + b"x" * 8190),
        HEAD.replace(b"Host:", b"Host"),
        HEAD.replace(b"Host:", b":"),
        HEAD.replace(b"Host:", b"Ho st:"),
        HEAD.replace(b"Host:", b"Host :"),
        HEAD.replace(b"Host:", b" Host:"),
        HEAD.replace(b"localhost", b"local\nhost"),
        HEAD.replace(b"localhost", b"local\0host"),
        HEAD + b"\r\n folded",
    ],
)
def test_what_is_malformed_is_no_request(head: bytes) -> None:
    """Whatever RFC 9112 forbids is not guessed at."""
    assert Request.parse(HEAD) is not None
    assert Request.parse(head) is None


@pytest.mark.parametrize(
    ("head", "last"),
    [
        (HEAD, False),
        (HEAD + b"\r\nConnection: keep-alive", False),
        (HEAD + b"\r\nConnection: Close", True),
        (HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"), True),
        (HEAD + b"\r\nContent-Length: 0", True),
        (HEAD + b"\r\nTransfer-Encoding: chunked", True),
    ],
)
def test_which_request_is_the_last_of_its_connection(head: bytes, last: bool) -> None:
    """Who asks for the end, speaks an old HTTP, or announces a body is not heard any further."""
    request = Request.parse(head)
    assert request is not None
    assert request.is_last is last


def test_a_request() -> None:
    """Method, target and headers, as they came; a header may stand there twice."""
    request = Request.parse(b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a:\t2 \r\nCookie: a=1; b=2; a=3")
    assert request is not None
    assert (request.method, request.target) == ("GET", "/a?b=c")
    assert (request.every("x-a"), request.every("origin")) == (["1", "2"], [])
    assert request.cookies() == {"a": "1", "b": "2"}


def test_a_reply() -> None:
    """The bytes of an answer, its length included."""
    assert Reply(404, {"A": "b"}, b"body").wire() == b"HTTP/1.1 404 \r\nA: b\r\nContent-Length: 4\r\n\r\nbody"


UNREADABLE = (
    b"GET /?code=s3kr1t-code HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"GET /?code=s3kr1t-code HTTP/9.9\r\n\r\n",
    b"s3kr1t-code\r\n\r\n",
    b"GET /\x01?code=s3kr1t-code HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\ns3kr1t-code\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: s3kr1t-code\r\n\r\n",
    b"GET /?code=s3kr1t-" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01s3kr1t-code\r\n\r\n",
)


@pytest.mark.parametrize("sent", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_what_aiohttp_cannot_read(sent: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What comes behind a request that waited, and is no HTTP, is neither repeated nor logged."""
    caplog.set_level(0)
    async with house(tmp_path) as here:
        reader, writer = await here.visit(OTHER)
        http = here.arrive()
        assert (await head(reader))[0] == 418
        writer.write(sent)
        async with asyncio.timeout(5):
            rest = await reader.read()
        writer.close()
        assert b" 400 " in rest
        assert b"s3kr1t" not in rest
        assert "s3kr1t" not in caplog.text
        await http.end(0.1)
