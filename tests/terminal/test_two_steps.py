"""A login in two steps: `--start` prints what to open, `--finish` takes where the browser ended."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from ..ended import Ended
from .machine import MARK, Machine, SandboxProcess, redirect_of
from .test_paste import FORMS, code_of, state_of


def begin(machine: Machine, *arguments: str) -> str:
    """Start a login and return the address to open."""
    ended = machine.run("login", "--server", "sandbox", "--start", *arguments)
    assert ended.status == 0, ended.stderr
    return str(ended.json["authorization_url"])


def finish(machine: Machine, redirect: str, *arguments: str, **variables: str) -> Ended:
    return machine.run("login", "--finish", *arguments, given=redirect + "\n", **variables)


def waiting(machine: Machine, account: str = "default") -> Path:
    return machine.home / "accounts" / account / "login"


def test_start_then_finish(machine: Machine, sandbox: SandboxProcess) -> None:
    """--start prints what to open, until when, and the command to finish with; --finish logs in."""
    started = machine.run("login", "cafe", "--server", "sandbox", "--start", "--timeout", "60s")
    assert started.status == 0
    assert list(started.json) == ["authorization_url", "expires_at", "finish"]
    assert abs(started.json["expires_at"] - time.time() - 60 - 30) < 15
    assert started.json["finish"] == "loopback-auth login cafe --finish"
    file = waiting(machine, "cafe")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    url = started.json["authorization_url"]
    verifier = json.loads(file.read_text())["code_verifier"]
    assert verifier not in started.stdout + started.stderr
    redirect = redirect_of(url)
    ended = finish(machine, redirect, "cafe")
    assert ended.status == 0, ended.stderr
    assert "Logged in to Cafe Roma (company 4711), stored as account cafe" in ended.stderr
    assert code_of(redirect) not in ended.stdout + ended.stderr
    assert not file.exists()
    assert machine.run("token", "cafe").status == 0
    assert len(sandbox.token_requests) == 1


def test_wrong_redirects_leave_it_open(machine: Machine, sandbox: SandboxProcess) -> None:
    """Forged, truncated, foreign or empty input ends with 3 and spends nothing; the right one then finishes."""
    other = redirect_of(begin(machine))  # superseded by the next start
    redirect = redirect_of(begin(machine))
    wrong = [
        redirect.replace(state_of(redirect), "A" * 43),
        other,
        redirect[:-5],
        redirect.partition("?")[0],
        code_of(redirect),
        "",
        "\x1b]0;owned\x07",
        "https://elsewhere.example/?code=x",
        "\udcff" * 3,
    ]
    for one in wrong:
        ended = machine.run("login", "--finish", given=one.encode("utf-8", "replace").decode() + "\n")
        assert (ended.status, ended.stdout) == (3, ""), ended.stderr
        assert "it can still be finished" in ended.hints[0]
        assert "\x1b" not in ended.stderr
        assert code_of(redirect) not in ended.stderr
    assert not sandbox.token_requests
    assert finish(machine, redirect).status == 0


@pytest.mark.parametrize("form", ["quotes", "line breaks in the middle", "longer than a line of the terminal"])
def test_forms_on_stdin(machine: Machine, sandbox: SandboxProcess, form: str) -> None:
    """On stdin, too, the address may come in quotes, in pieces, or longer than a terminal's line."""
    assert finish(machine, FORMS[form](redirect_of(begin(machine)))).status == 0


def test_twice(machine: Machine, sandbox: SandboxProcess) -> None:
    """A login that was finished cannot be finished again: 4, nothing sent, and the tokens stay."""
    redirect = redirect_of(begin(machine))
    assert finish(machine, redirect).status == 0
    before = machine.tokens().read_bytes()
    again = finish(machine, redirect)
    assert again.status == 4
    assert "was finished already" in again.errors[0]
    assert machine.tokens().read_bytes() == before
    assert len(sandbox.token_requests) == 1


def test_never_started(machine: Machine, sandbox: SandboxProcess) -> None:
    """Finishing what nobody started: 4, and what to type."""
    ended = finish(machine, "http://127.0.0.1:1/?code=x")
    assert (ended.status, ended.hints) == (4, ["start one: loopback-auth login default --start"])


