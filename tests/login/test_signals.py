"""Ctrl-C, kill and a closed terminal: the login ends at once and leaves nothing, and no tokens are lost to it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from urllib.parse import urljoin

import pytest

from loopback_auth.sandbox import Sandbox

from .program import Program, listening
from .strict import StrictServer
from .visits import visit
from .wire import ask, connect, send, to_redirect

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


async def test_while_the_person_logs_in(program: Program, server: StrictServer) -> None:
    """A signal while the browser is waited for ends the login at once: 128 + N, one error line, nothing stored."""

    async def interrupt(number: signal.Signals) -> tuple[int, int]:
        async with program.start("login", number.name, *server.flags) as running:
            start = await running.start_url()
            silent = await connect(start)  # a connection that stays open must not keep it
            if number is signal.SIGTERM:
                await to_redirect(start)
            running.send_signal(number)
            begun = time.monotonic()
            ended = await running.end()
            assert time.monotonic() - begun < 3
            await silent.close()
        assert program.ports
        assert not program.ports & listening() - {program.sandbox_port}
        return ended.status, len(ended.errors)

    ends = await asyncio.gather(*map(interrupt, SIGNALS))
    assert ends == [(status, 1) for status in SIGNALS.values()]
    assert server.token_requests == []
    assert not list(program.home.glob("accounts/*/tokens"))


async def test_many_signals_at_any_moment(program: Program, server: StrictServer) -> None:
    """Signals by the dozen, from the moment the browser is told: one status, one line, and nothing is left behind."""

    async def interrupt(number: signal.Signals, after: float) -> tuple[int, int]:
        account = f"{number.name}-{after}"
        async with program.start("login", account, *server.flags) as running:
            await running.start_url()
            await asyncio.sleep(after)
            with suppress(ProcessLookupError):
                while running.runs:
                    os.kill(running.process.pid, number)  # Popen's own looks whether it has ended, and takes its status
                    await asyncio.sleep(0.02)
            ended = await running.end()
        left = [path.name for path in program.home.glob(f"accounts/{account}/*")]
        assert left in ([], ["lock"]), left
        return ended.status, len(ended.errors)

    for after in (0.0, 0.02, 0.1, 0.4):
        ends = await asyncio.gather(*(interrupt(number, after) for number in SIGNALS))
        assert ends == [(status, 1) for status in SIGNALS.values()]


async def test_while_the_tokens_come(program: Program, server: StrictServer) -> None:
    """A signal, or two, in mid-exchange waits for the tokens and stores them; then 128 + N, and the page says it."""
    server.may_answer.clear()
    everybody = asyncio.Barrier(3)

    async def interrupt(number: signal.Signals) -> tuple[int, str]:
        async with program.start("login", number.name, *server.flags, "-v") as running:
            redirect = await to_redirect(await running.start_url())
            browser = await send(redirect)
            await running.says("the redirect came")
            await everybody.wait()
            await server.asked.wait()
            running.send_signal(number)
            await asyncio.sleep(0.2)
            running.send_signal(number)
            await asyncio.sleep(0.2)
            assert running.runs
            server.may_answer.set()
            sent_on = await browser.answer()
            assert (await ask(redirect)).location == sent_on.location
            page = await ask(urljoin(redirect, sent_on.location))
            ended = await running.end()
        assert len(ended.errors) == 1
        assert program.tokens(number.name).access_token.startswith("s3kr1t-access-")
        return ended.status, page.title

    ends = await asyncio.gather(*map(interrupt, SIGNALS))
    assert ends == [(status, "You are logged in") for status in SIGNALS.values()]
    assert len(server.token_requests) == 3


async def test_while_the_tokens_do_not_come(program: Program, server: StrictServer) -> None:
    """A signal in mid-exchange, and then no tokens: 128 + N all the same, and the page does not say that it worked."""
    server.may_answer.clear()
    server.answer = lambda: None
    async with program.start("login", *server.flags) as running:
        redirect = await to_redirect(await running.start_url())
        browser = await send(redirect)
        await server.asked.wait()
        running.send_signal(signal.SIGINT)
        await asyncio.sleep(0.2)
        server.may_answer.set()
        sent_on = await browser.answer()
        page = await ask(urljoin(redirect, sent_on.location))
        ended = await running.end()
    assert (ended.status, page.title) == (130, "The login did not work")
    assert not list(program.home.glob("accounts/*/tokens"))


async def test_after_the_tokens_were_stored(program: Program, server: StrictServer) -> None:
    """A signal after the tokens were stored, while the browser fetches the last page, takes nothing back: 128 + N."""

    async def interrupt(number: signal.Signals) -> tuple[int, int]:
        async with program.start("login", number.name, *server.flags) as running:
            sent_on = await ask(await to_redirect(await running.start_url()))
            assert sent_on.status == 303
            running.send_signal(number)
            ended = await running.end()
        assert program.tokens(number.name).access_token.startswith("s3kr1t-access-")
        return ended.status, len(ended.errors)

    ends = await asyncio.gather(*map(interrupt, SIGNALS))
    assert ends == [(status, 1) for status in SIGNALS.values()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_embedded_sandbox(program: Program, number: signal.Signals) -> None:
    """A signal ends the sandbox inside the login with it, and what the sandbox keeps is good for the next login."""
    async with program.start("login", "--server", "sandbox") as running:
        await running.start_url()
        assert program.sandbox_port in listening()
        running.send_signal(number)
        assert (await running.end()).status == SIGNALS[number]
    assert program.sandbox_port not in listening()
    async with program.start("login", "--server", "sandbox") as running:
        assert (await visit(await running.start_url())).status == 200
        assert (await running.end()).status == 0


async def test_nohup(program: Program, sandbox: Sandbox) -> None:
    """A SIGHUP that the caller has told the program to ignore (nohup) does not end it."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async with program.start("login", "--server", "sandbox", before=ignore) as running:
        start = await running.start_url()
        running.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.2)
        assert running.runs
        await visit(start)
        assert (await running.end()).status == 0
