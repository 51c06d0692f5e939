"""How an account stands, from what is stored alone: no network, nothing is spent, nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass

from loopback_auth import clock, machine
from loopback_auth.oauth.token import tokens_in
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Trouble
from loopback_auth.store.transit import transit_of
from loopback_auth.usable import seconds_left

DAY = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`state` is `ok`, `login required` or `outcome unknown`; `why` says in words why it is not `ok`."""

    state: str
    why: str | None = None
    last_error: Trouble | None = None
    """What went wrong with the tokens in hand, if anything did."""


def standing_of(account: Account, store: Accounts, now: clock.Moment) -> Standing:
    """Return how an account stands. Raises StoreError."""
    trouble = trouble_of(account, store)
    state, why = "ok", None
    if (transit := transit_of(account)) is not None:
        state, why = "login required", f"it {transit.words}"
    elif is_copy(account):
        state, why = "login required", "it was copied here, and its refresh token works once, for one place"
    elif trouble is not None and trouble.refused:
        state, why = "login required", trouble.message
    elif _is_spent(account, now):
        state, why = "login required", "neither of its tokens can work any more"
    elif is_in_doubt(account, store):
        state, why = "outcome unknown", "its refresh token was sent, and no answer came"
    return Standing(state=state, why=why, last_error=trouble)


def is_copy(account: Account) -> bool:
    """Whether the record was written on another machine, or under another name, or is on its way between two stores.

    Where nobody can say, it is not.
    """
    here = machine.identity()
    return account.stored_as is not None or (None not in (account.machine, here) and account.machine != here)


def trouble_of(account: Account, store: Accounts) -> Trouble | None:
    """Return what went wrong with the tokens in hand."""
    trouble = store.trouble(account.name)
    return trouble if trouble is not None and (trouble.generation, trouble.digest) == account.spends else None


def days_until_idle(account: Account, now: clock.Moment) -> float | None:
    """Return the days until the server forgets the refresh token for not being used; None where it is not known to."""
    lifetime = account.registration.server.refresh_token_idle_lifetime
    if lifetime is None or account.tokens.refresh_token is None:
        return None
    return (account.refresh_token_at + lifetime - now.unix) / DAY


def _is_spent(account: Account, now: clock.Moment) -> bool:
    """Whether neither token can work any more."""
    left, idle = seconds_left(account, now), days_until_idle(account, now)
    gone = account.tokens.refresh_token is None or (idle is not None and idle <= 0)
    return gone and left is not None and left <= 0


def is_in_doubt(account: Account, store: Accounts) -> bool:
    """Whether the refresh token was sent, by a process that has ended, and no answer is there."""
    with store.journal(account.name) as journal:
        if not journal.try_open() or (intent := journal.intent) is None:
            return False
        return (intent.generation, intent.digest) == account.spends and tokens_in(journal.answer) is None
