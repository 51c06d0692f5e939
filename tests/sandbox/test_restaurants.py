"""Who can log in: the restaurants of the settings, and a thousand numbered ones beside them."""

from __future__ import annotations

import json

import pytest

from loopback_auth.sandbox import RESTAURANTS
from loopback_auth.sandbox.restaurants import NUMBERED, Restaurant, numbered

from .conftest import Start
from .visitor import VERIFIER, Page, Visitor, answered, bearer


async def company_of(visitor: Visitor, user_id: str, password: str) -> dict[str, object]:
    visitor.session.cookie_jar.clear()
    location = await visitor.allow(visitor.authorization_url(), user_id, password)
    tokens = answered(await visitor.exchange(location.query["code"], code_verifier=VERIFIER))
    (company,) = json.loads((await visitor.company(bearer(tokens))).body)
    assert isinstance(company, dict)
    return company


@pytest.mark.parametrize("number", [1, 17, 1000])
async def test_a_numbered_restaurant(visitor: Visitor, number: int) -> None:
    """`restaurant-17` logs in like any other, its tokens are its own, and they can be refreshed."""
    location = await visitor.allow(visitor.authorization_url(), f"restaurant-{number}", "practice")
    tokens = answered(await visitor.exchange(location.query["code"]))
    tokens = answered(await visitor.refresh(tokens["refresh_token"]))
    (company,) = json.loads((await visitor.company(bearer(tokens))).body)
    assert (company["id"], company["name"]) == (5000 + number, f"Restaurant {number}")


async def test_settings_come_first(start: Start) -> None:
    """The numbered restaurants are there beside whatever the settings name, where those name no other of that login."""
    own = Restaurant(
        id=1,
        name="Mine",
        user_id="restaurant-2",
        password="own",
        city="Gent",
        country="BE",
        time_zone="Europe/Brussels",
    )
    visitor = await start(restaurants=(own,))
    assert (await company_of(visitor, "restaurant-1", "practice"))["id"] == 5001
    assert (await company_of(visitor, "restaurant-2", "own"))["id"] == 1
    visitor.session.cookie_jar.clear()
    assert (await visitor.log_in(visitor.authorization_url(), "restaurant-2", "practice")).status == 401
    assert (await visitor.log_in(visitor.authorization_url(), "cafe-roma")).status == 401


@pytest.mark.parametrize(
    "user_id",
    [
        *("restaurant-0", "restaurant-1001", "restaurant-9999", "restaurant-01", "restaurant--1", "restaurant-1.0"),
        *(
            "restaurant-",
            "restaurant",
            "Restaurant-1",
            "restaurant-1\n",
            "restaurant-\u0661",
            "restaurant-" + "9" * 5000,
        ),
    ],
)
def test_who_is_not_among_them(user_id: str) -> None:
    """From 1 to 1000, each under one name."""
    assert numbered(user_id) is None


def test_each_is_another() -> None:
    """No two restaurants share an id, a name or a login, the four with names among them."""
    everyone = [*RESTAURANTS, *filter(None, (numbered(f"restaurant-{number + 1}") for number in range(NUMBERED)))]
    assert len(everyone) == len(RESTAURANTS) + 1000
    for field in ("id", "name", "user_id"):
        assert len({getattr(one, field) for one in everyone}) == len(everyone)
    assert "practice" not in repr(everyone)


async def test_they_share_a_row(visitor: Visitor) -> None:
    """Login page and start page say that there are so many, and how one logs in, without listing them."""
    url = visitor.authorization_url()
    pages: list[Page] = [await visitor.open(url), await visitor.open(url.with_path("/").with_query(None))]
    for page in pages:
        assert page.body.count("<code>restaurant-1</code> to <code>restaurant-1000</code>") == 1
        assert page.body.count("restaurant-") == 2
        assert "<code>practice</code>" in page.body
        assert page.form.tags.count("tr") >= len(RESTAURANTS) + 2


async def test_a_wrong_password(visitor: Visitor) -> None:
    """The password that they share opens no other restaurant, and no other password opens them."""
    for user_id, password in (("cafe-roma", "practice"), ("restaurant-1", "espresso"), ("restaurant-1", "")):
        page = await visitor.log_in(visitor.authorization_url(), user_id, password)
        assert page.status == 401
        assert "password is not right" in page.form.text
