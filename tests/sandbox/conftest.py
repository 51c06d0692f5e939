"""Fixtures of the sandbox's tests: a running sandbox in a folder of its own, its log, its clock, a visitor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopback_auth.sandbox import Sandbox, SandboxSettings

from .visitor import Clock, Log, Visitor

Start = Callable[..., Awaitable[Visitor]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return []


@pytest.fixture
def settings(tmp_path: Path) -> SandboxSettings:
    return SandboxSettings(folder=tmp_path / "sandbox", port=0)


@pytest.fixture
async def start(settings: SandboxSettings, clock: Clock, log: Log) -> AsyncIterator[Start]:
    """Start a sandbox whose settings differ from the usual ones, and return a visitor to it."""
    async with AsyncExitStack() as stack:

        async def starting(**changes: Any) -> Visitor:
            sandbox = Sandbox(replace(settings, **changes), log.append, clock=clock)
            await stack.enter_async_context(sandbox)
            return await stack.enter_async_context(Visitor(sandbox))

        yield starting


@pytest.fixture
async def visitor(start: Start) -> Visitor:
    return await start()
