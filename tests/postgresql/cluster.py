"""A real PostgreSQL for tests to use, crash and look into."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg

from . import sweep
from .home import Home, find
from .urls import PASSWORD, ROLE, SUPERUSER, postgresql_url

Setting = str | int | float | bool
PATIENCE = 60.0


class Cluster:
    """A throw-away cluster on a socket in its `folder` and on 127.0.0.1; a new one is not started yet.

    It asks for passwords (SCRAM) everywhere, offers TLS, and has the role `app` with a database of that name.
    """

    def __init__(self, home: Home, *, fsync: bool = False, primary: Cluster | None = None, **settings: Setting) -> None:
        self.home = home
        self.folder = home.make_folder()
        self.data = self.folder / "data"
        self.port = free_port()
        self.ca_file = home.ca_file
        """For sslmode=verify-full&sslrootcert=…"""
        self.primary = primary
        self._settings: dict[str, Setting] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": str(self.folder),
            "dynamic_shared_memory_type": "mmap",  # in the data folder, so that a killed server leaves none
            "ssl": True,
            "ssl_cert_file": str(home.certificate_file),
            "ssl_key_file": str(home.key_file),
            "fsync": fsync,
            **settings,
        }
        self._log_file = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        if primary is None:
            home.run("cp", "-a", template(home), self.data)
        else:
            address = ("-h", str(primary.folder), "-p", str(primary.port), "-U", SUPERUSER)
            options = ("-D", self.data, "--checkpoint=fast", "--no-sync", "--write-recovery-conf")
            home.run(find("pg_basebackup"), *address, *options, PGPASSWORD=home.superuser_password)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- its life --

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when connections are accepted; after a crash that is after recovery."""
        assert not self.running
        self._write_settings()
        self._process = self.home.start(find("postgres"), "-D", self.data, folder=self.folder, log=self._log_file)
        _wait(lambda: not self.running or self._is_ready(), "the server does not start")
        if not self.running:
            raise RuntimeError(f"the server ended: {self.log()[-2000:]}")

    def stop(self) -> None:
        """End it in an orderly way; sessions are cut, their transactions rolled back."""
        assert self._process is not None
        self.resume()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE)

    def kill(self) -> None:
        """A crash: all processes die at once, none finishes what it does; `start` recovers on the same port."""
        assert self._process is not None
        self._process.kill()
        sweep.kill(self.folder)
        self._process.wait()

    def pause(self) -> None:
        """Stop all processes where they are, as a machine that hangs: connections are taken and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        stopped: list[int] = []
        while new := [pid for pid in sweep.processes(self.folder) if pid not in stopped]:
            sweep.send(signal.SIGSTOP, new)
            stopped += new

    def resume(self) -> None:
        """Let them go on; nothing happens if they do."""
        sweep.send(signal.SIGCONT, sweep.processes(self.folder))

    def close(self) -> None:
        """End it, however it is, and delete its folder."""
        if self._process is not None:
            self._process.kill()
        sweep.delete(self.folder)
        if self._process is not None:
            self._process.wait()

    # -- its settings --

    def reload(self, **settings: Setting) -> None:
        """Change settings, for new sessions at once and for others between two of their statements.

        Of a server that does not run, and where a setting needs that, they change with the next start.
        """
        self._settings |= settings
        self._write_settings()
        if self.running and self._process is not None:
            before = self.sql("SELECT pg_conf_load_time()")
            self._process.send_signal(signal.SIGHUP)
            _wait(lambda: self.sql("SELECT pg_conf_load_time()") != before, "the settings are not read")

    def _write_settings(self) -> None:
        lines = (f"{name} = {_quoted(value)}\n" for name, value in self._settings.items())
        self.home.write(self.data / "settings.conf", "".join(lines))

    # -- its addresses --

    def url(self, **parameters: object) -> str:
        """As a postgresql:// URL of `app`, over TCP; `user`, `dbname`, `host` … are as given, the rest is the query."""
        usual = {"user": ROLE, "password": PASSWORD, "dbname": ROLE, "host": "127.0.0.1", "port": self.port}
        return postgresql_url(**usual | parameters)

    def superuser_url(self, **parameters: object) -> str:
        """The same of `postgres`, over the socket; whoever has it can do anything that the server's user can."""
        usual = {"user": SUPERUSER, "password": self.home.superuser_password, "dbname": SUPERUSER}
        return self.url(**usual | {"host": self.folder} | parameters)

    # -- what is in it --

    def sql(self, text: str, dbname: str = SUPERUSER) -> list[tuple[Any, ...]]:
        """Run one statement or several as the superuser, each committed; return the rows of the first."""
        with self._connect(dbname) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> Database:
        """A new database with a role that owns it, and a role that owns nothing."""
        database = Database(self, name, owner=f"{name}_owner", role=f"{name}_role")
        with self._connect(SUPERUSER) as connection:
            for role in (database.owner, database.role):
                # Not the password itself: with log_statement = all it would be in the log.
                known = connection.pgconn.encrypt_password(PASSWORD.encode(), role.encode(), b"scram-sha-256")
                connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{known.decode()}'".encode())
            connection.execute(f"CREATE DATABASE {name} OWNER {database.owner}".encode())
        return database

    def _connect(self, dbname: str) -> psycopg.Connection:
        url = self.superuser_url(dbname=dbname, connect_timeout=10, options="-c default_transaction_read_only=off")
        return psycopg.connect(url, autocommit=True)

    def log(self) -> str:
        """All it has written since it was made."""
        return self._log_file.read_text(errors="replace")

    # -- others --

    def another(self, **settings: Any) -> Cluster:
        """A new cluster of its own, not started yet."""
        return Cluster(self.home, **settings)

    def standby(self, **settings: Any) -> Cluster:
        """A hot standby which follows this one, not started yet; `pg_promote()` makes it go its own way."""
        return Cluster(self.home, primary=self, **settings)

    def catch_up(self) -> None:
        """Of a standby: wait until it shows all that its primary has written."""
        assert self.primary is not None
        ((end,),) = self.primary.sql("SELECT pg_current_wal_flush_lsn()")
        question = f"SELECT pg_last_wal_replay_lsn() >= '{end}'"
        _wait(lambda: self.sql(question) == [(True,)], "the standby does not follow")

    def _is_ready(self) -> bool:
        """Whether this very start is said to accept connections in the file where pg_ctl looks, too."""
        assert self._process is not None
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self._process.pid)] and "".join(lines[7:8]).strip() == "ready"


