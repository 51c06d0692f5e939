"""A connection that is kept ready, against servers that close, are silent, say too much, or are gone."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from loopback_auth.endpoints.connection import Destination, IdleConnection
from loopback_auth.endpoints.ready import ReadyConnection
from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import OutcomeUnknown, TokenEndpointUnreachable
from loopback_auth.oauth.token import TokenRequest
from loopback_auth.secret import Secret

from .servers import certificate, http, listening, says

TOKENS = b'{"access_token": "s3kr1t-access"}'


class Server:
    """Accepts, and does with each connection what `treat` does."""

    def __init__(self, treat: Callable[[int, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.treat = treat
        self.accepted: list[float] = []
        self.open = 0
        self.most_open = 0
        self.url = ""
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        number = len(self.accepted)
        self.accepted.append(asyncio.get_running_loop().time())
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        with suppress(OSError):
            await self.treat(number, writer)
            await reader.read()
        self.open -= 1
        writer.close()


@asynccontextmanager
async def running(treat: Callable[[int, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Server]:
    server = Server(treat)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/token"
    async with listener:
        yield server
        for writer in server.writers:
            writer.transport.abort()
    await asyncio.sleep(0.05)


async def keeps(_number: int, _writer: asyncio.StreamWriter) -> None:
    """Leave it open."""


async def no_tls() -> ssl.SSLContext:
    raise AssertionError("nobody speaks TLS here")


async def some_tls() -> ssl.SSLContext:
    await asyncio.sleep(0.1)
    return ssl.create_default_context()


def connecting_to(url: str) -> Callable[[], Awaitable[IdleConnection]]:
    return lambda: Destination(url, no_tls).connect(5)


def held_back(url: str, until: asyncio.Event) -> Callable[[], Awaitable[IdleConnection]]:
    """Connect at once, and say so only when told."""

    async def connect() -> IdleConnection:
        connection = await Destination(url, no_tls).connect(5)
        await until.wait()
        return connection

    return connect


async def test_it_is_replaced_when_it_is_old() -> None:
    """An old connection is let go once a new one is there: never none, never three, and the server sees no gap."""
    async with running(keeps) as server:
        ready = ReadyConnection(connecting_to(server.url), oldest=0.1)
        keeping = asyncio.create_task(ready.keep())
        await asyncio.sleep(0.75)
        taken = await ready.take()
        assert taken.is_open
        assert 5 <= len(server.accepted) <= 8
        assert server.most_open <= 2
        await asyncio.sleep(0.3)
        assert keeping.cancelled()
        assert len(server.accepted) <= 8
        taken.transport.abort()


async def test_it_learns_how_soon_the_server_closes() -> None:
    """A server that closes after 0.3 s is left after six tenths of that, and then it is never found closed."""
    closed: list[int] = []

    async def closes(number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        if not writer.transport.is_closing() and not writer.is_closing():
            closed.append(number)
        writer.close()

    async with running(closes) as server:
        ready = ReadyConnection(connecting_to(server.url), oldest=60, youngest=0.05)
        keeping = asyncio.create_task(ready.keep())
        await asyncio.sleep(1.1)
        gaps = [after - before for before, after in zip(server.accepted[1:], server.accepted[2:], strict=False)]
        assert len(gaps) >= 2
        assert all(0.1 < gap < 0.28 for gap in gaps)
        ready.close()
        await asyncio.wait({keeping})


async def test_there_is_a_bound() -> None:
    """A server that closes at once is not asked for ever, nor without a pause; what is needed later is made then."""

    async def closes(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with running(closes) as server:
        ready = ReadyConnection(connecting_to(server.url), youngest=0.1, limit=4)
        keeping = asyncio.create_task(ready.keep())
        await asyncio.wait({keeping}, timeout=3)
        assert keeping.done()
        assert len(server.accepted) == 4
        assert min(b - a for a, b in zip(server.accepted, server.accepted[1:], strict=False)) > 0.07
        taken = await ready.take()
        assert len(server.accepted) == 5
        taken.transport.abort()


async def test_one_that_is_being_made_is_the_one() -> None:
    """Who comes while the connection is being made waits for that very one."""
    async with running(keeps) as server:
        made = asyncio.Event()
        ready = ReadyConnection(held_back(server.url, made))
        keeping = asyncio.create_task(ready.keep())
        await asyncio.sleep(0.05)
        taking = asyncio.create_task(ready.take())
        await asyncio.sleep(0.05)
        made.set()
        taken = await taking
        assert keeping.cancelled()
        assert len(server.accepted) == 1
        taken.transport.abort()


async def test_nothing_is_left_open() -> None:
    """Closing ends the connection that is kept, and the one that is being made."""
    async with running(keeps) as server:
        ready = ReadyConnection(connecting_to(server.url), oldest=0.05)
        keeping = asyncio.create_task(ready.keep())
        await asyncio.sleep(0.12)
        ready.close()
        await asyncio.wait({keeping})
        await asyncio.sleep(0.1)
        assert server.open == 0


async def test_a_server_that_is_gone_for_a_while() -> None:
    """The first connection must come about; a later one that does not is no reason to end."""
    async with running(keeps) as server:
        failing = False

        async def sometimes() -> IdleConnection:
            if failing:
                raise TokenEndpointUnreachable("gone")
            return await Destination(server.url, no_tls).connect(5)

        ready = ReadyConnection(sometimes, oldest=0.05)
        keeping = asyncio.create_task(ready.keep())
        await asyncio.sleep(0.02)
        failing = True
        await asyncio.sleep(0.2)
        assert not keeping.done()
        failing = False
        await asyncio.sleep(0.2)
        taken = await ready.take()
        assert taken.is_open
        taken.transport.abort()
        failing = True
        with pytest.raises(TokenEndpointUnreachable):
            await ReadyConnection(sometimes).keep()


async def test_a_server_that_closed_and_is_gone() -> None:
    """The kept connection is closed, and there is no new one for a while: that ends nothing, and later there is one."""
    open_for_all = True

    async def closes(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with running(closes) as server:

        async def sometimes() -> IdleConnection:
            if not open_for_all:
                raise TokenEndpointUnreachable("gone")
            return await Destination(server.url, no_tls).connect(5)

        ready = ReadyConnection(sometimes, oldest=0.05, youngest=0.02)
        keeping = asyncio.create_task(ready.keep())
        await asyncio.sleep(0.02)
        open_for_all = False
        await asyncio.sleep(0.2)
        assert not keeping.done()
        ready.close()
        await asyncio.wait({keeping})
        assert keeping.cancelled()


async def test_a_failure_of_a_try_that_began_long_ago_is_not_the_end() -> None:
    """Who needs a connection and finds one being made that then fails, tries once more."""
    async with running(keeps) as server:
        tries = 0

        async def second() -> IdleConnection:
            nonlocal tries
            tries += 1
            if tries == 1:
                await asyncio.sleep(0.1)
                raise TokenEndpointUnreachable("it did not answer in time")
            return await Destination(server.url, no_tls).connect(5)

        ready = ReadyConnection(second)
        keeping = asyncio.create_task(ready.keep())
        await asyncio.sleep(0.02)
        taken = await ready.take()
        assert taken.is_open
        assert tries == 2
        taken.transport.abort()
        await asyncio.wait({keeping})


@pytest.mark.parametrize("turns", range(8))
async def test_one_that_was_just_made_is_taken_or_closed(turns: int) -> None:
    """However near the making and the taking are to each other, no connection is left to nobody."""
    async with running(keeps) as server:
        go = asyncio.Event()
        ready = ReadyConnection(held_back(server.url, go))
        keeping = asyncio.create_task(ready.keep())
        await asyncio.sleep(0.05)
        go.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        taken = await ready.take()
        taken.transport.abort()
        ready.close()
        await asyncio.wait({keeping})
        await asyncio.sleep(0.05)
        assert server.open == 0


async def test_after_the_bound_the_last_one_does_not_grow_old() -> None:
    """The last one made in advance is let go when it is old, like all before it."""
    async with running(keeps) as server:
        ready = ReadyConnection(connecting_to(server.url), oldest=0.05, limit=2)
        keeping = asyncio.create_task(ready.keep())
        await asyncio.wait({keeping}, timeout=3)
        await asyncio.sleep(0.05)
        assert (server.open, len(server.accepted)) == (0, 2)
        taken = await ready.take()
        assert taken.is_open
        taken.transport.abort()


async def test_a_name_that_takes_long_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer keeps nobody: not the time for connecting, not the end of the loop."""
    asked = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *rest: Any, **more: Any) -> Any:
        if more.get("flags"):
            return real(host, *rest, **more)
        asked.set()
        time.sleep(3)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began = time.monotonic()

    def look() -> None:
        with pytest.raises(TokenEndpointUnreachable, match="it did not answer in time"):
            asyncio.run(Destination("http://slow.example/token", no_tls).connect(0.1))

    await asyncio.to_thread(look)
    assert asked.is_set()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
