"""The journal of a refresh: what one process sends, the next one knows, and nobody sends beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import replace

import pytest

from loopback_auth.clock import Moment
from loopback_auth.errors import Overtaken, StoreBusy, StoreError, StoreNotWritable
from loopback_auth.store.base import STAGE_LIMIT, Journal, Store
from tests.conformance import work
from tests.conformance.conftest import Start
from tests.conformance.place import Place
from tests.conformance.process import Process
from tests.conformance.work import ANSWER, INTENT, NAME, nothing_left, record, send

SECOND = replace(INTENT, armed=Moment(1_700_000_002.5, INTENT.armed.boot_id, 4714.0))


@pytest.fixture
def store(store: Store) -> Store:
    """The store, with an account in it."""
    store.write(NAME, record(1), 0)
    return store


def others(store: Store, start: Start) -> list[Process]:
    """Return a process beside the one that sends; where machines share the store, one of another machine too."""
    return [start()] + ([start("two")] if store.shared else [])


def is_open_to(store: Store) -> bool:
    with store.journal(NAME) as journal:
        return journal.try_open()


def found(store: Store) -> tuple[object, bytes]:
    """Return what the next one finds: the intent, and the answer."""
    with store.journal(NAME) as journal:
        assert journal.try_open()
        journal.tidy()
        return journal.intent, journal.answer


# -- one process alone


def test_empty(store: Store) -> None:
    """A journal of which nothing is known opens, again and again, and holds nothing."""
    for _ in range(2):
        with store.journal(NAME) as journal:
            assert journal.try_open()
            assert journal.try_open()
            assert (journal.intent, journal.answer) == (None, b"")
            journal.tidy()
            assert journal.try_open()
            assert (journal.intent, journal.answer) == (None, b"")
            assert journal.news is None or isinstance(journal.news, int)


def test_no_account_yet(place: Place) -> None:
    """A journal that is armed under a name which has no account makes none of it; it may refuse."""
    store = place.open()
    with store.journal("new") as journal, contextlib.suppress(Overtaken):
        send(journal, answer=b"one")
        journal.clear()
    assert store.names() == []
    assert store.read("new") is None


def test_proven_and_no_more(store: Store, start: Start) -> None:
    """Proving alone leaves nothing behind."""
    other = start()
    with other.store.journal(NAME) as journal:
        assert journal.try_open()
        journal.tidy()
        journal.prove()
        assert (journal.intent, journal.answer) == (None, b"")
    for one in (store, other.store):
        assert nothing_left(one)
        assert list(one.login_journals(NAME)) == []
    assert work.content(store) == record(1).content


def test_proven_and_killed(store: Store, place: Place, start: Start) -> None:
    """A process that is killed when it has proven leaves nothing that anybody finds, or is held up by."""
    other = start()
    with other.store.journal(NAME) as journal:
        assert journal.try_open()
        journal.prove()
        other.kill()
    place.after_lease()
    assert found(store) == (None, b"")
    with store.journal(NAME) as journal:
        send(journal, answer=b"one")
        assert journal.answer == b"one"


def test_own_view(store: Store) -> None:
    """Who sends sees its intent and the answer as far as it has come."""
    with store.journal(NAME) as journal:
        send(journal, INTENT)
        assert journal.intent == INTENT
        assert journal.answer == b""
        journal.stage(b"one ")
        assert journal.answer == b"one "
        journal.stage(b"")
        journal.stage(b"two")
        assert journal.answer == b"one two"
        journal.sync()
        journal.stage(b" three")
        assert journal.answer == b"one two three"
        journal.sync()
        assert journal.answer == b"one two three"
        assert journal.try_open()


# -- while its sender lives


def test_shut_while_its_sender_lives(store: Store, place: Place, start: Start) -> None:
    """From arming on nobody else opens the journal, however far its sender is, until it is cleared."""
    sender = start()
    watching = [store, place.open(), *(one.store for one in others(store, start))]

    def shut() -> bool:
        return not any(is_open_to(one) for one in watching)

    with sender.store.journal(NAME) as journal:
        assert journal.try_open()
        journal.prove()
        journal.arm(INTENT)
        assert shut()
        journal.stage(ANSWER)
        assert shut()
        journal.sync()
        assert shut()
        assert journal.answer == ANSWER
        sender.store.write(NAME, record(2), 1)
        journal.clear()
    assert all(nothing_left(one) for one in watching)


def test_shut_while_its_sender_is_stopped(store: Store, start: Start) -> None:
    """A sender that is stopped has not ended: nobody opens its journal, and it goes on as if nothing had been."""
    sender = start()
    sender.run(work.arm, answer=ANSWER)
    sender.signal(signal.SIGSTOP)
    assert not is_open_to(store)
    assert not is_open_to(start().store)
    sender.signal(signal.SIGCONT)
    sender.run(work.close)
    assert found(store) == (INTENT, ANSWER)


def test_left_open_by_its_context(store: Store, start: Start) -> None:
    """Who leaves the context without clearing lets others open it, at once, and they find what is in doubt."""
    sender = start()
    sender.run(work.arm, answer=ANSWER)
    assert not is_open_to(store)
    sender.run(work.close)
    assert found(store) == (INTENT, ANSWER)
    assert found(sender.store) == (INTENT, ANSWER)
    assert found(start().store) == (INTENT, ANSWER)


def test_news(store: Store, start: Start) -> None:
    """Where there is a descriptor to wait at, it can be read once the journal was cleared."""
    import select

    sender = start()
    sender.run(work.arm)
    with store.journal(NAME) as journal:
        assert not journal.try_open()
        news = journal.news
        sender.run(work.clear)
        if news is not None:
            assert select.select([news], [], [], 5)[0]
        assert until_open(journal)


def until_open(journal: Journal, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not journal.try_open():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# -- when its sender was killed


@pytest.mark.parametrize("grant", [None, {"account": "é", "registration": {"server": {"name": None}}, "force": True}])
def test_killed_after_arming(grant: dict[str, object] | None, store: Store, place: Place, start: Start) -> None:
    """The next one finds the intent with all that was in it, and no answer."""
    intent = replace(INTENT, generation=41, digest="ab" * 32, grant=grant)
    sender = start()
    with sender.store.journal(NAME) as journal:
        assert journal.try_open()
        journal.prove()
        journal.arm(intent)
        sender.kill()
    place.after_lease()
    for one in (store, *(other.store for other in others(store, start))):
        assert found(one) == (intent, b"")


@pytest.mark.parametrize(
    ("size", "piece"), [(1, 1), (3000, 1), (3000, 1000), (STAGE_LIMIT, 1000), (STAGE_LIMIT, STAGE_LIMIT)]
)
def test_killed_after_syncing(size: int, piece: int, store: Store, place: Place, start: Start) -> None:
    """The next one finds the answer byte for byte, whatever bytes they are, however they came."""
    size = min(size, place.answer_limit)
    answer = (bytes(range(1, 256)) * (size // 255 + 1))[:size]
    sender = start()
    sender.run(work.arm, answer=answer, piece=piece)
    sender.kill()
    place.after_lease()
    assert found(store) == (INTENT, answer)


def test_more_than_fits(store: Store, place: Place, start: Start) -> None:
    """What comes beyond the limit is let go of, and staging it is no error."""
    sender = start()
    sender.run(work.arm, answer=b"a" * (place.answer_limit + 5000), piece=7000)
    sender.kill()
    place.after_lease()
    assert found(store) == (INTENT, b"a" * place.answer_limit)


def test_killed_before_syncing(store: Store, place: Place, start: Start) -> None:
    """Of what was staged and not synced the next one finds the beginning, all or nothing, and nothing else."""
    for answer in (ANSWER, b"a" * 10_000):
        sender = start()
        sender.run(work.arm, answer=answer, sync=False, piece=100)
        sender.kill()
        place.after_lease()
        with store.journal(NAME) as journal:
            assert journal.try_open()
            journal.tidy()
            assert journal.intent == INTENT
            assert answer.startswith(journal.answer)
            journal.clear()


def test_synced_and_more(store: Store, place: Place, start: Start) -> None:
    """What was synced is found, whatever was staged after it."""
    sender = start()
    with sender.store.journal(NAME) as journal:
        assert journal.try_open()
        journal.prove()
        journal.arm(INTENT)
        journal.stage(b"one ")
        journal.sync()
        journal.stage(b"two")
        sender.kill()
    place.after_lease()
    assert found(store)[1] in (b"one ", b"one t", b"one tw", b"one two")


def test_synced_again(store: Store, place: Place, start: Start) -> None:
    """What came after the first sync is found, too, if it was synced."""
    sender = start()
    with sender.store.journal(NAME) as journal:
        send(journal, INTENT, b"one ")
        journal.stage(b"two")
        journal.sync()
        sender.kill()
    place.after_lease()
    assert found(store) == (INTENT, b"one two")


def test_looking_changes_nothing(store: Store, place: Place, start: Start) -> None:
    """Who opens what was left, and is killed or goes away, leaves it as it was."""
    sender = start()
    sender.run(work.arm, answer=ANSWER)
    sender.kill()
    place.after_lease()
    looking = start()
    with looking.store.journal(NAME) as journal:
        assert journal.try_open()
        assert store.shared or not is_open_to(store)
        assert journal.intent == INTENT
        looking.kill()
    place.after_lease()
    assert found(store) == found(store) == (INTENT, ANSWER)


def test_one_takes_over(store: Store, place: Place, start: Start) -> None:
    """What was left can be open in one process at a time, where the system says who lives."""
    if store.shared:
        pytest.skip("two that send at once are told apart by `arm`, see below")
    sender = start()
    sender.run(work.arm, answer=ANSWER)
    sender.kill()
    place.after_lease()
    with store.journal(NAME) as ours:
        assert ours.try_open()
        for other in others(store, start):
            assert not is_open_to(other.store)
        assert (ours.intent, ours.answer) == (INTENT, ANSWER)
    assert found(start().store) == (INTENT, ANSWER)


# -- sending again


def test_sent_twice(store: Store, place: Place, start: Start) -> None:
    """Who sends the same again counts two sendings, and begins a new answer."""
    with store.journal(NAME) as journal:
        send(journal, INTENT, b"what was of no use")
        journal.prove()
        assert journal.answer == b""
        assert journal.intent == INTENT
        journal.arm(SECOND)
        assert journal.intent == replace(SECOND, sendings=2)
        journal.stage(ANSWER)
        journal.sync()
    assert found(start().store) == (replace(SECOND, sendings=2), ANSWER)


def test_sent_twice_by_two(store: Store, place: Place, start: Start) -> None:
    """The count of sendings outlives who sent; what the second one had proven and not sent does not count."""
    first = start()
    first.run(work.arm, answer=b"what was of no use")
    first.kill()
    place.after_lease()
    second = start()
    with second.store.journal(NAME) as journal:
        assert journal.try_open()
        journal.prove()
        second.kill()
    place.after_lease()
    third = start()
    third.run(work.arm, SECOND, answer=b"none too")
    third.kill()
    place.after_lease()
    with store.journal(NAME) as journal:
        assert journal.try_open()
        assert (journal.intent, journal.answer) == (replace(SECOND, sendings=2), b"none too")
        journal.prove()
        journal.arm(INTENT)
        assert journal.intent == replace(INTENT, sendings=3)


def test_withdrawn(store: Store, start: Start) -> None:
    """What was withdrawn was never sent: nothing is in doubt."""
    with store.journal(NAME) as journal:
        send(journal, answer=b'{"error": "invalid_client"}')
        journal.withdraw()
        assert journal.intent is None
    assert nothing_left(store)
    assert nothing_left(start().store)


def test_withdrawn_after_two(store: Store, start: Start) -> None:
    """Withdrawing takes back the last sending, and the one before stays in doubt, as it was."""
    with store.journal(NAME) as journal:
        send(journal, INTENT)
        journal.prove()
        journal.arm(SECOND)
        journal.withdraw()
        assert journal.intent == INTENT
    assert found(store)[0] == INTENT
    other = start()
    with other.store.journal(NAME) as journal:
        assert journal.try_open()
        assert journal.intent == INTENT
        journal.prove()
        journal.arm(SECOND)
        assert journal.intent == replace(SECOND, sendings=2)
        journal.withdraw()
        journal.withdraw()
    assert nothing_left(store)


def test_again_after_withdrawing(store: Store) -> None:
    """After a withdrawal the same journal can be proven and armed anew."""
    with store.journal(NAME) as journal:
        send(journal, INTENT, b"one")
        journal.withdraw()
        journal.prove()
        journal.arm(SECOND)
        assert (journal.intent, journal.answer) == (SECOND, b"")
        journal.stage(ANSWER)
        journal.sync()
    assert found(store) == (SECOND, ANSWER)


# -- two at once


def test_overtaken(store: Store, place: Place, start: Start) -> None:
    """Where two that both hold a lock get as far as sending, one is told that it was overtaken, and sends nothing."""
    first, second = start(), start("two" if store.shared else "one")
    with first.store.journal(NAME) as ours, second.store.journal(NAME) as theirs:
        assert ours.try_open()
        theirs.try_open()
        ours.prove()
        is_armed = False
        with pytest.raises(StoreBusy):
            theirs.prove()
            ours.arm(INTENT)
            is_armed = True
            theirs.arm(SECOND)
        if not is_armed:
            ours.arm(INTENT)
        ours.stage(ANSWER)
        ours.sync()
        first.kill()
    place.after_lease()
    assert found(store) == (INTENT, ANSWER)


def test_overtaken_by_one_that_left(store: Store, start: Start) -> None:
    """Who proves when another has armed is told so, and leaves what the other did as it is."""
    sender = start()
    sender.run(work.arm, answer=ANSWER)
    for other in others(store, start):
        with other.store.journal(NAME) as journal:
            assert not journal.try_open()
            with pytest.raises(StoreBusy):
                journal.prove()
                journal.arm(SECOND)
            assert not is_open_to(store)
    sender.run(work.close)
    assert found(store) == (INTENT, ANSWER)


def test_many_at_once(store: Store, start: Start) -> None:
    """Of many processes that prove and arm at one moment, whatever the lock is worth, at most one may send."""
    for _ in range(3):
        racing = [start() for _ in range(6)]
        moment = time.monotonic() + 0.05
        begun = [one.begin(work.arm_at, moment) for one in racing]
        ended = [one.result() for one in begun]
        assert ended.count("armed") <= 1
        assert set(ended) <= {"armed", "busy"}
        if "armed" in ended:
            assert not is_open_to(store)
            racing[ended.index("armed")].run(work.clear)
        assert nothing_left(store)


# -- clearing


def test_cleared(store: Store, place: Place, start: Start) -> None:
    """Once it was cleared nothing is left for anybody, even if that process is killed at once."""
    sender = start()
    with sender.store.journal(NAME) as journal:
        send(journal, INTENT, b"of no use")
        journal.prove()
        journal.arm(SECOND)
        journal.stage(ANSWER)
        journal.sync()
        sender.store.write(NAME, record(2), 1)
        journal.clear()
        assert (journal.intent, journal.answer) == (None, b"")
        sender.kill()
    place.after_lease()
    assert found(store) == (None, b"")
    assert nothing_left(start().store)
    assert work.content(store) == record(2).content


def test_cleared_twice(store: Store) -> None:
    """Clearing what is clear, or was never opened by anybody, is no error."""
    with store.journal(NAME) as journal:
        assert journal.try_open()
        journal.clear()
        send(journal)
        journal.clear()
        journal.clear()
    assert nothing_left(store)


def test_next_refresh(store: Store, start: Start) -> None:
    """A journal that was cleared serves the next refresh, which counts anew."""
    for generation in (1, 2, 3):
        other = start()
        intent = replace(INTENT, generation=generation)
        with other.store.journal(NAME) as journal:
            send(journal, intent, ANSWER)
            assert journal.intent == intent
            other.store.write(NAME, record(generation + 1), generation)
            journal.clear()
        assert nothing_left(store)


def test_an_older_generation(store: Store, place: Place, start: Start) -> None:
    """What is left of an older generation is found as such, or settled by the newer one; and can be cleared."""
    sender = start()
    sender.run(work.arm, answer=ANSWER)
    sender.kill()
    place.after_lease()
    store.write(NAME, record(2), 1)
    with store.journal(NAME) as journal:
        assert journal.try_open()
        assert (journal.intent, journal.answer) in [(INTENT, ANSWER), (None, b"")]
        journal.clear()
        send(journal, replace(INTENT, generation=2))
        assert journal.intent == replace(INTENT, generation=2)
        journal.clear()
    assert nothing_left(start().store)


def test_written_over_itself(store: Store, place: Place, start: Start) -> None:
    """A generation that is written over itself, by which its company is named, settles nothing that is in doubt."""
    sender = start()
    sender.run(work.arm, answer=ANSWER)
    sender.kill()
    place.after_lease()
    store.write(NAME, record(1, text="named"), 1)
    assert found(store) == (INTENT, ANSWER)


# -- where nothing can be written


def test_nothing_is_armed_where_nothing_can_be_written(store: Store, place: Place) -> None:
    """Neither proving nor arming succeeds, and afterwards the journal serves as before."""
    with store.journal(NAME) as journal:
        assert journal.try_open()
        with place.unavailable(), pytest.raises(StoreError):
            journal.prove()
    with store.journal(NAME) as journal:
        assert journal.try_open()
        journal.tidy()
        journal.prove()
        with place.unavailable(), pytest.raises(StoreError):
            journal.arm(INTENT)
    with store.journal(NAME) as journal:
        assert journal.try_open()
        assert journal.intent in (None, INTENT)
        journal.clear()
        send(journal)
        assert journal.intent == INTENT


def test_staging_never_fails(store: Store, place: Place, start: Start) -> None:
    """An answer that comes while nothing can be written is found by the next, or its commit says that it failed."""
    sender = start()
    opened = sender.store.journal(NAME)
    journal = opened.__enter__()
    assert journal.try_open()
    journal.prove()
    journal.arm(INTENT)
    with place.unavailable():
        for start_ in range(0, len(ANSWER), 10):
            journal.stage(ANSWER[start_ : start_ + 10])
        assert journal.answer == ANSWER
        synced = True
        try:
            journal.sync()
        except StoreNotWritable:
            synced = False
        with pytest.raises(StoreError):  # so whoever has the tokens in hand is told
            sender.store.write(NAME, record(2), 1)
        assert journal.answer == ANSWER
        if synced:
            sender.kill()
    if not synced:
        opened.__exit__(None, None, None)
        sender.kill()
    place.after_lease()
    assert found(store) == (INTENT, ANSWER) if synced else found(store)[1] in (ANSWER, b"")


def test_sent_and_written_later(store: Store, place: Place) -> None:
    """Who could not write when the answer came writes when that can be done again, with the same journal."""
    with store.journal(NAME) as journal:
        send(journal, INTENT)
        with place.unavailable():
            journal.stage(ANSWER)
            with contextlib.suppress(StoreNotWritable):
                journal.sync()
        journal.sync()
        assert journal.answer == ANSWER
    assert found(store) == (INTENT, ANSWER)


def test_not_cleared(store: Store, place: Place) -> None:
    """Clearing and withdrawing say so where they cannot, and what is in doubt stays so."""
    with store.journal(NAME) as journal:
        send(journal, INTENT)
        with place.unavailable(), pytest.raises(StoreNotWritable):
            journal.withdraw()
    assert found(store)[0] == INTENT
    with store.journal(NAME) as journal:
        assert journal.try_open()
        with place.unavailable(), pytest.raises(StoreNotWritable):
            journal.clear()
    assert found(store)[0] == INTENT


def test_no_descriptors_are_left(store: Store) -> None:
    """A refresh leaves no file and no connection open behind it, so that a program may run for months."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the system does not show a process its descriptors")

    def refresh(generation: int) -> None:
        with store.lock(NAME) as lock, store.journal(NAME) as journal:
            assert lock.try_acquire()
            send(journal, replace(INTENT, generation=generation), ANSWER)
            store.write(NAME, record(generation + 1), generation)
            journal.clear()
        store.read(NAME)

    for generation in (1, 2):
        refresh(generation)
    before = len(os.listdir("/proc/self/fd"))
    for generation in range(3, 9):
        refresh(generation)
    assert len(os.listdir("/proc/self/fd")) <= before
