"""Requests that are not this login's redirect: none of them has an effect, and the login goes on to its end."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit

import pytest

from .program import Program, Running
from .strict import StrictServer
from .wire import Answer, Exchange, Headers, arrive, ask, connect, send, to_redirect

CANARY = "cAnArY"
"""In every part of a stray request that could be repeated in an answer."""


@asynccontextmanager
async def waiting(program: Program, server: StrictServer, *flags: str) -> AsyncIterator[tuple[Running, str]]:
    """A login that waits for its redirect, and that redirect; at the end it comes, and the login must end well."""
    async with program.start("login", *server.flags, *flags) as running:
        redirect = await to_redirect(await running.start_url())
        yield running, redirect
        assert server.token_requests == []
        assert running.runs
        page = await arrive(redirect)
        ended = await running.end()
        assert (ended.status, page.status, page.title) == (0, 200, "You are logged in")
    assert len(server.token_requests) == 1


def check(answer: Answer, what: str) -> None:
    """Hold an answer to what all of them have in common."""
    repeated = answer.body + repr(answer.headers).encode()
    assert CANARY.encode() not in repeated, what
    assert b"s3kr1t" not in repeated, what
    assert {name: answer.headers.get(name) for name in BARE} == BARE, what
    assert not [name for name in answer.headers if name.startswith("access-control")], what
    if answer.body:
        assert answer.headers["content-type"] == "text/html; charset=utf-8", what
        policy = answer.headers["content-security-policy"]
        assert re.fullmatch(r"default-src 'none'; style-src 'sha256-\S+'; img-src data:; .*", policy), what
        assert "frame-ancestors 'none'" in policy, what
        assert b"http" not in answer.body.replace(b"<!doctype html>", b""), what  # no outside resource
        assert b"<script" not in answer.body, what


BARE = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "server": "loopback-auth",
}


async def test_methods(program: Program, server: StrictServer) -> None:
    """Every method but GET is 405 without effect, be the request otherwise the redirect itself or the start page."""
    async with program.start("login", *server.flags) as running:
        start = await running.start_url()
        methods = ("HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", CANARY)
        for method in methods:
            answer = await ask(start, method=method, headers=[("Content-Length", "0")])
            assert (answer.status, answer.body) == (405, b""), method
            check(answer, method)
        redirect = await to_redirect(start)
        for method in methods:
            answer = await ask(redirect, method=method)
            assert (answer.status, answer.headers["allow"], answer.body) == (405, "GET", b""), method
            check(answer, method)
        assert server.token_requests == []
        assert (await arrive(redirect)).status == 200
        assert (await running.end()).status == 0


async def test_hosts_and_origins(program: Program, server: StrictServer) -> None:
    """Another Host, none, two, or any Origin but null is 400 without effect, at start page and redirect alike."""
    async with program.start("login", *server.flags) as running:
        start = await running.start_url()
        port = urlsplit(start).port
        own = urlsplit(start).netloc
        wrong: dict[str, tuple[str, Headers]] = {
            "another host": (f"{CANARY}.example:{port}", ()),
            "another name of this machine": (f"localhost:{port}", ()),
            "no port": ("127.0.0.1", ()),
            "another port": (f"127.0.0.1:{port + 1 if port else 0}", ()),
            "a suffix": (f"{own}.{CANARY}.example", ()),
            "no host": ("", ()),
            "an empty host": ("", [("Host", "")]),
            "two hosts": (own, [("Host", own)]),
            "two hosts, one wrong": (own, [("Host", f"{CANARY}.example")]),
            "an origin": (own, [("Origin", f"https://{CANARY}.example")]),
            "its own origin": (own, [("Origin", f"http://{own}")]),
            "two origins": (own, [("Origin", "null"), ("Origin", f"https://{CANARY}.example")]),
        }
        for name, (host, headers) in wrong.items():
            answer = await ask(start, host=host, headers=headers)
            assert answer.status == 400, name
            check(answer, name)
        redirect = await to_redirect(start)
        for name, (host, headers) in wrong.items():
            answer = await ask(redirect, host=host, headers=headers)
            assert answer.status == 400, name
            check(answer, name)
        assert server.token_requests == []
        browser = await send(redirect, headers=[("Origin", "null")])
        assert (await browser.answer()).status == 303
        assert (await running.end()).status == 0


async def test_parts_of_other_pages(program: Program, server: StrictServer) -> None:
    """What a browser fetches for a page of its own or another's, an image, a frame, a script, has no effect."""
    async with program.start("login", *server.flags) as running:
        start = await running.start_url()
        answers = [await ask(start, headers=[("Sec-Fetch-Dest", part)]) for part in PARTS]
        redirect = await to_redirect(start)
        answers += [await ask(redirect, headers=[("Sec-Fetch-Dest", part)]) for part in PARTS]
        denial = redirect.partition("?")[0] + f"?error=access_denied&state={quote(server.state)}"
        answers += [await ask(denial, headers=[("Sec-Fetch-Dest", part)]) for part in PARTS]
        for answer in answers:
            assert (answer.status, answer.title) == (400, "This is not part of a login")
            check(answer, "a part")
        assert server.token_requests == []
        browser = await send(redirect, headers=[("Sec-Fetch-Dest", "document")])
        assert (await browser.answer()).status == 303
        assert (await running.end()).status == 0


