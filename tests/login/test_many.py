"""Many logins, one after another and at once: no port and no process is left by any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from urllib.error import URLError
from urllib.parse import urlsplit

from tests.walker import Walker

from .program import Program, listening
from .strict import StrictServer
from .visits import log_in_and_see

IN_A_ROW = 50
AT_ONCE = 20


async def test_in_a_row(program: Program, server: StrictServer) -> None:
    """50 logins in a row on one fixed port all work, each listening as soon as the one before has ended."""
    port = program.free_port()
    for number in range(1, IN_A_ROW + 1):
        ended, page = await log_in_and_see(
            program, *server.flags, "--force", "-q", "--redirect-uri", f"http://localhost:{port}/"
        )
        assert (ended.status, ended.stderr, page.status) == (0, "", 200), number
        assert port not in listening()
    assert program.tokens().members["generation"] == IN_A_ROW
    assert len(server.token_requests) == IN_A_ROW


async def test_at_once(program: Program) -> None:
    """20 logins at once, each with a sandbox inside, see one sandbox; none is hurt when another ends."""
    threads, loop = ThreadPoolExecutor(AT_ONCE), asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        names = [f"account-{number}" for number in range(AT_ONCE)]
        flags = ("--server", "sandbox", "-q", "--timeout", "100s")
        logins = [await stack.enter_async_context(program.start("login", name, *flags)) for name in names]
        starts = await asyncio.gather(*(login.start_url() for login in logins))
        assert len({urlsplit(start).port for start in starts}) == AT_ONCE
        walkers = await asyncio.gather(*(loop.run_in_executor(threads, to_consent, start) for start in starts))
        await asyncio.gather(
            *(loop.run_in_executor(threads, patiently, partial(walker.decide, "allow")) for walker in walkers)
        )
        assert [walker for walker in walkers if "You are logged in" not in walker.text] == []
        ended = [await login.end() for login in logins]
        assert {(end.status, end.stderr) for end in ended} == {(0, "")}
    threads.shutdown()
    stored = [program.tokens(name) for name in names]
    assert len({tokens.access_token for tokens in stored}) == AT_ONCE
    assert {tokens.members["company"]["name"] for tokens in stored} == {"Cafe Roma"}


async def test_one_at_a_time(program: Program, server: StrictServer) -> None:
    """While a login of an account waits for a person, another one opens no browser; once it has ended, one may."""
    async with program.start("login", "cafe", *server.flags) as first:
        await first.opened()
        second = await program.run("login", "cafe", *server.flags)
        assert (second.status, second.errors) == (8, ["a login of account cafe is under way already"])
        other = await program.run("login", "bistro", *server.flags, "--no-browser", "--timeout", "1s")
        assert other.status == 5
    async with program.start("login", "cafe", *server.flags) as third:  # the first was killed
        await third.opened()


def to_consent(start: str) -> Walker:
    walker = Walker()
    walker.open(start).log_in("cafe-roma", "espresso")
    assert walker.consent_form() is not None
    return walker


def patiently(step: Callable[[], object]) -> None:
    """Reload if a sandbox has just ended under the browser's request: a person would."""
    for _ in range(200):
        try:
            step()
        except URLError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nobody is there")
