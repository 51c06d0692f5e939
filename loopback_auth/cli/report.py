"""An account in words and in JSON: what `login`, `status` and `refresh` print."""

from __future__ import annotations

import json
from typing import Any

import click

from loopback_auth import clock
from loopback_auth.refresh import seconds_left
from loopback_auth.store.base import Account
from loopback_auth.text import printable

DAY = 86400


def describe(account: Account, store: str, now: clock.Moment) -> dict[str, Any]:
    """Return what may be known of an account: never a token. Keys are only ever added.

    Times are Unix seconds, `expires_in` is the access token's seconds left (null where the server does not say).
    """
    left = seconds_left(account, now)
    company = account.company
    return {
        "account": account.name,
        "server": printable(account.registration.server.name),
        "client_id": printable(account.registration.client_id),
        "company": company and {key: printable(value) for key, value in company.items()},
        "state": state(account, now),
        "scope": account.tokens.scope and printable(account.tokens.scope),
        "expires_at": account.expires_at,
        "expires_in": None if left is None else int(left),
        "refreshed_at": int(account.received.unix),
        "generation": account.generation,
        "store": printable(store),
    }


def state(account: Account, now: clock.Moment) -> str:
    """Return `ok`, or `login required` where neither token can work any more."""
    left = seconds_left(account, now)
    if account.tokens.refresh_token is None and left is not None and left <= 0:
        return "login required"
    idle = days_until_idle(account, now)
    if idle is not None and idle <= 0 and left is not None and left <= 0:
        return "login required"
    return "ok"


def days_until_idle(account: Account, now: clock.Moment) -> float | None:
    """Return the days until the server forgets the refresh token for not being used; None where it is not known to."""
    lifetime = account.registration.server.refresh_token_idle_lifetime
    if lifetime is None or account.tokens.refresh_token is None:
        return None
    return (account.refresh_token_at + lifetime - now.unix) / DAY


def company_words(account: Account) -> str | None:
    """Return the company's name and number, as far as they are known."""
    if not account.company:
        return None
    return f"{printable(account.company['name'], 60)} (company {printable(account.company['id'], 40)})"


def in_words(seconds: float) -> str:
    """Return a length of time as people say it: `4 min`, `3 h`, `12 days`."""
    if seconds < 100:
        return f"{int(seconds)} s"
    if seconds < 100 * 60:
        return f"{int(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{int(seconds / 3600)} h"
    return f"{int(seconds / DAY)} days"


def print_json(value: object) -> None:
    """Print one JSON value on stdout."""
    click.echo(json.dumps(value, indent=2))
