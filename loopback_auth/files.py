"""Private files: folders 0700, files born 0600, replaced whole, durable, and looked at before they are read.

On the way of every `token`, so nothing but `os`, `stat` and `sys` is imported; our errors where there is one to raise.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False  # as mypy knows it: `typing` takes 5 ms
if TYPE_CHECKING:
    from loopback_auth.errors import StoreNotWritable, StoreUnsafe

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # a FIFO planted in a file's place must not hold us
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_POSIX = os.name == "posix"
OPEN = os.O_RDWR | _NOFOLLOW | _NONBLOCK | _CLOEXEC | _BINARY
"""Flags that open a private file for reading and writing."""
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC | _BINARY
"""Flags that create one, and fail where something is there already."""


def read(path: str, limit: int = 1 << 20) -> bytes:
    """Return the content of a private file, `limit` bytes at most.

    It must be a regular file of this user's, with one link, that nobody else can read or write.
    Raises FileNotFoundError, or StoreUnsafe with the command that mends it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _CLOEXEC | _BINARY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unsafe(path, error) from error
    try:
        status = os.fstat(descriptor)
        check(status, path)
        if status.st_size > limit:
            raise _refused(path, f"is larger than {limit} bytes: this program did not write it")
        content = b""
        while len(content) < status.st_size and (more := os.read(descriptor, status.st_size - len(content))):
            content += more
    finally:
        os.close(descriptor)
    return content


def unsafe(path: str, error: OSError) -> StoreUnsafe:
    """Return the error of a file that is there and cannot be opened."""
    return _refused(path, f"cannot be opened: {_reason(error)}", "look at it: ls -l {}")


def check(status: os.stat_result, path: str) -> None:
    """Raise StoreUnsafe unless `status` is that of a regular file which this user alone can read and write."""
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # 0: replaced since it was opened
        what = "has more than one name (hard links)" if stat.S_ISREG(status.st_mode) else "is not a regular file"
        raise _refused(path, f"{what}: this program did not make it so", "look at it: ls -l {}")
    _check_owner(status, path)
    if _POSIX and status.st_mode & 0o077:
        raise _refused(path, "can be read or written by other users", "chmod 600 {}")


def make_folder(path: str, name: str = "") -> None:
    """Make a folder for this user alone (0700), with the folders above it, durably; then the folder `name` in it.

    Raises StoreNotWritable or StoreUnsafe.
    """
    try:
        above = os.path.dirname(path)
        if not os.path.isdir(above):
            _make_folder(above)
        _check_above(above)
        for folder in (path, os.path.join(path, name)) if name else (path,):
            if not _make_folder(folder):
                check_folder(folder)
    except OSError as error:
        raise _not_writable("the folder {} cannot be made", path, error) from error


def _make_folder(path: str) -> bool:
    """Make a folder, with those above it, durably; return whether it was not there. Raises OSError."""
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        _make_folder(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    sync_folder(above)
    return True


def _check_above(path: str) -> None:
    """Raise StoreUnsafe if another user can rename what is in this folder, and put something else in its place.

    It need not be private, and may be a link, of this user's or of root's. Raises OSError.
    """
    for status in (os.lstat(path), os.stat(path)):
        if status.st_uid != 0:
            _check_owner(status, path)
        anybody_writes = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IWOTH
        if _POSIX and anybody_writes and not status.st_mode & stat.S_ISVTX:
            raise _refused(path, "can be read or written by other users", "chmod 700 {}")


def check_folder(path: str) -> None:
    """Raise StoreUnsafe unless `path` is a folder, no link, of this user's, that nobody else can enter.

    Raises FileNotFoundError where there is none.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refused(path, f"cannot be looked at: {_reason(error)}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise _refused(path, "is not a folder: this program did not make it so", "look at it: ls -ld {}")
    _check_owner(status, path)
    if _POSIX and status.st_mode & 0o077:
        raise _refused(path, "can be entered by other users", "chmod 700 {}")


def _check_owner(status: os.stat_result, path: str) -> None:
    if _POSIX and status.st_uid != os.getuid():
        raise _refused(
            path,
            f"belongs to user id {status.st_uid}, and this program runs as user id {os.getuid()}",
            "run it as that user, without sudo",
        )


def replace(path: str, content: bytes) -> None:
    """Put `content` in the place of a private file, whole or not at all, and durable when this returns.

    The new file is born 0600 beside the old one, fsynced, renamed over it, and the folder fsynced.
    Raises StoreNotWritable; the old content is there then, and nothing is left beside it.
    """
    new = f"{path}.{os.getpid()}.new"
    with writing(path):
        remove_quietly(new)  # of an earlier process with our number, that was killed
        descriptor = os.open(new, CREATE, 0o600)
        try:
            try:
                _keep_readable(descriptor)
                write_all(descriptor, content)
                sync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(new, path)
        except BaseException:
            remove_quietly(new)
            raise
        sync_folder(os.path.dirname(path))


def _keep_readable(descriptor: int) -> None:
    """Give this user what an odd umask took: a file that was born 0000 could never be read again."""
    if _POSIX:
        try:
            os.fchmod(descriptor, 0o600)
        except PermissionError:  # a file system with modes of its own
            return


def remove(path: str) -> bool:
    """Remove a file durably; return whether it was there. Raises StoreNotWritable."""
    try:
        os.unlink(path)
        sync_folder(os.path.dirname(path))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _not_writable("{} cannot be removed", path, error) from error
    return True


class writing:  # noqa: N801 (used as `with files.writing(path):`; contextlib would cost `token` 2 ms)
    """Raise StoreNotWritable for whatever the operating system refuses within."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Nothing is held."""

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        """Put it into words."""
        if isinstance(error, OSError):
            raise _not_writable("{} cannot be written", self._path, error) from error


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it, however many calls that takes. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(descriptor: int) -> None:
    """Make a file's content durable. Raises OSError."""
    if sys.platform == "darwin":  # fsync leaves it in the drive's own memory there
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:  # a file system that does not know it
            os.fsync(descriptor)
    else:
        os.fsync(descriptor)


def sync_folder(path: str) -> None:
    """Make renames and removals in a folder durable. Where folders cannot be opened (Windows) nothing is done."""
    if not _POSIX:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def remove_quietly(path: str) -> None:
    """Remove a file if it is there. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _refused(path: str, why: str, *hint: str) -> StoreUnsafe:
    """Return the error of a file or folder that is not as this program makes them; `{}` in a hint is its path."""
    from loopback_auth.errors import StoreUnsafe
    from loopback_auth.text import printable

    shown = printable(path)
    return StoreUnsafe(f"{shown} {why}", hint=tuple(line.format(shown) for line in hint))


def _not_writable(what: str, path: str, error: OSError) -> StoreNotWritable:
    """Return the error of what the system did not let us do; `{}` in `what` is the path."""
    from loopback_auth.errors import StoreNotWritable
    from loopback_auth.text import printable

    return StoreNotWritable(f"{what.format(printable(path))}: {_reason(error)}")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else "unknown reason"
