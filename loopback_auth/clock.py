"""The clocks: one that people set, and one that only ever runs on. The second counts a token's age.

On the way of every `token`, so nothing but `time` is imported.
"""

from __future__ import annotations

import time
from typing import NamedTuple

NO_BOOT = "-"


class Moment(NamedTuple):
    """A point in time that survives jumps of the wall clock: Unix seconds, and seconds of uptime within one boot."""

    unix: float
    boot_id: str
    """Names the boot; "-" where the system does not say, and then `uptime` means nothing."""
    uptime: float
    """Seconds since that boot, suspend included."""


def now() -> Moment:
    """Return the present on both clocks."""
    boot = _boot_id()
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) if boot != NO_BOOT else 0.0
    return Moment(time.time(), boot, uptime)


def seconds_between(earlier: Moment, later: Moment) -> float:
    """Return the seconds from `earlier` to `later`; negative where only the wall clock tells, and it was set back."""
    if earlier.boot_id == later.boot_id != NO_BOOT:
        return later.uptime - earlier.uptime
    return later.unix - earlier.unix


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(36).decode("ascii") or NO_BOOT
    except OSError:
        return NO_BOOT
