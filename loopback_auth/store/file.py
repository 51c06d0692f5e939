"""The file store: one folder per account, 0700.

* `tokens`: the committed truth
* `lock`: one refresh at a time; never unlinked
* `intent`, `answer`: a refresh under way, or one whose outcome is not known, see `journal.py`
* `login-N-intent`, `login-N-answer`: the same of a login, N being eight hex digits
* `last-error`: how the last refresh failed, without secrets
"""

from __future__ import annotations

import os

from loopback_auth import files
from loopback_auth.errors import Overtaken, StoreUnsafe
from loopback_auth.store.head import account_folder, valid_name
from loopback_auth.text import printable

TYPE_CHECKING = False  # as mypy knows it: what follows is not for the way of `token`
if TYPE_CHECKING:
    from loopback_auth.store.base import Record, Trouble
    from loopback_auth.store.journal import FileJournal
    from loopback_auth.store.lock import FileLock, FolderLock


class FileStore:
    """Accounts below a folder. Implements `Store`.

    On a network file system nothing is spent unless `allow_network`: its accounts can be read, and no more.
    """

    def __init__(
        self, accounts_folder: str, *, allow_network: bool = False, mountinfo: str = "/proc/self/mountinfo"
    ) -> None:
        self._accounts = accounts_folder
        self._allow_network = allow_network
        self._mountinfo = mountinfo

    @property
    def address(self) -> str:
        """Where the secrets live."""
        return "file:" + self._accounts

    @property
    def shared(self) -> bool:
        """Whether several machines use it at once: an account here belongs to this one."""
        return False

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted."""
        try:
            found = os.listdir(self._accounts)
        except FileNotFoundError:
            return []
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise StoreUnsafe(f"{printable(self._accounts)} cannot be looked at: {reason}") from error
        return sorted(name for name in found if valid_name(name) and os.path.lexists(self._path(name, "tokens")))

    def read(self, name: str) -> Record | None:
        """Return what is kept under this name, None if there is nothing. Raises StoreUnsafe, StoreError."""
        from loopback_auth.store.base import Record
        from loopback_auth.store.record import generation_of

        try:
            files.check_folder(self._folder(name))
            content = files.read(self._path(name, "tokens"))
        except FileNotFoundError:
            return None
        return Record(content, generation_of(content))

    def write(self, name: str, record: Record, replaces: int) -> None:
        """Make the record durable: temporary file, fsync, rename, fsync of the folder.

        Raises StoreNotWritable; Overtaken where another generation than `replaces` stands there. What cannot be read is
        replaced: it must not cost new tokens.
        """
        from contextlib import suppress

        with suppress(StoreUnsafe):
            stands = self.read(name)
            if stands.generation not in (0, replaces) if stands is not None else replaces:
                raise Overtaken(
                    f"account {name} was changed by another process", hint="it was left as it is; try again"
                )
        self._make_folder(name)
        files.replace(self._path(name, "tokens"), record.content)

    def remove(self, name: str) -> bool:
        """Remove all but the lock, for whoever waits on it. A login under way is left alone."""
        was_there = files.remove(self._path(name, "tokens"))
        files.remove(self._path(name, "last-error"))
        for journal in self.login_journals(name):
            with journal:
                if journal.try_open():
                    journal.clear()
        return was_there

    def lock(self, name: str) -> FileLock:
        """Return the account's lock, not yet taken."""
        from loopback_auth.store.lock import FileLock

        self._make_folder(name)
        return FileLock(self._path(name, "lock"))

    def login_lock(self, name: str) -> FolderLock:
        """Return the lock of whoever asks a person to log in to the account, not yet taken: its folder, made before."""
        from loopback_auth.store.lock import FolderLock

        return FolderLock(self._folder(name))

    def journal(self, name: str) -> FileJournal:
        """Return the journal of the account's refreshes, not yet opened."""
        return self._journal(name, "")

    def login_journal(self, name: str) -> FileJournal:
        """Return a new journal, for one login."""
        return self._journal(name, f"login-{os.urandom(4).hex()}-")

    def login_journals(self, name: str) -> list[FileJournal]:
        """Return the journals of all logins that have not ended as they should, or have not ended; not yet opened."""
        from loopback_auth.store.journal import login_journals

        return login_journals(self._folder(name))

    def trouble(self, name: str) -> Trouble | None:
        """Return what was noted last."""
        from loopback_auth.store.record import parse_trouble

        try:
            return parse_trouble(files.read(self._path(name, "last-error")))
        except FileNotFoundError:
            return None

    def note(self, name: str, trouble: Trouble) -> None:
        """Keep what went wrong. Raises StoreError."""
        from loopback_auth.store.record import serialise_trouble

        files.replace(self._path(name, "last-error"), serialise_trouble(trouble))

    def _journal(self, name: str, prefix: str) -> FileJournal:
        from loopback_auth.store.journal import FileJournal

        return FileJournal(self._folder(name), prefix, allow_network=self._allow_network, mountinfo=self._mountinfo)

    def _folder(self, name: str) -> str:
        return account_folder(self._accounts, name)

    def _path(self, name: str, file: str) -> str:
        return f"{self._folder(name)}{os.sep}{file}"

    def _make_folder(self, name: str) -> None:
        files.make_folder(*os.path.split(self._folder(name)))
