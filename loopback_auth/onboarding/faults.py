"""What is wrong with a manifest, line by line, and how it is said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from loopback_auth.errors import ConfigurationError
from loopback_auth.text import printable

SHOWN = 20
"""Faults that are said at most; `ManifestInvalid.faults` holds them all."""


class Fault(NamedTuple):
    """What is wrong on one line, counted from 1. `why` is printable, lower case, without a full stop."""

    line: int
    why: str


class ManifestInvalid(ConfigurationError):
    """A manifest that cannot be used: nobody was logged in. `faults` holds all that is wrong, by line.

    A single one is the message; of several the hints say each.
    """

    def __init__(self, source: str, faults: Iterable[Fault], *, hint: str | tuple[str, ...] = ()) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults))
        where = printable(source)
        said = [f"line {line}: {why}" for line, why in self.faults]
        others = (hint,) if isinstance(hint, str) else hint
        if len(said) == 1:
            super().__init__(f"{where}, {said[0]}", hint=others)
        else:
            more = [f"and {len(said) - SHOWN} more"] if len(said) > SHOWN else []
            super().__init__(f"{where} has {len(said)} faults", hint=(*said[:SHOWN], *more, *others))
