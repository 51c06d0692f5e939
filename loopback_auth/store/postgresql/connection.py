"""One connection to a PostgreSQL server: made when it is needed, made again when it broke, never waited for for ever.

Each statement is a transaction of its own, with bound parameters and nothing left in the session behind it: so a pooler
that deals out connections by the transaction may stand in between. No transaction is ever open while HTTP is under way.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg import conninfo, errors, pq

from loopback_auth.errors import ConfigurationError, StoreNotWritable
from loopback_auth.folders import without_password
from loopback_auth.text import printable

CONNECT_TIMEOUT = 5
"""Seconds to connect to one host of the address."""
STATEMENT_TIMEOUT = 8.0
"""Seconds a statement may take, its answer included: then the connection is cut."""
_PAUSE = 0.2
"""Seconds between two tries to reach the server, while there is patience."""
_LOST = ("08", "57P")
"""What SQLSTATE begins with where the server has hung up, or a pooler says that it did."""
_STOPPED = (errors.SerializationFailure, errors.DeadlockDetected)
"""Another transaction came in between: run again, it finds what that one has left."""
_STOPPED_PATIENCE = 2.0
"""Seconds to go on with that, at least."""
_FULL = re.compile(r"too many (clients|connections)|connection slots are reserved|no more connections allowed")
"""Of PostgreSQL and PgBouncer: they have no place for one more connection. Those of a crowd of ours are short."""
_FULL_PATIENCE = 5.0
"""Seconds to go on trying to get one, at least."""
_NOT_LET_IN = re.compile(
    r" failed for user | does not exist|no pg_hba\.conf entry|no password supplied|not permitted to log in"
    r"|not currently accepting connections|permission denied for database"
)
_NOT_SHOWN_WHO = re.compile(r"certificate verify failed|does not match host name|root certificate file")
_WEAK = ("disable", "allow", "prefer")
_LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}")
_SYSTEM_ROOTS = 160000
"""The version of libpq from which on it knows the system's certificates."""

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what it warns of on its own is raised, too

_made: WeakSet[Connection] = WeakSet()

Row = tuple[Any, ...]
Parameters = Sequence[object] | Mapping[str, object]


