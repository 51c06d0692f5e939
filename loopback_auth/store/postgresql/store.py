"""`PostgreSQLStore`: a row for each account; what belongs to this machine alone is in a folder of its own.

In the folder of its address: `NAME/lock`, so that one process of this machine at a time asks the server. In one that
is called as the store calls itself, for the address may change: `NAME/login-N-intent`, `-answer`, a login that somebody
goes through in this machine's browser; `NAME/claim`, who sends just now; `NAME/intent`, `answer`, what could not be
brought to the server. Whoever opens this store seals what goes into it (`sealed.py`): the server never sees a token.
"""

from __future__ import annotations

import os
import secrets
import threading
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

from loopback_auth.errors import Overtaken, StoreBusy, StoreError, StoreNotWritable
from loopback_auth.store.base import Journal, Lock, Record, Trouble
from loopback_auth.store.file import FileStore
from loopback_auth.store.head import account_folder, valid_name
from loopback_auth.store.journal import FileJournal
from loopback_auth.store.postgresql.connection import Connection
from loopback_auth.store.postgresql.journal import PostgreSQLJournal
from loopback_auth.store.postgresql.mark import Mark
from loopback_auth.store.postgresql.row import Seen, look
from loopback_auth.store.record import serialise_trouble

WRITE_PATIENCE = 15.0
"""Seconds to go on trying to bring new tokens to the server: it may be restarting, or another one takes over."""

_INSERT = """
    INSERT INTO loopback_auth.account (name, generation, content, written, received_at, revision)
    VALUES (%(name)s, %(generation)s, %(content)s, %(written)s, now() - %(age)s * interval '1 s',
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    ON CONFLICT DO NOTHING RETURNING revision
"""
"""An account that was forgotten and logged in to again is not the one before: its revisions, which begin with the
microsecond, are far from that one's; between a claim and its commit there are a few."""
_REPLACE = """
    WITH done AS (
        UPDATE loopback_auth.account
        SET generation = %(generation)s, content = %(content)s, written = %(written)s,
            received_at = now() - %(age)s * interval '1 s',
            state = 'idle', claim = NULL, claimed_by = NULL, lease_until = NULL, intents = '[]', answer = NULL,
            trouble = NULL, revision = revision + 1
        WHERE name = %(name)s AND generation = %(replaces)s
            AND (%(claimed)s::bigint IS NULL OR abs(revision - %(claimed)s::bigint) < 1000)
        RETURNING revision)
    SELECT revision, pg_notify('loopback_auth', %(name)s) FROM done
"""
_REWRITE = """
    UPDATE loopback_auth.account
    SET content = %(content)s, written = %(written)s, received_at = now() - %(age)s * interval '1 s',
        revision = revision + 1
    WHERE name = %(name)s AND generation = %(replaces)s AND (state <> 'in_flight' OR lease_until <= now())
        AND revision = coalesce(%(read)s::bigint, revision)
    RETURNING revision
"""
_DELETE = """
    DELETE FROM loopback_auth.account
    WHERE name = %s AND (state <> 'in_flight' OR lease_until <= now()) RETURNING name
"""
_STANDS = "SELECT name FROM loopback_auth.account WHERE name = %(name)s AND written = %(written)s"
"""Whether what was written is there, though it could not be written again: its acknowledgement was lost."""
_PROBE = """
    INSERT INTO loopback_auth.account (name, generation, content, written, received_at)
    VALUES (%s, 0, %s, '', now()) RETURNING revision
"""
_AT_ONCE = 200
"""Rows that an overview asks for in one statement: half a megabyte, which has to come in `STATEMENT_TIMEOUT`."""
_LARGE = 1 << 16
"""Characters in a probe: no account takes more."""


