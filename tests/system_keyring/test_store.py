"""The keyring store: what it keeps and where, what it refuses, and what it says of a keyring that lost something."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keyring
import pytest

from loopback_auth import stores
from loopback_auth.errors import (
    ConfigurationError,
    Overtaken,
    StoreError,
    StoreNotWritable,
    StoreUnsafe,
    TokensGone,
    Unopenable,
)
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Intent
from loopback_auth.store.keyring import KEY, LEAST, PROBE, KeyringStore
from loopback_auth.store.keys import Keys
from tests.conftest import MARK
from tests.store.accounts import account
from tests.store.planted import mode, names
from tests.system_keyring.backends import Works

INTENT = Intent(generation=1, digest="d", armed=account().received)
ANSWER = b'{"access_token": "s3kr1t-new", "token_type": "Bearer"}'


def at(home: Path, address: str = "keyring:") -> Accounts:
    return stores.open_at(address, {"LOOPBACK_AUTH_HOME": str(home)})


def within(accounts: Accounts) -> KeyringStore:
    store: Any = accounts.store
    assert isinstance(store.inner, KeyringStore)
    return store.inner


def folder(home: Path) -> Path:
    return home / "stores" / "keyring=3a"


def service(home: Path) -> str:
    return f"loopback-auth accounts in {folder(home)}"


def item(home: Path, user: str = "default") -> str | None:
    return keyring.get_password(service(home), user)


def secrets_in(home: Path) -> list[Path]:
    """Files below the home that hold a marked secret; the items of the keyring of files are not its."""
    found = [path for path in home.rglob("*") if path.is_file() and "items" not in path.parts]
    return [path for path in found if MARK.encode() in path.read_bytes()]


@pytest.mark.usefixtures("keyrings")
def test_an_account_is_kept(home: Path) -> None:
    """What was saved is loaded, by the next process's store too, as an item that is called as the account is."""
    at(home).save(account("cafe-roma"))
    assert at(home).load("cafe-roma") == account("cafe-roma")
    assert at(home).load("other") is None
    assert at(home).names() == ["cafe-roma"]
    assert "s3kr1t-refresh" in (item(home, "cafe-roma") or "")
    at(home).save(account("cafe-roma", generation=2, access_token=account("x").tokens.access_token))
    assert at(home).generation("cafe-roma") == 2


def test_where_the_secrets_are(home: Path, keyrings: str) -> None:
    """The address is what was typed; people are told the keyring's name as soon as it has been asked for anything."""
    store = at(home)
    assert (store.address, store.described) == ("keyring:", "keyring:")
    store.save(account())
    assert (store.address, store.described) == ("keyring:", f"the keyring ({keyrings})")
    named = at(home, "keyring:work")
    assert named.load("default") is None
    assert (named.address, named.described) == ("keyring:work", f"the keyring ({keyrings}), set work")


@pytest.mark.usefixtures("keyrings")
def test_no_file_holds_a_secret(home: Path) -> None:
    """Of an account and of an answer that is on its way, files hold nothing but names, times and what is sealed."""
    store = at(home)
    store.save(account())
    with store.lock("default") as lock, store.journal("default") as journal:
        assert lock.try_acquire()
        journal.prove()
        journal.arm(INTENT)
        journal.stage(ANSWER)
        journal.sync()
        assert journal.answer == ANSWER
        assert secrets_in(home) == []
        place = folder(home) / "default"
        assert names(place) == ["answer", "intent", "lock", "tokens"]
        assert [mode(path) for path in (place.parent, place, *place.iterdir())] == ["0700"] * 2 + ["0600"] * 4


@pytest.mark.usefixtures("keyrings")
def test_an_answer_outlives_its_process(home: Path) -> None:
    """What a killed process has staged is opened by the next one, with the key that is in the keyring."""
    store = at(home)
    store.save(account())
    journal = store.journal("default").__enter__()
    journal.prove()
    journal.arm(INTENT)
    journal.stage(ANSWER)
    process_ended(journal)
    with at(home).journal("default") as left:
        assert left.try_open()
        assert left.answer == ANSWER
        left.clear()
    assert names(folder(home) / "default") == ["tokens"]


def process_ended(journal: Any) -> None:
    """Let go of what the system would have taken."""
    while hasattr(journal, "_inner"):
        journal = journal._inner
    journal._close_answer()
    journal._close_intent()


@pytest.mark.usefixtures("keyrings")
def test_removed(home: Path) -> None:
    """Nothing of a removed account is in the keyring, and its folder has but the lock."""
    store = at(home)
    store.save(account())
    with store.lock("default") as lock:
        assert lock.try_acquire()
    assert store.remove("default")
    assert (item(home), at(home).load("default"), at(home).names()) == (None, None, [])
    assert names(folder(home) / "default") == ["lock"]
    assert not store.remove("default")


