"""The clocks: one that people set, and one that only ever runs on. The second counts a token's age.

On the way of every `token`, so nothing but `time` is imported (`typing` alone takes 5 ms).
"""

from __future__ import annotations

import time

NO_BOOT = "-"


class Moment:
    """A point in time that survives jumps of the wall clock: Unix seconds, and seconds of uptime within one boot.

    `boot_id` names the boot; "-" where the system does not say, and then `uptime`, in seconds with suspend included,
    means nothing.
    """

    __slots__ = ("boot_id", "unix", "uptime")

    def __init__(self, unix: float, boot_id: str, uptime: float) -> None:
        self.unix = unix
        self.boot_id = boot_id
        self.uptime = uptime

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moment) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"Moment({self.unix!r}, {self.boot_id!r}, {self.uptime!r})"


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


def before(moment: Moment, seconds: float) -> Moment:
    """Return the moment that was so long before, on both clocks."""
    return Moment(moment.unix - seconds, moment.boot_id, moment.uptime - seconds)


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(36).decode("ascii") or NO_BOOT
    except OSError:
        return NO_BOOT
