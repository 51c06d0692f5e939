"""kill -9 and power cuts, at every system call that a refresh makes to the store and the network."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.aftermath import LOST, points, went_wrong
from tests.faults.injector import Fault
from tests.faults.machine import Far
from tests.faults.worker import Worker

MOST_LOST = 3
"""Calls between the request leaving and the answer being kept."""


def lost_points(what: str, far: Far, worker: Worker, homes: Path) -> list[tuple[int, str]]:
    """Let it happen at each call in turn, and return those that cost the account: said so by the next command."""
    calls = points(far, worker, homes)
    sent, kept_at = calls.index("send socket"), calls.index("fsync default/answer", calls.index("send socket"))
    lost = []
    for number in range(1, len(calls) + 1):
        trial = far.account(homes)
        kept, first, after = went_wrong(trial, far, worker, Fault(what, number))
        assert first.signal == signal.SIGKILL, (number, first)
        presented = far.presented(trial.refresh_token)
        if kept:
            # one more for `would_refresh`, where it is this very token that is stored
            assert presented <= 2, (number, calls[number - 1])
            if number <= sent + 1:
                assert presented == 1, (number, calls[number - 1])
        else:
            assert sent + 1 < number <= kept_at + 1, calls[number - 1]
            assert after.message.startswith(LOST), after
            assert presented == 2
            lost.append((number, calls[number - 1]))
    return lost


def test_killed_at_every_call(either: Far, worker: Worker, homes: Path) -> None:
    """Only between sending and keeping the answer can a kill cost the account, and then the next command says so.

    In a sealed store no kill leaves a token in clear.
    """
    assert 0 < len(lost_points("kill", either, worker, homes)) <= MOST_LOST


@pytest.mark.parametrize("what", ["cut", "cut-names"])
def test_the_power_fails_at_every_call(what: str, far: Far, worker: Worker, homes: Path) -> None:
    """What was not synced is gone, or its name is there without its content: no more is lost than by a kill."""
    assert 0 < len(lost_points(what, far, worker, homes)) <= MOST_LOST


@pytest.mark.parametrize("what", ["kill", "cut", "cut-names"])
def test_with_a_grace_nothing_is_lost(what: str, forgiving: Far, worker: Worker, homes: Path) -> None:
    """Where the server answers a spent token for 60 seconds, asking once more saves the account at every point."""
    calls = points(forgiving, worker, homes)
    sent = calls.index("send socket")
    for number in range(sent, sent + 6):
        trial = forgiving.account(homes)
        kept, _, _ = went_wrong(trial, forgiving, worker, Fault(what, number))
        assert kept, calls[number - 1]
        assert forgiving.presented(trial.refresh_token) <= 2


def test_nothing_is_left_to_the_power(either: Far, worker: Worker, homes: Path) -> None:
    """Once `token` has returned, a power cut changes nothing: not even leftovers come back."""
    trial = either.account(homes)
    calls = points(either, worker, homes)
    survivors = trial.home / "survivors"
    worker.run(trial.home, fault=Fault("cut", len(calls)), survivors=survivors)
    assert {path.name for path in (survivors / "default").iterdir()} == {"tokens", "lock"}
    assert (survivors / "default" / "tokens").read_bytes() == (trial.folder / "tokens").read_bytes()


def test_the_room_is_had_before_sending(far: Far, worker: Worker, homes: Path) -> None:
    """The room for the answer is on the disk, and not just promised, before anything leaves."""
    calls = points(far, worker, homes)
    before = calls[: calls.index("send socket")]
    assert (
        before.index("write default/answer")
        < before.index("fsync default/answer")
        < before.index("mmap default/answer")
    )
