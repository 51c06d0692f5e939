"""Processes that a tool left behind: found by the home they were given, which is a folder of the bench's own."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def end_all_in(home: Path) -> None:
    """End every process whose home is this folder, or one in it."""
    mark = f"HOME={home}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            if any(one == mark or one.startswith(mark + b"/") for one in variables):
                os.kill(int(process.name), signal.SIGKILL)
