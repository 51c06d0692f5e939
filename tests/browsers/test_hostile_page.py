"""A hostile page in the browser in which a person logs in: it ends no login, feeds none, and reads nothing of one."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from loopback_auth.redirect.pages import STATUS, Page, render

from ..login.program import Program, Running
from ..login.strict import StrictServer, s256
from .browser import Browser, Options
from .hostile_page import HostileSite, attack, lead, readable

HOSTILE = pytest.mark.parametrize("browser_options", [Options(names=("evil.example",))])
TWO = ("error", "start page")
GUESS = "A" * 22  # as long as what it would have to hit
LEADS = ("link", "location", "refresh", "redirect", "get", "post")
NEVER_SENT = {
    "chromium": {"fetch same-origin", "fetch later", "prerender", "preconnect", "service worker", "worker"},
    "firefox": {
        *("fetch same-origin", "fetch later", "prerender", "preconnect", "service worker", "worker"),
        *("speculation prefetch", "speculation prerender"),
    },
}
"""What a browser refuses before anything leaves it, or does not know."""
WHEN_IDLE = {"prefetch", "prefetch document"}
"""What Firefox leaves for later, and on a busy machine for never."""


@dataclass
class AskingServer(StrictServer):
    """An authorization server whose person is already logged in, and is asked to click Allow."""

    returns_state: bool = True
    referers: list[str | None] = field(default_factory=list)
    """What came as `Referer` with each request for a page."""
    _redirect: str = ""

    async def __aenter__(self) -> AskingServer:
        await super().__aenter__()
        return self

    async def _authorize(self, request: web.Request) -> web.Response:
        self.referers.append(request.headers.get("Referer"))
        if request.rel_url.query_string == "allow":
            return web.Response(status=302, headers={"Location": self._redirect})
        answer = await super()._authorize(request)
        if answer.status != 302:
            return answer
        address, _, query = answer.headers["Location"].partition("?")
        given = [pair for pair in parse_qsl(query) if self.returns_state or pair[0] != "state"]
        self._redirect = f"{address}?{urlencode(given)}"
        self.secrets |= {value for _, value in given}
        return web.Response(text="<!doctype html><title>T</title><a href='?allow'>Allow</a>", content_type="text/html")

    def code_of_somebody_else(self, redirect_uri: str) -> str:
        """Return a code that this server gave to another login, at another person's computer."""
        return self._code({"redirect_uri": redirect_uri, "code_challenge": s256(GUESS * 2)})


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    """The command; after the test nothing of it may run, listen, or have shown a secret."""
    program = Program(tmp_path)
    yield program
    await program.settled()
    assert program.complaints() == []


@asynccontextmanager
async def waiting(program: Program, browser: Browser, *arguments: str) -> AsyncIterator[tuple[Running, str]]:
    """A login whose person has been at the start page and is asked to click Allow; and the start page's address."""
    async with program.start("login", *arguments, "--timeout", "60s") as running:
        start = await running.start_url()
        await browser.goto(start)
        if await browser.shows_certificate_warning():
            await browser.accept_certificate_warning()
        await browser.wait_for(css="a[href='?allow']")
        yield running, start


def targets(base: str) -> dict[str, str]:
    """Return what a page can think of that knows where the login listens, and none of its secrets."""
    code = "code=forged"
    return {
        "no state": f"{base}/?{code}",
        "wrong state": f"{base}/?{code}&state={GUESS * 2}",
        "error": f"{base}/?error=access_denied",
        "error, wrong state": f"{base}/?error=access_denied&state={GUESS * 2}",
        "start page": f"{base}/start/{GUESS}",
        "last page": f"{base}/{GUESS}/signed_in",
    }


async def snooped(browser: Browser) -> str:
    """Return all that the current page knows of where its browser has been."""
    looks = "document.referrer, document.cookie, performance.getEntries(), history.state, window.name, !!window.opener"
    return str(await browser.execute(f"return JSON.stringify([{looks}])"))


async def policy_violations(browser: Browser) -> list[str]:
    """Return what the console has of violated Content Security Policies, frames that were refused apart."""
    console = [message for message in await browser.console() if re.search("Content.Security.Policy", message)]
    return [message for message in console if "frame-ancestors" not in message]


