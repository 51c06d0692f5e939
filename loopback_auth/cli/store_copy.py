"""`loopback-auth store copy`: move accounts from one store to another."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from loopback_auth import folders, moving, stores
from loopback_auth.cli import options, report, setup, signals, voice
from loopback_auth.errors import LoopbackAuthError
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account
from loopback_auth.store.sealed import SealedStore
from loopback_auth.text import printable

_ERASE = "\r\x1b[2K"


@click.command(short_help="move accounts from one store to another")
@click.argument("source", metavar="FROM")
@click.argument("words", metavar="[TO] [ACCOUNT]...", nargs=-1)
@click.option("--force", is_flag=True, help="Replace what TO holds under the same name.")
@click.option("--dry-run", is_flag=True, help="Show what would be moved, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of each account as JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(source: str, words: tuple[str, ...], force: bool, dry_run: bool, as_json: bool, quiet: bool) -> int:
    """Move accounts, all of them or those that are named, from one store to another.

    Without TO it is the store in use: what LOOPBACK_AUTH_STORE names, or config.toml.
    Nothing is sent to any server. An account is in use in one store at a time, whatever happens meanwhile: after a
    crash or Ctrl-C the same command goes on.

    \b
    loopback-auth store copy file: keyring:
    loopback-auth store copy file: postgresql://host/db cafe-roma
    """
    target, names = (words[0], words[1:]) if words and set(words[0]) & {":", "/"} else (None, words)
    accounts = [options.valid(name) for name in dict.fromkeys(names)]
    here, there = stores.open_at(source), stores.open_store() if target is None else stores.open_at(target)
    if _are_one(source, here, target or folders.store_address(), there):
        to_itself = "both addresses are of the same store"
        raise click.UsageError(to_itself if target else "name the store to move to: the one in use is FROM")
    if any(folders.without_password(one) != one for one in (source, target or "")):
        voice.warning(
            "the password in an address on the command line can be seen by other users, in the process list",
            "leave it out; PGPASSWORD or ~/.pgpass holds it",
        )
    rows = [Row(name) for name in accounts or here.names()]
    if rows:
        there.names()  # one that cannot be used is said once, not for every account
    elif not quiet:
        voice.note(f"There are no accounts in {printable(here.address)}.")
    _agree(rows, here, there, force=force, look=dry_run or setup.may_ask())
    if not dry_run:
        _move(rows, here, there, quiet=quiet)
    elif not as_json and not quiet:
        width = max((len(row.name) for row in rows), default=0)
        for row in rows:
            click.echo(f"{row.name:<{width}}  {row.state}")
    if rows and not quiet:
        if not dry_run:
            _summary(rows, here, there)
        say_what_secrets_need(rows, there)
    if as_json:
        report.print_json([row.described for row in rows])
    return max((row.exit_status for row in rows), default=0)


@dataclass
class Row:
    """An account, and what became of it: `to move`, `moved`, `there already` or `left`."""

    name: str
    state: str = "to move"
    replaces: bool = False
    account: Account | None = None
    message: str | None = None
    exit_status: int = 0

    @property
    def described(self) -> dict[str, Any]:
        """What is printed as JSON."""
        names = ("state", "message", "exit_status")
        return {"account": self.name, **{name: getattr(self, name) for name in names}}

    def failed(self, error: LoopbackAuthError) -> None:
        """Say why it is not moved; the others go on."""
        self.state, self.message, self.exit_status = "left", str(error), error.exit_status
        voice.error(str(error), *error.hint)


def _are_one(source: str, here: Accounts, target: str, there: Accounts) -> bool:
    if here.address == there.address:
        return True
    if here.shared and there.shared:
        with suppress(LoopbackAuthError):
            return bool(_own_folder(here) == _own_folder(there))
        return False
    if not (here.address.startswith("file:") and there.address.startswith("file:")):
        return False
    with suppress(OSError):
        return os.path.samefile(folders.folder_of(source), folders.folder_of(target))
    return False


def _own_folder(accounts: Accounts) -> object:
    """Return what tells a shared store from all others, whatever it is addressed by. Raises StoreError."""
    store = accounts.store
    return getattr(store.inner if isinstance(store, SealedStore) else store, "own_folder", accounts)


def _agree(rows: list[Row], here: Accounts, there: Accounts, *, force: bool, look: bool) -> None:
    """Find out what would be moved, and ask about accounts in the way where somebody is there to answer."""
    for row in rows:
        row.replaces = force
        if not look:
            continue
        try:
            plan = moving.plan(here, there, row.name)
        except LoopbackAuthError as error:
            row.failed(error)
            continue
        if plan.step == "none":
            row.state = "there already"
        with suppress(LoopbackAuthError):
            row.account = here.load(row.name)
        if plan.replaces is not None and not force:
            question = f"{printable(there.address)} holds another account {row.name}. Replace it?"
            row.replaces = setup.may_ask() and click.confirm(question, err=True)
            if not row.replaces:
                row.failed(moving.in_the_way(there, row.name))


def _move(rows: list[Row], here: Accounts, there: Accounts, *, quiet: bool) -> None:
    left = [row for row in rows if row.state == "to move"]
    if not left:
        return

    async def work() -> None:
        for number, row in enumerate(left, 1):
            await asyncio.sleep(0)  # a signal is heard here
            _progress(f"{number} of {len(left)}: {row.name}" if len(left) > 1 and not quiet else "")
            try:
                before = moving.plan(here, there, row.name)
                row.account = await moving.move(here, there, row.name, replaces=row.replaces)
                row.state = "there already" if before.step == "none" else "moved"
            except LoopbackAuthError as error:
                _progress("")
                row.failed(error)

    try:
        signals.run(work())
    except signals.Interrupted as stopped:
        _progress("")
        moved = sum(row.state == "moved" for row in rows)
        voice.error(f"interrupted: {moved} of {len(rows)} accounts were moved", "the same command goes on")
        raise signals.Interrupted(stopped.number, "") from None
    _progress("")


def _progress(text: str) -> None:
    if voice.live():
        sys.stderr.write(_ERASE + text)
        sys.stderr.flush()


def _summary(rows: list[Row], here: Accounts, there: Accounts) -> None:
    moved, already = ([row.name for row in rows if row.state == state] for state in ("moved", "there already"))
    if moved:
        what = f"Account {moved[0]} was" if len(moved) == 1 else f"{len(moved)} accounts were"
        voice.note(f"{what} moved from {printable(here.address)} to {printable(there.address)}.")
    if already:
        what = f"Account {already[0]} is" if len(already) == 1 else f"{len(already)} accounts are"
        voice.note(f"{what} in {printable(there.address)} already.")
    with suppress(LoopbackAuthError):
        if moved and stores.open_store().address != there.address:
            address = shlex.quote(printable(there.address))
            voice.note(f"To use what is there, set store in config.toml, or: export LOOPBACK_AUTH_STORE={address}")


def say_what_secrets_need(rows: list[Row], there: Accounts) -> None:
    """Say for each client secret what must be there wherever the store is used: the secret itself is not in it."""
    if not there.shared:
        return
    users: dict[str, list[str]] = {}
    for row in rows:
        account = row.account
        if account is not None and account.client_secret and "preset" not in account.client_secret:
            users.setdefault(report.where_secret_is(account), []).append(row.name)
    for where, names in users.items():
        whose = f"account {names[0]}" if len(names) == 1 else f"{len(names)} accounts"
        voice.warning(f"the client secret of {whose} is not moved: every machine that refreshes needs it in {where}")
