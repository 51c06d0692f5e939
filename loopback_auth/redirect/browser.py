"""Sending the person's browser to an address, without a shell and without waiting for it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping

from loopback_auth.text import printable

SECRET_VARIABLES = ("LOOPBACK_AUTH_CLIENT_SECRET", "LOOPBACK_AUTH_STORE_KEY", "LOOPBACK_AUTH_STORE", "PGPASSWORD")
"""Never handed to a child."""

_GRAPHICAL = ("xdg-open", "x-www-browser", "firefox", "chromium", "google-chrome", "firefox-esr")


def open_browser(
    url: str, *, environ: Mapping[str, str] = os.environ, hide: tuple[str, ...] = SECRET_VARIABLES
) -> subprocess.Popen[bytes] | str | None:
    """Open `url` in the system browser, or return in a few words why there is none.

    `$BROWSER`, when set, is always used: split into words, the address its last one (or in place of `%s`). The child
    is on its own: own session, no standard streams, no file of ours, and no variable named in `hide`. That it was
    started does not mean that a page was shown. Returned is its process, where there is one.
    """
    command = browser_command(environ)
    if isinstance(command, str):
        return command
    if os.name == "nt" and command[0] == "":
        os.startfile(url)  # type: ignore[attr-defined,unused-ignore]  # noqa: S606 (Windows only: its way to open an address)
        return None
    return started(command, url, environ, hide)


def started(
    command: list[str], url: str, environ: Mapping[str, str], hide: tuple[str, ...] = SECRET_VARIABLES
) -> subprocess.Popen[bytes] | str:
    """Start a command on its own as `open_browser` does, `url` its last word or in place of `%s`; or say why not."""
    in_place = [word.replace("%s", url) for word in command]
    command = in_place if in_place != command else [*command, url]
    try:
        return subprocess.Popen(  # noqa: S603 (an argument list, never a shell; the address was made by us)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={name: value for name, value in environ.items() if name not in hide},
        )
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "not a command"
        return f"{printable(command[0], 60)} did not start: {reason}"


def browser_command(environ: Mapping[str, str]) -> list[str] | str:
    """Return the words that start the browser, or why there is none."""
    if environ.get("BROWSER", "").strip():
        try:
            return shlex.split(environ["BROWSER"])
        except ValueError:
            return "$BROWSER is not a command line"
    import shutil  # 2 ms, and not with $BROWSER

    if environ.get("WSL_DISTRO_NAME"):
        return _windows_browser(environ)
    if environ.get("SSH_CONNECTION") and not environ.get("DISPLAY"):
        return "this is an SSH session"
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


def _windows_browser(environ: Mapping[str, str]) -> list[str] | str:
    """WSL: Windows has the browser, and reaches our loopback server at its own `localhost`."""
    import shutil

    if found := shutil.which("wslview", path=environ.get("PATH")):
        return [found]
    if found := shutil.which("rundll32.exe", path=environ.get("PATH")):
        return [found, "url.dll,FileProtocolHandler"]
    return "Windows' programs are not on the PATH"


def forwarding_command(host: str, port: int, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the `ssh -L` line to type on the computer this SSH session comes from; None outside one.

    `host` is the redirect URI's. Who and where we are is taken from the session (sshd(8): SSH_CONNECTION).
    """
    connection = environ.get("SSH_CONNECTION", "").split()
    if len(connection) != 4:
        return None
    _, _, address, ssh_port = connection
    user = environ.get("USER") or environ.get("LOGNAME") or "USER"
    inner = f"[{host}]" if ":" in host else host
    other_port = "" if ssh_port == "22" else f"-p {printable(ssh_port, 5)} "
    return f"ssh -L {port}:{inner}:{port} {other_port}{printable(user, 40)}@{printable(address, 60)}"
