"""What must hold after anything went wrong: found out as a user would, by the next command."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.faults.injector import Fault
from tests.faults.machine import Far, Trial
from tests.faults.worker import Outcome, Worker

IN_CLEAR = (b"s3kr1t-", b'"access_token"', b'"refresh_token"')
"""What stands in an answer and in a record, unless they are sealed."""
LOST = "the refresh token was spent, and the answer with the next one was lost"
REFUSED = 4


def settle(trial: Trial, far: Far, worker: Worker, work: str = "token") -> tuple[bool, Outcome]:
    """Do `work`, which settles what is unsettled. Return whether the account was kept, and the outcome.

    Kept: a token that the API takes, a stored refresh token that works, nothing left lying about. Lost: said so, with
    exit status 4, and never sent again.
    """
    held = trial.stored.tokens.refresh_token
    assert held is not None
    after = worker.run(trial.home, work)
    assert after.signal == 0, after
    if after.error is None:
        stored = trial.stored
        assert far.takes(stored.tokens.access_token.reveal()), "the API would not take this access token"
        assert after.value == (stored.tokens.access_token.reveal() if work == "token" else str(stored.generation))
        assert stored.tokens.refresh_token is not None
        assert far.would_refresh(stored.tokens.refresh_token.reveal()), "the stored refresh token is dead"
        if trial.files():  # the next refresh finds them
            assert worker.run(trial.home, "force").error is None
            assert trial.files() == set()
        return True, after
    assert (after.error, after.exit_status) == ("LoginRequired", REFUSED), after
    presented = far.presented(held.reveal())
    assert trial.stored.tokens.refresh_token == held, "nothing is deleted because a refresh failed"
    again = worker.run(trial.home, work)
    assert (again.error, again.message[:100]) == ("LoginRequired", after.message[:100])
    assert far.presented(held.reveal()) == presented, "a refused token was sent again"
    return False, after


def nothing_in_clear(home: Path) -> None:
    """Search every file below a home whose store is sealed."""
    for path in filter(Path.is_file, home.rglob("*")):
        assert not any(mark in path.read_bytes() for mark in IN_CLEAR), path


def points(far: Far, worker: Worker, homes: Path) -> list[str]:
    """Return the calls of a refresh in which nothing goes wrong."""
    trial = far.account(homes)
    calm = worker.run(trial.home)
    assert calm.error is None, calm
    assert far.presented(trial.refresh_token) == 1
    return calm.calls


def went_wrong(trial: Trial, far: Far, worker: Worker, fault: Fault) -> tuple[bool, Outcome, Outcome]:
    """Refresh with this fault, and settle. Return whether the account was kept, and both outcomes."""
    survivors = trial.home / "survivors"
    first = worker.run(trial.home, fault=fault, survivors=survivors)
    if survivors.exists():
        shutil.rmtree(trial.root)
        survivors.rename(trial.root)
    if far.seals:
        nothing_in_clear(trial.home)
    kept, after = settle(trial, far, worker)
    if far.seals:
        nothing_in_clear(trial.home)
    return kept, first, after
