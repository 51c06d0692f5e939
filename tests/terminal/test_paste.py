"""Paste and loopback raced: a redirect URL typed at the terminal, or brought by the browser; the first good one."""

from __future__ import annotations

import re
import textwrap
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError

import pytest

from ..walker import Walker
from .machine import Machine, SandboxProcess, allowed, redirect_of
from .ptys import CTRL_C, Pty

WAITING = r"left for the redirect to"
NOT_OURS = "what was pasted is not the redirect of this login: "
LOGGED_IN = r"Logged in to Cafe Roma \(company 4711\)"


@dataclass
class Waiting:
    """A login that waits for its redirect on a terminal, without a browser."""

    terminal: Pty
    start_url: str
    authorization_url: str

    @property
    def redirect_uri(self) -> str:
        return self.start_url.partition("/start/")[0] + "/"


def addresses(text: str) -> tuple[str, str]:
    """The start page, and the authorization endpoint, as they are shown."""
    start = re.search(r"^ +(https?://\S+/start/[\w-]+)\s*$", text, re.MULTILINE)
    authorization = re.search(r"^ +(https?://\S+/authorize\?\S+)\s*$", text, re.MULTILINE)
    assert start and authorization
    return start[1], authorization[1]


@pytest.fixture
def login(machine: Machine, sandbox: SandboxProcess) -> Callable[..., Waiting]:
    def begin(*arguments: str, timeout: str = "20s", columns: int = 100) -> Waiting:
        terminal = machine.pty("login", "--server", "sandbox", "--timeout", timeout, *arguments, columns=columns)
        terminal.says(WAITING if columns > 60 else "left")
        terminal.until(lambda: not terminal.echoes, "pastes are not echoed")
        return Waiting(terminal, *addresses(terminal.text))

    return begin


def code_of(redirect: str) -> str:
    return redirect.partition("code=")[2].partition("&")[0]


def state_of(redirect: str) -> str:
    return redirect.partition("state=")[2].partition("&")[0]


def test_pasted_redirect_logs_in(login: Callable[..., Waiting], sandbox: SandboxProcess, machine: Machine) -> None:
    """The address of the page that could not be reached, pasted, logs in; nothing of it is shown."""
    waiting = login()
    redirect = redirect_of(waiting.authorization_url)
    before = len(waiting.terminal.said)
    waiting.terminal.paste(redirect)
    assert waiting.terminal.end() == 0
    waiting.terminal.says(LOGGED_IN)
    shown = waiting.terminal.said[before:]
    assert code_of(redirect) not in shown
    assert state_of(redirect) not in shown
    assert len(sandbox.token_requests) == 1
    assert machine.run("token").status == 0
    assert waiting.terminal.settings() == waiting.terminal.settings_before


WRONG: dict[str, tuple[Callable[[str, Waiting], str], str]] = {
    "forged state": (lambda url, _: url.replace(state_of(url), "A" * 43), "its state is not the one of this login"),
    "no state": (lambda url, _: url.replace(f"&state={state_of(url)}", ""), "it carries no state"),
    "truncated at the state": (lambda url, _: url[:-10], "its state is not the one of this login"),
    "truncated before the ?": (lambda url, _: url.partition("?")[0], "the address ends before its ?"),
    "bare code": (lambda url, _: code_of(url), "the address should begin with http://127.0.0.1"),
    "authorization URL": (lambda _, waiting: waiting.authorization_url, "yours is at 127.0.0.1:"),
    "start page": (lambda _, waiting: waiting.start_url, "the address should begin with"),
    "another port": (lambda url, _: re.sub(r":\d+/", ":1/", url, count=1), "yours is at 127.0.0.1:1"),
    "two codes": (lambda url, _: url + "&code=second", "its parameter code stands there 2 times"),
    "neither code nor error": (lambda url, _: url.replace("code=", "cod="), "it carries neither code nor error"),
    "prose with control bytes": (lambda _url, _: "I do not\x1b]0;owned\x07 know", "the address should begin with"),
}


