"""What is wrong with a manifest, line by line, and how it is said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from loopback_auth.errors import ConfigurationError
from loopback_auth.text import printable


class Fault(NamedTuple):
    """What is wrong on one line, counted from 1. `why` is printable, lower case, without a full stop."""

    line: int
    why: str


class ManifestInvalid(ConfigurationError):
    """A manifest that cannot be used: nobody was logged in. `faults` holds all that is wrong, by line.

    A single one is the message; of several the message is their number.
    """

    def __init__(self, source: str, faults: Iterable[Fault], *, hint: str | tuple[str, ...] = ()) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults))
        where = printable(source)
        if len(self.faults) == 1:
            super().__init__(f"{where}, line {self.faults[0].line}: {self.faults[0].why}", hint=hint)
        else:
            super().__init__(f"{where} has {len(self.faults)} faults: nothing was opened", hint=hint)
