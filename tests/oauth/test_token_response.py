"""Judging the token endpoint's answer: every row of the table that decides what was spent."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopback_auth.errors import (
    LoginRequired,
    LoopbackAuthError,
    OutcomeUnknown,
    ServerUnavailable,
    TokenEndpointError,
)
from loopback_auth.oauth.token import LIFETIME_LIMIT, TokenAnswer, TokenSet, parse_token_response
from loopback_auth.secret import Secret

ACCESS, REFRESH = "s3kr1t-access", "s3kr1t-refresh"


def answer(body: object, status: int = 200, **headers: Any) -> TokenAnswer:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return TokenAnswer(status=status, body=encoded, **headers)


def parsed(**members: object) -> TokenSet:
    return parse_token_response(answer({"access_token": ACCESS, **members}))


def refused(body: object, status: int, **headers: Any) -> LoopbackAuthError:
    with pytest.raises(LoopbackAuthError) as caught:
        parse_token_response(answer(body, status, **headers))
    error = caught.value
    assert "s3kr1t" not in f"{error}{error!r}{error.hint}{vars(error)}"
    return error


def test_the_example_of_rfc_6749() -> None:
    """RFC 6749 §5.1: the example response, unknown members ignored."""
    tokens = parse_token_response(
        answer(
            b"""{
       "access_token":"2YotnFZFEjr1zCsicMWpAA",
       "token_type":"example",
       "expires_in":3600,
       "refresh_token":"tGzv3JOkF0XG5Qx2TlKWIA",
       "example_parameter":"example_value"
     }"""
        )
    )
    assert tokens == TokenSet(Secret("2YotnFZFEjr1zCsicMWpAA"), Secret("tGzv3JOkF0XG5Qx2TlKWIA"), 3600, None, "example")
    assert not tokens.is_bearer
    assert "2Yot" not in repr(tokens)
    assert "tGzv" not in repr(tokens)


def test_the_answer_of_lightspeed_l_series() -> None:
    """No token_type and no scope: a Bearer token all the same."""
    tokens = parsed(refresh_token=REFRESH, expires_in=3600)
    assert tokens == TokenSet(Secret(ACCESS), Secret(REFRESH), 3600, None, None)
    assert tokens.is_bearer


@pytest.mark.parametrize("refresh_token", [None, "", 5, [REFRESH]])
def test_no_refresh_token_is_none(refresh_token: object) -> None:
    """RFC 6749 §6: without a new refresh token the old one stays; an empty or odd one is none."""
    assert parsed(refresh_token=refresh_token).refresh_token is None
    assert parsed().refresh_token is None


@pytest.mark.parametrize(
    ("wire", "seconds"),
    [
        ("3600", 3600),
        ("0", 0),
        ("-5", 0),
        ('"3600"', 3600),
        ('" 3600 "', 3600),
        ('"-1"', 0),
        ('""', 0),
        ('"abc"', 0),
        ('"1 hour"', 0),
        ('"NaN"', 0),
        ('"Infinity"', 0),
        ("3600.7", 3600),
        ('"3600.7"', 3600),
        ("0.9", 0),
        ("1e12", LIFETIME_LIMIT),
        ("1" + "0" * 30, LIFETIME_LIMIT),
        (str(LIFETIME_LIMIT), LIFETIME_LIMIT),
        (str(LIFETIME_LIMIT + 1), LIFETIME_LIMIT),
        ("9" * 5000, 0),
        ('"' + "9" * 5000 + '"', 0),
        ("-" + "9" * 5000, 0),
        ("1e999", 0),
        ("NaN", 0),
        ("Infinity", 0),
        ("-Infinity", 0),
        ("true", 0),
        ("false", 0),
        ("[3600]", 0),
        ('{"seconds": 3600}', 0),
        ("null", None),
    ],
)
def test_expires_in_is_never_a_crash(wire: str, seconds: int | None) -> None:
    """Seconds as a number or as text, whole, within ten years; nonsense is 0, and null is as good as absent."""
    body = f'{{"access_token": "{ACCESS}", "expires_in": {wire}, "refresh_token": "{REFRESH}"}}'
    tokens = parse_token_response(answer(body.encode()))
    assert tokens.expires_in == seconds
    assert type(tokens.expires_in) in (int, type(None))
    assert tokens.refresh_token == Secret(REFRESH)


def test_expires_in_may_be_absent() -> None:
    """A server that says nothing is not taken to say 0."""
    assert parsed().expires_in is None


@pytest.mark.parametrize(
    ("token_type", "kept", "is_bearer"),
    [
        ("Bearer", "Bearer", True),
        ("bearer", "bearer", True),
        ("BEARER", "BEARER", True),
        (None, None, True),
        (5, None, True),
        ("mac", "mac", False),
        ("DPoP", "DPoP", False),
        ("", "", False),
        ("Bearer ", "Bearer ", False),
    ],
)
def test_an_odd_token_type_never_loses_the_refresh_token(token_type: object, kept: str | None, is_bearer: bool) -> None:
    """RFC 6749 §7.1: Bearer in any case, or absent; any other type is kept and not used as Bearer."""
    tokens = parsed(token_type=token_type, refresh_token=REFRESH)
    assert (tokens.token_type, tokens.is_bearer) == (kept, is_bearer)
    assert tokens.refresh_token == Secret(REFRESH)


@pytest.mark.parametrize(("scope", "kept"), [("a b", "a b"), ("", ""), (None, None), (["a"], None)])
def test_scope_is_text_or_unknown(scope: object, kept: str | None) -> None:
    """A scope that is no text is as good as absent."""
    assert parsed(scope=scope).scope == kept


@pytest.mark.parametrize("text", ["s3kr1t-\r\n", "s3kr1t-\0", "s3kr1t-ü", " s3kr1t- ", "s3kr1t-" * 2000])
def test_a_token_is_kept_as_it_came(text: str) -> None:
    """A token with line breaks, NUL or anything else is the token."""
    tokens = parsed(access_token=text, refresh_token=text)
    assert tokens.access_token.reveal() == text
    assert tokens.refresh_token == Secret(text)


@pytest.mark.parametrize("status", [201, 203, 206])
def test_any_success_with_tokens_is_a_success(status: int) -> None:
    """Tokens in a 2xx other than 200 are tokens: what was sent is spent."""
    assert parse_token_response(answer({"access_token": ACCESS}, status)).access_token == Secret(ACCESS)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"s3kr1t-access"',
        b"{}",
        b'{"access_token": ""}',
        b'{"access_token": ["s3kr1t-access"]}',
        b'{"access_token": "s3kr1t-access", "refresh_tok',
        b"<!doctype html><title>Sign in to the Wi-Fi</title>",
        b"access_token=s3kr1t-access&token_type=bearer",
        b'{"access_token": "s3kr1t-\xff"}',
        b"\x1f\x8b\x08\x00garbage",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"error": "invalid_grant"}',
    ],
)
@pytest.mark.parametrize("status", [200, 204])
def test_a_success_without_tokens_is_an_unknown_outcome(body: bytes, status: int) -> None:
    """HTML, nothing, garbage, truncated: the server said yes, so what was sent may be spent."""
    error = refused(body, status, content_type="text/html; charset=s3kr1t-")
    assert type(error) is OutcomeUnknown
    assert error.exit_status == 10
    assert str(error) == (
        f"the token endpoint said yes (HTTP {status}) without tokens ({len(body)} bytes of text/html): "
        "a wrong address, or a page in between"
    )


def test_what_came_instead_is_shown_without_control_characters() -> None:
    """The content type of a page in between goes through the one sink."""
    assert "(0 bytes of no content type)" in str(refused(b"", 200))
    assert r"(0 bytes of text/\x1b[2J)" in str(refused(b"", 200, content_type="text/\x1b[2J"))


@pytest.mark.parametrize(
    ("status", "error", "kind", "exit_status"),
    [
        (400, "invalid_grant", LoginRequired, 4),
        (401, "invalid_grant", LoginRequired, 4),
        (403, "invalid_grant", LoginRequired, 4),
        (400, "invalid_client", TokenEndpointError, 3),
        (401, "invalid_client", TokenEndpointError, 3),
        (400, "unauthorized_client", TokenEndpointError, 3),
        (400, "invalid_request", TokenEndpointError, 3),
        (400, "unsupported_grant_type", TokenEndpointError, 3),
        (400, "invalid_scope", TokenEndpointError, 3),
        (400, "something_else", TokenEndpointError, 3),
        (400, "", TokenEndpointError, 3),
        (400, None, TokenEndpointError, 3),
        (401, None, TokenEndpointError, 3),
        (403, None, TokenEndpointError, 3),
        (404, None, TokenEndpointError, 3),
        (405, None, TokenEndpointError, 3),
        (413, None, TokenEndpointError, 3),
        (301, None, TokenEndpointError, 3),
        (302, "invalid_grant", TokenEndpointError, 3),
        (307, None, TokenEndpointError, 3),
        (308, None, TokenEndpointError, 3),
        (429, None, ServerUnavailable, 9),
        (429, "invalid_grant", ServerUnavailable, 9),
        (500, None, OutcomeUnknown, 10),
        (500, "invalid_grant", OutcomeUnknown, 10),
        (501, None, OutcomeUnknown, 10),
        (502, None, OutcomeUnknown, 10),
        (503, None, OutcomeUnknown, 10),
        (504, None, OutcomeUnknown, 10),
        (599, None, OutcomeUnknown, 10),
        (600, None, OutcomeUnknown, 10),
        (101, None, OutcomeUnknown, 10),
        (99, "invalid_grant", OutcomeUnknown, 10),
    ],
)
def test_what_was_spent(status: int, error: str | None, kind: type[LoopbackAuthError], exit_status: int) -> None:
    """RFC 6749 §5.2 and the table: each status and error has its class, and so its exit status."""
    refusal = refused({"error": error, "error_description": "why"}, status)
    assert type(refusal) is kind
    assert refusal.exit_status == exit_status
    if isinstance(refusal, TokenEndpointError):
        assert (refusal.status, refusal.error, refusal.error_description) == (status, error, "why")
        assert type(refused(b"<html>", status)) in (kind, TokenEndpointError)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "later"),
    [
        ("120", "nothing was spent; try again after 120 seconds"),
        ("Fri, 31 Dec 1999 23:59:59 GMT", "nothing was spent; try later"),
        ("", "nothing was spent; try later"),
        ("-1", "nothing was spent; try later"),
    ],
)
def test_retry_after_is_passed_on(status: int, retry_after: str, later: str) -> None:
    """429 and 503 with Retry-After: nothing was spent, and the hint says when to come back."""
    error = refused(b"", status, retry_after=retry_after)
    assert type(error) is ServerUnavailable
    assert str(error) == f"the token endpoint asks to come back later (HTTP {status})"
    assert error.hint == (later,)


def test_the_words_for_a_refused_grant() -> None:
    """The server's own words are shown, made printable."""
    error = refused({"error": "invalid_grant", "error_description": "Token is\nnot activé"}, 400)
    assert str(error) == r"the token endpoint refused (invalid_grant: Token is\x0anot activ\xc3\xa9)"
    assert isinstance(error, LoginRequired)
    assert (error.status, error.error) == (400, "invalid_grant")
    assert error.error_description == r"Token is\x0anot activ\xc3\xa9"


