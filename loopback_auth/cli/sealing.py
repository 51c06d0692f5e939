"""What `store seal`, `unseal` and `rekey` share: each account in turn, under its lock, written anew or left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import click

from loopback_auth.adoption import adopt
from loopback_auth.cli import signals, voice
from loopback_auth.errors import ConfigurationError, LoginRequired, LoopbackAuthError, OutcomeUnknown
from loopback_auth.spend import locked
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Record
from loopback_auth.store.keys import Keys
from loopback_auth.store.record import sealed_head
from loopback_auth.store.sealed import SealedStore
from loopback_auth.store_key import MAKE_ONE, VARIABLE


@dataclass(slots=True)
class Count:
    """What became of the accounts."""

    changed: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    worst: int = 0
    """The highest exit status of one that failed."""


def sealed_store(accounts: Accounts, *, may_be_new: bool = False) -> tuple[SealedStore, Keys]:
    """Return the store and its keys. Raises ConfigurationError: no key, and how one is made, if a new one would do."""
    store = accounts.store
    assert isinstance(store, SealedStore)  # noqa: S101 (as `stores` opens all)
    if (keys := store.keys) is None:
        raise ConfigurationError(
            "no store key was given",
            hint=(
                MAKE_ONE if may_be_new else "the one that the accounts are sealed with is needed",
                f"it goes into {VARIABLE}, or into a file of mode 600 that config.toml names: "
                'store_key = { file = "store.key" }',
            ),
        )
    return store, keys


def change_each(
    accounts: Accounts, names: Sequence[str], write: Callable[[str, Record], bool], *, doing: str, quiet: bool
) -> Count:
    """Give each account's record, opened, to `write`, which returns whether it wrote it anew.

    No names: all accounts. One that fails is said and left, the others go on. A signal ends it between two accounts;
    what is written then is whole, and the same command does the rest.
    """
    names = list(dict.fromkeys(names)) or accounts.names()
    count = Count()

    async def work() -> None:
        for number, name in enumerate(names, 1):
            await asyncio.sleep(0)  # a signal is heard here
            with _Progress(f"{doing} {number} of {len(names)}: {name}", shown=not quiet and len(names) > 1):
                try:
                    (count.changed if await _change(accounts, name, write) else count.same).append(name)
                    continue
                except LoopbackAuthError as error:
                    failure = error
            count.failed.append(name)
            count.worst = max(count.worst, failure.exit_status)
            voice.error(str(failure), *failure.hint)

    try:
        signals.run(work())
    except signals.Interrupted as stopped:
        done = len(count.changed) + len(count.same)
        raise signals.Interrupted(
            stopped.number, f"interrupted: {done} of {len(names)} are done, the same command does the rest"
        ) from None
    return count


async def _change(accounts: Accounts, name: str, write: Callable[[str, Record], bool]) -> bool:
    if name not in accounts.names():
        raise LoginRequired(f"there is no account called {name}", hint="see loopback-auth status")
    async with locked(accounts, name) as journal:
        await adopt(accounts, name)
        intent, account = journal.intent, accounts.load(name)
        if intent is not None and account is not None and (intent.generation, intent.digest) != account.spends:
            journal.clear()  # it was settled, and its process killed before it could say so
        elif intent is not None:
            # What came of it is sealed, or in clear, as it was kept then; and only a refresh knows what to do with it.
            raise OutcomeUnknown(
                f"a refresh of account {name} has not been settled: it is left as it is",
                hint=f"settle it, and run this again: loopback-auth refresh {name} --force",
            )
        record = accounts.store.read(name)
        return record is not None and write(name, record)


def written_with(store: SealedStore, record: Record, name: str) -> None:
    """Write the same generation with the first key."""
    store.write(name, record, record.generation)


def written_in_clear(store: SealedStore, record: Record, name: str) -> None:
    """Write the same generation in clear."""
    store.inner.write(name, replace(record, sealed_with=None), record.generation)


def in_use(store: SealedStore) -> dict[str, list[str]]:
    """Return the ids of the keys that records are sealed with, each with those accounts."""
    users: dict[str, list[str]] = {}
    store = store.overview()
    for name in store.names():
        record = store.inner.read(name)
        if record is not None and (head := sealed_head(record.content)) is not None:
            users.setdefault(head[0], []).append(name)
    return users


def accounts_in_words(names: Sequence[str]) -> str:
    """Return how many that are."""
    return "1 account" if len(names) == 1 else f"{len(names)} accounts"


class _Progress:
    """A line on a terminal, for as long as this lasts."""

    def __init__(self, text: str, *, shown: bool) -> None:
        self._text = text
        self._shown = shown and voice.live() and voice.in_front()

    def __enter__(self) -> None:
        if self._shown:
            click.echo(f"\r{self._text}\x1b[K", err=True, nl=False)

    def __exit__(self, *_error: object) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
