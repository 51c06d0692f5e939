"""What others may have put in the place of a private file or folder, and the words that must follow."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

STRANGER = 65534
"""Another user id; only root can give a file away."""


def as_root() -> None:
    """Skip the test unless root runs it: only root can give a file to another user, or mount a file system."""
    if os.geteuid() != 0:
        pytest.skip("needs root: to give a file away, or to mount a small file system")


def symlink(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def hard_link(path: Path) -> None:
    path.with_name("second-name").hardlink_to(path)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def loose(path: Path) -> None:
    path.chmod(0o640)


def writable(path: Path) -> None:
    path.chmod(0o602)


def given_away(path: Path) -> None:
    as_root()
    os.chown(path, STRANGER, -1)


PLANTED: list[tuple[Callable[[Path], None], str, str]] = [
    (symlink, "{} cannot be opened: too many levels of symbolic links", "look at it: ls -l {}"),
    (hard_link, "{} has more than one name (hard links): this program did not make it so", "look at it: ls -l {}"),
    (fifo, "{} is not a regular file: this program did not make it so", "look at it: ls -l {}"),
    (folder, "{} is not a regular file: this program did not make it so", "look at it: ls -l {}"),
    (loose, "{} can be read or written by other users", "chmod 600 {}"),
    (writable, "{} can be read or written by other users", "chmod 600 {}"),
    (
        given_away,
        f"{{}} belongs to user id {STRANGER}, and this program runs as user id {os.getuid()}",
        "run it as that user, without sudo",
    ),
]


def run_hint(hint: str) -> None:
    """Type what the hint says."""
    subprocess.run(shlex.split(hint), check=True, stdin=subprocess.DEVNULL)


def names(path: Path) -> list[str]:
    """Return the names of all that is in a folder."""
    return sorted(one.name for one in path.iterdir())


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o7777:04o}"
