"""Browser windows of their own, with real browsers: what they take, what they leave, and what is not theirs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

import loopback_auth
from loopback_auth.errors import StoreUnsafe
from loopback_auth.redirect.certificate import own_leaf, server_context
from loopback_auth.redirect.profiles import using
from loopback_auth.redirect.windows import Window, Windows
from tests.browsers.attach import attach_to_next, profiles
from tests.browsers.browser import BrowserError, BrowserMissing
from tests.browsers.processes import command_line, process_ids, session_of
from tests.browsers.test_harness import environment_of

HEADLESS = {
    "chromium": ["chromium", "--headless=new", "--disable-gpu", "--no-proxy-server", "--remote-debugging-port=0"],
    "firefox": ["firefox-esr", "--headless", "--remote-debugging-port=0"],
}
SECRET = "s3kr1t-client-secret"


@pytest.fixture(params=HEADLESS)
def command(request: pytest.FixtureRequest) -> list[str]:
    """The words of each browser in turn."""
    program, *flags = HEADLESS[request.param]
    found = shutil.which(program) or shutil.which(request.param)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(str(BrowserMissing(program)))
        pytest.skip(f"{program} is not installed")
    return [found, *flags]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "windows"


class Site:
    """Two https origins on localhost, one with our own leaf, and what was asked of both."""

    def __init__(self, leaf: Path, ours: str, other: str) -> None:
        self.leaf, self.ours, self.other = leaf, ours, other
        self.requests: list[str] = []
        self.cookies: list[str] = []


@pytest.fixture
async def site(tmp_path: Path, aiohttp_server: AiohttpServer) -> Site:
    site = Site(own_leaf(tmp_path / "ours")[0], "", "")

    async def page(request: web.Request) -> web.Response:
        if request.path != "/favicon.ico":
            site.requests.append(f"{request.host}{request.path}")
            site.cookies.append(request.headers.get("Cookie", ""))
        form = "<form><input name=user><button>Go</button></form>"
        return web.Response(
            text=f"<!doctype html><title>T</title>{form}<p>shown",
            content_type="text/html",
            headers={"Set-Cookie": "session=theirs; Max-Age=1000; Path=/"},
        )

    async def origin(leaf: Path) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", page)
        context: ssl.SSLContext = server_context(leaf, leaf)
        return f"localhost:{(await aiohttp_server(app, ssl=context)).port}"

    site.ours = await origin(site.leaf)
    site.other = await origin(own_leaf(tmp_path / "other")[0])
    return site


@pytest.fixture(autouse=True)
def nothing_runs_on(tmp_path: Path) -> Iterator[None]:
    """Fail the test if it leaves a process that knows its folder."""
    yield
    mark = os.fsencode(tmp_path)
    assert [command_line(pid) for pid in process_ids() if mark in command_line(pid)] == []


def opened(windows: Windows, url: str) -> Window:
    window = windows.show(url)
    assert isinstance(window, Window), window
    return window


async def until(reached: Callable[[], object], within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not reached():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def sockets() -> set[str]:
    """The folders in which Chromium keeps the sockets of its profiles."""
    return {entry.name for entry in Path("/tmp").iterdir() if "hrom" in entry.name}


async def test_our_own_leaf_is_taken_without_a_warning(command: list[str], folder: Path, site: Site) -> None:
    """A page with our own leaf is shown at once, alone in its window."""
    with Windows.open(folder, command=command, leaf=site.leaf, authority=site.ours) as windows:
        opened(windows, f"https://{site.ours}/start")
        browser = await attach_to_next(folder, set())
        try:
            await browser.wait_for(url=f"https://{site.ours}/start", text="shown")
            assert len(await browser.tabs()) == 1
        finally:
            await browser.close()
    assert site.requests == [f"{site.ours}/start"]


async def test_nothing_else_is_asked(command: list[str], folder: Path, site: Site) -> None:
    """The browser has taken over that it neither welcomes anybody nor offers to keep a password."""
    with Windows.open(folder, command=command, leaf=site.leaf, authority=site.ours) as windows:
        opened(windows, f"https://{site.ours}/1")
        (profile,) = profiles(folder)

        def kept() -> str:
            """What it has written down of its own settings, once it has."""
            for name, own in (("prefs.js", "toolkit.profiles"), ("Default/Preferences", '"browser"')):
                if (profile / name).exists() and own in (text := (profile / name).read_text()):
                    return text
            return ""

        await until(kept)
        settings = (
            ('"signon.rememberSignons", false', '"browser.aboutwelcome.enabled", false')
            if (profile / "prefs.js").exists()
            else ('"credentials_enable_service":false', '"password_manager_leak_detection":false')
        )
        assert [one for one in settings if one not in kept()] == []


@pytest.mark.parametrize("told", [True, False])
async def test_any_other_certificate_is_warned_about(command: list[str], folder: Path, site: Site, told: bool) -> None:
    """Another self-signed certificate gets the browser's warning, and no request; ours too where nobody named it."""
    authority = site.other if told else site.ours
    with Windows.open(folder, command=command, leaf=site.leaf if told else None, authority=authority) as windows:
        opened(windows, f"https://{authority}/start")
        browser = await attach_to_next(folder, set())
        try:
            await browser.wait_for(url=f"https://{authority}/start")
            for _ in range(600):
                if warned := await browser.shows_certificate_warning():
                    break
                await asyncio.sleep(0.05)
            assert warned
        finally:
            await browser.close()
    assert site.requests == []


