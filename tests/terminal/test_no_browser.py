"""Where no browser can be opened from here: what is said instead, and what a browser's command may not do."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from .machine import Machine, SandboxProcess, allowed, free_port, walking
from .ptys import CTRL_C, Pty

FORWARDING = [
    ("10.0.0.5 50000 192.0.2.7 22", {"USER": "alice"}, "ssh -L {port}:127.0.0.1:{port} alice@192.0.2.7"),
    ("10.0.0.5 50000 192.0.2.7 2222", {"USER": "bob"}, "ssh -L {port}:127.0.0.1:{port} -p 2222 bob@192.0.2.7"),
    ("2001:db8::5 50000 2001:db8::7 22", {"USER": "alice"}, "ssh -L {port}:127.0.0.1:{port} alice@2001:db8::7"),
    ("10.0.0.5 1 192.0.2.7 22", {"USER": "", "LOGNAME": "eve"}, "ssh -L {port}:127.0.0.1:{port} eve@192.0.2.7"),
    ("10.0.0.5 1 192.0.2.7 22", {"USER": ""}, "ssh -L {port}:127.0.0.1:{port} USER@192.0.2.7"),
]


def login(machine: Machine, *arguments: str, **variables: str) -> Pty:
    return machine.pty("login", "--server", "sandbox", "--timeout", "15s", *arguments, also=variables)


def start_page(terminal: Pty) -> str:
    return terminal.says(r"(https?://\S+/start/[\w-]+)")[1]


def stop(terminal: Pty) -> str:
    terminal.says("left for the redirect")
    terminal.send(CTRL_C)
    assert terminal.end() == 130
    return terminal.text


@pytest.mark.parametrize(("connection", "variables", "line"), FORWARDING)
def test_ssh_line(
    machine: Machine, sandbox: SandboxProcess, connection: str, variables: dict[str, str], line: str
) -> None:
    """In an SSH session the line to type on one's own computer is printed: port, user, `-p` if it is not 22, IPv6."""
    terminal = login(machine, SSH_CONNECTION=connection, **variables)
    port = re.search(r":(\d+)/start/", start_page(terminal))
    assert port
    assert f"\n  {line.format(port=port[1])}\n" in stop(terminal)
    assert "No browser was opened (this is an SSH session)." in terminal.text


@pytest.mark.parametrize(
    ("redirect_uri", "forwarded"),
    [("http://[::1]:{port}/", "{port}:[::1]:{port}"), ("http://localhost:{port}/", "{port}:localhost:{port}")],
)
def test_ssh_line_names_the_redirect_host(
    machine: Machine, sandbox: SandboxProcess, redirect_uri: str, forwarded: str
) -> None:
    """What is forwarded to is the redirect URI's own host, in brackets where it is an IPv6 address."""
    port = free_port()
    terminal = login(
        machine, "--redirect-uri", redirect_uri.format(port=port), SSH_CONNECTION="10.0.0.5 1 192.0.2.7 22"
    )
    start_page(terminal)
    assert f"ssh -L {forwarded.format(port=port)} alice@192.0.2.7" in stop(terminal)


@pytest.mark.parametrize("connection", ["", "garbage", "1 2 3", "a b c d e"])
def test_no_ssh_line_from_garbage(machine: Machine, sandbox: SandboxProcess, connection: str) -> None:
    """An SSH_CONNECTION that is none makes no line to type."""
    terminal = login(machine, "--no-browser", SSH_CONNECTION=connection)
    start_page(terminal)
    assert "ssh -L" not in stop(terminal)


def test_hostile_session_variables(machine: Machine, sandbox: SandboxProcess) -> None:
    """Control bytes in the session's variables never reach the terminal."""
    terminal = login(machine, SSH_CONNECTION="a b \x1b]0;x\x07 22", USER="al\x1b[31mice")
    start_page(terminal)
    stop(terminal)
    assert "\x1b]" not in terminal.said
    assert "\x1b[31mice" not in terminal.said