def test_too_late(machine: Machine, sandbox: SandboxProcess) -> None:
    """A login whose time is over: 5, the file is gone, nothing was sent."""
    redirect = redirect_of(begin(machine))
    file = waiting(machine)
    members = json.loads(file.read_text())
    file.write_text(json.dumps(members | {"expires_at": time.time() - 1}))
    ended = finish(machine, redirect)
    assert ended.status == 5
    assert "was started too long ago" in ended.errors[0]
    assert not file.exists()
    assert not sandbox.token_requests


def test_two_finishes_at_once(machine: Machine, sandbox: SandboxProcess) -> None:
    """Of two finishes at once one sends the code, the other ends with 4."""
    redirect = redirect_of(begin(machine))
    processes = [machine.start("login", "--finish") for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(redirect)
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    statuses = []
    for process in processes:
        with process:
            statuses.append(process.wait(20))
    assert sorted(statuses) == [0, 4, 4]
    assert len(sandbox.token_requests) == 1


def test_refused_code_uses_it_up(machine: Machine, sandbox: SandboxProcess) -> None:
    """A code that the server refuses ends with 4, and the started login is used up."""
    redirect = redirect_of(begin(machine))
    ended = finish(machine, redirect.replace(code_of(redirect), "X" * 40))
    assert ended.status == 4, ended.stderr
    assert not waiting(machine).exists()
    assert not machine.tokens().exists()


def test_server_out_of_reach_keeps_it(machine: Machine, sandbox: SandboxProcess) -> None:
    """A token endpoint that cannot be reached ends with 9 before anything is used up."""
    redirect = redirect_of(begin(machine))
    file = waiting(machine)
    members = json.loads(file.read_text())
    members["registration"]["server"]["name"] = "elsewhere"
    members["registration"]["server"]["token_endpoint"] = "http://127.0.0.1:1/token"
    file.write_text(json.dumps(members))
    assert finish(machine, redirect).status == 9
    assert file.exists()


def test_file_that_others_can_read(machine: Machine, sandbox: SandboxProcess) -> None:
    """A started login whose file other users could read or replace is not finished: 8."""
    redirect = redirect_of(begin(machine))
    waiting(machine).chmod(0o644)
    assert finish(machine, redirect).status == 8
    waiting(machine).chmod(0o600)
    waiting(machine).write_text("{}")
    assert finish(machine, redirect).status == 8
    assert not sandbox.token_requests


def test_wrong_company(machine: Machine, sandbox: SandboxProcess) -> None:
    """Another company than the account's ends --finish with 7, and what was stored stays; --force replaces."""
    assert machine.log_in("--server", "sandbox").status == 0
    before = machine.tokens().read_bytes()
    ended = finish(machine, redirect_of(begin(machine, "--force"), "bistro-lyon"))
    assert ended.status == 7, ended.stderr
    assert machine.tokens().read_bytes() == before
    ended = finish(machine, redirect_of(begin(machine, "--force"), "bistro-lyon"), "--force")
    assert ended.status == 0, ended.stderr


def test_secret_by_reference(machine: Machine, sandbox: SandboxProcess) -> None:
    """A secret from a variable is not in the file between the steps, and must be there again for the second."""
    secret = f"{MARK}of-env"
    machine.configure(
        f'[servers.mine]\nauthorization_endpoint = "{sandbox.base}oauth2/v1/authorize"\n'
        f'token_endpoint = "{sandbox.base}oauth2/v1/token"\n'
        '[clients.mine]\nserver = "mine"\nclient_id = "sandbox"\nclient_secret = { env = "MY_KEY" }\n'
    )
    started = machine.run("login", "--client", "mine", "--start", MY_KEY=secret)
    assert started.status == 0, started.stderr
    assert secret not in waiting(machine).read_text()
    redirect = redirect_of(started.json["authorization_url"])
    without = finish(machine, redirect)
    assert without.status == 3
    assert "the variable MY_KEY is not set" in without.errors[0]
    assert not sandbox.token_requests
    assert finish(machine, redirect, MY_KEY="sandbox-secret").status == 0


def test_on_a_terminal(machine: Machine, sandbox: SandboxProcess) -> None:
    """On a terminal --finish asks for the address without showing it."""
    redirect = redirect_of(begin(machine))
    terminal = machine.pty("login", "--finish")
    terminal.says(r"Redirect URL \(not shown\)")
    terminal.until(lambda: not terminal.echoes, "it is not echoed")
    terminal.paste(redirect)
    assert terminal.end() == 0
    assert code_of(redirect) not in terminal.said