PARTS = ("image", "iframe", "frame", "embed", "object", "empty", "script", "style", "worker", "serviceworker", "")


async def test_another_user_gets_no_start_page(program: Program, server: StrictServer) -> None:
    """The start page's address stands in the process list; who reads it there does not get state and cookie for it."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("takes another user, whom the kernel names: Linux, as root")
    async with waiting_at_start(program, server) as (running, start):
        parts = urlsplit(start)
        sent = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        before = running.stderr
        for _ in range(3):
            answer = await asyncio.to_thread(asked_as_nobody, (parts.hostname or "", parts.port or 0), sent)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"Location" not in answer
            assert b"Cookie" not in answer
        said = running.stderr.removeprefix(before)
        assert re.findall("warning: (.*)", said) == [
            "another user of this machine asked for the start page and was refused: run browser and login as one user"
        ]


@asynccontextmanager
async def waiting_at_start(program: Program, server: StrictServer) -> AsyncIterator[tuple[Running, str]]:
    """A login whose browser has not come yet; at the end it comes, and the login must end well."""
    async with program.start("login", *server.flags) as running:
        start = await running.start_url()
        yield running, start
        assert (await arrive(await to_redirect(start))).title == "You are logged in"
        assert (await running.end()).status == 0


def asked_as_nobody(address: tuple[str, int], sent: bytes) -> bytes:
    """Ask with a socket of another user: whoever makes it has it."""
    with socket.socket() as asking:
        os.fchown(asking.fileno(), 65534, 65534)
        asking.settimeout(10)
        asking.connect(address)
        asking.sendall(sent)
        return asking.recv(65536)


async def test_prefetch(program: Program, server: StrictServer) -> None:
    """What a browser fetches in advance has no effect: neither start page nor redirect is used up by it."""
    advance = [("Sec-Purpose", "prefetch"), ("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch")]
    async with program.start("login", *server.flags) as running:
        start = await running.start_url()
        answers = [await ask(start, headers=[header]) for header in advance]
        redirect = await to_redirect(start)
        answers += [await ask(redirect, headers=[header]) for header in advance]
        for answer in answers:
            assert (answer.status, answer.body) == (503, b"")
            check(answer, "prefetch")
        assert server.token_requests == []
        assert (await arrive(redirect)).status == 200
        assert (await running.end()).status == 0


async def test_wrong_redirects(program: Program, server: StrictServer) -> None:
    """A redirect with a forged, missing or second state, or one that is malformed, is 400, and said at most once."""
    async with waiting(program, server) as (running, redirect):
        base, _, query = redirect.partition("?")
        state = f"state={quote(server.state)}"
        code = f"code=s3kr1t-{CANARY}"
        wrong = [
            f"{code}&state={CANARY}",
            f"{code}&state={server.state[:-1]}",
            f"{code}&state={server.state}x",
            f"{code}&state=",
            f"{code}&State={server.state}",
            f"error=access_denied&state={CANARY}",
            "error=access_denied",
            f"error=server_error&error_description={CANARY}",
            code,
            "",
            CANARY,
            f"{query}&{state}",
            f"{query}&state={CANARY}",
            f"state={CANARY}&{query}",
            f"{query}&{code}",
            f"{query}&error=access_denied",
            f"{state}&error=access_denied&error=access_denied",
            state,
            f"{state}&code=",
            f"{state}&code={'x' * 4097}",
            f"{state}&code=%0d%0a",
            f"{state}&code=%C3%A9",
            f"{state}&code=%FF",
            f"{state}&error=%1b[31m",
            f"{state}&{code}".replace("&", ";"),
        ]
        for stray in wrong:
            answer = await ask(f"{base}?{stray}")
            assert (answer.status, answer.title) == (400, "This is not part of a login"), stray
            check(answer, stray)
        assert running.stderr.count("warning:") == 1
    assert running.stderr.count("warning:") == 1
    assert "state" in re.findall("warning: (.*)", running.stderr)[0]


async def test_wrong_path(program: Program, server: StrictServer) -> None:
    """A redirect at another path than the registered one is named on the terminal, with its remedy, and waited on."""
    async with waiting(program, server, "--redirect-uri", "http://127.0.0.1:0/callback") as (running, redirect):
        base = redirect.partition("/callback")[0]
        query = redirect.partition("?")[2]
        denial = f"error=access_denied&state={quote(server.state)}"
        paths = ("/", "/callback/", f"/Callback%0a%1b[31m{CANARY}")
        for path in (f"{one}?{carried}" for one in paths for carried in (query, denial)):
            answer = await ask(f"{base}{path}")
            assert (answer.status, answer.title) == (400, "This is not part of a login"), path
            check(answer, path)
        said = running.stderr
        assert re.findall("warning: (.*)", said) == ["a redirect arrived at /, and this login waits at another path"]
        assert "http://127.0.0.1:0/callback" in re.findall("hint: (.*)", said)[0]


async def test_nothing_there(program: Program, server: StrictServer) -> None:
    """Favicon and whatever else a browser asks for on its own is a bare 404, and not worth a word."""
    async with waiting(program, server) as (running, redirect):
        before = running.stderr
        base = redirect.partition("/?")[0]
        for path in (
            "/favicon.ico",
            f"/{CANARY}",
            f"/{CANARY}?x={CANARY}",
            "/start/",
            "/apple-touch-icon.png",
            "//",
            "/.",
        ):
            answer = await ask(base + path, headers=[("X-Any", CANARY), ("Cookie", f"a={CANARY}")])
            assert (answer.status, answer.body) == (404, b""), path
            check(answer, path)
        assert running.stderr == before


RUBBISH = {
    "not http": f"{CANARY}\r\n\r\n".encode(),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + CANARY.encode() * 60,
    "a long line": b"GET /?code=" + CANARY.encode() * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "http/0.9": f"GET /{CANARY}\r\n\r\n".encode(),
    "another version": f"GET /{CANARY} HTTP/3.7\r\n\r\n".encode(),
    "a header without colon": f"GET / HTTP/1.1\r\n{CANARY}\r\n\r\n".encode(),
    "two lengths": b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "nul": b"GET /\0 HTTP/1.1\r\nHost: \0\r\n\r\n",
}


async def test_rubbish(program: Program, server: StrictServer) -> None:
    """What is no HTTP gets a bare 4xx or nothing, without a repetition of it and without a word on the terminal."""
    async with waiting(program, server) as (running, redirect):
        before = running.stderr
        for name, sent in RUBBISH.items():
            exchange = await connect(redirect)
            exchange.write(sent)
            answer = await exchange.answer(within=15)
            assert answer.status in {0, 400, 404, 414, 431, 505}, name
            if answer.status:
                check(answer, name)
        assert running.stderr == before


async def test_cookies_of_other_programs(program: Program, server: StrictServer) -> None:
    """As many cookies as other programs can leave on this host, 180 of 4 KB, cost nobody the code."""
    async with program.start("login", *server.flags) as running:
        redirect = await to_redirect(await running.start_url())
        many = "; ".join(f"other{number}={'x' * 4080}" for number in range(179))
        browser = await send(redirect, headers=[("Cookie", many), ("Cookie", f"one={'y' * 4000}")])
        assert (await browser.answer()).status == 303
        assert (await running.end()).status == 0


@pytest.mark.parametrize("many", [1, 50])
async def test_silent_connections(program: Program, server: StrictServer, many: int) -> None:
    """Connections that say nothing, as browsers open in reserve, hold up neither the redirect nor the end."""
    async with program.start("login", *server.flags) as running:
        start = await running.start_url()
        silent: list[Exchange] = [await connect(start) for _ in range(many)]
        redirect = await to_redirect(start)
        begun = time.monotonic()
        assert (await arrive(redirect)).status == 200
        answered = time.monotonic()
        assert (await running.end()).status == 0
        ended = time.monotonic()
        for one in silent:
            await one.close()
    assert answered - begun < 2
    assert ended - answered < 3


async def test_flood(program: Program, server: StrictServer) -> None:
    """200 wrong redirects at once write one line at most, and the right one is answered all the same."""
    async with waiting(program, server) as (running, redirect):
        before = running.stderr
        base = redirect.partition("?")[0]
        answers = await asyncio.gather(*(ask(f"{base}?code={CANARY}&state={number}") for number in range(200)))
        assert {answer.status for answer in answers} <= {0, 400}
        assert sum(answer.status == 400 for answer in answers) > 100
        assert running.stderr.removeprefix(before).count("\n") == 1


async def test_kept_alive_connection(program: Program, server: StrictServer) -> None:
    """One connection may carry start page and redirect, as browsers do it."""
    async with program.start("login", *server.flags) as running:
        start = await running.start_url()
        exchange = await connect(start)
        location = await exchange.on_the_way(start)
        redirect = (await ask(location)).location
        clean = await exchange.on_the_way(redirect)
        assert (await arrive_at(redirect, clean)).title == "You are logged in"
        await exchange.close()
        assert (await running.end()).status == 0


async def arrive_at(redirect: str, clean: str) -> Answer:
    parts = urlsplit(redirect)
    return await ask(f"{parts.scheme}://{parts.netloc}{clean}")
