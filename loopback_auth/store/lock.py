"""The operating system's lock on a file: it ends with its holder, however that ends. The file is never unlinked.

On the way of a `token` that waits for another process, so nothing heavy is imported.
"""

from __future__ import annotations

import os
import sys

from loopback_auth.errors import StoreUnsafe
from loopback_auth.files import check, check_folder
from loopback_auth.text import printable

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # nobody reads there: on Windows a locked byte cannot be read

    def take(descriptor: int, path: str) -> bool:
        """Lock an open file for this descriptor alone; False if another has it. Raises StoreUnsafe."""
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

    def let_go(descriptor: int) -> None:
        """Close the file, and with it the lock."""
        os.close(descriptor)
else:
    import fcntl

    def take(descriptor: int, path: str) -> bool:
        """Lock an open file for this descriptor alone; False if another has it. Raises StoreUnsafe."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise StoreUnsafe(
                f"{printable(path)} cannot be locked: {reason}",
                hint="put the accounts on a disk that knows locks: LOOPBACK_AUTH_STORE=file:/folder",
            ) from error
        return True

    def let_go(descriptor: int) -> None:
        """Unlock and close the file: a child that was forked meanwhile must not go on holding it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


class FileLock:
    """An exclusive lock between processes and within one: each object opens the file anew."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody else holds it; never waits. Raises StoreUnsafe: a link or a stranger's file."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = self._open()
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            shown = printable(self._path)
            raise StoreUnsafe(
                f"the lock {shown} cannot be opened: {reason}", hint=f"look at it: ls -l {shown}"
            ) from error
        try:
            # Somebody may have replaced the file after we opened it: a lock on the old one excludes nobody.
            if take(descriptor, self._path) and is_at(descriptor, self._path):
                self._descriptor, descriptor = descriptor, -1
        finally:
            if descriptor != -1:
                os.close(descriptor)
        return self._descriptor is not None

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(self._path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
        try:
            check(os.fstat(descriptor), self._path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @property
    def is_held(self) -> bool:
        """Whether this object holds it."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let go; without effect where it is not held."""
        if self._descriptor is not None:
            let_go(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()


class FolderLock(FileLock):
    """The same on a folder, which must be there: it leaves nothing behind. On Windows, on a file in it."""

    def __init__(self, path: str) -> None:
        super().__init__(path if os.name == "posix" else os.path.join(path, "login-lock"))

    def _open(self) -> int:
        if os.name != "posix":
            return super()._open()
        check_folder(self._path)
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def is_at(descriptor: int, path: str) -> bool:
    """Whether `path` is still the file that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except OSError:  # gone, or something else stands where its folder was
        return False
