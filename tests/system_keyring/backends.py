"""A keyring for tests, chosen by PYTHON_KEYRING_BACKEND, that works, fast and without a bus: items are files.

Those of a service that names a folder are in `items` in the home of that folder: so each home has its own.
Nothing here goes through what `tests.faults.injector` watches, but for `_point`: a keyring is another process, whose
disk is its own affair.
"""

from __future__ import annotations

import os
from pathlib import Path

from keyring.backend import KeyringBackend

_unlink = os.unlink


def items(service: str) -> Path:
    """Where the items of a service are."""
    _, named, folder = service.partition(" in ")
    home = Path(folder).parents[1] if named else Path(os.environ.get("TEST_KEYRING", "/nonexistent"))
    return home / "items" / service.replace("/", "_")


class Works(KeyringBackend):
    """A keyring as it should be."""

    priority: float = 9

    def get_password(self, service: str, username: str) -> str | None:
        path = self._path(service, username)
        try:
            with open(path, encoding="utf-8", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return None
        finally:
            _point(service, username)

    def set_password(self, service: str, username: str, password: str) -> None:
        path = self._path(service, username)
        os.makedirs(path.parent, exist_ok=True)
        with open(f"{path}.new", "w", encoding="utf-8", newline="") as file:
            file.write(password)
        os.rename(f"{path}.new", path)
        _point(service, username)

    def delete_password(self, service: str, username: str) -> None:
        path = self._path(service, username)
        _unlink(path)
        _point(service, username)

    def _path(self, service: str, username: str) -> Path:
        _point(service, username)
        return items(service) / username


def _point(service: str, username: str) -> None:
    """A call that the injector counts: a process can be killed before what the keyring does, and after it."""
    try:
        os.lstat(f"{service.partition(' in ')[2]}/keyring {username}")
    except OSError:
        return
