"""Which claim a process of this machine holds: a file with its name, locked for as long as that process lives.

So a process that is killed leaves no lease to be waited for on its own machine; others wait, they cannot know.
"""

from __future__ import annotations

import os
from contextlib import suppress

from loopback_auth import files
from loopback_auth.errors import StoreError
from loopback_auth.files import OPEN, check
from loopback_auth.store.lock import let_go, take
from loopback_auth.store.network import network_file_system


class Mark:
    """At a path in a private folder. Without a disk it cannot be made, and the lease alone counts."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def make(self, claim: str) -> None:
        """Say, before it is made, that this process holds a claim."""
        with suppress(OSError, StoreError):
            if self._descriptor is None:
                files.make_folder(*os.path.split(os.path.dirname(self._path)))
                descriptor = os.open(self._path, OPEN | os.O_CREAT, 0o600)
                check(os.fstat(descriptor), self._path)
                if not take(descriptor, self._path):
                    os.close(descriptor)
                    return
                self._descriptor = descriptor
            os.pwrite(self._descriptor, claim.encode("ascii"), 0)

    def is_left(self, claim: str) -> bool:
        """Whether a process of this machine had this claim, and has ended.

        Never on a network file system: there the file may be another machine's, whose lock is not seen here.
        """
        if network_file_system(self._path) is not None:
            return False
        with suppress(OSError, StoreError):
            descriptor = os.open(self._path, OPEN)
            try:
                check(os.fstat(descriptor), self._path)
                return take(descriptor, self._path) and os.pread(descriptor, 64, 0) == claim.encode("ascii")
            finally:
                let_go(descriptor)
        return False

    def let_go(self) -> None:
        """Hold nothing any more; what the file says stays, for a claim that could not be let go."""
        if self._descriptor is not None:
            let_go(self._descriptor)
            self._descriptor = None
