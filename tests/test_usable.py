"""Waiting for a process that refreshes: the token it gets, or its lock when it is gone; and nothing heavy imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import loopback_auth
from loopback_auth import clock, usable
from loopback_auth.clock import Moment
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account
from loopback_auth.store.file import FileStore
from loopback_auth.store.lock import FileLock
from loopback_auth.usable import usable_soon

from .store.accounts import ACCESS, account
from .store.planted import names

HEAVY = {"asyncio", "click", "json", "aiohttp", "dataclasses", "typing", "hashlib"}
HEAVY |= {"authlib", "cryptography", "logging", "ssl", "socket", "subprocess", "tomllib", "inspect", "importlib"}
HEAVY |= {"contextlib", "pathlib", "urllib", "tempfile", "decimal", "re", "enum", "collections", "functools", "mmap"}
WAITING = """
import sys
before = set(sys.modules)
import time
from loopback_auth.usable import usable_soon

sleep = time.sleep
def told(seconds):
    time.sleep = sleep
    print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}), flush=True)
    sleep(seconds)

time.sleep = told
found = usable_soon(sys.argv[1], "default")
print(found if isinstance(found, str) else found.is_held, flush=True)
print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))
"""
"""A process that waits; it prints what it has imported when it begins to, what it found, and what it has imported."""
HOLDING = """
import sys
from loopback_auth.store.lock import FileLock

with FileLock(sys.argv[1]) as lock:
    print(lock.try_acquire(), flush=True)
    sys.stdin.read()
"""

Waiting = subprocess.Popen[bytes]


@pytest.fixture
def store(tmp_path: Path) -> Accounts:
    return Accounts(FileStore(str(tmp_path / "accounts")))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "accounts")


def good(**changes: Any) -> Account:
    return account(received=clock.now(), **changes)


def expired() -> Account:
    now = clock.now()
    return account(received=Moment(now.unix - 7200, now.boot_id, now.uptime - 7200))


def held(found: object) -> bool:
    """Whether a lock was returned that is held; then it is let go."""
    assert isinstance(found, FileLock)
    with found:
        return found.is_held


def can_lock(store: Accounts) -> bool:
    with store.lock("default") as lock:
        return lock.try_acquire()


@contextmanager
def waiting(folder: str) -> Iterator[Waiting]:
    """A process that waits for the account's lock."""
    environment = {**os.environ, "PYTHONPATH": str(Path(loopback_auth.__file__).parents[1])}
    command = [sys.executable, "-S", "-c", WAITING, folder]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: Waiting) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def test_a_good_token_is_the_answer(store: Accounts, folder: str) -> None:
    """Nobody refreshes, and the token is good by now: returned, and the lock is free again."""
    store.save(good())
    assert usable_soon(folder, "default") == ACCESS
    assert can_lock(store)


def test_the_lock_of_an_expired_token_is_free(store: Accounts, folder: str) -> None:
    """Nobody refreshes: the lock is returned, held, and it is for the caller to refresh."""
    store.save(expired())
    begun = time.monotonic()
    found = usable_soon(folder, "default")
    assert time.monotonic() - begun < 5
    assert not can_lock(store)
    assert held(found)
    assert can_lock(store)


def test_the_token_that_another_process_stores(store: Accounts, folder: str) -> None:
    """While one holds the lock and refreshes, another waits, and gets what it stores: before the lock is free, too."""
    store.save(expired())
    with store.lock("default") as lock, waiting(folder) as process:
        assert lock.try_acquire()
        assert line(process)
        store.save(good(access_token=Secret("s3kr1t-of-another")))
        assert line(process) == "s3kr1t-of-another"


