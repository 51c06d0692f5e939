"""What protects a login against forged redirects where the server does not return `state`: policies, the cookie."""

from __future__ import annotations

import json
import re
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import cast
from urllib.error import HTTPError

import pytest

from ..browsers.browser import Browser
from ..browsers.opener import Opener
from ..walker import Walker
from .machine import Machine, SandboxProcess, allowed, free_port
from .ptys import Pty

ANSWERS = ["echo", "drop", "replace"]
Sandboxes = Callable[..., SandboxProcess]


def prepare(machine: Machine, sandboxes: Sandboxes, answers: str, policy: str | None) -> SandboxProcess:
    """A sandbox that treats `state` so, and a config that says what is expected of it."""
    sandbox = sandboxes(*(("--state", answers) if answers != "echo" else ()))
    rule = f'[servers.sandbox]\nstate = "{policy}"\n' if policy else ""
    machine.configure(f"[sandbox]\nport = {sandbox.port}\n{rule}")
    return sandbox


def login(machine: Machine, *arguments: str, timeout: str = "15s") -> tuple[Pty, str]:
    """A login that waits, and its start page."""
    command = ("login", "--server", "sandbox", "--no-browser", "--timeout", timeout, "-v", *arguments)
    terminal = machine.pty(*command)
    return terminal, terminal.says(r"(https?://\S+/start/[\w-]+)")[1]


