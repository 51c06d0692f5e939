"""The operating system's lock on a file: it ends with its holder, however that ends. The file is never unlinked."""

from __future__ import annotations

import contextlib
import os
import sys
from types import TracebackType

from loopback_auth.errors import StoreUnsafe
from loopback_auth.files import check
from loopback_auth.text import printable

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """An exclusive lock between processes and within one: each object opens the file anew."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it; never waits. Raises StoreUnsafe: a link or a stranger's file."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            descriptor = os.open(self._path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            shown = printable(self._path)
            raise StoreUnsafe(
                f"the lock {shown} cannot be opened: {reason}", hint=f"look at it: ls -l {shown}"
            ) from error
        try:
            check(os.fstat(descriptor), self._path)
            _take(descriptor)
            # Somebody may have replaced the file after we opened it: a lock on the old one excludes nobody.
            if os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                self._descriptor = descriptor
                return True
        except (BlockingIOError, FileNotFoundError, PermissionError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return False

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
