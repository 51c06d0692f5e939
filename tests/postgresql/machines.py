"""Machines of a fleet: a home each, one PostgreSQL store, and the real command on them; the sandbox is far away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loopback_auth import folders, stores
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account
from loopback_auth.store.postgresql import schema
from loopback_auth.store.postgresql.connection import Connection
from tests.ended import Ended
from tests.faults.commands import environment
from tests.faults.machine import Far, Trial

from .cluster import Database

KEY = "5e" * 32
"""What every machine of a fleet seals with."""


def with_tables(database: Database) -> Database:
    """Make the tables, and give the other role the rights that are printed."""
    schema.migrate(Connection(database.owner_url(sslmode="disable")))
    for statement in schema.rights(database.role).splitlines():
        if not statement.startswith("--"):
            database.sql(statement)
    return database


@dataclass(frozen=True)
class Machine:
    """A home of its own: what another machine has on its disk is not there."""

    home: Path
    address: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            **environment(self.home),
            "LOOPBACK_AUTH_STORE": self.address,
            "LOOPBACK_AUTH_STORE_KEY": KEY,
            "WALKER_USER": "cafe-roma",
            "WALKER_PASSWORD": "espresso",
        }

    @property
    def accounts(self) -> Accounts:
        return stores.open_store(self.environment)

    @property
    def folder(self) -> Path:
        return Path(folders.accounts(self.environment))

    def at(self, address: str) -> Machine:
        """The same machine, on another way to the store; it keeps what it has."""
        return replace(self, address=address)

    def start(self, *arguments: str, program: str | None = None, **variables: str) -> subprocess.Popen[str]:
        """Start `loopback-auth` with these arguments, or `program` as Python in its place."""
        words = ["-m", "loopback_auth"] if program is None else ["-c", program]
        return subprocess.Popen(
            [sys.executable, *words, *arguments],
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **variables: str) -> Ended:
        return end(self.start(*arguments, **variables))

    def account(self) -> Account:
        stored = self.accounts.load("default")
        assert stored is not None
        return stored

    def leave_cached(self, account: Account) -> None:
        """Be a machine that has asked for this account's token before."""
        self.accounts.leave(account)


def end(process: subprocess.Popen[str], timeout: float = 90) -> Ended:
    """Wait for a command, and return what it said."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Ended(process.returncode, stdout, stderr)


def machines(folder: Path, address: str, number: int) -> list[Machine]:
    """Return so many machines with a store in common."""
    made = [Machine(folder / f"machine-{one}", address) for one in range(number)]
    for machine in made:
        machine.home.mkdir(mode=0o700, parents=True)
    return made


def stored(far: Far, homes: Path, machine: Machine, age: float = 7200, **changes: Any) -> Trial:
    """Bring an account whose access token is so many seconds old into the machines' store."""
    trial = far.account(homes, age, **changes)
    machine.accounts.save(trial.stored, 0)
    return trial


def expire(database: Database, seconds: float = 7200, name: str = "default") -> None:
    """Let so many seconds go by for an access token."""
    database.sql(
        f"UPDATE loopback_auth.account SET received_at = received_at - {seconds} * interval '1 s' WHERE name = '{name}'"
    )


def end_lease(database: Database, name: str = "default") -> None:
    """Let the time go by that a claim holds."""
    database.sql(f"UPDATE loopback_auth.account SET lease_until = now() WHERE name = '{name}'")


def row(database: Database, name: str = "default") -> dict[str, Any]:
    """What anybody sees who may look into the table."""
    columns = ["generation", "state", "claimed_by", "intents", "answer", "trouble", "content"]
    (found,) = database.sql(f"SELECT {', '.join(columns)} FROM loopback_auth.account WHERE name = '{name}'")
    return dict(zip(columns, found, strict=True))


@contextmanager
def all_ended(processes: list[subprocess.Popen[str]]) -> Iterator[None]:
    """Leave no process behind, whatever a test finds."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for process in processes:
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def files_of(machine: Machine) -> dict[str, bytes]:
    """Everything that is on a machine's disk."""
    return {
        os.path.relpath(path, machine.home): path.read_bytes() for path in machine.home.rglob("*") if path.is_file()
    }
