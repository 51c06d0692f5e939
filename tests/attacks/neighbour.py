"""Somebody else on the same machine: a program that gives up every right of ours, and then looks, squats or swaps.

`Neighbour` starts this file as a program; it imports what it needs, becomes another user where it can, and obeys one
JSON line at a time. It knows no secret: what it has seen is searched when the deed is done.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STRANGER = 65534
"""The user id that it takes, if root starts it."""
ADDRESSES = ("127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", ":: alone")
"""Where one could listen to be taken for us; `:: alone` without IPv4."""
WAYS: dict[str, tuple[int, ...]] = {
    "plainly": (),
    "with REUSEADDR": (socket.SO_REUSEADDR,),
    "with REUSEPORT": (socket.SO_REUSEPORT,),
    "with both": (socket.SO_REUSEADDR, socket.SO_REUSEPORT),
}


class Neighbour:
    """The other user, for as long as this lasts."""

    def __init__(self, *, as_ourselves: bool = False) -> None:
        self._words = ["--as-ourselves"] if as_ourselves else []

    def __enter__(self) -> Neighbour:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.neighbour", *self._words],
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        with self.process as process:
            process.kill()

    def order(self, what: str, **details: Any) -> Any:
        """Let it do something, and return what came of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"what": what, **details}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


# -- the program


class Program:
    """What it holds and has seen."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self._seen: dict[str, None] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._counted = 0

    def serve(self) -> None:
        for line in sys.stdin:
            order = json.loads(line)
            done = getattr(self, order.pop("what"))(**order)
            print(json.dumps(done), flush=True)

    def who(self) -> int:
        return os.getuid()

    # -- ports

    def squat(self, port: int, address: str, way: str, *, listen: bool = True) -> str:
        """Take a port; return "" or the name of the error. What was taken is held."""
        alone = address == ":: alone"
        name = address.removesuffix(" alone")
        taken = socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET)
        try:
            if ":" in name:
                taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
            for option in WAYS[way]:
                taken.setsockopt(socket.SOL_SOCKET, option, 1)
            taken.bind((name, port))
            if listen:
                taken.listen()
        except OSError as error:
            taken.close()
            return errno.errorcode.get(error.errno or 0, "?")
        self._held.append(taken)
        return ""

    def listen(self) -> list[str]:
        """Listen with what is held."""
        said = []
        for held in self._held:
            try:
                held.listen()
                said.append("")
            except OSError as error:
                said.append(errno.errorcode.get(error.errno or 0, "?"))
        return said

    def let_go(self) -> None:
        for held in self._held:
            held.close()
        self._held.clear()

    def call_itself(self, name: str) -> None:
        """Have a name that shows in `ps`: any 15 bytes."""
        ctypes.CDLL(None).prctl(15, os.fsencode(name))

    def hammer(self, port: int) -> None:
        """Take the port and let it go, everywhere in turn, until `rest`."""

        def work() -> None:
            for address, way in itertools.cycle(itertools.product(ADDRESSES, WAYS)):
                if self._stop.is_set():
                    return
                self._counted += self.squat(port, address, way) == ""
                self.let_go()

        self._start(work)

    # -- looking

    def spy(self, folders: list[str]) -> None:
        """Read whatever can be read, again and again, until `rest`."""

        def work() -> None:
            while not self._stop.is_set():
                for piece in itertools.chain(self._processes(), self._folders(folders), self._kernel()):
                    self._seen[piece] = None
                self._counted += 1

        self._start(work)

    def found(self, secrets: list[str]) -> list[str]:
        """Say which of these were seen."""
        everything = "\n".join(self._seen)
        return [one for one in secrets if one in everything]

    def _processes(self) -> Iterator[str]:
        own = str(os.getpid())
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or process.name == own:
                continue
            for name in ("cmdline", "environ", "comm", "maps", "auxv", "stack", "syscall", "wchan", "io"):
                yield self._read(str(process / name))
            with suppress(OSError):
                for file in (process / "fd").iterdir():
                    yield self._read(str(file))
            yield self._read(str(process / "mem"))

    def _folders(self, folders: list[str]) -> Iterator[str]:
        for folder in folders:
            for above, names, files in os.walk(folder):
                yield " ".join(names)
                for name in files:
                    yield name
                    yield self._read(os.path.join(above, name))

    def _kernel(self) -> Iterator[str]:
        yield self._read("/proc/net/unix")
        with suppress(OSError):
            for name in os.listdir("/dev/shm"):
                yield name
                yield self._read(os.path.join("/dev/shm", name))

    def _read(self, path: str) -> str:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return ""
        try:
            return os.read(descriptor, 1 << 20).decode("latin-1")
        except OSError:
            return ""
        finally:
            os.close(descriptor)

    # -- swapping

    def swap(self, one: str, other: str) -> None:
        """Exchange two names (renameat2(2), RENAME_EXCHANGE), again and again, until `rest`."""
        libc = ctypes.CDLL(None, use_errno=True)
        arguments = (-100, os.fsencode(one), -100, os.fsencode(other), 2)

        def work() -> None:
            while not self._stop.is_set():
                self._counted += libc.renameat2(*arguments) == 0
                time.sleep(random.choice((0.0002, 0.002, 0.02)))

        self._start(work)

    # -- in the background

    def _start(self, work: Any) -> None:
        self._stop.clear()
        self._counted = 0
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def rest(self) -> int:
        """Stop, and return how often it was done."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        return self._counted


if __name__ == "__main__":
    if os.getuid() == 0 and "--as-ourselves" not in sys.argv:
        os.setgroups([])
        os.setresgid(STRANGER, STRANGER, STRANGER)
        os.setresuid(STRANGER, STRANGER, STRANGER)
        os.chdir("/")
    Program().serve()
