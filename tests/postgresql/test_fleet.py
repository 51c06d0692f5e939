"""The real command on machines that share a PostgreSQL store: from the first table to a hundred clients."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from loopback_auth import stores
from loopback_auth.errors import ConfigurationError, StoreError
from loopback_auth.store.base import Trouble
from loopback_auth.store.postgresql import schema
from loopback_auth.store.postgresql.connection import Connection
from tests.faults.commands import ROOT
from tests.faults.machine import Far

from . import certificates
from .cluster import Cluster, Database
from .machines import KEY, Machine, all_ended, end, expire, files_of, machines, row, stored, with_tables
from .proxy import Proxy
from .urls import PASSWORD

WALKER = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'tests' / 'walker.py'))}"
"""A browser that logs in and clicks Allow."""


@pytest.fixture
def tables(database: Database) -> Database:
    return with_tables(database)


def logged_in(machine: Machine, far: Far, *flags: str) -> str:
    """Log in at the sandbox with the real command, and return what it said."""
    done = machine.run(
        "login", "--server", "sandbox", *flags, BROWSER=WALKER, LOOPBACK_AUTH_SANDBOX_PORT=str(far.sandbox.port)
    )
    assert done.status == 0, done.stderr
    return done.stderr


def test_from_nothing_to_a_token(far: Far, database: Database, tmp_path: Path) -> None:
    """`store init` by the owner, the printed rights, a login here, a token there; only sealed things have left us."""
    one, two = machines(tmp_path, database.url(), 2)
    owner = one.at(database.owner_url())
    refused = one.run("login", "--server", "sandbox", BROWSER=WALKER)
    assert (refused.status, refused.hints) == (8, ["make them: loopback-auth store init"])
    made = owner.run("store", "init", "--role", database.role)
    assert made.status == 0
    assert "has its tables now" in made.stderr
    for statement in made.stdout.splitlines():
        if not statement.startswith("--"):
            database.sql(statement)
    logged_in(one, far)
    token = two.run("token").stdout.strip()
    assert far.takes(token)
    status = two.run("status", "--json").json[0]
    assert (status["account"], status["generation"], status["state"]) == ("default", 1, "ok")
    assert "s3kr1t-postgres" not in status["store"]
    assert status["store"].startswith(f"postgresql://{database.role}@127.0.0.1")
    refreshed = one.run("refresh", "--force")
    assert refreshed.status == 0
    assert row(database)["generation"] == 2
    kept = two.run("logout", "--all")
    assert kept.status == 3
    assert kept.errors == [f"--yes is missing: every machine that uses {status['store']} would be logged out"]
    assert row(database)["generation"] == 2
    gone = two.run("logout", "--all", "--yes")
    assert gone.status == 0
    assert f"was removed from {status['store']}, for every machine." in gone.stderr
    assert one.run("token").status == 4
    assert database.sql("SELECT count(*) FROM loopback_auth.account") == [(0,)]


@pytest.mark.parametrize("cluster_settings", [{"log_statement": "all", "log_min_duration_statement": 0}])
def test_the_server_never_sees_a_token(far: Far, own_cluster: Cluster, tmp_path: Path) -> None:
    """It may write down every statement with its parameters: no token, no secret, no code is among them."""
    database = with_tables(own_cluster.create_database("own"))
    one, two = machines(tmp_path, database.url(), 2)
    logged_in(one, far)
    seen = [two.run("token").stdout.strip()]
    for machine in (two, one):
        assert machine.run("refresh", "--force").status == 0
        account = machine.account()
        assert account.tokens.refresh_token is not None
        seen += [account.tokens.access_token.reveal(), account.tokens.refresh_token.reveal()]
    log = own_cluster.log()
    assert "SET generation = " in log  # statements are in it, and their parameters
    assert "parameters: " in log
    assert not [secret for secret in (*seen, KEY, "s3kr1t-") if secret in log]
    dumped = str(database.sql("SELECT * FROM loopback_auth.account"))
    assert not [secret for secret in seen if secret in dumped]


def test_a_login_that_was_killed_and_a_key_that_its_machine_was_not_given(
    far: Far, tables: Database, proxy: Proxy, tmp_path: Path
) -> None:
    """What the login left is not put over a record that nobody here can open: it may be that login, refreshed since."""
    one, two = machines(tmp_path, tables.url(), 2)
    proxy.on_query = lambda text: "swallow answer" if "ON CONFLICT DO NOTHING" in text else "pass"
    through = one.at(tables.url(port=proxy.port, sslmode="disable"))
    login = through.start(
        "login", "--server", "sandbox", BROWSER=WALKER, LOOPBACK_AUTH_SANDBOX_PORT=str(far.sandbox.port)
    )
    with all_ended([login]):
        assert proxy.withheld.wait(30)
        login.kill()
    new = {"LOOPBACK_AUTH_STORE_KEY": f"{'6f' * 32},{KEY}"}
    for command in (["store", "rekey"], ["refresh", "--force"]):
        assert two.run(*command, **new).status == 0
    before = row(tables)
    for command in (["token"], ["refresh", "--force"], ["store", "rekey"]):
        said = one.run(*command)
        assert (said.status, "sealed with key" in said.errors[0]) == (8, True)
        assert row(tables) == before
    assert two.run("refresh", "--force", **new).status == 0


def test_a_logout_whose_acknowledgement_was_lost(far: Far, tables: Database, proxy: Proxy, tmp_path: Path) -> None:
    """It has removed the account, and says so: it is not one that never was."""
    (one,) = machines(tmp_path, tables.url(), 1)
    stored(far, tmp_path, one)
    proxy.on_query = lambda text: "cut after" if "DELETE" in text and not proxy.withheld.is_set() else "pass"
    gone = one.at(tables.url(port=proxy.port, sslmode="disable")).run("logout")
    assert proxy.withheld.is_set()
    assert (gone.status, "was removed from" in gone.stderr) == (0, True)
    assert tables.sql("SELECT count(*) FROM loopback_auth.account") == [(0,)]


def test_a_machine_keeps_the_access_token_alone(far: Far, tables: Database, tmp_path: Path) -> None:
    """After logins, refreshes and tokens no file of any machine holds a refresh token, sealed or not."""
    one, two = machines(tmp_path, tables.url(), 2)
    logged_in(one, far)
    spent = []
    for machine in (two, one, two):
        expire(tables)
        (machine.folder / "default" / "tokens").unlink(missing_ok=True)
        token = machine.run("token").stdout.strip()
        account = machine.account()
        assert token == account.tokens.access_token.reveal()
        assert account.tokens.refresh_token is not None
        spent.append(account.tokens.refresh_token.reveal())
        kept = files_of(machine)
        assert any(token.encode() in content for content in kept.values())
        assert not [name for name, content in kept.items() if any(one.encode() in content for one in spent)]
        assert not [name for name, content in kept.items() if b"loopback-auth sealed" in content]
    assert row(tables)["generation"] == 4


def test_a_hundred_clients_on_four_machines(far: Far, tables: Database, tmp_path: Path) -> None:
    """One expired token, one spend: everybody has the same new one."""
    fleet = machines(tmp_path / "fleet", tables.url(), 4)
    trial = stored(far, tmp_path, fleet[0])
    for machine in fleet:
        machine.leave_cached(machine.account())
    processes = [machine.start("token") for _ in range(25) for machine in fleet]
    with all_ended(processes):
        ended = [end(process) for process in processes]
    assert {one.status for one in ended} == {0}
    (token,) = {one.stdout for one in ended}
    assert token == f"{fleet[0].account().tokens.access_token.reveal()}\n"
    assert far.presented(trial.refresh_token) == 1
    assert row(tables)["generation"] == 2


@pytest.mark.parametrize("words", ["refresh --force", "logout", "status"])
def test_ctrl_c_while_the_server_stands_still(words: str, far: Far, own_cluster: Cluster, tmp_path: Path) -> None:
    """It ends as Ctrl-C does, and nothing is spent."""
    database = with_tables(own_cluster.create_database("own"))
    (one,) = machines(tmp_path, database.url(), 1)
    trial = stored(far, tmp_path, one)
    own_cluster.pause()
    try:
        process = one.start(*words.split())
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        said = end(process)
    finally:
        own_cluster.resume()
    assert said.status == 130
    assert "psycopg" not in said.stderr
    assert far.presented(trial.refresh_token) == 0


@pytest.mark.parametrize("words", ["token", "status", "refresh --force"])
def test_ctrl_c_in_the_middle_of_a_statement(
    words: str, far: Far, tables: Database, proxy: Proxy, tmp_path: Path
) -> None:
    """It hangs up, instead of asking a server that does not answer to stop."""
    (direct,) = machines(tmp_path, tables.url(), 1)
    trial = stored(far, tmp_path, direct)
    one = direct.at(tables.url(port=proxy.port, sslmode="disable"))
    proxy.on_query = lambda text: "swallow answer" if "pg_is_in_recovery" in text else "pass"
    process = one.start(*words.split())
    assert proxy.withheld.wait(30)
    before = proxy.taken
    process.send_signal(signal.SIGINT)
    said = end(process)
    assert (said.status, said.stdout, said.stderr) == (130, "", "\nloopback-auth: error: interrupted\n")
    assert proxy.taken == before
    assert far.presented(trial.refresh_token) == 0


@pytest.mark.parametrize("number", [1, 450])
def test_all_accounts_at_a_glance(number: int, far: Far, tables: Database, proxy: Proxy, tmp_path: Path) -> None:
    """`status` asks for many accounts at a time, and says of each what it says of it alone."""
    (direct,) = machines(tmp_path, tables.url(), 1)
    first = stored(far, tmp_path, direct, age=10)
    accounts = direct.accounts
    for one in range(1, number):
        accounts.save(replace(first.stored, name=f"cafe-{one:03}"), 0)
    generation, digest = first.stored.spends
    accounts.note("default", Trouble(generation=generation, digest=digest, message="no", at=1.0, refused=True))
    through = direct.at(tables.url(port=proxy.port, sslmode="disable"))
    proxy.queries.clear()
    shown = through.run("status", "--json").json
    asked = [text for text in proxy.queries if "loopback_auth.account" in text]
    assert len(asked) == 1 + -(-number // 200)
    assert [account["account"] for account in shown] == accounts.names()
    assert [one["account"] for one in shown if one["state"] != "ok"] == ["default"]
    for one in [*shown[: number - 1 : 150], shown[-1]]:
        alone = direct.run("status", "--json", one["account"]).json
        timeless = {"expires_in", "refresh_token_age", "store"}
        assert {key: one[key] for key in one.keys() - timeless} == {key: alone[key] for key in alone.keys() - timeless}


def test_a_cached_token_outlives_the_server(far: Far, tables: Database, tmp_path: Path) -> None:
    """While the server is away a token that is good is handed out without a word, one that ends soon with a warning."""
    (one,) = machines(tmp_path, tables.url(), 1)
    away = one.at(tables.url(port=1))
    for age, warned in ((10, False), (3560, True)):
        trial = stored(far, tmp_path, one, age=age)
        away.leave_cached(one.account())
        said = away.run("token")
        assert (said.status, said.stdout) == (0, f"{trial.stored.tokens.access_token.reveal()}\n")
        assert ("cannot be reached: Connection refused" in said.stderr) == warned
        tables.sql("DELETE FROM loopback_auth.account")
    assert away.run("token", "--min-validity", "2h").status == 0


def test_clocks_that_differ(far: Far, tables: Database, tmp_path: Path) -> None:
    """An access token is as old as the server's clock says: a machine whose clock is behind does not spend at once."""
    one, two = machines(tmp_path, tables.url(), 2)
    trial = stored(far, tmp_path, one, age=10)
    behind = """
import time
real, uptime = time.time, time.clock_gettime
time.time = lambda: real() - 900
time.clock_gettime = lambda clock: uptime(clock) + 50_000
from loopback_auth.cli.main import main
main()
"""
    said = end(two.start("token", program=behind))
    assert said.stdout == f"{trial.stored.tokens.access_token.reveal()}\n"
    assert far.presented(trial.refresh_token) == 0


