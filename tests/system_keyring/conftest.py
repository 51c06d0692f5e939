"""Fixtures: a real Secret Service for the tests of a module, a keyring of files, the command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.login.conftest import program, sandbox, server
from tests.system_keyring.secret_service import SecretService, in_environment, skip_without_programs

__all__ = ["home", "keyring_of_files", "keyrings", "program", "sandbox", "secret_service", "server"]


@pytest.fixture(scope="module")
def secret_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretService]:
    """gnome-keyring, unlocked, on a bus of its own."""
    skip_without_programs()
    service = SecretService(tmp_path_factory.mktemp("secret-service"))
    with service.running():
        yield service


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose items are its own."""
    return tmp_path / "home"


@pytest.fixture
def keyring_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, a keyring that works: `backends.Works`."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "tests.system_keyring.backends.Works")
    monkeypatch.setattr("keyring.core._keyring_backend", None)


@pytest.fixture(params=["Secret Service", "files"])
def keyrings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """In this process, each keyring that works in turn; the name of its backend."""
    if request.param == "files":
        request.getfixturevalue("keyring_of_files")
        yield "backends Works"
        return
    service: SecretService = request.getfixturevalue("secret_service")
    with in_environment(service.environment):
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.SecretService.Keyring")
        monkeypatch.setattr("keyring.core._keyring_backend", None)
        yield "SecretService Keyring"
