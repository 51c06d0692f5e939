"""What the tokens of a login are for, and how they become an account: by the login itself, or by who comes after it.

A login that is killed between the answer and the store leaves the answer; the next command adopts it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from loopback_auth import clock, machine
from loopback_auth.endpoints import resource
from loopback_auth.errors import (
    LoopbackAuthError,
    ResourceError,
    StoreNotWritable,
    WrongAccount,
)
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.token import TokenSet, tokens_in
from loopback_auth.progress import CompanyUnknown, Progress
from loopback_auth.spend import locked
from loopback_auth.store.base import Account, Intent, SecretReference, Store
from loopback_auth.store.record import parse_registration
from loopback_auth.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the tokens of a login are for.

    `client_secret` says where the secret will be found at later refreshes. `expected_company` is the id that the tokens
    must be for; without it, that of the account stored under this name at this server, if there is one; `force` takes
    any.
    """

    account: str
    registration: ClientRegistration
    client_secret: SecretReference | None
    expected_company: str | None = None
    force: bool = False


def intent_of(grant: Grant, now: clock.Moment) -> Intent:
    """Return the intent of a login, with all that another process needs to finish it."""
    return Intent(generation=0, digest="", armed=now, grant=dataclasses.asdict(grant))


async def checked(
    grant: Grant, tokens: TokenSet, store: Store, received: clock.Moment, tell: Callable[[Progress], None]
) -> Account:
    """Return the account of these tokens, not yet stored; whose data they open is asked where that matters.

    Raises WrongAccount.
    """
    account = Account(
        name=grant.account,
        registration=grant.registration,
        client_secret=grant.client_secret,
        tokens=tokens,
        generation=1,
        logged_in_at=received.unix,
        refresh_token_at=received.unix,
        received=received,
        received_by="login",
        machine=machine.identity(),
    )
    expected = None if grant.force else _expected_company(grant, store)
    if expected is not None:
        account = await with_company(account, tell)
        _check_company(account, expected)
    return account


def save(account: Account, store: Store) -> Account:
    """Make a login's account durable as the next generation. Call it holding the account's lock."""
    stored = _stored(store, account.name)
    account = replace(account, generation=stored.generation + 1 if stored else 1)
    store.save(account)
    return account


async def adopt(store: Store, name: str) -> None:
    """Store what a login that has ended left behind, if its tokens came. Call it holding the account's lock."""
    for left in store.login_journals(name):
        with left as journal:
            if not journal.try_open():
                continue
            intent, tokens = journal.intent, tokens_in(journal.answer)
            grant = _parse(name, intent)
            if intent is not None and grant is not None and tokens is not None and not _is_over(intent, store, name):
                try:
                    account = await checked(grant, tokens, store, intent.armed, lambda _progress: None)
                except WrongAccount:
                    journal.clear()
                    raise
                save(account, store)
            with suppress(StoreNotWritable):
                journal.clear()


async def adopt_left(store: Store, name: str) -> None:
    """Do the same without holding the lock; where nothing was left, nothing is touched."""
    if to_adopt(store, name):
        async with locked(store, name):
            await adopt(store, name)


def to_adopt(store: Store, name: str) -> bool:
    """Whether a login that has ended left tokens behind."""
    for left in store.login_journals(name):
        with left as journal:
            if journal.try_open() and tokens_in(journal.answer) is not None:
                return True
    return False


async def with_company(account: Account, tell: Callable[[Progress], None]) -> Account:
    """Ask whose data this is, unless that is known."""
    if account.company is not None or not account.tokens.access_token:
        return account
    try:
        company = await resource.company(account.registration, account.tokens.access_token)
    except ResourceError as error:
        tell(CompanyUnknown(error))
        return account
    return account if company is None else replace(account, company={"id": company.id, "name": company.name})


def _is_over(intent: Intent, store: Store, name: str) -> bool:
    """Whether a login was stored since this one began: this very one, or one that came after it."""
    stored = _stored(store, name)
    return stored is not None and stored.logged_in_at >= intent.armed.unix


def _parse(name: str, intent: Intent | None) -> Grant | None:
    members: dict[str, Any] = (intent and intent.grant) or {}
    try:
        return Grant(
            account=name,
            registration=parse_registration(members["registration"]),
            client_secret=members["client_secret"],
            expected_company=members["expected_company"],
            force=members["force"],
        )
    except (KeyError, TypeError, AttributeError):
        return None


def _stored(store: Store, name: str) -> Account | None:
    """Return what stands there; a damaged record must not cost the new tokens."""
    try:
        return store.load(name)
    except LoopbackAuthError:
        return None


def _expected_company(grant: Grant, store: Store) -> str | None:
    if grant.expected_company is not None:
        return grant.expected_company
    stored = _stored(store, grant.account)
    same_server = stored and stored.registration.server.token_endpoint == grant.registration.server.token_endpoint
    return stored.company["id"] if stored and same_server and stored.company else None


def _check_company(account: Account, expected: str) -> None:
    """Raise WrongAccount. A company that could not be asked for is no wrong one: the tokens are worth keeping."""
    if account.company is None or account.company["id"] == expected:
        return
    known = f"{printable(account.company['name'], 60)} (company {printable(account.company['id'], 40)})"
    raise WrongAccount(
        f"you logged in to {known}, and account {account.name} is for company {printable(expected, 40)}",
        hint=(
            "nothing was stored, what was stored before stays; log out in the browser and log in to the other one",
            "or store it under a name of its own: loopback-auth login NAME; or replace the account with --force",
        ),
    )
