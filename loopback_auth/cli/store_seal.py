"""`loopback-auth store seal`: encrypt what is stored in clear."""

from __future__ import annotations

import click

from loopback_auth import stores
from loopback_auth.cli import options, sealing, voice
from loopback_auth.store.base import Record


@click.command(short_help="encrypt what is stored")
@options.accounts
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(accounts: tuple[str, ...], quiet: bool) -> int:
    """Encrypt the tokens of all accounts, or of those named, with the first key.

    \b
    export LOOPBACK_AUTH_STORE_KEY=$(openssl rand -hex 32)
    loopback-auth store seal      keep the key: without it the tokens are gone

    What is stored from then on is sealed by itself. A disk may keep old blocks of what was in clear.
    """
    opened = stores.open_store()
    store, keys = sealing.sealed_store(opened, may_be_new=True)

    def write(name: str, record: Record) -> bool:
        if record.sealed_with is None:
            sealing.written_with(store, record, name)
            return True
        return False

    count = sealing.change_each(opened, accounts, write, doing="Sealing", quiet=quiet)
    if not quiet:
        already = f"; sealed already: {len(count.same)}" if count.same else ""
        left = f"; left as they are: {len(count.failed)}" if count.failed else ""
        voice.note(f"Sealed {sealing.accounts_in_words(count.changed)} with key {keys.ids[0]}{already}{left}.")
    return count.worst
