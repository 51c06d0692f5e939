"""How the program speaks to people: on stderr, in one form, in colour on a terminal that has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import click


def colour(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether stderr is a terminal that shows colour, and nobody asked for none (NO_COLOR, TERM=dumb)."""
    return live(environ) and not environ.get("NO_COLOR")


def live(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether stderr is a terminal on which a line can be written over."""
    return sys.stderr.isatty() and environ.get("TERM") not in (None, "", "dumb")


def in_front() -> bool:
    """Whether this process is in the foreground of the terminal it writes to: after `&` and `bg` it is not."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (AttributeError, OSError):  # Windows; a terminal that is not this session's
        return True


def error(message: str, *hints: str) -> None:
    """Say what went wrong, and what to do or type next."""
    _say(_styled("error:", fg="red", bold=True) + f" {message}")
    for hint in hints:
        _say(_styled("hint:", fg="cyan") + f" {hint}")


def warning(message: str, *hints: str) -> None:
    """Say what is not as it should be, though it worked."""
    _say(_styled("warning:", fg="yellow") + f" {message}")
    for hint in hints:
        _say(_styled("hint:", fg="cyan") + f" {hint}")


def note(text: str = "") -> None:
    """Write a line for people."""
    click.echo(text, err=True, color=colour())


def bold(text: str) -> str:
    """Return `text` in bold where that can be seen."""
    return _styled(text, bold=True)


def good(text: str) -> str:
    """Return `text` in green where that can be seen."""
    return _styled(text, fg="green", bold=True)


def bad(text: str) -> str:
    """Return `text` in red where that can be seen."""
    return _styled(text, fg="red", bold=True)


def faint(text: str) -> str:
    """Return `text` less loud where that can be seen."""
    return _styled(text, dim=True)


def _say(text: str) -> None:
    click.echo(f"loopback-auth: {text}", err=True, color=colour())


def _styled(text: str, **style: object) -> str:
    return click.style(text, **style) if colour() else text  # type: ignore[arg-type]  # passed on as they are
