"""Where a tool finds a browser to open, which only says what address it was given: that takes a millisecond or two."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

_SCRIPT = """\
#!/bin/sh
printf '%s\\n' "$1" >'{}'
"""
_NAMES = (
    "xdg-open",
    "open",
    "x-www-browser",
    "www-browser",
    "sensible-browser",
    "firefox",
    "google-chrome",
    "chromium",
)


class NobodyCameError(Exception):
    """What the person waited for did not happen."""


class Desktop:
    """Where tools find a browser to open: `$BROWSER` and the names that systems have for it. One login at a time."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "programs"
        self.programs.mkdir()
        told = folder / "told"
        os.mkfifo(told)
        script = self.programs / "browser"
        script.write_text(_SCRIPT.format(told))
        script.chmod(0o700)
        for name in _NAMES:
            (self.programs / name).symlink_to(script)
        self.command = str(script)
        self._told = os.open(told, os.O_RDWR | os.O_NONBLOCK)
        self._read = b""

    def close(self) -> None:
        os.close(self._told)

    def address(self, ended: int, deadline: float) -> tuple[str, float]:
        """Wait for the address; return it, and when it came. Raises NobodyCameError if `ended` is readable first."""
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._told, ended], [], [], max(0.0, deadline - time.monotonic()))
            now = time.monotonic()
            if self._told in ready:
                self._read += os.read(self._told, 65536)
            elif ended in ready:
                raise NobodyCameError("it ended without opening a browser")
            else:
                raise NobodyCameError("it opened no browser in time")
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(), now
