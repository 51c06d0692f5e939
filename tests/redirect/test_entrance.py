"""The entrance: how many come in at once, for how long, and who must leave first."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from loopback_auth.redirect.certificate import own_leaf, server_context
from loopback_auth.redirect.doorman import Doorman
from loopback_auth.redirect.entrance import Entrance, Limits
from loopback_auth.redirect.http import HTTPServer
from loopback_auth.redirect.peers import Peers
from loopback_auth.redirect.requests import Reply, Request
from loopback_auth.redirect.sockets import listen

NOBODY = 65534
HALF = b"GET /half HTTP/1.1\r\nHo"
WRONG = b"GET /wrong HTTP/1.1\r\nHost: localhost\r\n\r\n"
RIGHT = b"GET /right HTTP/1.1\r\nHost: localhost\r\n\r\n"
NO_DEADLINES = Limits(head=60, idle=60)

Address = tuple[str, int]


def first(request: Request) -> Reply | None:
    return None if request.target == "/right" else Reply.bare(404)


@asynccontextmanager
async def entrance(
    limits: Limits = NO_DEADLINES,
    tls: ssl.SSLContext | None = None,
    answer: Callable[[Request], Awaitable[Reply]] | None = None,
    family: str = "127.0.0.1",
) -> AsyncIterator[Address]:
    """An entrance with a doorman, and aiohttp behind it if there is an `answer`."""
    doorman = Doorman(first)
    [listening] = listen(family, 0)
    http = None if answer is None else HTTPServer(answer)
    if http is not None:
        doorman.hand_over(http)
    with listening:
        async with Entrance.open([listening], tls, doorman.meet, limits):
            yield listening.getsockname()[:2]
            doorman.close()
            if http is not None:
                await http.end(1)
    await asyncio.sleep(0.02)


@contextmanager
def connections(address: Address, many: int, sent: bytes = b"", of: int | None = None) -> Iterator[list[socket.socket]]:
    """Connections that were made one after the other; `of` another user, which takes root."""
    made: list[socket.socket] = []
    try:
        for _ in range(many):
            made.append(socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET))
            if of is not None:
                os.fchown(made[-1].fileno(), of, of)  # a socket is a file: this is what makes it theirs
            made[-1].connect(address)
            made[-1].sendall(sent)
            made[-1].setblocking(False)
        yield made
    finally:
        for one in made:
            one.close()


def is_open(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


async def settled(*groups: list[socket.socket]) -> list[list[int]]:
    """Which of each group are still open, once that has not changed for a while."""
    before: list[list[int]] = []
    for _ in range(100):
        await asyncio.sleep(0.15)
        now = [[number for number, one in enumerate(group) if is_open(one)] for group in groups]
        if now == before:
            break
        before = now
    return before


async def ask(address: Address, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.readline(), 5)
    finally:
        writer.close()


async def test_the_newest_stay() -> None:
    """Of 40 silent connections the 32 that came last stay, and who comes after them is answered."""
    async with entrance() as address:
        with connections(address, 40) as silent:
            assert await settled(silent) == [list(range(8, 40))]
            assert (await ask(address, WRONG)).startswith(b"HTTP/1.1 404 ")


async def test_who_speaks_stays_longer_than_who_is_silent() -> None:
    """A request that has begun is not given up for connections that say nothing, however many come."""
    async with entrance() as address:
        with connections(address, 20, HALF) as halves, connections(address, 60) as silent:
            assert await settled(halves, silent) == [list(range(20)), list(range(48, 60))]


async def test_of_those_who_speak_the_newest_stay() -> None:
    """Half requests crowd each other out, the oldest first."""
    async with entrance() as address:
        with connections(address, 50, HALF) as halves:
            assert await settled(halves) == [list(range(18, 50))]


async def test_who_waits_for_its_answer_is_never_ended() -> None:
    """A request that may be the redirect is answered, though hundreds come after it and its answer takes long."""
    answered = asyncio.Event()

    async def answer(_request: Request) -> Reply:
        await answered.wait()
        return Reply.bare(204)

    async with entrance(Limits(head=0.1, idle=0.1), answer=answer) as address:
        with connections(address, 1, RIGHT) as [right]:
            await asyncio.sleep(0.05)
            with connections(address, 300) as silent, connections(address, 100, HALF) as halves:
                await settled(silent, halves)
                assert is_open(right)
            await asyncio.sleep(1.5)
            answered.set()
            right.setblocking(True)
            right.settimeout(5)
            assert (await asyncio.to_thread(right.recv, 100)).startswith(b"HTTP/1.1 204 ")


async def test_who_comes_in_a_crowd_has_a_moment_to_speak() -> None:
    """120 connections at once, which speak a little later, are all answered: the redirect may be among them."""
    async with entrance(NO_DEADLINES._replace(moment=2)) as address:
        with connections(address, 120) as crowd:
            await asyncio.sleep(0.05)
            for one in crowd:
                one.sendall(WRONG)
            await asyncio.sleep(0.3)
            assert all(one.recv(100).startswith(b"HTTP/1.1 404 ") for one in crowd)


async def test_who_has_just_come_is_not_counted() -> None:
    """When room is made, those who came a moment ago stay, and speak."""
    async with entrance(NO_DEADLINES._replace(moment=0.6)) as address:
        with connections(address, 40) as before:
            await asyncio.sleep(0.4)
            with connections(address, 40) as after:
                await asyncio.sleep(0.4)
                assert [is_open(one) for one in before] == [False] * 8 + [True] * 32
                for one in after:
                    one.sendall(WRONG)
                await asyncio.sleep(0.1)
                assert all(one.recv(100).startswith(b"HTTP/1.1 404 ") for one in after)


async def test_a_crowd_has_its_limit_too() -> None:
    """However fast they come: there are never many more than a crowd inside."""
    async with entrance(NO_DEADLINES._replace(moment=60)) as address:
        with connections(address, 600) as crowd:
            for _ in range(100):
                if (inside := sum(is_open(one) for one in crowd)) <= 128 + 16:
                    break
                await asyncio.sleep(0.1)
            assert 100 < inside <= 128 + 16


@pytest.mark.parametrize(("one", "many"), [(HALF, b""), (b"", HALF)])
async def test_in_a_crowd_the_oldest_of_the_many_leave(one: bytes, many: bytes) -> None:
    """A browser that speaks among the silent, or is silent for a moment among those who speak, is not pushed out."""
    async with entrance(NO_DEADLINES._replace(moment=60)) as address:
        with connections(address, 1, one) as [browser], connections(address, 400, many):
            await asyncio.sleep(0.5)
            assert is_open(browser)


@pytest.mark.parametrize("tls", [False, True])
async def test_deadlines(tmp_path: Path, tls: bool) -> None:
    """Silence, half a request, half a handshake, and silence after an answer end with their time, and not before."""
    context = None
    if tls:
        pem, _ = own_leaf(tmp_path)
        context = server_context(pem, pem)
    async with entrance(Limits(head=0.5, idle=2), context) as address:
        with connections(address, 2) as silent, connections(address, 2, b"\x16\x03\x01" if tls else HALF) as halves:
            await asyncio.sleep(0.4)
            assert [is_open(one) for one in (*silent, *halves)] == [True] * 4
            await asyncio.sleep(1.2)
            assert [is_open(one) for one in (*silent, *halves)] == [True, True, False, False]
            await asyncio.sleep(1.6)
            assert [is_open(one) for one in silent] == [False, False]


async def test_a_drip_does_not_move_the_deadline() -> None:
    """A request that comes byte by byte must be whole in time all the same."""
    async with entrance(Limits(head=0.5, idle=60)) as address:
        with connections(address, 1, b"G") as [slow]:
            for _ in range(20):
                await asyncio.sleep(0.1)
                if not is_open(slow):
                    return
                slow.send(b"E")
            raise AssertionError("it is still open")


async def test_nothing_is_left_at_the_end() -> None:
    """Whoever is inside when the entrance closes is let go."""
    async with AsyncExitStack() as inside:
        address = await inside.enter_async_context(entrance())
        with connections(address, 5) as silent, connections(address, 5, HALF) as halves:
            await asyncio.sleep(0.05)
            await inside.aclose()
            assert await settled(silent, halves) == [[], []]


async def test_no_descriptor_is_free(caplog: pytest.LogCaptureFixture) -> None:
    """While the process may open no more files it waits, says nothing, and goes on after that."""
    resource = pytest.importorskip("resource")
    async with entrance() as address:
        with connections(address, 1, WRONG) as [other]:
            usual = resource.getrlimit(resource.RLIMIT_NOFILE)
            probe = os.dup(other.fileno())
            os.close(probe)
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe, usual[1]))
            try:
                await asyncio.sleep(0.2)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, usual)
            await asyncio.sleep(0.1)
            assert other.recv(100).startswith(b"HTTP/1.1 404 ")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


takes_another_user = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="takes another user, whom the kernel names: Linux, as root"
)


@takes_another_user
@pytest.mark.parametrize("family", ["127.0.0.1", "::1"])
async def test_strangers_never_cost_one_of_ours(family: str) -> None:
    """Another user's connections, half a request on each, take 8 places; ours that say nothing stay."""
    async with entrance(family=family) as address:
        with connections(address, 24) as ours, connections(address, 100, HALF, of=NOBODY) as theirs:
            assert (await settled(ours, theirs))[0] == list(range(24))
            assert sum(map(is_open, theirs)) <= 8
            assert (await ask(address, WRONG)).startswith(b"HTTP/1.1 404 ")


