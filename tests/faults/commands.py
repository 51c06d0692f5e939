"""The real command in real processes, for the fault suite."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.ended import Ended

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_LOCK = """
from loopback_auth.store.lock import FileLock

def try_acquire(self):
    if self._descriptor is None:
        self._descriptor = self._open()
    return True

FileLock.try_acquire = try_acquire
from loopback_auth.cli.main import main
main()
"""
"""The command, with a lock that excludes nobody."""


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOPBACK_AUTH_")}
    return {**kept, "PYTHONPATH": str(ROOT), "LOOPBACK_AUTH_HOME": str(home), "BROWSER": "/bin/false"}


def start(home: Path, *arguments: str, program: str | None = None, store: Path | None = None) -> subprocess.Popen[str]:
    """Start `loopback-auth` with these arguments, or `program` as Python in its place."""
    chosen = {} if store is None else {"LOOPBACK_AUTH_STORE": f"file:{store}"}
    words = ["-m", "loopback_auth"] if program is None else ["-c", program]
    return subprocess.Popen(
        [sys.executable, *words, *arguments],
        env=environment(home) | chosen,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], timeout: float = 60) -> Ended:
    """Wait for a command, and return what it said."""
    stdout, stderr = process.communicate(timeout=timeout)
    return Ended(process.returncode, stdout, stderr)


def run(home: Path, *arguments: str, store: Path | None = None) -> Ended:
    return end(start(home, *arguments, store=store))


def until(what: Callable[[], object], seconds: float = 20) -> None:
    """Wait until a function says yes."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
