"""Spending what works once, a code or a refresh token: prove → send once → judge → commit. Login and refresh share it.

Between the request leaving and the tokens being durable nothing else happens here, and no caller can cancel it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import StoreBusy
from loopback_auth.oauth.token import TokenRequest, TokenSet, parse_token_response
from loopback_auth.store.base import Account, Store

LOCK_TIMEOUT = 20.0
"""Seconds to wait for another process that holds the account's lock."""


async def spend(
    token_endpoint: TokenEndpoint,
    request: TokenRequest,
    *,
    commit: Callable[[TokenSet], Awaitable[Account]],
    answered: Callable[[], None] = lambda: None,
) -> Account:
    """Send `request` once and return what `commit` made durable of the answer.

    `answered` is called between the two. Cancelling the caller stops neither: the cancellation is raised when the
    tokens are safe. Raises what `send`, `parse_token_response` and `commit` raise.
    """

    async def finish() -> Account:
        answer = await token_endpoint.send(request)
        answered()
        return await commit(parse_token_response(answer))

    spending = asyncio.create_task(finish())
    cancelled: asyncio.CancelledError | None = None
    while not spending.done():
        try:
            await asyncio.wait({spending})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        spending.exception()
        raise cancelled
    return spending.result()


@asynccontextmanager
async def locked(store: Store, name: str, timeout: float = LOCK_TIMEOUT) -> AsyncIterator[None]:
    """Hold the account's lock. Raises StoreBusy when its holder does not let go within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    with store.lock(name) as lock:
        while not lock.try_acquire():
            if time.monotonic() >= deadline:
                raise StoreBusy(
                    f"another process is working on account {name} and did not finish within {timeout:.0f} s",
                    hint="nothing was spent; try again, or look for a loopback-auth process that hangs",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)
        yield