def test_the_words_for_a_refused_client() -> None:
    """A client that is not accepted is told what to check, and which method to try itself: none is probed."""
    error = refused({"error": "invalid_client"}, 401)
    assert str(error) == "the token endpoint does not accept this client (invalid_client)"
    assert error.hint == (
        "nothing was spent; check client_id and client_secret, and that they belong to this environment",
        "some servers want --token-endpoint-auth-method client_secret_post",
    )
    assert str(refused(b"", 401)) == "the token endpoint does not accept this client (HTTP 401)"


def test_the_words_for_a_redirect() -> None:
    """A redirect is a configuration error, never followed."""
    assert str(refused(b"", 302)) == "the token endpoint answered with a redirect (HTTP 302), which is not followed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["access_token", "refresh_token", "expires_in", "scope", "token_type", "error", "error_description"]
BODIES = st.one_of(
    st.binary(max_size=400),
    st.dictionaries(st.sampled_from(NAMES), JSON).map(lambda members: json.dumps(members).encode()),
    JSON.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")),
    st.tuples(
        st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "utf-16-be"]), st.dictionaries(st.sampled_from(NAMES), JSON)
    ).map(lambda pair: json.dumps(pair[1]).encode(pair[0])),
)


@given(
    body=BODIES,
    status=st.sampled_from([200, 400, 401]) | st.integers(100, 599),
    content_type=st.text(max_size=20),
    retry_after=st.none() | st.text(max_size=8),
)
@settings(max_examples=400)
@example(body=b'{"access_token":"a","expires_in":' + b"9" * 5000 + b"}", status=200, content_type="", retry_after="²")
def test_any_answer_gives_tokens_or_one_of_our_errors(
    body: bytes, status: int, content_type: str, retry_after: str | None
) -> None:
    """Any bytes with any status give a token set that can be used, or an error that says what was spent."""
    try:
        tokens = parse_token_response(TokenAnswer(status, body, content_type, retry_after))
    except (TokenEndpointError, OutcomeUnknown) as error:
        assert all(" " <= character <= "~" for character in "".join([str(error), *error.hint]))
        assert not 300 <= status < 500 or not isinstance(error, OutcomeUnknown)
    else:
        assert 200 <= status < 300
        assert tokens.access_token or tokens.refresh_token
        assert tokens.refresh_token is None or tokens.refresh_token
        assert tokens.expires_in is None or 0 <= tokens.expires_in <= LIFETIME_LIMIT


