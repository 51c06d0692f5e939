"""The file store, on a real disk: what it keeps, what it refuses, and what a full disk leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth.errors import ConfigurationError, StoreError, StoreNotWritable, StoreUnsafe
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore
from loopback_auth.store.head import tokens_path, valid_name

from . import planted
from .accounts import account
from .planted import PLANTED, mode, names, run_hint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "accounts"


@pytest.fixture
def store(folder: Path) -> Accounts:
    return Accounts(FileStore(str(folder)))


def prove(store: Accounts, name: str) -> None:
    with store.journal(name) as journal:
        journal.prove()


def test_an_account_is_kept(store: Accounts, folder: Path) -> None:
    """What was saved is loaded, by this store and by the next process's; the store says where it is."""
    store.save(account("cafe-roma"))
    assert store.load("cafe-roma") == account("cafe-roma")
    assert Accounts(FileStore(str(folder))).load("cafe-roma") == account("cafe-roma")
    assert store.load("other") is None
    assert store.address == f"file:{folder}"


def test_folders_and_files_are_private(store: Accounts, folder: Path) -> None:
    """All folders are 0700, all files 0600, and there is nothing but tokens and lock."""
    prove(store, "default")
    store.save(account())
    with store.lock("default") as lock:
        assert lock.try_acquire()
    assert [mode(path) for path in (folder.parent, folder, folder / "default")] == ["0700"] * 3
    assert names(folder / "default") == ["lock", "tokens"]
    assert [mode(path) for path in (folder / "default").iterdir()] == ["0600"] * 2


def test_names_are_sorted_and_ours(store: Accounts, folder: Path) -> None:
    """Only folders with tokens in them are accounts; a damaged one is one, an emptied one is not."""
    assert store.names() == []
    for name in ("b", "a", "Z", "gone", "damaged"):
        store.save(account(name))
    store.remove("gone")
    (folder / "damaged" / "tokens").write_bytes(b"")
    (folder / ".hidden").mkdir()
    (folder / "not a name").mkdir()
    (folder / "file").touch()
    assert store.names() == ["Z", "a", "b", "damaged"]


def test_names_of_a_store_that_is_no_folder(folder: Path) -> None:
    """A store whose folder is a file says so."""
    folder.parent.mkdir()
    folder.touch()
    with pytest.raises(StoreUnsafe, match=r"/accounts cannot be looked at: not a directory"):
        Accounts(FileStore(str(folder))).names()


def test_remove_leaves_the_lock(store: Accounts, folder: Path) -> None:
    """Removing forgets the tokens, once; the lock stays, for whoever waits on it."""
    store.save(account())
    with store.lock("default") as lock:
        assert lock.try_acquire()
        assert store.remove("default")
    assert store.load("default") is None
    assert not store.remove("default")
    assert names(folder / "default") == ["lock"]


@pytest.mark.parametrize("name", ["a", "Z9", "cafe-roma", "a.b_c-d", "0", "_", "a" * 64])
def test_names_that_are_allowed(store: Accounts, name: str) -> None:
    """1 to 64 letters, digits, dots, dashes and underscores."""
    store.save(account(name))
    assert store.names() == [name]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-v", "--force", "a/b", "/etc", "a\\b", "a b", "a\n", "a\0b", "ü", "٣", "a" * 65, "a:b"],
)
def test_names_that_are_not(store: Accounts, folder: Path, name: str) -> None:
    """No other name becomes a path: not one method takes it, and nothing is made."""
    calls: list[Callable[[], object]] = [
        lambda: store.load(name),
        lambda: prove(store, name),
        lambda: store.save(account(name)),
        lambda: store.remove(name),
        lambda: store.lock(name),
        lambda: tokens_path(str(folder), name),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="is not an account name") as caught:
            call()
        assert str(caught.value).isascii()
    assert not folder.exists()


@given(st.text(st.characters(exclude_categories=())))
def test_a_name_is_one_folder(name: str) -> None:
    """Any name that is allowed is one plain path component."""
    if valid_name(name):
        assert os.path.normpath(tokens_path("/accounts", name)) == f"/accounts/{name}/tokens"
        assert name.isascii()


@pytest.mark.parametrize(("plant", "message", "hint"), PLANTED)
def test_planted_tokens_are_refused(
    store: Accounts, folder: Path, plant: Callable[[Path], None], message: str, hint: str
) -> None:
    """Links, FIFOs, files of others and files that others can read are not loaded."""
    store.save(account())
    plant(folder / "default" / "tokens")
    with pytest.raises(StoreUnsafe) as caught:
        store.load("default")
    assert str(caught.value) == message.format(folder / "default" / "tokens")
    assert caught.value.hint == (hint.format(folder / "default" / "tokens"),)


def test_a_loose_account_folder_is_refused_until_mended(store: Accounts, folder: Path) -> None:
    """A folder that others can enter is refused by every method; the hint, typed as it stands, mends it."""
    store.save(account())
    (folder / "default").chmod(0o755)
    calls: list[Callable[[], object]] = [
        lambda: store.load("default"),
        lambda: prove(store, "default"),
        lambda: store.save(account()),
        lambda: store.lock("default"),
    ]
    for call in calls:
        with pytest.raises(StoreUnsafe, match="can be entered by other users") as caught:
            call()
    run_hint(caught.value.hint[0])
    assert store.load("default") == account()


