"""Records: what was written is read, whole, under its own name, and no generation goes over another unseen."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from loopback_auth.errors import LoopbackAuthError, Overtaken, StoreError, StoreUnsafe
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Record, Store, Trouble
from tests.conformance.conftest import Start
from tests.conformance.place import Place
from tests.conformance.work import (
    INTENT,
    NAME,
    content,
    keep_reading,
    keep_writing,
    nothing_left,
    record,
    send,
    write_at,
)
from tests.store.accounts import account

TROUBLE = Trouble(generation=1, digest="5e" * 32, message="the token endpoint is on fire", at=1_700_000_000.5)


def test_nothing(store: Store) -> None:
    """An empty store has no names, nothing to read, no trouble, nothing in a journal, nothing to remove."""
    assert store.names() == []
    assert store.read(NAME) is None
    assert store.trouble(NAME) is None
    assert list(store.login_journals(NAME)) == []
    assert nothing_left(store)
    assert store.remove(NAME) is False
    assert store.names() == []


def test_address(store: Store) -> None:
    """The address says in one printable line where the secrets are."""
    assert store.address.isprintable()
    assert ":" in store.address
    assert isinstance(store.shared, bool)


@pytest.mark.parametrize("size", [0, 4096, 65_000])
def test_round_trip(size: int, store: Store, place: Place, start: Start) -> None:
    """What was written is read by everybody, byte for byte, with its generation."""
    written = record(7, size=size)
    store.write(NAME, written, 0)
    for other in (store, place.open(), start().store):
        found = other.read(NAME)
        assert found is not None
        assert (found.content, found.generation) == (written.content, 7)


@pytest.mark.parametrize(
    "strange",
    [
        b"",
        b"\n",
        b"no\nrecord of\r\nthis \x01 program\t\x7f",
        bytes(range(1, 128)),
        bytes(random.Random(1).choices(range(1, 128), k=65_536)),
    ],
    ids=["empty", "line", "lines", "all", "large"],
)
def test_any_bytes(strange: bytes, store: Store, place: Place) -> None:
    """A store need not understand what it keeps: any ASCII bytes come back as they were."""
    store.write(NAME, Record(strange, 3), 0)
    found = place.open().read(NAME)
    assert found is not None
    assert found.content == strange
    assert found.generation in (3, 0)  # 0: it has nothing but the content, which says nothing


def test_names(store: Store, start: Start) -> None:
    """Names are those of all accounts, sorted by code point, and each is an account of its own."""
    names = ["Zeta", "a", "a-b", "a.b", "a.lock", "a_b", "aXb", "0", "z" * 64, "tokens", "lock", "cafe", "cafe-roma"]
    for number, name in enumerate(names, 1):
        store.write(name, record(number, name), 0)
    assert store.names() == sorted(names)
    assert start().store.names() == sorted(names)
    for number, name in enumerate(names, 1):
        assert content(store, name) == record(number, name).content


@pytest.mark.parametrize("name", ["", "..", ".hidden", "-x", "a/b", "../a", "a b", "a\n", "ä", "a\0", "z" * 65, "%"])
def test_no_names(name: str, store: Store) -> None:
    """What is no account name is refused, whatever is asked under it."""
    for refused in (
        lambda: store.read(name),
        lambda: store.write(name, record(), 0),
        lambda: store.lock(name),
        lambda: store.login_lock(name),
        lambda: store.journal(name),
        lambda: store.login_journal(name),
    ):
        with pytest.raises(LoopbackAuthError):
            refused()
    assert store.names() == []


def test_neighbours(store: Store) -> None:
    """Removing an account leaves those alone whose names begin alike, or are alike to a pattern."""
    neighbours = ["cafe-roma", "cafe.", "cafeX", "caf", "c_fe", "cXfe"]
    for name in ["cafe", *neighbours]:
        store.write(name, record(1, name), 0)
        store.note(name, TROUBLE)
        with store.journal(name) as journal, store.login_journal(name) as login:
            send(journal, answer=b"one")
            send(login, replace(INTENT, grant={}), b"two")
    for gone in ("cafe", "c_fe"):
        with store.journal(gone) as journal:
            assert journal.try_open()
            assert store.remove(gone)
            journal.clear()
    for name in set(neighbours) - {"c_fe"}:
        assert content(store, name) == record(1, name).content
        assert store.trouble(name) == TROUBLE
        assert len(store.login_journals(name)) == 1
        with store.journal(name) as journal:
            assert journal.try_open()
            assert journal.intent == INTENT


def test_remove(store: Store, start: Start) -> None:
    """Removing takes record and trouble, and with the journal's clearing all that is in doubt; once."""
    store.write(NAME, record(), 0)
    store.note(NAME, TROUBLE)
    with store.journal(NAME) as journal:
        send(journal, answer=b"one")
    with store.login_journal(NAME) as login:
        send(login, replace(INTENT, grant={}), b"two")
    with store.journal(NAME) as journal:
        assert journal.try_open()
        assert store.remove(NAME) is True
        journal.clear()
    for other in (store, start().store):
        assert other.read(NAME) is None
        assert other.trouble(NAME) is None
        assert other.names() == []
        assert list(other.login_journals(NAME)) == []
        assert nothing_left(other)
        assert other.remove(NAME) is False


