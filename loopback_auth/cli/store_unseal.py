"""`loopback-auth store unseal`: store in clear again what is encrypted."""

from __future__ import annotations

import click

from loopback_auth import stores
from loopback_auth.cli import confirm, options, sealing, setup, voice
from loopback_auth.errors import ConfigurationError
from loopback_auth.store.base import Record
from loopback_auth.text import printable


@click.command(short_help="store tokens in clear again")
@options.accounts
@click.option("--yes", is_flag=True, help="Ask no questions.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(accounts: tuple[str, ...], yes: bool, quiet: bool) -> int:
    """Write the tokens of all accounts, or of those named, in clear.

    As long as a key is given, the next refresh seals them again.
    """
    opened = stores.open_store()
    if opened.shared:
        raise ConfigurationError(
            "a shared store is always sealed",
            hint=f"move the accounts to a file store first: loopback-auth store copy {printable(opened.address)} file:",
        )
    store, _ = sealing.sealed_store(opened)
    if not accounts:
        store.check_keys()
    if not yes:
        if not setup.may_ask():
            raise ConfigurationError("--yes is missing: the tokens would be stored in clear", hint="add --yes")
        confirm.sure(f"Store tokens in {printable(opened.address)} in clear?", otherwise="nothing was changed")

    def write(name: str, record: Record) -> bool:
        if record.sealed_with is not None:
            sealing.written_in_clear(store, record, name)
            return True
        return False

    count = sealing.change_each(opened, accounts, write, doing="Unsealing", quiet=quiet)
    if not quiet:
        already = f"; in clear already: {len(count.same)}" if count.same else ""
        left = f"; left as they are: {len(count.failed)}" if count.failed else ""
        voice.note(f"Unsealed {sealing.accounts_in_words(count.changed)}{already}{left}.")
        voice.note("The next refresh seals them again, unless LOOPBACK_AUTH_STORE_KEY and store_key are taken away.")
    return count.worst