async def test_a_name_that_cannot_be_one(host: str) -> None:
    """A host name that no name server could be asked for is one that nobody knows."""
    with pytest.raises(TokenEndpointUnreachable, match="its name is not known"):
        await Destination(f"http://{host}/token", no_tls).connect(5)


async def test_a_proxy_that_agrees_and_closes(tmp_path: Path) -> None:
    """A proxy that says 200 and closes has refused, and is not waited for."""
    async with listening(says(http(b""), then_close=True)) as proxy:
        began = time.monotonic()
        destination = Destination("https://server.example/token", some_tls, proxy.url)
        with pytest.raises(TokenEndpointUnreachable, match="the proxy refused"):
            await destination.connect(5)
        assert time.monotonic() - began < 3


async def test_stray_bytes_are_no_answer() -> None:
    """What a server says before it is asked is not taken for the answer: the request goes out on another connection."""
    stray = http(b'{"access_token": "s3kr1t-forged"}')
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not asked:
            asked.append(0)
            writer.write(stray)
            with suppress(OSError):
                assert await reader.read() == b""
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http(TOKENS))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    async with server, TokenEndpoint.open(url) as endpoint:
        await endpoint.connect()
        await asyncio.sleep(0.05)
        assert (await endpoint.send(request(url))).body == TOKENS


