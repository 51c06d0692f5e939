"""The places of the project's own stores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from loopback_auth.oauth.token import ANSWER_LIMIT
from loopback_auth.store.base import Store
from loopback_auth.store.file import FileStore
from loopback_auth.store.keys import Keys
from loopback_auth.store.sealed import SealedStore
from tests.conformance.place import Place


class FilePlace(Place):
    """Account folders below the folder."""

    def open(self, machine: str = "one") -> Store:
        return FileStore(str(self.folder / "accounts"))

    def damage(self, name: str) -> None:
        (self.folder / "accounts" / name / "tokens").write_bytes(b"loopback-auth 1 - 1700")

    @contextlib.contextmanager
    def unavailable(self) -> Iterator[None]:
        accounts, away = self.folder / "accounts", self.folder / "away"
        accounts.mkdir(mode=0o700, exist_ok=True)
        accounts.rename(away)
        accounts.touch()  # modes do not keep root out, a file in the folder's place does
        try:
            yield
        finally:
            accounts.unlink()
            away.rename(accounts)


class SealedPlace(FilePlace):
    """The same, sealed."""

    answer_limit = ANSWER_LIMIT

    def open(self, machine: str = "one") -> Store:
        return SealedStore(super().open(machine), lambda: Keys(b"s3kr1t-k" * 4), allow_plain=False)
