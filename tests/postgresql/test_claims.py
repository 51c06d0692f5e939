"""Claims, marks, and answers that are kept here: two machines, step by step."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopback_auth.errors import Overtaken, StoreNotWritable
from loopback_auth.store.base import Journal
from loopback_auth.store.postgresql import journal as postgresql_journal
from loopback_auth.store.postgresql.mark import Mark
from loopback_auth.store.postgresql.store import PostgreSQLStore
from tests.conformance.work import ANSWER, INTENT, NAME, record, send
from tests.faults.commands import until

from .cluster import Database
from .machines import end_lease, with_tables
from .pooler import Pooler
from .proxy import Proxy, Verdict

CLAIM, COMMIT, REWRITE, STANDS = "SET state = 'in_flight'", "SET generation = ", "SET content = ", "AND written = "
OTHER = replace(INTENT, digest="ab" * 32)


@pytest.fixture
def tables(database: Database) -> Database:
    """The store's tables, with an account in it."""
    with_tables(database)
    store_on(database, Path("/nowhere/one")).write(NAME, record(1), 0)
    return database


def store_on(tables: Database, machine: Path, **parameters: object) -> PostgreSQLStore:
    """The store as a process of this machine has it."""
    _opened.append(PostgreSQLStore(tables.url(**{"sslmode": "disable"} | parameters), str(machine / "address")))
    return _opened[-1]


_opened: list[PostgreSQLStore] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Hang up after each test: a journal and its store know each other, and the order in which they go is nobody's."""
    yield
    while _opened:
        _opened.pop().connection._drop()


def columns(tables: Database, *names: str) -> tuple[Any, ...]:
    (found,) = tables.sql(f"SELECT {', '.join(names)} FROM loopback_auth.account")
    return found


def in_turn(**verdicts: list[Verdict]) -> Callable[[str], Verdict]:
    """What becomes of each next statement of a kind; all others pass."""
    kinds = {"claim": CLAIM, "commit": COMMIT, "rewrite": REWRITE, "stands": STANDS}

    def on_query(text: str) -> Verdict:
        for kind, left in verdicts.items():
            if kinds[kind] in text and left:
                return left.pop(0)
        return "pass"

    return on_query


@contextmanager
def keeping(tables: Database, proxy: Proxy, machine: Path, sendings: int = 1) -> Iterator[Journal]:
    """Send on a machine that loses the server before it can bring the answer there: it is kept here."""
    proxy.on_query = lambda _: "pass"
    with store_on(tables, machine, port=proxy.port).journal(NAME) as journal:
        assert journal.try_open()
        for _ in range(sendings):
            journal.prove()
            journal.arm(INTENT)
        journal.stage(ANSWER)
        proxy.on_query = lambda _: "cut before"
        with pytest.raises(StoreNotWritable, match="cannot be reached"):
            journal.sync()
        yield journal


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_journal, "STAGE_PATIENCE", 0.0)


# -- answers that were kept here


def test_kept_by_a_process_that_lives(tables: Database, proxy: Proxy, tmp_path: Path) -> None:
    """Whoever has an answer here is waited for, though its claim holds no longer; then the answer is found."""
    with keeping(tables, proxy, tmp_path / "one"):
        end_lease(tables, NAME)
        with store_on(tables, tmp_path / "one").journal(NAME) as journal:
            assert not journal.try_open()
    with store_on(tables, tmp_path / "one").journal(NAME) as journal:
        assert journal.try_open()
        assert (journal.intent, journal.answer) == (INTENT, ANSWER)


def test_kept_after_the_second_sending(tables: Database, proxy: Proxy, tmp_path: Path) -> None:
    """It is known that it was sent twice: if the answer is worth nothing, nobody sends a third time."""
    with keeping(tables, proxy, tmp_path / "one", sendings=2):
        pass
    with store_on(tables, tmp_path / "one").journal(NAME) as journal:
        assert journal.try_open()
        assert journal.intent == replace(INTENT, sendings=2)