async def test_no_session_carries_over(command: list[str], folder: Path, site: Site) -> None:
    """Two windows at once and one after them: none sends the cookie that another was given."""
    with Windows.open(folder, command=command, leaf=site.leaf, authority=site.ours) as windows:
        first, second = (opened(windows, f"https://{site.ours}/{n}") for n in (1, 2))
        await until(lambda: len(site.requests) == 2)
        assert len(profiles(folder)) == 2
        await first.close()
        await second.close()
        third = opened(windows, f"https://{site.ours}/3")
        await until(lambda: len(site.requests) == 3)
        await third.close()
    assert site.cookies == ["", "", ""]


async def test_a_window_that_is_closed_leaves_nothing(command: list[str], folder: Path, site: Site) -> None:
    """No process, no profile, no socket; the secret that is hidden never reached the browser."""
    before = sockets()
    environ = {**os.environ, "SECRET_OF_MINE": SECRET}
    with Windows.open(
        folder, command=command, leaf=site.leaf, authority=site.ours, environ=environ, hide=("SECRET_OF_MINE",)
    ) as windows:
        window = opened(windows, f"https://{site.ours}/1")
        (profile,) = profiles(folder)
        assert stat.S_IMODE(profile.stat().st_mode) == 0o700
        await until(lambda: site.requests)
        processes = using(profile, window.process.pid)
        assert len(processes) > 3
        assert [pid for pid in processes if SECRET.encode() in environment_of(pid)] == []
        streams = [os.readlink(f"/proc/{window.process.pid}/fd/{number}") for number in (0, 1, 2)]
        assert streams == ["/dev/null"] * 3
        assert session_of(window.process.pid) == window.process.pid
        assert window.ended() is None
        await asyncio.gather(window.close(), window.close())
        assert window.ended() is not None
        assert not profile.exists()
        assert [pid for pid in processes if session_of(pid) is not None] == []
        await window.close()
        assert sockets() == before


async def test_the_end_of_all_windows(command: list[str], folder: Path, site: Site) -> None:
    """Whatever is open when it is over is ended, within a moment."""
    before = sockets()
    with Windows.open(folder, command=command, leaf=site.leaf, authority=site.ours) as windows:
        several = [opened(windows, f"https://{site.ours}/{n}") for n in (1, 2)]
        await until(lambda: len(site.requests) == 2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 4
    assert all(window.ended() is not None for window in several)
    assert profiles(folder) == []
    assert sockets() == before


async def test_a_window_closed_by_hand_is_noticed(command: list[str], folder: Path, site: Site) -> None:
    """The browser ends with its last window, and says 0."""
    with Windows.open(folder, command=command, leaf=site.leaf, authority=site.ours) as windows:
        window = opened(windows, f"https://{site.ours}/1")
        browser = await attach_to_next(folder, set())
        await browser.wait_for(text="shown")
        with suppress(BrowserError, aiohttp.ClientError):
            await browser.quit()
        await until(lambda: window.ended() is not None)
        await browser.close()
        assert window.ended() == 0
        await window.close()
        assert profiles(folder) == []


RUN = """
import sys
from pathlib import Path
from loopback_auth.redirect.windows import Windows
folder, url, *command = sys.argv[1:]
with Windows.open(Path(folder), command=command) as windows:
    window = windows.show(url)
    print(window.process.pid, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_run(folder: Path, command: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process of ours with a window open, and the number of its browser."""
    words = [sys.executable, "-W", "error", "-c", RUN, str(folder), "about:blank", *command]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())


