"""Accounts in a store: what that keeps as records, read and written as `Account`s. The door of every use-case.

Where a store is shared by many machines, this one keeps a copy of the access token, never of the refresh token, where
`token` finds it without asking the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from loopback_auth import clock
from loopback_auth.errors import TokensGone, Unopenable
from loopback_auth.store.base import Account, Journal, Lock, Record, Store, Trouble
from loopback_auth.store.cache import AccessTokenCache
from loopback_auth.store.record import parse, serialise
from loopback_auth.store.sealed import SealedStore


class Accounts:
    """The accounts of a store. Whatever is not about the content of a record is the store's own."""

    def __init__(
        self, store: Store, cache: AccessTokenCache | None = None, now: Callable[[], clock.Moment] = clock.now
    ) -> None:
        self.store = store
        self._cache = cache
        self._now = now

    @property
    def address(self) -> str:
        """Where the secrets live, for people."""
        return self.store.address

    @property
    def described(self) -> str:
        """The same with what more the store has to say of it."""
        return str(getattr(self.store, "described", self.address))

    @property
    def shared(self) -> bool:
        """Whether several machines use the store at once: then an account belongs to none of them."""
        return self.store.shared

    @property
    def seals(self) -> bool:
        """Whether what is saved is encrypted where it is kept."""
        return isinstance(self.store, SealedStore) and self.store.seals

    def overview(self) -> Accounts:
        """Return the same accounts for who goes through all of them and changes nothing: as they were a moment ago."""
        store = self.store.overview() if hasattr(self.store, "overview") else self.store
        return Accounts(store, self._cache, self._now)

    def check_keys(self) -> None:
        """Raise Unopenable where what is stored is sealed with other keys: what is to come should not be with ours."""
        if isinstance(self.store, SealedStore):
            self.store.check_keys()

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted."""
        return self.store.names()

    def load(self, name: str) -> Account | None:
        """Return the account, None if there is none. Raises StoreUnsafe, StoreError."""
        record = self.store.read(name)
        if record is None:
            if self._cache is not None:
                self._cache.forget(name)
            return None
        account = parse(record.content, name, f"account {name} in {self.address}")
        if record.sealed_with is not None:
            account = replace(account, sealed_with=record.sealed_with)
        if record.age is not None:
            account = replace(account, received=clock.before(self._now(), record.age))
        return account

    def leave(self, account: Account) -> None:
        """Keep the access token where the next `token` of this machine finds it, if the store is shared."""
        if self._cache is not None:
            self._cache.keep(account)

    def generation(self, name: str) -> int:
        """Return that of what stands there, even where the account cannot be read; 0 of nothing."""
        try:
            record = self.store.read(name)
        except Unopenable as sealed:
            return sealed.generation
        except TokensGone:
            return 0
        return 0 if record is None else record.generation

    def save(self, account: Account, replaces: int | None = None) -> None:
        """Make the account durable in the place of generation `replaces`, 0 being none; of whatever is there, if None.

        Raises Overtaken where another one stands there, or StoreNotWritable, and leaves what was there.
        """
        if replaces is None:
            replaces = self.generation(account.name)
        if self.shared:
            account = replace(account, machine=None)
        age = max(clock.seconds_between(account.received, self._now()), 0.0)
        self.store.write(account.name, Record(serialise(account), account.generation, age), replaces)
        if self._cache is not None:  # an older token
            self._cache.forget(account.name)

    def remove(self, name: str) -> bool:
        """Forget the account and all that is about it, durably; return whether there was one."""
        if self._cache is not None:
            self._cache.forget(name)
        return self.store.remove(name)

    def lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the account's lock, not yet taken."""
        return self.store.lock(name)

    def login_lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the lock of whoever asks a person to log in to the account, not yet taken."""
        return self.store.login_lock(name)

    def journal(self, name: str) -> AbstractContextManager[Journal]:
        """Return the journal of the account's refreshes, not yet opened."""
        return self.store.journal(name)

    def login_journal(self, name: str) -> AbstractContextManager[Journal]:
        """Return a new journal, for one login."""
        return self.store.login_journal(name)

    def login_journals(self, name: str) -> Sequence[AbstractContextManager[Journal]]:
        """Return the journals of all logins that have not ended as they should, or have not ended; not yet opened."""
        return self.store.login_journals(name)

    def trouble(self, name: str) -> Trouble | None:
        """Return what was noted last."""
        return self.store.trouble(name)

    def note(self, name: str, trouble: Trouble) -> None:
        """Keep what went wrong. Raises StoreError."""
        self.store.note(name, trouble)
