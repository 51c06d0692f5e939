"""How an account stands: whether it works, needs a person, or nobody knows; from what is stored, changing nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth import machine
from loopback_auth.clock import Moment
from loopback_auth.standing import DAY, Standing, days_until_idle, is_copy, standing_of, trouble_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Intent, Trouble
from loopback_auth.store.file import FileStore

from .store.accounts import BOOT, REGISTRATION, account

RECEIVED = Moment(1_700_000_000.25, BOOT, 4711.5)
IDLE = 30 * DAY
COPIED = "it was copied here, and its refresh token works once, for one place"
SPENT = "neither of its tokens can work any more"
IN_DOUBT = "its refresh token was sent, and no answer came"
ANSWER = b'{"access_token": "s3kr1t-new", "refresh_token": "s3kr1t-next"}'


def after(seconds: float) -> Moment:
    return Moment(RECEIVED.unix + seconds, RECEIVED.boot_id, RECEIVED.uptime + seconds)


def stored(store: Accounts, *, idle_lifetime: int | None = IDLE, **changes: Any) -> Account:
    """Store an account of a server that forgets refresh tokens after so long, and return it as it is loaded."""
    server = replace(REGISTRATION.server, refresh_token_idle_lifetime=idle_lifetime)
    registration = replace(REGISTRATION, server=server)
    store.save(account(**{"received": RECEIVED, "registration": registration, **changes}))
    loaded = store.load("default")
    assert loaded is not None
    return loaded


def sent(store: Accounts, about: Account, answer: bytes = b"", **changes: Any) -> None:
    """Leave what a process leaves that has sent the refresh token, and has ended."""
    intent = Intent(**{"generation": about.generation, "digest": about.digest, "armed": RECEIVED, **changes})
    with store.journal(about.name) as journal:
        journal.prove()
        journal.arm(intent)
        journal.stage(answer)


def trouble(about: Account, **changes: Any) -> Trouble:
    members = {"generation": about.generation, "digest": about.digest, "message": "it is away", "at": 5.0}
    return Trouble(**{**members, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Accounts:
    return Accounts(FileStore(str(tmp_path / "accounts")))


# --- ok ---


@pytest.mark.parametrize("age", [0, 3600, 29 * DAY])
def test_an_account_is_ok(store: Accounts, tmp_path: Path, age: float) -> None:
    """With an access token that is good, or a refresh token that still is: nothing to explain, and nothing changed."""
    one = stored(store)
    before = (tmp_path / "accounts" / "default").stat().st_mtime_ns
    assert standing_of(one, store, after(age)) == Standing(state="ok", why=None, last_error=None)
    assert (tmp_path / "accounts" / "default").stat().st_mtime_ns == before


def test_a_failed_refresh_is_told_and_is_no_state(store: Accounts) -> None:
    """A server that was away leaves the account ok; what went wrong is shown if it was with these very tokens."""
    one = stored(store)
    for noted, shown in (
        (trouble(one), True),
        (trouble(one, generation=2), False),
        (trouble(one, digest="0" * 64), False),
        (trouble(one, generation=0, refused=True), False),
    ):
        store.note("default", noted)
        assert standing_of(one, store, after(0)) == Standing(state="ok", last_error=noted if shown else None)
        assert trouble_of(one, store) == (noted if shown else None)


# --- login required ---


def test_a_refused_refresh_token_needs_a_login(store: Accounts) -> None:
    """Once the server has refused it: in its words, and while the access token is good too."""
    one = stored(store)
    refused = trouble(one, message="the token endpoint refused (invalid_grant)", refused=True)
    store.note("default", refused)
    expected = Standing(state="login required", why="the token endpoint refused (invalid_grant)", last_error=refused)
    assert standing_of(one, store, after(0)) == expected
    assert standing_of(stored(store, generation=2), store, after(0)).state == "ok"


@pytest.mark.parametrize(
    ("changes", "age", "state"),
    [
        ({"refresh_token": None}, 3599, "ok"),
        ({"refresh_token": None}, 3600, "login required"),
        ({"refresh_token": None, "expires_in": None}, 10 * IDLE, "ok"),
        ({}, IDLE - 1, "ok"),
        ({}, IDLE, "login required"),
        ({"expires_in": 2 * IDLE}, IDLE, "ok"),
        ({"idle_lifetime": None}, 10 * IDLE, "ok"),
        ({"refresh_token_at": RECEIVED.unix - IDLE + 10}, 9, "ok"),
        ({"refresh_token_at": RECEIVED.unix - IDLE + 10}, 10, "ok"),
        ({"refresh_token_at": RECEIVED.unix - IDLE + 10}, 3600, "login required"),
    ],
)
def test_an_account_none_of_whose_tokens_can_work(
    store: Accounts, changes: dict[str, Any], age: float, state: str
) -> None:
    """The access token is past its end, and there is no refresh token, or one that lay unused for too long."""
    found = standing_of(stored(store, **changes), store, after(age))
    assert (found.state, found.why) == (state, SPENT if state != "ok" else None)


@pytest.mark.parametrize("of", ["another machine", "another name", "this machine", "a nameless machine"])
def test_an_account_that_was_copied_here(store: Accounts, tmp_path: Path, of: str) -> None:
    """Its record was written by another machine or under another name; where nobody can say, it was not copied."""
    here = machine.identity()
    written_by = {"another machine": "0" * 32, "this machine": here, "another name": here}.get(of)
    one = stored(store, machine=written_by)
    if of == "another name":
        (tmp_path / "accounts" / "default").rename(tmp_path / "accounts" / "second")
        loaded = store.load("second")
        assert loaded is not None
        one = loaded
    copied = of == "another name" or (of == "another machine" and here is not None)
    assert is_copy(one) is copied
    found = standing_of(one, store, after(0))
    assert (found.state, found.why) == (("login required", COPIED) if copied else ("ok", None))


# --- outcome unknown ---


def test_a_refresh_token_that_was_sent_into_the_void(store: Accounts, tmp_path: Path) -> None:
    """No answer came, or none that holds tokens: unknown; looking changes nothing, however often."""
    for answer in (b"", b"<html>", b'{"error": "server_error"}', ANSWER[:20]):
        one = stored(store)
        sent(store, one, answer)
        before = {path.name: path.read_bytes() for path in (tmp_path / "accounts" / "default").iterdir()}
        for _ in range(2):
            assert standing_of(one, store, after(0)) == Standing(state="outcome unknown", why=IN_DOUBT)
        assert {path.name: path.read_bytes() for path in (tmp_path / "accounts" / "default").iterdir()} == before
        with store.journal("default") as journal:
            assert journal.try_open()
            journal.clear()


def test_what_is_not_in_doubt(store: Accounts) -> None:
    """An answer that holds tokens, whole or with the refresh token in it, and an intent about other tokens: ok."""
    one = stored(store)
    for answer, changes in (
        (ANSWER, {}),
        (ANSWER[:-1], {}),
        (b"", {"generation": 2}),
        (b"", {"digest": "0" * 64}),
    ):
        sent(store, one, answer, **changes)
        assert standing_of(one, store, after(0)).state == "ok"
        with store.journal("default") as journal:
            assert journal.try_open()
            journal.clear()


def test_a_refresh_under_way_is_not_in_doubt(store: Accounts) -> None:
    """While the process lives that has sent it, the answer may come: ok; once it has ended without one: unknown."""
    one = stored(store)
    with store.journal("default") as journal:
        journal.prove()
        journal.arm(Intent(generation=one.generation, digest=one.digest, armed=RECEIVED))
        assert standing_of(one, store, after(0)).state == "ok"
    assert standing_of(one, store, after(0)).state == "outcome unknown"


def test_what_is_certain_comes_before_what_is_not(store: Accounts) -> None:
    """Sent without an answer and refused, past its life or copied: a person must log in, and that is the state."""
    one = stored(store)
    sent(store, one)
    assert standing_of(one, store, after(IDLE)).why == SPENT
    store.note("default", trouble(one, refused=True))
    assert standing_of(one, store, after(IDLE)).why == "it is away"
    assert standing_of(replace(one, stored_as="other"), store, after(IDLE)).why == COPIED


# --- days ---


@pytest.mark.parametrize(("age", "days"), [(0, 30), (DAY, 29), (29.5 * DAY, 0.5), (IDLE, 0), (31 * DAY, -1)])
def test_days_until_a_refresh_token_is_forgotten(store: Accounts, age: float, days: float) -> None:
    """Counted from when that refresh token came, not from when the access token did; below 0 when it is past."""
    one = stored(store, received=after(1000 * DAY), refresh_token_at=RECEIVED.unix)
    assert days_until_idle(one, after(age)) == pytest.approx(days)


def test_days_that_nobody_knows(store: Accounts) -> None:
    """A server that says nothing of it, and an account without a refresh token: none."""
    assert days_until_idle(stored(store, idle_lifetime=None), after(0)) is None
    assert days_until_idle(stored(store, refresh_token=None), after(0)) is None


@given(st.floats(-1e9, 1e9), st.none() | st.integers(0, 10**9), st.none() | st.integers(0, 10**9))
def test_days_agree_with_the_state(
    tmp_path_factory: pytest.TempPathFactory, age: float, lifetime: int | None, idle_lifetime: int | None
) -> None:
    """Whatever the figures: one of three states, said why unless it is ok, and `ok` while the days are not over."""
    store = Accounts(FileStore(str(tmp_path_factory.getbasetemp() / "any" / "accounts")))
    one = stored(store, idle_lifetime=idle_lifetime, expires_in=lifetime)
    found, days = standing_of(one, store, after(age)), days_until_idle(one, after(age))
    assert found.state in {"ok", "login required"}
    assert (found.why is None) == (found.state == "ok")
    if days is None or days > 0:
        assert found.state == "ok"
