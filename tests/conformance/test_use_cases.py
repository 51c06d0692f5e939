"""The use-cases on top of the store, at a sandbox whose refresh tokens work once: nothing is lost, or spent twice."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from loopback_auth import clock
from loopback_auth.errors import StoreBusy
from loopback_auth.grant import Grant, intent_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Store
from tests.conformance import work
from tests.conformance.conftest import Start
from tests.conformance.place import Place
from tests.conformance.process import Process
from tests.conformance.work import NAME, Fault, Said, nothing_left
from tests.faults.machine import Far

LOST = "the refresh token was spent, and the answer with the next one was lost"


def expired(far: Far, store: Store, folder: Path, name: str = NAME) -> str:
    """Store an account whose access token has expired; return its refresh token."""
    account = replace(far.account(folder).stored, name=name)
    Accounts(store).save(account, replaces=0)
    return held(account)


def held(account: Account | None) -> str:
    assert account is not None
    assert account.tokens.refresh_token is not None
    return account.tokens.refresh_token.reveal()


def went_well(said: Said, far: Far, store: Store, name: str = NAME) -> None:
    """Check that the token is good, the stored refresh token too, and nothing is left in doubt."""
    assert said.error is None, said
    assert said.token is not None
    assert far.takes(said.token)
    stored = Accounts(store).load(name)
    assert stored is not None
    assert stored.tokens.access_token.reveal() == said.token
    assert far.would_refresh(held(stored))
    assert nothing_left(store, name)
    assert store.trouble(name) is None or store.trouble(name).generation < stored.generation  # type: ignore[union-attr]


def test_refresh(far: Far, store: Store, start: Start, tmp_path: Path) -> None:
    """An expired token is refreshed with one spend, and from then on everybody has the new one without any."""
    refresh_token = expired(far, store, tmp_path)
    said = start().run(work.token)
    went_well(said, far, store)
    for other in (start(), start("two" if store.shared else "one")):
        again = other.run(work.token)
        assert again.token == said.token
        assert not {call for call in again.calls if call.startswith(("journal.", "lock."))}
    assert far.presented(refresh_token) == 1
    stored = Accounts(store).load(NAME)
    assert stored is not None
    assert stored.generation == 2


def test_many_refreshes(far: Far, store: Store, start: Start, tmp_path: Path) -> None:
    """Refresh after refresh by one process and another goes well, each by one spend."""
    expired(far, store, tmp_path)
    processes = [start(), start()]
    for number in range(6):
        before = Accounts(store).load(NAME)
        presented = far.presented(held(before))
        said = processes[number % 2].run(work.token, force=True)
        assert far.presented(held(before)) == presented + 1
        went_well(said, far, store)


@pytest.mark.parametrize("machines", [["one"], ["one", "two"]], ids=["machine", "machines"])
def test_processes_on_one_expired_token(
    machines: list[str], far: Far, store: Store, start: Start, tmp_path: Path
) -> None:
    """Eight processes ask at once for what has expired: one spend, and all get what it got."""
    if len(machines) > 1 and not store.shared:
        pytest.skip("one machine alone uses this store")
    refresh_token = expired(far, store, tmp_path)
    processes = [start(machine) for machine in machines * (8 // len(machines))]
    moment = time.monotonic() + 0.05
    said = [one.result() for one in [process.begin(work.token, moment=moment) for process in processes]]
    assert {one.error for one in said} == {None}, said
    assert len({one.token for one in said}) == 1
    assert far.presented(refresh_token) == 1
    went_well(said[0], far, store)


def calls_of_a_refresh(far: Far, store: Store, start: Start, tmp_path: Path) -> list[str]:
    expired(far, store, tmp_path, "calm")
    said = start().run(work.token, "calm")
    assert said.error is None
    return list(said.calls)


def killed(process: Process, name: str, fault: Fault) -> None:
    """Let it refresh, and be killed by this fault."""
    process.begin(work.token, name, fault)
    assert process.end() == signal.SIGKILL


@pytest.mark.parametrize("grace", [False, True], ids=["strict", "grace"])
def test_killed_at_every_call(
    grace: bool, far: Far, forgiving: Far, store: Store, place: Place, start: Start, tmp_path: Path
) -> None:
    """Killed at any call, a refresh is settled by the next process; only an answer that was not kept can be lost."""
    server = forgiving if grace else far
    calls = calls_of_a_refresh(server, store, start, tmp_path)
    assert calls.index("journal.prove") < calls.index("journal.arm") < calls.index("journal.stage")
    assert calls.index("journal.sync") < last(calls, "store.write") < last(calls, "journal.clear")
    sent, kept = 2 * calls.index("journal.stage"), 2 * calls.index("journal.sync") + 1
    for point in range(2 * calls.index("journal.arm") if grace else 0, kept + 1 if grace else 2 * len(calls)):
        number, when = point // 2, ("before", "after")[point % 2]
        name = f"{when}-{number}"
        refresh_token = expired(server, store, tmp_path, name)
        killed(start(), name, Fault(number + 1, when))
        assert server.presented(refresh_token) == int(point >= sent), (when, calls[number])
        place.after_lease()
        next_one = start()
        said = next_one.run(work.token, name)
        is_in_doubt = sent <= point < kept
        if said.error is None or grace or not is_in_doubt:
            if point > 2 * last(calls, "store.write") and not nothing_left(store, name):
                said = next_one.run(work.token, name, force=True)  # it is about an older generation by now
            went_well(said, server, store, name)
            assert server.presented(refresh_token) <= (2 if is_in_doubt else 1), (when, calls[number])
        else:
            lost(said, server, store, name, refresh_token)
            lost(next_one.run(work.token, name), server, store, name, refresh_token)
        next_one.kill()  # a server takes only so many at once


def last(calls: list[str], call: str) -> int:
    return len(calls) - 1 - calls[::-1].index(call)


def lost(said: Said, far: Far, store: Store, name: str, refresh_token: str) -> None:
    """Check that it says so, that it is sent no more, and that nothing was deleted because a refresh failed."""
    assert (said.error, said.message[: len(LOST)]) == ("LoginRequired", LOST), said
    assert far.presented(refresh_token) == 2
    assert held(Accounts(store).load(name)) == refresh_token
    assert nothing_left(store, name)


@pytest.mark.parametrize("call", ["journal.arm", "journal.sync"])
def test_a_stopped_sender(call: str, far: Far, store: Store, start: Start, tmp_path: Path) -> None:
    """While a sender is stopped others are told that the account is busy; when it goes on, all is well."""
    number = calls_of_a_refresh(far, store, start, tmp_path).index(call) + 1
    refresh_token = expired(far, store, tmp_path)
    sender = start()
    sending = sender.begin(work.token, fault=Fault(number, "after", signal.SIGSTOP))
    sender.until_stopped()
    presented = far.presented(refresh_token)
    busy = start().run(work.token, lock_timeout=0.2)
    assert (busy.token, busy.error) == (None, "StoreBusy")
    assert far.presented(refresh_token) == presented
    sender.signal(signal.SIGCONT)
    went_well(sending.result(), far, store)
    assert far.presented(refresh_token) == 1


def test_waiters_take_over(far: Far, store: Store, place: Place, start: Start, tmp_path: Path) -> None:
    """A sender is killed before it sent anything while five wait: one of them spends, all get that."""
    number = calls_of_a_refresh(far, store, start, tmp_path).index("journal.prove") + 1
    refresh_token = expired(far, store, tmp_path)
    sender = start()
    sender.begin(work.token, fault=Fault(number, "after", signal.SIGSTOP))
    sender.until_stopped()
    waiting = [start().begin(work.token) for _ in range(5)]
    time.sleep(0.2)
    sender.kill()
    place.after_lease()
    said = [one.result() for one in waiting]
    assert {one.error for one in said} == {None}, said
    assert len({one.token for one in said}) == 1
    assert far.presented(refresh_token) == 1
    went_well(said[0], far, store)


def test_a_store_that_cannot_be_written(far: Far, store: Store, place: Place, start: Start, tmp_path: Path) -> None:
    """Where nothing can be written no refresh token is sent, and later it is, once."""
    refresh_token = expired(far, store, tmp_path)
    other = start()
    assert other.store.names() == [NAME]
    with place.unavailable():
        said = other.run(work.token)
        assert said.token is None
        assert said.error in ("StoreNotWritable", "StoreError", "StoreUnsafe", "LoginRequired"), said
    assert far.presented(refresh_token) == 0
    went_well(start().run(work.token), far, store)
    assert far.presented(refresh_token) == 1


def test_a_server_that_refuses(far: Far, store: Store, start: Start, tmp_path: Path) -> None:
    """A refresh token that was refused is kept, noted, and never sent again by anybody."""
    refresh_token = expired(far, store, tmp_path)
    first = start().run(work.token)
    assert first.error is None
    stored = Accounts(store).load(NAME)
    assert stored is not None
    spent = replace(
        stored, tokens=replace(stored.tokens, refresh_token=type(stored.tokens.access_token)(refresh_token))
    )
    Accounts(store).save(spent, replaces=stored.generation)
    for presented in (2, 2):
        said = start().run(work.token, force=True)
        assert said.error == "LoginRequired"
        assert far.presented(refresh_token) == presented
    assert held(Accounts(store).load(NAME)) == refresh_token
    trouble = store.trouble(NAME)
    assert trouble is not None
    assert trouble.refused
    assert nothing_left(store)


# -- logins


def test_a_killed_login(far: Far, store: Store, place: Place, start: Start, tmp_path: Path) -> None:
    """The tokens of a login that was killed when they had come are adopted by the next command, once."""
    issued = replace(far.account(tmp_path).stored, name=NAME)
    answer = json.dumps(
        {
            "access_token": issued.tokens.access_token.reveal(),
            "refresh_token": held(issued),
            "token_type": "Bearer",
            "expires_in": 3600,
        }
    ).encode()
    grant = Grant(account=NAME, registration=issued.registration, client_secret=issued.client_secret)
    process = start()
    process.run(work.arm, intent_of(grant, clock.now()), answer=answer)
    before = start().run(work.token)
    assert before.error == "LoginRequired"
    process.kill()
    place.after_lease()
    said = start().run(work.token)
    assert said.token == issued.tokens.access_token.reveal()
    assert far.presented(held(issued)) == 0
    assert list(store.login_journals(NAME)) == []
    assert start().run(work.token).token == said.token
    went_well(start().run(work.token, force=True), far, store)


def test_a_login_beside_a_refresh(far: Far, store: Store, start: Start, tmp_path: Path) -> None:
    """A login that waits for its person holds up no refresh of the same account."""
    refresh_token = expired(far, store, tmp_path)
    process = start()
    process.run(work.arm, replace(work.INTENT, generation=0, digest="", grant={}))
    with process.store.login_lock(NAME) as lock:
        assert lock.try_acquire()
        said = start().run(work.token, lock_timeout=5)
        went_well(said, far, store)
    assert far.presented(refresh_token) == 1


# -- logouts


def test_a_logout_while_a_refresh_waits(far: Far, store: Store, start: Start, tmp_path: Path) -> None:
    """Who has waited for a logout finds no account, sends nothing, and brings none back."""
    refresh_token = expired(far, store, tmp_path)
    with store.lock(NAME) as lock:
        assert lock.try_acquire()
        waiting = start().begin(work.token)
        time.sleep(0.2)
        assert store.remove(NAME)
    said = waiting.result()
    assert said.error == "LoginRequired"
    assert far.presented(refresh_token) == 0
    assert store.names() == []
    assert nothing_left(store)


def test_a_logout_while_a_refresh_sends(far: Far, store: Store, start: Start, tmp_path: Path) -> None:
    """A logout waits for a refresh that is under way, and then removes what came of it."""
    number = calls_of_a_refresh(far, store, start, tmp_path).index("journal.arm") + 1
    expired(far, store, tmp_path)
    sender = start()
    sending = sender.begin(work.token, fault=Fault(number, "after", signal.SIGSTOP))
    sender.until_stopped()
    with pytest.raises(StoreBusy):
        start().run(work.log_out, lock_timeout=0.2)
    assert NAME in store.names()
    leaving = start().begin(work.log_out)
    sender.signal(signal.SIGCONT)
    assert sending.result().error in (None, "LoginRequired")
    assert leaving.result() is True
    assert NAME not in store.names()
    assert nothing_left(store)


def test_a_logout_after_a_kill(far: Far, store: Store, place: Place, start: Start, tmp_path: Path) -> None:
    """A logout takes what a killed refresh has left with it: a login that comes after it finds nothing of that."""
    calls = calls_of_a_refresh(far, store, start, tmp_path)
    expired(far, store, tmp_path)
    killed(start(), NAME, Fault(calls.index("journal.sync") + 1, "after"))
    place.after_lease()
    assert start().run(work.log_out)
    assert NAME not in store.names()
    assert nothing_left(store)
    expired(far, store, tmp_path)
    assert nothing_left(store)
    went_well(start().run(work.token), far, store)
