"""kill -9 at every call that a refresh makes to the keyring, to the files beside it and to the network."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MARK
from tests.faults.aftermath import LOST, points, went_wrong
from tests.faults.injector import Fault
from tests.faults.machine import Far, far_side
from tests.faults.worker import Worker

READS = ("fstat", "lstat", "stat", "listdir", "read", "lseek", "close", "open keyring=3a/default/tokens")
MOST_LOST = 3
"""Calls between the request leaving and the answer being kept, as in the file store."""


@pytest.fixture(autouse=True)
def _keyring(keyring_of_files: None) -> None:
    """Here and in the worker, the keyring of files."""


@pytest.fixture
def worker(keyring_of_files: None) -> Iterator[Worker]:
    with Worker(address="keyring:") as worker:
        yield worker


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    with far_side(tmp_path / "sandbox") as far:
        far.address = "keyring:"
        yield far


@pytest.mark.parametrize("what", ["kill", "cut"])
def test_killed_at_every_call(what: str, far: Far, worker: Worker, tmp_path: Path) -> None:
    """Only between sending and keeping the answer is the account lost; no file ever holds a token."""
    calls = points(far, worker, tmp_path)
    assert len([call for call in calls if "keyring " in call]) >= 20
    sent = calls.index("send socket")
    kept_at = next(n for n, call in enumerate(calls) if n > sent and call.startswith("fsync") and "answer" in call)
    lost = []
    for number in range(1, len(calls) + 1):
        if what == "cut" and number < sent:  # nothing was sent: as a kill
            continue
        if calls[number - 1].startswith(READS) and "keyring " not in calls[number - 1]:  # as the next one
            continue
        trial = far.account(tmp_path)
        kept, first, after = went_wrong(trial, far, worker, Fault(what, number))
        assert first.signal == signal.SIGKILL, (number, first)
        presented = far.presented(trial.refresh_token)
        if kept:
            assert presented <= 2, (number, calls[number - 1])
        else:
            assert sent + 1 < number <= kept_at + 1, calls[number - 1]
            assert after.message.startswith(LOST), after
            lost.append((number, calls[number - 1]))
        assert not [path for path in files_beside(trial.home) if MARK.encode() in path.read_bytes()]
    assert 0 < len(lost) <= MOST_LOST


def files_beside(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and "items" not in path.parts]