def test_a_server_whose_clock_was_wrong(far: Far, tables: Database, tmp_path: Path) -> None:
    """What was stored while it was a day ahead is not fresh for that day, but refreshed, once. A moment is nothing."""
    (one,) = machines(tmp_path, tables.url(), 1)
    trial = stored(far, tmp_path, one, age=10)
    tables.sql("UPDATE loopback_auth.account SET received_at = now() + interval '3 s'")
    assert one.run("refresh").status == 0
    assert far.presented(trial.refresh_token) == 0
    tables.sql("UPDATE loopback_auth.account SET received_at = now() + interval '1 day'")
    assert one.run("status", "--json").json[0]["expires_in"] == 0
    for _ in range(2):
        assert one.run("refresh").status == 0
    assert far.presented(trial.refresh_token) == 1
    assert row(tables)["generation"] == 2


def test_the_owner_brings_the_tables_up_to_date(database: Database) -> None:
    """From any version to the newest, all or nothing; twice is once; two at a time are one after the other."""
    owner = Connection(database.owner_url(sslmode="disable"))
    assert schema.migrate(owner) == (0, schema.VERSION)
    before = database.sql("SELECT id FROM loopback_auth.schema")
    more = (*schema.MIGRATIONS, "ALTER TABLE loopback_auth.account ADD COLUMN later int")
    broken = (*more, "ALTER TABLE loopback_auth.account ADD COLUMN later int")
    with pytest.raises(StoreError, match="already exists"):
        schema.migrate(owner, broken)
    assert database.sql("SELECT version FROM loopback_auth.schema") == [(schema.VERSION,)]
    done: list[tuple[int, int]] = []
    migrating = [
        threading.Thread(
            target=lambda: done.append(schema.migrate(Connection(database.owner_url(sslmode="disable")), more))
        )
        for _ in range(4)
    ]
    for thread in migrating:
        thread.start()
    for thread in migrating:
        thread.join()
    new = schema.VERSION + 1
    assert sorted(done) == [(schema.VERSION, new), (new, new), (new, new), (new, new)]
    with pytest.raises(StoreError, match=f"of version {new}, made by a later loopback-auth"):
        schema.migrate(owner)
    assert database.sql("SELECT id FROM loopback_auth.schema") == before


