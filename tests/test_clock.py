"""The clocks: a token's age survives jumps of the wall clock within one boot."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth import clock
from loopback_auth.clock import NO_BOOT, Moment, seconds_between


def test_now_tells_both_clocks() -> None:
    """The present: Unix seconds, the kernel's name of this boot, and seconds since then."""
    first, second = clock.now(), clock.now()
    assert abs(first.unix - time.time()) < 5
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    assert first.boot_id == (boot_id.read_text().strip() if boot_id.exists() else NO_BOOT)
    assert first.boot_id == second.boot_id
    assert 0 <= seconds_between(first, second) < 5
    assert " " not in first.boot_id


@pytest.mark.parametrize("jump", [0, 3600, -3600, 10 * 365 * 86400, -10 * 365 * 86400])
def test_jumps_of_the_wall_clock_do_not_count_within_a_boot(jump: float) -> None:
    """Within one boot the uptime counts, wherever somebody puts the hands of the wall clock."""
    assert seconds_between(Moment(1e9, "boot", 100.0), Moment(1e9 + jump, "boot", 160.0)) == 60


@pytest.mark.parametrize(("earlier", "later"), [("boot", "other"), (NO_BOOT, NO_BOOT), ("boot", NO_BOOT)])
@pytest.mark.parametrize("jump", [60, -60])
def test_across_boots_the_wall_clock_counts(earlier: str, later: str, jump: float) -> None:
    """Across boots, and where boots have no names, only the wall clock is left; set back, the age is negative."""
    assert seconds_between(Moment(1e9, earlier, 100.0), Moment(1e9 + jump, later, 5000.0)) == jump


MOMENTS = st.builds(Moment, st.integers(0, 10**10), st.sampled_from(["a", "b", NO_BOOT]), st.integers(0, 10**9))


@given(MOMENTS, MOMENTS)
def test_the_way_back_is_as_long(one: Moment, other: Moment) -> None:
    """From one moment to another it is as far as back again."""
    assert seconds_between(one, other) == -seconds_between(other, one)
    assert seconds_between(one, one) == 0
