"""`Place`: all that the suite must know of a store to check it. `example.py` has a store with its place.

A class that derives from `Place` is named to the suite as `mypackage.mymodule:MyPlace`. It is made anew for each test
and in each process of that test, always with the same folder where it is about the same store.
"""

from __future__ import annotations

import contextlib
import importlib
from contextlib import AbstractContextManager
from pathlib import Path

from loopback_auth.store.base import STAGE_LIMIT, Store


class NotPossible(Exception):
    """The place cannot do that to its store: the tests that need it are skipped."""


class Place:
    """Where one store is kept. Nothing but `open` must be written; what cannot be done is left as it is here."""

    answer_limit = STAGE_LIMIT
    """Bytes of an answer that are kept; `ANSWER_LIMIT` where the store needs the rest for itself, to seal them say."""

    def __init__(self, folder: Path) -> None:
        """`folder` is empty where the store is new, and holds what the place has put there where it is not."""
        self.folder = folder

    @classmethod
    def session(cls, _folder: Path) -> AbstractContextManager[None]:
        """Return what is to last while all tests of this store run, a database server say.

        It is entered once, before the suite starts any process: what it puts into `os.environ`, those find there.
        """
        return contextlib.nullcontext()

    def open(self, machine: str = "one") -> Store:
        """Open the store as a new process would that runs on this machine.

        Machines are told apart where the store is `shared`: "two" is opened then, and only then. Some twenty processes
        have it open at once.
        """
        raise NotImplementedError  # the one thing that every place must write

    def close(self) -> None:
        """Remove what is not in the folder. Called once, after the test, when all its processes have ended."""

    def damage(self, name: str) -> None:
        """Make the account's record one that nobody can read any more, as an editor or a bad disk would."""
        raise NotPossible

    def unavailable(self) -> AbstractContextManager[None]:
        """Let nothing be written while this lasts, by whichever process: the disk is full, the server gone."""
        raise NotPossible

    def after_lease(self) -> None:
        """Return once nothing is held any more by processes that were killed before.

        That is at once where the operating system says who lives. A store that can only wait makes that short: by a
        lease of a second in its place, or by changing what is written there of when the lease began.
        """


def place_called(name: str) -> type[Place]:
    """Return the class called `module:name`."""
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute or "place")
    assert isinstance(found, type), f"{name} is no class"
    assert issubclass(found, Place), f"{name} does not derive from tests.conformance.place.Place"
    return found