def test_tables_of_another_version(far: Far, tables: Database, tmp_path: Path) -> None:
    """A login says so before the browser opens, a refresh before it spends; a good token is handed out."""
    (one,) = machines(tmp_path, tables.url(), 1)
    trial = stored(far, tmp_path, one, age=10)
    tables.sql("UPDATE loopback_auth.schema SET version = 99")
    assert one.run("token").status == 0
    assert one.run("refresh", "--force").status == 8
    assert far.presented(trial.refresh_token) == 0
    one = replace(one, home=tmp_path / "new")
    said = one.run("login", "--server", "sandbox", "--force", BROWSER=WALKER)
    assert said.status == 8
    assert "are of version 99, this program's of" in said.errors[0]


@pytest.mark.parametrize("table", ["account (x int)", "schema (version int, id int)"])
def test_a_schema_that_is_another_programs(table: str, database: Database, tmp_path: Path) -> None:
    """`store init` says so, and leaves it as it was."""
    database.sql(f"CREATE SCHEMA loopback_auth AUTHORIZATION {database.owner}")
    database.sql(f"SET ROLE {database.owner}; CREATE TABLE loopback_auth.{table}")
    (one,) = machines(tmp_path, database.owner_url(), 1)
    said = one.run("store", "init")
    assert (said.status, "schema loopback_auth is another program's" in said.hints[0]) == (8, True)
    left = database.sql("SELECT relname FROM pg_class WHERE relnamespace = 'loopback_auth'::regnamespace")
    assert left == [(table.partition(" ")[0],)]


