"""What happens before the browser is told: little, so that it is told soon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = {"aiohttp", "asyncio", "authlib", "cryptography", "hashlib", "logging", "pathlib", "shutil", "ssl", "tomlkit"}

PROGRAM = """
import os, sys
import loopback_auth.cli.login
from loopback_auth.cli.commands import run

def opened(url, **_):
    print(*sorted(name for name in sys.modules if "." not in name), flush=True)
    os._exit(0)

loopback_auth.cli.login.open_browser = opened
run(sys.argv[1:])
"""


def loaded_when_the_browser_is_told(folder: Path, *arguments: str) -> set[str]:
    environment = {**os.environ, "LOOPBACK_AUTH_HOME": str(folder / "home")}
    command = [
        sys.executable, "-c", PROGRAM, "login", *arguments,
        "--authorization-endpoint", "https://idp.example/a", "--token-endpoint", "https://idp.example/t",
        "--client-id", "cli", "--yes",
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.split())


def test_nothing_heavy_is_imported_before_the_browser_is_told(tmp_path: Path) -> None:
    """For an http redirect the browser waits for none of the libraries that the login needs afterwards."""
    loaded = loaded_when_the_browser_is_told(tmp_path)
    assert "click" in loaded
    assert not loaded & HEAVY


def test_an_https_redirect_needs_its_certificate_first(tmp_path: Path) -> None:
    """For an https redirect URI the certificate must be good before a browser comes: that takes ssl, and no more."""
    redirect_uri = ("--redirect-uri", "https://localhost:0/")
    loaded_when_the_browser_is_told(tmp_path, *redirect_uri)  # the certificate is made once
    loaded = loaded_when_the_browser_is_told(tmp_path, *redirect_uri)
    assert "ssl" in loaded
    assert not loaded & {"aiohttp", "asyncio", "authlib", "logging", "tomlkit"}


def test_a_bad_ca_file_is_known_before_the_browser_is_told(tmp_path: Path) -> None:
    """A CA file that is none costs no person a login."""
    (tmp_path / "ca.pem").write_text("none")
    environment = {**os.environ, "LOOPBACK_AUTH_HOME": str(tmp_path / "home"), "BROWSER": f"touch {tmp_path}/told"}
    command = [
        sys.executable, "-m", "loopback_auth", "login", "--ca-file", str(tmp_path / "ca.pem"), "--client-id", "cli",
        "--authorization-endpoint", "https://idp.example/a", "--token-endpoint", "https://idp.example/t",
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert "holds no certificate" in done.stderr
    assert not (tmp_path / "told").exists()
