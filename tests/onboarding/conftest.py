"""Fixtures of onboarding's tests: a machine whose `$BROWSER` is a person that logs in as the page expects."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ..browsers.fixtures import browser, browser_options, chromium, firefox
from ..login.conftest import program
from ..login.program import PATIENCE, Program
from . import visitor

__all__ = ["browser", "browser_options", "chromium", "firefox", "onboarder", "program"]


class Onboarder:
    """The command, a manifest, and who sits at the browser."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._plan = program.folder / "plan.json"
        self._log = program.folder / "visits"
        self.plan: dict[str, dict[str, Any]] = {}
        """User id → what is done differently: see `visitor.py`."""
        self.manifest = program.folder / "accounts.csv"

    def write(self, *rows: str) -> None:
        """Write the manifest: lines of CSV."""
        write_manifest(self.manifest, *rows)

    @property
    def visits(self) -> list[str]:
        """As whom a window was to be logged in to, in order."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    @property
    def environment(self) -> dict[str, str]:
        self._plan.write_text(json.dumps(self.plan))
        return {
            "BROWSER": shlex.join([sys.executable, visitor.__file__]),
            "VISITOR_PLAN": str(self._plan),
            "VISITOR_LOG": str(self._log),
        }


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not reached():  # noqa: ASYNC110 (what is waited for is in other processes)
            await asyncio.sleep(0.01)


def sent_home(program: Program) -> None:
    """End the people who still wait: a command of `$BROWSER` is on its own."""
    for process in program.processes():
        os.kill(process, signal.SIGKILL)


def write_manifest(file: Path, *rows: str) -> None:
    file.write_text("\n".join(["account,client,company_id,login,notes", *rows]) + "\n")


@pytest.fixture
async def onboarder(program: Program) -> AsyncIterator[Onboarder]:
    """A machine with an empty home, and a person at its browser."""
    yield Onboarder(program)