def bring(address: str, cookie: str | None = None) -> int:
    """Bring a redirect as a client does that was never at the start page, unless it holds the cookie given here."""
    request = urllib.request.Request(address, headers={"Cookie": cookie} if cookie else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return cast(HTTPResponse, answer).status
    except HTTPError as refused:
        with refused:
            return refused.code


def cookies_of(walker: Walker) -> list[str]:
    return [f"{one.name}={one.value}" for one in walker.cookies if one.name.startswith("loopback-auth-")]


@pytest.mark.parametrize("policy", ["unconfirmed", "none"])
@pytest.mark.parametrize("answers", ["drop", "replace"])
def test_cookie_stands_in_for_state(machine: Machine, sandboxes: Sandboxes, answers: str, policy: str) -> None:
    """Without the state that was sent, a redirect counts only from the client that holds the start page's cookie."""
    sandbox = prepare(machine, sandboxes, answers, policy)
    terminal, start = login(machine)
    walker = allowed(start)
    redirect = walker.redirected_to
    assert redirect is not None
    (cookie,) = cookies_of(walker)
    name, value = cookie.split("=")
    forgeries = [None, f"{name}=", f"{name}={value[:-1]}", f"{name}=A{value[1:]}x", f"loopback-auth-0={value}"]
    assert [bring(redirect, one) for one in forgeries] == [400] * len(forgeries)
    assert not sandbox.token_requests
    walker.follow()
    assert "You are logged in" in walker.text
    assert terminal.end() == 0
    assert "its state is not the one that was sent, but its browser holds the start page's cookie" in terminal.text
    assert len(sandbox.token_requests) == 1


@pytest.mark.parametrize("answers", ["drop", "replace"])
def test_required_refuses_the_cookie(machine: Machine, sandboxes: Sandboxes, answers: str) -> None:
    """Where state is required, a redirect without it is refused from our own browser too, and nothing is spent."""
    sandbox = prepare(machine, sandboxes, answers, None)
    terminal, start = login(machine, timeout="2s")
    walker = allowed(start).follow()
    assert walker.status == 400
    assert terminal.end() == 5
    assert "a request that is not this login's redirect was ignored" in terminal.text
    assert not sandbox.token_requests


def test_required_refuses_a_paste_without_state(machine: Machine, sandboxes: Sandboxes) -> None:
    """Where state is required, pasting does not stand in for it."""
    sandbox = prepare(machine, sandboxes, "drop", "required")
    terminal, start = login(machine)
    redirect = allowed(start).redirected_to
    assert redirect is not None
    terminal.says("left for the redirect")
    terminal.until(lambda: not terminal.echoes, "pastes are not echoed")
    terminal.paste(redirect)
    terminal.says("what was pasted is not the redirect of this login: it carries no state")
    assert not sandbox.token_requests


@pytest.mark.parametrize("answers", ["drop", "replace"])
def test_paste_stands_in_for_state(machine: Machine, sandboxes: Sandboxes, answers: str) -> None:
    """Where state is unconfirmed, a person who pastes stands in for it, with PKCE behind."""
    prepare(machine, sandboxes, answers, "unconfirmed")
    terminal, _ = login(machine)
    authorization = terminal.says(r"(http://\S+/authorize\?\S+)")[1]
    terminal.until(lambda: not terminal.echoes, "pastes are not echoed")
    redirect = allowed(authorization).redirected_to
    assert redirect is not None
    terminal.paste(redirect)
    assert terminal.end() == 0
    assert "but you pasted it, and PKCE holds" in terminal.text


def test_forged_code_with_nothing_but_a_guess(machine: Machine, sandboxes: Sandboxes) -> None:
    """Where state is unconfirmed, a forged code or error from elsewhere on this computer does not end the login."""
    sandbox = prepare(machine, sandboxes, "echo", "unconfirmed")
    terminal, start = login(machine)
    here = start.partition("/start/")[0]
    walker = allowed(start)
    assert bring(f"{here}/?code=forged") == 400
    assert bring(f"{here}/?error=access_denied") == 400
    assert not sandbox.token_requests
    walker.follow()
    assert terminal.end() == 0


def test_verbose_says_what_held(machine: Machine, sandboxes: Sandboxes) -> None:
    """Login -v says that the state came back, and which line of config makes that the rule; once it is, no more."""
    prepare(machine, sandboxes, "echo", "unconfirmed")
    terminal, start = login(machine)
    allowed(start).follow()
    assert terminal.end() == 0
    terminal.says(
        r'its state is the one that was sent: state = "required" in \[servers.sandbox\] of config.toml pins that'
    )
    prepare(machine, sandboxes, "echo", "required")
    terminal, start = login(machine, "--force")
    allowed(start).follow()
    assert terminal.end() == 0
    terminal.says(r"its state is the one that was sent\n")
    prepare(machine, sandboxes, "drop", "unconfirmed")
    terminal, start = login(machine, "--force")
    allowed(start).follow()
    assert terminal.end() == 0
    terminal.says(r'if that is always so, state = "none" in \[servers.sandbox\] of config.toml says it')


def test_none_sends_none(machine: Machine, sandboxes: Sandboxes) -> None:
    """With `state = "none"` the authorization request carries no state; with the others it does."""
    for policy, sends in (("none", False), ("unconfirmed", True), ("required", True)):
        prepare(machine, sandboxes, "echo", policy)
        terminal, _ = login(machine)
        authorization = terminal.says(r"(http://\S+/authorize\?\S+)")[1]
        assert ("state=" in authorization) is sends
        assert "code_challenge_method=S256" in authorization
        terminal.says("left for the redirect")
        terminal.send("\x03")
        assert terminal.end() == 130


def set_cookie(address: str, ca_file: Path | None = None) -> str:
    """What the start page sets; its redirect is not followed."""
    context = None
    if ca_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cafile=ca_file)

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_arguments: object) -> None:
            return None

    handlers: list[urllib.request.BaseHandler] = [Stay(), urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        urllib.request.build_opener(*handlers).open(address, timeout=10).close()
    except HTTPError as answer:
        with answer:
            assert answer.code == 303
            (found,) = answer.headers.get_all("Set-Cookie", [])
            return str(found)
    raise AssertionError("the start page did not redirect")


def test_cookie_attributes(machine: Machine, sandboxes: Sandboxes) -> None:
    """The cookie is HttpOnly and SameSite=Lax, Secure over https, without an age, and no two share a name."""
    prepare(machine, sandboxes, "echo", "unconfirmed")
    names = set()
    for account, scheme in (("one", "http"), ("two", "http"), ("three", "https")):
        terminal, start = login(machine, account, "--redirect-uri", f"{scheme}://localhost:{free_port()}/")
        ca_file = next(iter(machine.home.glob("certificate/*.pem"))) if scheme == "https" else None
        pair, *attributes = set_cookie(start, ca_file).split("; ")
        secure = ["Secure"] if scheme == "https" else []
        assert attributes == ["Path=/", "HttpOnly", "SameSite=Lax", *secure]
        name, _, value = pair.partition("=")
        assert len(value) >= 43
        assert value not in terminal.said
        names.add(name)
    assert len(names) == 3


def test_last_page_expires_the_cookie(machine: Machine, sandboxes: Sandboxes) -> None:
    """The last page takes the cookie away again, whatever it says."""
    prepare(machine, sandboxes, "drop", "unconfirmed")
    terminal, start = login(machine)
    walker = allowed(start)
    assert cookies_of(walker)
    walker.follow()
    assert not cookies_of(walker)
    assert terminal.end() == 0


@asynccontextmanager
async def login_with(machine: Machine, opener: Opener) -> AsyncIterator[Pty]:
    terminal = machine.pty("login", "--server", "sandbox", "--timeout", "40s", "-v", BROWSER=opener.command)
    yield terminal


@pytest.mark.parametrize("answers", ["drop", "replace"])
async def test_real_browser(
    machine: Machine, sandboxes: Sandboxes, browser: Browser, opener: Opener, answers: str
) -> None:
    """A real browser brings the cookie back with the redirect, after the server's login form."""
    sandbox = prepare(machine, sandboxes, answers, "unconfirmed")
    async with login_with(machine, opener) as terminal:
        await browser.goto(await opener.address())
        await browser.wait_for(css="input[name=user_id]")
        await browser.fill("input[name=user_id]", "cafe-roma")
        await browser.fill("input[name=password]", "espresso")
        await browser.click("form button[type=submit], form button:not([type])")
        await browser.wait_for(css="button[value=allow]")
        await browser.click("button[value=allow]")
        await browser.wait_for(text="You are logged in")
        assert await browser.execute("return document.cookie") == ""
        assert terminal.end() == 0
    assert "but its browser holds the start page's cookie" in terminal.text
    assert len(sandbox.token_requests) == 1
    assert json.loads(machine.run("status", "default", "--json").stdout)["company"]["id"] == "4711"
    assert not re.search(r"code=[\w-]{10}", terminal.text)
