"""One connection kept ready while a person logs in: made in advance, replaced before the server closes it.

Servers close idle connections after seconds, and some without telling. The next one is made before the last one is
let go. How many there can be is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from loopback_auth.endpoints.connection import IdleConnection
from loopback_auth.errors import TokenEndpointUnreachable

OLDEST = 8.0
"""Seconds after which a connection is replaced, though nobody has closed it."""
YOUNGEST = 0.5
"""Seconds that lie between two connections at least, however soon a server closes them."""
SHARE_OF_LIFE = 0.6
"""Of the shortest life seen: a server that closes after 5 s is left after 3."""
LIMIT = 60
"""Connections that are made in advance; after that, one is made when it is needed."""
UNACKNOWLEDGED = 0.8
"""Seconds after which the path of a kept connection counts as dead when nothing of the request arrives."""


class ReadyConnection:
    """Keeps a connection ready until it is taken."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[IdleConnection]],
        *,
        oldest: float = OLDEST,
        youngest: float = YOUNGEST,
        limit: int = LIMIT,
    ) -> None:
        self._connect = connect
        self._oldest = oldest
        self._youngest = youngest
        self._limit = limit
        self._current: IdleConnection | None = None
        self._making: asyncio.Task[IdleConnection] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once `keep` has the first one."""

    async def make(self) -> None:
        """Have a connection. Raises what making one raises."""
        self._current = await self._fresh()

    async def keep(self) -> None:
        """Have a connection, and a young one, until it is taken. Raises what making the first one raises."""
        self._keeping = asyncio.current_task()
        self._current = current = await self._fresh()
        self.made.set_result(None)
        oldest = self._oldest
        for _ in range(self._limit - 1):
            current.give_up_after(UNACKNOWLEDGED)
            lived = await _life(current, oldest)
            if lived is not None:
                oldest = min(oldest, max(lived * SHARE_OF_LIFE, self._youngest))
                await asyncio.sleep(max(self._youngest - lived, 0))
            try:
                fresh = await self._fresh()
            except TokenEndpointUnreachable:  # for the moment: whoever sends tries again, and says so
                await asyncio.sleep(self._oldest)
                continue
            current.transport.close()
            self._current = current = fresh
        current.give_up_after(UNACKNOWLEDGED)
        await _life(current, oldest)
        current.transport.close()

    async def take(self) -> IdleConnection:
        """Hand over a connection: the ready one, else the one that is being made, else a new one."""
        if self._keeping is not None:
            self._keeping.cancel()
        for _ in range(2):  # what has come by now, an end above all, is heard one turn of the loop later
            await asyncio.sleep(0)
        current, self._current = self._current, None
        if current is not None and current.is_open:
            return current
        begun_before = self._making
        try:
            return await self._fresh()
        except TokenEndpointUnreachable:  # of a try that may be 10 s old
            if begun_before is None:
                raise
        return await self._fresh()

    def close(self) -> None:
        """Let go of all that was not taken."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._current is not None:
            self._current.abort()
        if self._making is not None:
            self._making.add_done_callback(_abort)
            self._making.cancel()

    async def _fresh(self) -> IdleConnection:
        making = self._making = self._making or asyncio.create_task(_run(self._connect))
        try:
            made = await asyncio.shield(making)  # it is needed, though who asked first may not wait for it any more
        except asyncio.CancelledError:
            raise  # it stays, done or not, for whoever takes or closes
        except BaseException:
            self._making = None
            raise
        self._making = None
        return made


async def _run(connect: Callable[[], Awaitable[IdleConnection]]) -> IdleConnection:
    return await connect()


def _abort(making: asyncio.Task[IdleConnection]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().abort()


async def _life(connection: IdleConnection, oldest: float) -> float | None:
    """Wait until the connection is closed, and return for how many seconds it was open; None once it is `oldest`."""
    left = connection.made_at + oldest - time.monotonic()
    done, _ = await asyncio.wait({connection.closed}, timeout=max(left, 0))
    return time.monotonic() - connection.made_at if done else None
