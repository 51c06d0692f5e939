"""Where things are kept: one folder if `LOOPBACK_AUTH_HOME` says so, else where the platform keeps such things.

On the way of every `token`, so nothing but `os` and `sys` is imported.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as mypy knows it: `typing` takes 5 ms
if TYPE_CHECKING:
    from collections.abc import Mapping


def home(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return `LOOPBACK_AUTH_HOME` as an absolute path, None where it is not set."""
    folder = environ.get("LOOPBACK_AUTH_HOME")
    return os.path.abspath(os.path.expanduser(folder)) if folder else None


def configuration(environ: Mapping[str, str] = os.environ) -> str:
    """Return the folder of `config.toml`."""
    return home(environ) or _platform(environ, "XDG_CONFIG_HOME", ".config")


def data(environ: Mapping[str, str] = os.environ) -> str:
    """Return the folder of `secrets/`, `certificate/` and `sandbox/`."""
    return home(environ) or _platform(environ, "XDG_DATA_HOME", ".local/share")


def accounts(environ: Mapping[str, str] = os.environ) -> str:
    """Return the folder of the file store: `LOOPBACK_AUTH_STORE=file:/folder`, else `accounts` in the data folder."""
    chosen = environ.get("LOOPBACK_AUTH_STORE", "")
    if chosen.startswith("file:") and chosen != "file:":
        return os.path.abspath(os.path.expanduser(chosen[5:]))
    return os.path.join(data(environ), "accounts")


def _platform(environ: Mapping[str, str], variable: str, usual: str) -> str:
    join = os.path.join
    user = os.path.expanduser("~")
    if not os.path.isabs(user):  # no HOME and no name, as in a container: never a folder called ~ wherever we are
        user = os.path.abspath(os.sep)
    if sys.platform == "win32":
        return join(environ.get("LOCALAPPDATA") or join(user, "AppData", "Local"), "loopback-auth")
    if sys.platform == "darwin":
        return join(user, "Library", "Application Support", "loopback-auth")
    chosen = environ.get(variable, "")
    return join(chosen if chosen.startswith("/") else join(user, usual), "loopback-auth")  # XDG: absolute, or ignored
