"""Variables, the current folder, a config that was changed later: none of them sends a token astray."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from loopback_auth.redirect.certificate import own_leaf, server_context

from ..login.program import ROOT, Program
from ..login.strict import StrictServer
from .hostile_server import TOKENS, answer, answering, stored_account
from .leak_walk import CLIENT_SECRET, Loud, login_that_can_be_revoked

UNVERIFIED = {
    "PYTHONHTTPSVERIFY": "0",
    "NODE_TLS_REJECT_UNAUTHORIZED": "0",
    "GIT_SSL_NO_VERIFY": "1",
    "AIOHTTP_NO_EXTENSIONS": "1",
    "LOOPBACK_AUTH_INSECURE": "1",
    "LOOPBACK_AUTH_CA_FILE": "{pem}",
    "REQUESTS_CA_BUNDLE": "{pem}",
    "CURL_CA_BUNDLE": "{pem}",
}
"""What turns verification off elsewhere, or names other certificates to trust."""


def tls_server(folder: Path) -> tuple[Path, ssl.SSLContext]:
    folder.mkdir(mode=0o700)
    pem, _ = own_leaf(folder)
    return pem, server_context(pem, pem)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


async def test_no_variable_turns_verification_off(program: Program, tmp_path: Path) -> None:
    """Whatever is set, a certificate that nobody vouches for is sent neither a refresh token nor an access token."""
    pem, context = tls_server(tmp_path / "tls")
    variables = {name: value.format(pem=pem) for name, value in UNVERIFIED.items()}
    async with answering(answer(TOKENS), context) as server:
        stored_account(program.home, server.base.replace("http:", "https:"))
        assert (await program.run("refresh", "--force", environment=variables)).status == 9
        stored_account(program.home, server.base.replace("http:", "https:"), age=0.0)
        assert (await program.run("api", "company", environment=variables)).status == 1
        assert server.asked == []
        assert (await program.run("api", "company", environment={"SSL_CERT_FILE": str(pem)})).status == 0


async def test_no_option_turns_verification_off(program: Program) -> None:
    """No command has an option for it."""
    for command in ("login", "token", "refresh", "logout", "api", "setup"):
        text = (await program.run(command, "--help")).stdout.lower()
        assert not any(word in text for word in ("insecure", "verif", "unsafe", "no-tls", "no-check")), command


async def test_a_configuration_that_was_changed(tmp_path: Path) -> None:
    """Tokens go to the endpoints that they came from, whatever config.toml says of that server by now."""
    async with StrictServer(client_secret=CLIENT_SECRET, method="client_secret_basic") as server:
        loud = Loud(tmp_path / "machine", server)
        assert (await login_that_can_be_revoked(loud)).status == 0
        async with answering(answer(TOKENS)) as other:
            config = loud.program.home / "config.toml"
            config.write_text(config.read_text().replace(f"{server.base}/", other.base))
            ended = [await loud.program.run(*words.split()) for words in ("refresh --force", "token", "logout")]
            assert [one.status for one in ended] == [0, 0, 0]
            assert other.asked == []
        assert (len(server.token_requests), len(server.revocations)) == (2, 2)
        assert server.complaints == []


@pytest.mark.parametrize("words", ["status", "token", "refresh", "login --no-browser --timeout 1s"])
def test_the_current_folder(program: Program, tmp_path: Path, words: str) -> None:
    """Nothing in the folder where a command happens to run is read or run: no module, no config, no account."""
    there = tmp_path / "there"
    there.mkdir()
    for name in ("json", "click", "aiohttp", "authlib", "keyring", "sitecustomize", "usercustomize"):
        (there / f"{name}.py").write_text("import os; os.mkdir('was-run')\n")
    stored_account(there, "http://127.0.0.1:1/", age=0.0)
    (there / "config.toml").write_text("nonsense = 1\n")
    for name in (".netrc", "netrc", ".env", "loopback-auth.toml"):
        (there / name).write_text("machine 127.0.0.1 login a password s3kr1t-b\nLOOPBACK_AUTH_ACCOUNT=other\n")
    before = sorted(os.listdir(there))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "loopback_auth", *words.split()],
        env=program.environment | {"PYTHONPATH": str(ROOT)},
        cwd=there,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == {"status": 0, "login": 3}.get(words.split()[0], 4)
    assert (sorted(os.listdir(there)), "nonsense" in done.stderr) == (before, False)
