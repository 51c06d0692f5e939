"""Moves between two stores: killed at every call, cut off from power, raced by everybody who uses either store."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loopback_auth.oauth.token import tokens_in
from loopback_auth.standing import is_copy
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Intent
from loopback_auth.store.file import FileStore
from tests.ended import Ended
from tests.faults.commands import WITHOUT_LOCK, end, run, start
from tests.faults.injector import Fault
from tests.faults.machine import Far, Trial, far_side
from tests.faults.worker import Outcome, Worker

HERE, THERE = "accounts", "elsewhere"
EVERY = int(os.environ.get("LOOPBACK_AUTH_FAULTS_EVERY", "3"))
"""At which of the calls that matter something happens, in a normal run; 1 takes four times as long."""
CHANGES = {"open", "mkdir", "write", "ftruncate", "rename", "unlink"}
"""The calls that may change what is on the disk: between two of them a kill leaves the same."""


def stored(trial: Trial, store: str) -> Account | None:
    return Accounts(FileStore(str(trial.home / store))).load("default")


def move(trial: Trial, worker: Worker, fault: Fault | None = None, survivors: Path | None = None) -> Outcome:
    return worker.run(trial.home, "move", fault, survivors=survivors, store=HERE, to=THERE)


def homes_of(trial: Trial) -> list[str]:
    """The stores from which a refresh token would be sent."""
    return [store for store in (HERE, THERE) if (one := stored(trial, store)) is not None and not is_copy(one)]


def hold(trial: Trial) -> None:
    """What holds at every moment: one place at most would send, and the account is somewhere."""
    assert len(homes_of(trial)) <= 1
    assert stored(trial, HERE) is not None or stored(trial, THERE) is not None


def left_in(trial: Trial, store: str) -> set[str]:
    """What is in the account's folder, but for what a login's proof has left: the next command after a minute's."""
    return {path.name for path in (trial.home / store / "default").iterdir() if not path.name.startswith("login-")}


def arrived(trial: Trial, far: Far, generation: int = 1) -> None:
    """The account is in its new home alone, as it was, with nothing left lying about, and nothing was sent."""
    assert homes_of(trial) == [THERE]
    account = stored(trial, THERE)
    assert account is not None
    assert stored(trial, HERE) is None
    assert account.generation == generation
    assert left_in(trial, HERE) <= {"lock"}
    assert left_in(trial, THERE) <= {"lock", "tokens"}
    token = account.tokens.refresh_token
    assert token is not None
    assert far.presented(token.reveal()) == 0


def refreshes_there(trial: Trial, far: Far, worker: Worker) -> None:
    """Both sides are asked to refresh: the new home does, and its token is sent once."""
    account = stored(trial, THERE)
    assert account is not None
    token = account.tokens.refresh_token
    assert token is not None
    assert worker.run(trial.home, "force", store=THERE).value == str(account.generation + 1)
    assert worker.run(trial.home, "force", store=HERE).error == "LoginRequired"
    assert far.presented(token.reveal()) == 1


def calls_of(far: Far, worker: Worker, homes: Path) -> list[str]:
    """The calls of a move in which nothing goes wrong."""
    trial = far.account(homes)
    calm = move(trial, worker)
    assert (calm.error, calm.signal) == (None, 0), calm
    assert not any(call.endswith(" socket") for call in calm.calls)
    arrived(trial, far)
    refreshes_there(trial, far, worker)
    return calm.calls


def changing(calls: list[str]) -> list[int]:
    """The numbers of calls that may change what is on the disk, or of some, the first and the last among them."""
    numbers = [number for number, call in enumerate(calls, 1) if call.partition(" ")[0] in CHANGES]
    return sorted({*numbers[::EVERY], numbers[-1]})


def test_killed_at_every_call(far: Far, worker: Worker, homes: Path) -> None:
    """One home at most, never none to go on from; the same command finishes it, and nothing was sent meanwhile."""
    calls = calls_of(far, worker, homes)
    for number in changing(calls):
        trial = far.account(homes)
        assert move(trial, worker, Fault("kill", number)).signal == signal.SIGKILL
        hold(trial)
        again = move(trial, worker)
        assert again.error is None, (number, calls[number - 1], again)
        arrived(trial, far)


def test_refreshed_from_both_sides_after_a_kill_at_every_call(far: Far, worker: Worker, homes: Path) -> None:
    """Before anybody goes on with the move both stores are asked to refresh: one at most sends, and none twice."""
    calls = calls_of(far, worker, homes)
    refreshed = []
    for number in changing(calls):
        trial = far.account(homes)
        assert move(trial, worker, Fault("kill", number)).signal == signal.SIGKILL
        by = [store for store in (HERE, THERE) if worker.run(trial.home, "force", store=store).error is None]
        assert len(by) <= 1
        assert far.presented(trial.refresh_token) == len(by), (number, calls[number - 1])
        refreshed.append(by[0] if by else "")
        hold(trial)
        again = move(trial, worker)
        assert again.error is None, (number, calls[number - 1], again)
        arrived(trial, far, generation=2 if by else 1)
    assert [way for way, _ in itertools.groupby(refreshed)] == [HERE, "", THERE]


