"""Containers, cron, minimal images: next to nothing in the environment, no home, no name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .machine import ROOT, Machine, SandboxProcess, allowed

NOBODY_KNOWN = 54321
"""A user id that has no name, as containers are started with."""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "loopback_auth", *arguments]


def log_in(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Be the browser for a login off a terminal; return status and stderr."""
    said = ""
    with process:
        assert process.stderr is not None
        while "Waiting for the redirect" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        start = re.search(r"http://\S+/start/\S+", said)
        assert start, said
        allowed(start[0]).follow()
        said += process.communicate(timeout=20)[1]
    return process.returncode, said


def bare(machine: Machine, sandbox: SandboxProcess) -> dict[str, str]:
    return {
        "LOOPBACK_AUTH_HOME": str(machine.home),
        "LOOPBACK_AUTH_SANDBOX_PORT": str(sandbox.port),
        "PYTHONPATH": str(ROOT),
    }


def test_empty_environment(machine: Machine, sandbox: SandboxProcess) -> None:
    """Without HOME, PATH, TERM, LANG and a terminal, login prints the address and logs in; token and status work."""
    environment = bare(machine, sandbox)
    process = subprocess.Popen(
        command("login", "--server", "sandbox", "--timeout", "15s"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=machine.folder,
    )
    status, said = log_in(process)
    assert (status, "\x1b" in said) == (0, False)
    for name in ("token", "status"):
        done = subprocess.run(command(name), env=environment, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [(), ("--no-browser",), ("--start",)])
def test_home_that_cannot_be_made(machine: Machine, sandbox: SandboxProcess, arguments: tuple[str, ...]) -> None:
    """A home that cannot be written ends login with 8 before anything is opened or shown to log in at, root or not."""
    machine.environment["LOOPBACK_AUTH_HOME"] = "/proc/nothing/here"
    ended = machine.run("login", "--server", "lightspeed-l-staging", "--client-id", "x", "--client-secret-file",
                        "/dev/null", "--redirect-uri", "http://127.0.0.1:0/", *arguments)  # fmt: skip
    assert ended.status in {3, 8}, ended.stderr
    assert "unexpected" not in ended.stderr
    assert "/start/" not in ended.stderr
    assert ended.stdout == ""


def test_home_that_cannot_be_written(machine: Machine, sandbox: SandboxProcess) -> None:
    """A sandbox's login, too, says in one line that its folder cannot be made, whoever runs it."""
    machine.environment["LOOPBACK_AUTH_HOME"] = "/proc/nothing/here"
    ended = machine.run("login", "--server", "sandbox")
    assert ended.status == 8, ended.stderr
    (error,) = ended.errors
    assert "/proc/nothing" in error


def test_user_without_name_or_home(machine: Machine, sandbox: SandboxProcess, tmp_path: Path) -> None:
    """A user id without name and HOME gets no folder called `~` in the current one, and is told so."""
    words = as_user(NOBODY_KNOWN)
    here = tmp_path / "here"
    here.mkdir(mode=0o777)
    here.chmod(0o777)
    environment = {"PYTHONPATH": str(ROOT), "LOOPBACK_AUTH_SANDBOX_PORT": str(sandbox.port)}
    arguments = command("login", "--server", "sandbox", "--timeout", "1s")
    done = subprocess.run([*words, *arguments], env=environment, cwd=here, capture_output=True, text=True, timeout=20)
    assert not list(here.iterdir())
    assert done.returncode == 8, done.stderr
    assert "error: " in done.stderr


def test_user_without_name(machine: Machine, sandbox: SandboxProcess, tmp_path: Path) -> None:
    """A user id without name logs in where LOOPBACK_AUTH_HOME is a folder of their own."""
    words = as_user(NOBODY_KNOWN)
    home = tmp_path / "of-nobody"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY_KNOWN, NOBODY_KNOWN)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    environment = bare(machine, sandbox) | {"LOOPBACK_AUTH_HOME": str(home)}
    process = subprocess.Popen(
        [*words, *command("login", "--server", "sandbox", "--timeout", "15s")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd="/",
    )
    assert log_in(process)[0] == 0


def as_user(number: int) -> list[str]:
    """The words that run a command as another user; only root can."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    words = ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups"]
    test = [*words, sys.executable, "-c", "import loopback_auth.cli.commands"]
    if subprocess.run(test, capture_output=True, env={"PYTHONPATH": str(ROOT)}, cwd="/").returncode != 0:
        pytest.skip("this Python cannot be run by other users")
    return words


@pytest.mark.parametrize("locale", [{"LANG": ""}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_locale_without_unicode(machine: Machine, sandbox: SandboxProcess, locale: dict[str, str]) -> None:
    """In a locale that has ASCII alone nothing fails: not the last line of login, not a table that is cut."""
    assert machine.log_in("--server", "sandbox", user="trattoria-napoli", **locale).status == 0
    terminal = machine.pty("status", columns=40, also=locale)
    assert terminal.end() == 0, terminal.text


def test_a_table_on_a_narrow_terminal(machine: Machine, sandbox: SandboxProcess) -> None:
    """What can be spared is left out, whole columns of it; no line is cut off."""
    assert machine.log_in("--server", "sandbox").status == 0
    shown: dict[int, list[str]] = {}
    for columns in (200, 100, 80):
        terminal = machine.pty("status", columns=columns)
        assert terminal.end() == 0
        shown[columns] = terminal.text.splitlines()[:2]
    assert shown[200][0].split()[-3:] == ["CLIENT", "SECRET", "GENERATION"]
    for columns in (100, 80):
        assert all(len(line) <= columns and "\N{HORIZONTAL ELLIPSIS}" not in line for line in shown[columns])
        assert shown[columns][0].startswith("ACCOUNT  STATE  ACCESS TOKEN  REFRESH TOKEN")
    assert len(shown[80][0].split()) < len(shown[100][0].split()) < len(shown[200][0].split())


CLOSED = {
    "<&-": ("login --force --server sandbox --timeout 1s", "login --finish", "setup", "login --client-secret-stdin"),
    ">&-": ("refresh --force", "status"),
    "2>&-": ("login another --server sandbox --timeout 1s", "login --finish </dev/null"),
    "<&- >&- 2>&-": ("status", "token --min-validity 1s"),
}


def test_streams_that_are_closed(machine: Machine, sandbox: SandboxProcess) -> None:
    """With streams closed from the start nothing fails unexpectedly."""
    assert machine.log_in("--server", "sandbox").status == 0
    running = [
        (words, closed, machine.on_pty(["sh", "-c", f"loopback-auth {words} {closed}"]))
        for closed, commands in CLOSED.items()
        for words in commands
    ]
    for words, closed, terminal in running:
        status = terminal.end()
        assert status in {0, 3, 4, 5}, (words, closed, terminal.text)
        assert "unexpected" not in terminal.text
        assert "Traceback" not in terminal.text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is full on request is Linux'")
@pytest.mark.parametrize(
    "words", ["token", "token --min-validity 1s", "status", "status --json", "api rest/core/company", "--help"]
)
def test_stdout_that_takes_no_more(machine: Machine, sandbox: SandboxProcess, words: str) -> None:
    """It is said as what it is, and the exit status is no success."""
    assert machine.log_in("--server", "sandbox").status == 0
    terminal = machine.on_pty(["sh", "-c", f"loopback-auth {words} >/dev/full"])
    assert terminal.end() == 1
    what = "token" if words == "token" else "output"
    assert terminal.text.strip() == f"loopback-auth: error: the {what} cannot be written: no space left on device"
