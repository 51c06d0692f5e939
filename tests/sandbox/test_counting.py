"""How often tokens were presented and requests arrived: what a test of a client asks a sandbox afterwards."""

from __future__ import annotations

import pytest

from loopback_auth.sandbox import Sandbox, SandboxSettings
from loopback_auth.sandbox.authorization_server import _ordinal

from .conftest import Start
from .visitor import Log, Visitor, answered, basic


async def test_said_in_the_log(visitor: Visitor, log: Log) -> None:
    """From the second time on the log says how often a refresh token has come."""
    token = (await visitor.tokens())["refresh_token"]
    for _ in range(4):
        await visitor.refresh(token)
    said = [line.words.rpartition("; presented for the ")[2] for line in log[-4:]]
    assert said == [
        "tokens of Cafe Roma refreshed; the old refresh token is spent",
        "2nd time",
        "3rd time",
        "4th time",
    ]


async def test_not_presented(visitor: Visitor, log: Log) -> None:
    """A request that is refused before its refresh token is looked at says nothing of it, and does not count."""
    token = (await visitor.tokens())["refresh_token"]
    await visitor.refresh(token)
    await visitor.refresh(token, basic(client_secret="x"))
    assert "presented" not in log[-1].words
    assert visitor.sandbox.presented() == [1, 0]


def test_ordinal() -> None:
    """Numbers are said as in English."""
    numbers = (1, 2, 3, 4, 11, 12, 13, 21, 22, 103, 111, 112)
    assert " ".join(map(_ordinal, numbers)) == "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 103rd 111th 112th"


async def test_presented(start: Start) -> None:
    """A sandbox tells how often each refresh token came, in the order of their issue, whatever became of it."""
    visitor = await start(faults="late-500", fault_grant="refresh_token", fault_count=1)
    assert visitor.sandbox.presented() == []
    first = await visitor.tokens()
    second = await visitor.tokens()
    await visitor.refresh(first["refresh_token"])  # issues a third one, which is lost
    await visitor.refresh(first["refresh_token"])
    answered(await visitor.refresh(second["refresh_token"]))
    await visitor.refresh("MARK-unknown")
    assert visitor.sandbox.presented() == [2, 1, 0, 0]


async def test_presented_needs_a_running_sandbox(settings: SandboxSettings) -> None:
    """A sandbox that does not run says so."""
    with pytest.raises(RuntimeError, match="not running"):
        Sandbox(settings).presented()


async def test_token_requests(start: Start) -> None:
    """Every token request that arrives is counted by its grant type, hurt, refused, unreadable or not."""
    visitor = await start(faults="500", fault_count=1)
    assert visitor.sandbox.token_requests == {}
    code = await visitor.code()
    await visitor.exchange(code)  # answered 500
    tokens = answered(await visitor.exchange(code))
    answered(await visitor.refresh(tokens["refresh_token"]))
    await visitor.refresh("x", basic(client_secret="x"))
    await visitor.token_request(grant_type="password")
    await visitor.token_request(x="y")
    await visitor.request("POST", f"{visitor.sandbox.base_url}oauth2/v1/token", json={})
    await visitor.request("GET", f"{visitor.sandbox.base_url}oauth2/v1/token")
    assert visitor.sandbox.token_requests == {"authorization_code": 2, "refresh_token": 2, "password": 1, "": 2}
