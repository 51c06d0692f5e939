"""What the benches of stored accounts share: accounts, the command as users have it, and running commands in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from loopback_auth import clock, files, machine
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.servers import presets
from loopback_auth.oauth.token import TokenSet
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account
from loopback_auth.store.file import FileStore
from tests.speed.far import ROOT
from tests.speed.installed import CACHE, NotInstalledError, python_environment

ACCESS = "stored-bench-" + 27 * "a"
"""Every stored access token, but for those that a server gave."""
DAY = 86400
_MS = 1000.0


# -- the accounts ------------------------------------------------------------------------------


def name(number: int) -> str:
    """Return the name of the account that was stored as this one; 0 is the one that is meant where none is named."""
    return f"cafe-{number:05}" if number else "default"


def fill(home: Path, count: int) -> None:
    """Have so many accounts stored there, good for a day; the first stays if it is there. Synced all at once."""
    store = Accounts(FileStore(str(home / "accounts")))
    with mock.patch.object(files, "sync", lambda _descriptor: None):
        for number in range(count):
            if number or store.load(name(0)) is None:
                store.save(replace(_account(), name=name(number)))
    os.sync()  # now, so that no fsync that is measured waits for it


def _account() -> Account:
    now, server = clock.now(), presets()["lightspeed-l-staging"]
    return Account(
        name=name(0),
        registration=ClientRegistration(
            server=server,
            client_id="bench",
            redirect_uri=server.redirect_uri,
            token_endpoint_auth_method="client_secret_basic",
        ),
        client_secret={"env": "BENCH_SECRET"},
        tokens=TokenSet(Secret(ACCESS), Secret("stored-bench-refresh"), DAY, None),
        generation=1,
        logged_in_at=now.unix,
        refresh_token_at=now.unix,
        received=now,
        company={"id": "4711", "name": "Cafe Roma"},
        machine=machine.identity(),
    )


# -- the command -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Installation:
    """One way the command is installed. `by` says who wrote its script."""

    python: str
    script: str
    by: str


def from_wheel() -> Installation:
    """Install this very package as users have it, not editable, by the newest pip. Raises NotInstalledError."""
    python = python_environment("loopback_auth_wheel", ROOT / "tests" / "requirements.txt")
    _pip(python, "install", "--quiet", "--upgrade", "pip")
    _pip(python, "install", "--quiet", "--no-deps", "--no-build-isolation", "--force-reinstall", str(ROOT))
    return _installation(python)


def editable() -> Installation:
    """Return the one in `.venv`, its byte code written, as it is after the first use."""
    python = ROOT / ".venv" / "bin" / "python"
    subprocess.run([python, "-m", "compileall", "-q", ROOT / "loopback_auth"], env=environment(CACHE), check=True)
    return _installation(python)


def _installation(python: Path) -> Installation:
    version = _pip(python, "--version").split()[1]
    return Installation(str(python), str(python.with_name("loopback-auth")), f"pip {version}")


def _pip(python: Path, *arguments: str) -> str:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise NotInstalledError(f"pip failed: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    return done.stdout


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return what a command is given: no variable of this shell's that changes how Python starts."""
    return {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8", "LOOPBACK_AUTH_HOME": str(home), **more}


# -- runs ---------------------------------------------------------------------------------------


class RunFailedError(Exception):
    """A command that is measured did not do what it is for."""


@dataclass(frozen=True)
class Ran:
    """One run of a command: seconds from its start to its end, seconds of processor time, and its stdout."""

    seconds: float
    processor: float
    stdout: bytes


def run(command: Sequence[str], variables: Mapping[str, str]) -> Ran:
    """Run a command with its stdout in a pipe. Raises RunFailedError: its status is not 0."""
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, writing, 1)]
    try:
        begun = time.perf_counter()
        process = os.posix_spawn(command[0], list(command), dict(variables), file_actions=actions)
        os.close(writing)
        stdout = b"".join(iter(lambda: os.read(reading, 1 << 16), b""))
        _, status, used = os.wait4(process, 0)
        seconds = time.perf_counter() - begun
    finally:
        os.close(reading)
    if status != 0:
        raise RunFailedError(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    return Ran(seconds, used.ru_utime + used.ru_stime, stdout)


def in_turns(measured: Mapping[str, Callable[[], Ran]], runs: int) -> dict[str, list[float]]:
    """Run each once per round, and return the seconds of each. A round that is not counted comes first."""
    seconds: dict[str, list[float]] = {key: [] for key in measured}
    turns = deque(measured.items())
    for number in range(runs + 1):
        for key, once in turns:
            spent = once().seconds
            if number:
                seconds[key].append(spent)
        turns.rotate(-1)  # nothing always runs after the same other thing
        print(f"round {number} of {runs} done" if number else "warm-up round done", file=sys.stderr)
    return seconds


def peak(command: Sequence[str], variables: Mapping[str, str]) -> float:
    """Return the most memory the command had resident, in MiB; at least that of the small process that starts it."""
    reading, writing = os.pipe()
    words = [sys.executable, "-I", "-S", str(ROOT / "tests" / "speed" / "launcher.py"), str(writing), *command]
    try:
        subprocess.run(words, env=dict(variables), stdout=subprocess.DEVNULL, pass_fds=[writing], check=True)
        return float(json.loads(os.read(reading, 4096))["peak_kib"]) / 1024
    finally:
        os.close(reading)
        os.close(writing)


# -- what is said -------------------------------------------------------------------------------


def write(folder: Path | None, documents: Mapping[str, str]) -> None:
    """Write each document under its name, if a folder was asked for."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in documents.items():
            (folder / file).write_text(text)
