"""An account in words and in JSON: what `login`, `status` and `refresh` print."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import click

from loopback_auth import clock
from loopback_auth.errors import StoreError
from loopback_auth.standing import DAY, Standing, days_until_idle, standing_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account
from loopback_auth.text import printable
from loopback_auth.usable import seconds_left


def describe(account: Account, standing: Standing, store: Accounts, now: clock.Moment) -> dict[str, Any]:
    """Return what may be known of an account: never a token. Keys are only ever added.

    Times are Unix seconds, ages seconds; `expires_in` is the access token's seconds left (null where the server does
    not say).
    """
    left, idle = seconds_left(account, now), days_until_idle(account, now)
    company, error = account.company, standing.last_error
    return {
        "account": account.name,
        "server": printable(account.registration.server.name),
        "client_id": printable(account.registration.client_id),
        "company": company and {key: printable(value) for key, value in company.items()},
        "state": standing.state,
        "scope": account.tokens.scope and printable(account.tokens.scope),
        "expires_at": account.expires_at,
        "expires_in": None if left is None else int(left),
        "refreshed_at": int(account.received.unix),
        "refresh_token_age": int(max(now.unix - account.refresh_token_at, 0)) if account.tokens.refresh_token else None,
        "idle_days_left": None if idle is None else max(int(idle), 0),
        "generation": account.generation,
        "last_error": error and {"message": printable(error.message), "at": int(error.at)},
        "client_secret": where_secret_is(account),
        "store": printable(store.address),
        "sealed": account.sealed_with is not None,
        "sealed_with": account.sealed_with,
    }


def where_secret_is(account: Account) -> str:
    """Return in words where the client secret is found when a refresh needs it."""
    match account.client_secret or {}:
        case {"env": name}:
            return f"variable {printable(name)}"
        case {"file": path}:
            return f"file {printable(path)}"
        case {"command": words}:
            return f"command {printable(words[0])}"
        case {"keyring": name}:
            return f"keyring, client {printable(name)}"
        case {"config": name}:
            return f"config.toml, client {printable(name)}"
        case {"preset": True}:
            return "published: it is the sandbox's"
        case _:
            return "none"


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


def print_account(account: Account, store: Accounts) -> None:
    """Print what may be known of an account as JSON."""
    now, stored = clock.now(), None
    with suppress(StoreError):
        stored = store.load(account.name)
    account = replace(account, sealed_with=None if stored is None else stored.sealed_with)
    print_json(describe(account, standing_of(account, store, now), store, now))


def print_json(value: object) -> None:
    """Print one JSON value on stdout."""
    click.echo(json.dumps(value, indent=2))
