"""`loopback-auth certificate`, with the real certutil and a real Chromium: what is trusted, where, and for how long."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from loopback_auth.redirect import nss
from loopback_auth.redirect.certificate import Leaf, own_leaf, renew, server_context
from tests.browsers.browser import Options
from tests.browsers.chromium import Chromium
from tests.browsers.fixtures import start_or_skip
from tests.ended import Ended

Program = Callable[..., Ended]
USUAL = ".pki/nssdb"
NEWER = ".local/share/pki/nssdb"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    if shutil.which("certutil") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("certutil is not installed")
        pytest.skip("certutil is not installed")
    (home := tmp_path / "home").mkdir()
    return home


@pytest.fixture
def folder(home: Path) -> Path:
    """Where the command keeps the leaf."""
    return home / "ours" / "certificate"


@pytest.fixture
def certificate(home: Path) -> Program:
    """`loopback-auth certificate` for a user with a home of their own."""

    def run(*words: str) -> Ended:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LOOPBACK_AUTH_HOME": str(home / "ours"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        command = [sys.executable, "-W", "error", "-m", "loopback_auth", "certificate", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return Ended(done.returncode, done.stdout, done.stderr, words)

    return run


def certutil(database: Path, *words: str) -> str:
    command = ["certutil", "-d", f"sql:{database}", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def listed(database: Path) -> list[str]:
    """The names in a database with their trust."""
    return [" ".join(line.split()) for line in certutil(database, "-L").splitlines() if line.rstrip().endswith(",,")]


def made(database: Path) -> Path:
    database.mkdir(parents=True, mode=0o700)
    certutil(database, "-N", "--empty-password")
    return database


async def page(_request: web.BaseRequest) -> web.Response:
    return web.Response(text="shown")


@asynccontextmanager
async def served(leaf: Path) -> AsyncIterator[str]:
    """A page with this certificate."""
    context: ssl.SSLContext = server_context(leaf, leaf)
    runner = web.ServerRunner(web.Server(page))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        assert site._server is not None
        yield f"https://localhost:{site._server.sockets[0].getsockname()[1]}/"  # type: ignore[attr-defined]  # asyncio's
    finally:
        await runner.cleanup()


async def warns(home: Path, leaf: Path) -> bool:
    """Whether Chromium, started by the user with this home, warns about a certificate."""
    async with served(leaf) as url:
        browser = await start_or_skip(Chromium, Options(home=home))
        try:
            await browser.goto(url)
            return await browser.shows_certificate_warning()
        finally:
            await browser.close()


@pytest.mark.parametrize("there", [None, USUAL, NEWER])
async def test_chromium_takes_the_leaf_once_it_is_trusted(
    certificate: Program, home: Path, folder: Path, tmp_path: Path, there: str | None
) -> None:
    """It warns before `trust` and after `untrust`, not in between; another certificate it warns about all the time.

    So it is for a user without a database, with the old one, and with the one that newer Chromium makes.
    """
    if there is not None:
        made(home / there)
    leaf, _ = own_leaf(folder)
    assert await warns(home, leaf)
    assert certificate("trust").status == 0
    assert not await warns(home, leaf)
    assert await warns(home, own_leaf(tmp_path / "other")[0])
    assert certificate("untrust").status == 0
    assert await warns(home, leaf)


async def test_a_renewed_one_is_trusted_in_the_place_of_the_old(certificate: Program, home: Path, folder: Path) -> None:
    """`renew` moves the trust: the new leaf is taken, the old one no longer."""
    assert certificate("trust").status == 0
    old = home / "old.pem"
    shutil.copy(folder / "localhost.pem", old)
    assert certificate("renew").status == 0
    assert not await warns(home, folder / "localhost.pem")
    assert await warns(home, old)
    assert listed(home / USUAL) == [f"{nss.NAME} P,,"]


def test_renewing_trusts_nothing_that_was_not(certificate: Program, home: Path, folder: Path) -> None:
    """A leaf that nobody had trusted is renewed, and no browser hears of it."""
    own_leaf(folder)
    old = Leaf.read(folder)
    ended = certificate("renew")
    new = Leaf.read(folder)
    assert (ended.status, ended.stdout) == (0, "")
    assert old is not None
    assert new is not None
    assert old.public_key_pin != new.public_key_pin
    assert not (home / USUAL).exists()


def test_every_database_there_is(certificate: Program, home: Path) -> None:
    """Whichever of them a browser reads; none is made beside one that is there."""
    both = [made(home / USUAL), made(home / NEWER)]
    assert certificate("trust").status == 0
    assert [listed(database) for database in both] == [[f"{nss.NAME} P,,"]] * 2
    assert certificate("untrust").stderr == f"No longer trusted in {both[0]}, {both[1]}\n"
    assert [listed(database) for database in both] == [[], []]
    shutil.rmtree(both[0])
    assert certificate("trust").status == 0
    assert not both[0].exists()


def test_only_ours_is_touched(certificate: Program, home: Path, folder: Path, tmp_path: Path) -> None:
    """What else a person trusts stays, in name and in trust; of ours one remains, however many there were."""
    database = made(home / USUAL)
    certutil(database, "-A", "-t", "CT,,", "-n", f"{nss.NAME} too", "-i", str(another(tmp_path)))
    before = listed(database)
    for _ in range(2):
        certutil(database, "-A", "-t", "P,,", "-n", nss.NAME, "-i", str(renew(tmp_path / "old")))
    assert certificate("trust").status == 0
    assert sorted(listed(database)) == sorted([*before, f"{nss.NAME} P,,"])
    assert certificate("untrust").status == 0
    assert sorted(listed(database)) == sorted(before)


def another(folder: Path) -> Path:
    """A certificate that has nothing to do with us."""
    path = folder / "another.pem"
    words = ["-subj", "/CN=mine", "-keyout", str(folder / "key.pem"), "-out", str(path)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *words], check=True, capture_output=True
    )
    return path


def test_the_key_stays_with_us(certificate: Program, home: Path) -> None:
    """Nothing of the private key reaches a database, and what was made for it is private."""
    assert certificate("trust").status == 0
    assert certutil(home / USUAL, "-L", "-n", nss.NAME, "-a").count("BEGIN") == 1
    keys = subprocess.run(
        ["certutil", "-d", f"sql:{home / USUAL}", "-K"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert "no keys found" in keys.stdout + keys.stderr
    assert [oct(path.stat().st_mode & 0o777) for path in (home / ".pki", home / USUAL)] == ["0o700"] * 2


def test_a_database_with_a_password_is_left_as_it_is(certificate: Program, home: Path, tmp_path: Path) -> None:
    """No password is asked for, nothing hangs: it ends with 8 and says what certutil said."""
    (database := home / USUAL).mkdir(parents=True)
    (tmp_path / "password").write_text("s3kr1t-password\n")
    certutil(database, "-N", "-f", str(tmp_path / "password"))
    ended = certificate("trust")
    assert ended.status == 8
    assert "cannot be used" in ended.stderr
    assert listed(database) == []
