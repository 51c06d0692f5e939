"""The journals of logins: one for each, listed while it is left, and nobody else's while its login lives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loopback_auth.store.base import Intent, Store
from tests.conformance import work
from tests.conformance.conftest import Start
from tests.conformance.place import Place
from tests.conformance.work import ANSWER, INTENT, NAME, nothing_left, record

LOGINS = [replace(INTENT, generation=0, digest="", grant={"account": NAME, "force": n}) for n in range(3)]


def left(store: Store) -> list[tuple[Intent | None, bytes]]:
    """Return what is found in those that can be opened, in an order of our own; they stay as they are."""
    found = []
    for login in store.login_journals(NAME):
        with login as journal:
            if journal.try_open():
                found.append((journal.intent, journal.answer))
    return sorted(found, key=repr)


def test_under_way(store: Store, start: Start) -> None:
    """A login that is under way can be opened by nobody, and leaves nothing when it was cleared."""
    other = start()
    with other.store.login_journal(NAME) as login:
        login.prove()
        login.arm(LOGINS[0])
        assert left(store) == left(start().store) == []
        login.stage(ANSWER)
        login.sync()
        assert (login.intent, login.answer) == (LOGINS[0], ANSWER)
        assert left(store) == left(start().store) == []
        login.clear()
    assert list(store.login_journals(NAME)) == []


def test_never_armed(store: Store, start: Start) -> None:
    """A login that ended before it was armed is not listed, and one that never began neither."""
    with store.login_journal(NAME):
        pass
    with store.login_journal(NAME) as login:
        login.prove()
    assert list(store.login_journals(NAME)) == []
    assert list(start().store.login_journals(NAME)) == []
    assert store.names() == []


def test_several(store: Store, place: Place, start: Start) -> None:
    """Several logins of one account are several journals: each is found as its own process left it."""
    logins = [start() for _ in LOGINS]
    for process, intent in zip(logins, LOGINS, strict=True):
        process.run(work.arm, intent, answer=b"%d" % id(intent))
    for process in logins[:2]:
        process.kill()
    place.after_lease()
    assert left(store) == [(intent, b"%d" % id(intent)) for intent in LOGINS[:2]]
    logins[2].kill()
    place.after_lease()
    assert left(start().store) == [(intent, b"%d" % id(intent)) for intent in LOGINS]


def test_left_by_its_context(store: Store, start: Start) -> None:
    """A login whose tokens could not be stored leaves its journal to whoever comes next, its own process among them."""
    process = start()
    process.run(work.arm, LOGINS[0], answer=ANSWER)
    assert left(store) == []
    process.run(work.close)
    assert left(store) == [(LOGINS[0], ANSWER)]
    assert left(process.store) == [(LOGINS[0], ANSWER)]


def test_cleared(store: Store, place: Place, start: Start) -> None:
    """Who takes over what a login left, and clears it, takes that one alone; it is listed no more."""
    for intent in LOGINS:
        process = start()
        process.run(work.arm, intent, answer=ANSWER)
        process.kill()
    place.after_lease()
    for login in store.login_journals(NAME):
        with login as journal:
            assert journal.try_open()
            if journal.intent == LOGINS[1]:
                journal.clear()
    assert left(start().store) == [(LOGINS[0], ANSWER), (LOGINS[2], ANSWER)]
    assert len(store.login_journals(NAME)) == 2


def test_one_takes_over(store: Store, place: Place, start: Start) -> None:
    """What a login left can be open in one process at a time; who opens it and goes leaves it as it was."""
    process = start()
    process.run(work.arm, LOGINS[0], answer=ANSWER)
    process.kill()
    place.after_lease()
    (login,) = store.login_journals(NAME)
    with login as journal:
        assert journal.try_open()
        assert left(start().store) == []
    assert left(start().store) == [(LOGINS[0], ANSWER)]


def test_listed_and_gone(store: Store, place: Place, start: Start) -> None:
    """A journal that another has cleared since it was listed holds nothing."""
    process = start()
    process.run(work.arm, LOGINS[0], answer=ANSWER)
    process.kill()
    place.after_lease()
    (listed,) = store.login_journals(NAME)
    (login,) = start().store.login_journals(NAME)
    with login as journal:
        assert journal.try_open()
        journal.clear()
    with listed as journal:
        assert not journal.try_open() or (journal.intent, journal.answer) == (None, b"")
        if journal.try_open():
            journal.clear()
    assert list(store.login_journals(NAME)) == []


def test_beside_a_refresh(store: Store, place: Place, start: Start) -> None:
    """Logins and refreshes of an account stand in each other's way at no point, and are told apart."""
    store.write(NAME, record(), 0)
    logging_in = start()
    logging_in.run(work.arm, LOGINS[0], answer=b"login")
    refreshing = start()
    refreshing.run(work.arm, INTENT, answer=b"refresh")
    assert left(store) == []
    logging_in.kill()
    place.after_lease()
    assert left(store) == [(LOGINS[0], b"login")]
    with store.journal(NAME) as journal:
        if not store.shared:  # a lease may have run out by now
            assert not journal.try_open()
    refreshing.kill()
    place.after_lease()
    with store.journal(NAME) as journal:
        assert journal.try_open()
        assert (journal.intent, journal.answer) == (INTENT, b"refresh")
        journal.clear()
    assert left(store) == [(LOGINS[0], b"login")]
    for login in store.login_journals(NAME):
        with login as journal:
            assert journal.try_open()
            journal.clear()
    assert nothing_left(store)


def test_of_another_account(store: Store, start: Start) -> None:
    """A login belongs to its account, and to none whose name begins alike."""
    other = start()
    other.run(work.arm, LOGINS[0], answer=ANSWER)
    other.kill()
    for name in ("cafe", NAME + "-2", "cafe_roma", "other"):
        assert list(store.login_journals(name)) == []


@pytest.mark.parametrize("times", [1, 2])
def test_withdrawn(times: int, store: Store) -> None:
    """A login whose code was not taken is withdrawn, as often as it was sent, and leaves nothing."""
    with store.login_journal(NAME) as login:
        for _ in range(times):
            login.prove()
            login.arm(LOGINS[0])
        assert login.intent == replace(LOGINS[0], sendings=times)
        for _ in range(times):
            login.withdraw()
    assert left(store) == []
    assert list(store.login_journals(NAME)) == []
