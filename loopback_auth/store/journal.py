"""The file store's journal of one spend: `intent`, which has no secrets, and `answer`, what came back, byte for byte.

    intent     a line of JSON for each time the same thing was sent, or is about to be; empty until then. Created
               exclusively, locked by whoever sends for as long as that process lives, durable before anything leaves.
    answer     as long as an answer may be, reserved on the disk before anything leaves and filled up with zeros;
               mapped into memory, so that keeping a byte needs no system call which could fail
    answer.N   what the N-th sending brought, where that was of no use and it was sent again

A login keeps its own, as `login-N-intent` and `login-N-answer`, N being eight hex digits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import mmap
import os
import re
import stat
import sys
import time
from collections.abc import Iterator

from loopback_auth import files
from loopback_auth.errors import Overtaken, StoreNotWritable, StoreUnsafe
from loopback_auth.files import CREATE, OPEN, check, remove_quietly, sync, sync_folder, write_all
from loopback_auth.oauth.token import ANSWER_LIMIT
from loopback_auth.store.base import STAGE_LIMIT, Intent
from loopback_auth.store.lock import is_at, let_go, take
from loopback_auth.store.network import MOUNTINFO, network_file_system
from loopback_auth.store.record import intent_members, parse_intent
from loopback_auth.text import printable

_PAGE = 4096
_LOOKS, _LOOK = 50, 0.005
"""How often, and how many seconds apart, it is tried to lock an intent that was just made."""


class FileJournal:
    """Implements `Journal` in an account's folder. `prefix` is in front of its file names.

    A folder on a network file system cannot be proven unless `allow_network`; `mountinfo` says what is mounted where.
    """

    def __init__(
        self, folder: str, prefix: str = "", *, allow_network: bool = False, mountinfo: str = MOUNTINFO
    ) -> None:
        self._folder = folder
        self._prefix = prefix
        self._allow_network = allow_network
        self._mountinfo = mountinfo
        self._intent_path = self._path("intent")
        self._answer_path = self._path("answer")
        self._intent: int | None = None
        """The open intent, locked; None where there is none."""
        self._created = False
        """Whether it is this object's own, and not one that was found."""
        self._answer: int | None = None
        self._kept: mmap.mmap | None = None
        self._length = 0

    # -- what an earlier process left

    def try_open(self) -> bool:
        """Take over what a process that has ended left; False while its sender is alive."""
        if self._intent is not None:
            return True
        try:
            descriptor = os.open(self._intent_path, OPEN)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError as error:
            raise files.unsafe(self._intent_path, error) from error
        try:
            check(os.fstat(descriptor), self._intent_path)
            if take(descriptor, self._intent_path) and is_at(descriptor, self._intent_path):
                self._intent, descriptor = descriptor, -1
        finally:
            if descriptor != -1:
                os.close(descriptor)
        return self._intent is not None or not os.path.lexists(self._intent_path)

    @property
    def news(self) -> None:
        """There is nothing to wait at: a lock of the system tells nobody that it was let go."""

    def tidy(self) -> None:
        """Remove what is left of a process that ended before it sent anything. Call it holding the account's lock."""
        if self._intent is None:
            with files.writing(self._intent_path):
                if not os.path.lexists(self._intent_path):  # else somebody sends who holds another lock
                    self._remove_leftovers()
        elif not self._lines():  # its writer ended before it was whole
            self.clear()

    @property
    def intent(self) -> Intent | None:
        """What was sent last, or was about to be; None where nothing is in doubt."""
        lines = self._lines()
        return dataclasses.replace(_intent(lines[-1]), sendings=len(lines)) if lines else None

    @property
    def answer(self) -> bytes:
        """Return what the last sending brought, as far as it came."""
        if self._kept is not None:
            return self._kept[: self._length]
        try:
            return files.read(self._answer_path).rstrip(b"\0")
        except FileNotFoundError:
            return b""

    # -- before the request leaves

    def prove(self) -> None:
        """Write, fsync, rename and remove a probe; then have an intent, still empty, and room for the answer.

        Raises StoreError, and Overtaken where another process has an intent.
        """
        self._check_network()
        files.make_folder(*os.path.split(self._folder))
        probe = self._path(f"probe.{os.getpid()}")
        with self._not_overtaken(), files.writing(self._intent_path):
            if self._prefix:  # a refresh has the lock by now, and has read the tokens
                self._check_places()
            files.replace(probe, b"\0" * ANSWER_LIMIT)
            files.remove(probe)
            if self._intent is None:
                self._intent = self._create()
                self._created = True
            self._reserve()

    def arm(self, intent: Intent) -> None:
        """Make it durable that this is sent now. The journal must have been proven.

        Raises StoreNotWritable: then it must not be sent.
        """
        assert self._intent is not None  # noqa: S101 (the store was proven)
        with files.writing(self._intent_path):
            whole = sum(len(line) + 1 for line in self._lines())
            try:
                os.ftruncate(self._intent, whole)
                os.lseek(self._intent, whole, os.SEEK_SET)
                write_all(
                    self._intent, json.dumps({**intent_members(intent), "process": os.getpid()}).encode("ascii") + b"\n"
                )
                sync(self._intent)
                sync_folder(self._folder)
            except OSError:
                with contextlib.suppress(OSError):  # in doubt then, which is more careful than need be
                    os.ftruncate(self._intent, whole)
                raise

    # -- the answer

    def stage(self, piece: bytes) -> None:
        """Keep the next bytes of the answer: no system call, nothing that could fail."""
        if self._kept is not None:
            end = min(self._length + len(piece), STAGE_LIMIT)
            self._kept[self._length : end] = piece[: end - self._length]
            self._length = end

    def sync(self) -> None:
        """Make the answer durable. Raises StoreNotWritable: it is still in the system's memory then."""
        if self._answer is not None and self._kept is not None:
            with files.writing(self._answer_path):
                if sys.platform != "linux":
                    self._kept.flush()
                sync(self._answer)

    # -- when the outcome is known

    def withdraw(self) -> None:
        """Take the last `arm` back: it turned out that what was sent was not spent by it."""
        lines = self._lines()
        if len(lines) < 2 or self._intent is None:
            self.clear()
            return
        with files.writing(self._intent_path):
            os.ftruncate(self._intent, sum(len(line) + 1 for line in lines[:-1]))
            sync(self._intent)

    def clear(self) -> None:
        """Remove intent and answers: what was sent is committed, or was refused for good."""
        self._close_answer()
        if os.name == "nt":  # an open file cannot be removed there
            self._close_intent()
        with files.writing(self._intent_path):  # locked to the end: nobody takes for left what is about to go
            remove_quietly(self._intent_path)
            self._remove_leftovers()
            if os.path.isdir(self._folder):
                sync_folder(self._folder)
        self._close_intent()

    def __enter__(self) -> FileJournal:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._created and self._intent is not None and not self._lines():
            with contextlib.suppress(StoreNotWritable):
                self.clear()
        self._close_answer()
        self._close_intent()

    # -- within

    def _path(self, name: str) -> str:
        return f"{self._folder}{os.sep}{self._prefix}{name}"

    @contextlib.contextmanager
    def _not_overtaken(self) -> Iterator[None]:
        try:
            yield
        except StoreNotWritable as error:
            if isinstance(error.__cause__, FileExistsError | FileNotFoundError):
                raise Overtaken(
                    f"another process is working on {printable(self._folder)}", hint="nothing was spent; try again"
                ) from error
            raise

    def _check_places(self) -> None:
        """Find out now, and not with new tokens in hand, that something in the account's folder keeps them out."""
        for name in ("lock", "intent", "tokens"):
            path = os.path.join(self._folder, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                if name != "tokens" or stat.S_ISDIR(status.st_mode):  # whatever else stands there is replaced
                    check(status, path)

    def _check_network(self) -> None:
        kind = None if self._allow_network else network_file_system(self._folder, self._mountinfo)
        if kind is not None:
            raise StoreUnsafe(
                f"{printable(self._folder)} is on a network file system ({kind}), where a lock may exclude nobody",
                hint=(
                    "put the accounts on a local disk: LOOPBACK_AUTH_STORE=file:/folder",
                    "or, if only one machine ever uses them: allow_network_store = true in config.toml",
                ),
            )

    def _reserve(self) -> None:
        """Make room for the next answer; one that a former sending brought is kept under another name."""
        former = self.answer
        self._close_answer()
        if former:
            number = len(self._lines())
            while os.path.lexists(f"{self._answer_path}.{number}"):
                number += 1
            os.replace(self._answer_path, f"{self._answer_path}.{number}")
        remove_quietly(self._answer_path)
        self._answer = os.open(self._answer_path, CREATE, 0o600)
        write_all(self._answer, b"\0" * STAGE_LIMIT)
        sync(self._answer)
        self._kept, self._length = mmap.mmap(self._answer, STAGE_LIMIT), 0
        for page in range(0, STAGE_LIMIT, _PAGE):  # where a write makes a copy, the room for it is had now
            self._kept[page] = 0

    def _create(self) -> int:
        """Create the intent, locked from its first moment on. Raises FileExistsError: another process has."""
        descriptor = os.open(self._intent_path, CREATE, 0o600)
        try:
            for _ in range(_LOOKS):
                if take(descriptor, self._intent_path):
                    break
                time.sleep(_LOOK)  # somebody looks at it, to see whether it was left
            else:
                raise FileExistsError
            if not is_at(descriptor, self._intent_path):
                raise FileExistsError
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _lines(self) -> list[bytes]:
        """Return the whole lines of the intent: one that broke off was never sent."""
        if self._intent is None:
            return []
        os.lseek(self._intent, 0, os.SEEK_SET)
        content = b""
        while more := os.read(self._intent, 1 << 16):
            content += more
        return content.split(b"\n")[:-1]

    def _remove_leftovers(self) -> None:
        """Remove what belongs to no intent: answers, probes, files whose writer ended before they were whole."""
        beginnings = tuple(self._prefix + name for name in ("answer", "probe."))
        try:
            found = os.listdir(self._folder)
        except FileNotFoundError:
            return
        for name in found:
            if name.startswith(beginnings) or (not self._prefix and name.startswith(_OURS) and name.endswith(".new")):
                remove_quietly(os.path.join(self._folder, name))

    def _close_intent(self) -> None:
        if self._intent is not None:
            let_go(self._intent)
            self._intent = None
            self._created = False

    def _close_answer(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        if self._answer is not None:
            os.close(self._answer)
            self._answer = None


def login_journals(folder: str) -> list[FileJournal]:
    """Return the journals of the logins that have begun in this folder and have not ended as they should."""
    try:
        found = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise files.unsafe(folder, error) from error
    names: dict[str, list[str]] = {}
    for name in found:
        if match := re.match("login-[0-9a-f]{8}-", name):
            names.setdefault(match[0], []).append(name)
    return [
        FileJournal(folder, prefix)
        for prefix, own in sorted(names.items())
        if {f"{prefix}intent", f"{prefix}answer"} & set(own) or _is_old(folder, own)
    ]


def _is_old(folder: str, names: list[str]) -> bool:
    """Whether these files are no login's that is about to begin."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - max(os.lstat(os.path.join(folder, name)).st_mtime for name in names) > _ABOUT_TO_BEGIN
    return False


_ABOUT_TO_BEGIN = 60.0
_OURS = ("tokens.", "last-error.")


def _intent(line: bytes) -> Intent:
    """Return the intent of a line; one that cannot be read is about nothing that is known."""
    try:
        return parse_intent(json.loads(line))
    except (ValueError, RecursionError):
        return parse_intent(None)
