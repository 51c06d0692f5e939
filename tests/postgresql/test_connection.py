"""The connection to the store: what is tried again, what is not, what is said; and where it goes with TLS."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import pq

from loopback_auth.errors import ConfigurationError, StoreError, StoreNotWritable
from loopback_auth.store.postgresql import connection as postgresql_connection
from loopback_auth.store.postgresql import schema
from loopback_auth.store.postgresql.connection import Connection
from loopback_auth.store.postgresql.row import look
from loopback_auth.store.postgresql.store import PostgreSQLStore
from tests.conformance.work import NAME, record
from tests.faults.commands import until

from .cluster import Cluster, Database
from .machines import end, machines, with_tables
from .pooler import Pooler

PROCESS = "SELECT pg_backend_pid()"


@pytest.fixture
def tables(database: Database) -> Database:
    return with_tables(database)


@pytest.fixture
def ours(tables: Database) -> Connection:
    return Connection(tables.url(sslmode="disable"))


def end_sessions(tables: Database) -> None:
    """As whoever looks after the server would; nothing is said to who is idle."""
    question = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = "
    assert tables.sql(f"{question}'{tables.role}'") == [(True,)]


# -- what is tried again


def test_a_session_that_was_ended(tables: Database, ours: Connection) -> None:
    """It is begun anew at once, for a statement and for a transaction, however it was ended."""
    ours.run("SELECT 1")
    end_sessions(tables)
    assert ours.run("SELECT 1") == [(1,)]
    end_sessions(tables)
    with ours.transaction(keep=False) as session:
        assert session.execute(b"SELECT 1").fetchall() == [(1,)]
    tables.sql(f"ALTER ROLE {tables.role} SET idle_session_timeout = '100ms'")
    end_sessions(tables)
    for _ in range(2):
        assert ours.run("SELECT 1") == [(1,)]
        time.sleep(0.3)


def test_a_server_that_crashes_behind_a_pooler(own_cluster: Cluster) -> None:
    """The pooler says so, in words of its own: it is waited for as without one, while there is patience."""
    with Pooler(own_cluster) as pooler:
        ours = Connection(pooler.url(sslmode="disable"))
        found: list[Any] = []
        asking = threading.Thread(target=lambda: found.extend(ours.run("SELECT 1 FROM pg_sleep(1)", patience=20)))
        asking.start()
        until(lambda: own_cluster.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1)'"))
        own_cluster.kill()
        own_cluster.start()
        asking.join()
        assert found == [(1,)]


def test_a_statement_that_fails(tables: Database) -> None:
    """It is not tried again, and not taken for a server that is away."""
    ours = Connection(tables.url(sslmode="disable", options="-c statement_timeout=100"))
    began = time.monotonic()
    with pytest.raises(StoreNotWritable, match="did not do it: canceling statement due to statement timeout"):
        ours.run("SELECT pg_sleep(20)", patience=20)
    assert time.monotonic() - began < 10


def test_a_deadlock(tables: Database, ours: Connection) -> None:
    """A statement that was stopped to let another transaction go on is run again when that has ended."""
    for name in ("a", "b"):
        ours.run(f"INSERT INTO loopback_auth.account VALUES ('{name}', 1, '', '', now()) RETURNING 1")
    change = "UPDATE loopback_auth.account SET trouble = NULL WHERE name"
    found: list[Any] = []
    patient = tables.cluster.superuser_url(dbname=tables.name, options="-c deadlock_timeout=30s")
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(patient) as other:
        other.execute(f"{change} = 'b'".encode())
        running = threading.Thread(target=lambda: found.extend(ours.run(f"{change} IN ('a', 'b') RETURNING name")))
        running.start()
        until(lambda: tables.sql(waits) != [])
        other.execute(f"{change} = 'a'".encode())
        other.commit()
        running.join()
    assert sorted(found) == [("a",), ("b",)]


def test_a_session_lasts(tables: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is enough for many statements, with pauses between them; nothing is left in it, and it has our name."""
    monkeypatch.setattr(postgresql_connection, "STATEMENT_TIMEOUT", 0.3)
    ours = Connection(tables.url(sslmode="disable"))
    first = ours.run(PROCESS)
    time.sleep(0.6)
    for _ in range(10):
        assert ours.run(PROCESS) == first
    assert ours.run("SELECT count(*) FROM pg_prepared_statements") == [(0,)]
    assert ours.run("SHOW application_name") == [("loopback-auth",)]


def test_a_child_that_forgets_the_store(tables: Database, tmp_path: Path) -> None:
    """Its parent's session goes on: nothing is said on it, not even good-bye."""
    program = """
import gc, os
from loopback_auth.store.postgresql.connection import Connection
connection = Connection(os.environ["LOOPBACK_AUTH_STORE"])
before = connection.run("SELECT pg_backend_pid()")
if not (child := os.fork()):
    del connection
    gc.collect()
    os._exit(0)
os.waitpid(child, 0)
raise SystemExit(connection.run("SELECT pg_backend_pid()") != before)
"""
    (one,) = machines(tmp_path, tables.url(), 1)
    assert end(one.start(program=program)).status == 0


# -- what is said


def test_who_is_not_let_in(tables: Database) -> None:
    """A wrong password, and a database that is not there, are said as that; libpq's long words are left out."""
    for changed in ({"password": "s3kr1t-wrong"}, {"dbname": "elsewhere"}):
        with pytest.raises(StoreNotWritable) as raised:
            Connection(tables.url(sslmode="disable", **changed)).run("SELECT 1")
        what = "password authentication failed" if "password" in changed else 'database "elsewhere" does not exist'
        assert f"does not let us in: {what}" in str(raised.value)


