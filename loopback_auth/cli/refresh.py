"""`loopback-auth refresh`: new tokens now, rather than at the next `token` that needs them."""

from __future__ import annotations

import click

from loopback_auth import config, stores
from loopback_auth.cli import embedded, options, report, signals, voice
from loopback_auth.cli.token import waiting, warn
from loopback_auth.store.base import Account


@click.command(short_help="refresh an account's tokens")
@options.account
@click.option("--force", is_flag=True, help="Refresh although the access token is good.")
@click.option("--resend", is_flag=True, help="Outcome unknown: send the same refresh token once more.")
@click.option("--moved", is_flag=True, help="The account was moved here, and nothing uses it where it was.")
@click.option("--json", "as_json", is_flag=True, help="Print what is known of the account as JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(account: str, force: bool, resend: bool, moved: bool, as_json: bool, quiet: bool) -> None:
    """Refresh an account's tokens if the access token is about to expire, or anyway with --force.

    \b
    loopback-auth refresh cafe-roma --force   before an idle token is forgotten
    loopback-auth refresh cafe-roma --resend  after "outcome unknown": once more
    """
    if force and resend:
        raise click.UsageError("--force and --resend exclude each other")
    store = stores.open_store()

    async def work() -> Account:
        async with embedded.sandbox_of(store, account):
            source = config.token_source(account, store, warn=warn, waiting=waiting)
            if moved:
                await source.move_here()
            return await source.refresh(force=force, resend=resend)

    before = store.load(account)
    refreshed = signals.run(work())
    if not quiet:
        voice.note(f"Account {account}: {_what_happened(before, refreshed, resend=resend)}")
    if as_json:
        report.print_account(refreshed, store)


def _what_happened(before: Account | None, after: Account, *, resend: bool) -> str:
    if before is None or after.generation > before.generation:
        return "refreshed"
    if resend:
        return "nothing is in doubt, nothing was sent"
    return "the access token is still good; --force refreshes it"
