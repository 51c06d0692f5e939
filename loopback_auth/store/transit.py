"""What a record says while its account moves from one store to another: a few words in the place of its name.

No account can be called so. Whoever finds such a record, this version or an older one, takes it for a copy and spends
nothing from it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from loopback_auth.store.base import Account
from loopback_auth.text import printable


@dataclass(frozen=True, slots=True)
class Transit:
    """One end of one move."""

    way: Literal["leaving", "arriving"]
    number: str
    """Of the move: both ends have the same."""
    other: str
    """The address of the store at the other end."""

    def __str__(self) -> str:
        return f"{self.way} {self.number} {self.other}"

    @property
    def words(self) -> str:
        """What is happening to the account, for people."""
        where = "to" if self.way == "leaving" else "here from"
        return f"is being moved {where} {printable(self.other)}, and has not arrived yet"

    def command(self, name: str, here: str) -> str:
        """Return what to type to finish it; `here` is the address of the store with this record."""
        source, target = (here, self.other) if self.way == "leaving" else (self.other, here)
        return copy_command(source, target, name)


def transit_of(account: Account | None) -> Transit | None:
    """Return the end of the move that this record is, None where it is none."""
    match ((account and account.stored_as) or "").split(" ", 2):
        case ["leaving" | "arriving" as way, number, other]:
            return Transit("leaving" if way == "leaving" else "arriving", number, other)
    return None


def copy_command(source: str, target: str, name: str) -> str:
    """Return what to type to move an account, or to finish that."""
    return f"loopback-auth store copy {shlex.quote(printable(source))} {shlex.quote(printable(target))} {name}"
