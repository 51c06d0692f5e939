"""A stand-in for the system browser: `$BROWSER` of the program under test.

It notes what it was handed and is gone, like a starter of a browser that runs already; a test then opens the address in
the real browser of its choice.
"""

import asyncio
import shlex
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# The kernel's own record of what the program was started with, byte for byte; the rename makes it appear whole.
SCRIPT = """#!/bin/sh
PATH=/usr/bin:/bin
cd {folder} || exit
mkdir "$$.part" && cat "/proc/$$/cmdline" > "$$.part/argv" && cat "/proc/$$/environ" > "$$.part/environ" &&
exec mv "$$.part" "$$.opened"
"""


@dataclass(frozen=True)
class Opening:
    """One call of the stand-in: what anybody who can list processes could have seen, and its environment."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: Path

    @property
    def address(self) -> str:
        """The last argument."""
        return self.arguments[-1]


class Opener:
    """Where the stand-in's notes arrive. `command` is the value for `$BROWSER`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._awaited = 0
        script = folder / "open"
        script.write_text(SCRIPT.format(folder=shlex.quote(str(folder))))
        script.chmod(stat.S_IRWXU)
        self.command = str(script)

    @property
    def openings(self) -> list[Opening]:
        """All calls so far, in order."""
        folders = sorted(self._folder.glob("*.opened"), key=lambda folder: (folder / "environ").stat().st_mtime_ns)
        return [read(folder) for folder in folders]

    async def opening(self, within: float = 15) -> Opening:
        """Wait for the next call, the first one included if it came already; raises TimeoutError."""
        deadline = time.monotonic() + within
        while len(openings := self.openings) <= self._awaited:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no browser was opened within {within} s (calls before: {self._awaited})")
            await asyncio.sleep(0.02)
        self._awaited += 1
        return openings[self._awaited - 1]

    async def address(self, within: float = 15) -> str:
        """Wait for the next call and return the address it was handed."""
        return (await self.opening(within)).address


@contextmanager
def open_with() -> Iterator[Opener]:
    """Provide a `$BROWSER` command in a folder of its own, deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="opener-") as folder:  # no space in it: `$BROWSER` may be split at spaces
        yield Opener(Path(folder))


def read(folder: Path) -> Opening:
    """Read one call's notes."""
    # argv holds the interpreter and the script before the arguments proper
    arguments = (folder / "argv").read_bytes().split(b"\0")[2:-1]
    pairs = (folder / "environ").read_bytes().split(b"\0")[:-1]
    return Opening(
        arguments=tuple(argument.decode(errors="surrogateescape") for argument in arguments),
        environment=dict(pair.decode(errors="surrogateescape").split("=", 1) for pair in pairs),
        folder=folder,
    )