TWO = b'{"access_token": "s3kr1t-access", "refresh_token": "s3kr1t-refresh"'


@pytest.mark.parametrize(
    ("body", "access_token", "expires_in"),
    [
        (TWO, "s3kr1t-access", None),
        (TWO + b',\n "expires_in": 36', "s3kr1t-access", None),
        (TWO + b', "expires_in": 3600, "scope": "a', "s3kr1t-access", 3600),
        (TWO + b', "expires_in": 3600}<html>', "s3kr1t-access", 3600),
        (b' { "refresh_token" : "s3kr1t-refresh" , "access_token": "s3k', "", None),
        (b'{"refresh_token": "s3kr1t-refresh", "access_token": null}', "", None),
        (b'{"x": {"refresh_token": "s3kr1t-no"}, "refresh_token": "s3kr1t-refresh"', "", None),
        (gzip.compress(TWO + b', "expires_in": 7}', mtime=0), "s3kr1t-access", 7),
        (zlib.compress(TWO + b', "expires_in": 7}'), "s3kr1t-access", 7),
        (TWO + b', "expires_in": 7, "name": "Caf\xe9"}', "s3kr1t-access", 7),
        (gzip.compress(TWO + b', "x": "' + bytes(range(32, 127)) * 50)[:120], "s3kr1t-access", None),
        (gzip.compress(TWO + b', "x": "' + b"x" * 10_000_000 + b'"}', mtime=0), "s3kr1t-access", None),
    ],
)
def test_an_answer_that_broke_off_behind_the_refresh_token(body: bytes, access_token: str, expires_in: object) -> None:
    """What works once has come whole, so the answer is good, as far as it goes; compressed or not."""
    tokens = parse_token_response(TokenAnswer(200, body))
    assert tokens.refresh_token == Secret("s3kr1t-refresh")
    assert (tokens.access_token, tokens.expires_in) == (Secret(access_token), expires_in)