@pytest.mark.parametrize("how", ["refreshed", "logged in to anew"])
def test_kept_for_another_refresh_token(how: str, tables: Database, proxy: Proxy, tmp_path: Path) -> None:
    """What is kept for a refresh token of before opens nothing while another machine sends the one of now."""
    with keeping(tables, proxy, tmp_path / "one"):
        end_lease(tables, NAME)
        two = store_on(tables, tmp_path / "two")
        if how == "refreshed":
            two.write(NAME, record(2), 1)
        else:
            two.remove(NAME)
            two.write(NAME, record(1), 0)
    sent = replace(OTHER, generation=2 if how == "refreshed" else 1)
    here = store_on(tables, tmp_path / "one")
    with two.journal(NAME) as sending, here.journal(NAME) as journal:
        send(sending, sent)
        assert not journal.try_open()
    with here.journal(NAME) as journal:
        assert journal.try_open()
        assert (journal.intent, journal.answer) == (sent, b"")


def test_kept_for_an_older_generation(tables: Database, proxy: Proxy, tmp_path: Path) -> None:
    """It is removed by the next process here: nobody will ask for it."""
    with keeping(tables, proxy, tmp_path / "one"):
        pass
    here = store_on(tables, tmp_path / "one")
    folder = Path(here.own_folder) / NAME
    assert {"intent", "answer"} <= set(os.listdir(folder))
    with here.journal(NAME) as journal:
        assert journal.try_open()
        journal.tidy()
    assert {"intent", "answer"} <= set(os.listdir(folder))
    store_on(tables, tmp_path / "two").write(NAME, record(2), 1)
    with here.journal(NAME) as journal:
        assert journal.try_open()
        journal.tidy()
        assert journal.intent is None
    assert not {"intent", "answer"} & set(os.listdir(folder))


def test_what_a_killed_process_left_here(tables: Database, tmp_path: Path) -> None:
    """An answer that nothing was sent for is removed by the next process."""
    here = store_on(tables, tmp_path / "one")
    with here.journal(NAME) as journal:
        send(journal)
    answer = Path(here.own_folder) / NAME / "answer"
    answer.touch(0o600)
    with here.journal(NAME) as journal:
        assert journal.try_open()
        journal.tidy()
    assert not answer.exists()


def test_kept_for_a_claim_that_the_server_has_lost(tables: Database, proxy: Proxy, tmp_path: Path) -> None:
    """A standby that took over may not have heard of the claim: the answer is found all the same."""
    with keeping(tables, proxy, tmp_path / "one"):
        tables.sql("UPDATE loopback_auth.account SET state = 'idle', claim = NULL, intents = '[]'")
    with store_on(tables, tmp_path / "one").journal(NAME) as journal:
        assert journal.try_open()
        assert (journal.intent, journal.answer) == (INTENT, ANSWER)


def test_kept_for_an_account_that_is_forgotten(tables: Database, proxy: Proxy, tmp_path: Path) -> None:
    """With the account goes what is kept for it here."""
    with keeping(tables, proxy, tmp_path / "one"):
        end_lease(tables, NAME)
    here = store_on(tables, tmp_path / "one")
    folder = Path(here.own_folder) / NAME
    assert (folder / "answer").exists()
    assert here.remove(NAME)
    with here.journal(NAME) as journal:
        assert journal.try_open()
        journal.clear()
    assert not (folder / "answer").exists()


def test_an_answer_that_comes_after_the_lease(tables: Database, tmp_path: Path) -> None:
    """Another machine sends by then: the answer is no answer to that, is kept here, and its tokens are committed."""
    one, two = store_on(tables, tmp_path / "one"), store_on(tables, tmp_path / "two")
    with one.journal(NAME) as journal:
        send(journal)
        end_lease(tables, NAME)
        with two.journal(NAME) as other:
            send(other)
            journal.stage(ANSWER)
            journal.sync()
            assert columns(tables, "state", "answer") == ("in_flight", None)
            assert (Path(one.own_folder) / NAME / "answer").read_bytes().startswith(ANSWER)
            one.write(NAME, record(2), 1)
            journal.clear()
    assert columns(tables, "generation", "state", "intents", "claim") == (2, "idle", [], None)
    assert not (Path(one.own_folder) / NAME / "answer").exists()


# -- claims


def test_commits_that_are_not_of_this_account(tables: Database, tmp_path: Path) -> None:
    """An account that was logged in to anew on a server whose clock was set back is not taken for the one before."""
    one = store_on(tables, tmp_path / "one")
    with one.journal(NAME) as journal:
        send(journal)
        tables.sql("UPDATE loopback_auth.account SET revision = revision - 3600 * 1000000::bigint")
        with pytest.raises(Overtaken):
            one.write(NAME, record(2), 1)


