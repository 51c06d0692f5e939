"""A server, a client and a request for the tests of the protocol: every part can be told apart in what is sent."""

from __future__ import annotations

from typing import Any

from loopback_auth.oauth.authorization import AuthorizationCode, AuthorizationRequest, build_authorization_request
from loopback_auth.oauth.registration import AuthorizationServer, ClientRegistration
from loopback_auth.secret import Secret

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
"""RFC 7636 appendix B, as is its challenge."""
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
STATE = "s3kr1t-state"
CODE = "s3kr1t-code"
CLIENT_SECRET = "s3kr1t-client"


def server(**changes: Any) -> AuthorizationServer:
    """Return RFC 6749's example server, with `changes`."""
    members = {
        "name": "example",
        "title": "Example",
        "authorization_endpoint": "https://server.example.com/authorize",
        "token_endpoint": "https://server.example.com/token",
    }
    return AuthorizationServer(**{**members, **changes})


def registration(*, of: AuthorizationServer | None = None, **changes: Any) -> ClientRegistration:
    """Return RFC 6749's example client, with `changes`."""
    members = {
        "server": of or server(),
        "client_id": "s6BhdRkqt3",
        "redirect_uri": "https://localhost:8000/cb",
        "token_endpoint_auth_method": "client_secret_basic",
    }
    return ClientRegistration(**{**members, **changes})


def request(
    of: ClientRegistration | None = None, state: str = STATE, login_hint: str | None = None
) -> AuthorizationRequest:
    """Return an authorization request with appendix B's verifier."""
    client = of or registration()
    return build_authorization_request(
        client,
        redirect_uri=client.redirect_uri,
        state=Secret(state),
        code_verifier=Secret(VERIFIER),
        login_hint=login_hint,
    )


def code(of: ClientRegistration | None = None, text: str = CODE) -> AuthorizationCode:
    """Return a code as if it had been checked."""
    return AuthorizationCode(Secret(text), request(of))
