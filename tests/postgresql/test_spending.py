"""Spending a refresh token that many machines share: claims, deaths, and servers that go away in between."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loopback_auth import clock
from loopback_auth.errors import Overtaken
from loopback_auth.store.base import Intent
from loopback_auth.store.postgresql import mark
from loopback_auth.store.postgresql.connection import Connection
from tests.faults.commands import until
from tests.faults.machine import Far, Trial

from .cluster import Cluster, Database
from .machines import Machine, end, end_lease, expire, files_of, machines, row, stored, with_tables
from .nursery import Nursery, Outcome
from .pooler import Pooler
from .proxy import Proxy, Verdict
from .urls import PASSWORD

CLAIM, STAGE, COMMIT = "SET state = 'in_flight'", "SET answer = ", "SET generation = "
"""What tells the statements of a spend apart."""


@dataclass(frozen=True)
class Fleet:
    """Two machines, the server they share, and what is far away."""

    far: Far
    nursery: Nursery
    tables: Database
    homes: Path

    @property
    def one(self) -> Machine:
        return Machine(self.homes / "one", self.tables.url())

    @property
    def two(self) -> Machine:
        return Machine(self.homes / "two", self.tables.url())

    def stored(self, far: Far | None = None) -> Trial:
        """An account whose access token has expired, in the store."""
        return stored(far or self.far, self.homes, self.one)

    def token(self, machine: Machine, proxy: Proxy | None = None, **order: Any) -> Outcome:
        """Ask for a token on a machine, whose way to the store goes through the proxy if there is one."""
        if proxy is not None:
            machine = machine.at(self.tables.url(port=proxy.port, sslmode="disable"))
        return self.nursery.token(machine.environment, **order)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def fleet(far: Far, nursery: Nursery, database: Database, tmp_path: Path) -> Fleet:
    return Fleet(far, nursery, with_tables(database), tmp_path)


@pytest.fixture
def own_fleet(far: Far, nursery: Nursery, own_cluster: Cluster, tmp_path: Path) -> Fleet:
    """The same with a server that may be killed."""
    return Fleet(far, nursery, with_tables(own_cluster.create_database("own")), tmp_path)


def at(
    statement: str, verdict: Verdict, also: Callable[[], object] = lambda: None, times: int = 1
) -> Callable[[str], Verdict]:
    """Do something to the first statements of a kind, and let all else pass."""
    left = times

    def on_query(text: str) -> Verdict:
        nonlocal left
        if statement in text and left:
            left -= 1
            also()
            return verdict
        return "pass"

    return on_query


def refreshed(far: Far, outcome: Outcome, machine: Machine) -> None:
    """The next generation stands there, and its access token works and was handed out."""
    assert (outcome.error, outcome.message) == (None, "")
    account = machine.account()
    assert account.generation == 2
    assert outcome.token == account.tokens.access_token.reveal()
    assert far.takes(outcome.token)


def test_a_refresh(fleet: Fleet) -> None:
    """One spend, the next generation stored, nothing left behind; at most four statements from the claim on."""
    trial = fleet.stored()
    with Proxy(fleet.tables.cluster) as proxy:
        refreshed(fleet.far, fleet.token(fleet.one, proxy), fleet.one)
        queries = proxy.queries
    assert fleet.far.presented(trial.refresh_token) == 1
    found = row(fleet.tables)
    assert (found["generation"], found["state"], found["claimed_by"], found["answer"]) == (2, "idle", None, None)
    assert (found["intents"], found["trouble"]) == ([], None)
    (claim,) = [number for number, text in enumerate(queries) if CLAIM in text]
    (commit,) = [number for number, text in enumerate(queries) if COMMIT in text]
    assert commit - claim + 1 <= 4
    assert len(queries) == commit + 1


def test_the_other_machine_takes_what_the_first_got(fleet: Fleet) -> None:
    """And asks nobody but the store for it; the next time not even that."""
    fleet.stored()
    first = fleet.token(fleet.one)
    assert fleet.token(fleet.two).token == first.token
    assert fleet.two.run("token").stdout == f"{first.token}\n"
    assert fleet.two.at("postgresql://app@127.0.0.1:1/app").run("token").status == 8


def test_killed_at_every_statement(fleet: Fleet) -> None:
    """Whoever comes next, here or on another machine, refreshes it; lost is only what had not reached the store."""
    lost = []
    statements = statements_of(fleet.far, fleet)
    for number in range(1, statements + 1):
        for when in ("before", "after"):
            for next_one in (fleet.one, fleet.two):
                fleet.tables.sql("DELETE FROM loopback_auth.account")
                trial = fleet.stored()
                assert fleet.token(fleet.one, kill=(number, when)).killed
                if next_one == fleet.two:  # nobody there knows that it was killed
                    end_lease(fleet.tables)
                outcome = fleet.token(next_one)
                if outcome.error == "LoginRequired":
                    assert outcome.message.startswith(
                        "the refresh token was spent, and the answer with the next one was lost"
                    )
                    lost.append((number, when))
                else:
                    refreshed(fleet.far, outcome, fleet.one)
                assert fleet.far.presented(trial.refresh_token) <= 2
    assert lost == [(statements - 1, "before")] * 2  # the answer has come, and is about to be brought to the store


def test_with_a_grace_nothing_is_lost(fleet: Fleet, forgiving: Far) -> None:
    """A server that takes the same refresh token once more gives the tokens to whoever asks again."""
    statements = statements_of(forgiving, fleet)
    for number in range(statements - 2, statements + 1):
        for when in ("before", "after"):
            fleet.tables.sql("DELETE FROM loopback_auth.account")
            fleet.stored(forgiving)
            assert fleet.token(fleet.one, kill=(number, when)).killed
            end_lease(fleet.tables)
            refreshed(forgiving, fleet.token(fleet.two), fleet.two)


def statements_of(far: Far, fleet: Fleet) -> int:
    """How many statements a refresh takes; the last two are bringing the answer, and committing it."""
    fleet.stored(far)
    outcome = fleet.token(fleet.one)
    assert outcome.error is None
    return outcome.statements


def test_nobody_sends_while_a_claim_holds(fleet: Fleet) -> None:
    """A machine that died with its claim is waited for while its request may be under way; then one more asks."""
    trial = fleet.stored()
    assert kill_after_claim(fleet).killed
    assert row(fleet.tables)["state"] == "in_flight"
    busy = fleet.token(fleet.two, lock_timeout=0.5)
    assert (busy.error, fleet.far.presented(trial.refresh_token)) == ("StoreBusy", 0)
    end_lease(fleet.tables)
    refreshed(fleet.far, fleet.token(fleet.two), fleet.two)
    assert fleet.far.presented(trial.refresh_token) == 1
    assert row(fleet.tables)["state"] == "idle"


def kill_after_claim(fleet: Fleet) -> Outcome:
    """Kill a process when its claim is committed; nothing is sent."""
    for number in range(1, 20):
        outcome = fleet.token(fleet.one, kill=(number, "after"))
        if row(fleet.tables)["state"] == "in_flight":
            return outcome
        assert outcome.killed
    raise AssertionError("no statement claims")


def test_a_machine_that_stood_still_sends_nothing(fleet: Fleet) -> None:
    """It wakes when its lease has ended and another machine has refreshed: it takes what that one got."""
    statements = statements_of(fleet.far, fleet)
    fleet.tables.sql("DELETE FROM loopback_auth.account")
    trial = fleet.stored()
    asleep: list[Outcome] = []
    order: dict[str, Any] = {"kill": (statements - 2, "stop"), "set": {"loopback_auth.renewal.SEND_WITHIN": 1.0}}
    sleeping = threading.Thread(target=lambda: asleep.append(fleet.token(fleet.one, **order)))
    sleeping.start()
    until(lambda: row(fleet.tables)["state"] == "in_flight")
    process = int(row(fleet.tables)["claimed_by"].rpartition(" ")[2])
    try:
        time.sleep(1.2)
        end_lease(fleet.tables)
        with Nursery() as awake:
            outcome = awake.token(fleet.two.environment)
            refreshed(fleet.far, outcome, fleet.two)
    finally:
        os.kill(process, signal.SIGCONT)
        sleeping.join()
    assert [one.token for one in asleep] == [outcome.token]
    assert fleet.far.presented(trial.refresh_token) == 1


@pytest.mark.parametrize("statement", [CLAIM, COMMIT])
def test_an_account_that_is_logged_in_to_anew_meanwhile(statement: str, fleet: Fleet) -> None:
    """Forgotten and logged in to on another machine, before we claim or before we commit: the new login stays."""
    trial = fleet.stored()
    other = fleet.far.account(fleet.homes, 10)

    def anew() -> None:
        fleet.tables.sql("DELETE FROM loopback_auth.account")
        fleet.two.accounts.save(other.stored, 0)

    with Proxy(fleet.tables.cluster, at(statement, "pass", anew)) as proxy:
        outcome = fleet.token(fleet.one, proxy)
    assert outcome.error is None
    account = fleet.two.account()
    assert (account.generation, account.tokens) == (1, other.stored.tokens)
    assert outcome.token == account.tokens.access_token.reveal()
    assert fleet.far.presented(trial.refresh_token) == (statement == COMMIT)


def test_a_rewrite_of_what_another_machine_has_rewritten(fleet: Fleet) -> None:
    """The same tokens, written by two machines that have read the same: the second one is told, and reads again."""
    fleet.stored()
    one, two = fleet.one.accounts, fleet.two.accounts
    account = one.load("default")
    assert account is not None
    leaving = replace(fleet.two.account(), stored_as="leaving 1 file:/elsewhere")
    two.save(leaving, replaces=1)
    with pytest.raises(Overtaken):
        one.save(account, replaces=1)
    assert fleet.two.account().stored_as == leaving.stored_as
    assert one.load("default") is not None
    one.save(account, replaces=1)
    one.save(account, replaces=1)


def test_a_claim_on_a_disk_of_many_machines(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system a lock says nothing about a process elsewhere: its claim is waited for."""
    fleet.stored()
    assert kill_after_claim(fleet).killed
    for kind, opens in (("nfs4", False), (None, True)):
        monkeypatch.setattr(mark, "network_file_system", lambda _path, kind=kind: kind)
        with fleet.one.accounts.journal("default") as journal:
            assert journal.try_open() == opens


