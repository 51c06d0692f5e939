"""A config.toml from somewhere: whatever its names and texts hold, on a terminal they are text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..login.program import Program
from ..login.strict import StrictServer
from ..login.visits import log_in
from ..terminal.machine import Machine
from ..terminal.ptys import Pty

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202ex"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    machine.environment |= {"NO_COLOR": "1", "BROWSER": "true"}
    yield machine
    machine.close()


def configured(machine: Machine, *, production: bool = False) -> None:
    """A server and a client whose every name and text is hostile."""
    text = json.dumps(HOSTILE)
    machine.configure(
        f"[servers.{text}]\nauthorization_endpoint = 'http://127.0.0.1:1/a'\ntoken_endpoint = 'http://127.0.0.1:1/t'\n"
        f"title = {text}\nlogin_as = {text}\nallow_means = {text}\nkeys_from = {text}\n"
        f"production = {str(production).lower()}\n"
        f"[clients.{text}]\nserver = {text}\nclient_id = {text}\n[accounts.cafe]\nclient = {text}\n"
    )


def harmless(terminal: Pty) -> None:
    """Nothing but text, line ends, and what erases the line with the time that is left."""
    shown = re.sub("\r\x1b\\[2K|\r\n|\\^C", "", terminal.said)
    assert re.findall(r"[^ -~]", shown) == []


@pytest.mark.parametrize(
    "words",
    [
        ["login", "--server", "x"],
        ["login", "--server", HOSTILE, "--client-id", "c", "--timeout", "1s"],
        ["login", "--client", "x"],
        ["login", "--client", HOSTILE + "x"],
        ["login", "--client", HOSTILE],
        ["login", "cafe"],
        ["setup", "--server", "x"],
    ],
    ids=ascii,
)
def test_names_and_texts(machine: Machine, words: list[str]) -> None:
    """What `login` and `setup` say of a server or client, known or not, is printable ASCII on a terminal."""
    configured(machine)
    terminal = machine.pty(*words)
    assert terminal.end() in (3, 9)
    harmless(terminal)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["setup", "cafe"], r"Server.*: "),
        (["setup", "cafe", "--server", HOSTILE], r"Client id.*: "),
        (["login", "--server", HOSTILE], r"Client id.*: "),
        (["login", "--server", HOSTILE, "--client-id", "c"], r"Go on\? .*: "),
    ],
    ids=ascii,
)
def test_questions(machine: Machine, words: list[str], asked: str) -> None:
    """What they ask, and the answer that they offer, is printable ASCII."""
    configured(machine, production=True)
    terminal = machine.pty(*words)
    terminal.says(asked)
    harmless(terminal)


@pytest.fixture
async def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.mark.parametrize("of_account", ["", "company_id = 7"])
async def test_a_company_path_that_is_none(program: Program, of_account: str) -> None:
    """Tokens are stored though the path to ask whose they are is no path; the line to type next is one line of text."""
    async with StrictServer(secrets=program.secrets) as server:
        program.home.mkdir(mode=0o700)
        (program.home / "config.toml").write_text(
            f"[servers.mine]\nauthorization_endpoint = '{server.base}/authorize'\n"
            f"token_endpoint = '{server.base}/token'\n"
            f"api_base = '{server.base}/'\ncompany_path = {json.dumps(HOSTILE)}\n"
            "[clients.acme]\nserver = 'mine'\nclient_id = 'client-1'\n"
            f"[accounts.default]\nclient = 'acme'\n{of_account}"
        )
        ended = await log_in(program)
        assert (ended.status, ended.stdout) == (0, "")
        assert re.findall(r"[^ -~\n]", ended.stderr) == []
        assert program.tokens().refresh_token
        assert (await program.run("token")).status == 0
    assert program.complaints() == []
