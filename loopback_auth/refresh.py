"""Use-case: a usable access token. The stored one where it will do; else lock → load again → recover → spend.

`TokenSource.token()` is the one door for command line and library alike. Never a browser from here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from loopback_auth import clock, machine
from loopback_auth.background import shared
from loopback_auth.errors import ConfigurationError, LoopbackAuthError, TokensNotStored
from loopback_auth.grant import to_adopt
from loopback_auth.renewal import Renewal, load
from loopback_auth.secret import Secret
from loopback_auth.spend import locked
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Lock
from loopback_auth.text import printable
from loopback_auth.usable import LOCK_TIMEOUT, MIN_VALIDITY, seconds_left, usable


class TokenSource:
    """One account's access tokens: one method returns a usable one, and refreshes when there is none.

    Any number of tasks, threads and processes may ask at once: one of them refreshes. A refresh that was begun is
    finished whatever becomes of who asked for it.
    """

    def __init__(
        self,
        name: str,
        store: Accounts,
        *,
        client_secret: Callable[[Account], Secret | None],
        min_validity: float = MIN_VALIDITY,
        warn: Callable[[LoopbackAuthError], None] = lambda _error: None,
        waiting: Callable[[LoopbackAuthError, float], None] = lambda _error, _seconds: None,
        now: Callable[[], clock.Moment] = clock.now,
        lock: AbstractContextManager[Lock] | None = None,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> None:
        """`client_secret` is asked for the account's secret when a refresh needs it, and not before.

        `warn` is told when a refresh failed while the access token in hand still works; `waiting`, from another thread,
        why something is tried again, and in how many seconds. `lock` is the account's lock, if it was taken before.
        """
        self._name = name
        self._store = store
        self._client_secret = client_secret
        self._min_validity = min_validity
        self._warn = warn
        self._waiting = waiting
        self._now = now
        self._lock = lock
        self._lock_timeout = lock_timeout

    async def token(self, rejected: Secret | None = None) -> Secret:
        """Return an access token that is good for `min_validity` seconds.

        A resource server that answered 401 to an access token names it as `rejected`: that very one is not returned
        again. One process refreshes, the others wait for it and use what it got. Raises LoginRequired,
        ConfigurationError, StoreError, TokenEndpointUnreachable, ServerUnavailable, OutcomeUnknown.
        """

        def will_do(account: Account) -> bool:
            return usable(account, self._now(), self._min_validity) and account.tokens.access_token != rejected

        def better_than_nothing(account: Account) -> bool:
            left = seconds_left(account, self._now())
            return (left is None or left > 0) and account.tokens.access_token != rejected

        account = await self._account(will_do, better_than_nothing)
        self._store.leave(account)
        return _bearer(account)

    async def refresh(self, *, force: bool = False, resend: bool = False) -> Account:
        """Refresh if `token` would, or with `force` anyway; a newer generation of another process is taken for that.

        `resend` is a person's decision to send a refresh token once more whose outcome is unknown, and nothing else.
        """
        before = self._store.load(self._name)
        generation = before.generation if before is not None else 0

        def will_do(account: Account) -> bool:
            if force or resend:
                return account.generation > generation
            return usable(account, self._now(), self._min_validity)

        return await self._account(will_do, lambda _account: False, insist=force or resend, resend=resend)

    async def move_here(self) -> Account:
        """Take a copied account for this machine's own: a person has said that it is used nowhere else."""
        async with locked(self._store, self._name):
            account = replace(load(self._store, self._name), machine=machine.identity(), stored_as=None)
            self._store.save(account, replaces=account.generation)
            return account

    async def _account(
        self,
        will_do: Callable[[Account], bool],
        better_than_nothing: Callable[[Account], bool],
        *,
        insist: bool = False,
        resend: bool = False,
    ) -> Account:
        """Return the account if it will do; else refresh it: one refresh at a time in this process, for all callers."""
        if not to_adopt(self._store, self._name):
            account = load(self._store, self._name)
            if will_do(account):
                return account
        renewal = Renewal(
            store=self._store,
            name=self._name,
            client_secret=self._client_secret,
            will_do=will_do,
            needed=lambda account: not better_than_nothing(account),
            waiting=self._waiting,
            now=self._now,
            insist=insist,
            resend=resend,
        )
        key = (self._store.address, self._name)
        try:
            while True:
                account, our_own = await shared(key, lambda: renewal.run(self._lock, self._lock_timeout))
                if our_own or will_do(account):
                    return account
        except LoopbackAuthError as error:
            in_hand = error.account if isinstance(error, TokensNotStored) else self._store.load(self._name)
            if isinstance(in_hand, Account) and better_than_nothing(in_hand):
                self._warn(error)
                return in_hand
            raise


def _bearer(account: Account) -> Secret:
    if not account.tokens.is_bearer:
        raise ConfigurationError(
            f"the access token of account {account.name} is of type {printable(account.tokens.token_type, 40)}, "
            "which cannot be used as Bearer"
        )
    return account.tokens.access_token
