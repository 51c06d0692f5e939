"""A disk that refuses: the N-th write, fsync, rename, open or removal fails, once and for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.aftermath import nothing_in_clear, points, settle
from tests.faults.injector import Fault
from tests.faults.machine import Far
from tests.faults.worker import Worker

KINDS = ("write", "fsync", "rename", "open", "unlink", "ftruncate", "mmap")


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("name", ["ENOSPC", "EIO"])
def test_the_nth_call_fails(name: str, for_ever: bool, far: Far, worker: Worker, homes: Path) -> None:
    """Before the request leaves nothing is spent; after it nothing is lost, and the new token is handed out."""
    calls = points(far, worker, homes)
    refuse_each(calls, KINDS, name, far, worker, homes, for_ever=for_ever)


def test_the_nth_call_fails_in_a_sealed_store(sealed: Far, worker: Worker, homes: Path) -> None:
    """The same, and nothing is written in clear instead."""
    refuse_each(points(sealed, worker, homes), KINDS, "ENOSPC", sealed, worker, homes, for_ever=False)


def refuse_each(
    calls: list[str], kinds: tuple[str, ...], name: str, far: Far, worker: Worker, homes: Path, *, for_ever: bool
) -> int:
    """Let each call of these kinds fail in turn; return how many that were."""
    sent = calls.index("send socket")
    tried = 0
    for kind in kinds:
        places = [place for place, call in enumerate(calls) if call.startswith(kind + " ")]
        for number, place in enumerate(places, 1):
            tried += 1
            trial = far.account(homes)
            first = worker.run(trial.home, fault=Fault(name, number, kind, for_ever))
            where = (kind, number, calls[place], first)
            assert first.signal == 0, where
            assert not (first.error or "").startswith("unexpected"), where
            presented = far.presented(trial.refresh_token)
            if far.seals:
                nothing_in_clear(trial.home)
            if place < sent:
                assert presented == 0 or first.error is None, where
            else:
                assert first.error is None, where
                assert first.value is not None
                assert far.takes(first.value), where
            if presented == 0:
                assert first.exit_status == 8, where
            kept, _ = settle(trial, far, worker)
            assert kept, where
            assert far.presented(trial.refresh_token) <= 2, where
    return tried
