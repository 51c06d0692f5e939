"""Fixtures of the tests on terminals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..browsers.fixtures import browser, browser_options, opener
from .machine import Machine, SandboxProcess

__all__ = ["browser", "browser_options", "opener"]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine on which nothing was ever logged in."""
    machine = Machine(tmp_path)
    yield machine
    machine.close()


@pytest.fixture(scope="session")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SandboxProcess]]:
    """Sandboxes by their arguments: each starts once, and runs until the last test."""
    running: dict[tuple[str, ...], SandboxProcess] = {}

    def sandbox(*arguments: str) -> SandboxProcess:
        if arguments not in running:
            running[arguments] = SandboxProcess.start(tmp_path_factory.mktemp("sandbox"), *arguments)
        running[arguments].forget()
        return running[arguments]

    yield sandbox
    for one in running.values():
        one.close()


@pytest.fixture
def sandbox(machine: Machine, sandboxes: Callable[..., SandboxProcess]) -> SandboxProcess:
    """A sandbox that behaves, and that `--server sandbox` leads to."""
    sandbox = sandboxes()
    machine.at(sandbox)
    return sandbox
