"""How the tokens of a login become an account: by the login itself, or by who comes after it.

A login that is killed between the answer and the store leaves the answer; the next command adopts it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from loopback_auth import clock, machine
from loopback_auth.endpoints import resource
from loopback_auth.errors import (
    ConfigurationError,
    LoopbackAuthError,
    Overtaken,
    ResourceError,
    StoreNotWritable,
    StoreUnsafe,
    Unopenable,
    WrongAccount,
)
from loopback_auth.grant import Grant, grant_of, to_adopt
from loopback_auth.oauth.token import TokenSet, tokens_in
from loopback_auth.progress import CompanyUnknown, Progress
from loopback_auth.spend import locked
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Intent
from loopback_auth.text import printable


async def checked(
    grant: Grant, tokens: TokenSet, store: Accounts, received: clock.Moment, tell: Callable[[Progress], None]
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


def save(account: Account, store: Accounts) -> Account:
    """Make a login's account durable as the next generation. Call it holding the account's lock."""
    for _ in range(9):
        with suppress(Overtaken):  # by a refresh on another machine: these tokens are newer all the same
            return _saved(account, store)
    return _saved(account, store)


def _saved(account: Account, store: Accounts) -> Account:
    generation = 0
    with suppress(StoreUnsafe):  # it is replaced
        generation = store.generation(account.name)
    account = replace(account, generation=generation + 1)
    store.save(account, replaces=generation)
    return account


async def adopt(store: Accounts, name: str) -> None:
    """Store what a login that has ended left behind, if its tokens came. Call it holding the account's lock."""
    for left in store.login_journals(name):
        with left as journal, suppress(Unopenable):  # it is left for whoever has the key
            if not journal.try_open():
                continue
            intent, tokens = journal.intent, tokens_in(journal.answer)
            grant = grant_of(name, intent)
            if intent is not None and grant is not None and tokens is not None and not _is_over(intent, store, name):
                try:
                    account = await checked(grant, tokens, store, intent.armed, lambda _progress: None)
                except WrongAccount:
                    journal.clear()
                    raise
                save(account, store)
            with suppress(StoreNotWritable):
                journal.clear()


async def adopt_left(store: Accounts, name: str) -> None:
    """Do the same without holding the lock; where nothing was left, nothing is touched."""
    if to_adopt(store, name):
        async with locked(store, name):
            await adopt(store, name)


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


def _is_over(intent: Intent, store: Accounts, name: str) -> bool:
    """Whether a login was stored since this one began: this very one, or one that came after it.

    Raises StoreError where that cannot be known. A record that is damaged is none; one that is sealed with a key which
    this machine was not given may be this very login, and its tokens spent since by another machine.
    """
    try:
        stored = store.load(name)
    except (ConfigurationError, StoreNotWritable, Unopenable):
        raise
    except LoopbackAuthError:  # a damaged record must not cost the new tokens
        stored = None
    return stored is not None and stored.logged_in_at >= intent.armed.unix


def _stored(store: Accounts, name: str) -> Account | None:
    """Return what stands there; a damaged record must not cost the new tokens."""
    try:
        return store.load(name)
    except LoopbackAuthError:
        return None


def _expected_company(grant: Grant, store: Accounts) -> str | None:
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
        company={key: printable(value) for key, value in account.company.items()},
        hint=(
            "nothing was stored, what was stored before stays; log out in the browser and log in to the other one",
            "or store it under a name of its own: loopback-auth login NAME; or replace the account with --force",
        ),
    )