def test_a_claim_that_nobody_answers_for(tables: Database, proxy: Proxy, tmp_path: Path) -> None:
    """Made, not acknowledged, and not used: it is let go as soon as the server answers again, not waited for."""
    with store_on(tables, tmp_path / "one", port=proxy.port).journal(NAME) as journal:
        assert journal.try_open()
        journal.prove()
        proxy.on_query = in_turn(claim=["cut after", "cut before"])
        with pytest.raises(StoreNotWritable):
            journal.arm(INTENT)
        assert columns(tables, "state") == ("in_flight",)
    with store_on(tables, tmp_path / "two").journal(NAME) as journal:
        assert journal.try_open()


def test_a_claim_that_came_too_late(tables: Database, tmp_path: Path) -> None:
    """Who was overtaken has no claim: it waits for the one who has."""
    two = store_on(tables, tmp_path / "two")
    with store_on(tables, tmp_path / "one").journal(NAME) as late, two.journal(NAME) as first:
        assert late.try_open()
        late.prove()
        send(first)
        with pytest.raises(Overtaken):
            late.arm(INTENT)
        assert not late.try_open()


def test_a_claim_that_came_and_went(tables: Database, tmp_path: Path) -> None:
    """Who has looked before another machine sent is told before it sends: the account is in doubt by then."""
    with store_on(tables, tmp_path / "one").journal(NAME) as late:
        assert late.try_open()
        with store_on(tables, tmp_path / "two").journal(NAME) as first:
            send(first)
        with pytest.raises(Overtaken):
            late.prove()


@pytest.mark.parametrize("generation", [1, 2])
def test_a_claim_on_what_was_written_meanwhile(generation: int, tables: Database, tmp_path: Path) -> None:
    """Who has proven before another machine wrote, the next tokens or the same ones, may not send what it has read."""
    with store_on(tables, tmp_path / "one").journal(NAME) as late:
        assert late.try_open()
        late.prove()
        store_on(tables, tmp_path / "two").write(NAME, record(generation), 1)
        with pytest.raises(Overtaken):
            late.arm(INTENT)
    assert columns(tables, "generation", "state") == (generation, "idle")


def test_a_claim_that_ended_without_an_intent(tables: Database, tmp_path: Path) -> None:
    """What was withdrawn is let go under its own name, and of what another machine did since nothing is changed."""
    with store_on(tables, tmp_path / "one").journal(NAME) as journal:
        send(journal)
        end_lease(tables, NAME)
        with store_on(tables, tmp_path / "two").journal(NAME) as other:
            send(other)
            before = columns(tables, "state", "claim", "intents", "revision")
            journal.withdraw()
            assert columns(tables, "state", "claim", "intents", "revision") == before


@pytest.mark.parametrize("ended", [False, True])
def test_a_rewrite_while_another_machine_sends(ended: bool, tables: Database, tmp_path: Path) -> None:
    """The same tokens are not written anew under whoever sends; once its lease has ended they are."""
    one = store_on(tables, tmp_path / "one")
    with store_on(tables, tmp_path / "two").journal(NAME) as sending:
        send(sending)
        if ended:
            end_lease(tables, NAME)
            one.write(NAME, record(1), 1)
        else:
            with pytest.raises(Overtaken):
                one.write(NAME, record(1), 1)
        assert columns(tables, "intents") != ([],)


def test_a_rewrite_of_what_another_thread_has_read(tables: Database, tmp_path: Path) -> None:
    """What one thread has read is not what another one knows: that one is told, and reads again."""
    one, two = store_on(tables, tmp_path / "one"), store_on(tables, tmp_path / "two")
    for store in (one, two):
        assert store.read(NAME) is not None
    two.write(NAME, record(1, text="two"), 1)
    reading = threading.Thread(target=one.read, args=(NAME,))
    reading.start()
    reading.join()
    with pytest.raises(Overtaken):
        one.write(NAME, record(1), 1)


def test_a_rewrite_is_as_old_as_it_says(tables: Database, tmp_path: Path) -> None:
    """The same generation, written anew, brings its own age."""
    one = store_on(tables, tmp_path / "one")
    one.write(NAME, replace(record(1), age=5000.0), 1)
    found = one.read(NAME)
    assert found is not None
    assert found.age is not None
    assert 5000 <= found.age < 5060


