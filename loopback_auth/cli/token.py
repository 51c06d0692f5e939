"""`loopback-auth token`: the full way, when the stored access token will not do."""

from __future__ import annotations

import click

from loopback_auth import config, stores
from loopback_auth.cli import embedded, options, signals, voice
from loopback_auth.errors import LoopbackAuthError
from loopback_auth.secret import Secret
from loopback_auth.store.lock import FileLock
from loopback_auth.usable import LOCK_TIMEOUT, MIN_VALIDITY


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

    click.echo(options.shown_token(signals.run(work()), account))


def waiting(error: LoopbackAuthError, seconds: float) -> None:
    """Say why something is tried again."""
    voice.warning(f"{error}; trying again in {seconds:.1f} s")


def warn(error: LoopbackAuthError) -> None:
    """Say that a refresh failed, though the access token in hand still works."""
    voice.warning(f"not refreshed: {error}", *error.hint)