@pytest.mark.parametrize(
    "body",
    [
        b'{"access_token": "s3kr1t-access", "refresh_token": "s3kr1t-ref',
        b'{"access_token": "s3kr1t-access", "refresh_token"',
        b'{"access_token": "s3kr1t-access", "expires_in": 3600',
        b'{"x": {"refresh_token": "s3kr1t-refresh"}, "access_token": "s3kr1t-ac',
        b'["refresh_token", "s3kr1t-refresh"',
        b'{"refresh_token" "s3kr1t-refresh"',
        b'{"refresh_token": ["s3kr1t-refresh"',
        b'{"a": ' * 100_000,
        gzip.compress(TWO, mtime=0)[:30],
        b"\x1f\x8b nonsense",
        b"x nonsense",
    ],
)
def test_an_answer_that_broke_off_before_it(body: bytes) -> None:
    """Without a whole refresh token a broken answer is an unknown outcome, whatever else it holds."""
    with pytest.raises(OutcomeUnknown):
        parse_token_response(TokenAnswer(200, body))


@given(st.integers(0, 200))
def test_wherever_an_answer_breaks_off(length: int) -> None:
    """At any byte: the refresh token as it was sent, or an unknown outcome; never a piece of it."""
    whole = TWO + b', "expires_in": 3600, "token_type": "Bearer"}'
    try:
        tokens = parse_token_response(TokenAnswer(200, whole[:length]))
    except OutcomeUnknown:
        assert length < len(TWO)
    else:
        assert tokens.refresh_token == Secret("s3kr1t-refresh")
        assert tokens.expires_in in (None, 3600)


def test_latin_1_hides_nothing() -> None:
    """A description in another encoding does not hide the error beside it, nor an access token that came alone."""
    refusal = refused(b'{"error":"invalid_grant","error_description":"Jeton expir\xe9"}', 400)
    assert isinstance(refusal, LoginRequired)
    tokens = parse_token_response(answer(b'{"access_token":"s3kr1t-access","name":"Caf\xe9"}'))
    assert tokens.access_token == Secret("s3kr1t-access")
