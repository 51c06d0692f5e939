"""Under which conditions something was measured, in one line."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from tests.speed.link import Link


def conditions(link: Link, runs: int) -> str:
    """Return the line; the round trip in it is measured now."""
    middle, longest = link.round_trip()
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}, {os.cpu_count()} CPUs ({_processor()}), load {os.getloadavg()[0]:.1f}, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {runs} runs each, in turns. "
        f"Link: {link.kind}; a round trip takes {middle * 1000:.1f} ms (longest of 20: {longest * 1000:.1f})."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
