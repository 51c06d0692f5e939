"""Nobody can stop a refresh that has been sent: not a signal, a cancelled task, a deadline, nor a leaving program."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import end, run, start, until
from tests.faults.machine import Far, Trial, far_side

STATUSES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A sandbox that has spent the token, and holds the answer back for a while."""
    with far_side(tmp_path_factory.mktemp("sandbox"), faults="slow", slow_seconds=1) as far:
        yield far


def committed(slow: Far, trial: Trial) -> None:
    """What must hold in the end: one spend, and what came of it is stored."""
    stored = trial.stored
    assert slow.presented(trial.refresh_token) == 1
    assert stored.generation == 2
    assert slow.takes(stored.tokens.access_token.reveal())
    assert stored.tokens.refresh_token is not None
    assert slow.would_refresh(stored.tokens.refresh_token.reveal())
    assert trial.files() == set()


@pytest.mark.parametrize(
    ("words", "number", "times"),
    [
        (("token",), signal.SIGINT, 1),
        (("token",), signal.SIGTERM, 3),
        (("token",), signal.SIGHUP, 1),
        (("refresh", "--force"), signal.SIGINT, 3),
        (("api", "rest/core/company"), signal.SIGTERM, 1),
    ],
    ids=str,
)
def test_signals(words: tuple[str, ...], number: signal.Signals, times: int, slow: Far, homes: Path) -> None:
    """Ctrl-C, kill and a closed terminal, once or again and again: the tokens are stored first, then 128 + N."""
    trial = slow.account(homes)
    running = start(trial.home, *words)
    until(lambda: slow.presented(trial.refresh_token))
    for _ in range(times):
        running.send_signal(number)
        signal.sigtimedwait([], 0.05)
    ended = end(running)
    assert ended.status == STATUSES[number], ended
    assert ended.stdout == ""
    assert ended.errors == ["interrupted"]
    committed(slow, trial)
    assert run(trial.home, "token").status == 0


@pytest.mark.parametrize("number", STATUSES)
def test_signals_while_it_waits(number: signal.Signals, far: Far, homes: Path) -> None:
    """While another process has the account, a signal ends the waiting at once, and nothing was sent."""
    trial = far.account(homes)
    with trial.store.lock("default") as lock:
        assert lock.try_acquire()
        waiting = [start(trial.home, "token"), start(trial.home, "refresh")]
        signal.sigtimedwait([], 0.7)
        for one in waiting:
            one.send_signal(number)
        ended = [end(one, 5) for one in waiting]
    assert ended[1].status == STATUSES[number]
    assert ended[0].status in (STATUSES[number], -number)  # nothing is set up for the light way to put in order
    assert "Traceback" not in ended[0].stderr + ended[1].stderr
    assert far.presented(trial.refresh_token) == 0


LIBRARY = """
import asyncio, sys, contextlib
import loopback_auth

async def main():
    source = loopback_auth.token_source("default")
    {what}

asyncio.run(main())
print("left")
"""
CALLERS = {
    "wait_for": "\n".join(
        ["with contextlib.suppress(asyncio.TimeoutError):", "        await asyncio.wait_for(source.token(), 0.4)"]
    ),
    "cancelled": "\n".join(
        ["task = asyncio.create_task(source.token())", "    await asyncio.sleep(0.4)", "    task.cancel()"]
    ),
    "forgotten": "\n".join(["task = asyncio.create_task(source.token())", "    await asyncio.sleep(0.4)"]),
    "left": "\n".join(["task = asyncio.create_task(source.token())", "    await asyncio.sleep(0.4)", "    sys.exit()"]),
    "raised": "\n".join(
        ["task = asyncio.create_task(source.token())", "    await asyncio.sleep(0.4)", "    raise KeyboardInterrupt"]
    ),
}


@pytest.mark.parametrize("what", CALLERS.values(), ids=CALLERS)
def test_library_callers(what: str, slow: Far, homes: Path) -> None:
    """A deadline, a cancelled task, an event loop and an interpreter that end: what was sent is stored all the same."""
    trial = slow.account(homes)
    end(start(trial.home, program=LIBRARY.format(what=what)))
    committed(slow, trial)


def test_ctrl_c_in_a_library_program(slow: Far, homes: Path) -> None:
    """A program of somebody else's, without any handler, that is interrupted in mid-refresh."""
    trial = slow.account(homes)
    running = start(trial.home, program=LIBRARY.format(what="await source.token()"))
    until(lambda: slow.presented(trial.refresh_token))
    running.send_signal(signal.SIGINT)
    ended = end(running)
    assert ended.status == -signal.SIGINT
    committed(slow, trial)


def test_many_callers_in_one_process(slow: Far, homes: Path) -> None:
    """A hundred tasks and ten threads of one process, half of them cancelled: one spend, one token."""
    trial = slow.account(homes)
    program = """
import asyncio, threading
import loopback_auth

async def ask(number):
    source = loopback_auth.token_source("default")
    try:
        return (await asyncio.wait_for(source.token(), 0.3 if number % 2 else 20)).reveal()
    except TimeoutError:
        return None

async def main():
    return await asyncio.gather(*map(ask, range(10)))

found = []
threads = [threading.Thread(target=lambda: found.extend(asyncio.run(main()))) for _ in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(found.count(None), len(set(found) - {None}))
"""
    ended = end(start(trial.home, program=program))
    assert (ended.status, ended.stdout, ended.stderr) == (0, "50 1\n", "")
    committed(slow, trial)


def test_logout_waits(slow: Far, homes: Path) -> None:
    """`logout` in mid-refresh waits for it, and wins: no token is left, and none comes back."""
    trial = slow.account(homes)
    refreshing = start(trial.home, "refresh")
    until(lambda: slow.presented(trial.refresh_token))
    assert run(trial.home, "logout").status == 0
    assert end(refreshing).status == 0
    assert {path.name for path in trial.folder.iterdir()} == {"lock"}
    assert run(trial.home, "token").status == 4


def test_logout_forgets_what_was_in_doubt(far: Far, homes: Path) -> None:
    """A refresh that was killed with its answer kept: `logout` removes that answer too."""
    trial = far.account(homes)
    (trial.folder / "intent").write_text("{}\n")
    (trial.folder / "answer").write_text('{"refresh_token": "s3kr1t-left"}')
    for name in ("intent", "answer"):
        (trial.folder / name).chmod(0o600)
    assert run(trial.home, "logout").status == 0
    assert {path.name for path in trial.folder.iterdir()} == {"lock"}


def test_no_token_rises_again(slow: Far, homes: Path) -> None:
    """A login that commits although a refresh is under way, its lock file deleted: the login's tokens stay."""
    trial = slow.account(homes)
    refreshing = start(trial.home, "refresh")
    until(lambda: slow.presented(trial.refresh_token))
    newer = slow.account(homes).stored
    trial.store.save(type(newer)(**{**{name: getattr(newer, name) for name in newer.__slots__}, "generation": 5}))
    ended = end(refreshing)
    assert ended.status == 0
    assert trial.stored.tokens.refresh_token == newer.tokens.refresh_token
    assert trial.files() == set()
