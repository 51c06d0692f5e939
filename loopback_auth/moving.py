"""Use-case: moving an account from one store to another. Nothing is sent, and at no moment two places would send.

Each line is durable before the next is begun, and what is on its way refuses to spend (`store/transit.py`):

    source                          target                          its refresh token would be sent
    the account                     nothing, or what is replaced    from the source
    the account                     arriving, of this very move     from the source
    leaving, with the same number   arriving, of this very move     from nowhere
    leaving, with the same number   the account                     from the target
    nothing                         the account                     from the target

What is found decides what is left to do, so whoever comes after a process that was killed goes on where it was. A copy
that arrives becomes the account only while the source still says that it has left on this very move: elsewhere it may
have been refreshed, forgotten or moved to a third place meanwhile.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal

from loopback_auth import adoption, machine
from loopback_auth.beginning import only_login
from loopback_auth.errors import (
    ConfigurationError,
    LoginRequired,
    OutcomeUnknown,
    Overtaken,
    StoreError,
)
from loopback_auth.grant import to_adopt
from loopback_auth.renewal import recovered
from loopback_auth.spend import locked
from loopback_auth.standing import is_copy, is_in_doubt, trouble_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Journal
from loopback_auth.store.transit import Transit, copy_command, transit_of
from loopback_auth.text import printable
from loopback_auth.usable import LOCK_TIMEOUT


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do."""

    step: Literal["move", "arrive", "leave", "none"]
    """`move`: all of it; `arrive`: it has left, and is still to be made the target's; `leave`: only the source's record
    is still to be removed; `none`: it is there already."""
    replaces: Account | None = None
    """Another account of that name, in its place in the target."""


def plan(source: Accounts, target: Accounts, name: str) -> Plan:
    """Return what a move would do, changing nothing.

    Raises LoginRequired and OutcomeUnknown where it is not to be moved, and StoreError.
    """
    here, there = source.load(name), target.load(name)
    if here is None and to_adopt(source, name):
        return Plan("move", there)
    found = _plan(here, there, source, target, name)
    if here is not None and found.step == "move" and is_in_doubt(here, source):
        raise _in_doubt(source, name)
    return found


async def move(
    source: Accounts, target: Accounts, name: str, *, replaces: bool = False, lock_timeout: float = LOCK_TIMEOUT
) -> Account:
    """Move the account, or finish a move that was begun, and return it as it stands in the target.

    Nothing is awaited between the first change and the last: cancelling interrupts only the wait for another process.
    Another account in its place is left alone unless `replaces`. Raises LoginRequired: there is no such account, or its
    tokens are not the source's to give; ConfigurationError: another one stands there; OutcomeUnknown, StoreError. Then
    it is still in the source, or on its way, and the same call goes on with it.
    """
    plan(source, target, name)  # what is not there gets no folder and no lock
    async with _both_locked(source, target, name, lock_timeout) as (journal, other):
        _prove(source, name)
        with only_login(source, name):  # the tokens of a login under way would stay behind
            await adoption.adopt(source, name)
            await adoption.adopt(target, name)
            here, there = _at_rest(source, name, journal), _at_rest(target, name, other)
            found = _plan(here, there, source, target, name)
            if found.replaces is not None and not replaces:
                raise in_the_way(target, name)
            if here is not None and found.step == "move":
                there = _hand_over(here, there, source, target, journal, other)
            assert there is not None  # noqa: S101 (whatever the step is)
            return there if found.step == "none" else _settled(there, source, target)


@asynccontextmanager
async def _both_locked(
    source: Accounts, target: Accounts, name: str, timeout: float
) -> AsyncIterator[tuple[Journal, Journal]]:
    """Hold both locks, taken in one order whichever way it goes: two moves never wait for each other."""
    first, second = sorted((source, target), key=lambda store: store.address)
    async with locked(first, name, timeout) as one, locked(second, name, timeout) as two:
        yield (one, two) if first is source else (two, one)


def _plan(here: Account | None, there: Account | None, source: Accounts, target: Accounts, name: str) -> Plan:
    """Return what is left to do. Raises LoginRequired: the account is not the source's to give."""
    leaving, arriving = transit_of(here), transit_of(there)
    if here is None:
        return _without_source(there, arriving, source, target, name)
    if leaving is not None and leaving.way == "leaving" and leaving.other == target.address:
        if arriving == Transit("arriving", leaving.number, source.address):
            return Plan("arrive")
        if there is not None and _has_become(there, here):
            return Plan("leave")
        raise LoginRequired(
            f"account {name} has left {printable(source.address)}, and is not in {printable(target.address)} any more",
            hint=(
                "bring it back, if nothing uses it elsewhere: "
                f"{_in_store(source)} loopback-auth refresh {name} --moved",
                f"or forget it: {_in_store(source)} loopback-auth logout {name}",
            ),
        )
    if leaving is not None:
        raise LoginRequired(
            f"account {name} {leaving.words}",
            hint=f"finish that first: {leaving.command(name, source.address)}",
        )
    if is_copy(here):
        raise LoginRequired(
            f"account {name} was copied to {printable(source.address)}: its refresh token works once, for one place",
            hint=f"if nothing uses it elsewhere: {_in_store(source)} loopback-auth refresh {name} --moved",
        )
    return Plan("move", None if _came_before(there, source) else there)


