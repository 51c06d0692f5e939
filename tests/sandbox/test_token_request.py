"""Exchanging a code: every rule of the token endpoint, and the words for each that is broken."""

from __future__ import annotations

import asyncio
import base64
import json
import re

import pytest

from loopback_auth.sandbox import SandboxClient

from .conftest import Start
from .visitor import (
    REDIRECT_URI,
    VERIFIER,
    Clock,
    Log,
    Visitor,
    answered,
    basic,
    bearer,
    challenge_of,
    refused,
)


async def test_answer(visitor: Visitor, log: Log) -> None:
    """A good request is answered with access token, refresh token and expires_in, and nothing else."""
    page = await visitor.exchange(await visitor.code())
    tokens = answered(page)
    assert sorted(tokens) == ["access_token", "expires_in", "refresh_token"]
    assert tokens["expires_in"] == 3600
    assert page.headers["Content-Type"] == "application/json"
    assert page.headers["Cache-Control"] == "no-store"
    assert log[-1].words == "code exchanged for tokens of Cafe Roma, 0.0 s after it was issued"
    assert log[-1].ok


async def test_access_token_is_a_jwt(visitor: Visitor, clock: Clock) -> None:
    """The access token has the three parts of a JWT, names the restaurant, and says when it ends."""
    token = (await visitor.tokens())["access_token"]
    assert re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}", token)
    head, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    assert head == {"alg": "HS256", "typ": "JWT"}
    assert claims["sub"] == "4711"
    assert claims["exp"] - clock.now == 3600


async def test_access_token_lifetime(start: Start) -> None:
    """The lifetime of access tokens is a setting."""
    assert (await (await start(access_token_lifetime=7)).tokens())["expires_in"] == 7


async def test_default_redirect_uri_is_repeated(visitor: Visitor) -> None:
    """After a request without redirect_uri the token request names the registered one, as documented."""
    code = await visitor.code(redirect_uri=None)
    answered(await visitor.exchange(code, redirect_uri="https://localhost:8000/"))


async def test_scope_is_ignored(visitor: Visitor) -> None:
    """A scope changes nothing in the answer."""
    assert "scope" not in answered(await visitor.exchange(await visitor.code(scope="a"), scope="b"))


# -- the client ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        ("", "no Authorization header: the client id and secret go in HTTP Basic"),
        (basic(client_secret="MARK-wrong"), "the secret is wrong for client 'sandbox'"),
        (basic(client_secret=""), "the secret is wrong for client 'sandbox': it is empty"),
        (basic(client_secret="sandbox-secret\n"), "it ends with a line break that was encoded along"),
        (basic("nobody"), "client 'nobody' is not registered here; registered: 'sandbox'"),
        (basic("Sandbox"), "client 'Sandbox' is not registered here"),
        (basic("é\x1b"), r"client '\xc3\xa9\x1b' is not registered here"),
        ("Bearer x", "does not begin with 'Basic'"),
        ("Basic", "what follows 'Basic'"),
        ("Basic ???", "is not base64 of id:secret"),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), "is not base64 of id:secret"),
        ("Basic " + base64.b64encode(b"sandbox").decode(), "without a colon"),
    ],
)
async def test_wrong_client(visitor: Visitor, log: Log, authorization: str, said: str) -> None:
    """A client that does not prove itself by Basic is refused in words, and its code stays good."""
    code = await visitor.code()
    page = await visitor.exchange(code, authorization)
    refused(page, 401, "invalid_client")
    assert page.headers["WWW-Authenticate"] == 'Basic realm="sandbox", charset="UTF-8"'
    assert said in log[-1].words
    answered(await visitor.exchange(code))


async def test_lower_case_scheme(visitor: Visitor) -> None:
    """The scheme may be written in any case (RFC 9110 §11.1)."""
    answered(await visitor.exchange(await visitor.code(), basic().replace("Basic", "bAsIc")))


async def test_secret_in_the_body(visitor: Visitor, log: Log) -> None:
    """Id and secret in the body are refused, and the log says where they belong."""
    page = await visitor.exchange(await visitor.code(), "", client_id="sandbox", client_secret="sandbox-secret")
    refused(page, 401, "invalid_client")
    assert "go in HTTP Basic, not in the body" in log[-1].words


async def test_secret_twice(visitor: Visitor) -> None:
    """A secret in Basic and in the body is refused: one method per request (RFC 6749 §2.3)."""
    page = await visitor.exchange(await visitor.code(), client_secret="sandbox-secret")
    assert "in the body as well" in refused(page, 400, "invalid_request")


