"""Building the authorization request: whole request strings, compared with the RFCs' own."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from loopback_auth.oauth.authorization import build_authorization_request
from loopback_auth.secret import Secret

from .registrations import CHALLENGE, VERIFIER, registration, request, server


def test_the_example_of_rfc_6749() -> None:
    """RFC 6749 §4.1.1: the example request, with PKCE's two parameters behind it (RFC 7636 §4.3, appendix B)."""
    built = build_authorization_request(
        registration(),
        redirect_uri="https://client.example.com/cb",
        state=Secret("xyz"),
        code_verifier=Secret(VERIFIER),
    )
    assert built.url.reveal() == (
        "https://server.example.com/authorize?response_type=code&client_id=s6BhdRkqt3"
        "&redirect_uri=https%3A%2F%2Fclient.example.com%2Fcb&state=xyz"
        f"&code_challenge={CHALLENGE}&code_challenge_method=S256"
    )


def test_the_request_of_lightspeed_l_series() -> None:
    """The documented parameters in order, redirect_uri and state besides."""
    from loopback_auth.oauth.servers import find_server

    client = registration(
        of=find_server("lightspeed-l-staging", {}), client_id="dNUx", redirect_uri="https://localhost:8000/"
    )
    assert request(client).url.reveal() == (
        "https://test.lightspeedapis.com/resto/oauth2/v1/authorize?response_type=code&client_id=dNUx"
        "&redirect_uri=https%3A%2F%2Flocalhost%3A8000%2F&state=s3kr1t-state"
        f"&code_challenge={CHALLENGE}&code_challenge_method=S256"
    )


def test_redirect_uri_is_left_out_for_a_server_that_takes_none() -> None:
    """`redirect_uri_parameter = false`: the request goes without, and the token request still knows it."""
    built = request(registration(of=server(redirect_uri_parameter=False)))
    assert built.url.reveal() == (
        "https://server.example.com/authorize?response_type=code&client_id=s6BhdRkqt3&state=s3kr1t-state"
        f"&code_challenge={CHALLENGE}&code_challenge_method=S256"
    )
    assert built.redirect_uri == "https://localhost:8000/cb"


def test_login_hint_goes_to_a_server_that_takes_one() -> None:
    """`login_hint_parameter = true`: the request says which account is meant (OpenID Connect Core 3.1.2.1)."""
    taking = registration(of=server(login_hint_parameter=True))
    without = (
        "https://server.example.com/authorize?response_type=code&client_id=s6BhdRkqt3"
        "&redirect_uri=https%3A%2F%2Flocalhost%3A8000%2Fcb&state=s3kr1t-state"
        f"&code_challenge={CHALLENGE}&code_challenge_method=S256"
    )
    assert request(taking, login_hint="roma+1@example.com").url.reveal() == (
        f"{without}&login_hint=roma%2B1%40example.com"
    )
    assert request(taking).url.reveal() == request(taking, login_hint="").url.reveal() == without
    assert request(login_hint="roma@example.com").url.reveal() == without


def test_scope_goes_along_where_one_is_asked_for() -> None:
    """The scope stays one parameter, its spaces as plus signs (RFC 6749 §3.3, appendix B)."""
    assert request(registration(scope="employee:all offline_access")).url.reveal() == (
        "https://server.example.com/authorize?response_type=code&client_id=s6BhdRkqt3"
        "&redirect_uri=https%3A%2F%2Flocalhost%3A8000%2Fcb&scope=employee%3Aall+offline_access&state=s3kr1t-state"
        f"&code_challenge={CHALLENGE}&code_challenge_method=S256"
    )


def test_the_query_of_the_endpoint_is_kept() -> None:
    """RFC 6749 §3.1: a query that the authorization endpoint has already stays, in front."""
    client = registration(of=server(authorization_endpoint="https://server.example.com/authorize?tenant=a%26b&x="))
    assert request(client).url.reveal() == (
        "https://server.example.com/authorize?tenant=a%26b&x=&response_type=code&client_id=s6BhdRkqt3"
        "&redirect_uri=https%3A%2F%2Flocalhost%3A8000%2Fcb&state=s3kr1t-state"
        f"&code_challenge={CHALLENGE}&code_challenge_method=S256"
    )


def test_nothing_in_the_request_shows_by_itself() -> None:
    """The URL holds the state, so the request shows neither of them."""
    built = request()
    assert "s3kr1t" not in repr(built) + str(built)
    assert VERIFIER not in repr(built) + built.url.reveal()


PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)


@given(
    client_id=PRINTABLE, scope=PRINTABLE, state=PRINTABLE, login_hint=st.text(st.characters(codec="utf-8"), min_size=1)
)
def test_every_parameter_arrives_as_it_was(client_id: str, scope: str, state: str, login_hint: str) -> None:
    """Whatever client_id, scope, state and login_hint hold, a server decodes exactly them, each once."""
    client = registration(of=server(login_hint_parameter=True), client_id=client_id, scope=scope)
    query = urlsplit(request(client, state, login_hint).url.reveal()).query
    assert parse_qsl(query, keep_blank_values=True, strict_parsing=True) == [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", "https://localhost:8000/cb"),
        ("scope", scope),
        ("state", state),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("login_hint", login_hint),
    ]