async def test_a_kept_connection_notices_a_dead_path() -> None:
    """The system is told to give up soon when nothing of the request arrives; a new connection has its own time."""
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("Linux only")
    async with running(keeps) as server:
        ready = ReadyConnection(connecting_to(server.url))
        keeping = asyncio.create_task(ready.keep())
        await asyncio.sleep(0.05)
        kept, new = await ready.take(), await ready.take()
        timeouts = [
            each.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            for each in (kept, new)
        ]
        assert timeouts == [800, 0]
        for each in (kept, new):
            each.transport.abort()
        await asyncio.wait({keeping})


# -- once more


def request(url: str) -> TokenRequest:
    return TokenRequest(url, {"Content-Type": "application/x-www-form-urlencoded"}, Secret("code=s3kr1t-code"))


def soon() -> float:
    return asyncio.get_running_loop().time() + 30


@pytest.mark.parametrize("tls", [False, True])
async def test_a_code_is_sent_once_more_when_nothing_was_heard(tmp_path: Path, tls: bool) -> None:
    """The server read the request, or closed just then, and said nothing: a new connection, the same request."""
    ca_file, context = certificate(tmp_path)
    answers = [b"", http(TOKENS)]

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))
        writer.close()

    async with (
        listening(answer, context if tls else None) as server,
        TokenEndpoint.open(server.url, ca_file) as endpoint,
    ):
        await endpoint.connect()
        assert (await endpoint.send(request(server.url), again_before=soon())).body == TOKENS
        assert len(server.connections) == 2
        assert server.connections[0] == server.connections[1]


@pytest.mark.parametrize("first", [b"H", b"HTTP/1.1 200 OK\r\n", http(b"", length=10)])
async def test_a_code_is_not_sent_again_once_a_byte_was_heard(first: bytes) -> None:
    """One byte of an answer is an answer: the server has decided."""
    async with listening(says(first, then_close=True)) as server, TokenEndpoint.open(server.url) as endpoint:
        with pytest.raises(OutcomeUnknown):
            await endpoint.send(request(server.url), again_before=soon())
        assert len(server.connections) == 1


async def test_a_code_is_not_sent_again_when_it_is_too_old() -> None:
    """After the code's life another request would only be refused, and hide that nobody knows what happened."""
    async with listening(says(b"", then_close=True)) as server, TokenEndpoint.open(server.url) as endpoint:
        with pytest.raises(OutcomeUnknown):
            await endpoint.send(request(server.url), again_before=soon() - 31)
        assert len(server.connections) == 1


async def test_a_code_is_sent_twice_at_most() -> None:
    """A server that is silent twice is not asked a third time."""
    async with listening(says(b"", then_close=True)) as server, TokenEndpoint.open(server.url) as endpoint:
        with pytest.raises(OutcomeUnknown):
            await endpoint.send(request(server.url), again_before=soon())
        assert len(server.connections) == 2


async def test_no_second_connection_is_an_unknown_outcome() -> None:
    """The request left, and then nobody can be reached: that is not "nothing was sent"."""
    server: asyncio.Server

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    async with TokenEndpoint.open(url) as endpoint:
        with pytest.raises(OutcomeUnknown, match="no answer came, and then there was no connection"):
            await endpoint.send(request(url), again_before=soon())