def test_the_printed_sql_makes_the_tables(far: Far, database: Database, tmp_path: Path) -> None:
    """What `store init --sql` prints, another may run with psql; the printed rights are enough, and the least."""
    (one,) = machines(tmp_path, database.url(), 1)
    printed = one.run("store", "init", "--sql", "--role", database.role)
    assert printed.status == 0
    with psycopg.connect(database.owner_url(), autocommit=True) as session:
        tables, rights = printed.stdout.split("COMMIT;")
        session.execute(f"{tables}COMMIT;".encode())
    for statement in rights.splitlines():
        if statement and not statement.startswith("--"):
            database.sql(statement)
    logged_in(one, far)
    assert one.run("refresh", "--force").status == 0
    for forbidden in (
        "DROP TABLE loopback_auth.account",
        "UPDATE loopback_auth.schema SET version = 3",
        "CREATE TABLE loopback_auth.x ()",
        "TRUNCATE loopback_auth.account",
    ):
        with psycopg.connect(database.url()) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(forbidden.encode())
    for right, command in (
        ("UPDATE", "refresh --force"),
        ("INSERT", "login --server sandbox --force"),
        ("SELECT", "token"),
    ):
        database.sql(f"REVOKE {right} ON loopback_auth.account FROM {database.role}")
        (one.folder / "default" / "tokens").unlink(missing_ok=True)
        said = one.run(*command.split(), BROWSER=WALKER, LOOPBACK_AUTH_SANDBOX_PORT=str(far.sandbox.port))
        assert said.status == 8, said.stderr
        assert "refuses this user" in said.errors[0]
        assert "store init --sql" in said.hints[0]
        database.sql(f"GRANT {right} ON loopback_auth.account TO {database.role}")
    assert one.account().generation == 2


