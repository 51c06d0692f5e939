"""Where the conformance suite finds the PostgreSQL store: a server of its own, a database for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopback_auth import stores
from loopback_auth.store.base import Store
from loopback_auth.store.postgresql import schema
from loopback_auth.store.postgresql.connection import Connection
from loopback_auth.store.sealed import SealedStore
from tests.conformance.place import Place

from .cluster import Cluster
from .fixtures import or_skip
from .home import Home
from .machines import KEY

_OWNER = "LOOPBACK_AUTH_TEST_POSTGRESQL"
"""The variable in which the processes of a test find the server, as its superuser."""


class PostgreSQLPlace(Place):
    """The store itself, with a folder on each machine."""

    sealed = False

    @classmethod
    @contextmanager
    def session(cls, _folder: Path) -> Iterator[None]:
        """Run a server."""
        home = or_skip(Home)
        try:
            with Cluster(home) as cluster:
                os.environ[_OWNER] = cluster.superuser_url(dbname="DATABASE")
                yield
                del os.environ[_OWNER]
        finally:
            home.close()

    def open(self, machine: str = "one") -> Store:
        """Make the database with the first."""
        known = self.folder / "database"
        if not known.exists():
            name = f"place_{uuid.uuid4().hex}"
            self._sql(f"CREATE DATABASE {name}", "postgres")
            schema.migrate(Connection(self._address(name)))
            known.write_text(name)
        environ = {
            "LOOPBACK_AUTH_HOME": str(self.folder / machine),
            "LOOPBACK_AUTH_STORE": self._address(known.read_text()),
            "LOOPBACK_AUTH_STORE_KEY": KEY,
        }
        sealed = stores.open_store(environ).store
        assert isinstance(sealed, SealedStore)
        return sealed if self.sealed else sealed.inner

    def close(self) -> None:
        """Drop the database."""
        if (self.folder / "database").exists():
            self._sql(f"DROP DATABASE {self._name} WITH (FORCE)", "postgres")

    def damage(self, name: str) -> None:
        """Let the owner of the database write nonsense into it."""
        self._sql(f"UPDATE loopback_auth.account SET content = 'nonsense' WHERE name = '{name}'")

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Let sessions begin read-only, and end those that have begun."""
        self._read_only("on")
        try:
            yield
        finally:
            self._read_only("off")

    def after_lease(self) -> None:
        """End all leases."""
        self._sql("UPDATE loopback_auth.account SET lease_until = now() WHERE state = 'in_flight'")

    def _read_only(self, value: str) -> None:
        self._sql(f"ALTER DATABASE {self._name} SET default_transaction_read_only = {value}", "postgres")
        self._sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'", "postgres")

    @property
    def _name(self) -> str:
        return (self.folder / "database").read_text()

    @staticmethod
    def _address(name: str) -> str:
        return os.environ[_OWNER].replace("DATABASE", name)

    def _sql(self, statement: str, database: str | None = None) -> None:
        import psycopg

        with psycopg.connect(self._address(database or self._name), autocommit=True) as session:
            session.execute(statement.encode())


class SealedPostgreSQLPlace(PostgreSQLPlace):
    """As it is opened from its address."""

    sealed = True
