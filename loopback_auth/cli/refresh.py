"""`loopback-auth refresh`: new tokens now, rather than at the next `token` that needs them."""

from __future__ import annotations

import click

from loopback_auth import clock, config
from loopback_auth.cli import embedded, options, report, signals, voice
from loopback_auth.cli.token import warn
from loopback_auth.store.base import Account


@click.command(short_help="refresh an account's tokens")
@options.account
@click.option("--force", is_flag=True, help="Refresh although the access token is good.")
@click.option("--json", "as_json", is_flag=True, help="Print what is known of the account as JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(account: str, force: bool, as_json: bool, quiet: bool) -> None:
    """Refresh an account's tokens if the access token is about to expire, or anyway with --force."""
    store = config.open_store()

    async def work() -> Account:
        async with embedded.sandbox_of(store, account):
            source = config.token_source(account, store, warn=warn)
            return await source.refresh(force=force)

    before = store.load(account)
    refreshed = signals.run(work())
    if not quiet:
        new = before is None or refreshed.generation > before.generation
        voice.note(
            f"Account {account}: {'refreshed' if new else 'the access token is still good; --force refreshes it'}"
        )
    if as_json:
        report.print_json(report.describe(refreshed, store.address, clock.now()))
