"""Refreshing: a token that works once, and the words for one that does not (RFC 6749 §6)."""

from __future__ import annotations

import asyncio

import pytest

from loopback_auth.sandbox import SandboxClient

from .conftest import Start
from .visitor import Clock, Log, Visitor, answered, basic, bearer, refused


async def test_refresh(visitor: Visitor, log: Log) -> None:
    """A refresh brings a new access token and a new refresh token, and nothing else."""
    old = await visitor.tokens()
    new = answered(await visitor.refresh(old["refresh_token"]))
    assert sorted(new) == ["access_token", "expires_in", "refresh_token"]
    assert new["access_token"] != old["access_token"]
    assert new["refresh_token"] != old["refresh_token"]
    assert log[-1].words == "tokens of Cafe Roma refreshed; the old refresh token is spent"


async def test_works_once(visitor: Visitor, clock: Clock, log: Log) -> None:
    """A refresh token used twice is refused, says since when, and its successor still works."""
    old = await visitor.tokens()
    new = answered(await visitor.refresh(old["refresh_token"]))
    clock.now += 59
    refused(await visitor.refresh(old["refresh_token"]), 400, "invalid_grant")
    assert "the refresh token was used before, 59 s ago, and works once" in log[-1].words
    answered(await visitor.refresh(new["refresh_token"]))


async def test_grace(start: Start, clock: Clock, log: Log) -> None:
    """Within the grace a spent refresh token brings new tokens each time, and all that were issued are good."""
    visitor = await start(grace=10)
    old = await visitor.tokens()
    issued = []
    for _ in range(3):
        issued.append(answered(await visitor.refresh(old["refresh_token"])))
        clock.now += 3
    assert log[-1].words == (
        "tokens of Cafe Roma refreshed; the old refresh token was spent 6.0 s ago, within the grace of 10 s;"
        " presented for the 3rd time"
    )
    assert len({tokens["access_token"] for tokens in issued}) == 3
    for tokens in issued:
        assert (await visitor.company(bearer(tokens))).status == 200
        answered(await visitor.refresh(tokens["refresh_token"]))


async def test_grace_ends(start: Start, clock: Clock) -> None:
    """The grace counts from the first use and ends on the second, however often the token came meanwhile."""
    visitor = await start(grace=10)
    old = await visitor.tokens()
    answered(await visitor.refresh(old["refresh_token"]))
    clock.now += 9.9
    answered(await visitor.refresh(old["refresh_token"]))
    clock.now += 0.1
    refused(await visitor.refresh(old["refresh_token"]), 400, "invalid_grant")


async def test_no_grace(visitor: Visitor, clock: Clock) -> None:
    """Without a grace a spent refresh token is refused at once, also when the clock was set back."""
    old = await visitor.tokens()
    answered(await visitor.refresh(old["refresh_token"]))
    clock.now -= 5
    refused(await visitor.refresh(old["refresh_token"]), 400, "invalid_grant")


async def test_reuse_revokes(start: Start, clock: Clock, log: Log) -> None:
    """With `reuse="revoke"` a spent refresh token takes every token of its login along (RFC 9700 §4.14.2)."""
    visitor = await start(reuse="revoke", grace=10)
    other = await visitor.tokens()
    old = await visitor.tokens()
    new = answered(await visitor.refresh(old["refresh_token"]))
    answered(await visitor.refresh(old["refresh_token"]))  # within the grace: harmless
    clock.now += 59
    refused(await visitor.refresh(old["refresh_token"]), 400, "invalid_grant")
    assert log[-1].words == (
        "the refresh token was used before, 59 s ago, and works once:"
        " every token of this login is revoked now, log in again; presented for the 3rd time"
    )
    refused(await visitor.refresh(new["refresh_token"]), 400, "invalid_grant")
    assert "the refresh token is revoked, since a code or refresh token of its login" in log[-1].words
    for either in (old, new):
        assert (await visitor.company(bearer(either))).status == 401
    assert "the access token is revoked, since a code or refresh token of its login" in log[-1].words
    answered(await visitor.refresh(other["refresh_token"]))


async def test_parallel(visitor: Visitor) -> None:
    """Of twenty requests with one refresh token at once, exactly one is answered with tokens."""
    token = (await visitor.tokens())["refresh_token"]
    pages = await asyncio.gather(*(visitor.refresh(token) for _ in range(20)))
    assert sorted(page.status for page in pages) == [200] + [400] * 19


async def test_old_access_token_stays_good(visitor: Visitor) -> None:
    """The access token from before a refresh works until it expires."""
    old = await visitor.tokens()
    await visitor.refresh(old["refresh_token"])
    assert (await visitor.company(bearer(old))).status == 200


async def test_chain(visitor: Visitor) -> None:
    """Each refresh token works after the one before it."""
    tokens = await visitor.tokens()
    for _ in range(5):
        tokens = answered(await visitor.refresh(tokens["refresh_token"]))
    assert (await visitor.company(bearer(tokens))).status == 200


@pytest.mark.parametrize(("days", "status"), [(29.9, 200), (30, 400), (40, 400)])
async def test_idle(visitor: Visitor, clock: Clock, days: float, status: int) -> None:
    """A refresh token that lies unused for thirty days is dead."""
    token = (await visitor.tokens())["refresh_token"]
    clock.now += days * 86400
    assert (await visitor.refresh(token)).status == status


async def test_idle_words(visitor: Visitor, clock: Clock, log: Log) -> None:
    """The log says that a token lay too long."""
    token = (await visitor.tokens())["refresh_token"]
    clock.now += 30.5 * 86400
    await visitor.refresh(token)
    assert log[-1].words == "the refresh token lay unused for 30 days and died: log in again"


async def test_unknown(visitor: Visitor, log: Log) -> None:
    """A refresh token that was never issued is invalid_grant."""
    refused(await visitor.refresh("MARK-unknown"), 400, "invalid_grant")
    assert "not known here" in log[-1].words
    assert "MARK-unknown" not in log[-1].words


async def test_missing(visitor: Visitor) -> None:
    """A refresh without a token is invalid_request."""
    refused(await visitor.refresh(""), 400, "invalid_request")


async def test_access_token_instead(visitor: Visitor) -> None:
    """An access token does not refresh."""
    refused(await visitor.refresh((await visitor.tokens())["access_token"]), 400, "invalid_grant")


async def test_wrong_secret_spends_nothing(visitor: Visitor) -> None:
    """A refresh with a wrong secret is refused and leaves the token good."""
    token = (await visitor.tokens())["refresh_token"]
    refused(await visitor.refresh(token, basic(client_secret="x")), 401, "invalid_client")
    answered(await visitor.refresh(token))


async def test_another_client(start: Start) -> None:
    """A client cannot use, and cannot spend, a refresh token that was issued to another."""
    visitor = await start(
        clients=(
            SandboxClient(client_id="one", client_secret="1", name="One"),
            SandboxClient(client_id="two", client_secret="2", name="Two"),
        )
    )
    one = basic("one", "1")
    tokens = answered(await visitor.exchange(await visitor.code(client_id="one"), one))
    refused(await visitor.refresh(tokens["refresh_token"], basic("two", "2")), 400, "invalid_grant")
    answered(await visitor.refresh(tokens["refresh_token"], one))


async def test_scope_is_ignored(visitor: Visitor) -> None:
    """A scope in a refresh is ignored, like everywhere else."""
    token = (await visitor.tokens())["refresh_token"]
    assert "scope" not in answered(await visitor.refresh(token, scope="everything"))