async def refuses_frames(browser: Browser, tries: int = 40) -> bool:
    """Whether the console tells, soon, that our pages were refused in frames: then our answers did arrive there."""
    for _ in range(tries):
        if any("frame-ancestors" in message for message in await browser.console()):
            return True
    return False


async def show(request: web.Request) -> web.Response:
    """Answer with one of our pages; on request, with a style in it that is not ours."""
    page = cast(Page, request.match_info["page"])
    body, headers = render(page)
    if request.query_string == "spoilt":
        body = body.replace(b"</head>", b"<style>h1 { color: red }</style></head>")
    return web.Response(status=STATUS[page], body=body, headers=headers)


@HOSTILE
async def test_what_would_be_seen(browser: Browser, aiohttp_server: AiohttpServer) -> None:
    """All that the page tries reaches a server, and reads from one that lets it.

    The console tells of a page of ours with a style that is not ours, and of none as it is.
    """
    async with HostileSite().at() as site, HostileSite().at() as bait:
        await browser.goto(f"{site.origin('evil.example')}/page")
        address = {"bait": f"{bait.origin('127.0.0.1')}/?code=forged"}
        learned = await attack(browser, "WAYS", address) | await attack(browser, "TABS", address)
        tried = {name.removesuffix(": bait") for name in learned}
        never = NEVER_SENT[browser.name]
        for _ in range(200):
            if tried - bait.arrived() <= never | WHEN_IDLE:
                break
            await asyncio.sleep(0.05)
        assert never <= tried - bait.arrived() <= never | WHEN_IDLE
        assert {name.removesuffix(": bait") for name in readable(learned)} >= {"fetch", "fetch no-cors", "script"}
        assert not await refuses_frames(browser, tries=1)
        for how in LEADS:
            await lead(browser, site.origin("evil.example"), how, address["bait"])
        led_here = {asked.by: asked for asked in bait.requests if asked.by in LEADS}
        with_cookie = {how for how, asked in led_here.items() if asked.headers.get("Cookie") == "bait=1"}
        assert with_cookie == {*LEADS} - {"post"}  # what SameSite=Lax lets through
        assert "evil.example" in led_here["link"].headers["Referer"]
    app = web.Application()
    app.router.add_get("/{page}", show)
    pages = await aiohttp_server(app)
    for page in STATUS:
        await browser.goto(f"http://localhost:{pages.port}/{page}")
        assert "loopback-auth, on this computer" in await browser.text()
    assert await policy_violations(browser) == []
    await browser.goto(f"http://localhost:{pages.port}/denied?spoilt")
    assert len(await policy_violations(browser)) == 1


@HOSTILE
async def test_a_login_goes_on(browser: Browser, program: Program) -> None:
    """Whatever a page of another origin sends, by whatever way, the login waits on, is not read, and ends well."""
    port = program.free_port()
    async with AskingServer(secrets=program.secrets) as server, HostileSite().at() as site:
        async with HostileSite().at(port) as early:
            rebound = await browser.open_tab(f"{early.origin('evil.example')}/page")
        tab = await browser.open_tab("about:blank")
        arguments = (*server.flags, "--redirect-uri", f"http://localhost:{port}/")
        async with waiting(program, browser, *arguments) as (running, start):
            there = targets(f"http://localhost:{port}")
            hostile = await browser.open_tab("about:blank")
            for how, to in zip(LEADS, itertools.cycle(there[kind] for kind in ("no state", "error")), strict=False):
                await lead(browser, site.origin("evil.example"), how, to)
                assert how == "post" or "This is not part of a login" in await browser.text()
            assert await policy_violations(browser) == []

            learned = {}
            for host, kinds in (("evil.example", tuple(there)), ("127.0.0.1", TWO), ("localhost", TWO)):
                await browser.goto(f"{site.origin(host)}/page")
                learned[host] = await attack(browser, "WAYS", {kind: there[kind] for kind in kinds})
                assert readable(learned[host]) == []
            learned["tabs"] = await attack(browser, "TABS", there)
            assert readable(learned["tabs"]) == []
            assert await refuses_frames(browser)

            # The name led to the page's own server until now. From here on it leads to the login, and is one origin.
            await browser.switch_to(rebound)
            other = targets(f"http://evil.example:{port}")
            learned["rebound"] = await attack(browser, "WAYS", {kind: other[kind] for kind in TWO})
            read = [learned["rebound"][way] for way in readable(learned["rebound"])]
            assert len(read) > 2
            blank = r"read: (400 |405 )?|load read: http://evil.example:\d+/.*"  # what it loaded is its own question
            assert [text for text in read if not re.fullmatch(blank, text)] == []  # not even that a login waits here

            assert server.token_requests == []
            assert running.runs
            knows = json.dumps(learned) + await snooped(browser)
            await browser.switch_to(hostile)
            knows += await snooped(browser)
            nonce = start.rpartition("/")[2]
            assert [secret for secret in (*server.secrets, nonce, "loopback-auth-") if secret in knows] == []
            with_our_cookie = {
                asked.host for asked in site.requests if "loopback-auth-" in asked.headers.get("Cookie", "")
            }
            assert with_our_cookie <= {f"localhost:{site.port}"}  # ports of a host share their cookies

            await browser.switch_to(tab)
            await browser.click("a[href='?allow']")
            await browser.wait_for(text="You are logged in")
            assert (await running.end()).status == 0
        assert running.stderr.count("warning:") == 1
        await assert_nothing_is_left(browser, server, site)


