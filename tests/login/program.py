"""The real command in processes of its own: a clean environment, a browser that only writes down what it was given.

The test is the browser: it takes the address from the record and goes on from there, as far as it likes.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import loopback_auth

from ..ended import Ended

ROOT = Path(loopback_auth.__file__).resolve().parents[1]
MARKER = "s3kr1t-"
"""In every secret that a test makes up."""
MARKERS = (MARKER, *(base64.b64encode(b"\0" * n + MARKER.encode())[(0, 2, 3)[n] : 8].decode() for n in range(3)))
"""The marker as it is, and as it stands in base64, wherever it begins."""
PATIENCE = 30.0
"""Seconds for what takes less than one on an idle machine."""

_T = TypeVar("_T")
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
_BROWSER = """\
#!/bin/sh
cd '{folder}' || exit
cat /proc/$$/cmdline >argv
cat /proc/$$/environ >environ
ls -l /proc/$$/fd >files
: >done
"""

SEALED = b"loopback-auth sealed "
"""What a file begins with that nobody reads without its key."""


@dataclass(frozen=True)
class Opened:
    """What the browser was given: its arguments, its environment, and its open files."""

    arguments: list[str]
    environment: dict[str, str]
    files: list[str]

    @property
    def address(self) -> str:
        return self.arguments[-1]


class Running:
    """A command that runs: what it says, what it opens, and how it ends."""

    def __init__(self, process: asyncio.subprocess.Process, arguments: tuple[str, ...], folder: Path) -> None:
        self.process = process
        self._arguments = arguments
        self._folder = folder
        self._said = {1: bytearray(), 2: bytearray()}
        self._reading = [
            asyncio.create_task(self._read(stream, self._said[number]))
            for number, stream in ((1, process.stdout), (2, process.stderr))
        ]

    @property
    def stderr(self) -> str:
        return self._said[2].decode()

    @property
    def runs(self) -> bool:
        return self.process.returncode is None

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait until stderr matches."""
        return await self._until(lambda: re.search(pattern, self.stderr), f"it says {pattern!r}")

    async def opened(self) -> Opened:
        """Wait until the browser was opened, and return what it was given."""
        await self._until((self._folder / "done").exists, "the browser is opened")
        argv, environ = ((self._folder / name).read_bytes().split(b"\0")[:-1] for name in ("argv", "environ"))
        variables = (one.decode(errors="surrogateescape").partition("=") for one in environ)
        return Opened(
            arguments=[one.decode() for one in argv],
            environment={name: value for name, _, value in variables},
            files=re.findall(r" -> (.*)$", (self._folder / "files").read_text(), re.MULTILINE),
        )

    @property
    def was_opened(self) -> bool:
        return (self._folder / "done").exists()

    async def start_url(self) -> str:
        """Wait for the browser, and return the address it was given."""
        return (await self.opened()).address

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self, within: float = PATIENCE) -> Ended:
        """Wait until it has ended of its own."""
        async with asyncio.timeout(within):
            status = await self.process.wait()
            await asyncio.gather(*self._reading)
        return Ended(status, self._said[1].decode(), self._said[2].decode(), self._arguments)

    async def stop(self) -> Ended:
        """End it by force, if it still runs."""
        with suppress(ProcessLookupError):
            self.process.kill()
        return await self.end()

    async def _read(self, stream: asyncio.StreamReader | None, into: bytearray) -> None:
        assert stream is not None
        while piece := await stream.read(65536):
            into += piece

    async def _until(self, reached: Callable[[], _T | None], what: str) -> _T:
        deadline = time.monotonic() + PATIENCE
        while not (found := reached()):
            assert self.runs, f"ended with {self.process.returncode} before {what}: {self.stderr}"
            assert time.monotonic() < deadline, f"waited in vain until {what}: {self.stderr}"
            await asyncio.sleep(0.01)
        return found


