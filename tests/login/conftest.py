"""Fixtures of the login's tests: a machine to run the command on, and servers to log in to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopback_auth.sandbox import Sandbox, SandboxSettings

from .program import Program
from .strict import StrictServer


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    """The command; after the test nothing of it may run, listen, or have shown a secret."""
    program = Program(tmp_path)
    yield program
    await program.settled()
    assert program.complaints() == []


@pytest.fixture
async def server(program: Program) -> AsyncIterator[StrictServer]:
    """A strict authorization server with a public client."""
    async with StrictServer(secrets=program.secrets) as server:
        yield server
    assert server.complaints == []


@pytest.fixture
async def sandbox(program: Program) -> AsyncIterator[Sandbox]:
    """A sandbox that runs already, at the port where `login --server sandbox` looks for one."""
    settings = SandboxSettings(folder=program.home / "sandbox", port=program.sandbox_port)
    async with Sandbox(settings) as sandbox:
        yield sandbox
