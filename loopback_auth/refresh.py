"""Use-case: a usable access token. `usable_now` where the stored one will do; else lock → load again → spend.

Nothing heavy is imported at the top: `usable_now` is the whole of most calls of `token`. Never a browser from here.
"""

from __future__ import annotations

from loopback_auth import clock, files
from loopback_auth.store.file import tokens_path
from loopback_auth.store.record import Head, head

TYPE_CHECKING = False  # as mypy knows it: `typing` takes 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback_auth.errors import LoopbackAuthError
    from loopback_auth.oauth.token import TokenSet
    from loopback_auth.secret import Secret
    from loopback_auth.store.base import Account, Store

MIN_VALIDITY = 60.0
"""Seconds an access token must be good for, to be handed out without a refresh."""
SPEND_INTERVAL = 30.0
"""Seconds between two refreshes at least, whatever lifetimes a server hands out."""


def usable_now(accounts_folder: str, name: str, min_validity: float = MIN_VALIDITY) -> str | None:
    """Return the access token in the account's file if it is good for `min_validity` seconds, else None.

    Reads one file: no lock, no write, no network, no JSON. None also where the file is absent, sealed, damaged or
    unsafe: the full path finds out and says so.
    """
    from loopback_auth.errors import ConfigurationError, StoreUnsafe

    try:
        first = head(files.read(tokens_path(accounts_folder, name)))
    except (OSError, StoreUnsafe, ConfigurationError):
        return None
    if first is None or not first.access_token:
        return None
    return first.access_token if is_usable(first, clock.now(), min_validity) else None


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


class TokenSource:
    """One account's access tokens: one method returns a usable one, and refreshes when there is none."""

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        client_secret: Callable[[Account], Secret | None],
        min_validity: float = MIN_VALIDITY,
        warn: Callable[[LoopbackAuthError], None] = lambda _error: None,
        now: Callable[[], clock.Moment] = clock.now,
    ) -> None:
        """`client_secret` is asked for the account's secret when a refresh needs it, and not before.

        `warn` is told when a refresh failed while the access token in hand still works.
        """
        self._name = name
        self._store = store
        self._client_secret = client_secret
        self._min_validity = min_validity
        self._warn = warn
        self._now = now

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

        return _bearer(await self._account(will_do, better_than_nothing))

    async def refresh(self, *, force: bool = False) -> Account:
        """Refresh if `token` would, or with `force` anyway; a newer generation of another process is taken for that."""
        generation = self._load().generation

        def will_do(account: Account) -> bool:
            return account.generation > generation if force else usable(account, self._now(), self._min_validity)

        return await self._account(will_do, lambda _account: False)

    async def _account(
        self, will_do: Callable[[Account], bool], better_than_nothing: Callable[[Account], bool]
    ) -> Account:
        """Return the account if it will do; else refresh it, under its lock, unless another process just has."""
        from loopback_auth.errors import LoopbackAuthError
        from loopback_auth.spend import locked

        account = self._load()
        if will_do(account):
            return account
        async with locked(self._store, self._name):
            account = self._load()
            if will_do(account):
                return account
            try:
                return await self._spend(account)
            except LoopbackAuthError as error:
                if better_than_nothing(account):
                    self._warn(error)
                    return account
                raise

    async def _spend(self, account: Account) -> Account:
        from loopback_auth.endpoints.token_endpoint import TokenEndpoint
        from loopback_auth.errors import LoginRequired, OutcomeUnknown
        from loopback_auth.oauth.token import build_refresh_request
        from loopback_auth.spend import spend

        registration, refresh_token = account.registration, account.tokens.refresh_token
        if refresh_token is None:
            raise LoginRequired(
                f"the access token of account {account.name} has expired, and the server gave no refresh token",
                hint=_login_again(account),
            )
        request = build_refresh_request(registration, self._client_secret(account), refresh_token)
        self._store.prove(account.name)
        try:
            async with TokenEndpoint.open(registration.server.token_endpoint, registration.ca_file) as token_endpoint:
                await token_endpoint.connect()
                return await spend(token_endpoint, request, commit=lambda tokens: self._commit(account, tokens))
        except LoginRequired as refused:
            refused.hint = (_login_again(account),)
            raise
        except OutcomeUnknown as unknown:
            unknown.hint = (
                "the refresh token may be spent; run the command again: the server's answer to that decides",
            )
            raise

    async def _commit(self, account: Account, tokens: TokenSet) -> Account:
        import dataclasses

        received = self._now()
        rotated = tokens.refresh_token is not None
        if not rotated:  # RFC 6749 §6: the old one stays
            tokens = dataclasses.replace(tokens, refresh_token=account.tokens.refresh_token)
        refreshed = dataclasses.replace(
            account,
            tokens=dataclasses.replace(tokens, scope=tokens.scope or account.tokens.scope),
            generation=account.generation + 1,
            refresh_token_at=received.unix if rotated else account.refresh_token_at,
            received=received,
            received_by="refresh",
        )
        self._store.save(refreshed)
        return refreshed

    def _load(self) -> Account:
        from loopback_auth.errors import LoginRequired

        account = self._store.load(self._name)
        if account is None:
            raise LoginRequired(
                f"there is no account called {self._name}",
                hint=f"log in first: loopback-auth login {self._name}",
            )
        return account


def usable(account: Account, now: clock.Moment, min_validity: float) -> bool:
    """Judge a whole account as `is_usable` judges its first line."""
    return is_usable(Head(account.expires_at, account.received, account.received_by, ""), now, min_validity)


def seconds_left(account: Account, now: clock.Moment) -> float | None:
    """Return for how long the access token is still good, 0 when it is not; None where the server does not say."""
    if account.tokens.expires_in is None:
        return None
    age = clock.seconds_between(account.received, now)
    return max(account.tokens.expires_in - age, 0.0) if age >= 0 else 0.0


def _login_again(account: Account) -> str:
    return f"log in again: loopback-auth login {account.name} --force"


def _bearer(account: Account) -> Secret:
    from loopback_auth.errors import ConfigurationError
    from loopback_auth.text import printable

    if not account.tokens.is_bearer:
        raise ConfigurationError(
            f"the access token of account {account.name} is of type {printable(account.tokens.token_type, 40)}, "
            "which cannot be used as Bearer"
        )
    return account.tokens.access_token
