"""Importing what takes long in a thread, so that the event loop goes on: one thread at a time.

Two threads that import from one package at once can be handed half-made modules: where they wait for each other in a
circle, importlib lets one go on regardless.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_turn = threading.Lock()


async def imported(imports: Callable[[], _T]) -> _T:
    """Return what `imports` returns; it imports something, in a thread, alone."""

    def alone() -> _T:
        with _turn:
            return imports()

    try:
        return await asyncio.to_thread(alone)
    except RuntimeError:  # there are no more threads: the interpreter is ending, or the system has none left
        return alone()