def test_without_a_key_nothing_is_stored(tables: Database, tmp_path: Path) -> None:
    """The store is always sealed: without a key it is refused, with the command that makes one."""
    (one,) = machines(tmp_path, tables.url(), 1)
    said = one.run("login", "--server", "sandbox", BROWSER=WALKER, LOOPBACK_AUTH_STORE_KEY="")
    assert said.status == 3
    assert "no key was given" in said.errors[0]


def test_tls(far: Far, tables: Database, tmp_path: Path) -> None:
    """verify-full with the server's authority works; with another one, nothing is sent to the server."""
    cluster = tables.cluster
    (one,) = machines(tmp_path, tables.url(sslmode="verify-full", sslrootcert=cluster.ca_file), 1)
    stored(far, tmp_path, one)
    assert one.run("token").status == 0
    other = tmp_path / "other.pem"
    other.write_text(certificates.make()[0])
    said = one.at(tables.url(sslmode="verify-full", sslrootcert=other)).run("token")
    assert said.status == 8
    assert "certificate verify failed" in said.errors[0]
    assert "sslrootcert=FILE" in said.hints[0]


@pytest.mark.parametrize(
    ("change", "variables"),
    [("NOLOGIN", {}), ("VALID UNTIL '2000-01-01'", {}), ("LOGIN", {"PGPASSWORD": ""})],
)
def test_a_server_that_does_not_let_us_in(
    change: str, variables: dict[str, str], tables: Database, tmp_path: Path
) -> None:
    """A role that may not log in, or a password that is old or missing, is nothing that waiting mends."""
    tables.sql(f"ALTER ROLE {tables.role} {change}")
    address = tables.url().replace(f":{PASSWORD}@", "@") if variables else tables.url()
    (one,) = machines(tmp_path, address, 1)
    said = one.run("token", **variables, HOME=str(tmp_path))
    hint = "its password goes into ~/.pgpass or PGPASSWORD" if variables else "look at its user, password and name"
    assert (said.status, said.hints) == (8, [hint])


