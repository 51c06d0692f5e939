"""Sealing a store by hand: asked, shown, interrupted, and gone on with."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from loopback_auth import clock
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore

from ..store.accounts import account
from .machine import Machine
from .ptys import CTRL_C

KEY = "1f" * 32


@pytest.fixture
def store(machine: Machine) -> FileStore:
    """Three accounts in clear, and a key."""
    machine.environment["LOOPBACK_AUTH_STORE_KEY"] = KEY
    store = FileStore(str(machine.home / "accounts"))
    for name in ("a", "b", "c"):
        Accounts(store).save(replace(account(name), received=clock.now()))
    return store


def in_clear(machine: Machine) -> str:
    return "".join(name for name in ("a", "b", "c") if b"s3kr1t" in machine.tokens(name).read_bytes())


def test_unsealing_asks(machine: Machine, store: FileStore) -> None:
    """On a terminal it is asked whether that is meant; no, and nothing is changed."""
    assert machine.run("store", "seal").status == 0
    terminal = machine.pty("store", "unseal")
    terminal.answer(r"Store tokens in file:\S+ in clear\? \[y/N\]", "n")
    assert terminal.end() == 3
    assert "nothing was changed: the answer was no" in terminal.text
    assert in_clear(machine) == ""
    terminal = machine.pty("store", "unseal", "b")
    terminal.answer(r"in clear\? \[y/N\]", "y")
    assert terminal.end() == 0
    assert in_clear(machine) == "b"


def test_what_goes_on_is_shown(machine: Machine, store: FileStore) -> None:
    """On a terminal each account's name is written over the one before, and nothing of that stays; `-q` shows none."""
    terminal = machine.pty("store", "seal")
    assert terminal.end() == 0
    for number, name in enumerate("abc", 1):
        assert f"\rSealing {number} of 3: {name}\x1b[K" in terminal.said
    assert "\r\x1b[KSealed 3 accounts with key " in terminal.said
    terminal = machine.pty("store", "rekey", "-q")
    assert terminal.end() == 0
    assert terminal.said == ""
    assert "Sealing" not in machine.run("store", "seal").stderr


@pytest.mark.parametrize("by", ["a key", "SIGTERM"])
def test_interrupted_and_gone_on_with(machine: Machine, store: FileStore, by: str) -> None:
    """A signal while it waits for an account: what is done stays done, the rest is as it was, and is done next time."""
    with store.lock("b") as lock:
        assert lock.try_acquire()
        terminal = machine.pty("store", "seal")
        terminal.says("Sealing 2 of 3: b")
        if by == "a key":
            terminal.send(CTRL_C)
        else:
            terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == (130 if by == "a key" else 143)
        assert "interrupted: 1 of 3 are done, the same command does the rest" in terminal.text
        assert in_clear(machine) == "bc"
    again = machine.run("store", "seal")
    assert (again.status, in_clear(machine)) == (0, "")
    assert "Sealed 2 accounts with key " in again.stderr
    assert "; sealed already: 1." in again.stderr
    assert machine.run("token", "b").stdout == "s3kr1t-access\n"
