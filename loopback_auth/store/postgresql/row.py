"""What the server says of accounts in one look, and of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from loopback_auth.errors import StoreError, StoreNotWritable
from loopback_auth.store.base import Intent, Record, Trouble
from loopback_auth.store.postgresql.connection import Connection, Row
from loopback_auth.store.postgresql.schema import VERSION
from loopback_auth.store.record import parse_intent, parse_trouble

_LOOK = """
    SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
           current_setting('synchronous_commit') = 'off', version, id,
           name, generation, content,
           extract(epoch FROM now() - CASE WHEN isfinite(received_at) THEN received_at END)::float8,
           state = 'in_flight' AND lease_until > now(), claim, claimed_by,
           intents::text, answer, trouble::text, revision
    FROM loopback_auth.schema LEFT JOIN loopback_auth.account ON name = ANY(%s)
"""
_STORE, _NAME = 4, 5
_BACK = 10.0
"""Seconds that the server's clock may be put right by. Set back by more it has no age to tell: nobody knows how old an
access token is, which so is none that will do."""
_UUID = re.compile("[0-9a-f-]{36}")
"""The store's own name; it becomes a folder's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An account's row as it was, or that there is none; and whether the server can be written to."""

    standby: bool
    read_only: bool
    hasty: bool
    """It says that something is committed before that is on its disk."""
    version: int
    store: str
    """The name of the store itself, wherever it is: a UUID."""
    record: Record | None = None
    claim: str | None = field(default=None, repr=False)
    """Who sends, while nobody else may."""
    claimed_by: str | None = None
    intents: tuple[Intent, ...] = ()
    answer: bytes = field(default=b"", repr=False)
    trouble: Trouble | None = None
    revision: int = 0

    def check_writable(self, shown: str) -> None:
        """Raise StoreNotWritable where nothing could be written now, or nothing that the tables are made for."""
        if self.standby or self.read_only:
            why = "it is a standby, which only follows another server" if self.standby else "it is in read-only mode"
            raise StoreNotWritable(
                f"the store {shown} can only be read: {why}",
                hint="nothing was spent; name the primary server, or end its read-only mode",
            )
        if self.hasty:
            raise StoreNotWritable(
                f"the store {shown} says that tokens are stored before they are on its disk: synchronous_commit is off",
                hint="nothing was spent; its administrator can mend it: ALTER ROLE USER SET synchronous_commit = on",
            )
        if self.version != VERSION:
            raise StoreNotWritable(
                f"the tables of the store {shown} are of version {self.version}, this program's of {VERSION}",
                hint="bring them up to date: loopback-auth store init; or use the program that made them",
            )


def look(connection: Connection, names: Sequence[str]) -> dict[str, Seen]:
    """Ask for the rows of accounts, and return what was seen under each of the names. Raises StoreError."""
    rows = connection.run(_LOOK, (list(names),))
    if not rows or len({row[_NAME] for row in rows}) != len(rows) or not _UUID.fullmatch(rows[0][_STORE]):
        raise StoreError(
            f"the tables of the store {connection.shown} are not as they were made", hint="has its owner changed them?"
        )
    nothing = Seen(*rows[0][:_NAME])
    return dict.fromkeys(names, nothing) | {row[_NAME]: _seen(row) for row in rows if row[_NAME] is not None}


def _seen(row: Row) -> Seen:
    standby, read_only, hasty, version, store, _, *own = row
    generation, content, age, in_flight, claim, claimed_by, intents, answer, trouble, revision = own
    return Seen(
        standby,
        read_only,
        hasty,
        version,
        store,
        Record(content.encode(), generation, 0.0 if age is not None and -_BACK < age < 0 else age),
        claim if in_flight else None,
        claimed_by,
        _parse_intents(intents),
        answer or b"",
        None if trouble is None else parse_trouble(trouble.encode()),
        revision,
    )


def _parse_intents(text: str) -> tuple[Intent, ...]:
    """Return the intents; what is no list of them is one that is about nothing that is known."""
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        members = None
    return tuple(map(parse_intent, members if isinstance(members, list) else [members]))