@pytest.mark.parametrize(("client_id", "status"), [("sandbox", 200), ("other", 400)])
async def test_client_id_in_the_body(visitor: Visitor, client_id: str, status: int) -> None:
    """A client_id in the body is allowed beside Basic when it is the same."""
    assert (await visitor.exchange(await visitor.code(), client_id=client_id)).status == status


async def test_form_encoding_before_basic(start: Start, log: Log) -> None:
    """Id and secret are form-encoded before base64, and one that is not gets a hint (RFC 6749 §2.3.1)."""
    visitor = await start(
        clients=(SandboxClient(client_id="a:b c", client_secret="50%+é:", name="Odd"),),
    )
    code = await visitor.code(client_id="a:b c")
    refused(await visitor.exchange(code, basic("a%3Ab+c", "50%+é:")), 401, "invalid_client")
    assert "must be form-encoded before base64" in log[-1].words
    answered(await visitor.exchange(code, basic("a%3Ab+c", "50%25%2B%C3%A9%3A")))


async def test_code_of_another_client(start: Start, log: Log) -> None:
    """A client cannot use, and cannot spend, a code that was issued to another."""
    visitor = await start(
        clients=(
            SandboxClient(client_id="one", client_secret="1", name="One"),
            SandboxClient(client_id="two", client_secret="2", name="Two"),
        )
    )
    code = await visitor.code(client_id="one")
    refused(await visitor.exchange(code, basic("two", "2")), 400, "invalid_grant")
    assert log[-1].words == "the code was issued to another client"
    answered(await visitor.exchange(code, basic("one", "1")))


# -- the code ------------------------------------------------------------------------------------------------


async def test_code_works_once(visitor: Visitor, log: Log) -> None:
    """A code presented twice is refused, and the tokens issued from it are revoked (RFC 6749 §4.1.2)."""
    code = await visitor.code()
    tokens = answered(await visitor.exchange(code))
    newer = answered(await visitor.refresh(tokens["refresh_token"]))
    refused(await visitor.exchange(code), 400, "invalid_grant")
    assert "the code was presented before, 0.0 s ago, and works once" in log[-1].words
    for either in (tokens, newer):
        assert (await visitor.company(bearer(either))).status == 401
    refused(await visitor.refresh(newer["refresh_token"]), 400, "invalid_grant")
    assert "is revoked, since a code or refresh token of its login was presented twice" in log[-1].words


async def test_code_presented_in_parallel(visitor: Visitor) -> None:
    """Of ten requests with one code at once, exactly one is answered with tokens."""
    code = await visitor.code()
    pages = await asyncio.gather(*(visitor.exchange(code) for _ in range(10)))
    assert sorted(page.status for page in pages) == [200] + [400] * 9


async def test_other_logins_survive(visitor: Visitor) -> None:
    """A code presented twice harms no other login of the same restaurant."""
    other = await visitor.tokens()
    code = await visitor.code()
    await visitor.exchange(code)
    await visitor.exchange(code)
    assert (await visitor.company(bearer(other))).status == 200


@pytest.mark.parametrize(("age", "status"), [(29.9, 200), (30, 400), (41, 400), (90000, 400)])
async def test_code_lifetime(visitor: Visitor, clock: Clock, log: Log, age: float, status: int) -> None:
    """A code lives for 30 seconds, and the log says how old a late one was."""
    code = await visitor.code()
    clock.now += age
    assert (await visitor.exchange(code)).status == status
    if age == 41:
        assert log[-1].words == "the code is 41 s old and died after 30 s: send it at once"


async def test_code_lifetime_setting(start: Start, clock: Clock) -> None:
    """The lifetime of codes is a setting."""
    visitor = await start(code_lifetime=2)
    code = await visitor.code()
    clock.now += 2
    refused(await visitor.exchange(code), 400, "invalid_grant")


@pytest.mark.parametrize("code", ["x", "é", "'; DROP TABLE codes; --", "\x00", "a" * 5000])
async def test_unknown_code(visitor: Visitor, log: Log, code: str) -> None:
    """A code that was never issued is invalid_grant, whatever it looks like."""
    refused(await visitor.exchange(code), 400, "invalid_grant")
    assert "the code is not known here" in log[-1].words