def test_tables_that_lack_a_column(tables: Database, ours: Connection) -> None:
    """They are not of this version, and it is said how they become so."""
    tables.sql("ALTER TABLE loopback_auth.account DROP COLUMN answer")
    with pytest.raises(StoreNotWritable, match="has no tables of this version"):
        look(ours, [NAME])


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM loopback_auth.schema",
        "INSERT INTO loopback_auth.schema SELECT * FROM loopback_auth.schema",
        "UPDATE loopback_auth.schema SET id = '../../elsewhere'",
        "ALTER TABLE loopback_auth.account DROP CONSTRAINT account_pkey; "
        "INSERT INTO loopback_auth.account SELECT * FROM loopback_auth.account",
    ],
)
def test_tables_that_are_not_as_they_were_made(change: str, tables: Database, tmp_path: Path) -> None:
    """No name of the store, two, one that leads out of its folder, two rows of an account: nothing is believed."""
    store = PostgreSQLStore(tables.url(sslmode="disable"), str(tmp_path / "address"))
    store.write(NAME, record(), 0)
    tables.sql(change)
    with pytest.raises(StoreError, match="are not as they were made"):
        store.read(NAME)


def test_a_row_whose_time_is_to_come(tables: Database, tmp_path: Path) -> None:
    """An access token that was received a moment ahead of the server's clock is as good as new."""
    store = PostgreSQLStore(tables.url(sslmode="disable"), str(tmp_path / "address"))
    store.write(NAME, record(), 0)
    tables.sql("UPDATE loopback_auth.account SET received_at = now() + interval '5 s'")
    found = store.read(NAME)
    assert found is not None
    assert found.age == 0


# -- rights


def test_a_role_of_any_name(tables: Database) -> None:
    """Its name is quoted in what is printed."""
    role = f'{tables.name} "x"; DROP'
    quoted = f'"{tables.name} ""x""; DROP"'
    tables.sql(f"CREATE ROLE {quoted}")
    try:
        tables.sql(schema.rights(role))
        assert tables.sql(f"SELECT has_table_privilege('{role}', 'loopback_auth.account', 'DELETE')") == [(True,)]
    finally:
        tables.sql(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")


# -- where it goes


def parameters(address: str, **environ: str) -> dict[str, Any]:
    return Connection(f"postgresql://{address}", environ)._parameters


def test_the_first_of_several_that_can_be_written_to(own_cluster: Cluster) -> None:
    """A standby that is named first is passed over; one that is named alone is read from."""
    with own_cluster.standby() as standby:
        for ports, writes in ((f"{standby.port},{own_cluster.port}", True), (str(standby.port), False)):
            hosts = ",".join("127.0.0.1" for _ in ports.split(","))
            address = own_cluster.url(sslmode="disable").replace(f"127.0.0.1:{own_cluster.port}", "")
            ours = Connection(f"{address}&host={hosts}&port={ports}")
            assert ours.run("SELECT NOT pg_is_in_recovery()") == [(writes,)]


@pytest.mark.parametrize("place", ["db.example", "127.example", "127.0.0.1,db.example", "?service=elsewhere"])
def test_elsewhere(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server's name and authority are verified: the system's authorities, or those that libpq is told of."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pq.version() >= 160000
    usual = parameters(place)
    assert (usual["sslmode"], usual["sslrootcert"]) == ("verify-full", "system")
    assert "sslrootcert" not in parameters(place, PGSSLROOTCERT="/ca.crt")
    more = "&" if "?" in place else "/app?"
    assert parameters(f"{place}{more}sslrootcert=/ca.crt")["sslrootcert"] == "/ca.crt"
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert "sslrootcert" not in parameters(place)


def test_a_mode_that_somebody_chose() -> None:
    """One with TLS is left as it is, in the address and in libpq's variable, the address first; one without is not."""
    assert parameters("db.example", PGSSLMODE="require")["sslmode"] == "require"
    assert "sslrootcert" not in parameters("db.example", PGSSLMODE="require")
    assert parameters("db.example/app?sslmode=verify-ca", PGSSLMODE="disable")["sslmode"] == "verify-ca"
    for address, variable in (("db.example", "prefer"), ("db.example/app?sslmode=allow", "verify-full")):
        with pytest.raises(ConfigurationError, match="does without TLS"):
            parameters(address, PGSSLMODE=variable)


@pytest.mark.parametrize("environ", [{"PGHOST": "db.example"}, {"PGHOST": "127.0.0.1,db.example"}])
def test_elsewhere_by_a_variable(environ: dict[str, str]) -> None:
    """libpq goes where PGHOST says if the address names no host."""
    assert parameters("/app", **environ)["sslmode"] == "verify-full"
    assert "sslmode" not in parameters("localhost/app", **environ)


@pytest.mark.parametrize("place", ["localhost", "[::1]", "127.8.8.8", "", "%2Frun%2Fpostgresql", "@abstract"])
def test_here(place: str) -> None:
    """A loopback address and a socket, in the file system or not, are this machine: TLS is as libpq has it."""
    assert "sslmode" not in parameters(f"{place}/app" if place != "@abstract" else "/app?host=@abstract")