async def test_what_a_killed_run_has_left_is_ended_first(command: list[str], folder: Path) -> None:
    """A browser and a profile whose run was killed are gone before the first window opens."""
    with another_run(folder, command) as (process, browser):
        (profile,) = profiles(folder)
        await until(lambda: len(using(profile, browser)) > 3)
        process.kill()
        process.wait()
        assert session_of(browser) == browser
        with Windows.open(folder, command=["true"]):
            assert profiles(folder) == []
            assert session_of(browser) is None
            assert using(profile, browser) == []


async def test_the_windows_of_a_run_that_lives_are_its_own(folder: Path, tmp_path: Path) -> None:
    """Two runs at once: neither ends a window of the other."""
    command = [str(script(tmp_path / "chromium-slow", "exec sleep 600"))]
    with another_run(folder, command) as (process, browser):
        with Windows.open(folder, command=command) as windows:
            opened(windows, "about:blank")
            assert len(profiles(folder)) == 2
        assert session_of(browser) == browser
        assert len(profiles(folder)) == 1
        process.communicate("")
        assert process.returncode == 0
    assert profiles(folder) == []


def test_only_what_was_started_with_that_profile_is_ended(folder: Path) -> None:
    """A program that reads a leftover profile, or has one beside it, is not the browser's."""
    folder.mkdir(0o700)
    (profile := folder / "window-old").mkdir(0o700)
    words = (str(profile), f"--user-data-dir={profile}er", f"--user-data-dir={profile}")
    programs = [subprocess.Popen(["sh", "-c", "sleep 600; :", word], start_new_session=True) for word in words]
    try:
        with Windows.open(folder, command=["true"]):
            assert programs[2].wait(5) == -signal.SIGTERM
            assert [program.poll() for program in programs[:2]] == [None, None]
            assert not profile.exists()
    finally:
        for program in programs:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o700)
    return path


async def test_a_browser_that_does_not_end_is_killed(folder: Path, tmp_path: Path) -> None:
    """One that is deaf to SIGTERM has two seconds, and then it is gone with all that it started."""
    deaf = script(tmp_path / "chromium-deaf", "trap '' TERM", "sleep 600 &", "wait")
    with Windows.open(folder, command=[str(deaf)]) as windows:
        window = opened(windows, "about:blank")
        (profile,) = profiles(folder)
        await until(lambda: len(using(profile, window.process.pid)) == 2)
        begun = time.monotonic()
        await window.close()
        assert 2 <= time.monotonic() - begun < 4
        assert window.ended() == -signal.SIGKILL
        assert using(profile, window.process.pid) == []
    assert profiles(folder) == []


@pytest.mark.parametrize("words", [[], ["--profile", "%s"], ["--user-data-dir=/x"], ["-P", "mine"]])
async def test_another_command_is_left_alone(folder: Path, tmp_path: Path, words: list[str]) -> None:
    """A script, or a browser with a profile that a person chose: run as it is, the address last; never ended."""
    name = "chromium" if words else "xdg-open"
    command = [
        str(
            script(tmp_path / name, f'echo "$@" >{tmp_path}/said; mv {tmp_path}/said {tmp_path}/told', "exec sleep 600")
        ),
        *words,
    ]
    with Windows.open(folder, command=command) as windows:
        assert (windows.words, windows.isolated, windows.why_none) == (name, False, None)
        window = opened(windows, "http://localhost/")
        assert not window.isolated
        await until((tmp_path / "told").exists)
        assert (tmp_path / "told").read_text().split() == (
            ["--profile", "http://localhost/"] if "%s" in words else [*words, "http://localhost/"]
        )
        await window.close()
        assert window.ended() is None
    assert profiles(folder) == []
    assert session_of(window.process.pid) == window.process.pid
    os.kill(window.process.pid, signal.SIGKILL)
    await until(lambda: os.waitpid(window.process.pid, os.WNOHANG)[0])


DISPLAY = {"DISPLAY": ":0"}


@pytest.mark.parametrize(
    ("programs", "environ", "words", "isolated"),
    [
        (["firefox", "google-chrome", "xdg-open"], DISPLAY, "google-chrome", True),
        (["firefox", "xdg-open"], DISPLAY, "firefox", True),
        (["xdg-open"], {"WAYLAND_DISPLAY": "w"}, "xdg-open", False),
        (["chromium"], DISPLAY | {"BROWSER": "'my browser' --new"}, "my browser", False),
        (
            ["firefox"],
            {"BROWSER": "/usr/lib/chromium-for-tests/chromium-for-tests --headless"},
            "chromium-for-tests",
            True,
        ),
        (["chromium", "wslview"], {"WSL_DISTRO_NAME": "D"}, "wslview", False),
        (["chromium", "wslview"], DISPLAY | {"WSL_DISTRO_NAME": "D"}, "chromium", True),
        ([], {"BROWSER": "chromedriver"}, "chromedriver", False),
    ],
)
def test_which_browser(
    folder: Path, tmp_path: Path, programs: list[str], environ: dict[str, str], words: str, isolated: bool
) -> None:
    """`$BROWSER`, else the first whose profile we can choose, else what opens addresses here."""
    (path := tmp_path / "bin").mkdir()
    for program in programs:
        script(path / program)
    with Windows.open(folder, environ={"PATH": str(path), **environ}) as windows:
        assert (windows.words, windows.isolated, windows.why_none) == (words, isolated, None)


