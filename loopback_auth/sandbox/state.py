"""What the sandbox remembers, in one SQLite file that several processes may use at once.

No code, token or session cookie is written here, only their SHA-256 digests. No HTTP and no OAuth wording
lives here. "Once" is decided by SQL (`UPDATE … WHERE spent_at IS NULL`), so two processes cannot both spend
the same thing. What is written survives the end of the process at once, and a power cut up to the last moments:
waiting for the disk each time would cost more than the rest of a login.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCHEMA_VERSION: Final = 1
_BUSY_SECONDS: Final = 10.0
_DAY: Final = 86400.0

#: A refresh token nobody uses dies after this many seconds.
REFRESH_TOKEN_IDLE_LIFETIME: Final = 30 * _DAY
#: A login in the browser ends after this many seconds.
SESSION_LIFETIME: Final = _DAY / 2

_SCHEMA: Final = """
CREATE TABLE signing_key (only INTEGER PRIMARY KEY CHECK (only = 1), key BLOB NOT NULL);
CREATE TABLE sessions (
    digest TEXT PRIMARY KEY, user_id TEXT NOT NULL, expires_at REAL NOT NULL);
CREATE TABLE grants (
    id INTEGER PRIMARY KEY, client_id TEXT NOT NULL, user_id TEXT NOT NULL, revoked_at REAL);
CREATE TABLE codes (
    digest TEXT PRIMARY KEY, grant_id INTEGER NOT NULL REFERENCES grants, redirect_uri TEXT NOT NULL,
    code_challenge TEXT NOT NULL, issued_at REAL NOT NULL, expires_at REAL NOT NULL, spent_at REAL);
CREATE TABLE refresh_tokens (
    digest TEXT PRIMARY KEY, grant_id INTEGER NOT NULL REFERENCES grants, issued_at REAL NOT NULL,
    spent_at REAL, presented INTEGER NOT NULL DEFAULT 0);
CREATE TABLE access_tokens (
    digest TEXT PRIMARY KEY, grant_id INTEGER NOT NULL REFERENCES grants, expires_at REAL NOT NULL);
