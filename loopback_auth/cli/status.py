"""`loopback-auth status`: every account at a glance, for people and for monitoring."""

from __future__ import annotations

import shutil
from contextlib import suppress

import click

from loopback_auth import clock, stores
from loopback_auth.cli import options, report, voice
from loopback_auth.errors import LoginRequired, StoreError
from loopback_auth.standing import Standing, days_until_idle, standing_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account
from loopback_auth.store.transit import transit_of
from loopback_auth.text import printable
from loopback_auth.usable import seconds_left

IDLE_WARNING_DAYS = 5
HEADINGS = ("ACCOUNT", "STATE", "ACCESS TOKEN", "REFRESH TOKEN", "COMPANY", "SERVER", "CLIENT", "SECRET", "GENERATION")

DISPENSABLE = tuple(map(HEADINGS.index, ("GENERATION", "SECRET", "CLIENT", "SERVER")))
"""Columns that are left out, in this order, where a terminal is too narrow; `status ACCOUNT` has them."""


@click.command(short_help="show accounts")
@options.account_or_all
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout: a list, or one object for one ACCOUNT.")
@click.option("--check", is_flag=True, help="Exit with 4 if an account needs a person.")
def command(account: str | None, as_json: bool, check: bool) -> int:
    """Show one or all accounts: state, age, where the secret lives. No network, nothing is spent."""
    store, now = stores.open_store().overview(), clock.now()
    accounts: list[tuple[Account, Standing]] = []
    worst = 0
    for name in store.names() if account is None else [account]:
        try:
            stored = store.load(name)
            standing = standing_of(stored, store, now) if stored is not None else None
        except StoreError as error:  # one account's; where no key can be had it is all of them, and said once
            voice.error(str(error), *error.hint)
            worst = max(worst, error.exit_status)
            continue
        if stored is None or standing is None:
            raise LoginRequired(f"there is no account called {name}", hint=f"log in first: loopback-auth login {name}")
        accounts.append((stored, standing))
    if check and any(standing.state != "ok" for _, standing in accounts):
        worst = max(worst, LoginRequired.exit_status)
    if as_json:
        described = [report.describe(one, standing, store, now) for one, standing in accounts]
        report.print_json(described[0] if account is not None and described else described)
    elif account is not None:
        for one, standing in accounts:
            _print_one(one, standing, store, now)
    elif accounts:
        _print_table(accounts, now)
        keys = {one.sealed_with for one, _ in accounts}
        click.echo(f"\nsecrets are in {printable(store.described)}{_sealed(keys)}")
    elif not worst:
        _nothing(store)
    _warn(accounts, store, now)
    if store.seals and (plain := [one.name for one, _ in accounts if one.sealed_with is None]):
        shown = ", ".join(plain[:5]) + (f" and {len(plain) - 5} more" if len(plain) > 5 else "")
        voice.warning(f"not sealed yet: {shown}", "a key is given; encrypt them: loopback-auth store seal")
    return worst


def _sealed(keys: set[str | None]) -> str:
    """Return in words what the accounts are sealed with; nothing where one of them is not."""
    if None in keys:
        return ""
    return f", sealed with key{'s' * (len(keys) > 1)} {' and '.join(sorted(filter(None, keys)))}"


def _row(account: Account, standing: Standing, now: clock.Moment) -> tuple[str, ...]:
    registration = account.registration
    return (
        account.name,
        standing.state,
        _left(account, now),
        _age(account, now),
        report.company_words(account) or "-",
        printable(registration.server.name, 40),
        printable(registration.client_id, 40),
        next(iter(account.client_secret or {"none": None})),
        str(account.generation),
    )


def _age(account: Account, now: clock.Moment) -> str:
    if account.tokens.refresh_token is None:
        return "none"
    days = days_until_idle(account, now)
    age = f"{report.in_words(max(now.unix - account.refresh_token_at, 0))} old"
    return age if days is None else f"{age}, {max(int(days), 0)} days left"


def _left(account: Account, now: clock.Moment) -> str:
    left = seconds_left(account, now)
    if left is None:
        return "no known end"
    return f"{report.in_words(left)} left" if left > 0 else "expired"


