"""A browser's processes and folder: started apart from ours, ended together, nothing left.

A browser is many processes, some of which leave their parent's group; all of them stay in the session (setsid) of the
first or name the profile folder in their arguments. /proc knows both, so nothing is ever ended by program name.
"""

import asyncio
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# What a browser needs from our environment; no proxy, display, session bus or secret gets through.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ", "FONTCONFIG_FILE", "FONTCONFIG_PATH")


class Processes:
    """The processes of one browser and the scratch folder they share."""

    def __init__(self, home: Path | None) -> None:
        # Not pytest's tmp_path: Chromium puts a socket below TMPDIR, whose path may have 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="browser-")).resolve()
        self.profile = self.folder / "profile"
        self.log = self.folder / "log"
        self.home = home or self.folder / "home"
        for folder in (self.profile, self.home, self.folder / "tmp", self.folder / "run"):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._started: asyncio.subprocess.Process | None = None

    async def start(self, command: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        """Start the first process as leader of a session of its own, its output going to `log`."""
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= {
            "HOME": str(self.home),
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",  # else a session bus may be started, and outlive us
        }
        with self.log.open("wb") as log:
            self._started = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment | dict(extra or {}),
                cwd=self.folder,
                start_new_session=True,
            )

    async def says(self, pattern: str, within: float = 30) -> str:
        """Wait until the output matches `pattern`; return its first group."""
        deadline = time.monotonic() + within
        while True:
            said = self.log.read_text(errors="replace")
            if match := re.search(pattern, said):
                return match[1]
            ended = self._started is None or self._started.returncode is not None
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"{'ended' if ended else 'silent'} without {pattern!r}: {said[-2000:]}")
            await asyncio.sleep(0.02)

    def alive(self) -> list[int]:
        """Return the ids of all processes of this browser that still run."""
        session = self._started.pid if self._started else -1
        mark = str(self.folder).encode()
        return [pid for pid in process_ids() if session_of(pid) == session or mark in command_line(pid)]

    async def end(self) -> None:
        """End all processes, wait until they are gone, delete the folder. Any number of calls."""
        deadline = time.monotonic() + 15
        while alive := self.alive():
            for pid in alive:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes do not end: {alive}")
            await asyncio.sleep(0.01)
        if self._started:
            await self._started.wait()
        shutil.rmtree(self.folder, ignore_errors=not self.folder.exists())


def process_ids() -> list[int]:
    """Return the ids of all processes on this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def session_of(pid: int) -> int | None:
    """Return the session id of a process, None once it has ended (a zombie has)."""
    try:
        # "pid (name) state parent group session …", and the name may hold anything
        state, _parent, _group, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else int(session)


def command_line(pid: int) -> bytes:
    """Return the arguments of a process, empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
