"""Network and mount namespaces of our own: made by a process for itself, and gone when the last process in them ends.

Root makes them as it is; anybody else makes a user namespace around them, where the kernel lets them.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

_NEWNS, _NEWUSER, _NEWNET = 0x00020000, 0x10000000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class NotPossibleError(Exception):
    """What this machine or this user is not allowed, in words."""


def enter_own() -> None:
    """Move this process, which has one thread, into a network and a mount namespace of its own, with loopback up."""
    user, group = os.geteuid(), os.getegid()
    flags = _NEWNET | _NEWNS
    if user == 0:
        _call("unshare", flags)
    else:
        _call("unshare", flags | _NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    run("mount", "--make-rprivate", "/")
    run("ip", "link", "set", "lo", "up")


def enter_other_network() -> None:
    """Move this process on into yet another network namespace, with loopback up."""
    _call("unshare", _NEWNET)
    run("ip", "link", "set", "lo", "up")


def join_network(process: int) -> None:
    """Move this process into the network namespace of another."""
    with Path(f"/proc/{process}/ns/net").open() as there:
        _call("setns", there.fileno(), _NEWNET)


def run(*command: str) -> None:
    """Run one command of the system's to its end. Raises NotPossibleError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise NotPossibleError(f"{command[0]} does not start: {os.strerror(error.errno or 0).lower()}") from error
    if done.returncode != 0:
        raise NotPossibleError(f"{' '.join(command)}: {done.stderr.strip()}")


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        raise NotPossibleError(f"{name}: {os.strerror(ctypes.get_errno()).lower()}")