def _print_table(accounts: list[tuple[Account, Standing]], now: clock.Moment) -> None:
    rows = [HEADINGS, *(_row(account, standing, now) for account, standing in accounts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    width = shutil.get_terminal_size((1000, 24)).columns
    shown = list(range(len(HEADINGS)))
    for column in DISPENSABLE:
        if sum(widths[one] + 2 for one in shown) - 2 > width:
            shown.remove(column)
    lines = ["  ".join(row[one].ljust(widths[one]) for one in shown).rstrip() for row in rows]
    click.echo("\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines))


def _nothing(store: Accounts) -> None:
    """Say that there are no accounts, and where they might be: a store that was just chosen is empty."""
    usual, elsewhere = stores.open_at("file:"), 0
    with suppress(StoreError):
        elsewhere = len(usual.names()) if usual.address != store.address else 0
    if not elsewhere:
        voice.note("There are no accounts yet. Log in: loopback-auth login, or without keys: login --server sandbox")
        return
    some = "1 is" if elsewhere == 1 else f"{elsewhere} are"
    voice.note(f"There are no accounts in {printable(store.described)}; {some} in {printable(usual.address)}.")
    voice.note("Move them here: loopback-auth store copy file:")


def _print_one(account: Account, standing: Standing, store: Accounts, now: clock.Moment) -> None:
    registration = account.registration
    lines = {
        "account": account.name,
        "state": standing.state,
        "access token": _left(account, now),
        "refresh token": _refresh_token(account, now),
        "company": report.company_words(account) or "not known",
        "server": f"{printable(registration.server.title)} ({printable(registration.server.token_endpoint)})",
        "client": f"{printable(registration.client_id)}, {registration.token_endpoint_auth_method}",
        "client secret": report.where_secret_is(account),
        "scope": printable(account.tokens.scope or "not known"),
        "generation": str(account.generation),
        "store": printable(store.described) + _sealed({account.sealed_with}),
    }
    if (error := standing.last_error) is not None:
        lines["last error"] = f"{printable(error.message)} ({report.in_words(max(now.unix - error.at, 0))} ago)"
    for name, value in lines.items():
        click.echo(f"{name + ':':<15}{value}")


def _refresh_token(account: Account, now: clock.Moment) -> str:
    if account.tokens.refresh_token is None:
        return "none"
    age = f"{report.in_words(max(now.unix - account.refresh_token_at, 0))} old"
    days = days_until_idle(account, now)
    if days is None:
        return age
    return (
        f"{age}, dies in {int(days)} days if it is not used" if days > 0 else f"{age}, dead by now if it was not used"
    )


def _warn(accounts: list[tuple[Account, Standing]], store: Accounts, now: clock.Moment) -> None:
    servers = [account.registration.server for account, _ in accounts]
    for server in sorted({server.name for server in servers if server.state == "none"}):
        voice.warning(
            f"logins at server {printable(server, 60)} go without state: PKCE and a cookie alone protect them",
            'set state = "unconfirmed" or "required" for it in config.toml, if the server can do that',
        )
    for account, standing in accounts:
        days = days_until_idle(account, now)
        if (transit := transit_of(account)) is not None:
            voice.warning(
                f"account {account.name} {transit.words}",
                f"finish it: {transit.command(account.name, store.address)}",
            )
        elif standing.state == "outcome unknown":
            voice.warning(
                f"the outcome of account {account.name}'s last refresh is unknown: {standing.why}",
                f"ask once more: loopback-auth refresh {account.name} --resend",
            )
        elif standing.state == "login required" and (days is None or days > 0):
            voice.warning(
                f"account {account.name} needs a login: {printable(standing.why)}",
                f"log in again: loopback-auth login {account.name} --force",
            )
        elif days is not None and days <= 0:
            voice.warning(
                f"the refresh token of account {account.name} has not been used for so long that it is dead by now",
                f"log in again: loopback-auth login {account.name} --force",
            )
        elif days is not None and days < IDLE_WARNING_DAYS:
            voice.warning(
                f"the refresh token of account {account.name} dies in {int(days)} days if it is not used",
                f"use it: loopback-auth refresh {account.name} --force",
            )
        if standing.state == "ok" and (error := standing.last_error) is not None:
            ago = report.in_words(max(now.unix - error.at, 0))
            voice.note(f"The last refresh of account {account.name} failed, {ago} ago: {printable(error.message)}")
