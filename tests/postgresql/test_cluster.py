"""The PostgreSQL of the tests does what the tests of the store rely on."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from . import certificates, fixtures, home, sweep
from .cluster import Cluster, Database
from .pooler import Pooler
from .proxy import Proxy, Verdict

ROOT = Path(__file__).resolve().parents[2]


def run(url: str, text: str, parameters: list[object] | None = None) -> list[tuple[Any, ...]]:
    """One statement in a session of its own."""
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        cursor = connection.execute(text.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def table(database: Database) -> Database:
    """A database whose other role may add to a table."""
    run(database.owner_url(), f"CREATE TABLE kept (what text); GRANT ALL ON kept TO {database.role}")
    return database


def kept(database: Database) -> list[str]:
    return [what for (what,) in database.sql("SELECT what FROM kept ORDER BY what")]


# -- clusters --


def test_passwords(postgresql: Cluster) -> None:
    """Over TCP and over the socket the right password opens the database, and no other does."""
    for host in ("127.0.0.1", "localhost", str(postgresql.folder)):
        assert run(postgresql.url(host=host), "SELECT current_user, current_database()") == [("app", "app")]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            run(postgresql.url(host=host, password="wrong"), "SELECT 1")


def test_databases(database: Database) -> None:
    """A database has an owner who may create tables, and a role that may not and owns nothing."""
    assert run(database.owner_url(), "CREATE TABLE own (it int)") == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(database.url(), "CREATE TABLE own_too (it int)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(database.url(), "SELECT * FROM own")
    owned = f"SELECT 1 FROM pg_shdepend WHERE deptype = 'o' AND refobjid = '{database.role}'::regrole"
    assert database.sql(owned) == []


def test_a_dropped_database(postgresql: Cluster) -> None:
    """A database goes with its roles, and with the sessions that are in it."""
    gone = postgresql.create_database("gone")
    with psycopg.connect(gone.url(), autocommit=True) as connection:
        gone.drop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert postgresql.sql("SELECT 1 FROM pg_roles WHERE rolname LIKE 'gone%'") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls(postgresql: Cluster, host: str, tmp_path: Path) -> None:
    """The certificate is good for both names where its authority is trusted, and refused where another one is."""
    question = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    trusting = postgresql.url(host=host, sslmode="verify-full", sslrootcert=postgresql.ca_file)
    assert run(trusting, question) == [(True,)]
    assert run(postgresql.url(host=host, sslmode="disable"), question) == [(False,)]

    (tmp_path / "ca.crt").write_text(certificates.make()[0])
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        run(postgresql.url(host=host, sslmode="verify-full", sslrootcert=tmp_path / "ca.crt"), question)


@pytest.mark.parametrize("cluster_settings", [{"log_statement": "all", "fsync": True}])
def test_settings(own_cluster: Cluster) -> None:
    """Settings hold from the start; others are read while it runs; both outlive a restart."""
    assert own_cluster.sql("SHOW fsync") == [("on",)]
    run(own_cluster.url(), "SELECT 'in the log'")
    assert "SELECT 'in the log'" in own_cluster.log()

    own_cluster.reload(default_transaction_read_only=True, application_name="it's")
    for _ in range(2):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            run(own_cluster.url(), "CREATE TABLE refused (it int)")
        assert run(own_cluster.url(), "SHOW application_name") == [("it's",)]
        own_cluster.sql("CREATE TABLE of_the_superuser_at_any_time (it int); DROP TABLE of_the_superuser_at_any_time")
        own_cluster.stop()
        own_cluster.start()


@pytest.mark.parametrize("cluster_settings", [{"log_statement": "all"}])
def test_passwords_are_not_logged(own_cluster: Cluster) -> None:
    """A server that logs all statements has no password in its log."""
    database = own_cluster.create_database("logged")
    assert run(database.url(), "SELECT 1") == [(1,)]
    assert "CREATE ROLE logged_role" in own_cluster.log()
    assert "s3kr1t-" not in own_cluster.log()


def test_a_crash(own_cluster: Cluster) -> None:
    """After a crash what was committed is there, what was not is gone; no process outlives it, busy or not."""
    run(own_cluster.url(), "CREATE TABLE kept (what text)")
    busy = threading.Thread(target=_fails, args=(own_cluster.url(), "SELECT count(*) FROM generate_series(1, 1e10)"))
    busy.start()
    active = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND usename = 'app'"
    assert _soon(lambda: own_cluster.sql(active) == [(1,)])
    with psycopg.connect(own_cluster.url()) as connection:
        connection.execute("INSERT INTO kept VALUES ('committed')")
        connection.commit()
        connection.execute("INSERT INTO kept VALUES ('not committed')")
        own_cluster.kill()
        assert not own_cluster.running
        assert sweep.processes(own_cluster.folder) == []
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    busy.join(10)
    assert not busy.is_alive()

    port = own_cluster.port
    own_cluster.start()
    assert own_cluster.port == port
    assert "was not properly shut down; automatic recovery in progress" in own_cluster.log()
    assert run(own_cluster.url(), "SELECT what FROM kept") == [("committed",)]


def _fails(url: str, text: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        run(url, text)


def test_a_stop(own_cluster: Cluster) -> None:
    """A stop ends sessions, tells them so, and is followed by a start without recovery."""
    with psycopg.connect(own_cluster.url(), autocommit=True) as connection:
        own_cluster.stop()
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")
    own_cluster.start()
    assert "recovery in progress" not in own_cluster.log()


def test_a_pause(own_cluster: Cluster) -> None:
    """A paused server keeps old sessions and new ones waiting, until it goes on; it can be killed and stopped, too."""
    with psycopg.connect(own_cluster.url(), autocommit=True) as connection:
        own_cluster.pause()
        answer: list[object] = []
        asking = threading.Thread(target=lambda: answer.extend(connection.execute("SELECT 1").fetchall()))
        asking.start()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(own_cluster.url(), connect_timeout=2)
        assert not answer
        own_cluster.resume()
        asking.join(10)
        assert answer == [(1,)]
    own_cluster.pause()
    own_cluster.kill()
    own_cluster.start()
    own_cluster.pause()
    own_cluster.stop()


def test_a_standby(own_cluster: Cluster) -> None:
    """A standby shows what its primary has committed, changes nothing, and can be promoted when the primary is gone."""
    run(own_cluster.url(), "CREATE TABLE kept (what text)")
    with own_cluster.standby() as standby:
        run(own_cluster.url(), "INSERT INTO kept VALUES ('later')")
        standby.catch_up()
        assert run(standby.url(), "SELECT what, pg_is_in_recovery() FROM kept") == [("later", True)]
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            run(standby.url(), "INSERT INTO kept VALUES ('refused')")
        own_cluster.kill()
        assert standby.sql("SELECT pg_promote()") == [(True,)]
        run(standby.url(), "INSERT INTO kept VALUES ('taken')")


def test_a_server_that_does_not_start(postgresql: Cluster) -> None:
    """A server that ends at once is an error with its own words, and leaves no folder."""
    broken = postgresql.another(shared_buffers="no size")
    with pytest.raises(RuntimeError, match='invalid value for parameter "shared_buffers"'):
        broken.start()
    broken.close()
    assert not broken.folder.exists()


# -- its surroundings --

OPEN = """
import os, sys
import tests.postgresql.cluster
sys.exit(not os.access(sys.executable, os.X_OK))
"""
ALONE = """
import os
from tests.postgresql.cluster import Cluster
from tests.postgresql.home import Home
from tests.postgresql.pooler import Pooler
home = Home()
with Cluster(home) as cluster, Pooler(cluster) as pooler, cluster.standby() as standby:
    assert cluster.data.owner() != "root"
    import psycopg
    for server in (cluster, pooler, standby):
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
    cluster.kill()
    cluster.start()