def test_remove_leaves_a_login_alone(store: Store, start: Start) -> None:
    """A login that is under way goes on when its account is removed, and its tokens are stored."""
    store.write(NAME, record(), 0)
    other = start()
    with other.store.login_journal(NAME) as login:
        send(login, replace(INTENT, grant={"a": 1}), b"answer")
        assert store.remove(NAME)
        assert login.answer == b"answer"
        (listed,) = store.login_journals(NAME)
        with listed as journal:
            assert not journal.try_open()
        other.store.write(NAME, record(1, text="new"), 0)
        login.clear()
    assert content(store) == record(1, text="new").content


# -- generations


@pytest.mark.parametrize(
    ("stands", "replaces"), [(None, 1), (None, 7), (2, 0), (2, 1), (2, 3)], ids=lambda value: str(value)
)
def test_overtaken(stands: int | None, replaces: int, store: Store, place: Place) -> None:
    """Where another generation stands there, or none, nothing is written, and what was there stays."""
    before = None
    if stands is not None:
        before = record(stands)
        store.write(NAME, before, 0)
    for new in (replaces + 1, replaces, stands or 1):
        with pytest.raises(Overtaken):
            store.write(NAME, record(new, text="new"), replaces)
    assert content(place.open()) == (before and before.content)
    assert store.names() == ([] if before is None else [NAME])


def test_next(store: Store) -> None:
    """A generation goes over the one it replaces, over itself, and over any that is said to stand there."""
    for generation, replaces, text in [(1, 0, "a"), (2, 1, "b"), (2, 2, "c"), (9, 2, "d"), (1, 9, "e")]:
        store.write(NAME, record(generation, text=text), replaces)
        assert content(store) == record(generation, text=text).content


def test_no_record_rises_again(store: Store, start: Start) -> None:
    """After an account was removed, who had read it before cannot write its next generation."""
    other = start().store
    store.write(NAME, record(4), 0)
    assert content(other)
    assert store.remove(NAME)
    with pytest.raises(Overtaken):
        other.write(NAME, record(5), 4)
    assert store.names() == other.names() == []
    store.write(NAME, record(1), 0)
    with pytest.raises(Overtaken):
        other.write(NAME, record(5), 4)
    assert content(other) == record(1).content


def test_many_write_the_next(store: Store, start: Start) -> None:
    """Of twenty processes that write one next generation under the account's lock, one succeeds."""
    store.write(NAME, record(1), 0)
    others = [start() for _ in range(20)]
    moment = time.monotonic() + 0.1
    begun = [
        other.begin(write_at, moment, record(2, text=f"of-{number}"), 1, lock=True)
        for number, other in enumerate(others)
    ]
    ended = [one.result() for one in begun]
    assert sorted(ended) == ["overtaken"] * 19 + ["written"]
    assert content(store) == record(2, text=f"of-{ended.index('written')}").content


def test_many_machines_write_the_next(store: Store, start: Start) -> None:
    """Where machines share the store, of many that write at once without any lock one succeeds, each time."""
    if not store.shared:
        pytest.skip("one machine alone uses this store, and its lock is held for that")
    store.write(NAME, record(1), 0)
    others = [start(machine) for machine in ("one", "two") * 5]
    for generation in range(1, 6):
        moment = time.monotonic() + 0.05
        begun = [other.begin(write_at, moment, record(generation + 1), generation, lock=False) for other in others]
        assert sorted(one.result() for one in begun) == ["overtaken"] * 9 + ["written"]


def test_many_write_the_first(store: Store, start: Start) -> None:
    """Of many processes that write the first record under the lock, one succeeds."""
    others = [start() for _ in range(6)]
    moment = time.monotonic() + 0.05
    begun = [other.begin(write_at, moment, record(1, text=f"of-{n}"), 0, lock=True) for n, other in enumerate(others)]
    ended = [one.result() for one in begun]
    assert sorted(ended) == ["overtaken"] * 5 + ["written"]
    assert content(store) == record(1, text=f"of-{ended.index('written')}").content


# -- whole or not at all


def test_a_reader_sees_whole_records(store: Store, start: Start) -> None:
    """Who reads while another writes two hundred times sees one of the records, and never a part or none."""
    records = [record(1, size=20_000), record(1, text="other", size=60_000)]
    store.write(NAME, records[0], 0)
    reader, writer = start(), start()
    until = writer.begin(keep_writing, records, 200)
    read = 0
    while not writer.has_ended_work():
        times, strange = reader.run(keep_reading, [one.content for one in records], 0.2)
        assert strange == []
        read += times
    until.result()
    assert read >= 3