def test_hints_for_an_administrator(tables: Database, tmp_path: Path) -> None:
    """A database that is not there, a user who may not make tables, one who has no rights: what to type is said."""
    (missing,) = machines(tmp_path / "missing", tables.url(dbname="elsewhere"), 1)
    (hint,) = missing.run("status").hints
    assert hint.startswith("make it, as a superuser: createdb --owner OWNER NAME")
    (user,) = machines(tmp_path / "user", tables.url(), 1)
    tables.sql("DROP SCHEMA loopback_auth CASCADE")
    assert user.run("store", "init").hints == [
        "store init is for whoever owns the database: LOOPBACK_AUTH_STORE=postgresql://OWNER@HOST/DATABASE"
    ]
    assert user.at(tables.owner_url()).run("store", "init", "-q").status == 0
    assert user.run("status").hints == [f"what it needs, as SQL: loopback-auth store init --sql --role {tables.role}"]


def test_a_crowd_on_a_server_with_few_connections(far: Far, tables: Database, tmp_path: Path) -> None:
    """Whoever finds all of them taken tries again: one spend, and everybody has the token of it."""
    tables.sql(f"ALTER ROLE {tables.role} CONNECTION LIMIT 2")
    fleet = machines(tmp_path / "fleet", tables.url(), 2)
    trial = stored(far, tmp_path, fleet[0])
    processes = [fleet[number % 2].start("token") for number in range(8)]
    with all_ended(processes):
        said = [end(process) for process in processes]
    assert [one.stderr for one in said if one.status] == []
    assert len({one.stdout for one in said}) == 1
    assert far.presented(trial.refresh_token) == 1
    tables.sql(f"ALTER ROLE {tables.role} CONNECTION LIMIT 0")
    refused = fleet[0].run("refresh", "--force")
    assert (refused.status, "takes no more connections" in refused.errors[0]) == (8, True)


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_another_machine_without_tls_is_refused(mode: str, tmp_path: Path) -> None:
    """An address that would go over the network in clear is a mistake in the configuration."""
    (one,) = machines(tmp_path, f"postgresql://app@db.example/app?sslmode={mode}", 1)
    said = one.run("token")
    assert (said.status, "does without TLS" in said.errors[0]) == (3, True)


def test_an_address_that_is_none(tmp_path: Path) -> None:
    """It is not repeated with its password."""
    (one,) = machines(tmp_path, "postgresql://app:s3kr1t-x@[half/app", 1)
    said = one.run("token")
    assert said.status == 3
    assert "is not the address of a PostgreSQL server" in said.errors[0]
    assert "s3kr1t" not in said.stderr


@pytest.mark.parametrize(
    ("address", "variables"),
    [
        ("postgresql://app@localhost/app", {"PGHOSTADDR": "192.0.2.1"}),
        ("postgresql:///app", {"PGHOSTADDR": "192.0.2.1"}),
        ("postgresql:///app", {"PGSERVICE": "elsewhere"}),
        ("postgresql://localhost,db.example/app?hostaddr=127.0.0.1,", {}),
        ("postgresql://db.example/app?hostaddr=,", {}),
        ("postgresql://127.example/app", {}),
    ],
)
def test_tls_wherever_another_machine_is_named(address: str, variables: dict[str, str]) -> None:
    """By a variable of libpq, a service, one of several hosts or a name like a loopback address: TLS is asked for."""
    assert Connection(address, variables)._parameters["sslmode"] == "verify-full"


