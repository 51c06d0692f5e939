"""What the suite has other processes do, and the records it writes."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loopback_auth import config, renewal
from loopback_auth.clock import Moment
from loopback_auth.errors import LoopbackAuthError, Overtaken, StoreBusy
from loopback_auth.secret import Secret
from loopback_auth.spend import locked
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Intent, Record, Store
from loopback_auth.store.record import serialise
from tests.store.accounts import account

NAME = "cafe-roma"
ARMED = Moment(1_700_000_000.25, "6f0dcb11-6d3f-4a2a-9a3e-0c7c6a1d2b3c", 4711.5)
INTENT = Intent(generation=1, digest="5e" * 32, armed=ARMED)
ANSWER = b'{"access_token": "s3kr1t-2", "refresh_token": "s3kr1t-r2"}'


def record(generation: int = 1, name: str = NAME, size: int = 0, text: str = "") -> Record:
    """Return a record as the program writes them; `size` are bytes that it has at least."""
    token = f"s3kr1t-{text or generation}-".ljust(size, "x")
    return Record(serialise(account(name, generation=generation, access_token=Secret(token))), generation)


def content(store: Store, name: str = NAME) -> bytes | None:
    """Return what stands there."""
    found = store.read(name)
    return None if found is None else found.content


# -- records


def keep_reading(store: Store, allowed: list[bytes], seconds: float) -> tuple[int, list[str]]:
    """Read again and again; return how often, and what was read that nobody wrote."""
    known, strange, times, until = set(allowed), [], 0, time.monotonic() + seconds
    while time.monotonic() < until:
        found = content(store)
        times += 1
        if found not in known:
            strange.append(repr(found)[:80])
    return times, strange


def keep_writing(store: Store, records: list[Record], times: int) -> None:
    """Write these in turn, each over the last."""
    for number in range(times):
        store.write(NAME, records[number % len(records)], records[number % len(records)].generation)


def write_at(store: Store, moment: float, new: Record, replaces: int, lock: bool) -> str:
    """At this moment of the system's clock, write; holding the account's lock if that is said."""
    with store.lock(NAME) as held:
        wait_until(moment)
        while lock and not held.try_acquire():
            time.sleep(0.001)
        try:
            store.write(NAME, new, replaces)
        except Overtaken:
            return "overtaken"
        return "written"


def wait_until(moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        time.sleep(min(left, 0.001) if left > 0.002 else 0)


# -- journals


def arm(store: Store, intent: Intent = INTENT, answer: bytes = b"", *, sync: bool = True, piece: int = 4096) -> None:
    """Send, and get this answer; what is open then stays open."""
    journal: Any = store.login_journal(NAME) if intent.grant is not None and not intent.digest else store.journal(NAME)
    journal.__enter__()
    send(journal, intent, answer, sync=sync, piece=piece)
    _open.append(journal)


_open: list[Any] = []


def close(_store: Store) -> None:
    """Leave the context of what `arm` left open."""
    while _open:
        _open.pop().__exit__(None, None, None)


def clear(store: Store) -> None:
    """Clear what `arm` left open, and leave its context."""
    for journal in _open:
        journal.clear()
    close(store)


def send(journal: Any, intent: Intent = INTENT, answer: bytes = b"", *, sync: bool = True, piece: int = 4096) -> None:
    """Go from an unopened journal to a synced answer."""
    assert journal.try_open()
    journal.tidy()
    journal.prove()
    journal.arm(intent)
    for start in range(0, len(answer), piece):
        journal.stage(answer[start : start + piece])
    if sync:
        journal.sync()


def arm_at(store: Store, moment: float) -> str:
    """At this moment, prove and arm whatever others do; go on holding it."""
    journal: Any = store.journal(NAME)
    journal.__enter__()
    _open.append(journal)
    wait_until(moment)
    try:
        journal.try_open()
        journal.prove()
        journal.arm(INTENT)
    except StoreBusy:
        close(store)
        return "busy"
    return "armed"


# -- use-cases


@dataclass(frozen=True)
class Fault:
    """What happens at one call of a store, its lock or its journal: `before` or `after` it, a signal to itself."""

    number: int
    when: str
    signal: int = signal.SIGKILL


class Watched:
    """A store, lock or journal whose calls are noted, with a fault at one of them."""

    def __init__(self, inner: Any, what: str, calls: list[str], fault: Fault | None) -> None:
        self._inner, self._what, self._calls, self._fault = inner, what, calls, fault

    def __getattr__(self, name: str) -> Any:
        if name in ("address", "shared", "news"):
            return getattr(self._inner, name)
        if not callable(getattr(type(self._inner), name, None)):
            return self._call(name, lambda: getattr(self._inner, name))
        return lambda *args: self._call(name, lambda: getattr(self._inner, name)(*args))

    def _call(self, name: str, call: Callable[[], Any]) -> Any:
        self._calls.append(f"{self._what}.{name}")
        number = len(self._calls)
        self._happen(number, "before")
        value = call()
        self._happen(number, "after")
        if name in ("lock", "journal"):
            return Watched(value, name, self._calls, self._fault)
        return value

    def _happen(self, number: int, when: str) -> None:
        if self._fault is not None and (self._fault.number, self._fault.when) == (number, when):
            signal.pthread_kill(threading.get_ident(), self._fault.signal)  # at this very call, whoever else runs

    def __enter__(self) -> Watched:
        self._call("enter", self._inner.__enter__)
        return self

    def __exit__(self, *error: object) -> None:
        self._call("exit", lambda: self._inner.__exit__(*error))


@dataclass(frozen=True)
class Said:
    """What came of a refresh: a token, or the name of an error and its words; and the calls it made."""

    token: str | None
    error: str | None
    message: str
    calls: tuple[str, ...]


def token(
    store: Store,
    name: str = NAME,
    fault: Fault | None = None,
    *,
    moment: float = 0,
    lock_timeout: float = 20,
    force: bool = False,
) -> Said:
    """Ask for an access token, as a program would; with `force` for a new one."""
    renewal.RESEND_AFTER, renewal.CONNECT_PAUSES = 0.05, ()  # type: ignore[assignment]
    calls: list[str] = []
    watched: Any = Watched(store, "store", calls, fault)
    source = config.token_source(name, Accounts(watched), lock_timeout=lock_timeout)
    wait_until(moment)
    try:
        if force:
            asyncio.run(source.refresh(force=True))
        return Said(asyncio.run(source.token()).reveal(), None, "", tuple(calls))
    except LoopbackAuthError as error:
        return Said(None, type(error).__name__, str(error), tuple(calls))


def log_out(store: Store, name: str = NAME, lock_timeout: float = 20) -> bool:
    """Remove an account as `logout` does; return whether there was one."""

    async def remove() -> bool:
        async with locked(accounts, name, lock_timeout) as journal:
            was_there = accounts.remove(name)
            journal.clear()
            return was_there

    accounts = Accounts(store)
    return asyncio.run(remove())


def nothing_left(store: Store, name: str = NAME) -> bool:
    """Whether nobody finds anything in doubt."""
    with store.journal(name) as journal:
        return journal.try_open() and journal.intent is None and not journal.answer
