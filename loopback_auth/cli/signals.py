"""Running a use-case so that Ctrl-C, SIGTERM and SIGHUP end it in order: cancelled, cleaned up, exit status 128 + N."""

from __future__ import annotations

import signal
import sys
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from loopback_auth.cli import voice
from loopback_auth.cli.main import unexpected
from loopback_auth.errors import StoreError

if TYPE_CHECKING:
    import asyncio

_T = TypeVar("_T")

SIGNALS = (signal.SIGINT, signal.SIGTERM) if sys.platform == "win32" else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a program in order."""


class Interrupted(Exception):
    """A signal ended the program: its `number`, and in words what that leaves behind."""

    def __init__(self, number: int, words: str = "interrupted") -> None:
        super().__init__(words)
        self.number = number


def _deaf(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Let no further signal disturb what an end in order has to do; the program ends now."""
    for number in SIGNALS:
        if loop is not None and sys.platform != "win32":
            loop.remove_signal_handler(number)  # or closing it would put the default back
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def raised(words: str) -> Iterator[None]:
    """Let a signal raise Interrupted while this lasts, wherever the program is and no event loop runs."""

    stopped: list[int] = []

    def stop(number: int, _frame: object) -> None:
        _deaf()
        stopped.append(number)
        if len(stopped) == 1:  # else it came just before
            raise Interrupted(number, words)

    before = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is not None}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup
            signal.signal(number, stop)
    try:
        yield
    except Interrupted:
        raise  # the program ends now, and says so once
    except BaseException:
        _restore(before)
        raise
    _restore(before)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` in an event loop of its own; a signal cancels it, and Interrupted is raised when it has ended."""
    import asyncio  # not before a browser is told

    from loopback_auth.background import settled

    _log_in_one_form()
    caught: list[int] = []
    early: list[int] = []

    async def main() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 (we are in one)

        def stop(number: int) -> None:
            caught.append(number)
            task.cancel()

        if sys.platform != "win32":  # there Ctrl-C arrives as KeyboardInterrupt, and cancels as well
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                    loop.add_signal_handler(number, stop, int(number))
        if early:
            stop(early[0])
        try:
            return await work
        finally:
            await settled()  # a refresh under way is finished first, however often somebody presses Ctrl-C
            if caught:
                _deaf(loop)

    try:
        with _noted(early):
            return asyncio.run(main())
    except asyncio.CancelledError:
        raise Interrupted(caught[0] if caught else int(signal.SIGINT)) from None
    except StoreError:
        if caught:  # while it waited for a store, which no signal interrupts
            raise Interrupted(caught[0]) from None
        raise


@contextmanager
def _noted(early: list[int]) -> Iterator[None]:
    """Note signals until the loop hears them itself: one that raised while a loop is made would leave half of it."""

    def note(number: int, _frame: object) -> None:
        early.append(number)

    before = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is not None}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN and sys.platform != "win32":
            signal.signal(number, note)
    try:
        yield
    finally:
        _restore({number: handler for number, handler in before.items() if signal.getsignal(number) is note})


def _log_in_one_form() -> None:
    """Let an exception that a library logs, or a thread ends in, be said as all others are.

    A traceback would show its message, and that of every exception before it. Who sets logging up gets what they want.
    """
    import logging
    import threading

    def ended(thread: threading.ExceptHookArgs) -> None:
        if thread.exc_value is not None:
            voice.error(*unexpected(thread.exc_value))

    threading.excepthook = ended

    usual = logging.lastResort

    class OneForm(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                voice.error(*unexpected(record.exc_info[1]))
            elif usual is not None:
                usual.emit(record)

    logging.lastResort = OneForm(logging.WARNING)
