"""The first two lines of an account's file, and where that is: all that most calls of `token` need.

Line 1 decides whether line 2, the access token, may be used; what its words mean is in `record.py`, which writes them.
Nothing but `os` and our clock is imported.
"""

from __future__ import annotations

import os

from loopback_auth.clock import Moment

FORMAT = "loopback-auth 1"
"""What line 1 begins with."""
SEALED = "loopback-auth sealed 1"
"""What line 1 of a sealed one begins with, see `sealed.py`."""
FAR = 1e12  # seconds: what is further away, or no number, was not written here
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def tokens_path(accounts_folder: str, name: str) -> str:
    """Return the file that holds an account's tokens. Raises ConfigurationError: no such name is allowed."""
    return os.path.join(account_folder(accounts_folder, name), "tokens")


def account_folder(accounts_folder: str, name: str) -> str:
    """Return the folder that holds all of an account. Raises ConfigurationError: no such name is allowed."""
    if not valid_name(name):
        from loopback_auth.errors import ConfigurationError
        from loopback_auth.text import printable

        raise ConfigurationError(
            f"{printable(name)} is not an account name", hint="1 to 64 letters, digits, dots, dashes, underscores"
        )
    return os.path.join(accounts_folder, name)


def valid_name(name: str) -> bool:
    """Whether `name` is 1 to 64 of `A-Za-z0-9._-`, without a dot or a dash at its start: a folder is called so."""
    return 0 < len(name) <= 64 and name[0] not in ".-" and _NAME_CHARACTERS.issuperset(name)


class Head:
    """What line 1 says, and the access token of line 2 ("" where it cannot stand there)."""

    __slots__ = ("access_token", "expires_at", "received", "received_by")

    def __init__(self, expires_at: int | None, received: Moment, received_by: str, access_token: str) -> None:
        self.expires_at = expires_at
        self.received = received
        self.received_by = received_by
        self.access_token = access_token

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Head) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # compared, never looked up


def can_be_kept(moment: Moment) -> bool:
    """Whether a moment can stand on line 1."""
    boot_id = moment.boot_id
    near = abs(moment.unix) < FAR and abs(moment.uptime) < FAR
    return near and bool(boot_id) and boot_id.isascii() and boot_id.isprintable() and " " not in boot_id


def head(content: bytes) -> Head | None:
    """Return the first two lines, None where they are not of this format: another version, sealed, damaged."""
    try:
        first, access_token, _ = content.split(b"\n", 2)
        name, version, expires_at, received_at, boot_id, uptime, received_by = first.decode("ascii").split(" ")
        received = Moment(float(received_at), boot_id, float(uptime))
        expires = None if expires_at == "-" else int(expires_at)
        token = access_token.decode("ascii")
        if f"{name} {version}" != FORMAT or not can_be_kept(received) or not abs(expires or 0) < FAR:
            return None
        if not token.isprintable():  # a carriage return: somebody edited the file
            return None
        return Head(expires, received, received_by, token)
    except ValueError:
        return None