def test_ssh_with_forwarded_display(machine: Machine, sandbox: SandboxProcess) -> None:
    """With `ssh -X` there is a display, and a browser is opened on it."""
    opened = machine.folder / "opened"
    machine.program(machine.folder / "bin" / "xdg-open", f'echo "$1" >"{opened}"')
    terminal = login(machine, SSH_CONNECTION="10.0.0.5 1 192.0.2.7 22", DISPLAY="localhost:10.0")
    assert "/start/" in _address(opened)
    assert "ssh -L" not in stop(terminal)


def _address(file: Path) -> str:
    deadline = time.monotonic() + 15
    while not file.exists() or not file.read_text().endswith("\n"):
        assert time.monotonic() < deadline, "no browser was opened"
        time.sleep(0.02)
    return file.read_text().strip()


def test_no_browser_flag(machine: Machine, sandbox: SandboxProcess) -> None:
    """With --no-browser nothing is opened, `$BROWSER` or not: the address is printed, and logs in."""
    terminal = login(machine, "--no-browser", **walking(machine))
    allowed(start_page(terminal)).follow()
    assert terminal.end() == 0
    assert "No browser was opened (--no-browser was given)." in terminal.text
    assert not (machine.folder / "walker.log").exists()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_where_the_second_address_works(machine: Machine, sandbox: SandboxProcess, elsewhere: bool) -> None:
    """A server at a loopback address is reached from this computer alone, and any other from anywhere: it is said."""
    endpoints = (
        "--authorization-endpoint",
        "https://idp.example/authorize",
        "--token-endpoint",
        f"{sandbox.base}token",
    )
    at = (*endpoints, "--client-id", "x") if elsewhere else ("--server", "sandbox")
    terminal = machine.pty("login", *at, "--no-browser", "--timeout", "15s")
    start_page(terminal)
    said = stop(terminal)
    assert ("in any browser anywhere, and when" in said) == elsewhere
    assert ("Or open this one in a browser on this computer, and when" in said) != elsewhere


def test_no_browser_flag_off_a_terminal(machine: Machine, sandbox: SandboxProcess) -> None:
    """Off a terminal the authorization URL is not printed, since nothing could be pasted; the address is."""
    ended = machine.run("login", "--server", "sandbox", "--no-browser", "--timeout", "1s")
    assert ended.status == 5
    assert "/start/" in ended.stderr
    assert "/authorize" not in ended.stderr
    quiet = machine.run("login", "--server", "sandbox", "--no-browser", "--timeout", "1s", "-q")
    assert quiet.status == 5
    assert "/start/" in quiet.stderr
    assert "Log in with" not in quiet.stderr


@pytest.mark.parametrize("program", ["wslview", "rundll32.exe"])
def test_wsl(machine: Machine, sandbox: SandboxProcess, program: str) -> None:
    """In WSL the browser of Windows is opened, by wslview or rundll32.exe, with the start page as its last word."""
    opened = machine.folder / "opened"
    machine.program(machine.folder / "bin" / program, f'echo "$*" >"{opened}"')
    terminal = login(machine, WSL_DISTRO_NAME="Debian")
    words = _address(opened).split()
    assert words[:-1] == (["url.dll,FileProtocolHandler"] if program == "rundll32.exe" else [])
    allowed(words[-1]).follow()
    assert terminal.end() == 0
    assert "No browser" not in terminal.text


def test_wsl_without_windows_programs(machine: Machine, sandbox: SandboxProcess) -> None:
    """In WSL with Windows' programs off the PATH that is said, and the address is printed."""
    terminal = login(machine, WSL_DISTRO_NAME="Debian")
    start_page(terminal)
    assert "No browser was opened (Windows' programs are not on the PATH)." in stop(terminal)


def test_browser_that_fails(machine: Machine, sandbox: SandboxProcess) -> None:
    """A `$BROWSER` that ends with 3 is said, with the address to open oneself, and the login goes on."""
    browser = machine.program(machine.folder / "failing", "exit 3")
    terminal = login(machine, BROWSER=str(browser))
    terminal.says("warning: the browser's command ended with 3")
    address = terminal.says(r"hint: open this yourself: (http://\S+/start/\S+)")[1]
    allowed(address).follow()
    assert terminal.end() == 0


