"""The real commands with accounts in a real Secret Service."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from loopback_auth.sandbox import Sandbox
from tests.login.program import MARKER, Program
from tests.login.strict import StrictServer
from tests.login.visits import log_in, log_in_at_sandbox
from tests.system_keyring.secret_service import SecretService, in_environment


@pytest.fixture
def on(program: Program, secret_service: SecretService) -> Program:
    """The command, whose store is the keyring."""
    own = {name: value for name, value in secret_service.environment.items() if name != "HOME"}
    program.environment |= own | {"LOOPBACK_AUTH_STORE": "keyring:"}
    return program


async def test_the_life_of_an_account(on: Program, sandbox: Sandbox) -> None:
    """Log in, print, refresh, look, log out: as with any store, and the keyring is named."""
    assert sandbox.port
    assert (await log_in_at_sandbox(on)).status == 0
    first = await on.run("token")
    assert (first.status, first.stderr) == (0, "")
    refreshed = await on.run("refresh", "--force", "--json")
    assert refreshed.status == 0
    assert (refreshed.json["generation"], refreshed.json["store"]) == (2, "keyring:")
    second = await on.run("token")
    assert second.stdout not in ("", first.stdout)
    assert (await on.run("status")).stdout.endswith("\nsecrets are in the keyring (SecretService Keyring)\n")
    assert "store:         the keyring (SecretService Keyring)\n" in (await on.run("status", "default")).stdout
    assert (await on.run("logout")).status == 0
    assert (await on.run("token")).status == 4
    assert (await on.run("status", "--json")).json == []


async def test_no_file_of_the_home_holds_a_token(on: Program, server: StrictServer) -> None:
    """After logins and refreshes no file of the home holds a token, also not for the way of `token` that is fast."""
    assert (await log_in(on, *server.flags)).status == 0
    assert (await on.run("refresh", "--force")).status == 0
    assert (await on.run("token")).stdout.startswith(MARKER)
    assert len(server.token_requests) == 2
    found = on.files()
    assert {name.rpartition("/")[2] for name in found} == {".lock", "lock", "tokens"}
    assert not [name for name, content in found.items() if MARKER.encode() in content]


async def test_a_keyring_that_lost_an_account(on: Program, server: StrictServer, secret_service: SecretService) -> None:
    """`status` names the account that is lost and shows the others; `login` and `logout` go on from there."""
    assert (await log_in(on, "cafe", *server.flags)).status == 0
    assert (await log_in(on, "bistro", *server.flags)).status == 0
    await forget_item(on, secret_service, "cafe")
    status = await on.run("status")
    assert status.status == 8
    assert status.errors == ["the keyring (SecretService Keyring) has lost the tokens of account cafe"]
    assert "bistro" in status.stdout
    assert (await on.run("token", "cafe")).errors == status.errors
    assert (await log_in(on, "cafe", *server.flags, "--force")).status == 0
    assert (await on.run("token", "cafe")).status == 0
    await forget_item(on, secret_service, "cafe")
    assert (await on.run("logout", "cafe")).status == 0
    assert (await on.run("status")).status == 0


async def forget_item(on: Program, secret_service: SecretService, name: str) -> None:
    backend: Any = import_module("keyring.backends.SecretService").Keyring
    with in_environment(secret_service.environment):
        backend().delete_password(f"loopback-auth accounts in {on.home / 'stores' / 'keyring=3a'}", name)


async def test_a_locked_keyring(program: Program, server: StrictServer, tmp_path: Path) -> None:
    """A keyring that nobody unlocks is named, before a browser opens or a refresh token leaves; nothing is written."""
    service = SecretService(tmp_path / "locked")
    program.environment |= {"LOOPBACK_AUTH_STORE": "keyring:"}
    with service.running():
        program.environment |= {name: value for name, value in service.environment.items() if name != "HOME"}
        assert (await log_in(program, *server.flags)).status == 0
    with service.running(unlocked=False):
        program.environment["DBUS_SESSION_BUS_ADDRESS"] = service.environment["DBUS_SESSION_BUS_ADDRESS"]
        for words in (("token",), ("refresh", "--force"), ("login", "other", *server.flags)):
            ended = await program.run(*words)
            assert ended.status == 8
            (error,) = ended.errors
            assert error.startswith("the keyring (SecretService Keyring) ")
            assert ended.hints[0] == "unlock it, or answer what it asks, and run the command again"
    assert len(server.token_requests) == 1
    with service.running():
        program.environment["DBUS_SESSION_BUS_ADDRESS"] = service.environment["DBUS_SESSION_BUS_ADDRESS"]
        assert (await program.run("token")).status == 0


async def test_without_a_bus(program: Program, server: StrictServer) -> None:
    """Where no keyring can be, as under SSH, that is said with what makes one; no file takes its place."""
    program.environment["LOOPBACK_AUTH_STORE"] = "keyring:"
    ended = await program.run("login", *server.flags)
    assert (ended.status, ended.errors) == (8, ["there is no keyring here"])
    assert ended.hints[0].endswith("dbus-run-session -- bash")
    assert ended.hints[-1].startswith("or store in files, sealed if you like: LOOPBACK_AUTH_STORE=file:")
    assert [name for name in program.files() if not name.endswith("lock")] == []