def test_a_claim_in_a_database_that_serialises(fleet: Fleet) -> None:
    """Where the role's transactions are serialisable, one that another one's change stopped is run again."""
    fleet.stored()
    fleet.tables.sql(f"ALTER ROLE {fleet.tables.role} SET default_transaction_isolation = 'serializable'")
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    note = "UPDATE loopback_auth.account SET trouble = NULL RETURNING name"
    with Connection(fleet.tables.url()).another() as other:
        ours = Connection(fleet.tables.url())
        with other.transaction():
            other.execute(note.encode())
            running = threading.Thread(target=lambda: found.extend(ours.run(note)))
            found: list[Any] = []
            running.start()
            until(lambda: fleet.tables.sql(waits) != [])
        running.join()
    assert found == [("default",)]


def test_a_fork_while_a_statement_runs(fleet: Fleet) -> None:
    """The child has a connection of its own, and waits for no thread that it does not have."""
    program = """
import os, threading, time
from loopback_auth.store.postgresql.connection import Connection
connection = Connection(os.environ["LOOPBACK_AUTH_STORE"])
busy = threading.Thread(target=lambda: connection.run("SELECT pg_sleep(1)"))
busy.start()
while not connection._guard.locked():
    time.sleep(0.01)
time.sleep(0.2)
if not (child := os.fork()):
    connection.run("SELECT 1")
    os._exit(0)
busy.join()
for _ in range(50):
    if os.waitpid(child, os.WNOHANG)[0]:
        raise SystemExit(0)
    time.sleep(0.1)
os.kill(child, 9)
raise SystemExit(1)
"""
    assert end(fleet.one.start(program=program)).status == 0