class Connection:
    """Runs statements at an address, `postgresql://…`. Threads may share it: one statement at a time.

    Raises ConfigurationError where the address is none, or names another machine and no TLS.
    """

    def __init__(self, address: str, environ: Mapping[str, str] = os.environ) -> None:
        self._open: psycopg.Connection[Row] | None = None
        self._process = os.getpid()
        self._guard = threading.Lock()
        _made.add(self)
        self.shown = printable(without_password(address))
        self._parameters = _parameters(address, self.shown, environ)
        self._user = printable(str(self._parameters.get("user") or environ.get("PGUSER") or "NAME"))

    def __del__(self) -> None:
        if self._process == os.getpid():
            self._drop()

    def run(self, statement: str, parameters: Parameters = (), *, patience: float = 0.0) -> list[Row]:
        """Run a statement that may be run twice, and return its rows.

        A connection that broke since it was last used is made anew at once, and a server that is not there is tried
        again for `patience` seconds. So a statement whose acknowledgement was lost is run once more. Raises
        StoreNotWritable.
        """
        begun = time.monotonic()
        while True:
            try:
                with self._connected() as (session, _):
                    return session.execute(statement.encode("ascii"), parameters).fetchall()
            except _Failed as failed:
                stopped = isinstance(failed.error, _STOPPED)
                own = _STOPPED_PATIENCE if stopped else _FULL_PATIENCE if _FULL.search(str(failed.error)) else 0.0
                enough = max(patience, own)
                lost = stopped or _is_lost(failed.error)
                if not lost or (failed.is_new and time.monotonic() - begun >= enough):
                    raise self.explained(failed.error) from failed.error
                if failed.is_new:
                    time.sleep(_PAUSE)

    @contextmanager
    def transaction(self, *, keep: bool) -> Iterator[psycopg.Connection[Row]]:
        """Run several statements as one transaction, which is taken back at the end unless `keep`."""
        self.run("SELECT 1")  # one that broke since it was last used is no failure
        try:
            with self._connected() as (session, _), session.transaction(force_rollback=not keep):
                yield session
        except _Failed as failed:
            raise self.explained(failed.error) from failed.error

    def another(self) -> psycopg.Connection[Row]:
        """Return a connection of one's own. Raises psycopg.Error."""
        return _Session.connect(**self._parameters, autocommit=True, prepare_threshold=None)

    def explained(self, error: psycopg.Error) -> StoreNotWritable:
        """Return our error for one of the server's or of the way to it."""
        said = _said(error)
        match error:
            case errors.ReadOnlySqlTransaction():
                return StoreNotWritable(
                    f"the store {self.shown} can only be read: {said}",
                    hint="nothing was spent; name the primary server, or end its read-only mode",
                )
            case errors.UndefinedTable() | errors.UndefinedColumn():
                return StoreNotWritable(
                    f"the store {self.shown} has no tables of this version", hint="make them: loopback-auth store init"
                )
            case errors.DuplicateTable() | errors.DatatypeMismatch():
                return StoreNotWritable(
                    f"the store {self.shown} did not do it: {said}",
                    hint="its schema loopback_auth is another program's: name a database of its own",
                )
            case errors.InsufficientPrivilege():
                return StoreNotWritable(
                    f"the store {self.shown} refuses this user: {said}",
                    hint="store init is for whoever owns the database: LOOPBACK_AUTH_STORE=postgresql://OWNER@HOST/DATABASE"
                    if " for database " in said
                    else f"what it needs, as SQL: loopback-auth store init --sql --role {self._user}",
                )
            case _ if _NOT_LET_IN.search(said):
                return StoreNotWritable(f"the store {self.shown} does not let us in: {said}", hint=_how_to_get_in(said))
            case _ if _NOT_SHOWN_WHO.search(said):
                return StoreNotWritable(
                    f"the store {self.shown} does not show that it is who it should be: {said}",
                    hint="nothing was sent; sslrootcert=FILE in its address names the authority that vouches for it",
                )
            case _ if _FULL.search(said):
                return StoreNotWritable(
                    f"the store {self.shown} takes no more connections: {said}",
                    hint="nothing was spent; try again when others have left, or allow more of them there",
                )
            case _ if _is_lost(error):
                return StoreNotWritable(
                    f"the store {self.shown} cannot be reached: {said}",
                    hint="nothing was spent; try again when the server is there",
                )
            case _:
                return StoreNotWritable(f"the store {self.shown} did not do it: {said}")

    @contextmanager
    def _connected(self) -> Iterator[tuple[psycopg.Connection[Row], bool]]:
        """Have the connection alone, and whether it was made for this. Raises _Failed, and has dropped it then."""
        with self._guard:
            if self._process != os.getpid():  # a child does not speak on its parent's connection, nor closes it
                self._open, self._process = None, os.getpid()
            is_new = self._open is None
            try:
                if self._open is None:
                    self._open = self.another()
                with within(self._open, STATEMENT_TIMEOUT):
                    yield self._open, is_new
            except psycopg.Error as error:
                self._drop()
                raise _Failed(error, is_new) from error

    def _drop(self) -> None:
        if self._open is not None:
            with suppress(psycopg.Error, OSError):
                self._open.close()
            self._open = None


class _Session(psycopg.Connection[Row]):
    def cancel_safe(self, *, timeout: float = 0.0) -> None:
        """On Ctrl-C, hang up; to ask the server to stop takes 5 s where it stands still."""
        del timeout
        _cut(self)


class _Failed(Exception):
    def __init__(self, error: psycopg.Error, is_new: bool) -> None:
        super().__init__()
        self.error = error
        self.is_new = is_new


