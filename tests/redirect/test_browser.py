"""Sending the person's browser to an address: which program, with what words, and what it gets to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loopback_auth.redirect.browser import browser_command, forwarding_command, open_browser

URL = "http://127.0.0.1:8000/start/x?a=b&c='d\"e$(id)`id`;%20"

DUMPING = f"""#!{sys.executable} -I
import json, os, sys
shown = {{
    "argv": sys.argv[1:],
    "environ": dict(os.environ),
    "files": sorted(int(name) for name in os.listdir("/proc/self/fd")),
    "streams": [os.readlink(f"/proc/self/fd/{{number}}") for number in (0, 1, 2)],
    "session": os.getsid(0) == os.getpid(),
}}
print("s3kr1t-on-stdout"); print("s3kr1t-on-stderr", file=sys.stderr)
path = os.environ["DUMP_TO"]
with open(path + ".new", "w") as file:
    json.dump(shown, file)
os.rename(path + ".new", path)
"""


class Browser:
    """A browser that is a script: it writes down all that it was given."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "my browser"
        self.path.write_text(DUMPING)
        self.path.chmod(0o755)
        self._dump = folder / "dump.json"
        self.environ = {"PATH": f"{folder}:{os.environ['PATH']}", "DUMP_TO": str(self._dump)}

    def opened(self, environ: dict[str, str], url: str = URL) -> dict[str, object]:
        process = open_browser(url, environ=environ)
        assert isinstance(process, subprocess.Popen)
        process.wait(10)
        until = time.monotonic() + 10
        while not self._dump.exists() and time.monotonic() < until:
            time.sleep(0.01)
        shown: dict[str, object] = json.loads(self._dump.read_text())
        self._dump.unlink()
        return shown


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("'{}'", [URL]),
        ("'{}' --new-window", ["--new-window", URL]),
        ("'{}' -a \"b c\" d\\ e", ["-a", "b c", "d e", URL]),
        ("'{}' %s", [URL]),
        ("'{}' %s --after", [URL, "--after"]),
        ("'{}' --app=%s", [f"--app={URL}"]),
        ("'{}' '$HOME' ; id", ["$HOME", ";", "id", URL]),
        ("  '{}'  ", [URL]),
    ],
)
def test_browser_is_split_into_words_without_a_shell(browser: Browser, variable: str, words: list[str]) -> None:
    """$BROWSER is split as a shell would, and no shell sees it: the address is one word, the last or in place of %s."""
    shown = browser.opened({**browser.environ, "BROWSER": variable.format(browser.path)})
    assert shown["argv"] == words


def test_the_browser_gets_no_secret_and_no_file_of_ours(browser: Browser, tmp_path: Path) -> None:
    """Without our secrets in its environment, without streams and files of ours, in a session of its own."""
    environ = {
        **browser.environ,
        "BROWSER": f"'{browser.path}'",
        "LOOPBACK_AUTH_CLIENT_SECRET": "s3kr1t-client",
        "LOOPBACK_AUTH_STORE_KEY": "s3kr1t-key",
        "LANG": "C.UTF-8",
    }
    with (tmp_path / "tokens").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        shown = browser.opened(environ)
    seen = shown["environ"]
    assert isinstance(seen, dict)
    assert "s3kr1t" not in json.dumps(seen)
    assert seen["LANG"] == "C.UTF-8"
    assert shown["streams"] == ["/dev/null"] * 3
    files = shown["files"]
    assert isinstance(files, list)
    assert set(files) <= {0, 1, 2, 3}, "3 is the folder being listed"
    assert shown["session"] is True


def test_more_variables_can_be_hidden(browser: Browser) -> None:
    """The variable that a client secret is referred to by is hidden too."""
    environ = {**browser.environ, "BROWSER": f"'{browser.path}'", "ACME": "s3kr1t-acme", "OTHER": "seen"}
    process = open_browser(URL, environ=environ, hide=("ACME",))
    assert isinstance(process, subprocess.Popen)
    process.wait(10)
    shown = json.loads(Path(browser.environ["DUMP_TO"]).read_text())
    assert "ACME" not in shown["environ"]
    assert shown["environ"]["OTHER"] == "seen"


