"""The PostgreSQL store's journal of one spend: idle → in_flight → idle, by compare-and-set, and no lock in between.

    in_flight    whoever made the claim may send, and nobody else, until its lease ends by the server's clock, or its
                 process has ended on this very machine
    in_doubt     the refresh token was sent, and no answer is known. A claim whose lease has ended is that, never idle

A claim changes the row only if nothing has changed it since it was looked at. What was sent is committed if the account
is of the same generation still, whoever holds a claim by then: tokens that came are worth more than a claim.

Where the server cannot be reached once the answer is there, that is kept on this machine, as it would have been there,
and adopted by the next command here.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg

from loopback_auth.errors import Overtaken, StoreError
from loopback_auth.store.base import STAGE_LIMIT, Intent
from loopback_auth.store.journal import FileJournal
from loopback_auth.store.postgresql.connection import STATEMENT_TIMEOUT, Connection, within
from loopback_auth.store.postgresql.mark import Mark
from loopback_auth.store.postgresql.row import Seen
from loopback_auth.store.record import intent_members

LEASE = 60.0
"""Seconds a claim holds: 20 until the request leaves, 20 for the request, the rest to bring the answer here."""
STAGE_PATIENCE = 2.0
"""Seconds to go on trying to bring an answer to the server, before it is kept here."""

_CLAIM = """
    UPDATE loopback_auth.account
    SET state = 'in_flight', claim = %(claim)s, claimed_by = %(who)s, lease_until = now() + %(lease)s * interval '1 s',
        intents = %(intents)s::jsonb, answer = NULL, revision = %(revision)s + 1
    WHERE name = %(name)s AND (
        revision = %(revision)s AND (state <> 'in_flight' OR lease_until <= now() OR claim = ANY(%(own)s))
        OR claim = %(claim)s)
    RETURNING revision
"""
_STAGE = """
    UPDATE loopback_auth.account SET answer = %s
    WHERE name = %s AND claim = %s RETURNING revision
"""
# Who waits listens to the channel `loopback_auth`: an account was committed, or its claim let go.
_LET_GO = """
    WITH done AS (
        UPDATE loopback_auth.account
        SET state = %(state)s, claim = NULL, claimed_by = NULL, lease_until = NULL,
            intents = %(intents)s::jsonb, answer = CASE WHEN %(keep)s THEN answer END, revision = revision + 1
        WHERE name = %(name)s AND (
            claim = ANY(%(own)s)
            OR (revision = %(revision)s AND (state <> 'in_flight' OR lease_until <= now())))
        RETURNING revision)
    SELECT revision, pg_notify('loopback_auth', %(name)s) FROM done