def _without_source(
    there: Account | None, arriving: Transit | None, source: Accounts, target: Accounts, name: str
) -> Plan:
    if there is None:
        raise LoginRequired(
            f"there is no account called {name} in {printable(source.address)}",
            hint=f"see what there is: {_in_store(source)} loopback-auth status",
        )
    if arriving is not None:  # the source was emptied by somebody else: who spends these tokens now, nobody here knows
        raise LoginRequired(
            f"account {name} is not in {printable(source.address)} any more, and has not wholly arrived in "
            f"{printable(target.address)}",
            hint=f"if nothing uses it elsewhere: {_in_store(target)} loopback-auth refresh {name} --moved",
        )
    return Plan("none")


def _at_rest(store: Accounts, name: str, journal: Journal) -> Account | None:
    """Return the account, with what an earlier refresh brought: nothing is left for another place to find."""
    account = store.load(name)
    return None if account is None else recovered(store, account, journal)


def _hand_over(
    here: Account, there: Account | None, source: Accounts, target: Accounts, journal: Journal, other: Journal
) -> Account:
    """Write the copy that refuses to spend, then let the source refuse; return the copy."""
    if journal.intent is not None:
        raise _in_doubt(source, here.name)
    _prove(target, here.name)
    if there is not None and other.intent is None:
        other.prove()
    journal.prove()  # from here on nobody else gets as far as sending, whatever became of the lock
    again = source.load(here.name)
    if again is None or again.spends != here.spends or is_copy(again):
        raise Overtaken(f"account {here.name} was changed by another process", hint="it was left as it is; try again")
    generation = here.generation
    if there is not None and not _came_before(there, source):
        generation = max(generation, there.generation + 1)  # whoever still holds the replaced one must not overtake us
    number = os.urandom(4).hex()
    arriving = replace(here, generation=generation, stored_as=str(Transit("arriving", number, source.address)))
    target.save(arriving, replaces=0 if there is None else there.generation)
    trouble = trouble_of(here, source)
    if trouble is not None:
        target.note(here.name, replace(trouble, generation=generation))
    journal.prove()  # once more: a shared store then knows whether any machine has begun, or tried, to send meanwhile
    source.save(replace(here, stored_as=str(Transit("leaving", number, target.address))), replaces=here.generation)
    return arriving


def _prove(store: Accounts, name: str) -> None:
    """Show that an account could be stored here, and refreshed from here, now. Raises StoreError."""
    with store.login_journal(name) as journal:
        journal.prove()


def _settled(there: Account, source: Accounts, target: Accounts) -> Account:
    """Make the copy the target's own, unless it is, and remove what is left in the source."""
    account = there
    try:
        if transit_of(there) is not None:
            account = replace(there, machine=machine.identity(), stored_as=None)
            target.save(account, replaces=there.generation)
        source.remove(there.name)
    except StoreError as error:
        finish = copy_command(source.address, target.address, there.name)
        error.hint = (*error.hint, f"account {there.name} is on its way; finish it: {finish}")
        raise
    return account


def in_the_way(target: Accounts, name: str) -> ConfigurationError:
    """Return what is said where another account stands in the target, and nobody wants it replaced."""
    return ConfigurationError(
        f"{printable(target.address)} holds another account {name}",
        hint="it was left as it is; replace it with --force",
    )


def _came_before(there: Account | None, source: Accounts) -> bool:
    """Whether it is our own earlier copy, which nobody spends."""
    arriving = transit_of(there)
    return arriving is not None and arriving.way == "arriving" and arriving.other == source.address


def _has_become(there: Account, here: Account) -> bool:
    """Whether what stands in the target is what left the source, refreshed since or not."""
    return not is_copy(there) and there.logged_in_at == here.logged_in_at and there.generation >= here.generation


def _in_doubt(source: Accounts, name: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the outcome of account {name}'s last refresh is unknown: it was left where it is",
        hint=f"settle it first: {_in_store(source)} loopback-auth refresh {name}",
    )


def _in_store(store: Accounts) -> str:
    return f"LOOPBACK_AUTH_STORE={shlex.quote(printable(store.address))}"
