"""The account's lock, between real processes: one holder, until it lets go, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loopback_auth.errors import StoreBusy, StoreUnsafe
from loopback_auth.spend import locked
from loopback_auth.store import lock as lock_module
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore
from loopback_auth.store.lock import FileLock

from .planted import PLANTED, fifo, folder, given_away, hard_link, loose, mode, symlink

HOLDING = """
import sys
from loopback_auth.store.lock import FileLock
with FileLock(sys.argv[1]) as lock:
    print(lock.try_acquire(), flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock until its stdin is closed, or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"True\n"
        try:
            yield process
        finally:
            process.kill()


def can_lock(path: Path) -> bool:
    with FileLock(str(path)) as lock:
        return lock.try_acquire()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_two_processes_exclude_each_other(path: Path) -> None:
    """While another process holds the lock it cannot be taken; when that lets go, it can."""
    with holder(path) as other:
        assert not can_lock(path)
        other.communicate()
        assert can_lock(path)
    assert mode(path) == "0600"


def test_a_killed_holder_holds_nothing(path: Path) -> None:
    """kill -9 frees the lock: the file stays, and it means nothing."""
    with holder(path) as other:
        assert not can_lock(path)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert path.exists()
        assert can_lock(path)


def test_a_stopped_holder_keeps_the_lock(path: Path) -> None:
    """No time-out and no age takes the lock from a process that is merely asleep."""
    with holder(path) as other:
        other.send_signal(signal.SIGSTOP)
        os.utime(path, (0, 0))
        assert not can_lock(path)
        other.send_signal(signal.SIGCONT)


def test_two_objects_of_one_process_exclude_each_other(path: Path) -> None:
    """Each object is a holder of its own, and asks as often as it likes."""
    with FileLock(str(path)) as one, FileLock(str(path)) as two:
        assert one.try_acquire()
        assert not two.try_acquire()
        assert not two.try_acquire()
        one.__exit__(None, None, None)
        assert two.try_acquire()
        assert not one.try_acquire()


def test_the_file_is_never_removed(path: Path) -> None:
    """Letting go leaves the same file: a lock on a removed file would exclude nobody."""
    assert can_lock(path)
    inode = path.stat().st_ino
    assert can_lock(path)
    assert path.stat().st_ino == inode


def test_a_child_does_not_keep_the_lock(path: Path) -> None:
    """A process that the holder started does not inherit the lock."""
    program = "import sys; print('begun', flush=True); sys.stdin.read()"
    with FileLock(str(path)) as lock:
        assert lock.try_acquire()
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
    with child:
        assert can_lock(path)
        child.kill()


def test_waiting_leaks_no_descriptors(path: Path) -> None:
    """Asking a thousand times in vain leaves nothing open."""
    with FileLock(str(path)) as one, FileLock(str(path)) as two:
        assert one.try_acquire()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(1000):
            assert not two.try_acquire()
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("plant", [symlink, hard_link, fifo, folder, loose, given_away])
def test_a_planted_lock_is_refused(path: Path, plant: Callable[[Path], None]) -> None:
    """A lock file that is a link, a FIFO, a folder, a stranger's or open to others is refused, without waiting."""
    assert plant in [entry[0] for entry in PLANTED]
    assert can_lock(path)
    plant(path)
    with pytest.raises(StoreUnsafe) as caught:
        can_lock(path)
    assert caught.value.exit_status == 8
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("replacement", ["deleted", "replaced"])
async def test_a_lock_file_that_is_replaced_while_waiting(tmp_path: Path, replacement: str) -> None:
    """Who waits on a lock file that goes away ends up with a lock on the new one, held by nobody else."""
    store = FileStore(str(tmp_path / "accounts"))
    store.lock("default")
    path = tmp_path / "accounts" / "default" / "lock"
    with holder(path):

        async def wait() -> None:
            async with locked(Accounts(store), "default", timeout=10):
                assert not can_lock(path)
                assert path.stat().st_ino != before

        before = path.stat().st_ino
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        if replacement == "replaced":
            new = path.with_name("new")
            new.touch(0o600)
            new.replace(path)
        else:
            path.unlink()
        await waiting
        assert can_lock(path)


def test_a_lock_on_a_file_that_was_replaced_is_no_lock(path: Path) -> None:
    """A file that is replaced between opening and locking it: the attempt fails, and the next one succeeds."""
    with FileLock(str(path)) as old:
        assert old.try_acquire()
        path.unlink()
        with holder(path):
            assert not can_lock(path)


async def test_who_waits_too_long_gives_up(tmp_path: Path) -> None:
    """After the time given the account is busy: exit status 8, and nothing was spent."""
    store = FileStore(str(tmp_path / "accounts"))
    with store.lock("default") as lock:
        assert lock.try_acquire()
        with pytest.raises(StoreBusy) as caught:
            async with locked(Accounts(store), "default", timeout=0.05):
                pytest.fail("the lock was held by another")
    assert str(caught.value) == "another process is working on account default and does not finish"
    assert caught.value.exit_status == 8
    assert caught.value.hint == ("nothing was spent; try again, or look for a loopback-auth process that hangs",)


async def test_the_wait_can_be_cancelled(tmp_path: Path) -> None:
    """A cancelled wait leaves the lock to the next one."""
    store = FileStore(str(tmp_path / "accounts"))

    async def wait() -> None:
        async with locked(Accounts(store), "default"):
            pytest.fail("the lock was held by another")

    with store.lock("default") as lock:
        assert lock.try_acquire()
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with locked(Accounts(store), "default", timeout=0):
        pass


COUNTING = """
import asyncio, sys
from pathlib import Path
from loopback_auth.spend import locked
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore

async def main():
    store, counter = FileStore(sys.argv[1]), Path(sys.argv[2])
    for _ in range(20):
        async with locked(Accounts(store), "default"):
            value = int(counter.read_text())
            await asyncio.sleep(0)
            counter.write_text(str(value + 1))

asyncio.run(main())
"""


def test_processes_that_race_lose_no_step(tmp_path: Path) -> None:
    """Four processes that each read, wait and write 20 times under the lock: 80 steps."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNTING, str(tmp_path / "accounts"), str(counter)]
    racing = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(30) for process in racing] == [0] * 4
    assert counter.read_text() == "80"


def test_a_lock_on_a_file_that_was_replaced_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced between opening and locking: the lock is on a file that nobody else will ever open."""
    really = lock_module.take

    def replaced_meanwhile(descriptor: int, path: str) -> bool:
        os.unlink(path)
        Path(path).touch(0o600)
        return really(descriptor, path)

    store = FileStore(str(tmp_path / "accounts"))
    with store.lock("default") as lock:
        monkeypatch.setattr(lock_module, "take", replaced_meanwhile)
        assert not lock.try_acquire()
        monkeypatch.undo()
        assert lock.try_acquire()
