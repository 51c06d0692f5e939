"""Work that no caller can stop: in a thread with an event loop of its own, one for each key, shared by all who ask.

A caller may be cancelled, its event loop may end, the interpreter may be leaving: the work goes on, and the process
stays until it is done. Only while nobody wants it any more is it asked to stop, and it does where nothing was sent.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")
_guard = threading.Lock()
_shared: dict[Hashable, _Work[Any]] = {}
_under_way: set[_Work[Any]] = set()


async def shared(key: Hashable, begin: Callable[[], Coroutine[Any, Any, _T]]) -> tuple[_T, bool]:
    """Join the work that is under way for `key`, or begin it. Returns its result, and whether it was begun here.

    Raises what it raises, to everybody who joined.
    """
    with _guard:
        work = _shared.get(key)
        begun = work is None
        if work is None:
            work = _shared[key] = _Work(key, begin)
        work.callers += 1
    try:
        if begun:
            work.start()
        return await asyncio.wrap_future(work.result), begun
    finally:
        with _guard:
            work.callers -= 1
            if not work.callers:
                work.abandon()


async def settled() -> None:
    """Wait until no work is under way. A cancellation is raised afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while _under_way:
        waiting = [asyncio.wrap_future(work.result) for work in list(_under_way)]
        for future in waiting:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # its callers are told of it
        try:
            await asyncio.wait(waiting)
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


class _Work(Generic[_T]):
    def __init__(self, key: Hashable, begin: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self.result: Future[_T] = Future()
        self.result.set_running_or_notify_cancel()  # from here on no caller's cancellation reaches it
        self.callers = 0
        self._key = key
        self._begin = begin
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[_T] | None = None
        self._abandoned = False

    def start(self) -> None:
        """Begin. Not a daemon: the interpreter waits for it before it leaves."""
        try:
            threading.Thread(target=self._run, name="loopback-auth").start()
        except BaseException as error:  # there is no room for another thread, or the interpreter is leaving
            self._end(self.result.set_exception, error)
            raise
        with _guard:
            if not self.result.done():
                _under_way.add(self)

    def abandon(self) -> None:
        """Ask it to stop, and let the next caller begin anew. Call it holding the guard."""
        if _shared.get(self._key) is self:
            del _shared[self._key]
        self._abandoned = True
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # its loop has just ended
                self._loop.call_soon_threadsafe(self._task.cancel)

    def _run(self) -> None:
        try:
            self._end(self.result.set_result, asyncio.run(self._main()))
        except BaseException as error:  # whatever it is, nobody waits for ever
            self._end(self.result.set_exception, error)

    async def _main(self) -> _T:
        with _guard:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            abandoned = self._abandoned
        if abandoned:
            raise asyncio.CancelledError
        return await self._begin()

    def _end(self, tell: Callable[[Any], None], outcome: object) -> None:
        with _guard:
            tell(outcome)
            _under_way.discard(self)
            if _shared.get(self._key) is self:
                del _shared[self._key]


def _forget() -> None:
    """In a forked child the threads are gone, and so is their work."""
    global _guard
    _guard = threading.Lock()
    _shared.clear()
    _under_way.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
