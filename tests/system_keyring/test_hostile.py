"""Keyrings that misbehave, in real commands: nothing is spent, nothing goes to a file, and what is wrong is said."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator

import pytest

from tests.login.program import MARKER, Program
from tests.login.strict import StrictServer
from tests.login.visits import log_in

FILES = "or store in files, sealed if you like: LOOPBACK_AUTH_STORE=file: and see loopback-auth store seal --help"
WINDOWS = "an item holds 2,560 bytes on Windows, two for each character, and an account needs more"
CHOOSE = "choose the system's own: unset PYTHON_KEYRING_BACKEND, or mend keyringrc.cfg"
TESTS = "tests.system_keyring."
AT_ONCE = [
    (f"{TESTS}hostile.Drops", "the keyring (hostile Drops) drops what is put into it", [FILES]),
    (
        f"{TESTS}hostile.Truncates",
        "the keyring (hostile Truncates) gave back 1000 bytes of 2048, or others",
        [WINDOWS, FILES],
    ),
    (
        f"{TESTS}hostile.LikeWindows",
        "the keyring (hostile LikeWindows) refuses an item of 2048 bytes: the stub received bad data",
        [WINDOWS, FILES],
    ),
    (f"{TESTS}hostile.ReadOnly", "the keyring (hostile ReadOnly) refused: it is read-only", [FILES]),
    (f"{TESTS}hostile.Raises", "the keyring (hostile Raises) refused: RuntimeError", [FILES]),
    (
        f"{TESTS}hostile.Locked",
        "the keyring (hostile Locked) is locked: the person said no",
        ["unlock it, or answer what it asks, and run the command again", FILES],
    ),
    (
        f"{TESTS}hostile.NotRecommended",
        "hostile NotRecommended is no keyring to trust with secrets: it may keep them in plain text",
        [CHOOSE, FILES],
    ),
    (
        f"{TESTS}hostile.PlainText",
        "hostile PlainText is no keyring to trust with secrets: it may keep them in plain text",
        [CHOOSE, FILES],
    ),
    (
        f"{TESTS}plain_chained.PlainChained",
        "plain chained PlainFirst is no keyring to trust with secrets: it may keep them in plain text",
        [CHOOSE, FILES],
    ),
    (
        "keyrings.alt.file.EncryptedKeyring",
        "file EncryptedKeyring is no keyring to trust with secrets: it may keep them in plain text",
        [CHOOSE, FILES],
    ),
    ("keyring.backends.null.Keyring", "the keyring is turned off (null Keyring)", [FILES]),
    (
        "keyring.backends.fail.Keyring",
        "there is no keyring here",
        ["start one, such as gnome-keyring or KWallet, and run the command again", FILES],
    ),
    (
        "no.such.Backend",
        "the keyring cannot be opened: No module named 'no'",
        [FILES],
    ),
]
NAMES = [backend.rpartition(".")[2] for backend, _, _ in AT_ONCE]


@pytest.fixture
async def on(program: Program) -> AsyncIterator[Program]:
    """The command, whose store is the keyring; what was said, and what is in files, holds no token in the end."""
    alt = program.folder / "more" / "keyrings" / "alt"
    alt.mkdir(parents=True)
    (alt / "file.py").write_text(
        "from tests.system_keyring.backends import Works\nclass EncryptedKeyring(Works): pass\n"
    )
    program.environment |= {
        "LOOPBACK_AUTH_STORE": "keyring:",
        "PYTHON_KEYRING_BACKEND": f"{TESTS}backends.Works",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",
        "PYTHONPATH": f"{program.environment['PYTHONPATH']}:{program.folder / 'more'}",
    }
    yield program
    own = {name: content for name, content in program.files().items() if "items" not in name.split("/")}
    assert not [name for name, content in own.items() if MARKER.encode() in content]


@pytest.mark.parametrize(("backend", "error", "hints"), AT_ONCE, ids=NAMES)
async def test_before_anything_is_spent(
    on: Program, server: StrictServer, backend: str, error: str, hints: list[str]
) -> None:
    """`login` opens no browser and says what is wrong with the keyring, and what to type instead."""
    on.environment["PYTHON_KEYRING_BACKEND"] = backend
    ended = await on.run("login", *server.flags)
    assert (ended.status, ended.errors, ended.hints) == (8, [error], hints)
    assert server.token_requests == []
    assert {name for name in on.files() if not name.endswith("lock") and not name.startswith("items/")} == set()


@pytest.mark.parametrize(("backend", "error"), [one[:2] for one in AT_ONCE[:7]], ids=NAMES[:7])
async def test_before_a_refresh(on: Program, server: StrictServer, backend: str, error: str) -> None:
    """No refresh token leaves for a keyring that would not keep the next one; what is stored stays as it was."""
    assert (await log_in(on, *server.flags)).status == 0
    works, stored = on.environment["PYTHON_KEYRING_BACKEND"], on.files()
    on.environment["PYTHON_KEYRING_BACKEND"] = backend
    ended = await on.run("refresh", "--force")
    said, expected = (re.sub(r"\b\d{4}(?= bytes)|of \d{4}", "N", text) for text in (ended.errors[0], error))
    assert (ended.status, said) == (8, expected)
    assert len(server.token_requests) == 1
    assert {name: content for name, content in on.files().items() if not name.endswith("last-error")} == stored
    on.environment["PYTHON_KEYRING_BACKEND"] = works
    assert (await on.run("refresh", "--force")).status == 0


async def test_a_chain_is_what_it_would_write_to(on: Program, server: StrictServer) -> None:
    """The library's chain of several keyrings is named, and used, as the first of them."""
    on.environment["PYTHON_KEYRING_BACKEND"] = f"{TESTS}chained.Chained"
    assert (await log_in(on, *server.flags)).status == 0
    assert (await on.run("status")).stdout.endswith("secrets are in the keyring (chained First)\n")