@pytest.mark.parametrize("generation", [1, 2])
def test_a_write_whose_acknowledgement_was_lost(
    generation: int, tables: Database, proxy: Proxy, tmp_path: Path
) -> None:
    """It is found to be there, though the server goes away again while it is asked for that."""
    one = store_on(tables, tmp_path / "one", port=proxy.port)
    one.read(NAME)
    proxy.on_query = in_turn(rewrite=["cut after"], commit=["cut after"], stands=["cut before", "cut before"])
    one.write(NAME, record(generation), 1)
    assert columns(tables, "generation") == (generation,)


# -- waiting


def test_the_connection_on_which_news_would_come_is_lost(tables: Database, tmp_path: Path) -> None:
    """It is gone without a word; the account is looked at again and again then. No such connection is left behind."""
    listening = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    two = store_on(tables, tmp_path / "two")
    with store_on(tables, tmp_path / "one").journal(NAME) as sending:
        send(sending)
        with two.journal(NAME) as waiting:
            assert not waiting.try_open()
            assert waiting.news is not None
            ((pid,),) = tables.sql(listening)
            tables.sql(f"SELECT pg_terminate_backend({pid}, 5000)")
            until(lambda: not waiting.try_open() and waiting.news is None)
        with two.journal(NAME) as waiting:
            assert waiting.news is not None
        until(lambda: tables.sql(listening) == [])


def test_no_connection_is_to_be_had_on_which_news_would_come(tables: Database, tmp_path: Path) -> None:
    """A role that may have one connection for each machine waits without news."""
    two = store_on(tables, tmp_path / "two")
    two.names()
    with store_on(tables, tmp_path / "one").journal(NAME) as sending, two.journal(NAME) as waiting:
        send(sending)
        tables.sql(f"ALTER ROLE {tables.role} CONNECTION LIMIT 2")
        assert not waiting.try_open()
        assert waiting.news is None


def test_behind_a_pooler_nobody_listens(pooler: Pooler, tables: Database, tmp_path: Path) -> None:
    """A pooler passes no news on: that is tried once, and no connection is kept for it."""
    with Proxy(pooler) as proxy:
        one = store_on(tables, tmp_path / "one", port=proxy.port)
        with one.journal(NAME) as waiting:
            assert waiting.try_open()
            assert waiting.news is None
            taken = proxy.taken
            assert waiting.news is None
            assert proxy.taken == taken


# -- a machine without a disk


def test_a_machine_without_a_disk(tables: Database, proxy: Proxy) -> None:
    """It spends and forgets as any other, and says of an answer that it can bring nowhere why that is so."""
    nowhere = Path("/proc/nowhere/one")
    one = store_on(tables, nowhere)
    with one.lock(NAME) as lock, one.journal(NAME) as journal:
        assert lock.try_acquire()
        send(journal, answer=ANSWER)
        one.write(NAME, record(2), 1)
        journal.clear()
    assert columns(tables, "generation", "state") == (2, "idle")
    with keeping(tables, proxy, nowhere):
        pass
    end_lease(tables, NAME)
    assert one.remove(NAME)


# -- marks

FIRST, SECOND = "1" * 32, "2" * 32


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "account" / "claim")


def test_a_mark(path: str) -> None:
    """It names the last claim of whoever made it, once that one has let go, and no other claim."""
    mark = Mark(path)
    for claim in (FIRST, SECOND):
        mark.make(claim)
        assert not Mark(path).is_left(claim)
    mark.let_go()
    assert (Mark(path).is_left(FIRST), Mark(path).is_left(SECOND)) == (False, True)


def test_a_mark_that_another_process_holds(path: str) -> None:
    """It goes on naming the claim of that one."""
    first = Mark(path)
    first.make(FIRST)
    second = Mark(path)
    second.make(SECOND)
    second.let_go()
    first.let_go()
    assert (Mark(path).is_left(FIRST), Mark(path).is_left(SECOND)) == (True, False)


def test_a_mark_that_others_can_write(path: str) -> None:
    """It is not believed, and not used: whoever wrote it could let us send beside another machine."""
    mark = Mark(path)
    mark.make(FIRST)
    mark.let_go()
    os.chmod(path, 0o666)
    assert not Mark(path).is_left(FIRST)
    mark.make(SECOND)
    mark.let_go()
    os.chmod(path, 0o600)
    assert Mark(path).is_left(FIRST)
