"""The log: one line for each request, in words, without secrets."""

from __future__ import annotations

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth.sandbox.log import printable

from .conftest import Start
from .visitor import REDIRECT_URI, VERIFIER, Log, Visitor, answered, basic, bearer


async def _everything(visitor: Visitor) -> set[str]:
    """Do all there is to do, well and badly, and return every secret that went over the wire."""
    code = await visitor.code()
    tokens = answered(await visitor.exchange(code))
    newer = answered(await visitor.refresh(tokens["refresh_token"]))
    await visitor.refresh(tokens["refresh_token"])
    await visitor.company(bearer(newer))
    await visitor.company({"Authorization": "Bearer MARK-token"})
    await visitor.exchange(code)
    spoilt = await visitor.code()
    await visitor.exchange(spoilt, code_verifier="MARK-wrong-verifier" * 3)
    await visitor.exchange("MARK-code", basic(client_secret="MARK-secret"))
    await visitor.exchange("MARK-code", "", client_secret="MARK-secret")
    await visitor.token_request(basic(), grant_type="refresh_token", refresh_token="MARK-refresh")
    await visitor.log_in(visitor.authorization_url(), password="MARK-password")
    cookies = {cookie.value for cookie in visitor.session.cookie_jar}
    return {
        code,
        spoilt,
        tokens["access_token"],
        tokens["refresh_token"],
        newer["access_token"],
        newer["refresh_token"],
        VERIFIER,
        "MARK-",
        "sandbox-secret",
        "espresso",
        *cookies,
    }


async def test_no_secrets_in_lines(visitor: Visitor, log: Log) -> None:
    """No line contains a code, token, secret, password, verifier, state or cookie."""
    secrets = await _everything(visitor)
    said = json.dumps([[line.words, line.path, line.method] for line in log])
    assert len(log) >= 20
    for secret in secrets:
        assert secret not in said


async def test_no_secrets_in_python_logging(
    visitor: Visitor, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """With Python's logging at DEBUG nothing secret is logged, neither by authlib nor by aiohttp."""
    with caplog.at_level(logging.DEBUG):
        for name in ("authlib", "aiohttp", "asyncio"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        try:
            secrets = await _everything(visitor)
        finally:
            for name in ("authlib", "aiohttp", "asyncio"):
                logging.getLogger(name).setLevel(logging.NOTSET)
    assert "Issue token" in caplog.text, "authlib still logs, so this test can fail"
    printed = capfd.readouterr()
    for secret in secrets:
        assert secret not in caplog.text + printed.out + printed.err


async def test_one_line_each(visitor: Visitor, log: Log) -> None:
    """Every request gets exactly one line, with the path and never the query."""
    await visitor.allow(visitor.authorization_url())
    await visitor.company()
    assert [(line.method, line.path, line.status) for line in log] == [
        ("GET", "/resto/oauth2/v1/authorize", 200),
        ("POST", "/resto/oauth2/v1/authorize", 303),
        ("GET", "/resto/oauth2/v1/authorize", 200),
        ("POST", "/resto/oauth2/v1/authorize", 302),
        ("GET", "/resto/rest/core/company", 401),
    ]
    assert REDIRECT_URI in log[3].words


async def test_hostile_path(visitor: Visitor, log: Log) -> None:
    """Control characters in a path reach neither line nor terminal."""
    await visitor.open(visitor.authorization_url().with_path("/\x1b[2J\n\u202e"))
    assert log[-1].path == r"/\x1b[2J\x0a\xe2\x80\xae"
    assert log[-1].words.isascii()


async def test_own_failure_is_said(start: Start, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the sandbox itself fails the line says what and where, without the message."""
    visitor = await start()

    def broken(*_: object) -> None:
        raise RuntimeError("MARK-message")

    monkeypatch.setattr("loopback_auth.sandbox.state.State.load_access_token", broken)
    page = await visitor.company({"Authorization": "Bearer x"})
    assert page.status == 500
    assert re.fullmatch(r"the sandbox itself failed: RuntimeError at test_log\.py:\d+", log[-1].words)
    assert "MARK-message" not in page.body


@given(st.text())
def test_printable(text: str) -> None:
    """Any text becomes printable ASCII of at most 200 characters."""
    shown = printable(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 200


def test_printable_keeps_what_is_plain() -> None:
    """Plain text stays as it is, and everything else is shown as bytes."""
    assert printable("a 'b' ~") == "a 'b' ~"
    assert printable("é\n\ud800") == r"\xc3\xa9\x0a\xed\xa0\x80"
    assert printable("x" * 300) == "x" * 197 + "..."
