"""The entrance: how many come in at once, for how long, and who must leave first."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
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
def connections(address: Address, many: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that were made one after the other."""
    made = []
    try:
        for _ in range(many):
            made.append(socket.create_connection(address))
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


async def test_no_descriptor_is_free() -> None:
    """While the process may open no more files it waits, and goes on after that."""
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


@contextmanager
def stranger(address: Address, many: int, sent: bytes) -> Iterator[None]:
    """Another user's process, which holds connections and goes on making them."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("takes another user, whom the kernel names: Linux, as root")
    ready, says_ready = os.pipe()
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        held = []
        for _ in range(many):
            held.append(socket.create_connection(address))
            with suppress(ConnectionError):
                held[-1].sendall(sent)
        os.write(says_ready, b"x")
        signal.pause()
    try:
        os.read(ready, 1)
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(says_ready)


@pytest.mark.parametrize("family", ["127.0.0.1", "::1"])
async def test_strangers_never_cost_one_of_ours(family: str) -> None:
    """Another user's connections, half a request on each, take 8 places; ours that say nothing stay."""
    async with entrance(family=family) as address:
        with connections(address, 24) as ours, stranger(address, 100, HALF):
            assert await settled(ours) == [list(range(24))]
            assert (await ask(address, WRONG)).startswith(b"HTTP/1.1 404 ")
            with connections(address, 32, HALF) as more:  # and they leave first
                assert await settled(ours, more) == [[], list(range(32))]


async def test_strangers_are_answered_where_there_is_room() -> None:
    """A browser that another user runs is not turned away."""
    async with entrance() as address:
        with stranger(address, 7, HALF), connections(address, 1) as ours:
            assert await settled(ours) == [[0]]
            assert (await ask(address, WRONG)).startswith(b"HTTP/1.1 404 ")


def test_whose_a_connection_is() -> None:
    """Ours is no stranger; one that another user has is, and one that nobody has any more."""
    peers = Peers()
    [listening] = listen("127.0.0.1", 0)
    listening.setblocking(True)
    with listening, connections(listening.getsockname(), 1) as [ours]:
        accepted = listening.accept()[0]
        assert peers.owner(accepted) == "ours"
        if sys.platform == "linux":
            ours.close()
            assert peers.owner(accepted) == "nobody"
        accepted.close()
        with stranger(listening.getsockname(), 1, b""):
            accepted = listening.accept()[0]
            assert peers.owner(accepted) == "a stranger"
            peers.close()
            assert peers.owner(accepted) == "ours"
            accepted.close()
