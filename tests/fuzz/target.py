"""What a parser's fuzzing is: inputs, what must hold for each, and cases that once went wrong or nearly did."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hypothesis.strategies import SearchStrategy

from loopback_auth.errors import LoopbackAuthError

MARK = "s3kr1t-"
"""In every secret of an input: it may stand in nothing that is said."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Target(Generic[_T]):
    """One parser. `check` raises where something does not hold, and returns whether the input was parsed."""

    name: str
    inputs: SearchStrategy[_T]
    check: Callable[[_T], bool]
    kept: tuple[_T, ...] = ()
    """Cases that are always tried: what was found, and what is worth knowing."""
    share: float = 0.1
    """Of the inputs that must be parsed at least, else nothing deep is tried."""
    examples: int = 100
    large: tuple[Callable[[int], _T], ...] = ()
    """Inputs of about so many bytes, whose time must grow no faster than they do."""
    limit: int = 0
    """Bytes that such an input has at most: more never gets as far as the parser."""


class ToldSecretError(AssertionError):
    """An error repeats a secret of the input."""


def parsed(
    parse: Callable[[], _R], *kinds: type[LoopbackAuthError], hidden: tuple[str, ...] = ()
) -> tuple[bool, _R | None]:
    """Return whether it parsed, and as what. Anything but one of our errors, well said, is a defect.

    `hidden` is what must not be said beside what holds `MARK`.
    """
    try:
        return True, parse()
    except LoopbackAuthError as error:
        if kinds and not isinstance(error, kinds):
            raise
        well_said(error, hidden)
        return False, None


def well_said(error: LoopbackAuthError, hidden: tuple[str, ...] = ()) -> None:
    """An error is one line of printable ASCII, as is each of its hints; none repeats a secret, nor does its repr."""
    lines = [str(error), *error.hint]
    for line in lines:
        assert line, "an empty line is said"
        line = line.replace("…", "...")  # of our own hints
        assert line.isascii(), f"not ASCII: {line!a}"
        assert line.isprintable(), f"not printable: {line!a}"
        assert len(line) < 1000, f"{len(line)} characters in one line"
    members = "".join(f"{value!r}" for value in vars(error).values())
    told = "\n".join([*lines, repr(error), members])
    for secret in (MARK, *filter(None, hidden)):
        if secret in told:
            raise ToldSecretError(f"it tells a secret: {told!a}")


def tells_nothing(value: object) -> None:
    """What was parsed shows no secret in its repr, nor in an f-string."""
    assert MARK not in f"{value!r}{value}", "its repr tells a secret"


def last_lines(error: BaseException) -> str:
    """Return an exception in one line, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "loopback_auth" in frame.filename] or frames
    where = f"{ours[-1].filename.rpartition('loopback_auth/')[2]}:{ours[-1].lineno}" if ours else "nowhere"
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''} ({where})"