@pytest.mark.usefixtures("keyring_of_files")
def test_the_other_generation_stays(home: Path) -> None:
    """An account that another process has changed, or removed, is not written over."""
    store = at(home)
    store.save(account(generation=2))
    before = item(home)
    for replaces in (0, 1, 3):
        with pytest.raises(Overtaken):
            store.save(account(generation=9), replaces=replaces)
    assert item(home) == before
    store.remove("default")
    with pytest.raises(Overtaken):
        store.save(account(generation=3), replaces=2)
    assert store.load("default") is None


@pytest.mark.usefixtures("keyring_of_files")
@pytest.mark.parametrize("damage", ["", "nonsense", "ü"])
def test_what_cannot_be_read_is_replaced(home: Path, damage: str) -> None:
    """An item that something else has changed is said to be damaged, and does not stand in new tokens' way."""
    store = at(home)
    store.save(account())
    keyring.set_password(service(home), "default", damage)
    with pytest.raises(StoreError, match=r"^account default in keyring: is damaged"):
        store.load("default")
    store.save(account(generation=2))
    assert at(home).load("default") == account(generation=2)


def test_an_item_that_is_gone(home: Path, keyrings: str) -> None:
    """A keyring that lost an account never means "no account": that is said, and new tokens can take its place."""
    store = at(home)
    store.save(account("cafe-roma"))
    store.save(account("bistro"))
    keyring.delete_password(service(home), "cafe-roma")
    with pytest.raises(TokensGone) as caught:
        store.load("cafe-roma")
    assert str(caught.value) == f"the keyring ({keyrings}) has lost the tokens of account cafe-roma"
    assert caught.value.hint == (
        "log in again: loopback-auth login cafe-roma --force",
        "or forget the account: loopback-auth logout cafe-roma",
    )
    assert store.names() == ["bistro", "cafe-roma"]
    assert store.generation("cafe-roma") == 0
    store.save(account("cafe-roma", generation=5), replaces=4)
    assert store.load("cafe-roma") == account("cafe-roma", generation=5)


@pytest.mark.usefixtures("keyring_of_files")
def test_another_keyring(home: Path) -> None:
    """Where the system has another keyring than the one that the account was put into, both are named."""
    at(home).save(account())
    keyring.delete_password(service(home), "default")
    mark = folder(home) / "default" / "tokens"
    assert mark.read_text() == "the tokens of this account are in the keyring backends Works\n"
    mark.write_text("the tokens of this account are in the keyring KWallet\n")
    with pytest.raises(TokensGone, match=r"^the tokens .* default are in the keyring KWallet, and here is backends W"):
        at(home).load("default")
    at(home).save(account())
    assert mark.read_text() == "the tokens of this account are in the keyring backends Works\n"


@pytest.mark.usefixtures("keyring_of_files")
def test_each_home_has_items_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two homes, or two sets, share no item: they share no lock, and would spend one token twice."""
    monkeypatch.setenv("TEST_KEYRING", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    used: list[str] = []
    monkeypatch.setattr(Works, "get_password", lambda _self, service, _user: used.append(service))
    for environ in ({}, {"LOOPBACK_AUTH_HOME": str(tmp_path / "a")}, {"LOOPBACK_AUTH_HOME": str(tmp_path / "b")}):
        for address in ("keyring:", "keyring:work"):
            stores.open_at(address, environ).load("default")
    assert used[:2] == ["loopback-auth accounts", "loopback-auth accounts work"]
    assert len(set(used)) == 6
    assert "loopback-auth" not in used  # where client secrets are


@pytest.mark.parametrize("name", ["a b", ".", "-x", "//host/x", "ü", "x" * 65])
def test_a_set_has_a_plain_name(home: Path, name: str) -> None:
    """The name of a set is as an account's."""
    with pytest.raises(ConfigurationError, match="is no name for a set of accounts in the keyring"):
        at(home, f"keyring:{name}")


@pytest.mark.usefixtures("keyring_of_files")
def test_a_folder_that_others_can_enter(home: Path) -> None:
    """What is beside the keyring must be this user's alone, as in the file store; and no link is followed."""
    at(home).save(account())
    place = folder(home) / "default"
    place.chmod(0o755)
    with pytest.raises(StoreError, match="can be entered by other users"):
        at(home).load("default")
    with pytest.raises(StoreError, match="can be entered by other users"):
        at(home).save(account(generation=2))
    place.chmod(0o700)
    (place / "tokens").unlink()
    (place / "tokens").symlink_to("/etc/hostname")
    with pytest.raises(StoreUnsafe):
        at(home).load("default")


