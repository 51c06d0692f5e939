"""Running a use-case so that Ctrl-C, SIGTERM and SIGHUP end it in order: cancelled, cleaned up, exit status 128 + N."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from loopback_auth.background import settled

_T = TypeVar("_T")


class Interrupted(Exception):
    """A signal ended the program: its `number`, and in words what that leaves behind."""

    def __init__(self, number: int, words: str = "interrupted") -> None:
        super().__init__(words)
        self.number = number


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` in an event loop of its own; a signal cancels it, and Interrupted is raised when it has ended."""
    caught: list[int] = []

    async def main() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 (we are in one)

        def stop(number: int) -> None:
            caught.append(number)
            task.cancel()

        if sys.platform != "win32":  # there Ctrl-C arrives as KeyboardInterrupt, and cancels as well
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                    loop.add_signal_handler(number, stop, int(number))
        try:
            return await work
        finally:
            await settled()  # a refresh under way is finished first, however often somebody presses Ctrl-C

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise Interrupted(caught[0] if caught else int(signal.SIGINT)) from None
