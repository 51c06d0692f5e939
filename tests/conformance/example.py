"""A complete store, as small as it can be: one SQLite database, and the operating system's locks beside it.

An example for whoever writes a store. It keeps what `Store` and `Journal` promise; unlike the file store it checks no
owners and modes, and while the disk is full an answer that came is in no file: the failed commit hands it out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from typing import Any

from loopback_auth import files
from loopback_auth.clock import Moment
from loopback_auth.errors import ConfigurationError, Overtaken, StoreNotWritable, StoreUnsafe
from loopback_auth.store.base import STAGE_LIMIT, Intent, Record, Trouble
from loopback_auth.store.head import valid_name
from loopback_auth.store.lock import FileLock
from loopback_auth.store.record import parse_trouble, serialise_trouble
from tests.conformance.place import Place

_TABLES = """
create table if not exists records (name text primary key, generation integer, content blob);
create table if not exists troubles (name text primary key, content blob);
create table if not exists journals (name text, id text, intents text, answer blob, primary key (name, id));
"""


class ExampleStore:
    """Implements `Store`."""

    shared = False

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.address = f"example:{folder}"

    def ask(self, sql: str, *values: object, name: str = "x") -> list[tuple[Any, ...]]:
        """Do one thing in a transaction of its own, durably."""
        if not valid_name(name):
            raise ConfigurationError("that is not an account name")
        try:
            files.make_folder(self._folder)
            path = os.path.join(self._folder, "accounts.sqlite")
            with contextlib.closing(sqlite3.connect(path, timeout=20)) as database, database:
                database.execute("pragma synchronous = extra")  # a commit survives a power cut
                database.executescript(_TABLES)
                return database.execute(sql, values).fetchall()
        except (sqlite3.Error, StoreUnsafe) as error:
            raise StoreNotWritable(f"{self.address} cannot be used: {error}") from error

    def names(self) -> list[str]:
        return sorted(name for (name,) in self.ask("select name from records"))

    def read(self, name: str) -> Record | None:
        found = self.ask("select content, generation from records where name = ?", name, name=name)
        return Record(*found[0]) if found else None

    def write(self, name: str, record: Record, replaces: int) -> None:
        if replaces:
            sql = "update records set generation = ?, content = ? where name = ? and generation = ? returning name"
        else:
            sql = "insert into records (generation, content, name) select ?, ?, ? where ? = 0 on conflict do nothing"
            sql += " returning name"
        if not self.ask(sql, record.generation, record.content, name, replaces, name=name):
            raise Overtaken(f"account {name} was changed by another process")

    def remove(self, name: str) -> bool:
        was_there = self.ask("delete from records where name = ? returning name", name, name=name)
        self.ask("delete from troubles where name = ?", name)
        for journal in self.login_journals(name):
            with journal:
                if journal.try_open():
                    journal.clear()
        return bool(was_there)

    def lock(self, name: str) -> FileLock:
        return self.system_lock(name, "lock")

    def login_lock(self, name: str) -> FileLock:
        return self.system_lock(name, "login")

    def system_lock(self, name: str, what: str) -> FileLock:
        if not valid_name(name):
            raise ConfigurationError("that is not an account name")
        files.make_folder(*os.path.split(os.path.join(self._folder, name)))
        return FileLock(os.path.join(self._folder, name, what))

    def journal(self, name: str) -> ExampleJournal:
        return ExampleJournal(self, name, "refresh")

    def login_journal(self, name: str) -> ExampleJournal:
        return ExampleJournal(self, name, "login-" + os.urandom(8).hex())

    def login_journals(self, name: str) -> list[ExampleJournal]:
        found = self.ask("select id from journals where name = ? and id <> 'refresh'", name, name=name)
        return [ExampleJournal(self, name, one) for (one,) in found]

    def trouble(self, name: str) -> Trouble | None:
        found = self.ask("select content from troubles where name = ?", name, name=name)
        return parse_trouble(found[0][0]) if found else None

    def note(self, name: str, trouble: Trouble) -> None:
        self.ask("insert or replace into troubles values (?, ?)", name, serialise_trouble(trouble), name=name)


class ExampleJournal:
    """Implements `Journal`: a row, and a lock that whoever has it open holds."""

    news = None

    def __init__(self, store: ExampleStore, name: str, which: str) -> None:
        self._store, self._name, self._id = store, name, which
        self._open = store.system_lock(name, which)
        self._staged: bytearray | None = None

    def try_open(self) -> bool:
        return self._open.try_acquire()

    def tidy(self) -> None:
        if not self._row()[0]:
            self.clear()

    @property
    def intent(self) -> Intent | None:
        intents, _ = self._row()
        if not intents or not self._open.is_held:
            return None
        generation, digest, moment, grant = intents[-1]
        return Intent(generation=generation, digest=digest, armed=Moment(*moment), sendings=len(intents), grant=grant)

    @property
    def answer(self) -> bytes:
        return bytes(self._staged) if self._staged is not None else self._row()[1]

    def prove(self) -> None:
        if not self._open.try_acquire():
            raise Overtaken(f"another process is working on account {self._name}")
        room = "insert into journals values (?, ?, '[]', ?) on conflict do update set answer = excluded.answer"
        self._store.ask(room, self._name, self._id, b"\1" * STAGE_LIMIT)
        self._keep("answer = ?", b"")
        self._staged = bytearray()

    def arm(self, intent: Intent) -> None:
        moment = (intent.armed.unix, intent.armed.boot_id, intent.armed.uptime)
        self._put([*self._row()[0], (intent.generation, intent.digest, moment, intent.grant)])

    def stage(self, piece: bytes) -> None:
        if self._staged is not None:
            self._staged += piece[: STAGE_LIMIT - len(self._staged)]

    def sync(self) -> None:
        self._keep("answer = ?", bytes(self._staged or b""))

    def withdraw(self) -> None:
        intents, _ = self._row()
        self._put(intents[:-1]) if len(intents) > 1 else self.clear()

    def clear(self) -> None:
        self._store.ask("delete from journals where name = ? and id = ?", self._name, self._id)
        self._staged = None

    def __enter__(self) -> ExampleJournal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open.is_held:
            with contextlib.suppress(StoreNotWritable):
                if self._staged:
                    self.sync()
                self.tidy()
        self._staged = None
        self._open.release()

    def _row(self) -> tuple[list[Any], bytes]:
        found = self._store.ask("select intents, answer from journals where name = ? and id = ?", self._name, self._id)
        return (json.loads(found[0][0]), found[0][1]) if found else ([], b"")

    def _put(self, intents: list[Any]) -> None:
        self._keep("intents = ?", json.dumps(intents))

    def _keep(self, what: str, value: object) -> None:
        if not self._store.ask(
            f"update journals set {what} where name = ? and id = ? returning id", value, self._name, self._id
        ):
            raise StoreNotWritable(f"the journal of account {self._name} is gone")


class ExamplePlace(Place):
    """Tells the suite where this store is."""

    def open(self, machine: str = "one") -> ExampleStore:
        return ExampleStore(str(self.folder / "store"))

    def damage(self, name: str) -> None:
        self.open().ask("update records set content = x'00' where name = ?", name)

    @contextlib.contextmanager
    def unavailable(self) -> Iterator[None]:
        there, away = self.folder / "store", self.folder / "away"
        there.mkdir(mode=0o700, exist_ok=True)
        there.rename(away)
        there.touch()
        try:
            yield
        finally:
            there.unlink()
            away.rename(there)