def test_a_writer_is_killed(store: Store, start: Start) -> None:
    """A writer that is killed at any moment leaves the old record or the new one."""
    records = [record(1, size=60_000), record(1, text="other", size=30_000)]
    store.write(NAME, records[0], 0)
    dice = random.Random(2)
    for _ in range(20):
        writer = start()
        writer.begin(keep_writing, records, 10_000)
        time.sleep(0.01 + dice.random() / 50)
        writer.kill()
        assert content(store) in [one.content for one in records]
        assert store.names() == [NAME]
    store.write(NAME, record(2), 1)
    assert content(start().store) == record(2).content


def test_written_is_there_after_a_kill(store: Store, start: Start) -> None:
    """Once `write` and `remove` have returned, the end of the process changes nothing."""
    writer = start()
    writer.store.write(NAME, record(), 0)
    writer.kill()
    assert content(store) == record().content
    remover = start()
    remover.store.remove(NAME)
    remover.kill()
    assert content(store) is None


def test_threads(store: Store) -> None:
    """One store object serves several threads: who asks while another writes is answered, and right."""
    records = [record(1, size=20_000), record(1, text="other")]
    store.write(NAME, records[0], 0)
    with ThreadPoolExecutor(4) as pool:
        writing = pool.submit(keep_writing, store, records, 40)
        reading = [pool.submit(keep_reading, store, [one.content for one in records], 0.3) for _ in range(2)]
        while not writing.done():
            assert store.names() == [NAME]
            assert store.trouble(NAME) is None
            assert nothing_left(store)
            assert list(store.login_journals(NAME)) == []
        writing.result()
        assert [one.result()[1] for one in reading] == [[], []]


# -- age


@pytest.mark.parametrize("age", [0.0, 100.0, 86_400.0])
def test_age(age: float, store: Store, place: Place) -> None:
    """The age is none, or what it was when it was written and the seconds since."""
    begun = time.monotonic()
    store.write(NAME, replace(record(), age=age), 0)
    time.sleep(0.1)
    found = place.open().read(NAME)
    assert found is not None
    if found.age is not None:
        assert age + 0.09 <= found.age <= age + time.monotonic() - begun + 0.01


def test_no_age(store: Store) -> None:
    """A record that was written without an age is read without one, or with one that is not negative."""
    store.write(NAME, record(), 0)
    found = store.read(NAME)
    assert found is not None
    assert found.age is None or found.age >= 0


def test_age_starts_anew(store: Store) -> None:
    """The age is that of the record which stands there, not of the one before."""
    store.write(NAME, replace(record(1), age=5000.0), 0)
    store.write(NAME, replace(record(2), age=1.0), 1)
    found = store.read(NAME)
    assert found is not None
    assert found.age is None or 1 <= found.age < 60


# -- trouble


def test_trouble(store: Store, start: Start) -> None:
    """What was noted last is found by everybody, all of it, and is another account's no more than the record."""
    store.write(NAME, record(), 0)
    store.write("other", record(1, "other"), 0)
    store.note(NAME, TROUBLE)
    assert start().store.trouble(NAME) == TROUBLE
    refused = replace(TROUBLE, message='"é"\n', refused=True, not_before=1_700_000_900.0, generation=3, digest="")
    start().store.note(NAME, refused)
    assert store.trouble(NAME) == refused
    assert store.trouble("other") is None


def test_trouble_of_another_generation(store: Store) -> None:
    """Writing the next generation leaves the trouble of the last, or takes it; both say which one it was about."""
    store.write(NAME, record(1), 0)
    store.note(NAME, TROUBLE)
    store.write(NAME, record(2), 1)
    assert store.trouble(NAME) in (None, TROUBLE)


# -- what went wrong


def test_a_damaged_record(store: Store, place: Place) -> None:
    """A record that was damaged cannot be read as an account, and a new login replaces it."""
    store.write(NAME, record(3), 0)
    place.damage(NAME)
    store = place.open()
    assert store.names() == [NAME]
    with pytest.raises(StoreError):
        Accounts(store).load(NAME)
    generation = 0
    with suppress(StoreUnsafe):
        generation = Accounts(store).generation(NAME)
    Accounts(store).save(account(NAME, generation=generation + 1), replaces=generation)
    assert Accounts(store).load(NAME)


def test_a_damaged_record_can_be_removed(store: Store, place: Place) -> None:
    """A record that was damaged can be removed."""
    store.write(NAME, record(3), 0)
    place.damage(NAME)
    store = place.open()
    assert store.remove(NAME)
    assert store.names() == []


def test_not_writable(store: Store, place: Place, start: Start) -> None:
    """While nothing can be written, that is a StoreError, and afterwards all is as it was."""
    store.write(NAME, record(1), 0)
    other = start().store
    with place.unavailable():
        for one in (store, other):
            with pytest.raises(StoreError):
                one.write(NAME, record(2), 1)
            with pytest.raises(StoreError):
                one.note(NAME, TROUBLE)
            with pytest.raises(StoreError):
                one.login_journal(NAME).__enter__().prove()
    assert content(store) == record(1).content
    other.write(NAME, record(2), 1)
    assert content(store) == record(2).content