"""


class StateUnusable(Exception):
    """The state file cannot be used; the message says which file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An authorization code as remembered; times in Unix seconds."""

    digest: str
    grant_id: int
    client_id: str
    user_id: str
    redirect_uri: str
    code_challenge: str
    issued_at: float
    expires_at: float
    spent_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """A refresh token as remembered; times in Unix seconds."""

    digest: str
    grant_id: int
    client_id: str
    user_id: str
    issued_at: float
    spent_at: float | None
    presented: int
    revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """An access token as remembered; times in Unix seconds."""

    user_id: str
    expires_at: float
    revoked: bool


class State:
    """The state file of one folder. Every method is synchronous, and takes about a millisecond.

    Raises `StateUnusable` from the constructor when the file is no state file of this version.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        """Open `folder`/state.sqlite3, making folder (0700) and file (0600) where absent."""
        _make_private_folder(folder)
        self._clock = clock
        self._path = folder / "state.sqlite3"
        # born private: SQLite would create it under the umask, and its journal takes the mode of the file
        _make_private_file(self._path)
        self._database = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self.signing_key = self._prepare()
        except BaseException as error:
            self._database.close()
            if isinstance(error, sqlite3.DatabaseError):
                raise StateUnusable(f"{self._path} is not usable ({error}): delete it to start afresh") from error
            raise

    def close(self) -> None:
        """Close the file; nothing is lost."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the only right to write, across processes; an exception undoes everything done inside."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # SQLite ends it by itself on some errors
                self._database.execute("ROLLBACK")
            raise

    # -- logins in the browser -------------------------------------------------------------------------------

    def save_session(self, cookie: str, user_id: str) -> None:
        """Remember that the browser with this cookie is logged in."""
        self._database.execute(
            "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)",
            (digest_of(cookie), user_id, self._clock() + SESSION_LIFETIME),
        )

    def session_user(self, cookie: str) -> str | None:
        """Return the user id that this browser is logged in with."""
        row = self._database.execute(
            "SELECT user_id FROM sessions WHERE digest = ? AND expires_at > ?",
            (digest_of(cookie), self._clock()),
        ).fetchone()
        return None if row is None else str(row[0])

    def delete_session(self, cookie: str) -> None:
        """Log this browser out."""
        self._database.execute("DELETE FROM sessions WHERE digest = ?", (digest_of(cookie),))

    # -- codes -----------------------------------------------------------------------------------------------

    def save_code(
        self,
        code: str,
        *,
        client_id: str,
        user_id: str,
        redirect_uri: str,
        code_challenge: str,
        lifetime: float,
    ) -> None:
        """Remember a code just issued, and the grant that it stands for."""
        now = self._clock()
        self._forget(now)
        grant = self._database.execute(
            "INSERT INTO grants (client_id, user_id) VALUES (?, ?)", (client_id, user_id)
        ).lastrowid
        self._database.execute(
            "INSERT INTO codes VALUES (?, ?, ?, ?, ?, ?, NULL)",
            (digest_of(code), grant, redirect_uri, code_challenge, now, now + lifetime),
        )

    def load_code(self, code: str) -> Code | None:
        """Return what is known about a code, spent and expired ones of the last day included."""
        row = self._database.execute(
            "SELECT digest, grant_id, client_id, user_id, redirect_uri, code_challenge, issued_at,"
            " expires_at, spent_at FROM codes JOIN grants ON grants.id = grant_id WHERE digest = ?",
            (digest_of(code),),
        ).fetchone()
        if row is None:
            return None
        return Code(
            digest=row[0],
            grant_id=row[1],
            client_id=row[2],
            user_id=row[3],
            redirect_uri=row[4],
            code_challenge=row[5],
            issued_at=row[6],
            expires_at=row[7],
            spent_at=row[8],
        )

    def spend_code(self, code: Code) -> bool:
        """Spend a code; True for exactly one caller."""
        return self._one_row(
            "UPDATE codes SET spent_at = ? WHERE digest = ? AND spent_at IS NULL", self._clock(), code.digest
        )

    # -- tokens ----------------------------------------------------------------------------------------------

    def save_tokens(
        self, grant_id: int, *, access_token: str, refresh_token: str | None, access_token_lifetime: float
    ) -> None:
        """Remember the tokens just issued for a grant."""
        now = self._clock()
        self._database.execute(
            "INSERT INTO access_tokens VALUES (?, ?, ?)",
            (digest_of(access_token), grant_id, now + access_token_lifetime),
        )
        if refresh_token is not None:
            self._database.execute(
                "INSERT INTO refresh_tokens (digest, grant_id, issued_at) VALUES (?, ?, ?)",
                (digest_of(refresh_token), grant_id, now),
            )

    def load_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        """Return what is known about a refresh token, and count that it was presented."""
        digest = digest_of(refresh_token)
        self._database.execute("UPDATE refresh_tokens SET presented = presented + 1 WHERE digest = ?", (digest,))
        row = self._database.execute(
            "SELECT digest, grant_id, client_id, user_id, issued_at, spent_at, presented, revoked_at"
            " FROM refresh_tokens JOIN grants ON grants.id = grant_id WHERE digest = ?",
            (digest,),
        ).fetchone()
        if row is None:
            return None
        return RefreshToken(
            digest=row[0],
            grant_id=row[1],
            client_id=row[2],
            user_id=row[3],
            issued_at=row[4],
            spent_at=row[5],
            presented=row[6],
            revoked=row[7] is not None,
        )

    def spend_refresh_token(self, token: RefreshToken) -> bool:
        """Spend a refresh token; True for exactly one caller."""
        return self._one_row(
            "UPDATE refresh_tokens SET spent_at = ? WHERE digest = ? AND spent_at IS NULL",
            self._clock(),
            token.digest,
        )

    def times_presented(self, refresh_token: str) -> int:
        """Return how often a refresh token reached the token endpoint, whatever became of it."""
        row = self._database.execute(
            "SELECT presented FROM refresh_tokens WHERE digest = ?", (digest_of(refresh_token),)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def presented(self) -> list[int]:
        """Return how often each known refresh token reached the token endpoint, in the order of their issue."""
        rows = self._database.execute("SELECT presented FROM refresh_tokens ORDER BY rowid")
        return [int(row[0]) for row in rows]

    def load_access_token(self, access_token: str) -> AccessToken | None:
        """Return what is known about an access token, expired ones of the last day included."""
        row = self._database.execute(
            "SELECT user_id, expires_at, revoked_at FROM access_tokens JOIN grants ON grants.id = grant_id"
            " WHERE digest = ?",
            (digest_of(access_token),),
        ).fetchone()
        if row is None:
            return None
        return AccessToken(user_id=row[0], expires_at=row[1], revoked=row[2] is not None)

    def revoke(self, grant_id: int) -> None:
        """Revoke every token that was or will be issued for a grant."""
        self._database.execute(
            "UPDATE grants SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (self._clock(), grant_id)
        )

    # -- within ----------------------------------------------------------------------------------------------

    def _prepare(self) -> bytes:
        self._database.execute("PRAGMA foreign_keys = ON")
        self._database.execute("PRAGMA synchronous = OFF")  # a new file has nothing to lose
        self._switch_to_wal()
        self._database.execute("PRAGMA synchronous = NORMAL")
        with self.transaction():
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    self._database.execute(statement)
                self._database.execute("INSERT INTO signing_key VALUES (1, ?)", (secrets.token_bytes(32),))
                self._database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            elif version != _SCHEMA_VERSION:
                raise StateUnusable(
                    f"{self._path} has schema {version} and this version reads {_SCHEMA_VERSION}:"
                    " delete it to start afresh"
                )
            self._forget(self._clock())
            (key,) = self._database.execute("SELECT key FROM signing_key").fetchone()
        return bytes(key)

    def _switch_to_wal(self) -> None:
        give_up = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # the one statement that does not wait when several processes open a new file at once
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)
            else:
                return

    def _one_row(self, statement: str, *values: object) -> bool:
        return self._database.execute(statement, values).rowcount == 1

    def _forget(self, now: float) -> None:
        # what ended is kept for a while: "the code is 41 s old" says more than "unknown code"
        forget = self._database.execute
        forget("DELETE FROM sessions WHERE expires_at < ?", (now,))
        forget("DELETE FROM codes WHERE expires_at < ?", (now - _DAY,))
        forget("DELETE FROM access_tokens WHERE expires_at < ?", (now - _DAY,))
        forget(
            "DELETE FROM refresh_tokens WHERE issued_at < ? OR spent_at < ?",
            (now - REFRESH_TOKEN_IDLE_LIFETIME - _DAY, now - REFRESH_TOKEN_IDLE_LIFETIME),
        )
        forget(
            "DELETE FROM grants WHERE id NOT IN (SELECT grant_id FROM codes UNION"
            " SELECT grant_id FROM access_tokens UNION SELECT grant_id FROM refresh_tokens)"
        )


def digest_of(value: str) -> str:
    """Return what stands in the file for a code, token or cookie."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _make_private_folder(folder: Path) -> None:
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or not _is_ours(status):
        raise StateUnusable(f"{folder} is not a folder of this user's: look at it: ls -ld {folder}")


def _make_private_file(path: Path) -> None:
    """Make the file where there is none; SQLite would follow a link, and wait for a FIFO."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    refused = StateUnusable(f"{path} is not a file of this user's: look at it: ls -l {path}")
    try:
        file = os.open(path, flags, 0o600)
    except (FileExistsError, IsADirectoryError):
        raise refused from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise refused from None
        raise
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
            raise refused
    finally:
        os.close(file)


def _is_ours(status: os.stat_result) -> bool:
    return os.name == "nt" or status.st_uid == os.getuid()