home.close()
assert not home.folder.exists()
print(os.geteuid(), "done")
"""


@pytest.mark.parametrize("user", [None, "nobody"])
def test_whose_servers(postgresql: Cluster, user: str | None) -> None:
    """A plain user's servers run as that user, root's as a user of their own."""
    fixtures.or_skip(lambda: home.find("pgbouncer"))
    words = [] if user is None else ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"]
    if words and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    number = os.geteuid() if user is None else pwd.getpwnam(user).pw_uid
    path = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    environment = {"PYTHONPATH": path, "PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"}

    def run_by(python: str, program: str) -> subprocess.CompletedProcess[str]:
        command = [*words, python, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")

    # A Python in root's home is for root alone, Debian's of the same version can use what is installed for it.
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if run_by(python, OPEN).returncode == 0:
            done = run_by(python, ALONE)
            assert done.stdout == f"{number} done\n", done.stderr
            return
    pytest.skip("this Python cannot be run by other users")


INTERRUPTED = """
import os, time
import pytest
from pathlib import Path
from tests.postgresql.fixtures import *

def test_it(database, own_cluster, pooler, proxy):
    own_cluster.pause()
    Path(os.environ["TOLD"]).write_text(str(own_cluster.home.folder))
    {}
"""


@pytest.mark.parametrize(
    ("last", "number", "status"),
    [
        ("time.sleep(60)", signal.SIGINT, 2),
        ("time.sleep(60)", signal.SIGKILL, -signal.SIGKILL),
        ("assert False", None, 1),
    ],
    ids=["Ctrl-C", "killed", "failed"],
)
def test_nothing_is_left(
    postgresql: Cluster, tmp_path: Path, last: str, number: signal.Signals | None, status: int
) -> None:
    """However the tests end, no process and no folder of their servers is left."""
    (tmp_path / "test_it.py").write_text(INTERRUPTED.format(last))
    told = tmp_path / "told"
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TOLD": str(told), "CI": "true"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    assert _soon(lambda: process.poll() is not None or (told.exists() and told.read_text() != ""))
    if number:
        os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == status, output
    folder = Path(told.read_text())
    assert folder.parent == Path("/tmp")
    assert _soon(lambda: not folder.exists())
    assert sweep.processes(folder) == []


def _soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_a_missing_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program skips the test on a person's machine and fails it in CI, with what to install."""
    monkeypatch.setattr("glob.glob", lambda _: [])
    monkeypatch.setattr("shutil.which", lambda _, path: None)
    what = "initdb is not installed: apt-get install --no-install-recommends postgresql"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=what):
        fixtures.or_skip(home.Home)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=what):
        fixtures.or_skip(home.Home)


