"""The two locks of an account: each excludes all others, and ends with its holder."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from loopback_auth.store.base import Lock, Store
from tests.conformance.conftest import Start
from tests.conformance.place import Place
from tests.conformance.work import NAME

Taking = Callable[[Store, str], AbstractContextManager[Lock]]
LOCKS: dict[str, Taking] = {
    "lock": lambda store, name: store.lock(name),
    "login": lambda store, name: store.login_lock(name),
}


@pytest.fixture(params=LOCKS)
def taking(request: pytest.FixtureRequest, store: Store) -> Taking:
    """Returns one of the two locks; the store is proven before a login's is asked for."""

    def taken(of: Store, name: str) -> AbstractContextManager[Lock]:
        with store.login_journal(name) as journal:
            journal.prove()
        return LOCKS[request.param](of, name)

    return taken


def is_free(taking: Taking, store: Store, name: str = NAME) -> bool:
    with taking(store, name) as lock:
        return lock.try_acquire()


def test_objects(taking: Taking, store: Store, place: Place) -> None:
    """Who holds the lock is told so again; nobody else in the process gets it until the context is left."""
    with taking(store, NAME) as lock:
        assert lock.try_acquire()
        assert lock.try_acquire()
        assert not is_free(taking, store)
        assert not is_free(taking, place.open())
        assert lock.try_acquire()
    assert is_free(taking, store)


def test_not_taken(taking: Taking, store: Store) -> None:
    """A lock that nobody has asked for is free, and one that was not got is not let go by who did not get it."""
    with taking(store, NAME):
        assert is_free(taking, store)
        with taking(store, NAME) as lock:
            assert lock.try_acquire()
            assert not is_free(taking, store)
            assert not is_free(taking, store)


def test_threads(taking: Taking, store: Store) -> None:
    """Of many threads that ask at once one gets the lock."""
    with ThreadPoolExecutor(8) as pool:
        locks = [taking(store, NAME) for _ in range(8)]
        held = [lock.__enter__() for lock in locks]
        assert sum(pool.map(lambda lock: lock.try_acquire(), held)) == 1
        for lock in locks:
            lock.__exit__(None, None, None)
    assert is_free(taking, store)


def test_processes(taking: Taking, store: Store, start: Start) -> None:
    """Another process does not get the lock, at once, and gets it when it was let go."""
    other = start()
    with taking(other.store, NAME) as lock:
        assert lock.try_acquire()
        begun = time.monotonic()
        with taking(store, NAME) as ours:
            assert not ours.try_acquire()
            assert not ours.try_acquire()
            assert time.monotonic() - begun < 2
    with taking(store, NAME) as ours:
        assert ours.try_acquire()
        assert not is_free(taking, other.store)


def test_a_killed_holder(taking: Taking, store: Store, place: Place, start: Start) -> None:
    """The lock of a process that was killed is free."""
    other = start()
    with taking(other.store, NAME) as lock, taking(store, NAME) as ours:
        assert lock.try_acquire()
        assert not ours.try_acquire()
        other.kill()
        place.after_lease()
        assert ours.try_acquire()


def test_accounts(taking: Taking, store: Store) -> None:
    """Each account has a lock of its own, however alike the names are."""
    with taking(store, "cafe") as lock:
        assert lock.try_acquire()
        for name in ("cafe-roma", "cafe.", "caf_", "Bar", "lock"):
            assert is_free(taking, store, name)


def test_the_two_are_independent(store: Store, start: Start) -> None:
    """Whoever asks a person to log in holds up no refresh, and no refresh holds up a login."""
    other = start().store
    with store.login_journal(NAME) as journal:
        journal.prove()
    with other.login_lock(NAME) as login, store.lock(NAME) as ours:
        assert login.try_acquire()
        assert ours.try_acquire()
    with other.lock(NAME) as theirs, store.login_lock(NAME) as login:
        assert theirs.try_acquire()
        assert login.try_acquire()


def test_a_journal_is_no_lock(store: Store, start: Start) -> None:
    """What is sent by a login that is under way holds up neither lock."""
    other = start().store
    with other.login_journal(NAME) as journal:
        journal.prove()
        with store.lock(NAME) as lock, store.login_lock(NAME) as login:
            assert lock.try_acquire()
            assert login.try_acquire()
