"""Moving accounts to a store that many machines share, and back, while another machine uses it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loopback_auth import stores
from loopback_auth.standing import is_copy
from tests.ended import Ended
from tests.faults.machine import Far, far_side

from .cluster import Database
from .machines import end, machines, stored, with_tables


@pytest.fixture
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A sandbox of this test's own that says how often each refresh token came."""
    with far_side(tmp_path_factory.mktemp("sandbox")) as far:
        yield far


def test_a_machine_that_has_never_used_the_store(strict: Far, database: Database, tmp_path: Path) -> None:
    """It moves an account from there to its own disk, where it is refreshed once; the other machine has it no more."""
    one, two = machines(tmp_path, with_tables(database).url(), 2)
    trial = stored(strict, tmp_path, one)
    own = f"file:{two.home / 'own'}"
    moved = two.run("store", "copy", two.address, own)
    assert (moved.status, moved.errors) == (0, [])
    assert two.at(own).run("refresh", "--force").status == 0
    assert one.run("token").status == 4
    assert strict.presented(trial.refresh_token) == 1


def test_two_addresses_of_one_store(strict: Far, database: Database, tmp_path: Path) -> None:
    """An account is never moved to where it is, whatever that is called: it stays as it was."""
    (one,) = machines(tmp_path, with_tables(database).url(), 1)
    stored(strict, tmp_path, one)
    said = one.run("store", "copy", one.address, database.url(host="localhost"), "--force")
    assert (said.status, "both addresses are of the same store" in said.errors[0]) == (2, True)
    assert one.run("token").status == 0


def test_moves_that_another_machine_races(strict: Far, database: Database, tmp_path: Path) -> None:
    """To and fro, while two machines refresh there: each refresh token is sent once at most, and one home is left."""
    one, two = machines(tmp_path, with_tables(database).url(), 2)
    trial = strict.account(tmp_path, age=0)
    here = f"file:{trial.home / 'accounts'}"
    over = threading.Event()

    def hammer(seed: int) -> list[Ended]:
        chance, ended = random.Random(seed), []
        while not over.is_set():
            machine = two if seed % 2 else one
            arguments = chance.choice([["token"], ["refresh", "--force"]])
            ended.append(end(machine.start(*arguments)))
        return ended

    with ThreadPoolExecutor(4) as pool:
        hammering = [pool.submit(hammer, seed) for seed in range(4)]
        moves = []
        for number in range(8):
            addresses = [here, one.address] if number % 2 == 0 else [one.address, here]
            moves.append(one.run("store", "copy", *addresses, "default"))
            time.sleep(0.5)
        over.set()
        ended = [each for hammered in hammering for each in hammered.result()]
    assert strict.most_presented() == 1
    assert 0 in {each.status for each in moves}
    assert {each.status for each in (*moves, *ended)} <= {0, 4, 8}, [
        each for each in (*moves, *ended) if each.status not in (0, 4, 8)
    ]
    both = [one.accounts, stores.open_at(here, one.environment)]
    found = [account for store in both if (account := store.load("default")) is not None]
    assert len([account for account in found if not is_copy(account)]) == 1, [each.stderr for each in moves]
