"""Faults on request: what a client must survive."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from .conftest import Start
from .visitor import Log, answered, refused


async def test_500_spends_nothing(start: Start, log: Log) -> None:
    """With `500` the first token request fails and the code is still good for the second."""
    visitor = await start(faults="500", fault_count=1)
    code = await visitor.code()
    assert (await visitor.exchange(code)).status == 500
    assert log[-1].words == "answered 500 as asked for; nothing is spent"
    assert not log[-1].ok
    answered(await visitor.exchange(code))


async def test_drop_spends(start: Start, log: Log) -> None:
    """With `drop` the code is spent and no answer comes."""
    visitor = await start(faults="drop", fault_count=1)
    code = await visitor.code()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await visitor.exchange(code)
    assert log[-1].status == 0
    assert log[-1].words.startswith("no answer was sent, as asked for; what was lost: code exchanged")
    refused(await visitor.exchange(code), 400, "invalid_grant")


async def test_drop_spends_refresh_token(start: Start) -> None:
    """With `drop` at the second request a refresh token is spent and its successor lost."""
    visitor = await start(faults="none")
    token = (await visitor.tokens())["refresh_token"]
    await visitor.sandbox.stop()
    other = await start(faults="drop", fault_count=1)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await other.refresh(token)
    refused(await other.refresh(token), 400, "invalid_grant")


async def test_slow(start: Start, log: Log) -> None:
    """With `slow` the answer is good and comes late, while other requests are answered meanwhile."""
    visitor = await start(faults="slow", slow_seconds=0.4, fault_count=1)
    code = await visitor.code()
    begun = time.monotonic()
    exchange = asyncio.create_task(visitor.exchange(code))
    await asyncio.sleep(0.05)
    assert (await visitor.company()).status == 401
    assert time.monotonic() - begun < 0.3
    tokens = answered(await exchange)
    assert time.monotonic() - begun >= 0.4
    assert log[-1].words.endswith("held back for 0.4 s as asked for")
    begun = time.monotonic()
    answered(await visitor.refresh(tokens["refresh_token"]))
    assert time.monotonic() - begun < 0.3


async def test_slow_has_spent_already(start: Start) -> None:
    """A client that gives up on a slow answer has lost the code."""
    visitor = await start(faults="slow", slow_seconds=30, fault_count=1)
    code = await visitor.code()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(visitor.exchange(code), 0.2)
    refused(await visitor.exchange(code), 400, "invalid_grant")


async def test_always(start: Start) -> None:
    """Without a count the fault never ends."""
    visitor = await start(faults="500")
    for _ in range(3):
        assert (await visitor.refresh("x")).status == 500


async def test_count(start: Start) -> None:
    """A count of two ends after two token requests; pages do not count."""
    visitor = await start(faults="500", fault_count=2)
    await visitor.code()
    assert [(await visitor.refresh("x")).status for _ in range(3)] == [500, 500, 400]
