"""`loopback-auth token`: the full way, when the first lines of a file will not do.

A stored access token that is good, but sealed or not in a file, costs neither asyncio nor aiohttp.
"""

from __future__ import annotations

import click

from loopback_auth import clock, folders, stores
from loopback_auth.cli import options, voice
from loopback_auth.errors import LoopbackAuthError, StoreError
from loopback_auth.grant import to_adopt
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.lock import FileLock
from loopback_auth.usable import LOCK_TIMEOUT, MIN_VALIDITY, usable, usable_now


@click.command(short_help="print a valid access token")
@options.account
@click.option(
    "--min-validity",
    type=options.Duration(),
    default=MIN_VALIDITY,
    metavar="TIME",
    help="Refresh if the access token is good for less than this (60s).",
)
@click.pass_obj
def command(lock: FileLock | None, account: str, min_validity: float) -> None:
    """Print a valid access token, alone, on stdout. It is refreshed first when it has to be.

    \b
    curl -H "Authorization: Bearer $(loopback-auth token)" URL
    TOKEN=$(loopback-auth token cafe-roma) || exit
    """
    store = stores.open_store()
    try:
        token = _stored(store, account, min_validity) if lock is None or store.shared else None
        token = token or _refreshed(store, account, min_validity, lock)
    except StoreError as error:
        cached = usable_now(folders.accounts(), account, 0) if store.shared else None
        if cached is None:
            raise
        warn(error)
        token = Secret(cached)
    click.echo(options.shown_token(token, account))


def _stored(store: Accounts, name: str, min_validity: float) -> Secret | None:
    """Return the access token if it will do as it is stored."""
    account = store.load(name)
    if account is None or not usable(account, clock.now(), min_validity) or not account.tokens.is_bearer:
        return None
    if to_adopt(store, name):
        return None
    store.leave(account)
    return account.tokens.access_token


def _refreshed(store: Accounts, account: str, min_validity: float, lock: FileLock | None) -> Secret:
    """Return one that is refreshed, or an error that says why not."""
    from loopback_auth import config
    from loopback_auth.cli import embedded, signals

    waited = lock is not None and not lock.is_held
    source = config.token_source(
        account,
        store,
        min_validity=min_validity,
        warn=warn,
        waiting=waiting,
        lock=lock,
        lock_timeout=0 if waited else LOCK_TIMEOUT,
    )

    async def work() -> Secret:
        async with embedded.sandbox_of(store, account):
            return await source.token()

    return signals.run(work())


def waiting(error: LoopbackAuthError, seconds: float) -> None:
    """Say why something is tried again."""
    voice.warning(f"{error}; trying again in {seconds:.1f} s")


def warn(error: LoopbackAuthError) -> None:
    """Say that a refresh failed, though the access token in hand still works."""
    voice.warning(f"not refreshed: {error}", *error.hint)