def test_a_linked_account_folder_is_refused(store: Accounts, folder: Path, tmp_path: Path) -> None:
    """An account's folder that is a link is neither read nor written through."""
    store.save(account())
    (folder / "default").rename(tmp_path / "elsewhere")
    (folder / "default").symlink_to(tmp_path / "elsewhere")
    calls: list[Callable[[], object]] = [lambda: store.load("default"), lambda: store.save(account())]
    for call in calls:
        with pytest.raises(StoreUnsafe, match="is not a folder: this program did not make it so"):
            call()


def test_another_users_store_is_refused_before_anything_is_written(store: Accounts, folder: Path) -> None:
    """Run with sudo on a user's store: refused, and nothing in it has changed hands."""
    planted.as_root()
    store.save(account())
    before = names(folder / "default")
    os.chown(folder, planted.STRANGER, -1)
    calls: list[Callable[[], object]] = [lambda: prove(store, "default"), lambda: store.save(account())]
    for call in calls:
        with pytest.raises(StoreUnsafe, match=f"belongs to user id {planted.STRANGER}"):
            call()
    assert names(folder / "default") == before


def test_the_probe_leaves_nothing(store: Accounts, folder: Path) -> None:
    """Proving the store writes, renames and removes; afterwards everything is as it was."""
    store.save(account())
    before = (folder / "default" / "tokens").read_bytes()
    prove(store, "default")
    assert names(folder / "default") == ["tokens"]
    assert (folder / "default" / "tokens").read_bytes() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 KiB."""
    planted.as_root()
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192k,mode=700", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    return filler


def test_a_full_disk_is_found_out_before_spending(small_disk: Path) -> None:
    """On a full disk the store cannot be proven: exit status 8, no litter, and the account is as it was."""
    store = Accounts(FileStore(str(small_disk / "accounts")))
    store.save(account())
    filler = fill(small_disk)
    with pytest.raises(StoreNotWritable, match=r"cannot be written: no space left on device") as caught:
        prove(store, "default")
    assert caught.value.exit_status == 8
    assert names(small_disk / "accounts" / "default") == ["tokens"]
    assert store.load("default") == account()
    filler.unlink()
    prove(store, "default")


def test_a_full_disk_leaves_the_old_account(small_disk: Path) -> None:
    """An account that does not fit any more: the old one is intact, and nothing lies beside it."""
    store = Accounts(FileStore(str(small_disk / "accounts")))
    store.save(account())
    before = (small_disk / "accounts" / "default" / "tokens").read_bytes()
    fill(small_disk)
    with pytest.raises(StoreNotWritable, match=r"cannot be written: no space left on device") as caught:
        store.save(account(access_token=Secret("s3kr1t-new" * 10_000), generation=2))
    assert caught.value.exit_status == 8
    assert (small_disk / "accounts" / "default" / "tokens").read_bytes() == before
    assert names(small_disk / "accounts" / "default") == ["tokens"]


def test_a_new_account_on_a_full_disk(small_disk: Path) -> None:
    """A store that cannot be proven for a new account leaves no account behind."""
    store = Accounts(FileStore(str(small_disk / "accounts")))
    store.save(account())
    fill(small_disk)
    with pytest.raises(StoreNotWritable):
        prove(store, "second")
    assert store.names() == ["default"]


def test_a_read_only_disk_is_found_out_before_spending(small_disk: Path) -> None:
    """Read-only: not proven, not saved, and the account can still be read."""
    store = Accounts(FileStore(str(small_disk / "accounts")))
    store.save(account())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    calls: list[Callable[[], object]] = [
        lambda: prove(store, "default"),
        lambda: store.save(account()),
        lambda: store.remove("default"),
    ]
    for call in calls:
        with pytest.raises(StoreNotWritable, match="read-only file system"):
            call()
    assert store.load("default") == account()


SAVING = """
import sys
from dataclasses import replace
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore
store = Accounts(FileStore(sys.argv[1]))
kept = store.load("default")
print("begun", flush=True)
while True:
    generation = kept.generation + 1
    tokens = replace(kept.tokens, refresh_token=Secret(f"s3kr1t-{generation}"))
    kept = replace(kept, generation=generation, tokens=tokens)
    with store.journal("default") as journal:
        journal.prove()
    store.save(kept)
"""


def test_a_killed_process_leaves_a_whole_account(store: Accounts, folder: Path) -> None:
    """kill -9 while it saves: the account can be loaded, and token and generation belong together."""
    store.save(account(refresh_token=Secret("s3kr1t-1")))
    for _ in range(5):
        saving = subprocess.Popen([sys.executable, "-c", SAVING, str(folder)], stdout=subprocess.PIPE)
        assert saving.stdout is not None
        with saving.stdout:
            assert saving.stdout.readline() == b"begun\n"
            before = store.load("default")
            assert before is not None
            while (now := store.load("default")) is None or now.generation < before.generation + 3:
                pass
            saving.send_signal(signal.SIGKILL)
            assert saving.wait() == -signal.SIGKILL
        after = store.load("default")
        assert after is not None
        assert after.tokens.refresh_token == Secret(f"s3kr1t-{after.generation}")
        with store.journal("default") as journal:  # the kill may have left an intent, as it may with a refresh
            assert journal.try_open()
            journal.tidy()
            journal.prove()
        store.save(after)


def test_every_error_of_the_store_ends_in_8(store: Accounts, folder: Path) -> None:
    """Damaged, unsafe, not writable: one exit status for all."""
    store.save(account())
    (folder / "default" / "tokens").write_bytes(b"damaged")
    with pytest.raises(StoreError) as caught:
        store.load("default")
    assert caught.value.exit_status == 8
    assert caught.value.hint == ("log in again: loopback-auth login default --force",)