@pytest.mark.parametrize("address", ["postgresql://127.0.0.1/app", "postgresql:///app", "postgresql://%2Frun/app"])
def test_this_machine_does_without_tls(address: str) -> None:
    """A socket and a loopback address are nobody else's."""
    assert "sslmode" not in Connection(address, {})._parameters


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://app:s3kr1t/x@db.example/app",
        "postgresql://app:s3kr1t%zz@db.example/app",
        "postgresql://app:s3kr1t?%zz@db.example/app",
        "postgresql://app:x@s3kr1t@db.example/app",
        "postgresql://app:x@s3kr1t@db.example,db2.example/app",
        "host=db.example password=s3kr1t",
        "host=db.example password=s3kr1t:x",
    ],
)
def test_an_address_with_a_mistake_is_not_repeated_with_its_password(address: str, tmp_path: Path) -> None:
    """A slash, a question mark, a percent sign, an @ in it, libpq's other form: nothing said or kept shows it."""
    (one,) = machines(tmp_path, address, 1)
    for command in (["token"], ["store", "init"]):
        said = one.run(*command)
        assert said.status == 3
        assert "s3kr1t" not in said.stderr
    assert "s3kr1t" not in str(one.folder)
    with pytest.raises(ConfigurationError) as raised:
        stores.open_at(address, one.environment)
    assert raised.value.__cause__ is None


def test_a_database_without_an_encoding(far: Far, postgresql: Cluster, tmp_path: Path) -> None:
    """SQL_ASCII, which initdb makes of the locale C, and another encoding in the environment are of no account."""
    postgresql.sql(
        "CREATE DATABASE plain TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' OWNER app"
    )
    try:
        (one,) = machines(tmp_path, postgresql.url(dbname="plain"), 1)
        assert one.run("store", "init").status == 0
        stored(far, tmp_path, one)
        assert one.run("token", PGCLIENTENCODING="SQL_ASCII").status == 0
    finally:
        postgresql.sql("DROP DATABASE plain WITH (FORCE)")


@pytest.mark.parametrize(
    "change",
    [
        *(f"intents = '{text}'" for text in ("null", "5", '{"a": 1}', "[" * 5000 + "]" * 5000, f"[{'9' * 5000}]")),
        "received_at = 'infinity'",
        "received_at = '-infinity'",
    ],
)
def test_rows_that_somebody_else_has_changed(change: str, far: Far, tables: Database, tmp_path: Path) -> None:
    """What is no intent and no time is no fault of ours: the account can be shown, refreshed and forgotten."""
    (one,) = machines(tmp_path, tables.url(), 1)
    stored(far, tmp_path, one)
    tables.sql(f"UPDATE loopback_auth.account SET {change}")
    for command in ("status", "token", "logout"):
        said = one.run(command)
        assert (said.status, said.errors) == (0, [])


def test_a_row_that_no_account_can_be_called_after(far: Far, tables: Database, tmp_path: Path) -> None:
    """It is nobody's: the accounts beside it are shown."""
    (one,) = machines(tmp_path, tables.url(), 1)
    stored(far, tmp_path, one)
    tables.sql(
        "INSERT INTO loopback_auth.account (name, generation, content, written, received_at) "
        "VALUES (E'../\\033[31mx', 1, '', '', now())"
    )
    said = one.run("status", "--json")
    assert (said.status, [account["account"] for account in said.json]) == (0, ["default"])


def test_the_store_of_the_configuration(far: Far, tables: Database, tmp_path: Path) -> None:
    """`store` in config.toml names it as well; its cache is not the file store's."""
    (one,) = machines(tmp_path, "", 1)
    config = one.home / "config.toml"
    config.touch(0o600)
    config.write_text(f'store = "{tables.url()}"\n')
    other = one.at(tables.url())
    trial = stored(far, tmp_path, other, age=10)
    token = trial.stored.tokens.access_token.reveal()
    unset = {"LOOPBACK_AUTH_STORE": ""}
    assert one.run("token", **unset).stdout == f"{token}\n"
    assert one.run("token", **unset).stdout == f"{token}\n"
    (cached,) = [name for name, content in files_of(one).items() if token.encode() in content]
    assert cached.startswith(f"stores{os.sep}postgresql")
    config.write_text("")
    assert one.run("token", **unset).status == 4
