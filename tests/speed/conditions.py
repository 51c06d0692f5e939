"""Under which conditions something was measured, in one line."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from tests.speed.link import Link


def conditions(runs: int, link: Link | None = None) -> str:
    """Return the line; the round trip of a link is measured now."""
    today = datetime.datetime.now(datetime.UTC).date()
    said = (
        f"{today}, {os.cpu_count()} CPUs ({_processor()}), load {os.getloadavg()[0]:.1f}, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {runs} runs each, in turns."
    )
    if link is None:
        return said
    middle, longest = link.round_trip()
    return f"{said} Link: {link.kind}; a round trip takes {middle * 1000:.1f} ms (longest of 20: {longest * 1000:.1f})."


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