@pytest.mark.usefixtures("keyrings")
def test_the_keyring_is_proven(home: Path) -> None:
    """Before a spend an item as large as the account may become was kept, read back and removed."""
    store = at(home)
    assert within(store).prove("default") == LEAST
    store.save(
        account(
            access_token=account(access_token=type(account().tokens.access_token)("s3kr1t" * 1000)).tokens.access_token
        )
    )
    size = len(item(home) or "")
    assert size > 6000
    assert within(store).prove("default") == size * 5 // 4 + 512
    assert (item(home, PROBE), item(home) is not None) == (None, True)


@pytest.mark.usefixtures("keyring_of_files")
def test_a_login_is_proven_for_what_it_will_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login whose registration is long has an item of that length tried, before anybody is sent anywhere."""
    sizes = kept_sizes(monkeypatch)
    grant = {"registration": {"scope": "x" * 5000}}
    with at(home).login_journal("default") as journal:
        journal.prove()
        assert max(sizes) == LEAST
        journal.arm(Intent(generation=0, digest="", armed=account().received, grant=grant))
    assert max(sizes) > 5000 + 2048
    assert item(home, PROBE) is None


def kept_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    real: Callable[..., None] = Works.set_password

    def noted(self: Works, service: str, username: str, password: str) -> None:
        sizes.append(len(password))
        real(self, service, username, password)

    monkeypatch.setattr(Works, "set_password", noted)
    return sizes


@pytest.mark.usefixtures("keyrings")
def test_there_is_one_key(home: Path) -> None:
    """However many processes need it at once, answers are sealed with one key, and no name of an account is its."""
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: within(at(home)).make_key().ids, range(8)))
    assert len(set(keys)) == 1
    text = item(home, KEY)
    assert text is not None
    assert Keys(bytes.fromhex(text)).ids == keys[0]
    with pytest.raises(ConfigurationError):
        at(home).load(KEY)


@pytest.mark.usefixtures("keyring_of_files")
@pytest.mark.parametrize("left", [None, "damaged", "00" * 32])
def test_a_key_that_is_gone(home: Path, left: str | None) -> None:
    """An answer whose key the keyring has lost is said to be that; it is not taken for none, and nothing is sent."""
    store = at(home)
    store.save(account())
    journal = store.journal("default").__enter__()
    journal.prove()
    journal.arm(INTENT)
    journal.stage(ANSWER)
    process_ended(journal)
    keyring.delete_password(service(home), KEY)
    if left is not None:
        keyring.set_password(service(home), KEY, left)
    with at(home).journal("default") as found:
        assert found.try_open()
        with pytest.raises(Unopenable, match="has lost the key to the last answer for account default"):
            assert found.answer


@pytest.mark.usefixtures("keyring_of_files")
def test_what_was_there_is_put_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that keeps something else than it was given is given what it had before, and the write has failed."""
    store = at(home)
    store.save(account())
    real, before = Works.set_password, item(home)

    def once(self: Works, service: str, username: str, _password: str) -> None:
        monkeypatch.setattr(Works, "set_password", real)
        real(self, service, username, "s3kr1t-something-else")

    monkeypatch.setattr(Works, "set_password", once)
    with pytest.raises(StoreNotWritable, match=r"gave back 21 bytes of \d+, or others"):
        store.save(account(generation=2))
    assert item(home) == before
    monkeypatch.setattr(Works, "set_password", once)
    with pytest.raises(StoreNotWritable):
        store.save(account("new"))
    assert (item(home, "new"), store.names()) == (None, ["default"])


@pytest.mark.usefixtures("keyring_of_files")
def test_locks_are_held_while_a_write_may_still_happen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that was given up and is not over keeps the account's lock: nobody else writes before it."""
    store = within(at(home))
    store._keyring._time_limit = 0.2
    real, may = Works.set_password, threading.Event()

    def slow(self: Works, service: str, username: str, password: str) -> None:
        may.wait(20)
        real(self, service, username, password)

    monkeypatch.setattr(Works, "set_password", slow)
    accounts = Accounts(store)
    with accounts.lock("default") as lock:
        assert lock.try_acquire()
        with pytest.raises(StoreNotWritable, match=r"\) did not answer within 0.2 s"):
            accounts.save(account())
    with accounts.lock("default") as another:
        assert not another.try_acquire()
        began = time.monotonic()
        with pytest.raises(StoreError, match="did not answer"):
            accounts.load("default")
        assert time.monotonic() - began < 0.1, "it was asked again while it hangs"
        may.set()
        deadline = time.monotonic() + 10
        while not another.try_acquire():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert accounts.load("default") == account()


@pytest.mark.usefixtures("keyring_of_files")
def test_many_processes_prove_at_once(home: Path) -> None:
    """Logins that begin at the same moment do not take each other's probe for a fault of the keyring."""
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda number: within(at(home)).prove(f"account-{number}"), range(16)))
    assert sizes == [LEAST] * 16
    (items,) = (home / "items").iterdir()
    assert os.listdir(items) == []