@dataclass(frozen=True)
class Database:
    """One database of a cluster, its owner, and a role that owns nothing."""

    cluster: Cluster
    name: str
    owner: str
    role: str

    def url(self, **parameters: object) -> str:
        """The address for the role that owns nothing; `port` and others may be said otherwise."""
        return self.cluster.url(**{"user": self.role, "dbname": self.name} | parameters)

    def owner_url(self, **parameters: object) -> str:
        """The address for the owner."""
        return self.url(**{"user": self.owner} | parameters)

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        """`Cluster.sql` in this database."""
        return self.cluster.sql(text, self.name)

    def drop(self) -> None:
        """End its sessions; delete it and its roles."""
        self.cluster.sql(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        self.cluster.sql(f"DROP ROLE IF EXISTS {self.owner}, {self.role}")


def template(home: Home) -> Path:
    """The data folder that new clusters begin with; it is made once, since that takes longer than all else."""
    if home.template is None:
        data = home.make_folder() / "data"
        secret = home.folder / "superuser"
        home.write(secret, home.superuser_password)
        kind = ("--username", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")
        home.run(find("initdb"), "-D", data, *kind, "--pwfile", secret, "--no-sync")
        secret.unlink()
        with (data / "postgresql.conf").open("a") as file:
            file.write("include_if_exists 'settings.conf'\n")
        statements = f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'\nCREATE DATABASE {ROLE} OWNER {ROLE}\n"
        home.run(find("postgres"), "--single", "-D", data, "-c", "fsync=off", SUPERUSER, text=statements)
        home.template = data
    return home.template


def free_port() -> int:
    """A port that is free, from below those that the kernel hands out on its own: it stays ours while we restart."""
    while True:
        port = random.randint(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _quoted(value: Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "'" + str(value).replace("'", "''") + "'"


def _wait(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.005)