async def assert_nothing_is_left(browser: Browser, server: AskingServer, site: HostileSite) -> None:
    """After a login: neither code nor state in address bar, back list, entries or Referer, and no policy violated."""
    assert await policy_violations(browser) == []
    assert "s3kr1t" not in "".join(await browser.back_list())
    ours = [address for address in await browser.back_list() if not address.startswith(server.base)]
    assert ours == [await browser.url()]
    known = ours[0] + await snooped(browser)
    assert [secret for secret in server.secrets if secret in known] == []
    assert not {"?", "#"} & {*ours[0]}
    assert [referer and referer.startswith(f"{server.base}/authorize?") for referer in server.referers] == [None, True]
    await browser.execute(f"location.href = '{site.origin('evil.example')}/next'")
    await browser.wait_for(url="/next")
    assert ["Referer" in asked.headers for asked in site.requests if asked.path == "/next"] == [False]


@HOSTILE
async def test_without_state(browser: Browser, program: Program) -> None:
    """Where state is unconfirmed, the start page's cookie keeps out what a page sends by itself.

    A page that leads a tab to the redirect brings the cookie along: PKCE keeps its code from being of any use.
    """
    redirect_uri = f"https://localhost:{program.free_port()}/"
    async with AskingServer(secrets=program.secrets, returns_state=False) as server, HostileSite().at() as site:
        endpoints = f'authorization_endpoint = "{server.base}/authorize"\ntoken_endpoint = "{server.base}/token"'
        program.home.mkdir()
        config = program.home / "config.toml"
        config.write_text(f'[servers.asked]\nstate = "unconfirmed"\n{endpoints}\n')
        arguments = ("--server", "asked", "--client-id", server.client_id, "--redirect-uri", redirect_uri)
        tab = (await browser.tabs())[0]
        async with waiting(program, browser, *arguments) as (running, _):
            await browser.open_tab("about:blank")
            for host in ("evil.example", "localhost"):  # the latter is the same site: the cookie goes along
                await browser.goto(f"{site.origin(host)}/page")
                learned = await attack(browser, "WAYS", targets(redirect_uri[:-1]))
                assert readable(learned) == []
                assert server.token_requests == []
                assert running.runs
            assert await refuses_frames(browser)
            await browser.switch_to(tab)
            await browser.click("a[href='?allow']")
            await browser.wait_for(text="You are logged in")
            assert (await running.end()).status == 0
        stored = program.tokens()
        async with waiting(program, browser, *arguments, "--force") as (running, _):
            code = server.code_of_somebody_else(redirect_uri)
            await browser.open_tab("about:blank")
            await lead(browser, site.origin("evil.example"), "link", f"{redirect_uri}?code={quote(code, safe='')}")
            assert "logged in" not in await browser.text()
            assert (await running.stop()).status != 0
        assert program.tokens() == stored
        assert [asked.refused for asked in server.token_requests if asked.parameters["code"] != code] == [None]
        refused = "invalid_grant: the verifier does not fit the challenge"
        assert [asked.refused for asked in server.token_requests[1:]] in ([], [refused])