@dataclass
class Program:
    """`loopback-auth` on a machine of its own: home folder, sandbox port, environment; and all it ever printed."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    """What must never be printed, beside `MARKER`: values that were made up elsewhere."""
    outputs: list[Ended] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    """Every port that was listened on for this test by a process that must be gone at its end."""

    def __post_init__(self) -> None:
        self.sandbox_port = self.free_port()
        self.home = self.folder / "home"
        self._counter = itertools.count(1)
        self.environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error,ignore::ResourceWarning",  # what ends with its process is closed
            "LOOPBACK_AUTH_HOME": str(self.home),
            "LOOPBACK_AUTH_SANDBOX_PORT": str(self.sandbox_port),
        }

    def free_port(self) -> int:
        """A port that is free on both families, from below those that the kernel hands out on its own."""
        while True:
            port = random.randint(10_000, 32_000)
            if port not in self.ports and all(_is_free(host, port) for host in ("127.0.0.1", "::1")):
                self.ports.add(port)
                return port

    def words(self, *arguments: str) -> list[str]:
        """The words of a command line."""
        return [sys.executable, "-m", "loopback_auth", *arguments]

    @asynccontextmanager
    async def start(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> AsyncIterator[Running]:
        """Run a command while this lasts. `before` runs in the new process, before the program."""
        folder = self.folder / f"browser-{next(self._counter)}"
        folder.mkdir()
        browser = folder / "browser"
        browser.write_text(_BROWSER.format(folder=folder))
        browser.chmod(0o700)
        process = await asyncio.create_subprocess_exec(
            *self.words(*arguments),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=self.environment | {"BROWSER": str(browser)} | dict(environment or {}),
            preexec_fn=before,
        )
        running = Running(process, arguments, folder)
        if process.stdin is not None:
            process.stdin.write(stdin or b"")
            process.stdin.close()
        try:
            yield running
        finally:
            ended = await running.stop()
            self.outputs.append(ended)
            if running.was_opened and (port := urlsplit((await running.opened()).address).port):
                self.ports.add(port)

    async def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
        within: float = PATIENCE,
    ) -> Ended:
        """Run a command to its end, `within` so many seconds. `$BROWSER` may not be opened by it."""
        async with self.start(*arguments, stdin=stdin, environment=environment, before=before) as running:
            ended = await running.end(within)
            assert not running.was_opened, f"a browser was opened by {arguments}"
            return ended

    def tokens(self, account: str = "default") -> Tokens:
        """What is stored of an account."""
        return Tokens.read(self.home / "accounts" / account / "tokens")

    def files(self) -> dict[str, bytes]:
        """Every file below the home folder, and what is in it."""
        found = (path for path in self.home.rglob("*") if path.is_file())
        return {str(path.relative_to(self.home)): path.read_bytes() for path in found}

    def complaints(self) -> list[str]:
        """Whatever is wrong with all that was printed, and with what is left of the processes: best none."""
        found = [f"{name} of {pid} remains" for pid, name in self.processes().items()]
        found += [f"port {port} is still listened on" for port in sorted(self.ports & listening())]
        plain = [path for path in self.home.glob("accounts/*/tokens") if not path.read_bytes().startswith(SEALED)]
        stored = [Tokens.read(path) for path in plain]
        hidden = {*MARKERS} | self.secrets | {one for tokens in stored for one in tokens.secrets}
        for ended in self.outputs:
            shown = ended.stderr if _shows_token(ended.arguments) else ended.stdout + ended.stderr
            found += [f"{ended.arguments} printed {secret!r}" for secret in hidden if secret in shown]
            found += [f"{ended.arguments}: {line}" for line in ended.stderr.splitlines() if _is_accident(line)]
        return found

    async def settled(self) -> None:
        """Wait for a browser that still writes its record."""
        for _ in range(300):
            if not self.processes():
                return
            await asyncio.sleep(0.01)

    def processes(self) -> dict[int, str]:
        """Processes that have this home in their environment: commands, and browsers that they opened."""
        mark = f"LOOPBACK_AUTH_HOME={self.home}\0".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    found[int(process.name)] = (process / "comm").read_text().strip()
        return found


@dataclass(frozen=True)
class Tokens:
    """An account's file, read without the package's own code."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    members: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Tokens:
        _head, access_token, text = path.read_text().split("\n", 2)
        members = json.loads(text)
        return cls(access_token or members["access_token"], members["refresh_token"], members)

    @property
    def secrets(self) -> set[str]:
        return {one for one in (self.access_token, self.refresh_token) if one}


def listening() -> set[int]:
    """Every port that any process on this machine listens on (proc(5))."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A":
                found.add(int(columns[1].rpartition(":")[2], 16))
    return found


def command_lines() -> bytes:
    """What `ps` shows of all processes: their arguments."""
    found = b""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += process.read_bytes() + b"\n"
    return found


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _shows_token(arguments: tuple[str, ...]) -> bool:
    return arguments[0] == "token" or "--print-token" in arguments


def _is_accident(line: str) -> bool:
    return "Traceback" in line or "Exception ignored" in line or "Warning:" in line or "error: unexpected" in line