@pytest.mark.parametrize(
    ("browser", "why"),
    [
        ("/nowhere/browser", "/nowhere/browser did not start: no such file"),
        ("'unclosed", r"\$BROWSER is not a command"),
    ],
)
def test_browser_that_does_not_start(machine: Machine, sandbox: SandboxProcess, browser: str, why: str) -> None:
    """A `$BROWSER` that cannot be started is said, with the address, and the login goes on."""
    terminal = login(machine, BROWSER=browser)
    terminal.says(rf"No browser was opened \({why}")
    allowed(start_page(terminal)).follow()
    assert terminal.end() == 0


def test_browser_that_blocks(machine: Machine, sandbox: SandboxProcess) -> None:
    """A `$BROWSER` that stays running holds nothing up, and outlives the login."""
    opened, ended = machine.folder / "opened", machine.folder / "ended"
    script = f'echo "$1" >"{opened}"; while ! [ -e "{ended}" ]; do sleep 0.1; done'
    terminal = login(machine, BROWSER=str(machine.program(machine.folder / "blocking", script)))
    allowed(_address(opened)).follow()
    assert terminal.end() == 0
    assert "blocking" in machine.processes().values()
    ended.touch()


def test_browser_that_prints(machine: Machine, sandbox: SandboxProcess) -> None:
    """What a `$BROWSER` writes reaches neither stdout nor stderr: --print-token prints the token alone."""
    walker = walking(machine)
    browser = machine.program(
        machine.folder / "loud",
        f'echo noise; echo noise >&2; (echo noise >/dev/tty) 2>/dev/null; {walker["BROWSER"]} "$1"',
    )
    out = machine.folder / "out"
    terminal = machine.pty(
        "login", "--server", "sandbox", "--timeout", "15s", "--print-token",
        stdout=out, also=walker | {"BROWSER": str(browser)},
    )  # fmt: skip
    out.touch()
    assert terminal.end() == 0
    assert "noise" not in terminal.said
    lines = out.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0] in machine.secrets()


def test_text_browser(machine: Machine, sandbox: SandboxProcess) -> None:
    """A `$BROWSER` that would read the terminal finds stdin empty and no terminal: it takes no paste from us."""
    found = machine.folder / "found"
    script = f'read -r line; (read -r tty </dev/tty) 2>/dev/null; echo "$line$tty-read" >"{found}"'
    terminal = login(machine, BROWSER=str(machine.program(machine.folder / "text", script)))
    assert _address(found) == "-read"
    terminal.says("left for the redirect")
    terminal.until(lambda: not terminal.echoes, "pastes are not echoed")
    terminal.paste("hello")
    terminal.says("what was pasted is not the redirect of this login")
    stop(terminal)


@pytest.mark.parametrize("variable", ["MY_KEY", "LOOPBACK_AUTH_CLIENT_SECRET"])
def test_browser_gets_no_secret(machine: Machine, sandbox: SandboxProcess, variable: str) -> None:
    """The browser's environment holds no client secret, under whatever variable's name it came."""
    found = machine.folder / "found"
    browser = machine.program(machine.folder / "env-browser", f'env >"{found}.part"; mv "{found}.part" "{found}"')
    machine.configure(
        "[clients.mine]\nserver = 'lightspeed-l-staging'\nclient_id = 'x'\nclient_secret = { env = 'MY_KEY' }\n"
        "redirect_uri = 'http://127.0.0.1:0/'\n"
        f"[servers.lightspeed-l-staging]\ntoken_endpoint = '{sandbox.base}token'\n"
    )
    variables = {variable: "s3kr1t-of-mine", "BROWSER": str(browser)}
    terminal = machine.pty("login", "--client", "mine", "--timeout", "15s", also=variables)
    terminal.until(found.exists, "the browser was opened")
    stop(terminal)
    assert "s3kr1t-" not in found.read_text()
