"""How a run gets on, as server-sent events: all rows, then those that change, then the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from loopback_auth.onboarding.rows import Row, Rows, Watch

LIMIT = 4
"""Streams at once: a browser opens six connections to one host, and its buttons need some too."""
HEARTBEAT = 2.0
"""Seconds of silence at most: only who is written to is noticed to be gone."""
PAUSE = 0.05
"""Seconds between two events: what changes meanwhile goes into one."""
RETRY = 1000
"""Milliseconds until a browser that was cut off comes again."""


class Streams:
    """The event streams of one run. Of too many the newest stay, and each that has to go is told so."""

    def __init__(self, rows: Rows, title: str) -> None:
        self._rows = rows
        self._hello = f"retry: {RETRY}\n".encode() + _event("run", {"title": title})
        self._live: list[_Stream] = []
        self._over: bytes | None = None

    def __len__(self) -> int:
        return len(self._live)

    @property
    def is_over(self) -> bool:
        """Whether the run is."""
        return self._over is not None

    async def open(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes for one browser. It counts as open from the first of them until the generator is closed."""
        with self._rows.watched() as watch:
            stream = _Stream(watch)
            for old in self._live[: 1 - LIMIT]:
                old.end(_event("elsewhere", ""))
                self._live.remove(old)
            self._live.append(stream)
            if self._over is not None:
                stream.end(self._over)
            try:
                yield self._hello
                async with aclosing(stream.pieces()) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                if stream in self._live:
                    self._live.remove(stream)

    def finish(self, words: str) -> None:
        """Say that the run is over, to those who watch and to who comes later; each gets the last changes first."""
        self._over = _event("over", words)
        for stream in self._live:
            stream.end(self._over)


def _event(name: str, told: object) -> bytes:
    """Return one event; JSON in ASCII holds no line end that could begin another."""
    return f"event: {name}\ndata: {json.dumps(told)}\n\n".encode("ascii")


_STILL_HERE = _event("still here", "")  # a comment would do for us, but the page would not hear of it


class _Stream:
    """One browser's."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._last: bytes | None = None

    def end(self, last: bytes) -> None:
        """Let `last` be the last event, once what has changed was told."""
        self._last = last
        self._watch.wake()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    changed = await self._watch.changes()
            except TimeoutError:
                yield _STILL_HERE
                continue
            last = self._last  # what changes from here on comes before an end that is said from here on
            if changed:
                yield _event("rows", [_described(row) for row in changed])
            if last is not None:
                yield last
                return
            await asyncio.sleep(PAUSE)


def _described(row: Row) -> dict[str, Any]:
    return row.describe() | {
        "number": row.number,
        "steps": row.steps,
        "start_url": row.start_url,
        "is_settled": row.is_settled,
    }