class PostgreSQLStore:
    """Implements `Store` at an address `postgresql://…`. Raises ConfigurationError: see `Connection`."""

    def __init__(self, address: str, folder: str, connection: Connection | None = None) -> None:
        self.connection = connection or Connection(address)
        self._folder = folder
        self._own: str | None = None
        self._open: dict[str, PostgreSQLJournal] = {}
        self._read = _Read()

    def look(self, name: str) -> Seen:
        """Ask for the row of an account. Raises StoreError."""
        return self._found(look(self.connection, [name])[name])

    def _found(self, seen: Seen) -> Seen:
        self._own = os.path.join(os.path.dirname(self._folder), seen.store)
        return seen

    def overview(self) -> Overview:
        """Return the same store to be looked at alone, whose rows are asked for many at a time."""
        return Overview(self)

    @property
    def own_folder(self) -> str:
        """Where this machine keeps what is this very store's, and cannot be there yet. Raises StoreError."""
        if self._own is None:
            self.look("")
        assert self._own is not None  # noqa: S101 (it has been looked)
        return self._own

    @property
    def address(self) -> str:
        """Where the secrets live, without a password."""
        return self.connection.shown

    @property
    def shared(self) -> bool:
        """Many machines use it at once."""
        return True

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted; a row that no account can be called after is nobody's."""
        rows = self.connection.run("SELECT name FROM loopback_auth.account")
        return sorted(name for (name,) in rows if valid_name(name))

    def read(self, name: str) -> Record | None:
        """Return what is kept under this name, its age by the server's clock; None if there is nothing."""
        self._check_name(name)
        seen = self.look(name)
        self._read.revisions[name] = seen.revision
        return seen.record

    def write(self, name: str, record: Record, replaces: int) -> None:
        """Make the record durable if generation `replaces` stands there, in one statement with what ends its claim.

        A server that goes away meanwhile is waited for. Raises StoreNotWritable, Overtaken.
        """
        self._check_name(name)
        statement = _INSERT if replaces == 0 else _REWRITE if replaces == record.generation else _REPLACE
        parameters = {
            "name": name,
            "generation": record.generation,
            "content": record.content.decode("ascii"),
            "written": secrets.token_hex(8),
            "age": record.age or 0.0,
            "replaces": replaces,
            "claimed": self._open[name].claimed if name in self._open else None,
            "read": self._read.revisions.pop(name, None),
        }
        if not self.connection.run(statement, parameters, patience=WRITE_PATIENCE) and not self.connection.run(
            _STANDS, parameters, patience=WRITE_PATIENCE
        ):
            raise Overtaken(f"account {name} was changed by another machine", hint="it was left as it is; try again")
        if record.generation != replaces and name in self._open:
            self._open[name].settled()

    def remove(self, name: str) -> bool:
        """Remove the row, and what this machine has of the account. Raises StoreBusy while another machine sends."""
        self._check_name(name)
        found = self.connection.run(_DELETE, (name,))
        if not found and self.read(name) is not None:
            raise StoreBusy(
                f"account {name} is being refreshed by another machine", hint="nothing was removed; try again"
            )
        with suppress(StoreError):
            FileStore(self.own_folder).remove(name)
        return bool(found)

    def lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return a lock between the processes of this machine, not yet taken; other machines are held off by claims."""
        self._check_name(name)
        try:
            return FileStore(self._folder).lock(name)
        except StoreNotWritable:  # no disk to keep anything on: claims hold among processes, too
            return Unlocked()

    def login_lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the lock of whoever asks a person of this machine to log in to the account, not yet taken."""
        return FileStore(self.own_folder).login_lock(name)

    def journal(self, name: str) -> AbstractContextManager[Journal]:
        """Return the journal of the account's refreshes, not yet opened."""
        self._check_name(name)
        folder = account_folder(self.own_folder, name)
        left, mark = FileJournal(folder, allow_network=True), Mark(os.path.join(folder, "claim"))
        self._open[name] = PostgreSQLJournal(self.connection, self.look, name, left, mark)
        return self._open[name]

    def login_journal(self, name: str) -> AbstractContextManager[Journal]:
        """Return a new journal, for one login; it is this machine's, as the browser is."""
        prefix = f"login-{os.urandom(4).hex()}-"
        return LoginJournal(self, account_folder(self.own_folder, name), prefix)

    def login_journals(self, name: str) -> Sequence[AbstractContextManager[Journal]]:
        """Return the journals of all logins of this machine that have not ended as they should, or have not ended."""
        return FileStore(self.own_folder).login_journals(name)

    def trouble(self, name: str) -> Trouble | None:
        """Return what was noted last."""
        self._check_name(name)
        return self.look(name).trouble

    def note(self, name: str, trouble: Trouble) -> None:
        """Keep what went wrong. Raises StoreError."""
        self._check_name(name)
        text = serialise_trouble(trouble).decode("ascii")
        statement = "UPDATE loopback_auth.account SET trouble = %s::jsonb WHERE name = %s RETURNING name"
        self.connection.run(statement, (text, name))

    def prove(self) -> None:
        """Show that this user could store an account now: a row is written, and taken back. Raises StoreError."""
        self.look("").check_writable(self.address)
        with self.connection.transaction(keep=False) as session:
            session.execute(_PROBE.encode(), (f"probe {os.urandom(8).hex()}", "0" * _LARGE))

    @staticmethod
    def _check_name(name: str) -> None:
        account_folder("", name)


class Overview(PostgreSQLStore):
    """The store as it was a moment ago, for who goes through `names()` in their order and decides nothing by it."""

    def __init__(self, store: PostgreSQLStore) -> None:
        super().__init__("", store._folder, store.connection)
        self._ahead: list[str] = []
        self._rows: dict[str, Seen] = {}

    def names(self) -> list[str]:
        """Return the names of all accounts, and be ready for their rows to be asked for."""
        self._ahead = super().names()
        return list(self._ahead)

    def look(self, name: str) -> Seen:
        """Return the row of an account, which came with the rows around it. Raises StoreError."""
        if name not in self._rows:
            at = bisect_left(self._ahead, name)
            self._rows = look(self.connection, [name, *self._ahead[at : at + _AT_ONCE]])
        return self._found(self._rows[name])


class _Read(threading.local):
    """What each thread has read last, as others read meanwhile: what it writes anew must know all that stands there."""

    def __init__(self) -> None:
        self.revisions: dict[str, int] = {}


class LoginJournal(FileJournal):
    """A login's journal, on this machine's disk; proven are both, the disk and the server."""

    def __init__(self, store: PostgreSQLStore, folder: str, prefix: str) -> None:
        super().__init__(folder, prefix, allow_network=True)
        self._store = store

    def prove(self) -> None:
        """Prove the server, then the disk. Raises StoreError."""
        self._store.prove()
        super().prove()


class Unlocked:
    """Stands in for the lock of a machine that has no disk."""

    def try_acquire(self) -> bool:
        """Nobody is kept out."""
        return True

    def __enter__(self) -> Unlocked:
        return self

    def __exit__(self, *_error: object) -> None:
        pass
