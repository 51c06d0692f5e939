"""What login looks like: colour and the live line only where they can be seen, and nothing left of them at the end."""

from __future__ import annotations

import re

import pytest

from .machine import Machine, SandboxProcess, allowed, walking
from .ptys import CTRL_C
from .test_paste import LOGGED_IN, addresses

COUNTDOWN = re.compile(r"\d:\d\d left")
LOGIN = ("login", "--server", "sandbox", "--no-browser", "--timeout")


def test_no_escapes_off_a_terminal(machine: Machine, sandbox: SandboxProcess) -> None:
    """Where stderr is no terminal there is no colour, no live line and no wrapping, whatever TERM says."""
    ended = machine.log_in("--server", "sandbox", "-v")
    assert ended.status == 0
    assert "\x1b" not in ended.stderr
    assert "\r" not in ended.stderr
    assert not COUNTDOWN.search(ended.stderr)
    assert "Waiting for the redirect to http://127.0.0.1:" in ended.stderr
    assert ended.stdout == ""
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("  2. Click Allow.")]
    assert line.endswith("for practice.")


@pytest.mark.parametrize("term", ["dumb", ""])
def test_terminal_that_cannot(machine: Machine, sandbox: SandboxProcess, term: str) -> None:
    """On a dumb or unknown terminal there is no escape sequence at all, and pasting still works."""
    terminal = machine.pty(*LOGIN, "15s", TERM=term)
    terminal.says("Waiting for the redirect to")
    start, _ = addresses(terminal.text)
    allowed(start).follow()
    assert terminal.end() == 0
    assert "\x1b" not in terminal.said
    assert not COUNTDOWN.search(terminal.said)


def test_no_color(machine: Machine, sandbox: SandboxProcess) -> None:
    """With NO_COLOR there is no colour; the live line may stay, and erases itself."""
    terminal = machine.pty(*LOGIN, "1s", NO_COLOR="1")
    assert terminal.end() == 5
    assert not re.search(r"\x1b\[[\d;]*m", terminal.said)
    assert COUNTDOWN.search(terminal.said)


def test_quiet(machine: Machine, sandbox: SandboxProcess) -> None:
    """With -q a login that works says nothing at all, on a terminal too; one that fails says why."""
    terminal = machine.pty("login", "--server", "sandbox", "--timeout", "15s", "-q", also=walking(machine))
    assert terminal.end() == 0
    assert terminal.said == ""
    terminal = machine.pty("login", "--force", "--timeout", "1s", "-q", BROWSER="true")
    assert terminal.end() == 5
    assert terminal.text.startswith("loopback-auth: error: no redirect arrived within 1 s")


def test_live_line_is_erased(machine: Machine, sandbox: SandboxProcess) -> None:
    """The countdown runs while a person is waited for; nothing of it is on the screen or in the scrollback after."""
    tmux = machine.tmux()
    tmux.type(" ".join(["loopback-auth", *LOGIN, "15s"]))
    tmux.shows(
        r"^0:1[0-4] left for the redirect to http://127\.0\.0\.1:\d+/, or its address pasted here +\(Ctrl-C stops\)"
    )
    tmux.shows(r"^0:(12|11|10|0\d) left")
    assert len(COUNTDOWN.findall(tmux.everything())) == 1
    allowed(addresses(tmux.everything())[0]).follow()
    tmux.shows(LOGGED_IN)
    assert tmux.status() == 0
    assert not COUNTDOWN.search(tmux.everything())
    assert "loopback-auth login: " not in tmux.everything()


def test_live_line_on_interruption(machine: Machine, sandbox: SandboxProcess) -> None:
    """Ctrl-C erases the countdown too: the message begins its own line."""
    terminal = machine.pty(*LOGIN, "15s")
    terminal.says("left for the redirect")
    terminal.send(CTRL_C)
    assert terminal.end() == 130
    assert re.search(r"\x1b\[2Kloopback-auth: ", terminal.said)
    assert "nothing was spent, nothing was stored" in terminal.text


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, r"^0:1\d left for the redirect, or its address pasted here   \(Ctrl-C stops\)$"),
        (60, r"^0:1\d left for the redirect   \(Ctrl-C stops\)$"),
    ],
)
def test_how_to_stop_is_always_seen(machine: Machine, sandbox: SandboxProcess, columns: int, line: str) -> None:
    """Where the whole countdown does not fit, the address that the browser shows anyhow goes first."""
    tmux = machine.tmux(columns=columns)
    tmux.type(" ".join(["loopback-auth", *LOGIN, "15s"]))
    tmux.shows(line)
    tmux.press("C-c")
    assert tmux.status() == 130


def test_narrow_window(machine: Machine, sandbox: SandboxProcess) -> None:
    """In 40 columns the addresses are whole, the countdown stays on one line, and steps break at words."""
    tmux = machine.tmux(columns=40, rows=60)
    tmux.type(" ".join(["loopback-auth", *LOGIN, "15s"]))
    tmux.shows(r"^0:1\d left   \(Ctrl-C stops\)$")
    tmux.shows(r"^0:1[0-2] left")
    screen = tmux.screen()
    assert len(COUNTDOWN.findall(screen)) == 1
    steps = screen.partition("  1. ")[2].partition("0:1")[0]
    assert re.fullmatch(r"[^\n]+\n(     \S[^\n]+\n)+  2\. [^\n]+\n(     \S[^\n]+\n)+", steps), steps
    assert " ".join(steps.split()).endswith("the sandbox is a stand-in, for practice.")
    allowed(addresses(tmux.everything())[0]).follow()
    tmux.shows(LOGGED_IN)
    tmux.type("loopback-auth status")
    tmux.shows(r"^default .*…$")
    assert tmux.status() == 0


def test_messages_between_ticks(machine: Machine, sandbox: SandboxProcess) -> None:
    """A warning while the countdown runs stands on a line of its own, and the countdown goes on below."""
    tmux = machine.tmux()
    tmux.type(" ".join(["loopback-auth", *LOGIN, "15s"]))
    tmux.shows(r"^0:1\d left")
    tmux.type("nonsense")
    tmux.shows(r"^loopback-auth: warning: what was pasted is not the redirect of this login: ")
    tmux.shows(r"^0:1\d left")
    assert len(COUNTDOWN.findall(tmux.everything())) == 1
    assert "nonsense" not in tmux.everything()
    tmux.press("C-c")
    assert tmux.status() == 130


def test_errors_have_one_form(machine: Machine, sandbox: SandboxProcess) -> None:
    """On a terminal and off it an error reads the same; its colour is all that differs."""
    plain = machine.run("login", "--client", "none")
    terminal = machine.pty("login", "--client", "none")
    assert (plain.status, terminal.end()) == (3, 3)
    assert terminal.text == plain.stderr
    assert "\x1b[31m\x1b[1merror:\x1b[0m" in terminal.said
