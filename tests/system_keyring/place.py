"""The keyring store for the suite in tests/conformance: on the keyring of files, which many processes share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from loopback_auth.oauth.token import ANSWER_LIMIT
from loopback_auth.store.keyring import KeyringStore
from tests.conformance.place import Place
from tests.system_keyring.backends import items


class KeyringPlace(Place):
    """A folder for what is no secret, and the items beside it."""

    answer_limit = ANSWER_LIMIT

    @classmethod
    def session(cls, _folder: Path) -> AbstractContextManager[None]:
        return _chosen()

    def open(self, machine: str = "one") -> KeyringStore:
        return KeyringStore("keyring:", str(self._accounts), service=self._service)

    def damage(self, name: str) -> None:
        (items(self._service) / name).write_text("nonsense")

    @property
    def _accounts(self) -> Path:
        return self.folder / "stores" / "keyring=3a"

    @property
    def _service(self) -> str:
        return f"loopback-auth accounts in {self._accounts}"


@contextmanager
def _chosen() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHON_KEYRING_BACKEND", "tests.system_keyring.backends.Works")
        patch.setattr("keyring.core._keyring_backend", None)
        yield