# -- the pooler --


def test_the_pooler(database: Database, pooler: Pooler) -> None:
    """In transaction mode clients take turns on the pool's one connection, and wait for each other's transactions."""
    url = database.url(port=pooler.port)
    backend = "SELECT pg_backend_pid()"
    with psycopg.connect(url) as first, psycopg.connect(url) as second:
        known = first.execute(backend).fetchall()
        first.commit()
        assert second.execute(backend).fetchall() == known
        waiting = threading.Thread(target=first.execute, args=(backend,))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        second.commit()
        waiting.join(10)
        assert not waiting.is_alive()


def test_a_larger_pool(postgresql: Cluster) -> None:
    """With a larger pool the transactions of one client run on several connections, whichever is free."""
    with Pooler(postgresql, pool_size=2) as pooler:
        url = pooler.url()
        with psycopg.connect(url) as first, psycopg.connect(url) as second:
            backends = []
            for one, other in ((first, second), (second, first)):
                other.execute("SELECT 1")
                backends.append(first.execute("SELECT pg_backend_pid()").fetchall()[0])
                one.commit()
                other.commit()
            assert len(set(backends)) == 2


def test_the_pooler_asks_for_passwords_and_takes_tls(postgresql: Cluster, pooler: Pooler) -> None:
    """The pooler refuses a wrong password, and shows the same certificate as the cluster."""
    with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
        run(pooler.url(password="wrong"), "SELECT 1")
    assert run(pooler.url(sslmode="verify-full", sslrootcert=postgresql.ca_file), "SELECT 1") == [(1,)]


def test_the_pooler_ends(postgresql: Cluster, pooler: Pooler) -> None:
    """A pooler that is stopped or killed takes its clients with it, and comes back on the same port."""
    for end in (pooler.stop, pooler.kill):
        with psycopg.connect(pooler.url(), autocommit=True) as connection:
            connection.execute("SELECT 1")
            end()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        pooler.start()
    assert run(pooler.url(), "SELECT 1") == [(1,)]


# -- the proxy --

INSERT = "INSERT INTO kept VALUES ({})"


def judged(verdict: Verdict) -> Callable[[str], Verdict]:
    return lambda text: verdict if text.startswith("INSERT") else "pass"


@pytest.mark.parametrize("parameters", [None, ["it"]], ids=["simple", "extended"])
@pytest.mark.parametrize(("verdict", "expected"), [("pass", ["it"]), ("cut before", []), ("cut after", ["it"])])
def test_verdicts(
    table: Database, proxy: Proxy, verdict: Verdict, expected: list[str], parameters: list[object] | None
) -> None:
    """A statement passes, is cut off before the server has it, or after it has completed it and before the answer."""
    proxy.on_query = judged(verdict)
    text = INSERT.format("%s" if parameters else "'it'")
    with psycopg.connect(table.url(port=proxy.port), autocommit=True) as connection:
        connection.execute("SELECT 1")
        if verdict == "pass":
            connection.execute(text.encode(), parameters)
        else:
            with pytest.raises(psycopg.OperationalError, match="closed the connection unexpectedly"):
                connection.execute(text.encode(), parameters)
    assert proxy.queries[:2] == ["SELECT 1", text.replace("%s", "$1")]
    assert proxy.withheld.is_set() == (verdict == "cut after")
    assert kept(table) == expected