@pytest.mark.parametrize("variables", [{"DISPLAY": ":0"}, {"WAYLAND_DISPLAY": "wayland-0"}])
def test_the_system_browser(browser: Browser, tmp_path: Path, variables: dict[str, str]) -> None:
    """Without $BROWSER: xdg-open where there is a display, with the address as its only word."""
    browser.path.rename(tmp_path / "xdg-open")
    shown = browser.opened({**browser.environ, **variables, "BROWSER": ""})
    assert shown["argv"] == [URL]


def test_the_first_browser_that_is_there(tmp_path: Path) -> None:
    """xdg-open, else the first browser found on the PATH."""
    for name in ("chromium", "firefox"):
        (tmp_path / name).touch(0o755)
    environ = {"PATH": str(tmp_path), "DISPLAY": ":0"}
    assert browser_command(environ) == [str(tmp_path / "firefox")]
    (tmp_path / "xdg-open").touch(0o755)
    assert browser_command(environ) == [str(tmp_path / "xdg-open")]


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({}, "no display here"),
        ({"BROWSER": "  "}, "no display here"),
        ({"DISPLAY": ""}, "no display here"),
        ({"DISPLAY": ":0", "PATH": "/nonexistent"}, "no browser found here"),
        ({"BROWSER": "firefox 'unfinished"}, "$BROWSER is not a command line"),
        ({"BROWSER": "/nonexistent/browser"}, "/nonexistent/browser did not start: no such file or directory"),
        ({"BROWSER": "/"}, "/ did not start: permission denied"),
        ({"BROWSER": "/nonexistent/\x1b[2J"}, r"/nonexistent/\x1b[2J did not start: no such file or directory"),
        ({"SSH_CONNECTION": "10.0.0.1 5000 10.0.0.2 22"}, "this is an SSH session"),
    ],
)
def test_why_there_is_none(environ: dict[str, str], why: str) -> None:
    """In a few words, printable, and nothing raised."""
    if sys.platform == "darwin" and "BROWSER" not in environ:
        pytest.skip("macOS always has a way to open an address")
    assert open_browser(URL, environ=environ) == why


def test_browser_is_used_without_a_display(browser: Browser) -> None:
    """$BROWSER, when set, is always used: display or not, SSH session or not."""
    environ = {**browser.environ, "BROWSER": f"'{browser.path}'", "SSH_CONNECTION": "10.0.0.1 5000 10.0.0.2 22"}
    assert browser.opened(environ)["argv"] == [URL]


@pytest.mark.parametrize(
    ("environ", "host", "command"),
    [
        ({}, "localhost", None),
        ({"SSH_CONNECTION": "nonsense"}, "localhost", None),
        (
            {"SSH_CONNECTION": "10.0.0.1 5000 10.0.0.2 22", "USER": "anna"},
            "localhost",
            "ssh -L 8000:localhost:8000 anna@10.0.0.2",
        ),
        (
            {"SSH_CONNECTION": "10.0.0.1 5000 10.0.0.2 2222", "LOGNAME": "anna"},
            "::1",
            "ssh -L 8000:[::1]:8000 -p 2222 anna@10.0.0.2",
        ),
        ({"SSH_CONNECTION": "a b c 22", "USER": "\x1b[2J"}, "localhost", r"ssh -L 8000:localhost:8000 \x1b[2J@c"),
    ],
)
def test_the_line_that_forwards_the_port(environ: dict[str, str], host: str, command: str | None) -> None:
    """In an SSH session: the ssh -L line to type at home; outside one: none."""
    assert forwarding_command(host, 8000, environ) == command
