"""Which program holds a port: for people who must stop it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from loopback_auth.text import printable


def who_holds(port: int) -> str:
    """Return words for the program that listens on `port`: name and process id where the system tells (Linux)."""
    for inode, uid in _listeners(port):
        for links in Path("/proc").glob("[0-9]*/fd"):
            with contextlib.suppress(OSError):
                if any(_target(link) == f"socket:[{inode}]" for link in links.iterdir()):
                    process = links.parent
                    name = process.joinpath("comm").read_text(errors="replace").strip()  # any bytes can be one
                    return f"{printable(name, 40)} (process {process.name})"
        return "a program of this user" if uid == os.getuid() else f"a program of user {_user(uid)}"
    return "another program"


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _listeners(port: int) -> list[tuple[str, int]]:
    """Inode and user id of each listening socket on `port`, from the kernel's tables (proc(5))."""
    found: list[tuple[str, int]] = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    found.append((fields[9], int(fields[7])))
    return found


def _user(uid: int) -> str:
    import pwd  # absent on Windows, where nothing comes here

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
