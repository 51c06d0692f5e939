"""The resource that shows whose access token it is (RFC 6750)."""

from __future__ import annotations

import json

import pytest

from .visitor import Clock, Log, Visitor, answered, basic, bearer


async def test_company(visitor: Visitor, log: Log) -> None:
    """A good access token shows an array with the one restaurant that allowed it."""
    page = await visitor.company(bearer(await visitor.tokens()))
    assert page.status == 200
    assert page.headers["Content-Type"] == "application/json"
    (company,) = json.loads(page.body)
    assert company == {
        "id": 4711,
        "name": "Cafe Roma",
        "timeZone": "Europe/Rome",
        "city": "Roma",
        "country": "IT",
        "globalId": "00000000-0000-4000-8000-000000004711",
        "currencyCode": "EUR",
    }
    assert log[-1].words == "company of Cafe Roma shown"


async def test_whose_login(visitor: Visitor) -> None:
    """The restaurant shown is the one whose login allowed it."""
    location = await visitor.allow(visitor.authorization_url(), "zoes-diner", "pancakes")
    tokens = answered(await visitor.exchange(location.query["code"]))
    (company,) = json.loads((await visitor.company(bearer(tokens))).body)
    assert company["name"] == "Zoë's <b>Diner</b>"


@pytest.mark.parametrize(
    ("headers", "error", "said"),
    [
        ({}, None, "no Authorization header"),
        ({"Authorization": basic()}, "invalid_request", "is not one 'Bearer'"),
        ({"Authorization": "Bearer"}, "invalid_token", "not known here"),
        ({"Authorization": "Bearer MARK.a.b"}, "invalid_token", "not known here"),
    ],
)
async def test_refused(visitor: Visitor, log: Log, headers: dict[str, str], error: str | None, said: str) -> None:
    """Without a good access token the answer is 401 with a challenge, and the log says why."""
    page = await visitor.company(headers)
    assert page.status == 401
    assert page.headers["WWW-Authenticate"].startswith('Bearer realm="sandbox"')
    assert (f'error="{error}"' in page.headers["WWW-Authenticate"]) == (error is not None)
    assert said in log[-1].words
    assert not log[-1].ok


async def test_expired(visitor: Visitor, clock: Clock, log: Log) -> None:
    """An access token stops working when it expires, and the log says how long ago that was."""
    headers = bearer(await visitor.tokens())
    clock.now += 3599
    assert (await visitor.company(headers)).status == 200
    clock.now += 13
    assert (await visitor.company(headers)).status == 401
    assert log[-1].words == "the access token expired 12 s ago: refresh it"


async def test_refresh_token_instead(visitor: Visitor) -> None:
    """A refresh token opens no resource."""
    token = (await visitor.tokens())["refresh_token"]
    assert (await visitor.company({"Authorization": f"Bearer {token}"})).status == 401