def test_the_token_is_looked_for_once_the_lock_is_taken(
    store: Accounts, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process stores its token and lets go at the last moment before: nobody refreshes a second time."""
    store.save(expired())
    take = FileLock.try_acquire

    def at_the_last_moment(lock: FileLock) -> bool:
        store.save(good(access_token=Secret("s3kr1t-of-another")))
        return take(lock)

    monkeypatch.setattr(FileLock, "try_acquire", at_the_last_moment)
    assert usable_soon(folder, "default") == "s3kr1t-of-another"


def test_the_lock_of_a_process_that_was_killed(store: Accounts, folder: str) -> None:
    """The holder dies without a token: one of those who wait gets the lock, and only one."""
    store.save(expired())
    command = [sys.executable, "-c", HOLDING, f"{folder}/default/lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert line(holder) == "True"
        with waiting(folder) as process:
            assert line(process)
            holder.send_signal(signal.SIGKILL)
            assert line(process) == "True"


def test_the_wait_has_an_end(store: Accounts, folder: str) -> None:
    """After the time given: the lock, not held, and the holder keeps it."""
    store.save(expired())
    with store.lock("default") as lock:
        assert lock.try_acquire()
        for timeout in (0, 0.1):
            begun = time.monotonic()
            assert not held(usable_soon(folder, "default", timeout))
            assert timeout <= time.monotonic() - begun < timeout + 5
        assert not can_lock(store)


def test_a_token_of_the_last_moment(store: Accounts, folder: str) -> None:
    """Somebody holds the lock although the token is good, and there is no time to wait: the token."""
    store.save(good())
    with store.lock("default") as lock:
        assert lock.try_acquire()
        assert usable_soon(folder, "default", timeout=0) == ACCESS


@pytest.mark.parametrize("what", ["absent", "no name", "damaged", "unsafe", "folder"])
def test_where_there_is_nothing_to_wait_for(store: Accounts, tmp_path: Path, what: str) -> None:
    """No account, no name, no file of ours: neither token nor lock, no exception, and nothing is made."""
    folder, tokens = tmp_path / "accounts", tmp_path / "accounts" / "default" / "tokens"
    if what != "absent":
        store.save(expired())
    match what:
        case "damaged":
            tokens.write_bytes(b"s3kr1t-damaged")
        case "unsafe":
            tokens.chmod(0o644)
        case "folder":
            tokens.unlink()
            tokens.mkdir()
    assert usable_soon(str(folder), "../default" if what == "no name" else "default") is None
    if what == "absent":
        assert not folder.exists()
    else:
        assert names(folder / "default") == ["tokens"]


@pytest.mark.parametrize("what", ["lock", "folder"])
def test_what_is_unsafe_is_for_the_full_path_to_tell(store: Accounts, tmp_path: Path, what: str) -> None:
    """A lock that is a link, or a folder that others can enter: neither token nor lock, and no exception."""
    store.save(expired())
    if what == "lock":
        (tmp_path / "accounts" / "default" / "lock").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "accounts" / "default").chmod(0o755)
    assert usable_soon(str(tmp_path / "accounts"), "default") is None
    assert not (tmp_path / "elsewhere").exists()


def test_a_fault_of_ours_is_not_hidden(store: Accounts, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no error of the store is not taken for one: it is raised."""
    store.save(good())
    monkeypatch.setattr(usable, "head", lambda _content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        usable_soon(folder, "default")


def test_an_account_that_goes_away_meanwhile(store: Accounts, folder: str) -> None:
    """Logged out while another waits: the lock, and the full path finds that nothing is there."""
    store.save(expired())
    with FileStore(folder).lock("default") as lock, waiting(folder) as process:
        assert lock.try_acquire()
        assert line(process)
        store.remove("default")
        lock.release()
        assert line(process) == "True"


def test_who_waits_imports_nothing_heavy(store: Accounts, folder: str) -> None:
    """Neither before it waits, nor while it does, nor for what it finds: a thousand processes may wait for one."""
    store.save(expired())
    with store.lock("default") as lock, waiting(folder) as process:
        assert lock.try_acquire()
        imported = line(process).split()
        assert {"loopback_auth", "fcntl"} <= set(imported)
        assert HEAVY.isdisjoint(imported)
        store.save(good())
        assert line(process) == ACCESS
        assert HEAVY.isdisjoint(line(process).split())
    store.save(expired())
    with waiting(folder) as process:
        assert line(process) == "True"
        assert HEAVY.isdisjoint(line(process).split())