@contextmanager
def within(connection: psycopg.Connection[Row], seconds: float) -> Iterator[None]:
    """Cut the connection after so many seconds: a server that stands still does not answer, and does not hang up.

    Raises OperationalError, which then says that: libpq has only seen a connection that was closed.
    """
    timer = threading.Timer(seconds, _cut, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.OperationalError as error:
        if timer.finished.is_set():
            raise psycopg.OperationalError(f"no answer within {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()


def _cut(connection: psycopg.Connection[Row]) -> None:
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)


def _said(error: psycopg.Error) -> str:
    """Return the server's or libpq's words, without where they come from."""
    whole = error.diag.message_primary or str(error).strip()
    words = whole.rpartition("FATAL:")[2] if "FATAL:" in whole else whole.partition("\n")[0].rpartition(" failed: ")[2]
    return printable(words.strip().partition("\n")[0], 160)


def _how_to_get_in(said: str) -> str:
    if "no password supplied" in said:
        return "its password goes into ~/.pgpass or PGPASSWORD"
    if said.startswith("database ") and "does not exist" in said:
        return "make it, as a superuser: createdb --owner OWNER NAME; or look at its name in the address"
    return "look at its user, password and name"


def _is_lost(error: psycopg.Error) -> bool:
    """Whether the connection failed, and not the statement."""
    state = error.sqlstate
    return isinstance(error, psycopg.OperationalError) and (state is None or state.startswith(_LOST))


def _parameters(address: str, shown: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what libpq is told, TLS with verified certificates among it where the server is not this machine."""
    try:
        named = conninfo.conninfo_to_dict(address)
        if not all(one.isdigit() for one in str(named.get("port", "")).split(",") if one):
            raise psycopg.ProgrammingError("the port is no number")
        if any("@" in one[1:] for one in str(named.get("host", "")).split(",")):
            raise psycopg.ProgrammingError("the host begins in a password with an @")
    except psycopg.Error:
        raise ConfigurationError(
            f"{shown} is not the address of a PostgreSQL server",
            hint="postgresql://USER@HOST/DATABASE; in a password a slash is written %2F, an @ %40",
        ) from None  # libpq repeats what it could not read, a password among it
    places = _places(named, environ)
    usual: dict[str, Any] = {
        "fallback_application_name": "loopback-auth",
        "connect_timeout": CONNECT_TIMEOUT,
        "tcp_user_timeout": int(STATEMENT_TIMEOUT * 1000),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    if len(places) > 1:
        usual["target_session_attrs"] = "read-write"
    if "service" in named or environ.get("PGSERVICE") or not all(map(_is_here, places)):
        usual["sslmode"] = environ.get("PGSSLMODE", "verify-full")
        chosen = str(named.get("sslmode", usual["sslmode"]))
        if chosen in _WEAK:
            raise ConfigurationError(
                f"the store {shown} is on another machine, and sslmode={chosen} does without TLS",
                hint="leave sslmode out: the server is verified then; sslrootcert=FILE names its authority",
            )
        own = os.path.expanduser("~/.postgresql/root.crt")
        has_roots = "PGSSLROOTCERT" in environ or os.path.exists(own)
        if chosen == "verify-full" and not has_roots and pq.version() >= _SYSTEM_ROOTS:
            usual["sslrootcert"] = "system"
    return {**usual, **named, "client_encoding": "utf8"}  # else a server in SQL_ASCII, or PGCLIENTENCODING, gives bytes


def _places(named: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Return where libpq goes: of each place in the lists the address if it has one, else the host."""
    hosts = str(named.get("host") or environ.get("PGHOST", "")).split(",")
    addresses = str(named.get("hostaddr") or environ.get("PGHOSTADDR", "")).split(",")
    return [address or host for host, address in zip_longest(hosts, addresses, fillvalue="")]


def _is_here(place: str) -> bool:
    """Whether that is this machine: a socket in the file system, or a loopback address; 127.example is neither."""
    return not place or place[0] in "/@" or place in ("localhost", "::1") or bool(_LOOPBACK.fullmatch(place))


def _forget() -> None:
    """In a forked child the threads are gone, one that had the connection alone among them."""
    for connection in list(_made):
        connection._guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
