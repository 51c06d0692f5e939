"""The file store: one folder per account, 0700, holding `tokens` (the committed truth) and `lock` (never unlinked)."""

from __future__ import annotations

import os

from loopback_auth import files
from loopback_auth.errors import ConfigurationError, StoreUnsafe
from loopback_auth.store.record import parse, serialise
from loopback_auth.text import printable

TYPE_CHECKING = False  # as mypy knows it: what follows is not for the way of `token`
if TYPE_CHECKING:
    from loopback_auth.store.base import Account
    from loopback_auth.store.lock import FileLock

PROBE_SIZE = 64 * 1024
"""Bytes that are written to show that a token set could be."""


def tokens_path(accounts_folder: str, name: str) -> str:
    """Return the file that holds an account's tokens. Raises ConfigurationError: no such name is allowed.

    On the way of every `token`.
    """
    if not valid_name(name):
        raise ConfigurationError(
            f"{printable(name)} is not an account name", hint="1 to 64 letters, digits, dots, dashes, underscores"
        )
    return os.path.join(accounts_folder, name, "tokens")


def valid_name(name: str) -> bool:
    """Whether `name` is 1 to 64 of `A-Za-z0-9._-`, without a dot or a dash at its start: a folder is called so."""
    return 0 < len(name) <= 64 and name[0] not in ".-" and all(character in _NAME_CHARACTERS for character in name)


_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


class FileStore:
    """Accounts below a folder. Implements `Store`."""

    def __init__(self, accounts_folder: str) -> None:
        self._accounts = accounts_folder

    @property
    def address(self) -> str:
        """Where the secrets live."""
        return "file:" + self._accounts

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted."""
        try:
            found = os.listdir(self._accounts)
        except FileNotFoundError:
            return []
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise StoreUnsafe(f"{printable(self._accounts)} cannot be looked at: {reason}") from error
        return sorted(name for name in found if valid_name(name) and os.path.lexists(tokens_path(self._accounts, name)))

    def load(self, name: str) -> Account | None:
        """Return the account, None if there is none. Raises StoreUnsafe, StoreError."""
        path = tokens_path(self._accounts, name)
        try:
            files.check_folder(os.path.dirname(path))
            content = files.read(path)
        except FileNotFoundError:
            return None
        return parse(content, name, path)

    def prove(self, name: str) -> None:
        """Write, fsync, rename and remove a probe beside the account's tokens. Raises StoreError."""
        folder = self._folder(name)
        probe = os.path.join(folder, f"probe.{os.getpid()}")
        files.replace(probe, b"\0" * PROBE_SIZE)
        files.remove(probe)

    def save(self, account: Account) -> None:
        """Make the account durable: temporary file, fsync, rename, fsync of the folder. Raises StoreNotWritable."""
        self._folder(account.name)
        files.replace(tokens_path(self._accounts, account.name), serialise(account))

    def remove(self, name: str) -> bool:
        """Remove the tokens; the folder and its lock stay, for whoever waits on it."""
        return files.remove(tokens_path(self._accounts, name))

    def lock(self, name: str) -> FileLock:
        """Return the account's lock, not yet taken."""
        from loopback_auth.store.lock import FileLock

        return FileLock(os.path.join(self._folder(name), "lock"))

    def _folder(self, name: str) -> str:
        folder = os.path.dirname(tokens_path(self._accounts, name))
        files.make_folder(self._accounts)
        files.make_folder(folder)
        return folder