def test_wrong_pastes_then_the_right_one(login: Callable[..., Waiting], sandbox: SandboxProcess) -> None:
    """What is not the redirect of this login is answered in words, spends nothing, and the right one still wins."""
    waiting = login()
    redirect = redirect_of(waiting.authorization_url)
    before = len(waiting.terminal.said)
    for wrong, words in WRONG.values():
        seen = len(waiting.terminal.text)
        waiting.terminal.paste(wrong(redirect, waiting))
        waiting.terminal.says(re.escape(NOT_OURS) + ".*" + re.escape(words), after=seen)
    assert not sandbox.token_requests
    waiting.terminal.paste(redirect)
    assert waiting.terminal.end() == 0
    shown = waiting.terminal.said[before:]
    assert code_of(redirect)[:20] not in shown
    assert "\x1b]" not in shown
    assert len(sandbox.token_requests) == 1


def test_bare_code_is_not_shown(login: Callable[..., Waiting]) -> None:
    """A code pasted without its address is refused, and is not repeated on the screen."""
    waiting = login()
    code = code_of(redirect_of(waiting.authorization_url))
    before = len(waiting.terminal.said)
    waiting.terminal.paste(code)
    waiting.terminal.says(re.escape(NOT_OURS))
    waiting.terminal.send(CTRL_C)
    assert waiting.terminal.end() == 130
    assert code[:20] not in waiting.terminal.said[before:]


def test_redirect_of_another_login(login: Callable[..., Waiting], sandbox: SandboxProcess, machine: Machine) -> None:
    """The redirect of an earlier login, and that of one that runs beside, are refused by both."""
    earlier = login()
    stale = redirect_of(earlier.authorization_url)
    earlier.terminal.send(CTRL_C)
    assert earlier.terminal.end() == 130
    waiting, other = login("one"), login("two")
    theirs = redirect_of(other.authorization_url).replace(other.redirect_uri, waiting.redirect_uri)
    for wrong in (stale.replace(earlier.redirect_uri, waiting.redirect_uri), theirs):
        seen = len(waiting.terminal.text)
        waiting.terminal.paste(wrong)
        waiting.terminal.says("its state is not the one of this login", after=seen)
    assert not sandbox.token_requests
    for one in (waiting, other):
        one.terminal.paste(redirect_of(one.authorization_url))
        assert one.terminal.end() == 0
    assert len(sandbox.token_requests) == 2


def broken(text: str, end: str) -> str:
    return end.join(textwrap.wrap(text, 38))