def test_a_server_that_stands_still_while_another_machine_is_waited_for(fleet: Fleet) -> None:
    """The connection on which a machine would hear of news is given up as every other: the wait has its end."""
    fleet.stored()
    assert kill_after_claim(fleet).killed
    with Proxy(fleet.tables.cluster, at("pg_backend_pid", "swallow answer")) as proxy:
        started = time.monotonic()
        busy = fleet.token(fleet.two, proxy, lock_timeout=1)
    assert (busy.error, time.monotonic() - started < 15) == ("StoreBusy", True)


# -- the server goes away --


@contextmanager
def killing(fleet: Fleet, statement: str) -> Iterator[Proxy]:
    """Kill the server once it has committed a statement, before anybody hears of that."""
    with Proxy(fleet.tables.cluster, at(statement, "swallow answer")) as proxy:

        def kill() -> None:
            if proxy.withheld.wait(30):
                fleet.tables.cluster.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        yield proxy
        killer.join()


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_server_killed_after_the_claim(where: str, own_fleet: Fleet) -> None:
    """A claim whose answer was lost is not used: nothing is sent. Here that is known, others wait its lease out."""
    trial = own_fleet.stored()
    with killing(own_fleet, CLAIM) as proxy:
        outcome = own_fleet.token(own_fleet.one, proxy)
    assert (outcome.error, own_fleet.far.presented(trial.refresh_token)) == ("StoreNotWritable", 0)
    assert "cannot be reached" in outcome.message
    own_fleet.tables.cluster.start()
    assert row(own_fleet.tables)["state"] == "in_flight"
    if where == "there":
        assert own_fleet.token(own_fleet.two, lock_timeout=0.5).error == "StoreBusy"
        end_lease(own_fleet.tables)
    next_one = own_fleet.one if where == "here" else own_fleet.two
    refreshed(own_fleet.far, own_fleet.token(next_one, lock_timeout=0.5), next_one)
    assert own_fleet.far.presented(trial.refresh_token) == 1