async def test_it_never_answers(on: Program, server: StrictServer) -> None:
    """A keyring that hangs is given 15 seconds, once for all accounts; then the command says so, and ends."""
    for name in ("cafe", "bistro"):
        assert (await log_in(on, name, *server.flags)).status == 0
    on.environment["PYTHON_KEYRING_BACKEND"] = f"{TESTS}hostile.Hangs"
    del on.environment["DBUS_SESSION_BUS_ADDRESS"]
    began = time.monotonic()
    ended = await on.run("status")
    assert 15 <= time.monotonic() - began < 20
    assert (ended.status, ended.stdout) == (8, "")
    assert ended.errors == ["the keyring (hostile Hangs) did not answer within 15 s"] * 2
    assert ended.hints[:3] == [
        "there is no session bus here, as often under SSH; make one: dbus-run-session -- bash",
        "and in it: gnome-keyring-daemon --unlock --components=secrets, with the password on stdin",
        FILES,
    ]


async def test_it_is_never_found(on: Program, server: StrictServer) -> None:
    """A keyring that hangs while it is looked for stops no login from ending."""
    on.environment["PYTHON_KEYRING_BACKEND"] = f"{TESTS}hostile.HangsAtOpening"
    ended = await on.run("login", *server.flags)
    assert (ended.status, ended.errors) == (8, ["the keyring did not answer within 15 s"])
    assert server.token_requests == []


async def test_it_breaks_after_the_spend(on: Program, server: StrictServer) -> None:
    """What came for a keyring that broke meanwhile is kept, sealed, and stored by the next command."""
    on.environment["PYTHON_KEYRING_BACKEND"] = f"{TESTS}hostile.FailsForAccounts"
    assert (await log_in(on, *server.flags)).status == 0
    first = await on.run("token")
    (place,) = (on.home / "items").iterdir()
    (place / "fails").touch()
    for _ in range(2):
        ended = await on.run("refresh", "--force")
        assert ended.status == 8
        assert re.fullmatch(r"new tokens of account default came, and .* refused: it broke meanwhile", ended.errors[0])
        assert len(server.token_requests) == 2
    (place / "fails").unlink()
    assert (await on.run("refresh", "--force")).status == 0
    assert len(server.token_requests) == 2
    assert (await on.run("token")).stdout not in (first.stdout, "")
    assert (await on.run("refresh", "--force")).status == 0
    assert not (on.home / "stores" / "keyring=3a" / "default" / "answer").exists()


async def test_it_breaks_during_a_login(on: Program, server: StrictServer) -> None:
    """The same of a login: its tokens are not lost, the next command stores them."""
    on.environment["PYTHON_KEYRING_BACKEND"] = f"{TESTS}hostile.FailsForAccounts"
    assert (await log_in(on, "other", *server.flags)).status == 0
    (place,) = (on.home / "items").iterdir()
    (place / "fails").touch()
    ended = await log_in(on, *server.flags)
    assert (ended.status, len(server.token_requests)) == (8, 2)
    assert ended.errors[0].startswith("the tokens came, and the keyring (hostile FailsForAccounts) refused")
    (place / "fails").unlink()
    assert (await on.run("token")).status == 0
    assert len(server.token_requests) == 2


async def test_the_library_is_missing(on: Program, server: StrictServer) -> None:
    """Without the extra, what to type is said."""
    (on.folder / "more" / "keyring.py").write_text("raise ImportError\n")
    on.environment["PYTHONPATH"] = f"{on.folder / 'more'}:{on.environment['PYTHONPATH']}"
    ended = await on.run("login", *server.flags)
    assert (ended.status, ended.errors) == (8, ["the library for the system's keyring is not installed"])
    assert ended.hints == ["pipx inject loopback-auth keyring", FILES]