@pytest.mark.parametrize("what", ["cut", "cut-names"])
def test_the_power_fails_at_every_call(what: str, far: Far, worker: Worker, homes: Path) -> None:
    """What was not synced is gone, or its name is there without its content: it is as after a kill."""
    calls = calls_of(far, worker, homes)
    survivors = homes / "survivors"
    for number in range(1, len(calls) + 1, 2 * EVERY):
        trial = far.account(homes)
        assert move(trial, worker, Fault(what, number), survivors).signal == signal.SIGKILL
        shutil.rmtree(trial.home)
        survivors.rename(trial.home)
        hold(trial)
        again = move(trial, worker)
        assert again.error is None, (number, calls[number - 1], again)
        arrived(trial, far)


@pytest.mark.parametrize("kind", ["write", "fsync", "rename", "open", "unlink", "mkdir"])
def test_the_disk_fails(kind: str, far: Far, worker: Worker, homes: Path) -> None:
    """At the N-th call of a kind, once or for ever: the error is one of ours, and the same command finishes it."""
    number_of = sum(call.startswith(f"{kind} ") for call in calls_of(far, worker, homes))
    assert number_of
    for number, for_ever in itertools.product(range(1, number_of + 1, EVERY), (False, True)):
        trial = far.account(homes)
        failed = move(trial, worker, Fault("EIO", number, kind, for_ever))
        assert failed.exit_status in (0, 8), failed
        hold(trial)
        assert move(trial, worker).error is None
        arrived(trial, far)


def test_an_answer_that_came_is_moved(far: Far, worker: Worker, homes: Path) -> None:
    """A refresh was killed when it had its answer: the new tokens are what is moved, and nothing is sent."""
    trial = far.account(homes)
    calls = worker.run(far.account(homes).home).calls
    worker.run(trial.home, fault=Fault("kill", calls.index("fsync default/answer", calls.index("send socket")) + 2))
    with trial.store.journal("default") as journal:
        assert journal.try_open()
        assert tokens_in(journal.answer) is not None
    assert far.presented(trial.refresh_token) == 1
    assert move(trial, worker).value == "2"
    arrived(trial, far, generation=2)
    assert far.presented(trial.refresh_token) == 1


def test_what_is_in_doubt_stays(far: Far, worker: Worker, homes: Path) -> None:
    """A refresh was killed before its answer came: the account is left, and nothing of it is in the other store."""
    trial = far.account(homes)
    with trial.store.journal("default") as journal:
        journal.prove()
        journal.arm(Intent(generation=1, digest=trial.stored.digest, armed=trial.stored.received))
    left = move(trial, worker)
    assert (left.error, left.exit_status) == ("OutcomeUnknown", 10)
    assert homes_of(trial) == [HERE]
    assert stored(trial, THERE) is None


# -- everybody at once


@pytest.fixture
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A sandbox of this test's own that says how often each refresh token came."""
    with far_side(tmp_path_factory.mktemp("sandbox")) as far:
        yield far


@pytest.mark.parametrize("program", [None, WITHOUT_LOCK], ids=["as it is", "with locks that exclude nobody"])
def test_moves_that_everybody_races(program: str | None, strict: Far, homes: Path) -> None:
    """To and fro, while both sides are asked for tokens and made to refresh: each refresh token is sent once at most.

    Who asks gets a token that works, or is told why not; and at the end there is one home, which works.
    """
    trial = strict.account(homes, age=0)
    over = threading.Event()

    def hammer(seed: int) -> list[Ended]:
        chance, ended = random.Random(seed), []
        while not over.is_set():
            arguments = chance.choice([["token"], ["refresh", "--force"], ["token", "--min-validity", "2h"]])
            store = trial.home / chance.choice([HERE, THERE])
            ended.append(end(start(trial.home, *arguments, store=store, program=program)))
        return ended

    ways = [(HERE, THERE), (THERE, HERE)] * (4 if EVERY == 1 else 1)
    with ThreadPoolExecutor(6) as pool:
        hammering = [pool.submit(hammer, seed) for seed in range(4)]
        moves = []
        for source, target in ways:
            addresses = [f"file:{trial.home / store}" for store in (source, target)]
            moves.append(end(start(trial.home, "store", "copy", *addresses, "default", program=program)))
            time.sleep(0.3)
        over.set()
        ended = [one for each in hammering for one in each.result()]
    assert strict.most_presented() == 1
    assert {one.status for one in moves} <= ({0} if program is None else {0, 4, 8}), moves
    assert {one.status for one in ended} <= {0, 4, 8}, [one for one in ended if one.status not in (0, 4, 8)]
    assert {0, 4} <= {one.status for one in ended}
    said = {one.errors[0] for one in ended if one.status}
    assert all("there is no account" in one or "is being moved" in one or "another process" in one for one in said), (
        said
    )
    (home,) = homes_of(trial)
    assert run(trial.home, "refresh", "--force", store=trial.home / home).status == 0
    assert strict.most_presented() == 1