"""


class PostgreSQLJournal:
    """Implements `Journal` for the refreshes of one account. `left` and `mark` are what this machine keeps of them.

    `look` asks for the row.
    """

    def __init__(
        self, connection: Connection, look: Callable[[str], Seen], name: str, left: FileJournal, mark: Mark
    ) -> None:
        self._connection = connection
        self._look = look
        self._name = name
        self._left = left
        self._mark = mark
        self._seen: Seen | None = None
        self._own: list[str] = []
        """The names of our claims, from before one is made until it is let go."""
        self._dead: list[str] = []
        """That of a process which has ended on this machine."""
        self._intents: tuple[Intent, ...] = ()
        self._answer = b""
        self._listening: psycopg.Connection[Any] | None = None
        self._deaf = False

    # -- what an earlier process left

    def try_open(self) -> bool:
        """Take over what a process that has ended left; False while another's claim holds."""
        if self._own:
            return True
        self._hear()
        self._seen = self._look(self._name)
        self._intents, self._answer = self._seen.intents, self._seen.answer
        if not self._left.try_open():
            return False
        left, record = self._left.intent, self._seen.record
        if left is not None and record is not None and left.generation == record.generation:
            sent = {intent.digest for intent in self._intents}
            if (answer := self._left.answer) and (not sent or left.digest in sent):
                self._intents, self._answer = (*self._intents[:-1], left), answer
                return True  # whoever claims it: the tokens are here
        claim = self._seen.claim
        self._dead = [claim] if claim is not None and self._mark.is_left(claim) else []
        return claim is None or bool(self._dead)

    @property
    def news(self) -> int | None:
        """A descriptor that can be read once an account has changed; None behind a pooler, which passes nothing on."""
        if self._listening is None and not self._deaf:
            self._listen()
        return None if self._listening is None else self._listening.fileno()

    def tidy(self) -> None:
        """Remove what this machine has left of an earlier generation."""
        left, record = self._left.intent, self._looked().record
        if left is None:
            self._left.tidy()
        elif record is not None and left.generation < record.generation:
            self._left.clear()

    @property
    def intent(self) -> Intent | None:
        """What was sent last, or was about to be; None where nothing is in doubt."""
        return replace(self._intents[-1], sendings=len(self._intents)) if self._intents else None

    @property
    def answer(self) -> bytes:
        """What that brought, as far as it came."""
        return self._answer

    # -- before the request leaves

    def prove(self) -> None:
        """See that the server can be written to, and that nobody was faster; the claim itself shows the rest.

        Raises StoreNotWritable, Overtaken.
        """
        before, self._seen = self._looked(), self._look(self._name)
        self._seen.check_writable(self._connection.shown)
        if self._seen.revision != before.revision:
            raise self._overtaken()
        self._answer = b""

    def arm(self, intent: Intent) -> None:
        """Claim the account: only if nothing about it has changed since it was looked at.

        Raises Overtaken, StoreNotWritable: then it must not be sent.
        """
        seen = self._looked()
        former, claim = self._own, secrets.token_hex(16)
        self._own = [*former, claim]
        self._mark.make(claim)
        rows = self._connection.run(
            _CLAIM,
            {
                "claim": claim,
                "own": former + self._dead,
                "who": f"{socket.gethostname()[:60]}, process {os.getpid()}",
                "lease": LEASE,
                "intents": _as_json((*self._intents, intent)),
                "name": self._name,
                "revision": seen.revision,
            },
        )
        if not rows:
            self._own = former
            raise self._overtaken()
        self._seen = replace(seen, revision=rows[0][0])
        self._intents = (*self._intents, intent)

    @property
    def claimed(self) -> int | None:
        """The revision that our claim made; None without one."""
        return self._seen.revision if self._own and self._seen is not None else None

    # -- the answer

    def stage(self, piece: bytes) -> None:
        """Keep the next bytes of the answer, until `sync` in memory alone."""
        self._answer = (self._answer + piece)[:STAGE_LIMIT]

    def sync(self) -> None:
        """Make the answer durable there, or here. Raises StoreNotWritable: it is here, or nowhere."""
        if not self._answer or not self._own:
            return
        try:
            parameters = (self._answer, self._name, self._own[-1])
            rows = self._connection.run(_STAGE, parameters, patience=STAGE_PATIENCE)
        except StoreError:
            self._keep_here()
            raise
        if not rows:  # the lease has ended meanwhile, and another machine asks again: this answer is worth keeping
            self._keep_here()

    def _keep_here(self) -> None:
        with suppress(StoreError):
            self._left.prove()
            self._left.arm(self._intents[-1])
            self._left.stage(self._answer)
            self._left.sync()

    # -- when the outcome is known

    def withdraw(self) -> None:
        """Take the last `arm` back: it turned out that what was sent was not spent by it."""
        former = self._intents[:-1]
        self._let_go("in_doubt" if former else "idle", former, keep=False)
        self._intents = former

    def clear(self) -> None:
        """Remove intents and answers: what was sent is committed, or was refused for good."""
        if self._own or (self._seen is not None and self._seen.intents and self._intents):
            self._let_go("idle", (), keep=False)
        self._intents, self._answer = (), b""
        self._left.clear()

    def settled(self) -> None:
        """Know that a newer generation was written: that has let the claim go."""
        self._own = []
        self._intents = ()

    def _let_go(self, state: str, intents: tuple[Intent, ...], *, keep: bool) -> None:
        parameters = {
            "state": state,
            "intents": _as_json(intents),
            "keep": keep,
            "name": self._name,
            "own": self._own + self._dead,
            "revision": self._looked().revision,
        }
        rows = self._connection.run(_LET_GO, parameters)
        self._own = []
        if rows:
            self._seen = replace(self._looked(), revision=rows[0][0], intents=intents)

    def __enter__(self) -> PostgreSQLJournal:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._own:  # sent, and the outcome is not known: whoever comes next need not wait for the lease
            with suppress(StoreError):
                self._let_go("in_doubt", self._intents, keep=True)
            self._own = []
        self._mark.let_go()
        self._left.__exit__(None, None, None)
        if self._listening is not None:
            with suppress(psycopg.Error):
                self._listening.close()
            self._listening = None

    # -- within

    def _looked(self) -> Seen:
        if self._seen is None:
            self._seen = self._look(self._name)
        return self._seen

    def _overtaken(self) -> Overtaken:
        return Overtaken(f"account {self._name} was changed by another machine", hint="nothing was sent; try again")

    def _listen(self) -> None:
        """Wait for news on a connection of its own, unless a pooler is in between: it would hear nothing there."""
        self._deaf = True
        with suppress(psycopg.Error):
            own = self._connection.another()
            try:
                with within(own, STATEMENT_TIMEOUT):
                    ((process,),) = own.execute("SELECT pg_backend_pid()").fetchall()
                    if process == own.info.backend_pid:
                        own.execute("LISTEN loopback_auth")
                        self._listening, self._deaf = own, False
            finally:
                if self._deaf:
                    own.close()

    def _hear(self) -> None:
        """Take what was heard off the connection, so that it can be waited at again."""
        if self._listening is not None:
            try:
                self._listening.pgconn.consume_input()
                while self._listening.pgconn.notifies() is not None:
                    pass
            except psycopg.Error:
                self._listening.close()
                self._listening, self._deaf = None, True


def _as_json(intents: tuple[Intent, ...]) -> str:
    return json.dumps([intent_members(intent) for intent in intents])
