"""`loopback-auth logout`: forget an account's tokens, and say what outlives that."""

from __future__ import annotations

import click

from loopback_auth import client_secret, clock, config, folders
from loopback_auth.cli import options, report, signals, voice
from loopback_auth.errors import LoginRequired, LoopbackAuthError
from loopback_auth.spend import locked
from loopback_auth.store import pending
from loopback_auth.store.base import Account, Store
from loopback_auth.usable import seconds_left


@click.command(short_help="forget an account's tokens")
@options.account_or_all
@click.option("--all", "everything", is_flag=True, help="Every account.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(account: str | None, everything: bool, quiet: bool) -> None:
    """Remove an account's tokens from this computer, and revoke them where the server can."""
    if everything and account is not None:
        raise click.UsageError("give an account, or --all")
    store = config.open_store()
    names = store.names() if everything else [account or options.default_account()]
    for name in names:
        _forget(store, name, quiet=quiet)
    if everything and not names and not quiet:
        voice.note("There are no accounts.")


def _forget(store: Store, name: str, *, quiet: bool) -> None:
    stored = _readable(store, name)

    async def remove() -> tuple[bool, str | None]:
        async with locked(store, name) as journal:
            kept = await _not_revoked(store, name)
            was_there = store.remove(name)
            journal.clear()  # whatever a refresh that was killed has brought goes too
            return was_there, kept

    if name not in store.names():
        raise _absent(name)
    was_there, not_revoked = signals.run(remove())
    if not was_there:
        raise _absent(name)
    if stored is not None:
        client_secret.forget(name, stored.client_secret)
    pending.remove(folders.accounts(), name)
    can_revoke = stored is not None and stored.registration.server.revocation_endpoint is not None
    if not quiet:
        revoked = " Its tokens were revoked." if can_revoke and not_revoked is None else _what_stays(stored)
        voice.note(f"Account {name} was removed from this computer.{revoked}")
    if not_revoked is not None:
        voice.warning(f"the server did not revoke the tokens of account {name}: {not_revoked}")


def _absent(name: str) -> LoginRequired:
    return LoginRequired(f"there is no account called {name}", hint="see loopback-auth status")


async def _not_revoked(store: Store, name: str) -> str | None:
    """Give the tokens back where the server takes them; return in words why it did not. What is stored now counts."""
    account = _readable(store, name)
    if account is None or account.registration.server.revocation_endpoint is None:
        return None
    from loopback_auth.revocation import revoke  # it connects: not for servers that have no such thing

    try:
        secret = client_secret.fetch(account.client_secret, account.registration)
    except LoopbackAuthError as error:
        return str(error)
    return await revoke(account, secret)


def _readable(store: Store, name: str) -> Account | None:
    """Return the account; one that cannot be read can be removed all the same."""
    try:
        return store.load(name)
    except LoopbackAuthError:
        return None


def _what_stays(account: Account | None) -> str:
    left = seconds_left(account, clock.now()) if account is not None else 0
    if account is None or left is None or left <= 0:
        return ""
    if account.registration.server.revocation_endpoint is not None:
        return f" Copies of the access token work for another {report.in_words(left)}."
    return (
        " Its server documents no way to revoke tokens: "
        f"copies of the access token work for another {report.in_words(left)}."
    )
