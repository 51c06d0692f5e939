"""Spending what works once, a code or a refresh token: send once → stage → judge → commit.

Login and refresh share it. Both have proven the store, made the connection and armed the journal before; from there on
nothing here is for anybody to cancel.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress

from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import Overtaken, StoreBusy, StoreNotWritable, TokenEndpointError, TokenEndpointUnreachable
from loopback_auth.oauth.token import TokenRequest, TokenSet, parse_token_response
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Journal, Lock
from loopback_auth.usable import LOCK_TIMEOUT

LOOK = 0.1
"""Seconds between two looks at whether another process is done, at most."""


async def spend(
    token_endpoint: TokenEndpoint,
    request: TokenRequest,
    journal: Journal,
    *,
    commit: Callable[[TokenSet], Awaitable[Account]],
    check: Callable[[], None] = lambda: None,
    answered: Callable[[], None] = lambda: None,
    again_before: float | None = None,
) -> Account:
    """Send `request` and return what `commit` made durable of the answer. The journal must be armed.

    `check` is called at the last moment, and raises Overtaken where it must not be sent any more. It is sent once;
    `again_before` is for codes, see `TokenEndpoint.send`. `answered` is called once the answer is
    staged. `commit` also clears the journal, while it holds the account's lock. Cancelling the caller stops nothing:
    the cancellation is raised when the tokens are safe. Raises what `send`, `parse_token_response` and `commit` raise;
    after an OutcomeUnknown, and where the commit failed, the journal stays for whoever opens it next.
    """

    async def finish() -> Account:
        try:
            check()
            answer = await token_endpoint.send(request, journal.stage, again_before=again_before)
            with suppress(StoreNotWritable):  # the answer is in memory still: the commit shows what the disk is worth
                journal.sync()
            answered()
            tokens = parse_token_response(answer)
        except (Overtaken, TokenEndpointUnreachable, TokenEndpointError):  # not spent by this, or refused for good
            with suppress(StoreNotWritable):  # in doubt then: the next command asks once more, and is told the same
                journal.withdraw()
            raise
        return await commit(tokens)

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
async def locked(
    store: Accounts, name: str, timeout: float = LOCK_TIMEOUT, lock: AbstractContextManager[Lock] | None = None
) -> AsyncIterator[Journal]:
    """Hold the account's lock, and the journal of its refreshes, opened.

    `lock` is used if it was taken before. Whoever sends keeps the journal shut for as long as it lives: so a lock file
    that somebody deleted lets nobody send a second time. Raises StoreBusy when it takes more than `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = 0.005
    with lock or store.lock(name) as held, store.journal(name) as journal:
        while not (held.try_acquire() and journal.try_open()):
            if time.monotonic() >= deadline:
                raise StoreBusy(
                    f"another process is working on account {name} and does not finish",
                    hint="nothing was spent; try again, or look for a loopback-auth process that hangs",
                )
            await _news(journal.news, pause)
            pause = min(pause * 2, LOOK)
        journal.tidy()
        yield journal


async def _news(descriptor: int | None, seconds: float) -> None:
    """Wait until the descriptor can be read, where there is one, `seconds` at most."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    try:
        if descriptor is not None:
            loop.add_reader(descriptor, news.set)
    except NotImplementedError:  # Windows: its loop watches no descriptors, so it is looked again and again
        descriptor = None
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), seconds)
    finally:
        if descriptor is not None:
            loop.remove_reader(descriptor)
