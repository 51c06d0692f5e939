"""What `onboard` looks like: a table that lives on a terminal and fits it, colour where it can be seen; else lines."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from ..terminal.ptys import CTRL_C, Pty
from ..terminal.tmux import Tmux
from .conftest import Onboarder, sent_home

_T = TypeVar("_T")
ROWS = tuple(f"r{number:02},sandbox,{5000 + number},restaurant-{number}," for number in range(1, 41))


@pytest.fixture
def terminals() -> Iterator[list[Any]]:
    """The terminals of a test, closed at its end."""
    opened: list[Any] = []
    yield opened
    for terminal in opened:
        terminal.close()


def environment(onboarder: Onboarder, **changes: str) -> dict[str, str]:
    return onboarder.program.environment | {"TERM": "xterm-256color"} | onboarder.environment | changes


def on_pty(onboarder: Onboarder, terminals: list[Any], *flags: str, **changes: str) -> Pty:
    program = onboarder.program
    words = program.words("onboard", "accounts.csv", *flags)
    terminal = Pty(words, environment(onboarder, **changes), program.folder, columns=100, rows=24)
    terminals.append(terminal)
    return terminal


async def aside(step: Callable[[], _T]) -> _T:
    return await asyncio.to_thread(step)


async def test_a_table_that_lives(onboarder: Onboarder, terminals: list[Any]) -> None:
    """Forty accounts fit a small window: who logs in now, and what to do, is on it; the last table holds them all."""
    onboarder.plan = {"restaurant-3": {"wait": 2}, "restaurant-4": {"decision": "deny"}}
    onboarder.write(*ROWS)
    program = onboarder.program
    tmux = await aside(lambda: Tmux(environment(onboarder), program.folder, columns=90, rows=20))
    terminals.append(tmux)
    await aside(lambda: tmux.type(" ".join(program.words("onboard", "accounts.csv"))))
    await aside(lambda: tmux.shows(r"^r03 +logging in"))
    screen = tmux.screen()
    assert re.search(r"^ACCOUNT  STATE          SECONDS  COMPANY$", screen, re.MULTILINE)
    assert re.search(r"^r01      done +\d+\.\d  Restaurant 1 \(company 5001\)$", screen, re.MULTILINE)
    assert re.search(r"^r03: as restaurant-3\. Log in with", screen, re.MULTILINE)
    assert re.search(r"^2 of 40 accounts done, 1 logging in, 37 waiting \(\d+ not shown\)", screen, re.MULTILINE)
    assert await aside(tmux.status) == 6
    everything = tmux.everything()
    assert len(re.findall(r"^r\d\d +done", everything, re.MULTILINE)) == 39
    assert re.search(r"^r04 +denied +\d+\.\d  access was denied", everything, re.MULTILINE)
    assert "loopback-auth: error: 39 of 40 accounts done, 1 denied" in everything
    assert "logging in" not in everything.split("ACCOUNT")[-1]


async def test_colour_where_it_can_be_seen(onboarder: Onboarder, terminals: list[Any]) -> None:
    """States have colours on a terminal, none with NO_COLOR; on a dumb one, and with -q, nothing is drawn at all."""
    for changes, flags, colour, drawn in (
        ({}, (), True, True),
        ({"NO_COLOR": "1"}, (), False, True),
        ({"TERM": "dumb"}, (), False, False),
        ({}, ("-q",), False, False),
    ):
        onboarder.write(ROWS[0])
        terminal = on_pty(onboarder, terminals, "--redo", "r01", *flags, **changes)
        assert await aside(terminal.end) == 0
        assert bool(re.search(r"\x1b\[[\d;]*3[1-7][\d;]*m", terminal.said)) is colour, (changes, terminal.said)
        assert ("ACCOUNT" in terminal.text) is drawn
        assert ("\x1b[?25l" in terminal.said) is drawn  # the cursor is hidden while the table lives
        assert terminal.said.count("\x1b[?25h") >= terminal.said.count("\x1b[?25l")


async def test_interrupted_on_a_terminal(onboarder: Onboarder, terminals: list[Any]) -> None:
    """Ctrl-C takes the table away, shows the cursor again, and says where it stands."""
    onboarder.plan = {"restaurant-1": {"wait": 60}}
    onboarder.write(*ROWS[:2])
    terminal = on_pty(onboarder, terminals)
    await aside(lambda: terminal.says("logging in"))
    terminal.send(CTRL_C)
    assert await aside(terminal.end) == 130
    assert terminal.said.rstrip().endswith("loopback-auth onboard accounts.csv")
    assert "interrupted: 0 of 2 accounts done, 2 waiting" in terminal.text
    assert terminal.said.rfind("\x1b[?25h") > terminal.said.rfind("\x1b[?25l")
    assert terminal.settings() == terminal.settings_before
    sent_home(onboarder.program)


async def test_no_table_in_a_pipe(onboarder: Onboarder) -> None:
    """Where stderr is no terminal, each event is a line, without an escape sequence."""
    onboarder.write(ROWS[0])
    ended = await onboarder.program.run("onboard", "accounts.csv", environment=environment(onboarder))
    assert ended.status == 0
    assert "\x1b" not in ended.stderr
    assert "\r" not in ended.stderr
    assert [line.split(" after ")[0] for line in ended.stderr.splitlines() if line.startswith("r01")] == [
        "r01: logging in as restaurant-1",
        "r01: done",
    ]


async def test_by_hand_on_a_terminal(onboarder: Onboarder, terminals: list[Any]) -> None:
    """Where no windows are opened, each whole address stays on the terminal, to be copied."""
    onboarder.write(ROWS[0])
    terminal = on_pty(onboarder, terminals, "--no-browser", "--timeout", "2s")
    await aside(lambda: terminal.says(r"r01: open in a private window: http://127\.0\.0\.1:\d+/start/[\w-]{22}\n"))
    assert await aside(terminal.end) == 5
    assert "\x1b[?25l" not in terminal.said