def test_a_browser_in_a_snap(folder: Path, tmp_path: Path) -> None:
    """Shut off from hidden folders, it has its profiles where it can see them; in its arguments and at the end."""
    (home := tmp_path / "home").mkdir()
    visible = home / "snap" / "firefox" / "common" / "loopback-auth"
    script(tmp_path / "firefox", f'[ -n "$2" ] && : >{tmp_path}/"$(basename "$2")"', "exit", "exec /snap/bin/firefox")
    environ = {"HOME": str(home), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with Windows.open(folder, command=["firefox"], environ=environ) as windows:
        assert windows.isolated
        window = opened(windows, "about:blank")
        (profile,) = profiles(visible)
        assert window.process.wait(10) == 0
        assert (tmp_path / profile.name).exists()
    assert profiles(visible) == []
    assert not folder.exists()


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({}, "no display here"),
        ({"SSH_CONNECTION": "a 1 b 2"}, "this is an SSH session"),
        (DISPLAY, "no browser found here"),
        ({"BROWSER": "'"}, "$BROWSER is not a command line"),
        ({"WSL_DISTRO_NAME": "D"}, "Windows' programs are not on the PATH"),
    ],
)
def test_why_there_is_none(folder: Path, tmp_path: Path, environ: dict[str, str], why: str) -> None:
    """In a few words, before anything is opened; asked all the same, it says so again."""
    with Windows.open(folder, environ={"PATH": str(tmp_path), **environ}) as windows:
        assert (windows.why_none, windows.words, windows.isolated) == (why, "no browser", False)
        assert windows.show("about:blank") == why


def test_a_browser_that_does_not_start(folder: Path, tmp_path: Path) -> None:
    """A program that is not there is named, and leaves no profile."""
    with Windows.open(folder, command=[str(tmp_path / "chromium")]) as windows:
        why = windows.show("about:blank")
        assert isinstance(why, str)
        assert why.endswith("did not start: no such file or directory")
    assert profiles(folder) == []


def test_a_folder_that_others_can_enter_is_refused(folder: Path) -> None:
    """Profiles hold sessions: where others can look, none is made."""
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(StoreUnsafe), Windows.open(folder, command=["chromium"]):
        pass


AS_PLAIN = """
import os, sys
from pathlib import Path
import cryptography.x509, cryptography.hazmat.primitives.serialization  # while its folder can still be read
from loopback_auth.redirect.certificate import public_key_pin
from loopback_auth.redirect.windows import Windows
home, url, authority, *command = sys.argv[1:]
leaf = Path(home, "leaf.pem")
public_key_pin(leaf)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with Windows.open(Path(home, "windows"), command=command, leaf=leaf, authority=authority) as windows:
    windows.show(url)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests do this already")
async def test_as_a_plain_user(command: list[str], site: Site) -> None:
    """Not as root, the browser keeps its own sandbox, and takes our leaf all the same."""
    with tempfile.TemporaryDirectory(prefix="plain-") as home:
        shutil.copy(site.leaf, Path(home) / "leaf.pem")
        for path in (Path(home), Path(home) / "leaf.pem"):
            os.chown(path, 65534, 65534)
        words = [sys.executable, "-c", AS_PLAIN, home, f"https://{site.ours}/plain", site.ours, *command]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "PYTHONPATH": str(Path(loopback_auth.__file__).parents[1]),
        }
        process = await asyncio.create_subprocess_exec(*words, env=environment, cwd=home, stdin=subprocess.PIPE)
        try:
            await until(lambda: site.requests)
            (profile,) = profiles(Path(home) / "windows")
            shown = [command_line(pid) for pid in process_ids() if os.fsencode(profile) in command_line(pid)]
            assert shown
            assert not [words for words in shown if b"--no-sandbox" in words.split(b"\0")]
        finally:
            await process.communicate(b"")
        assert process.returncode == 0
        assert profiles(Path(home) / "windows") == []
        assert [pid for pid in process_ids() if home.encode() in command_line(pid)] == []
    assert site.requests == [f"{site.ours}/plain"]
