"""Sending the person's browser to an address, without a shell and without waiting for it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping

from loopback_auth.text import printable

SECRET_VARIABLES = ("LOOPBACK_AUTH_CLIENT_SECRET", "LOOPBACK_AUTH_STORE_KEY")
"""Never handed to a child."""

_GRAPHICAL = ("xdg-open", "x-www-browser", "firefox", "chromium", "google-chrome", "firefox-esr")


def open_browser(
    url: str, *, environ: Mapping[str, str] = os.environ, hide: tuple[str, ...] = SECRET_VARIABLES
) -> str | None:
    """Open `url` in the system browser and return None, or return in a few words why there is none.

    `$BROWSER`, when set, is always used: split into words, the address its last one (or in place of `%s`). The child
    is on its own: own session, no standard streams, no file of ours, and no variable named in `hide`. That it was
    started does not mean that a page was shown.
    """
    command = browser_command(environ)
    if isinstance(command, str):
        return command
    command = [word.replace("%s", url) for word in command] if "%s" in command else [*command, url]
    if os.name == "nt" and command[0] == "":
        os.startfile(url)  # type: ignore[attr-defined,unused-ignore]  # noqa: S606 (Windows only: its way to open an address)
        return None
    try:
        subprocess.Popen(  # noqa: S603 (an argument list, never a shell; the address was made by us)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={name: value for name, value in environ.items() if name not in hide},
        ).returncode = 0  # nobody waits for it: keeps the object from warning that the child still runs
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "not a command"
        return f"{printable(command[0], 60)} did not start: {reason}"
    return None


def browser_command(environ: Mapping[str, str]) -> list[str] | str:
    """Return the words that start the browser, or why there is none."""
    if environ.get("BROWSER", "").strip():
        try:
            return shlex.split(environ["BROWSER"])
        except ValueError:
            return "$BROWSER is not a command line"
    if sys.platform == "darwin":
        return ["/usr/bin/open"]
    if os.name == "nt":
        return [""]
    if not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        return "no display here"
    for name in _GRAPHICAL:
        if found := shutil.which(name, path=environ.get("PATH")):
            return [found]
    return "no browser found here"
