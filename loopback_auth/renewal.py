"""One renewal of an account's tokens: lock → load again → recover → prove → connect → arm → spend → commit.

Its steps and their order are what keeps a refresh token that works once from being lost or sent twice:

* it leaves only from a process that holds the account's lock, has loaded the account under it, and has made the intent
  durable;
* the answer is kept, byte for byte, before anybody reads it, and the intent until the new tokens are durable;
* nothing is removed because a refresh failed, and no age or process id gives anybody the right to send.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

import loopback_auth.endpoints.exchange  # noqa: F401 - aiohttp: now, not in a thread beside what a program imports itself
from loopback_auth import adoption, clock, machine
from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import (
    LoginRequired,
    LoopbackAuthError,
    OutcomeUnknown,
    Overtaken,
    ServerUnavailable,
    StoreBusy,
    StoreError,
    StoreNotWritable,
    TokenEndpointUnreachable,
    TokensNotStored,
)
from loopback_auth.oauth.token import TokenSet, build_refresh_request, tokens_in
from loopback_auth.secret import Secret
from loopback_auth.spend import locked, spend
from loopback_auth.standing import is_copy, trouble_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Intent, Journal, Lock, Trouble
from loopback_auth.store.transit import transit_of
from loopback_auth.text import printable

OVERTAKEN_PAUSE = 0.05
"""Seconds after which it is looked again at what a faster process does."""
RESEND_AFTER = 2.0
"""Seconds after a refresh token was sent, at the earliest, that it is sent once more because no answer came."""
SEND_WITHIN = 20.0
"""Seconds after it was armed that a refresh token may be sent."""
QUICK = 5.0
"""Seconds: what took longer than this to fail is for the next call to try again."""
CONNECT_PAUSES = (0.5, 1.5)
"""Seconds between the tries to connect, while a token is needed."""
RETRY_AFTER_PATIENCE = 5.0
"""Seconds of a Retry-After that are waited for."""
RETRY_AFTER_LIMIT = 900.0
"""Seconds of a Retry-After that are believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What is to be renewed, and when it need not be any more."""

    store: Accounts
    name: str
    client_secret: Callable[[Account], Secret | None]
    will_do: Callable[[Account], bool]
    """Whether another process has done it meanwhile."""
    needed: Callable[[Account], bool]
    """Whether there is nothing in hand that works, so that it is worth waiting for the server."""
    waiting: Callable[[LoopbackAuthError, float], None]
    now: Callable[[], clock.Moment]
    insist: bool = False
    """A person asks: what the server said about coming back later does not hold."""
    resend: bool = False
    """A person asks to send once more what is in doubt, and nothing else."""

    async def run(self, lock: contextlib.AbstractContextManager[Lock] | None, lock_timeout: float) -> Account:
        """Return the account once it will do, or has been renewed. Raises what `TokenSource.token` raises."""
        deadline = time.monotonic() + lock_timeout
        while True:
            try:
                async with locked(self.store, self.name, lock_timeout, lock) as journal:
                    await adoption.adopt(self.store, self.name)
                    return await self._renewed(load(self.store, self.name), journal)
            except StoreBusy as busy:
                account = load(self.store, self.name)
                if self.will_do(account):
                    return account
                if not isinstance(busy, Overtaken) or time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(OVERTAKEN_PAUSE)

    async def _renewed(self, account: Account, journal: Journal) -> Account:
        """Return the account as another process has renewed it, or do that here."""
        attempt = 0
        while True:
            account = recovered(self.store, account, journal, self.will_do)
            if self.will_do(account) or (self.resend and journal.intent is None):
                return account
            begun = time.monotonic()
            try:
                renewed = await self._spend(account, journal)
            except (OutcomeUnknown, ServerUnavailable, TokenEndpointUnreachable) as error:
                pause = self._pause(error, attempt, account, journal)
                if pause is None or time.monotonic() - begun > QUICK:
                    raise
                if pause:
                    self.waiting(error, pause)
                    await asyncio.sleep(pause)
            else:
                if renewed.received != account.received:
                    return renewed
                account = renewed  # a new refresh token came, and no access token: so it is used at once
                if attempt:
                    raise OutcomeUnknown(
                        f"the token endpoint gave account {self.name} no access token", hint="run the command again"
                    )
            attempt += 1

    async def _spend(self, account: Account, journal: Journal) -> Account:
        refresh_token = self._refresh_token(account)
        registration = account.registration
        request = build_refresh_request(registration, self.client_secret(account), refresh_token)
        was_in_doubt = await self._wait_in_doubt(account, journal)

        async def commit(tokens: TokenSet) -> Account:
            renewed = _commit(self.store, account, tokens, self.now())
            self._settle(journal)
            return renewed

        try:
            journal.prove()  # from here on no other process gets as far as this, whatever became of the lock
            again = load(self.store, self.name)
            if again.spends != account.spends or is_copy(again):  # renewed, or moved away, since it was loaded
                raise Overtaken(f"another process has renewed account {self.name}", hint="nothing was sent; try again")
            async with TokenEndpoint.open(
                registration.server.token_endpoint, registration.ca_file, registration.proxy
            ) as token_endpoint:
                await token_endpoint.connect()
                armed = self.now()
                journal.arm(Intent(generation=account.generation, digest=account.digest, armed=armed))
                return await spend(token_endpoint, request, journal, commit=commit, check=lambda: self._check(armed))
        except LoopbackAuthError as error:
            self._failed(error, account, journal, was_in_doubt=was_in_doubt)
            raise

    def _check(self, armed: clock.Moment) -> None:
        """Raise Overtaken for a process that stood still since it armed: elsewhere nobody may wait for it any more."""
        if clock.seconds_between(armed, self.now()) > SEND_WITHIN:
            raise Overtaken(
                f"this process stood still before it refreshed account {self.name}", hint="nothing was sent; try again"
            )

    def _failed(self, error: LoopbackAuthError, account: Account, journal: Journal, *, was_in_doubt: bool) -> None:
        """Say what to do about it, and keep it for `status`. A refusal settles the journal, nothing else does."""
        match error:
            case Overtaken() | TokensNotStored():
                return
            case LoginRequired(error=None):  # somebody has logged out meanwhile
                self._settle(journal)
                return
            case LoginRequired():
                error.hint = (login_again(account),)
                if was_in_doubt:
                    error.args = (f"the refresh token was spent, and the answer with the next one was lost: {error}",)
            case OutcomeUnknown():
                error.hint = self._what_now(account, journal)
        refused = isinstance(error, LoginRequired)
        self._note(account, error, refused=refused)
        if refused:
            self._settle(journal)

    def _settle(self, journal: Journal) -> None:
        """Clear the journal; where that cannot be, it is about an older generation, and the next command does it."""
        with contextlib.suppress(StoreNotWritable):
            journal.clear()

    def _refresh_token(self, account: Account) -> Secret:
        """Return the refresh token if it may be sent: from here, and now."""
        refresh_token = account.tokens.refresh_token
        if refresh_token is None:
            raise LoginRequired(
                f"the access token of account {account.name} has expired, and the server gave no refresh token",
                hint=login_again(account),
            )
        if (transit := transit_of(account)) is not None:
            raise LoginRequired(
                f"account {account.name} {transit.words}",
                hint=(
                    f"finish it: {transit.command(account.name, self.store.address)}",
                    f"or keep it here, if nothing uses it there: loopback-auth refresh {account.name} --moved",
                ),
            )
        if is_copy(account):
            raise LoginRequired(
                f"account {account.name} was copied here: its refresh token works once, for one place",
                hint=(
                    f"log in here: loopback-auth login {account.name} --force",
                    f"if it was moved, and nothing uses it there: loopback-auth refresh {account.name} --moved",
                ),
            )
        trouble = trouble_of(account, self.store)
        if trouble is not None and trouble.refused:
            raise LoginRequired(printable(trouble.message), hint=login_again(account))
        left = (trouble.not_before or 0) - self.now().unix if trouble is not None else 0
        if 0 < left <= RETRY_AFTER_LIMIT and not self.insist:
            raise ServerUnavailable(
                "the token endpoint asked to come back later",
                hint=f"nothing was sent; try again in {left:.0f} s, or insist: "
                f"loopback-auth refresh {account.name} --force",
            )
        return refresh_token

    async def _wait_in_doubt(self, account: Account, journal: Journal) -> bool:
        """Return whether it was sent before; then it is sent once more, after a pause, and never again by itself.

        If the first sending was honoured, nobody holds the tokens that came of it: so nothing can be lost by asking.
        """
        doubt = journal.intent
        if doubt is None:
            return False
        trouble = trouble_of(account, self.store)
        unknown = OutcomeUnknown(
            printable(trouble.message)
            if trouble is not None and trouble.at >= doubt.armed.unix
            else f"the refresh token of account {account.name} was sent, and no answer came",
            hint=self._what_now(account, journal),
        )
        if doubt.sendings > 1 and not self.resend:
            raise unknown
        since = clock.seconds_between(doubt.armed, self.now())
        if 0 <= since < RESEND_AFTER:
            if not self.resend:
                self.waiting(unknown, RESEND_AFTER - since)
            await asyncio.sleep(RESEND_AFTER - since)
        return True

    def _what_now(self, account: Account, journal: Journal) -> tuple[str, ...]:
        doubt = journal.intent
        if doubt is None or doubt.sendings < 2:
            return ("the next command asks once more, and the server's answer to that decides",)
        return (
            f"it was sent {doubt.sendings} times; send it once more: loopback-auth refresh {account.name} --resend",
            login_again(account),
        )

    def _pause(self, error: LoopbackAuthError, attempt: int, account: Account, journal: Journal) -> float | None:
        """Return the seconds after which it is tried again, None if it is not."""
        match error:
            case OutcomeUnknown() if (doubt := journal.intent) is not None:
                return 0.0 if attempt == 0 and doubt.sendings == 1 else None
            case TokenEndpointUnreachable() if attempt < len(CONNECT_PAUSES) and self.needed(account):
                return CONNECT_PAUSES[attempt]
            case ServerUnavailable() if attempt == 0 and self.needed(account):
                seconds = self._retry_after(error)
                return seconds if seconds is not None and seconds <= RETRY_AFTER_PATIENCE else None
        return None

    def _note(self, account: Account, error: LoopbackAuthError, *, refused: bool = False) -> None:
        """Keep what went wrong for `status`; where that cannot be written, the error itself is what counts."""
        now = self.now()
        later = self._retry_after(error) if isinstance(error, ServerUnavailable) else None
        with contextlib.suppress(StoreError):
            self.store.note(
                account.name,
                Trouble(
                    generation=account.generation,
                    digest=account.digest,
                    message=str(error),
                    at=now.unix,
                    refused=refused,
                    not_before=None if later is None else now.unix + later,
                ),
            )

    def _retry_after(self, error: ServerUnavailable) -> float | None:
        """Return the seconds of a Retry-After, which is a number or a date (RFC 9110 §10.2.3)."""
        said = error.retry_after or ""
        if said.isascii() and said.isdigit() and len(said) < 10:
            return min(float(said), RETRY_AFTER_LIMIT)
        try:
            return min(max(parsedate_to_datetime(said).timestamp() - self.now().unix, 0.0), RETRY_AFTER_LIMIT)
        except (ValueError, TypeError, OverflowError):
            return None


def recovered(
    store: Accounts, account: Account, journal: Journal, will_do: Callable[[Account], bool] = lambda _account: False
) -> Account:
    """Adopt what an earlier sending brought, and return the account. Whatever is in the journal then is in doubt.

    Call it holding the account's lock. A copy adopts nothing: the place it came from has the same answer. Raises
    TokensNotStored, and StoreNotWritable where an old intent cannot be removed, unless the account will do as it is.
    """
    intent = journal.intent
    if intent is None or is_copy(account):
        return account
    if (intent.generation, intent.digest) == account.spends:
        tokens = tokens_in(journal.answer)
        if tokens is None:
            return account
        account = _commit(store, account, tokens, intent.armed)
    try:
        journal.clear()
    except StoreNotWritable:
        if not will_do(account):  # it would have to be sent under an intent that is about something else
            raise
    return account


def _commit(store: Accounts, account: Account, tokens: TokenSet, received: clock.Moment) -> Account:
    """Make the new tokens durable, unless newer ones stand there. Raises TokensNotStored."""
    renewed = renewed_by(account, tokens, received)
    try:
        store.save(renewed, replaces=account.generation)
    except Overtaken:  # nobody may write but us; if somebody did, newer tokens stay
        return load(store, account.name)
    except StoreError as error:
        raise TokensNotStored(
            f"new tokens of account {account.name} came, and {error}",
            account=renewed,
            hint=(
                "nothing is lost, the answer is kept; once the store can be written to, the next command stores it: "
                f"loopback-auth refresh {account.name}",
            ),
        ) from error
    return renewed


def renewed_by(account: Account, tokens: TokenSet, received: clock.Moment) -> Account:
    """Return the account as the next generation; what the answer does not say stays as it was (RFC 6749 §6)."""
    old = account.tokens
    renewed = replace(
        account,
        tokens=replace(
            tokens, refresh_token=tokens.refresh_token or old.refresh_token, scope=tokens.scope or old.scope
        ),
        generation=account.generation + 1,
        received=received,
        received_by="refresh",
        refresh_token_at=received.unix if tokens.refresh_token else account.refresh_token_at,
        machine=machine.identity() or account.machine,
    )
    if tokens.access_token:
        return renewed
    # The answer broke off before it: the access token in hand stays, and its age.
    in_hand = replace(old, refresh_token=tokens.refresh_token)
    return replace(renewed, tokens=in_hand, received=account.received, received_by=account.received_by)


def load(store: Accounts, name: str) -> Account:
    """Return the account. Raises LoginRequired where there is none, StoreError."""
    account = store.load(name)
    if account is None:
        raise LoginRequired(
            f"there is no account called {name}",
            hint=f"log in first: loopback-auth login {name}",
        )
    return account


def login_again(account: Account) -> str:
    """Return the hint that says how."""
    return f"log in again: loopback-auth login {account.name} --force"
