"""Keyrings that misbehave, chosen by PYTHON_KEYRING_BACKEND. Imported in children alone: the library tries them all."""

from __future__ import annotations

import threading

from keyring.errors import KeyringLocked

from tests.system_keyring.backends import Works, items


class Hangs(Works):
    def get_password(self, service: str, username: str) -> str | None:
        threading.Event().wait()
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        threading.Event().wait()


class HangsAtOpening(Works):
    def __init__(self) -> None:
        threading.Event().wait()


class Drops(Works):
    def set_password(self, service: str, username: str, password: str) -> None:
        return


class Truncates(Works):
    def set_password(self, service: str, username: str, password: str) -> None:
        super().set_password(service, username, password[:1000])


class LikeWindows(Works):
    """CredWrite takes 2,560 bytes, and the library gives it UTF-16."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if len(password.encode("utf-16-le")) > 2560:
            raise OSError(1783, "The stub received bad data")
        super().set_password(service, username, password)


class Raises(Works):
    """Its messages hold what it was given, control characters, and more than anybody wants to read."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise RuntimeError(f"cannot keep {password}")

    def delete_password(self, service: str, username: str) -> None:
        raise RuntimeError("no\x1b[31m" + "!" * 1000)


class ReadOnly(Works):
    def set_password(self, service: str, username: str, password: str) -> None:
        raise RuntimeError("it is read-only")


class Locked(Works):
    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("the person said no")


class FailsForAccounts(Works):
    """Takes probes and keys, and no account while `fails` is in its folder: as one that breaks after it was tried."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if "(" not in username and (items(service) / "fails").exists():
            raise RuntimeError("it broke meanwhile")
        super().set_password(service, username, password)


class NotRecommended(Works):
    priority = 0.5


class PlainText(Works):
    pass