FORMS: dict[str, Callable[[str], str]] = {
    "quotes": lambda url: f'"{url}"',
    "single quotes and blanks": lambda url: f"  '{url}'  ",
    "angle brackets": lambda url: f"<{url}>",
    "bracketed paste": lambda url: f"\x1b[200~{url}\x1b[201~",
    "bracketed paste with its line end": lambda url: f"\x1b[200~{url}\n\x1b[201~",
    "line breaks in the middle": lambda url: broken(url, "\n"),
    "carriage returns in the middle": lambda url: broken(url, "\r"),
    "both in the middle": lambda url: broken(url, "\r\n"),
    "without its scheme": lambda url: url.partition("://")[2],
    "longer than a line of the terminal": lambda url: f"{url}&more={'x' * 9000}",
    "with a fragment": lambda url: f"{url}#_=_",
    "after a mistake rubbed out": lambda url: f"no\x7f\x7f{url}",
    "after a line thrown away": lambda url: f"http://no/?code=x\x15{url}",
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_paste(login: Callable[..., Waiting], sandbox: SandboxProcess, form: str) -> None:
    """The redirect is taken however people and terminals wrap it: quotes, line breaks, paste markers, any length."""
    waiting = login()
    redirect = redirect_of(waiting.authorization_url)
    before = len(waiting.terminal.said)
    waiting.terminal.paste(FORMS[form](redirect))
    assert waiting.terminal.end() == 0
    assert code_of(redirect) not in waiting.terminal.said[before:]
    assert NOT_OURS not in waiting.terminal.text
    assert len(sandbox.token_requests) == 1


def test_browser_wins_over_half_a_paste(login: Callable[..., Waiting], sandbox: SandboxProcess) -> None:
    """A redirect by the browser logs in while something half is typed; the shell does not get what was typed."""
    waiting = login()
    waiting.terminal.send("http://127.0.0.1/?code=ha")
    walker = allowed(waiting.start_url).follow()
    assert "You are logged in" in walker.text
    assert waiting.terminal.end() == 0
    assert len(sandbox.token_requests) == 1
    assert "code=ha" not in waiting.terminal.said
    assert waiting.terminal.settings() == waiting.terminal.settings_before


def test_both_at_once(login: Callable[..., Waiting], sandbox: SandboxProcess) -> None:
    """Paste and browser with the same redirect in the same moment make one token request."""
    waiting = login()
    walker = allowed(waiting.start_url)
    redirect = walker.redirected_to
    assert redirect is not None
    browsing = threading.Thread(target=follow, args=[walker])
    browsing.start()
    waiting.terminal.paste(redirect)
    status = waiting.terminal.end()
    browsing.join()
    assert status == 0
    assert len(sandbox.token_requests) == 1
    assert " ok " in sandbox.token_requests[0]
    assert len(re.findall(LOGGED_IN, waiting.terminal.text)) == 1


def follow(walker: Walker) -> None:
    """Bring the redirect, unless the login is over by then."""
    with suppress(OSError, HTTPException):
        walker.follow()
        assert "You are logged in" in walker.text


def test_forged_redirect_does_not_disturb_a_paste(login: Callable[..., Waiting], sandbox: SandboxProcess) -> None:
    """A forged request to the loopback server between the characters of a paste changes nothing."""
    waiting = login()
    redirect = redirect_of(waiting.authorization_url)
    waiting.terminal.send(redirect[:30])
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(f"{waiting.redirect_uri}?code=forged&state=forged", timeout=10)
    assert refused.value.code == 400
    refused.value.close()
    waiting.terminal.says("a request that is not this login's redirect was ignored")
    waiting.terminal.paste(redirect[30:])
    assert waiting.terminal.end() == 0
    assert len(sandbox.token_requests) == 1


def test_denied_by_paste(login: Callable[..., Waiting], sandbox: SandboxProcess) -> None:
    """A pasted redirect that says access_denied ends the login with 6."""
    waiting = login()
    redirect = redirect_of(waiting.authorization_url)
    waiting.terminal.paste(redirect.replace(f"code={code_of(redirect)}", "error=access_denied"))
    assert waiting.terminal.end() == 6
    assert not sandbox.token_requests


def test_spent_code_by_paste(login: Callable[..., Waiting], sandbox: SandboxProcess) -> None:
    """A pasted code that the server does not take ends the login with 4, and says what to do."""
    waiting = login()
    redirect = redirect_of(waiting.authorization_url)
    waiting.terminal.paste(redirect.replace(code_of(redirect), "X" * 43))
    assert waiting.terminal.end() == 4
    assert "hint:" in waiting.terminal.text
    assert len(sandbox.token_requests) == 1


def test_nothing_pasted_is_on_the_screen(machine: Machine, sandbox: SandboxProcess) -> None:
    """Neither the screen nor the scrollback of a real terminal holds anything that was pasted."""
    tmux = machine.tmux(columns=70)
    tmux.type("loopback-auth login --server sandbox --timeout 20s")
    tmux.shows("left for the redirect")
    redirect = redirect_of(addresses(tmux.everything())[1])
    tmux.paste(redirect.replace(state_of(redirect), "forged"))
    tmux.press("Enter")
    tmux.shows(re.escape(NOT_OURS))
    tmux.paste(redirect)
    tmux.press("Enter")
    tmux.shows(LOGGED_IN)
    assert tmux.status() == 0
    everything = "".join(tmux.everything().split())
    assert code_of(redirect) not in everything
    assert "forged" not in everything
    assert not machine.secrets() & set(re.findall(r"[\w.-]+", everything))
    assert WAITING not in tmux.everything()


def test_stdin_is_a_pipe(machine: Machine, sandbox: SandboxProcess) -> None:
    """With a pipe as stdin nothing is read from it, and no paste is offered; the browser alone decides."""
    with machine.start("login", "--server", "sandbox", "--timeout", "15s") as process:
        assert process.stderr is not None
        said = ""
        while "Waiting for the redirect" not in said:
            said += process.stderr.readline()
        assert "/authorize?" not in said
        start = re.search(r"http://\S+/start/\S+", said)
        assert start
        allowed(start[0]).follow()
        assert process.wait(20) == 0
        process.communicate()


def test_stdin_is_closed(machine: Machine, sandbox: SandboxProcess) -> None:
    """With stdin closed, as some schedulers do, login works as in a pipe."""
    terminal = machine.on_pty(["sh", "-c", "exec loopback-auth login --server sandbox --timeout 15s <&-"])
    start = terminal.says(r"(http://\S+/start/\S+)\s")[1]
    terminal.says("left for the redirect to")
    assert "paste" not in terminal.text
    allowed(start).follow()
    assert terminal.end() == 0
    assert "unexpected" not in terminal.text
