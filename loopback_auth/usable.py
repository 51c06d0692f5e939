"""Whether the stored access token will do, which is the whole of most calls of `token`; and waiting until it will.

Nothing heavy is imported here, nor by what is imported here: a thousand processes may wait for one that refreshes.
"""

from __future__ import annotations

import time

from loopback_auth import clock, files
from loopback_auth.store.head import Head, head, tokens_path

TYPE_CHECKING = False  # as mypy knows it: `typing` takes 5 ms
if TYPE_CHECKING:
    from loopback_auth.store.base import Account
    from loopback_auth.store.lock import FileLock

MIN_VALIDITY = 60.0
"""Seconds an access token must be good for, to be handed out without a refresh."""
SPEND_INTERVAL = 30.0
"""Seconds between two refreshes at least, whatever lifetimes a server hands out."""
LOCK_TIMEOUT = 20.0
"""Seconds to wait for another process that holds the account's lock."""
_LONGEST_PAUSE = 0.15


def usable_now(accounts_folder: str, name: str, min_validity: float = MIN_VALIDITY) -> str | None:
    """Return the access token in the account's file if it is good for `min_validity` seconds, else None.

    Reads one file: no lock, no write, no network, no JSON. None also where the file is absent, sealed, damaged or
    unsafe: the full path finds out and says so.
    """
    found = _head(accounts_folder, name)
    if found is None or not found.access_token or not is_usable(found, clock.now(), min_validity):
        return None
    return found.access_token


def usable_soon(accounts_folder: str, name: str, timeout: float = LOCK_TIMEOUT) -> str | FileLock | None:
    """Wait while another process refreshes, and return the access token that it got.

    Returns the account's lock where nobody refreshes any more: it is held, and it is for the caller to refresh. Not
    held: `timeout` seconds are over. None: there is no such file, so there is nothing to wait for.
    """
    from loopback_auth.errors import LoopbackAuthError
    from loopback_auth.store.file import FileStore

    if _head(accounts_folder, name) is None:
        return None
    deadline = time.monotonic() + timeout
    try:
        lock = FileStore(accounts_folder).lock(name)
        pause = 0.01
        while True:
            acquired = lock.try_acquire()
            token = usable_now(accounts_folder, name)  # after the lock: what its last holder did is seen
            if token is not None:
                lock.release()
                return token
            if acquired or time.monotonic() >= deadline:
                return lock
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
    except LoopbackAuthError:  # the full path meets it again, and says what it is
        return None


def is_usable(first: Head, now: clock.Moment, min_validity: float) -> bool:
    """Judge an access token by its age. A server that says no lifetime at all is taken at its word: until a 401."""
    age = clock.seconds_between(first.received, now)
    if age < 0:  # the wall clock was set back across a boot: nobody knows
        return False
    if first.expires_at is None:
        return True
    lifetime = first.expires_at - int(first.received.unix)
    fresh = age < SPEND_INTERVAL
    if lifetime <= 0:
        return fresh
    left = lifetime - age
    return left >= min_validity or (fresh and first.received_by == "refresh" and left > 0)


def usable(account: Account, now: clock.Moment, min_validity: float) -> bool:
    """Judge a whole account as its first line is judged."""
    first = Head(account.expires_at, account.received, account.received_by, "")
    return bool(account.tokens.access_token) and is_usable(first, now, min_validity)


def seconds_left(account: Account, now: clock.Moment) -> float | None:
    """Return for how long the access token is still good, 0 when it is not; None where the server does not say."""
    if not account.tokens.access_token:
        return 0.0
    if account.tokens.expires_in is None:
        return None
    age = clock.seconds_between(account.received, now)
    return max(account.tokens.expires_in - age, 0.0) if age >= 0 else 0.0


def _head(accounts_folder: str, name: str) -> Head | None:
    try:
        return head(files.read(tokens_path(accounts_folder, name)))
    except Exception as error:  # one that names them would import them, whether or not there is one
        from loopback_auth.errors import LoopbackAuthError

        if isinstance(error, OSError | LoopbackAuthError):
            return None
        raise
