"""Driving a browser that the program under test has started, with `--remote-debugging-port=0` among its words.

The browser tells its port in its profile folder. Closing what `attach` returns leaves the browser running.
"""

import asyncio
import json
import time
from pathlib import Path

from .browser import Browser
from .chromium import Chromium
from .firefox import Firefox

CHROMIUM_PORT = "DevToolsActivePort"
FIREFOX_PORT = "WebDriverBiDiServer.json"


async def attach(profile: Path, within: float = 30) -> Browser:
    """Drive the browser that uses `profile`, on the first of its tabs. Raises TimeoutError while it tells no port."""
    deadline = time.monotonic() + within
    while (port := _port(profile)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the browser of {profile} tells no port within {within} s")
        await asyncio.sleep(0.02)
    return await (Chromium if (profile / CHROMIUM_PORT).exists() else Firefox).attach(port)


async def attach_to_next(folder: Path, known: set[Path], within: float = 30) -> Browser:
    """Drive the browser of the next profile made in `folder`; `known` holds those that came before, and then it too."""
    deadline = time.monotonic() + within
    while not (new := [profile for profile in profiles(folder) if profile not in known]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no browser was opened with a profile in {folder} within {within} s")
        await asyncio.sleep(0.02)
    known.add(new[0])
    return await attach(new[0], within)


def profiles(folder: Path) -> list[Path]:
    """Return the profiles in a folder, oldest first."""
    found = [entry for entry in folder.glob("*") if entry.is_dir()]
    return sorted(found, key=lambda profile: (profile / "loopback-auth.lock").stat().st_mtime_ns)


def _port(profile: Path) -> int | None:
    """Return the port once it is written whole."""
    try:
        if (told := profile / CHROMIUM_PORT).exists():
            return int(told.read_text().split("\n")[0])
        return int(json.loads((profile / FIREFOX_PORT).read_text())["ws_port"])
    except (OSError, ValueError, KeyError):
        return None