# -- what must match -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (
            {"redirect_uri": REDIRECT_URI + "x"},
            "invalid_grant",
            f"redirect_uri differs from the one in the authorization request: {REDIRECT_URI}x vs {REDIRECT_URI}",
        ),
        ({"redirect_uri": REDIRECT_URI.rstrip("/")}, "invalid_grant", "redirect_uri differs"),
        ({"redirect_uri": None}, "invalid_grant", "redirect_uri is missing: repeat the one"),
        ({"code_verifier": None}, "invalid_request", "code_verifier is missing"),
        ({"code_verifier": VERIFIER + "x"}, "invalid_grant", "does not fit the code_challenge; the code"),
        ({"code_verifier": challenge_of(VERIFIER)}, "invalid_grant", "it is the challenge itself"),
        ({"code_verifier": VERIFIER + "\n"}, "invalid_request", "code_verifier is not 43 to 128"),
        ({"code_verifier": "x" * 42}, "invalid_request", "code_verifier is not 43 to 128"),
        ({"code_verifier": "x" * 129}, "invalid_request", "code_verifier is not 43 to 128"),
        ({"code_verifier": "é" * 43}, "invalid_request", "code_verifier is not 43 to 128"),
    ],
)
async def test_mismatch_spends_the_code(
    visitor: Visitor, log: Log, changes: dict[str, str | None], error: str, said: str
) -> None:
    """What does not match is refused in words, and the code is spent all the same."""
    code = await visitor.code()
    refused(await visitor.exchange(code, **changes), 400, error)
    assert said in log[-1].words
    refused(await visitor.exchange(code), 400, "invalid_grant")
    assert "presented before" in log[-1].words


async def test_hostile_words(visitor: Visitor, log: Log) -> None:
    """Text from outside stands in the log as printable ASCII, and is cut."""
    await visitor.exchange(await visitor.code(), redirect_uri="http://é\x1b[2J\n" + "x" * 1000)
    assert log[-1].words.isascii()
    assert log[-1].words.isprintable()
    assert r"http://\xc3\xa9\x1b[2J\x0a" in log[-1].words
    assert len(log[-1].words) < 500


# -- the request ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"grant_type": None}, "invalid_request", "grant_type is missing"),
        ({"grant_type": "password"}, "unsupported_grant_type", "grant_type 'password' is not known here"),
        ({"code": None}, "invalid_request", "Missing 'code'"),
        ({"code": ""}, "invalid_request", "Missing 'code'"),
    ],
)
async def test_incomplete(visitor: Visitor, log: Log, changes: dict[str, str | None], error: str, said: str) -> None:
    """A request that lacks something says what."""
    sent = {"code": await visitor.code(), **changes}
    refused(await visitor.exchange(sent.pop("code"), **sent), 400, error)
    assert said in log[-1].words


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("application/json", b"{}", "the body must be application/x-www-form-urlencoded"),
        (None, b"grant_type=refresh_token&refresh_token=x&refresh_token=x", "refresh_token comes twice"),
        (None, b"grant_type=x\xff", "bytes outside ASCII"),
        (None, b"grant_type=%ff", "it is not form-urlencoded UTF-8"),
        (None, b"&".join([b"a=b"] * 101), "it is not form-urlencoded UTF-8"),
        (None, b"x=" + b"y" * 70000, "the body is larger than 64 KiB"),
    ],
)
async def test_broken_body(visitor: Visitor, log: Log, content_type: str | None, body: bytes, said: str) -> None:
    """A body that is no form is refused in words."""
    headers = {
        "Authorization": basic(),
        "Content-Type": content_type or "application/x-www-form-urlencoded",
    }
    url = f"{visitor.sandbox.base_url}oauth2/v1/token"
    refused(await visitor.request("POST", url, data=body, headers=headers), 400, "invalid_request")
    assert said in log[-1].words


async def test_parameters_in_the_query(visitor: Visitor) -> None:
    """Parameters in the URL are refused: they end up in access logs."""
    url = f"{visitor.sandbox.base_url}oauth2/v1/token?code=x"
    page = await visitor.request("POST", url, data={"a": "b"}, headers={"Authorization": basic()})
    assert "go in the body" in refused(page, 400, "invalid_request")


async def test_two_authorization_headers(visitor: Visitor) -> None:
    """Two Authorization headers are refused."""
    headers = [("Authorization", basic()), ("Authorization", basic())]
    url = f"{visitor.sandbox.base_url}oauth2/v1/token"
    page = await visitor.request("POST", url, data={"grant_type": "refresh_token"}, headers=headers)
    refused(page, 400, "invalid_request")
