"""People at real browsers: each sits down at a window that `onboard` has opened, and logs in as the page expects."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from ..browsers.attach import attach, profiles
from ..browsers.browser import Browser, BrowserError, BrowserMissing
from ..browsers.processes import command_line, process_ids

Habit = Literal["allow", "deny", "mistype", "lie", "close"]
"""What a person does: Allow; Deny; first a wrong password; log in as somebody else; close the window at once."""

COMMANDS = {
    "chromium": (
        "chromium", "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server",
        "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
    ),
    "firefox": ("firefox-esr", "--headless", "--remote-debugging-port=0"),
}  # fmt: skip
LIAR = "cafe-roma", "espresso"
PASSWORD = "practice"


def command(kind: str) -> list[str]:
    """Return the words for `--browser`; without that browser, skip the test on a person's machine and fail it in CI."""
    program, *flags = COMMANDS[kind]
    found = shutil.which(program) or shutil.which(kind)
    if found is None:
        reason = str(BrowserMissing(program))
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return [found, *flags]


@dataclass
class Sitting:
    """One window, and what its person met there."""

    user_id: str = ""
    first_page: str = ""
    seconds: float = 0.0
    """What the person took: from the first look at the login page to Allow, waiting for pages included."""
    trouble: str | None = None


@dataclass
class People:
    """Whoever sits down at windows; each in a task of its own."""

    folder: Path
    """Where the program makes the profiles of its windows."""
    habits: dict[str, Habit] = field(default_factory=dict)
    """By user id; the others log in and allow."""
    sittings: list[Sitting] = field(default_factory=list)
    _known: set[Path] = field(default_factory=set)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Sit down at every window that opens while this lasts."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            if self.folder.exists():
                with suppress(FileNotFoundError):  # a profile that is being deleted
                    for profile in profiles(self.folder):
                        if profile not in self._known:
                            self._known.add(profile)
                            self._tasks.append(asyncio.create_task(self._sit_down(profile)))
            await asyncio.sleep(0.02)

    async def _sit_down(self, profile: Path) -> None:
        sitting = Sitting()
        self.sittings.append(sitting)
        browser: Browser | None = None
        try:
            browser = await attach(profile)
            await self._log_in(browser, profile, sitting)
        except (BrowserError, TimeoutError, OSError, RuntimeError) as error:  # its window was taken away
            sitting.trouble = f"{type(error).__name__}: {str(error)[:300]}"
        finally:
            if browser is not None:
                await browser.close()

    async def _log_in(self, browser: Browser, profile: Path, sitting: Sitting) -> None:
        await browser.wait_for(css="h1", within=60)
        began = time.monotonic()
        sitting.first_page = await browser.text()
        await browser.wait_for(css="#user_id")
        sitting.user_id = user_id = str(await browser.execute("return document.querySelector('#user_id').value"))
        habit = self.habits.get(user_id, "allow")
        if habit == "close":
            close_by_hand(profile)
            return
        if habit == "mistype":
            await browser.fill("#password", "s3kr1t-wrong")
            await browser.click("button.primary")
            await browser.wait_for(text="That password is not right")
        who, password = LIAR if habit == "lie" else (user_id, PASSWORD)
        await browser.fill("#user_id", who)
        await browser.fill("#password", password)
        await browser.click("button.primary")
        await browser.wait_for(css="button[value=allow]")
        sitting.seconds = time.monotonic() - began
        await browser.click(f"button[value={'deny' if habit == 'deny' else 'allow'}]")


def close_by_hand(profile: Path) -> None:
    """End the browser of a profile as its window's own button does."""
    for pid in process_ids():
        words = command_line(pid).split(b"\0")
        ours = os.fsencode(profile)
        if any(ours in word for word in words) and not any(
            word.startswith((b"--type=", b"-contentproc")) for word in words
        ):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