@pytest.mark.parametrize("statement", [CLAIM, STAGE, COMMIT])
def test_an_acknowledgement_that_was_lost(statement: str, own_fleet: Fleet) -> None:
    """The network broke, the server did not: what stands there is our own, and not taken for somebody else's."""
    trial = own_fleet.stored()
    with Proxy(own_fleet.tables.cluster, at(statement, "cut after")) as proxy:
        refreshed(own_fleet.far, own_fleet.token(own_fleet.one, proxy), own_fleet.one)
    assert own_fleet.far.presented(trial.refresh_token) == 1


@pytest.mark.parametrize("statement", [STAGE, COMMIT])
@pytest.mark.parametrize("committed", [False, True])
def test_a_server_killed_after_the_request_was_sent(statement: str, committed: bool, own_fleet: Fleet) -> None:
    """It is back within seconds: the tokens are committed then, once, and nothing is asked for again."""
    trial = own_fleet.stored()
    cluster = own_fleet.tables.cluster

    def come_back() -> None:
        until(lambda: not cluster.running, 30)
        time.sleep(3)
        cluster.start()

    back = threading.Thread(target=come_back)
    back.start()
    with (
        killing(own_fleet, statement)
        if committed
        else Proxy(cluster, at(statement, "cut before", cluster.kill)) as proxy
    ):
        outcome = own_fleet.token(own_fleet.one, proxy)
    back.join()
    refreshed(own_fleet.far, outcome, own_fleet.one)
    assert own_fleet.far.presented(trial.refresh_token) == 1
    assert (row(own_fleet.tables)["state"], row(own_fleet.tables)["answer"]) == ("idle", None)
    assert not {"intent", "answer"} & {os.path.basename(path) for path in files_of(own_fleet.one)}