def test_an_answer_that_is_swallowed(table: Database, proxy: Proxy) -> None:
    """The server completes the statement, the client waits on a connection that stays open."""
    proxy.on_query = judged("swallow answer")
    connection = psycopg.connect(table.url(port=proxy.port), autocommit=True)
    asking = threading.Thread(target=_breaks, args=(connection, INSERT.format("'it'")))
    asking.start()
    assert proxy.withheld.wait(10)
    assert kept(table) == ["it"]
    asking.join(0.3)
    assert asking.is_alive()
    proxy.cut()
    asking.join(10)
    assert not asking.is_alive()
    assert run(proxy.url(), "SELECT 1") == [(1,)]


def _breaks(connection: psycopg.Connection, text: str) -> None:
    with connection, pytest.raises(psycopg.OperationalError):
        connection.execute(text.encode())


def test_a_commit_that_is_cut_after(table: Database, proxy: Proxy) -> None:
    """A COMMIT whose acknowledgement is lost has happened."""
    proxy.on_query = lambda text: "cut after" if text == "COMMIT" else "pass"
    with pytest.raises(psycopg.OperationalError), psycopg.connect(table.url(port=proxy.port)) as connection:
        connection.execute("INSERT INTO kept VALUES (%s)", ["it"])
    assert proxy.queries == ["BEGIN", "INSERT INTO kept VALUES ($1)", "COMMIT"]
    assert kept(table) == ["it"]


def test_prepared_statements(table: Database, proxy: Proxy) -> None:
    """The proxy is asked each time a prepared statement runs, not when it is prepared; the third one is cut."""
    proxy.on_query = lambda _: "cut after" if len(proxy.queries) == 3 else "pass"
    with psycopg.connect(table.url(port=proxy.port), autocommit=True) as connection:
        for number in range(2):
            connection.execute("INSERT INTO kept VALUES (%s)", [str(number)], prepare=True)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("INSERT INTO kept VALUES (%s)", ["2"], prepare=True)
    assert kept(table) == ["0", "1", "2"]


def test_a_pipeline(table: Database, proxy: Proxy) -> None:
    """Of statements in a pipeline those before the cut are answered, the one that is cut has happened."""
    proxy.on_query = lambda text: "cut after" if len(proxy.queries) == 2 else "pass"
    connection = psycopg.connect(table.url(port=proxy.port), autocommit=True)
    with connection, pytest.raises(psycopg.OperationalError), connection.pipeline() as pipeline:
        first = connection.execute("INSERT INTO kept VALUES (%s) RETURNING what", ["first"])
        pipeline.sync()
        assert first.fetchall() == [("first",)]
        connection.execute("INSERT INTO kept VALUES (%s)", ["second"])
        pipeline.sync()
    assert kept(table) == ["first", "second"]


def test_silence(table: Database, proxy: Proxy) -> None:
    """In silence the server still does what it is told; afterwards new connections are answered, old ones are cut."""
    connection = psycopg.connect(table.url(port=proxy.port), autocommit=True)
    proxy.silence()
    asking = threading.Thread(target=_breaks, args=(connection, INSERT.format("'it'")))
    asking.start()
    assert proxy.withheld.wait(10)
    assert kept(table) == ["it"]
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        psycopg.connect(proxy.url(connect_timeout=2))
    proxy.speak()
    asking.join(10)
    assert run(proxy.url(), "SELECT 1") == [(1,)]


def test_a_proxy_without_a_server(own_cluster: Cluster) -> None:
    """Before a server that is down a proxy takes connections and ends them."""
    with Proxy(own_cluster) as proxy:
        own_cluster.kill()
        with pytest.raises(psycopg.OperationalError):
            run(proxy.url(), "SELECT 1")
        own_cluster.start()
        assert run(proxy.url(), "SELECT 1") == [(1,)]


def test_a_question_that_fails(postgresql: Cluster) -> None:
    """What the test's own function raises is raised when the proxy is closed."""

    def fail(_: str) -> Verdict:
        raise KeyError("mine")

    proxy = Proxy(postgresql, fail)
    with pytest.raises(psycopg.OperationalError):
        run(proxy.url(), "SELECT 1")
    with pytest.raises(KeyError, match="mine"):
        proxy.close()


def test_an_address_with_anything_in_it(postgresql: Cluster) -> None:
    """Names, passwords and parameters of an address may hold what an address gives a meaning."""
    url = postgresql.url(user="a:b@c/d", password="?#&%", application_name="a b&c=d")
    found = psycopg.conninfo.conninfo_to_dict(url)
    assert (found["user"], found["password"], found["application_name"]) == ("a:b@c/d", "?#&%", "a b&c=d")
