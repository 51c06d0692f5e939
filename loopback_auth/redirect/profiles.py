"""Browser profiles that live no longer than a window, and the processes that use them.

Each is a folder that its process holds by the operating system's lock: what nobody holds, a run that was killed left.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from loopback_auth import files

_SOCKET = re.compile(r"/[\w.-]+\.\w{6}/SingletonSocket$")
"""Where Chromium's family puts it, in the folder for temporary files."""
LOCK = "loopback-auth.lock"
GRACE = 2.0
"""Seconds that a browser has to end of its own once it was told to."""
PATIENCE = 5.0
"""Seconds after which a process that the kernel does not end is left to it."""
PAUSE = 0.02
"""Seconds between two looks at whether something has ended."""

if sys.platform == "win32":

    def _hold(descriptor: int, *, wait: bool = False) -> bool:
        """An open file cannot be removed there: that it is open is the lock."""
        return True

    def _is_held(lock: Path) -> bool:
        try:
            lock.unlink(missing_ok=True)
        except PermissionError:
            return True
        return False
else:
    import fcntl

    def _hold(descriptor: int, *, wait: bool = False) -> bool:
        """Lock an open file until it is closed; False if another process has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def _is_held(lock: Path) -> bool:
        try:
            descriptor = os.open(lock, files.OPEN)
        except OSError:  # killed before it was made, or nothing of ours
            return False
        try:
            return not _hold(descriptor)
        finally:
            os.close(descriptor)


@dataclass
class Profile:
    """A profile folder, this process's own until it is removed."""

    folder: Path
    _lock: int | None

    @classmethod
    def make(cls, folder: Path) -> Profile:
        """Make an empty one (0700) in `folder`, which is made too. Raises StoreNotWritable, StoreUnsafe."""
        files.make_folder(str(folder))
        with files.writing(str(folder)), _alone(folder):
            profile = Path(tempfile.mkdtemp(prefix="window-", dir=folder))
            lock = os.open(profile / LOCK, files.CREATE, 0o600)
            _hold(lock)
        return cls(profile, lock)

    def remove(self) -> bool:
        """Delete the folder; False while something still writes there. Nobody uses it any more, any number of calls."""
        if sys.platform == "win32":
            self._let_go()
        with suppress(OSError):  # Chromium leaves its socket behind, told to end or killed
            socket = os.readlink(self.folder / "SingletonSocket")
            if _SOCKET.search(socket):
                shutil.rmtree(os.path.dirname(socket), ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        if gone := not self.folder.exists():
            self._let_go()
        return gone

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other process make or remove profiles meanwhile: a new one has no lock for a moment."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | files.OPEN, 0o600)
    try:
        _hold(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """End the browsers that a run which was killed has left, and remove their profiles. Raises StoreError."""
    if not folder.exists():
        return
    files.check_folder(str(folder))
    with files.writing(str(folder)), _alone(folder):
        for profile in [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]:
            if _is_held(profile / LOCK):
                continue
            for _ in ending(lambda profile=profile: using(profile)):  # type: ignore[misc]  # a default, bound now
                time.sleep(PAUSE)
            for _ in removing(Profile(profile, None)):
                time.sleep(PAUSE)


def ending(find: Callable[[], list[int]]) -> Iterator[None]:
    """End the processes that `find` finds, by SIGTERM, after `GRACE` by SIGKILL; yields where there is time to wait."""
    begun = time.monotonic()
    told: set[int] = set()
    while (found := find()) and time.monotonic() < begun + GRACE + PATIENCE:
        late = time.monotonic() > begun + GRACE
        for one in found if late else [one for one in found if one not in told]:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGTERM if not late or sys.platform == "win32" else signal.SIGKILL)
        told.update(found)
        yield


def removing(profile: Profile) -> Iterator[None]:
    """Remove a profile, again while a process that ends still writes there; yields where there is time to wait."""
    until = time.monotonic() + PATIENCE
    while not profile.remove() and time.monotonic() < until:
        yield


def using(profile: Path, session: int | None = None) -> list[int]:
    """Return this user's processes that were started with this very profile, or stand in this session (setsid(2)).

    Known on Linux, by /proc; elsewhere nobody is found.
    """
    names_it = re.compile(rb"(--user-data-dir=|-profile\0)" + re.escape(os.fsencode(profile)) + rb"(?=[\0 ]|$)")
    found = []
    for process in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
        with suppress(OSError, AttributeError):  # it has ended meanwhile
            status = (process / "status").read_text("utf-8", "replace")
            about = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if about["State"][0] in "ZX" or about["Uid"].split()[0] != str(os.getuid()):
                continue
            in_session = session is not None and about["NSsid"].split()[0] == str(session)
            if in_session or names_it.search((process / "cmdline").read_bytes()):
                found.append(int(process.name))
    return found
