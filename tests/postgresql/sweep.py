"""Ends the servers of the tests and deletes what they leave; run as a program, when the process that started it ends.

Nothing is ended by name. Each backend of PostgreSQL leads a session of its own, and outlives a killed server while it
is busy or stopped; but all of them work in their data folder, and /proc knows that.

Standard library only: as a program it runs outside of any environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def processes(folder: Path) -> list[int]:
    """The ids of all processes that work in this folder or below it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            place = os.readlink(entry / "cwd")
        except OSError:  # ended, a zombie, or another user's
            continue
        if Path(place.removesuffix(" (deleted)")).is_relative_to(folder):
            found.append(int(entry.name))
    return found


def send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kill(folder: Path, within: float = 30) -> None:
    """End all processes that work in this folder, stopped ones too, and wait until they are gone."""
    deadline = time.monotonic() + within
    while alive := processes(folder):
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes do not end: {alive}")
        send(signal.SIGKILL, alive)
        time.sleep(0.005)


def delete(folder: Path) -> None:
    """End what works in this folder, delete it, and the shared memory that its killed servers left."""
    kill(folder)
    for pid_file in (*folder.glob("data/postmaster.pid"), *folder.glob("*/data/postmaster.pid")):
        identity = pid_file.read_text().splitlines()[6:7]  # "key id" of System V's
        if identity and len(numbers := identity[0].split()) == 2:
            subprocess.run(["ipcrm", "--shmem-id", numbers[1]], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(folder)


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    sys.stdin.buffer.read()
    delete(Path(sys.argv[1]))
