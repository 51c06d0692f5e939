"""A person's machine: a home folder, the command on the PATH, terminals to run it on, and sandboxes to log in to."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import loopback_auth

from ..ended import Ended
from ..walker import Walker
from .ptys import PATIENCE, Pty
from .tmux import Tmux

ROOT = Path(loopback_auth.__file__).resolve().parents[1]
MARK = "s3kr1t-"
"""In every secret that a test makes up: the house fails a test that prints one."""
TOKEN_REQUEST = "POST /resto/oauth2/v1/token"


@dataclass
class SandboxProcess:
    """`loopback-auth sandbox` in a process of its own; what it logged since the last `forget`."""

    process: subprocess.Popen[bytes]
    log_file: Path
    port: int
    _forgotten: int = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/resto/"

    @property
    def log(self) -> list[str]:
        """A line for each request to an endpoint; strangers that look at every port of a machine get the start page."""
        lines = self.log_file.read_text()[self._forgotten :].splitlines()
        return [line for line in lines if " /resto/" in line]

    @property
    def token_requests(self) -> list[str]:
        return [line for line in self.log if TOKEN_REQUEST in line]

    def forget(self) -> None:
        self._forgotten = len(self.log_file.read_text())

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)

    @classmethod
    def start(cls, folder: Path, *arguments: str, port: int = 0) -> SandboxProcess:
        folder.mkdir(parents=True, exist_ok=True)
        log_file = folder / "log"
        environment = bare_environment() | {"LOOPBACK_AUTH_HOME": str(folder / "home")}
        command = [sys.executable, "-m", "loopback_auth", "sandbox", "--port", str(port), *arguments]
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=folder
            )
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"running: https?://[^:]+:(\d+)", log_file.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.02)
        return cls(process, log_file, int(found[1]))


@dataclass
class Machine:
    """Home folder, environment, and every terminal that was opened here, for `close`."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    terminals: list[Pty | Tmux] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        commands = self.folder / "bin"
        self.install(commands)
        self.environment = bare_environment() | {
            "PATH": f"{commands}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder),
            "USER": "alice",
            "TERM": "xterm-256color",
            "LOOPBACK_AUTH_HOME": str(self.home),
        }

    def install(self, commands: Path) -> None:
        commands.mkdir()
        self.program(commands / "loopback-auth", f'exec "{sys.executable}" -m loopback_auth "$@"')

    def program(self, path: Path, script: str) -> Path:
        """Write a shell script that can be run."""
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def at(self, sandbox: SandboxProcess) -> None:
        """Let `--server sandbox` be this one."""
        self.environment["LOOPBACK_AUTH_SANDBOX_PORT"] = str(sandbox.port)

    def configure(self, text: str) -> Path:
        self.home.mkdir(mode=0o700, exist_ok=True)
        path = self.home / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    @property
    def config(self) -> str:
        return (self.home / "config.toml").read_text()

    def pty(
        self,
        *arguments: str,
        columns: int = 100,
        stdout: Path | None = None,
        also: Mapping[str, str] | None = None,
        **variables: str,
    ) -> Pty:
        """Run the command on a terminal of its own; `also` are more variables."""
        command = ["loopback-auth", *arguments]
        return self.on_pty(command, columns=columns, stdout=stdout, also=variables | dict(also or {}))

    def on_pty(
        self,
        command: list[str],
        *,
        columns: int = 100,
        stdout: Path | None = None,
        also: Mapping[str, str] | None = None,
    ) -> Pty:
        environment = self.environment | dict(also or {})
        opened = Pty(command, environment, self.folder, columns=columns, stdout=stdout)
        self.terminals.append(opened)
        return opened

    def tmux(self, *, columns: int = 100, rows: int = 40, **variables: str) -> Tmux:
        """Open a terminal with a shell in it."""
        part("tmux")
        opened = Tmux(self.environment | variables, self.folder, columns=columns, rows=rows)
        self.terminals.append(opened)
        return opened

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Run the command off any terminal, stdin open."""
        return subprocess.Popen(
            ["loopback-auth", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment | variables,
            cwd=self.folder,
            start_new_session=True,
        )

    def run(self, *arguments: str, given: str = "", **variables: str) -> Ended:
        """Run the command off any terminal, to its end."""
        with self.start(*arguments, **variables) as process:
            try:
                out, err = process.communicate(given, PATIENCE)
            finally:
                process.kill()
        return Ended(process.returncode, out, err)

    def log_in(self, *arguments: str, user: str = "cafe-roma", password: str = "", **variables: str) -> Ended:
        """Log in through the walker as `$BROWSER`, off any terminal."""
        variables = walking(self, user, password) | variables
        return self.run("login", "--timeout", "15s", *arguments, **variables)

    def tokens(self, account: str = "default") -> Path:
        return self.home / "accounts" / account / "tokens"

    def secrets(self) -> set[str]:
        """All tokens that are stored, for checking that none was shown."""
        found = set()
        for path in self.home.glob("accounts/*/tokens"):
            _head, access_token, rest = path.read_text().split("\n", 2)
            found |= {access_token, json.loads(rest)["refresh_token"]}
        return {one for one in found if one}

    def close(self) -> None:
        for terminal in self.terminals:
            terminal.close()
        deadline = time.monotonic() + 3
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, 9)
        assert not left, f"outlived its terminal: {left}"

    def processes(self) -> dict[int, str]:
        mark = f"HOME={self.folder}\0".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    found[int(process.name)] = (process / "comm").read_text().strip()
        return found


PASSWORDS = {"cafe-roma": "espresso", "bistro-lyon": "baguette", "trattoria-napoli": "margherita"}


def walking(machine: Machine, user: str = "cafe-roma", password: str = "") -> dict[str, str]:
    """The variables that make the walker the browser."""
    return {
        "BROWSER": f"{sys.executable} {ROOT / 'tests' / 'walker.py'}",
        "WALKER_USER": user,
        "WALKER_PASSWORD": password or PASSWORDS[user],
        "WALKER_LOG": str(machine.folder / "walker.log"),
    }


def allowed(address: str, user: str = "cafe-roma", *, ca_file: Path | None = None) -> Walker:
    """A browser that was at this address, logged in and clicked Allow; the redirect is in `redirected_to`."""
    walker = Walker(ca_file=ca_file, timeout=PATIENCE)
    walker.stop_before = lambda url: "code=" in url or "error=" in url
    walker.open(address).log_in(user, PASSWORDS[user]).decide("allow")
    assert walker.redirected_to is not None
    return walker


def redirect_of(address: str, user: str = "cafe-roma") -> str:
    """Log in at this address and return where the browser would end, for pasting."""
    redirect = allowed(address, user).redirected_to
    assert redirect is not None
    return redirect


def bare_environment() -> dict[str, str]:
    """What a command needs to run at all."""
    passed_on = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    found = {name: os.environ[name] for name in passed_on if name in os.environ}
    return found | {"LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def part(command: str) -> str:
    """The path of a system part; without it the test is skipped on a person's machine, and fails in CI."""
    found = shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/bin")
    if found is not None:
        return found
    reason = f"{command} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """A port that is free on both families, from below those that the kernel hands out on its own."""
    while True:
        port = random.randint(10_000, 32_000)
        if all(_is_free(host, port) for host in ("127.0.0.1", "::1")):
            return port


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
