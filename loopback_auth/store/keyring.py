"""The keyring store: each account is one item of the system's keyring, and beside it is a folder without secrets.

Items of the service, by user name:

    NAME             the account's record
    (journal key)    what answers of the token endpoint are sealed with, while they are in a file
    (probe)          there while the store is proven: as large as a record may become

In the folder, one for each account as in the file store:

    tokens           says that the account is in the keyring, and in which: a keyring has no list
    lock, intent, answer, login-N-intent, login-N-answer, last-error: as in the file store, but `answer` is sealed

`tokens` is there before the item, and removed after it: where it is alone, the keyring has lost the account.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence

from loopback_auth import files
from loopback_auth.errors import (
    KeyringRefused,
    Overtaken,
    StoreBusy,
    StoreError,
    StoreNotWritable,
    TokensGone,
    Unopenable,
)
from loopback_auth.store.base import Intent, Record, Trouble
from loopback_auth.store.file import FileStore
from loopback_auth.store.head import SEALED, tokens_path
from loopback_auth.store.journal import FileJournal
from loopback_auth.store.keys import KEY_SIZE, Keys
from loopback_auth.store.lock import FileLock, FolderLock
from loopback_auth.store.record import generation_of
from loopback_auth.store.sealed_journal import SealedJournal
from loopback_auth.system_keyring import TIME_LIMIT, Keyring
from loopback_auth.text import printable

KEY, PROBE = "(journal key)", "(probe)"
"""User names of items that are no accounts: none of those is called so."""
LEAST = 2048
"""Bytes that a keyring must hold, whatever an account has by now."""
TOKENS = 2048
"""Bytes that the tokens of a new account may have, and what is noted beside them."""
SERVICE = "loopback-auth accounts"
INSTEAD = "or store in files, sealed if you like: LOOPBACK_AUTH_STORE=file: and see loopback-auth store seal --help"
_LOOK = 0.02
_MARK = "the tokens of this account are in the keyring "


class KeyringStore:
    """Accounts in the keyring, those of one service. Implements `Store`.

    `folder` is where all that is no secret lives; it belongs to this service alone, since its locks do. Whatever the
    keyring does not do within `time_limit` seconds, a call, it does not do.
    """

    def __init__(
        self,
        address: str,
        folder: str,
        *,
        service: str = SERVICE,
        allow_network: bool = False,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self._address = address
        self._folder = folder
        self._files = FileStore(folder, allow_network=allow_network)
        self._keyring = Keyring(service, instead=INSTEAD, time_limit=time_limit)
        self._time_limit = time_limit

    @property
    def address(self) -> str:
        """Where the secrets live."""
        return self._address

    @property
    def described(self) -> str:
        """The same in words, with the keyring's name as soon as it is known."""
        of_a_name = self._address.partition(":")[2]
        return f"{self._named}{of_a_name and f', set {of_a_name}'}" if self._keyring.backend else self._address

    @property
    def shared(self) -> bool:
        """Whether several machines use it at once: an account here belongs to this one."""
        return False

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted: no keyring is asked."""
        return self._files.names()

    def read(self, name: str) -> Record | None:
        """Return what the keyring has under this name, None if there is nothing.

        Raises TokensGone where the keyring has lost it, StoreUnsafe, StoreError.
        """
        mark = self._mark(name)
        text = self._keyring.get(name)
        if text is not None:
            content = text.encode("ascii", "backslashreplace")  # what is not ASCII was not written here
            return Record(content, generation_of(content))
        if mark is None:
            return None
        raise TokensGone(
            f"{self._named} has lost the tokens of account {name}"
            if mark in ("", self._keyring.backend)
            else f"the tokens of account {name} are in the keyring {mark}, and here is {self._keyring.backend}",
            hint=(
                f"log in again: loopback-auth login {name} --force",
                f"or forget the account: loopback-auth logout {name}",
            ),
        )

    def write(self, name: str, record: Record, replaces: int) -> None:
        """Put the record in the place of generation `replaces`, and see that it is there.

        Raises StoreNotWritable; Overtaken where another generation stands there. What was lost or cannot be read is
        replaced: it must not cost new tokens.
        """
        text = record.content.decode("ascii")
        with _not_writable():
            mark = self._mark(name)
            stands = self._keyring.get(name)
            generation = 0 if stands is None else generation_of(stands.encode("ascii", "backslashreplace"))
            if generation not in (0, replaces) or (stands is None and mark is None and replaces):
                raise Overtaken(
                    f"account {name} was changed by another process", hint="it was left as it is; try again"
                )
            if mark != self._keyring.backend:
                path = tokens_path(self._folder, name)
                files.make_folder(*os.path.split(os.path.dirname(path)))
                files.replace(path, f"{_MARK}{self._keyring.backend}\n".encode("ascii"))
            try:
                self._keep(name, text)
            except StoreError:
                self._put_back(name, stands, mark)
                raise

    def remove(self, name: str) -> bool:
        """Remove the item, then all but the lock. A login under way is left alone."""
        was_there = self._keyring.remove(name)
        return self._files.remove(name) or was_there

    def lock(self, name: str) -> FileLock:
        """Return the account's lock, not yet taken. It is held on while a call that was given up may still happen."""
        folder = os.path.dirname(tokens_path(self._folder, name))
        files.make_folder(*os.path.split(folder))
        return _Lock(os.path.join(folder, "lock"), self._keyring)

    def login_lock(self, name: str) -> FolderLock:
        """Return the lock of whoever asks a person to log in to the account, not yet taken."""
        return self._files.login_lock(name)

    def journal(self, name: str) -> KeyringJournal:
        """Return the journal of the account's refreshes, not yet opened."""
        return self._journal(name, self._files.journal(name))

    def login_journal(self, name: str) -> KeyringJournal:
        """Return a new journal, for one login."""
        return self._journal(name, self._files.login_journal(name))

    def login_journals(self, name: str) -> Sequence[KeyringJournal]:
        """Return the journals of all logins that have not ended as they should, or have not ended; not yet opened."""
        return [self._journal(name, journal) for journal in self._files.login_journals(name)]

    def trouble(self, name: str) -> Trouble | None:
        """Return what was noted last."""
        return self._files.trouble(name)

    def note(self, name: str, trouble: Trouble) -> None:
        """Keep what went wrong. Raises StoreError."""
        self._files.note(name, trouble)

    def key(self) -> Keys | None:
        """Return what answers are sealed with, None where the keyring has none."""
        text = self._keyring.get(KEY)
        with contextlib.suppress(ValueError):  # damaged: as good as none
            return None if text is None else Keys(bytes.fromhex(text))
        return None

    def make_key(self) -> Keys:
        """Return what answers are sealed with; where the keyring has none it is made, and seen to be kept."""
        if (keys := self.key()) is not None:
            return keys
        with self._alone():
            if (keys := self.key()) is not None:
                return keys
            key = os.urandom(KEY_SIZE)
            self._keep(KEY, key.hex())
            return Keys(key)

    def prove(self, name: str, size: int = 0) -> int:
        """Show that the keyring keeps `size` bytes, and at least what the account has by now with room to grow.

        Return how many it was shown to keep. Raises StoreError, which says what it did with them.
        """
        held = self._keyring.get(name) or ""
        size = max(size, LEAST, len(held) * 5 // 4 + 512)
        text = f"{os.urandom(32).hex()} a probe of loopback-auth ".ljust(size, ".")
        with self._alone():
            try:
                self._keep(PROBE, text)
            except StoreNotWritable:
                self._forget_probe()
                raise
            except KeyringRefused as refused:
                if not self._keeps_little():
                    raise
                raise self._too_small(f"refuses an item of {size} bytes: {_reason(refused)}") from None
            self._keyring.remove(PROBE)
        return size

    # -- within

    @property
    def _named(self) -> str:
        return f"the keyring ({self._keyring.backend})"

    def _journal(self, name: str, inner: FileJournal) -> KeyringJournal:
        return KeyringJournal(self, name, inner)

    def _mark(self, name: str) -> str | None:
        """Return the name of the keyring that the account was put into, None without a mark. Raises StoreUnsafe."""
        path = tokens_path(self._folder, name)
        try:
            files.check_folder(os.path.dirname(path))
            return printable(files.read(path).decode("ascii", "replace").strip().removeprefix(_MARK), 60)
        except FileNotFoundError:
            return None

    def _keep(self, user: str, text: str) -> None:
        """Keep an item and read it back. Raises StoreNotWritable where something else comes back."""
        self._keyring.set(user, text)
        found = self._keyring.get(user)
        if found is None:
            raise StoreNotWritable(f"{self._named} drops what is put into it", hint=INSTEAD)
        if found != text:
            raise self._too_small(f"gave back {len(found)} bytes of {len(text)}, or others")

    def _put_back(self, name: str, stood: str | None, mark: str | None) -> None:
        """Leave what was there, as far as the keyring can still be moved to."""
        with contextlib.suppress(StoreError):
            if stood is not None:
                if self._keyring.get(name) != stood:
                    self._keyring.set(name, stood)
            else:
                self._keyring.remove(name)
                if mark is None:
                    files.remove(tokens_path(self._folder, name))

    def _keeps_little(self) -> bool:
        with contextlib.suppress(StoreError):
            self._keep(PROBE, "a probe of loopback-auth")
            self._keyring.remove(PROBE)
            return True
        return False

    def _forget_probe(self) -> None:
        with contextlib.suppress(StoreError):
            self._keyring.remove(PROBE)

    def _too_small(self, what: str) -> StoreNotWritable:
        return StoreNotWritable(
            f"{self._named} {what}",
            hint=("an item holds 2,560 bytes on Windows, two for each character, and an account needs more", INSTEAD),
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only process that is at an item which is nobody's account."""
        files.make_folder(self._folder)
        deadline = time.monotonic() + 2 * self._time_limit
        with _Lock(os.path.join(self._folder, ".lock"), self._keyring) as lock:
            while not lock.try_acquire():
                if time.monotonic() >= deadline:
                    raise StoreBusy(
                        "another process is at the keyring and does not finish",
                        hint="nothing was spent; try again, or look for a loopback-auth process that hangs",
                    )
                time.sleep(_LOOK)
            yield


class KeyringJournal(SealedJournal):
    """The file store's journal, its answers sealed with a key in the keyring, which is proven too. Enter it once."""

    def __init__(self, store: KeyringStore, name: str, inner: FileJournal) -> None:
        super().__init__(inner, name, f"account {name} in {store.described}", self._key, allow_plain=False)
        self._store = store
        self._proves = False
        self._proven = 0
        self._known: Keys | None = None

    def prove(self) -> None:
        """Show that the files and the keyring keep what may come; have a key in the keyring, and another try for it."""
        self._proves = True
        super().prove()
        self._proven = self._store.prove(self._name)

    def arm(self, intent: Intent) -> None:
        """Make it durable that this is sent now. Raises StoreError where a login's account would not fit."""
        if intent.grant is not None:
            size = len(json.dumps(intent.grant)) + TOKENS
            if size > self._proven:
                self._proven = self._store.prove(self._name, size)
        super().arm(intent)

    @property
    def answer(self) -> bytes:
        """What came, opened. Raises Unopenable: it says so where the keyring has lost the key."""
        try:
            return super().answer
        except Unopenable as error:
            if not self._inner.answer.startswith(SEALED.encode("ascii")):
                raise
            raise Unopenable(
                f"{self._store.described} has lost the key to the last answer for account {self._name}",
                hint=f"forget the account, and log in again: loopback-auth logout {self._name}",
            ) from error

    def _key(self) -> Keys | None:
        if self._known is None:
            self._known = self._store.make_key() if self._proves else self._store.key()
        return self._known


class _Lock(FileLock):
    """A lock that is held on while a call to the keyring, given up by now, may still come to something."""

    def __init__(self, path: str, keyring: Keyring) -> None:
        super().__init__(path)
        self._keyring = keyring

    def release(self) -> None:
        """Let go, now or once that call has ended, at the latest with this process."""
        late = self._keyring.late
        if late is None:
            super().release()
        else:
            late.afterwards(super().release)


@contextlib.contextmanager
def _not_writable() -> Iterator[None]:
    """Raise StoreNotWritable for whatever keeps a record from being written; Overtaken as it is."""
    try:
        yield
    except (Overtaken, StoreNotWritable):
        raise
    except StoreError as error:
        raise StoreNotWritable(str(error), hint=error.hint) from error


def _reason(refused: KeyringRefused) -> str:
    return str(refused).partition(" refused: ")[2] or str(refused)