@takes_another_user
async def test_strangers_are_heard_where_there_is_room() -> None:
    """A browser that another user runs is not turned away; of those that come one after the other 8 stay."""
    async with entrance() as address, AsyncExitStack() as coming:
        theirs: list[socket.socket] = []
        for _ in range(12):
            theirs += coming.enter_context(connections(address, 1, HALF, of=NOBODY))
            await asyncio.sleep(0.01)
        assert await settled(theirs) == [list(range(8))]
        theirs[0].sendall(b"st: localhost\r\n\r\n")
        await asyncio.sleep(0.1)
        assert theirs[0].recv(100).startswith(b"HTTP/1.1 404 ")


@takes_another_user
async def test_strangers_leave_first() -> None:
    """Where there are too many, another user's connection leaves before ours, which came sooner and says as little."""
    async with entrance() as address:
        with connections(address, 20, HALF) as ours:
            await asyncio.sleep(0.05)  # else there is no room for strangers
            with connections(address, 1, HALF, of=NOBODY) as theirs, connections(address, 12, HALF) as more:
                assert is_open(theirs[0])
                assert await settled(ours, theirs, more) == [list(range(20)), [], list(range(12))]


def test_whose_a_connection_is() -> None:
    """Ours is no stranger; one that another user has is, and one that nobody has any more."""
    peers = Peers()
    closing = ExitStack()
    closing.callback(peers.close)
    [listening] = listen("127.0.0.1", 0)
    listening.setblocking(True)
    with closing, listening, connections(listening.getsockname(), 1) as [ours]:
        accepted = listening.accept()[0]
        assert peers.owner(accepted) == "ours"
        if sys.platform == "linux":
            ours.close()
            assert peers.owner(accepted) == "nobody"
        accepted.close()
        if sys.platform == "linux" and os.geteuid() == 0:
            with connections(listening.getsockname(), 1, of=NOBODY):
                accepted = listening.accept()[0]
                assert peers.owner(accepted) == "a stranger"
                peers.close()
                assert peers.owner(accepted) == "ours"
                accepted.close()
