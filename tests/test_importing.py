"""Imports in threads: one at a time."""

from __future__ import annotations

import asyncio
import time

from loopback_auth.importing import imported


async def test_one_at_a_time() -> None:
    """Two imports never run side by side: each could be handed what the other has half made."""
    running = most = 0

    def work() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.03)
        running -= 1
        return most

    assert await asyncio.gather(*(imported(work) for _ in range(4))) == [1, 1, 1, 1]


async def test_the_loop_goes_on() -> None:
    """Whoever imports does not keep the event loop."""
    importing = asyncio.create_task(imported(lambda: time.sleep(0.2)))
    turns = 0
    while not importing.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert turns > 5