def test_a_server_that_stays_away_after_the_request_was_sent(own_fleet: Fleet) -> None:
    """The token is handed out, the answer kept here, and adopted here, whatever others have asked meanwhile."""
    trial = own_fleet.stored()
    brief = {"loopback_auth.store.postgresql.store.WRITE_PATIENCE": 0.5}
    with Proxy(own_fleet.tables.cluster, at(STAGE, "cut before", own_fleet.tables.cluster.kill)) as proxy:
        outcome = own_fleet.token(own_fleet.one, proxy, set=brief)
    assert outcome.token is not None
    assert own_fleet.far.takes(outcome.token)
    (warning,) = outcome.warnings
    assert "cannot be reached" in warning
    own_fleet.tables.cluster.start()
    assert row(own_fleet.tables)["state"] == "in_flight"
    end_lease(own_fleet.tables)
    refused = own_fleet.token(own_fleet.two)
    assert refused.error == "LoginRequired"
    refreshed(own_fleet.far, own_fleet.token(own_fleet.one), own_fleet.one)
    assert own_fleet.token(own_fleet.two).token == outcome.token
    assert own_fleet.far.presented(trial.refresh_token) == 2
    assert own_fleet.one.account().tokens.refresh_token is not None


def test_at_once_here_although_the_claim_holds(own_fleet: Fleet) -> None:
    """Who has the answer need not wait until a lease ends that it made itself."""
    own_fleet.stored()
    brief = {"loopback_auth.store.postgresql.store.WRITE_PATIENCE": 0.5}
    with Proxy(own_fleet.tables.cluster, at(STAGE, "cut before", own_fleet.tables.cluster.kill)) as proxy:
        own_fleet.token(own_fleet.one, proxy, set=brief)
    own_fleet.tables.cluster.start()
    assert row(own_fleet.tables)["state"] == "in_flight"
    refreshed(own_fleet.far, own_fleet.token(own_fleet.one, lock_timeout=1), own_fleet.one)


@pytest.mark.parametrize("statement", [CLAIM, STAGE, COMMIT])
def test_a_standby_takes_over(statement: str, own_fleet: Fleet) -> None:
    """The primary is killed for good, and the other host of the address is promoted: the tokens are committed there."""
    trial = own_fleet.stored()
    primary, tables = own_fleet.tables.cluster, own_fleet.tables
    with primary.standby() as standby:
        standby.catch_up()

        def take_over() -> None:
            until(lambda: not primary.running, 30)
            time.sleep(1)
            standby.sql("SELECT pg_promote()")

        taking_over = threading.Thread(target=take_over)
        taking_over.start()
        with Proxy(primary, at(statement, "cut before", primary.kill)) as proxy:
            both = f"127.0.0.1:{proxy.port},127.0.0.1:{standby.port}"
            machine = own_fleet.one.at(f"postgresql://{tables.role}:{PASSWORD}@{both}/{tables.name}?sslmode=disable")
            outcome = own_fleet.token(machine)
            taking_over.join()
            if statement == CLAIM:  # nothing was sent, and nobody waits for a server then
                assert (outcome.error, own_fleet.far.presented(trial.refresh_token)) == ("StoreNotWritable", 0)
                outcome = own_fleet.token(machine)
            refreshed(own_fleet.far, outcome, own_fleet.two.at(tables.url(port=standby.port)))
    assert own_fleet.far.presented(trial.refresh_token) == 1


def test_a_server_that_stands_still(own_fleet: Fleet) -> None:
    """It is given some seconds; then nothing was spent, and the message says which store."""
    trial = own_fleet.stored()
    own_fleet.tables.cluster.pause()
    try:
        began = time.monotonic()
        short = {
            "loopback_auth.store.postgresql.connection.STATEMENT_TIMEOUT": 1.0,
            "loopback_auth.store.postgresql.connection.CONNECT_TIMEOUT": 2,
        }
        outcome = own_fleet.token(own_fleet.one, set=short)
        assert outcome.error == "StoreNotWritable"
        assert "127.0.0.1" in outcome.message
        assert time.monotonic() - began < 20
    finally:
        own_fleet.tables.cluster.resume()
    assert own_fleet.far.presented(trial.refresh_token) == 0


def test_a_server_that_says_too_soon_that_it_has_stored(fleet: Fleet) -> None:
    """What it would lose in a power cut is not spent."""
    trial = fleet.stored()
    fleet.tables.sql(f"ALTER ROLE {fleet.tables.role} SET synchronous_commit = off")
    outcome = fleet.token(fleet.one)
    assert outcome.error == "StoreNotWritable"
    assert "synchronous_commit is off" in outcome.message
    assert fleet.far.presented(trial.refresh_token) == 0
    fleet.tables.sql(f"ALTER ROLE {fleet.tables.role} SET synchronous_commit = local")
    refreshed(fleet.far, fleet.token(fleet.one), fleet.one)


