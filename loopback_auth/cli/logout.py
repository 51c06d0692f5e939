"""`loopback-auth logout`: forget an account's tokens, and say what outlives that."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import click

from loopback_auth import client_secret, clock, folders, stores
from loopback_auth.adoption import adopt
from loopback_auth.cli import confirm, options, report, setup, signals, voice
from loopback_auth.errors import ConfigurationError, LoginRequired, LoopbackAuthError
from loopback_auth.grant import to_adopt
from loopback_auth.oauth.token import tokens_in
from loopback_auth.spend import locked
from loopback_auth.standing import is_copy
from loopback_auth.store import pending
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Journal
from loopback_auth.text import printable
from loopback_auth.usable import seconds_left


@click.command(short_help="forget an account's tokens")
@options.account_or_all
@click.option("--all", "everything", is_flag=True, help="Every account.")
@click.option("--server", metavar="NAME", help="With --all: every account of this server.")
@click.option("--yes", is_flag=True, help="With --all: do not ask, though other machines use the store.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(account: str | None, everything: bool, server: str | None, yes: bool, quiet: bool) -> int:
    """Remove an account's tokens from the store, and revoke them where the server can.

    What is in a PostgreSQL store is removed for every machine that uses it.
    """
    if everything and account is not None:
        raise click.UsageError("give an account, or --all")
    if server is not None and not everything:
        raise click.UsageError("--server goes with --all")
    store = stores.open_store()
    if not everything:
        _forget(store, account or options.default_account(), quiet=quiet)
        return 0
    if store.shared and not yes:
        _ask(store)
    worst, found = 0, 0
    for name in store.names():
        try:
            if server is None or _is_of(store.load(name), server):
                found += 1
                _forget(store, name, quiet=quiet)
        except LoopbackAuthError as error:  # the others are forgotten all the same
            voice.error(str(error), *error.hint)
            worst = max(worst, error.exit_status)
    if not found and not worst and not quiet:
        voice.note("There are no accounts." if server is None else f"There are no accounts of {printable(server, 60)}.")
    return worst


def _ask(store: Accounts) -> None:
    """Ask whether all machines are meant. Raises ConfigurationError."""
    where = printable(store.address)
    if not setup.may_ask():
        raise ConfigurationError(
            f"--yes is missing: every machine that uses {where} would be logged out",
            hint="add --yes, or forget one account: loopback-auth logout NAME",
        )
    confirm.sure(f"Remove accounts from {where}, for every machine that uses it?", otherwise="nothing was removed")


def _is_of(account: Account | None, server: str) -> bool:
    return account is not None and account.registration.server.name == server


def _forget(store: Accounts, name: str, *, quiet: bool) -> None:
    async def remove() -> tuple[bool, Account | None, str | None]:
        async with locked(store, name) as journal:
            with suppress(LoopbackAuthError):  # what cannot be stored is removed where it is
                await adopt(store, name)
            account = _readable(store, name)
            not_revoked = await _not_revoked(account, journal) if account is not None and _can_revoke(account) else None
            was_there = store.remove(name)
            journal.clear()  # whatever a refresh that was killed has brought goes too
            return was_there, account, not_revoked

    if name not in store.names() and not to_adopt(store, name):
        raise _absent(name)
    was_there, account, not_revoked = signals.run(remove())
    if not was_there and account is None:  # a removal whose acknowledgement was lost finds nothing when it is repeated
        raise _absent(name)
    if account is not None:
        client_secret.forget(name, account.client_secret)
    pending.remove(folders.accounts(), name)
    if not quiet:
        is_revoked = account is not None and _can_revoke(account) and not_revoked is None
        where = f"{printable(store.address)}, for every machine" if store.shared else "this computer"
        voice.note(
            f"Account {name} was removed from {where}."
            f"{' Its tokens were revoked.' if is_revoked else _what_stays(account)}"
        )
    if not_revoked is not None:
        voice.warning(f"the server did not revoke the tokens of account {name}: {not_revoked}")


def _absent(name: str) -> LoginRequired:
    return LoginRequired(f"there is no account called {name}", hint="see loopback-auth status")


def _can_revoke(account: Account) -> bool:
    """Whether the tokens can be given back from here. Those of a copy are another place's, which may use them."""
    return account.registration.server.revocation_endpoint is not None and not is_copy(account)


async def _not_revoked(account: Account, journal: Journal) -> str | None:
    """Give the tokens back, first those of a refresh that was killed; return in words why not all were taken."""
    from loopback_auth.revocation import revoke  # it connects: not for servers that have no such thing

    held = [account.tokens]
    with suppress(LoopbackAuthError):
        if (newer := tokens_in(journal.answer)) is not None:
            held.insert(0, newer)
    try:
        secret = client_secret.fetch(account.client_secret, account.registration)
    except LoopbackAuthError as error:
        return str(error)
    for tokens in held:
        if (why := await revoke(replace(account, tokens=tokens), secret)) is not None:
            return why
    return None


def _readable(store: Accounts, name: str) -> Account | None:
    """Return the account; one that cannot be read can be removed all the same."""
    try:
        return store.load(name)
    except LoopbackAuthError:
        return None


def _what_stays(account: Account | None) -> str:
    if account is None:
        return " What it held could not be read, so nothing was revoked."
    if account.registration.server.revocation_endpoint is not None and is_copy(account):
        return " It was copied here: its tokens were not revoked, the place it came from may use them."
    left = seconds_left(account, clock.now())
    if left is None or left <= 0:
        return ""
    if account.registration.server.revocation_endpoint is not None:
        return f" Copies of the access token work for another {report.in_words(left)}."
    return (
        " Its server documents no way to revoke tokens: "
        f"copies of the access token work for another {report.in_words(left)}."
    )
