"""Many at once on one expired token: one of them spends, and all get what it got."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

import pytest

from tests.faults.aftermath import LOST, points
from tests.faults.commands import WITHOUT_LOCK, end, run, start, until
from tests.faults.injector import Fault
from tests.faults.machine import Far, Trial, far_side
from tests.faults.worker import Worker

SENT = "send socket"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A sandbox that holds each answer back for a second: everybody is there before the first has anything."""
    with far_side(tmp_path_factory.mktemp("sandbox"), faults="slow", slow_seconds=1) as far:
        yield far


@pytest.mark.parametrize("processes", [1, 10, 100])
def test_processes_on_one_expired_token(processes: int, slow: Far, homes: Path) -> None:
    """Exactly one spend, all succeed, one distinct token."""
    trial = slow.account(homes)
    ended = [end(one) for one in [start(trial.home, "token") for _ in range(processes)]]
    assert {(one.status, one.stderr) for one in ended} == {(0, "")}
    assert len({one.stdout for one in ended}) == 1
    assert slow.presented(trial.refresh_token) == 1
    assert slow.takes(ended[0].stdout.strip())
    assert trial.stored.generation == 2
    assert trial.files() == set()


def test_the_intent_alone_holds(slow: Far, homes: Path) -> None:
    """With a lock that excludes nobody, the intent, which is created exclusively, still lets one process send."""
    trial = slow.account(homes)
    ended = [end(one) for one in [start(trial.home, "token", program=WITHOUT_LOCK) for _ in range(12)]]
    assert {(one.status, one.stderr) for one in ended} == {(0, "")}
    assert len({one.stdout for one in ended}) == 1
    assert slow.presented(trial.refresh_token) == 1
    assert trial.files() == set()


# -- a holder that stops, or is killed


class Holder:
    """A process that has stopped itself in the middle of a refresh."""

    def __init__(self, trial: Trial, number: int) -> None:
        self._worker = Worker().__enter__()
        self._pool = ThreadPoolExecutor(1)
        self.outcome = self._pool.submit(self._worker.run, trial.home, fault=Fault("stop", number))
        self.process = self._worker.stopped_child()

    def go_on(self) -> None:
        os.kill(self.process, signal.SIGCONT)
        outcome = self.outcome.result(30)
        assert (outcome.signal, outcome.error) == (0, None), outcome

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        assert self.outcome.result(30).signal == signal.SIGKILL

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.outcome.done():
            os.kill(self.process, signal.SIGKILL)
        self._pool.shutdown()
        self._worker.__exit__(None, None, None)


@pytest.mark.parametrize("after_sending", [False, True])
def test_a_stopped_holder(after_sending: bool, far: Far, worker: Worker, homes: Path) -> None:
    """While it is stopped others are told that the account is busy, and send nothing; when it goes on, all is well."""
    number = points(far, worker, homes).index(SENT) + 1 + after_sending
    trial = far.account(homes)
    with Holder(trial, number) as holder:
        busy = worker.run(trial.home, lock_timeout=0.2)
        assert (busy.error, busy.exit_status) == ("StoreBusy", 8)
        assert far.presented(trial.refresh_token) <= int(after_sending)
        holder.go_on()
    assert far.presented(trial.refresh_token) == 1
    assert trial.stored.generation == 2


@pytest.mark.parametrize("what", ["deleted", "replaced"])
@pytest.mark.parametrize("after_sending", [False, True])
def test_the_lock_file_goes(what: str, after_sending: bool, far: Far, worker: Worker, homes: Path) -> None:
    """Whoever finds a new lock file free still does not send while another process that has sent, or will, lives."""
    number = points(far, worker, homes).index(SENT) + 1 + after_sending
    trial = far.account(homes)
    with Holder(trial, number) as holder:
        (trial.folder / "lock").unlink()
        if what == "replaced":
            (trial.folder / "lock").touch(0o600)
        busy = worker.run(trial.home, lock_timeout=0.2)
        assert (busy.error, busy.exit_status) == ("StoreBusy", 8)
        assert far.presented(trial.refresh_token) <= int(after_sending)
        holder.go_on()
    assert far.presented(trial.refresh_token) == 1
    assert worker.run(trial.home).error is None


@pytest.mark.parametrize("call", ["write default/probe.PID.PID.new", "open default/intent"])
def test_the_lock_file_goes_before_there_is_an_intent(call: str, far: Far, worker: Worker, homes: Path) -> None:
    """Two that both hold a lock: the faster one spends, the other finds that out and takes what came."""
    calls = points(far, worker, homes)
    number = max(number for number, made in enumerate(calls[: calls.index(SENT)], 1) if made == call)
    trial = far.account(homes)
    with Holder(trial, number) as holder:
        (trial.folder / "lock").unlink()
        faster = worker.run(trial.home)
        assert faster.error is None
        os.kill(holder.process, signal.SIGCONT)
        slower = holder.outcome.result(30)
    assert (slower.error, slower.value) == (None, faster.value)
    assert far.presented(trial.refresh_token) == 1
    assert trial.files() == set()


def waiters(trial: Trial, number: int) -> list[Popen[str]]:
    started = [start(trial.home, "token") for _ in range(number)]
    threading.Event().wait(0.5)  # until they wait
    return started


def test_a_holder_killed_before_sending(far: Far, worker: Worker, homes: Path) -> None:
    """Twenty wait, and one of them takes over: one spend, one token for all."""
    number = points(far, worker, homes).index("connect socket") + 1
    trial = far.account(homes)
    with Holder(trial, number) as holder:
        waiting = waiters(trial, 20)
        holder.kill()
        ended = [end(one) for one in waiting]
    assert {(one.status, one.stderr) for one in ended} == {(0, "")}
    assert len({one.stdout for one in ended}) == 1
    assert far.presented(trial.refresh_token) == 1


@pytest.mark.parametrize("grace", [False, True])
def test_a_holder_killed_after_sending(grace: bool, far: Far, forgiving: Far, worker: Worker, homes: Path) -> None:
    """Twenty wait: one of them asks once more. With a grace all get a token, without one all say that it is lost."""
    server = forgiving if grace else far
    number = points(server, worker, homes).index(SENT) + 2
    trial = server.account(homes)
    with Holder(trial, number) as holder:
        until(lambda: server.presented(trial.refresh_token))
        waiting = waiters(trial, 20)
        holder.kill()
        ended = [end(one) for one in waiting]
    assert server.presented(trial.refresh_token) == 2
    if grace:
        assert {one.status for one in ended} == {0}
        assert len({one.stdout for one in ended}) == 1
    else:
        assert {one.status for one in ended} == {4}
        assert all(one.errors[0].startswith(LOST) for one in ended)
    assert run(trial.home, "token").status == (0 if grace else 4)
    assert server.presented(trial.refresh_token) == 2
