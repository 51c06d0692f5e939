"""`loopback-auth store rekey`: encrypt with the first of the keys what another one has sealed."""

from __future__ import annotations

import click

from loopback_auth import stores
from loopback_auth.cli import options, sealing, voice
from loopback_auth.store.base import Record


@click.command(short_help="encrypt tokens with a new key")
@options.accounts
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(accounts: tuple[str, ...], quiet: bool) -> int:
    """Encrypt the tokens of all accounts, or of those named, with the first of the keys that are given.

    \b
    NEW=$(openssl rand -hex 32)
    export LOOPBACK_AUTH_STORE_KEY=$NEW,$LOOPBACK_AUTH_STORE_KEY
    loopback-auth store rekey          says which key may go now

    Give the new key to every program that uses the store first: one that knows the old key alone seals with that.
    """
    opened = stores.open_store()
    store, keys = sealing.sealed_store(opened)
    if not accounts:
        store.check_keys()

    def write(name: str, record: Record) -> bool:
        if record.sealed_with != keys.ids[0]:
            sealing.written_with(store, record, name)
            return True
        return False

    count = sealing.change_each(opened, accounts, write, doing="Rekeying", quiet=quiet)
    if not quiet:
        already = f"; sealed with it already: {len(count.same)}" if count.same else ""
        left = f"; left as they are: {len(count.failed)}" if count.failed else ""
        voice.note(f"Sealed {sealing.accounts_in_words(count.changed)} with key {keys.ids[0]}{already}{left}.")
        used = sealing.in_use(store)
        for old in keys.ids[1:]:
            if old in used:
                voice.note(f"Key {old} is still needed: {', '.join(used[old])}.")
            elif count.failed:
                voice.note(f"Key {old} may still be needed: for what was left as it is.")
            else:
                voice.note(f"Key {old} may go now: nothing is sealed with it any more.")
    return count.worst
