"""Building the two token requests: whole header sets and bodies, compared with the RFCs' own."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.token import build_code_request, build_refresh_request
from loopback_auth.secret import Secret

from .registrations import CLIENT_SECRET, VERIFIER, code, registration, server

HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/x-www-form-urlencoded",
}


def basic(user_and_password: str) -> dict[str, str]:
    return {**HEADERS, "Authorization": "Basic " + base64.b64encode(user_and_password.encode()).decode()}


def test_the_code_request() -> None:
    """RFC 6749 §4.1.3 with RFC 7636 §4.5: the example's parameters, client_secret_basic."""
    built = build_code_request(code(text="SplxlOBeZQQYbYS6WxSbIA"), Secret("gX1fBat3bV"))
    assert built.url == "https://server.example.com/token"
    assert built.headers == {**HEADERS, "Authorization": "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW"}
    assert built.body.reveal() == (
        "grant_type=authorization_code&redirect_uri=https%3A%2F%2Flocalhost%3A8000%2Fcb"
        f"&code_verifier={VERIFIER}&code=SplxlOBeZQQYbYS6WxSbIA"
    )


def test_the_refresh_request() -> None:
    """RFC 6749 §6: the example request."""
    built = build_refresh_request(registration(), Secret("gX1fBat3bV"), Secret("tGzv3JOkF0XG5Qx2TlKWIA"))
    assert built.url == "https://server.example.com/token"
    assert built.headers == {**HEADERS, "Authorization": "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW"}
    assert built.body.reveal() == "grant_type=refresh_token&refresh_token=tGzv3JOkF0XG5Qx2TlKWIA"


def test_the_token_request_names_the_redirect_uri_anyway() -> None:
    """L-Series documents redirect_uri in the token request, though not in the authorization request."""
    client = registration(of=server(redirect_uri_parameter=False), redirect_uri="https://localhost:8000/")
    built = build_code_request(code(client), Secret(CLIENT_SECRET))
    assert built.body.reveal() == (
        "grant_type=authorization_code&redirect_uri=https%3A%2F%2Flocalhost%3A8000%2F"
        f"&code_verifier={VERIFIER}&code=s3kr1t-code"
    )


@pytest.mark.parametrize(
    ("client_id", "secret", "encoded"),
    [
        ("s6BhdRkqt3", "gX1fBat3bV", "s6BhdRkqt3:gX1fBat3bV"),
        ("a:b", "c:d", "a%3Ab:c%3Ad"),
        ("ä", "ü ß", "%C3%A4:%C3%BC+%C3%9F"),
        ("a b", "100%", "a+b:100%25"),
        ("a+b", "c/d=&", "a%2Bb:c%2Fd%3D%26"),
        ("-._~", "-._~", "-._~:-._~"),
    ],
)
def test_basic_is_form_encoded_first(client_id: str, secret: str, encoded: str) -> None:
    """RFC 6749 §2.3.1: id and secret are form-encoded, then put into Basic; neither is in the body."""
    built = build_refresh_request(registration(client_id=client_id), Secret(secret), Secret("r"))
    assert built.headers == basic(encoded)
    assert built.body.reveal() == "grant_type=refresh_token&refresh_token=r"


def test_basic_is_raw_for_a_server_that_wants_it_so() -> None:
    """`basic_form_encoding = false`: id and secret go into Basic as they are, in UTF-8."""
    client = registration(of=server(basic_form_encoding=False), client_id="ä b")
    assert build_refresh_request(client, Secret("100% ü:"), Secret("r")).headers == basic("ä b:100% ü:")


@pytest.mark.parametrize("form_encoding", [True, False])
def test_a_secret_in_another_encoding_is_sent_byte_for_byte(form_encoding: bool) -> None:
    """A secret file in Latin-1 is no crash: its bytes go out as they are."""
    client = registration(of=server(basic_form_encoding=form_encoding), client_id="id")
    secret = Secret(b"\xfc".decode(errors="surrogateescape"))
    authorization = build_refresh_request(client, secret, Secret("r")).headers["Authorization"]
    assert base64.b64decode(authorization.removeprefix("Basic ")) == (b"id:%FC" if form_encoding else b"id:\xfc")
    in_body = registration(client_id="id", token_endpoint_auth_method="client_secret_post")
    assert build_refresh_request(in_body, secret, Secret("r")).body.reveal().endswith("&client_secret=%FC")


def test_client_secret_post() -> None:
    """RFC 6749 §2.3.1: id and secret in the body, form-encoded, and no Authorization header."""
    client = registration(client_id="a b", token_endpoint_auth_method="client_secret_post")
    built = build_refresh_request(client, Secret("c:d%ü"), Secret("r+/="))
    assert built.headers == HEADERS
    assert built.body.reveal() == (
        "grant_type=refresh_token&refresh_token=r%2B%2F%3D&client_id=a+b&client_secret=c%3Ad%25%C3%BC"
    )


def test_a_public_client_names_itself() -> None:
    """RFC 6749 §3.2.1: without a secret the client_id alone is in the body, even where a secret is at hand."""
    client = registration(token_endpoint_auth_method="none")
    for secret in (None, Secret(CLIENT_SECRET)):
        built = build_refresh_request(client, secret, Secret("r"))
        assert built.headers == HEADERS
        assert built.body.reveal() == "grant_type=refresh_token&refresh_token=r&client_id=s6BhdRkqt3"


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_missing_secret_is_a_configuration_error(method: str) -> None:
    """A method that needs a secret is never tried without one."""
    with pytest.raises(ConfigurationError, match="the client s6BhdRkqt3 has no client_secret") as caught:
        build_refresh_request(registration(token_endpoint_auth_method=method), None, Secret("r"))
    assert caught.value.exit_status == 3


def test_a_request_shows_none_of_its_secrets() -> None:
    """Neither header nor body is in what a request shows of itself."""
    built = build_code_request(code(), Secret(CLIENT_SECRET))
    shown = repr(built) + str(built)
    assert "https://server.example.com/token" in shown
    assert not any(secret in shown for secret in ("s3kr1t", "Basic", VERIFIER, "authorization_code"))


TEXT = st.text(st.characters(codec="utf-8"), min_size=1)


@given(client_id=TEXT, secret=TEXT, token=TEXT, method=st.sampled_from(["client_secret_basic", "client_secret_post"]))
def test_a_server_decodes_what_was_put_in(client_id: str, secret: str, token: str, method: Any) -> None:
    """Whatever id, secret and refresh token hold, a server that decodes by the RFC gets exactly them."""
    client = registration(client_id=client_id, token_endpoint_auth_method=method)
    built = build_refresh_request(client, Secret(secret), Secret(token))
    assert built.body.reveal().isascii()
    sent = parse_qsl(built.body.reveal(), keep_blank_values=True, strict_parsing=True)
    credentials = [("client_id", client_id), ("client_secret", secret)]
    if method == "client_secret_basic":
        user, _, password = base64.b64decode(built.headers["Authorization"][6:]).decode("ascii").partition(":")
        assert (unquote_plus(user), unquote_plus(password)) == (client_id, secret)
        credentials = []
    assert sent == [("grant_type", "refresh_token"), ("refresh_token", token), *credentials]
