"""A login beside other jobs of a shell: the terminal is given back as it was, and nobody's input is eaten."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

import pytest

from .machine import Machine, SandboxProcess, redirect_of
from .ptys import CTRL_C, CTRL_Z, Pty
from .test_paste import LOGGED_IN, WAITING, addresses
from .tmux import Tmux

COMMAND = "loopback-auth login --server sandbox --timeout"


@pytest.fixture
def shell(machine: Machine, sandbox: SandboxProcess) -> Pty:
    """A shell with job control that, unlike bash, repairs nothing after a job: dash."""
    terminal = machine.on_pty(["dash", "-i"], also={"PS1": "ready> "})
    terminal.says("ready> ")
    return terminal


@pytest.fixture
def tmux(machine: Machine, sandbox: SandboxProcess) -> Tmux:
    return machine.tmux()


def status(terminal: Pty) -> int:
    """The exit status of the last command."""
    seen = len(terminal.text)
    terminal.paste("echo status=$?")
    return int(terminal.says(r"status=(\d+)\n", after=seen)[1])


def pid_of(machine: Machine) -> int:
    """The process of the login, not the shell around it."""
    (found,) = [pid for pid, name in machine.processes().items() if name.startswith("python")]
    return found


def waits(terminal: Pty) -> None:
    terminal.says(WAITING)
    terminal.until(lambda: not terminal.echoes, "pastes are not echoed")


def paste_it(terminal: Pty, _machine: Machine) -> None:
    terminal.paste(redirect_of(addresses(terminal.text)[1]))


def interrupt(terminal: Pty, _machine: Machine) -> None:
    terminal.send(CTRL_C)


def terminate(_terminal: Pty, machine: Machine) -> None:
    os.kill(pid_of(machine), signal.SIGTERM)


def nothing(_terminal: Pty, _machine: Machine) -> None:
    """The time runs out."""


ENDINGS: dict[str, tuple[Callable[[Pty, Machine], None], str, int]] = {
    "success": (paste_it, "20s", 0),
    "time-out": (nothing, "1s", 5),
    "Ctrl-C": (interrupt, "20s", 130),
    "SIGTERM": (terminate, "20s", 143),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_terminal_is_as_before(machine: Machine, shell: Pty, ending: str) -> None:
    """However a login ends, the terminal's settings are those from before it, and the shell can be typed at."""
    act, timeout, expected = ENDINGS[ending]
    before = shell.settings()
    shell.paste(f"{COMMAND} {timeout}; echo status=$?")
    waits(shell)
    act(shell, machine)
    assert shell.says(r"status=(\d+)\n")[1] == str(expected)
    assert shell.settings() == before
    assert shell.echoes


def test_ctrl_z_and_fg(machine: Machine, shell: Pty) -> None:
    """Ctrl-Z gives the shell its terminal as it was; fg takes it again, and the paste still logs in."""
    before = shell.settings()
    shell.paste(f"{COMMAND} 20s")
    waits(shell)
    seen = len(shell.text)
    shell.send(CTRL_Z)
    shell.says("Stopped", after=seen)
    assert re.search(r"\x1b\[2K\[1\]", shell.said)  # the countdown is gone from that line
    shell.says("ready> ", after=seen)
    assert shell.settings() == before
    redirect = redirect_of(addresses(shell.text)[1])
    seen = len(shell.text)
    shell.paste("fg")
    shell.says(WAITING, after=seen)
    shell.until(lambda: not shell.echoes, "pastes are not echoed")
    shell.paste(redirect)
    shell.says(LOGGED_IN)
    shell.until(lambda: shell.settings() == before, "the terminal is as before")
    assert status(shell) == 0


def test_ctrl_z_then_ended(machine: Machine, shell: Pty) -> None:
    """A login that is ended while it is stopped leaves the shell's terminal alone."""
    before = shell.settings()
    shell.paste(f"{COMMAND} 20s")
    waits(shell)
    login = pid_of(machine)
    shell.send(CTRL_Z)
    shell.says("Stopped")
    os.kill(login, signal.SIGTERM)
    os.kill(login, signal.SIGCONT)
    shell.says("error: interrupted: nothing was spent")
    assert shell.settings() == before


def test_background(machine: Machine, sandbox: SandboxProcess, shell: Pty) -> None:
    """Started with &, it neither stops nor takes what is typed into the shell; after fg it can be pasted to."""
    before = shell.settings()
    shell.paste(f"{COMMAND} 20s &")
    shell.says(r"2\. Click Allow")
    seen = len(shell.said)
    shell.stays(1.3)
    assert shell.said[seen:] == ""  # no countdown over the line that is typed into the shell
    assert shell.settings() == before
    for word in ("one", "two", "three"):
        seen = len(shell.text)
        shell.paste(f"echo typed-$((1+1))-{word}")
        shell.says(f"typed-2-{word}", after=seen)
    seen = len(shell.text)
    shell.paste("jobs")
    assert "Running" in shell.says("Running|Stopped|Done", after=seen)[0]
    seen = len(shell.text)
    shell.paste("fg")
    shell.says(WAITING, after=seen)
    shell.until(lambda: not shell.echoes, "pastes are not echoed")
    shell.paste(redirect_of(addresses(shell.text)[1]))
    shell.says(LOGGED_IN)
    shell.until(lambda: shell.settings() == before, "the terminal is as before")
    assert len(sandbox.token_requests) == 1


def test_background_ends_alone(shell: Pty) -> None:
    """In the background it ends with its time, and does not touch the settings of whoever is in front by then."""
    before = shell.settings()
    shell.paste(f"{COMMAND} 1s & wait; echo status=$?")
    shell.says(r"status=\d+\n")
    assert shell.settings() == before
    assert "no redirect arrived within 1 s" in shell.text


def test_bash_in_a_real_terminal(tmux: Tmux) -> None:
    """In bash, Ctrl-Z, fg, Ctrl-C: the prompt comes back each time, and `stty` shows what it showed before."""
    tmux.type("stty -g | sed s/^/settings-/")
    before = tmux.shows(r"^settings-(\S+)")[1]
    tmux.type(f"{COMMAND} 20s")
    tmux.shows(WAITING)
    tmux.press("C-z")
    tmux.shows(r"^\[1\]\+ +Stopped")
    tmux.type("stty -g | sed s/^/stopped-/")
    assert tmux.shows(r"^stopped-(\S+)")[1] == before
    tmux.type("fg")
    tmux.shows(WAITING)
    tmux.press("C-c")
    tmux.shows("error: interrupted: nothing was spent")
    tmux.type("stty -g | sed s/^/after-/")
    assert tmux.shows(r"^after-(\S+)")[1] == before
    assert not re.search(r"\^\[\[20[01]~", tmux.everything())