def test_a_row_that_somebody_else_holds(fleet: Fleet) -> None:
    """It is given some seconds; then nothing was sent, and the message says that no answer came."""
    trial = fleet.stored()
    with psycopg.connect(fleet.tables.cluster.superuser_url(dbname=fleet.tables.name)) as session:
        session.execute("SELECT FROM loopback_auth.account FOR UPDATE")
        short = {"loopback_auth.store.postgresql.connection.STATEMENT_TIMEOUT": 1.0}
        outcome = fleet.token(fleet.one, set=short)
    assert (outcome.error, "cannot be reached: no answer within 1 s" in outcome.message) == ("StoreNotWritable", True)
    assert fleet.far.presented(trial.refresh_token) == 0
    assert fleet.token(fleet.two).error is None
    assert fleet.far.presented(trial.refresh_token) == 1


@pytest.mark.parametrize("how", ["read-only", "standby", "dead"])
def test_a_server_that_cannot_be_written_to(how: str, own_fleet: Fleet) -> None:
    """Refused before anything is spent; a token that is good is handed out, where it can be read."""
    trial = own_fleet.stored()
    if how == "read-only":
        own_fleet.tables.cluster.reload(default_transaction_read_only=True)
        refused, words = own_fleet.one, "can only be read: it is in read-only mode"
    elif how == "standby":
        standby = own_fleet.tables.cluster.standby()
        standby.start()
        standby.catch_up()
        refused, words = own_fleet.one.at(own_fleet.tables.url(port=standby.port)), "can only be read: it is a standby"
    else:
        own_fleet.tables.cluster.stop()
        refused, words = own_fleet.one, "cannot be reached: Connection refused"
    try:
        outcome = own_fleet.token(refused)
        assert outcome.error == "StoreNotWritable"
        assert words in outcome.message
        assert "nothing was spent" in outcome.hint
        assert own_fleet.far.presented(trial.refresh_token) == 0
        login = refused.run("login", "--server", "sandbox", "--no-browser", "--force")
        assert login.status == 8
        assert words in login.stderr
        if how != "dead":
            expire(own_fleet.tables, -7200)
            if how == "standby":
                standby.catch_up()
            assert refused.run("token").stdout == f"{trial.stored.tokens.access_token.reveal()}\n"
    finally:
        if how == "standby":
            standby.close()


# -- behind a pooler --


def test_behind_a_pooler(pooler: Pooler, fleet: Fleet) -> None:
    """PgBouncer in transaction mode, with one connection for all: claims, waiting and commits do as without it."""
    first, second = machines(fleet.homes / "pooled", fleet.tables.url(port=pooler.port), 2)
    trial = stored(fleet.far, fleet.homes, first)
    processes = [machine.start("token") for machine in (first, second) for _ in range(4)]
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert len(said) == 1
    assert fleet.far.presented(trial.refresh_token) == 1
    assert row(fleet.tables)["generation"] == 2


def test_a_machine_hears_of_a_commit_at_once(fleet: Fleet) -> None:
    """Who waits for another machine is told by the server, and need not ask it again and again."""
    fleet.stored()
    here, there = fleet.one.accounts, fleet.two.accounts
    account = here.load("default")
    assert account is not None
    with here.journal("default") as sending, there.journal("default") as waiting:
        assert sending.try_open()
        sending.prove()
        sending.arm(Intent(generation=1, digest=account.digest, armed=clock.now()))
        assert not waiting.try_open()
        news = waiting.news
        assert news is not None
        assert select.select([news], [], [], 0.2)[0] == []
        here.save(replace(account, generation=2), 1)
        assert select.select([news], [], [], 5)[0] == [news]
        assert waiting.try_open()
        until(lambda: select.select([news], [], [], 0)[0] == [])
