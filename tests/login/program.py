"""The real command in processes of its own: a clean environment, a browser that only writes down what it was given.

The test is the browser: it takes the address from the record and goes on from there, as far as it likes.
"""

from __future__ import annotations

import asyncio
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
from typing import Any
from urllib.parse import urlsplit

import loopback_auth

ROOT = Path(loopback_auth.__file__).resolve().parents[1]
MARKER = "s3kr1t"
"""In every secret that a test makes up."""
PATIENCE = 30.0
"""Seconds for what takes less than one on an idle machine."""

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
_BROWSER = """\
#!/bin/sh
cd '{folder}' || exit
cat /proc/$$/cmdline >argv
cat /proc/$$/environ >environ
ls -l /proc/$$/fd >files
: >done
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended. Where it was asked to print an access token, `stdout` may hold one."""

    arguments: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    shows_token: bool = False

    @property
    def errors(self) -> list[str]:
        return re.findall(r"^loopback-auth: error: (.*)$", self.stderr, re.MULTILINE)

    @property
    def hints(self) -> list[str]:
        return re.findall(r"^loopback-auth: hint: (.*)$", self.stderr, re.MULTILINE)

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


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

    async def end(self, *, shows_token: bool = False) -> Ended:
        """Wait until it has ended of its own."""
        async with asyncio.timeout(PATIENCE):
            status = await self.process.wait()
            await asyncio.gather(*self._reading)
        return Ended(self._arguments, status, self._said[1].decode(), self._said[2].decode(), shows_token)

    async def stop(self) -> Ended:
        """End it by force, if it still runs."""
        with suppress(ProcessLookupError):
            self.process.kill()
        return await self.end()

    async def _read(self, stream: asyncio.StreamReader | None, into: bytearray) -> None:
        assert stream is not None
        while piece := await stream.read(65536):
            into += piece

    async def _until[T](self, reached: Callable[[], T], what: str) -> T:
        deadline = time.monotonic() + PATIENCE
        while not (found := reached()):
            assert self.runs, f"ended with {self.process.returncode} before {what}: {self.stderr}"
            assert time.monotonic() < deadline, f"waited in vain until {what}: {self.stderr}"
            await asyncio.sleep(0.01)
        return found
