"""Encryption at rest, around any store: what is kept is sealed on its way in, and opened on its way out.

    loopback-auth sealed 1 KEYID GENERATION
    BASE64(nonce + ciphertext + tag)                  nonce: 96 random bits

The first of the keys seals, all of them open. Line 1 is in clear, and authenticated, as is the account's name: nothing
that is sealed can stand in another's place, but an older whole record of the same account can: whoever can write the
store can roll it back. Answers are sealed by `sealed_journal.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

from loopback_auth.errors import StoreUnsafe, TokensGone, Unopenable
from loopback_auth.store.base import Journal, Lock, Record, Store, Trouble
from loopback_auth.store.head import SEALED
from loopback_auth.store.keys import NONCE_SIZE, Keys, decoded, encoded, not_given, put_there
from loopback_auth.store.record import sealed_head
from loopback_auth.store.sealed_journal import SealedJournal
from loopback_auth.text import printable

_SEALED = SEALED.encode("ascii")
_FIRST = 20
"""Accounts that are looked at for what a store is sealed with."""


class SealedStore:
    """Any store, sealed. Implements `Store`.

    `keys` is called when one is needed; None: there are none, what is sealed cannot be opened and what is written is
    not sealed. What is not sealed can be read if `allow_plain`, as in a store that is about to be sealed.
    """

    def __init__(self, inner: Store, keys: Callable[[], Keys] | None, *, allow_plain: bool) -> None:
        self.inner = inner
        self._fetch = keys
        self._fetched: Keys | None = None
        self._allow_plain = allow_plain

    @property
    def seals(self) -> bool:
        """Whether what is written is sealed."""
        return self._fetch is not None

    @property
    def keys(self) -> Keys | None:
        """The keys, fetched where that is not done yet. Raises ConfigurationError."""
        if self._fetched is None and self._fetch is not None:
            self._fetched = self._fetch()
        return self._fetched

    @property
    def address(self) -> str:
        """Where the secrets live."""
        return self.inner.address

    @property
    def described(self) -> str:
        """The same with what more the store within has to say of it."""
        return str(getattr(self.inner, "described", self.address))

    @property
    def shared(self) -> bool:
        """Whether several machines use it at once."""
        return self.inner.shared

    def overview(self) -> SealedStore:
        """Return the same store to be looked at alone, by what overview the store within has."""
        inner = self.inner.overview() if hasattr(self.inner, "overview") else self.inner
        return SealedStore(inner, self._fetch, allow_plain=self._allow_plain)

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted."""
        return self.inner.names()

    def read(self, name: str) -> Record | None:
        """Return what is kept under this name, opened. Raises Unopenable, and what the store within raises."""
        record = self.inner.read(name)
        if record is None or self._fetch is None:
            return record
        where = f"account {name} in {printable(self.address)}"
        if not record.content.startswith(_SEALED):
            if not self._allow_plain:
                raise put_there(where, name, record.generation)
            return record
        key_id, generation = sealed_head(record.content) or ("", 0)
        keys = self.keys
        assert keys is not None  # noqa: S101 (there is what fetches them)
        if key_id and key_id not in keys.ids:
            raise not_given(where, name, key_id, keys, record.generation)
        content = None
        if generation == record.generation:
            content = _opened(keys, key_id, record.content, name)
        if content is None:
            raise Unopenable(
                f"{where} was changed, or sealed under another name: it cannot be opened",
                hint=f"it is left as it is; log in again: loopback-auth login {name} --force",
                generation=record.generation,
            )
        return replace(record, content=content, sealed_with=key_id)

    def write(self, name: str, record: Record, replaces: int) -> None:
        """Seal the record and make it durable. Raises what the store within raises, ConfigurationError."""
        if (keys := self.keys) is not None:
            record = replace(record, content=_sealed(keys, record, name), sealed_with=keys.ids[0])
        self.inner.write(name, record, replaces)

    def check_keys(self) -> None:
        """Raise Unopenable where records are sealed, and none of the first with a key that is given."""
        if self._fetch is None:
            return
        others: set[str] = set()
        store = self.overview()
        for name in store.names()[:_FIRST]:
            with suppress(StoreUnsafe, TokensGone):
                record = store.inner.read(name)
                head = sealed_head(record.content) if record is not None else None
                if head is not None:
                    others.add(head[0])
        keys = self.keys
        assert keys is not None  # noqa: S101 (there is what fetches them)
        if others and others.isdisjoint(keys.ids):
            raise Unopenable(
                f"the accounts in {printable(self.address)} are sealed with key {' and '.join(sorted(others))}, "
                f"and key {keys.ids[0]} was given",
                hint=(
                    "give the one that they are sealed with, the same on every machine",
                    "or, if that is lost, begin again with this one: loopback-auth login NAME --force",
                ),
            )

    def remove(self, name: str) -> bool:
        """Forget the account and all that is about it, durably; return whether there was one."""
        return self.inner.remove(name)

    def lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the account's lock, not yet taken."""
        return self.inner.lock(name)

    def login_lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the lock of whoever asks a person to log in to the account, not yet taken."""
        return self.inner.login_lock(name)

    def journal(self, name: str) -> SealedJournal:
        """Return the journal of the account's refreshes, not yet opened."""
        return self._journal(name, self.inner.journal(name))

    def login_journal(self, name: str) -> SealedJournal:
        """Return a new journal, for one login.

        Raises Unopenable where what that would replace is sealed, and there is no key: nothing is unsealed unasked.
        """
        if self._fetch is None:
            with suppress(StoreUnsafe, TokensGone):  # it is replaced
                record = self.inner.read(name)
                if record is not None and record.content.startswith(_SEALED):
                    raise Unopenable(
                        f"account {name} in {printable(self.address)} is sealed, and the new tokens would not be: "
                        "no key was given",
                        hint=(
                            "the key goes into LOOPBACK_AUTH_STORE_KEY, or store_key in config.toml says where it is",
                            f"to have it in clear, forget the account first: loopback-auth logout {name}",
                        ),
                        generation=record.generation,
                    )
        return self._journal(name, self.inner.login_journal(name))

    def login_journals(self, name: str) -> Sequence[SealedJournal]:
        """Return the journals of all logins that have not ended as they should, or have not ended; not yet opened."""
        return [self._journal(name, journal) for journal in self.inner.login_journals(name)]

    def trouble(self, name: str) -> Trouble | None:
        """Return what was noted last; it holds no secret."""
        return self.inner.trouble(name)

    def note(self, name: str, trouble: Trouble) -> None:
        """Keep what went wrong, as it is. Raises StoreError."""
        self.inner.note(name, trouble)

    def _journal(self, name: str, inner: AbstractContextManager[Journal]) -> SealedJournal:
        where = f"account {name} in {printable(self.address)}"
        return SealedJournal(inner, name, where, lambda: self.keys, allow_plain=self._allow_plain)


def _sealed(keys: Keys, record: Record, name: str) -> bytes:
    head = f"{SEALED} {keys.ids[0]} {record.generation}".encode("ascii")
    nonce = os.urandom(NONCE_SIZE)
    return head + b"\n" + encoded(nonce + keys.sealing()(nonce, record.content, _about_record(head, name)))


def _opened(keys: Keys, key_id: str, content: bytes, name: str) -> bytes | None:
    lines = content.split(b"\n")
    sealed = decoded(lines[1]) if len(lines) == 3 and not lines[2] else b""
    if len(sealed) < NONCE_SIZE:
        return None
    head = lines[0]
    return keys.opened(key_id, sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], _about_record(head, name))


def _about_record(head: bytes, name: str) -> bytes:
    return b"\0".join((head, b"record", name.encode()))
