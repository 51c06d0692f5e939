"""Watches the system calls that this process makes to the store and the network, and lets something go wrong at one.

Installed in a child that does one refresh. A call is counted before it is made: what happens at call N happens instead
of it. Only calls on files below one folder and on internet sockets count; the rest of the process is left alone.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BY_PATH = ("open", "unlink", "mkdir", "rmdir", "listdir", "lstat", "stat")
BY_DESCRIPTOR = ("read", "write", "fsync", "ftruncate", "lseek", "fstat", "close")
OF_SOCKETS = ("connect", "connect_ex", "send", "sendmsg", "recv", "recv_into", "shutdown", "close")


@dataclass(frozen=True)
class Fault:
    """At the `number`-th call (of `kind`, if given): `kill`, `stop`, `cut` or `cut-names` of the power, or an errno.

    An error is raised once, or `for_ever` from there on.
    """

    what: str
    number: int
    kind: str = ""
    for_ever: bool = False


class Injector:
    """Counts and injects. `install` patches this very process, for good."""

    def __init__(self, folder: str, fault: Fault | None, survivors: str | None = None) -> None:
        self.calls: list[str] = []
        self._folder = folder
        self._fault = fault
        self._survivors = survivors
        self._descriptors: dict[int, str] = {}
        self._disk = Disk(folder)
        self._of_kind = 0
        self._stopped = False
        self._real = {name: getattr(os, name) for name in (*BY_PATH, *BY_DESCRIPTOR, "replace")}

    def install(self) -> None:
        for name in BY_PATH:
            setattr(os, name, self._by_path(name))
        for name in BY_DESCRIPTOR:
            setattr(os, name, self._by_descriptor(name))
        modules: Any = os, fcntl, mmap  # patched for good: no type fits that
        modules[0].replace = self._replace
        flock = fcntl.flock

        def locked(descriptor: int, operation: int) -> None:
            self._count("flock", self._descriptors.get(descriptor))
            flock(descriptor, operation)

        modules[1].flock = locked
        mapped = mmap.mmap

        def mapping(descriptor: int, length: int) -> mmap.mmap:
            self._count("mmap", self._descriptors.get(descriptor))
            return mapped(descriptor, length)

        modules[2].mmap = mapping
        for name in OF_SOCKETS:
            setattr(socket.socket, name, self._of_socket(name))

    def stop(self) -> None:
        """Count no more."""
        self._stopped = True

    # -- the wrappers

    def _by_path(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(path: Any, *arguments: Any, **keywords: Any) -> Any:
            ours = isinstance(path, str) and (path == self._folder or path.startswith(self._folder + "/"))
            if not ours:
                return real(path, *arguments, **keywords)
            self._count(name, path)
            result = real(path, *arguments, **keywords)
            if name == "open":
                self._descriptors[result] = path
                if arguments and arguments[0] & os.O_EXCL:
                    self._disk.created(result)
            return result

        return call

    def _by_descriptor(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(descriptor: int, *arguments: Any) -> Any:
            path = self._descriptors.get(descriptor)
            if path is None:
                return real(descriptor, *arguments)
            self._count(name, path)
            result = real(descriptor, *arguments)
            if name == "fsync":
                self._disk.synced(path, descriptor)
            if name == "close":
                del self._descriptors[descriptor]
            return result

        return call

    def _replace(self, source: str, target: str) -> None:
        if source.startswith(self._folder):
            self._count("rename", source)
        self._real["replace"](source, target)

    def _of_socket(self, name: str) -> Callable[..., Any]:
        real = getattr(socket.socket, name)

        def call(own: socket.socket, *arguments: Any) -> Any:
            if own.family in (socket.AF_INET, socket.AF_INET6) and own.fileno() != -1:
                self._count(name, "socket")
            return real(own, *arguments)

        return call

    # -- the point

    def _count(self, name: str, path: str | None) -> None:
        if path is None or self._stopped:
            return
        self.calls.append(f"{name} {self._short(path)}")
        fault = self._fault
        if fault is None or (fault.kind and fault.kind != name):
            return
        self._of_kind += 1
        if self._of_kind == fault.number or (fault.for_ever and self._of_kind > fault.number):
            self._happen(fault)

    def _happen(self, fault: Fault) -> None:
        match fault.what:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this very thread, at this very point
            case "cut" | "cut-names":
                assert self._survivors is not None
                self._disk.survive(Path(self._survivors), names=fault.what == "cut-names")
                os.kill(os.getpid(), signal.SIGKILL)
            case name:
                number = getattr(errno, name)
                raise OSError(number, os.strerror(number))

    def _short(self, path: str) -> str:
        return path.removeprefix(self._folder).strip("/").replace(str(os.getpid()), "PID") or "."


class Disk:
    """What a power cut would leave: contents as of their last fsync, names as of their folder's last fsync."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._real_listdir, self._real_stat, self._real_fstat = os.listdir, os.stat, os.fstat
        self._next = 0
        self._numbers: dict[int, int] = {}
        """Inode → our number of the file, since inodes are used again."""
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int]] = {}
        for path in [self._folder, *self._folder.rglob("*")]:
            if path.is_dir():
                self._names[str(path)] = {}
            if path.is_file():
                self._numbers[path.stat().st_ino] = self._next
                self._contents[self._next] = path.read_bytes()
                self._next += 1
        for folder_path in self._names:
            self._names[folder_path] = self._listing(folder_path)

    def created(self, descriptor: int) -> None:
        self._numbers[self._real_fstat(descriptor).st_ino] = self._next
        self._next += 1

    def synced(self, path: str, descriptor: int) -> None:
        status = self._real_fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._names[path] = self._listing(path)
        else:
            self._contents[self._numbers[status.st_ino]] = os.pread(descriptor, status.st_size, 0)

    def survive(self, target: Path, *, names: bool) -> None:
        """Write what is left below `target`; with `names`, the names are those of now, whatever became of contents."""
        for folder, entries in self._names.items():
            place = target / Path(folder).relative_to(self._folder)
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, number in (self._listing(folder) if names else entries).items():
                file = place / name
                file.touch(0o600)
                file.write_bytes(self._contents.get(number, b""))

    def _listing(self, folder: str) -> dict[str, int]:
        listing = {}
        for name in self._real_listdir(folder):
            status = self._real_stat(f"{folder}/{name}", follow_symlinks=False)
            if status.st_ino in self._numbers:
                listing[name] = self._numbers[status.st_ino]
        return listing
