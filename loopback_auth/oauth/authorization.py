"""The authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3) and its response (RFC 6749 §4.1.2, RFC 9207).

Nothing leaves this module as an `AuthorizationCode` that was not checked against the request it answers;
the token request takes nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_to_bytes

from loopback_auth.errors import (
    AuthorizationDenied,
    AuthorizationResponseError,
    AuthorizationServerUnavailable,
    RedirectRejected,
)
from loopback_auth.oauth.registration import ClientRegistration, StatePolicy
from loopback_auth.secret import Secret
from loopback_auth.text import printable

Evidence = Literal["state", "cookie", "pasted"]
"""What shows that a response answers our request: the `state`, our start page's cookie, or the person who pasted it."""

CODE_LIMIT = 4096
"""Bytes an authorization code may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """One authorization request: its URL and what its response and the token request are checked with."""

    registration: ClientRegistration
    redirect_uri: str
    url: Secret
    state: Secret
    code_verifier: Secret


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """A code that was checked against the request it answers. Made by `parse_authorization_response` alone."""

    code: Secret
    request: AuthorizationRequest
    shown_by: Evidence = "state"


def build_authorization_request(
    registration: ClientRegistration,
    *,
    redirect_uri: str,
    state: Secret,
    code_verifier: Secret,
    login_hint: str | None = None,
) -> AuthorizationRequest:
    """Return the request to open in a browser.

    `state` and `code_verifier` are fresh for each login, 256 bits each; the challenge is S256, there is no other
    (RFC 7636 §4.2). No `state` is sent where the server is known to want none. `redirect_uri` is what the loopback
    server listens on, with the port it got. `login_hint` says whom the person is to log in as; it goes only to a server
    that is known to take one.
    """
    from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # not before a browser is told
    from authlib.oauth2.rfc7636 import create_s256_code_challenge

    server = registration.server
    challenge = create_s256_code_challenge(code_verifier.reveal())  # type: ignore[no-untyped-call]  # authlib's stubs
    url = prepare_grant_uri(
        server.authorization_endpoint,
        registration.client_id,
        "code",
        redirect_uri=redirect_uri if server.redirect_uri_parameter else None,
        scope=registration.scope,
        state=None if server.state == "none" else state.reveal(),
        code_challenge=challenge,
        code_challenge_method="S256",
        login_hint=login_hint if login_hint and server.login_hint_parameter else None,
    )
    return AuthorizationRequest(
        registration=registration,
        redirect_uri=redirect_uri,
        url=Secret(url),
        state=state,
        code_verifier=code_verifier,
    )


def parse_authorization_response(
    request: AuthorizationRequest, query: str, *, otherwise: Evidence | None = None
) -> AuthorizationCode:
    """Return the code of a redirect, given its raw query.

    `state` is judged before anything else, errors included: whoever does not know it cannot end a login.
    `otherwise` is what else shows that this redirect is ours; it counts only where the server's `state` policy is not
    "required", and PKCE stands behind it (RFC 9700 §4.7.1).
    Raises RedirectRejected (not ours or malformed: the login goes on), or AuthorizationResponseError and its
    subclasses (the server's own answer: the login is over).
    """
    parameters = _parameters(query)
    server = request.registration.server
    states = parameters.get("state", [])
    shown_by = _evidence(states, request.state, server.state, otherwise)
    code, error, iss, description = (
        _single(parameters, name) for name in ("code", "error", "iss", "error_description")
    )
    _check_issuer(iss, server.issuer, server.authorization_response_iss_parameter_supported)
    if (code is None) == (error is None):
        raise RedirectRejected(
            "it carries neither code nor error" if code is None else "it carries a code and an error"
        )
    if error is not None:
        raise _refusal(error, description)
    assert code is not None  # noqa: S101 (just shown; tells the type checker)
    if not code or len(code) > CODE_LIMIT:
        raise RedirectRejected("its code is empty" if not code else f"its code is longer than {CODE_LIMIT} bytes")
    return AuthorizationCode(Secret(code), request, shown_by)


def states_in(query: str) -> list[str]:
    """Return every `state` of a raw query: which login it is for, where several are under way."""
    return _parameters(query).get("state", [])


def _evidence(states: list[str], state: Secret, policy: StatePolicy, otherwise: Evidence | None) -> Evidence:
    if len(states) == 1 and state.matches(states[0]):
        return "state"
    if len(states) < 2 and policy != "required" and otherwise is not None:
        return otherwise
    raise RedirectRejected("it carries no state" if not states else "its state is not the one of this login")


def _parameters(query: str) -> dict[str, list[str]]:
    """Decode application/x-www-form-urlencoded (RFC 6749 appendix B); bytes that are not UTF-8 stay distinguishable."""
    parameters: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = (
                unquote_to_bytes(part.replace("+", " ").encode(errors="surrogatepass")) for part in pair.partition("=")
            )
            parameters.setdefault(name.decode(errors="surrogateescape"), []).append(
                value.decode(errors="surrogateescape")
            )
    return parameters


def _single(parameters: dict[str, list[str]], name: str) -> str | None:
    values = parameters.get(name, [])
    if len(values) > 1:  # RFC 6749 §3.1: not more than once
        raise RedirectRejected(f"its parameter {name} stands there {len(values)} times")
    if not values:
        return None
    if any(not " " <= character <= "~" for character in values[0]):  # RFC 6749 appendix A: VSCHAR, NQSCHAR
        raise RedirectRejected(f"its parameter {name} holds something else than printable ASCII")
    return values[0]


def _check_issuer(iss: str | None, issuer: str | None, promised: bool) -> None:
    """RFC 9207 §2.4: compared as strings; an iss that nobody configured an issuer for says nothing."""
    if issuer is None:
        return
    if iss is None and promised:
        raise RedirectRejected("it carries no iss, and this server promises one")
    if iss is not None and iss != issuer:
        raise RedirectRejected(f"its iss is {_word(iss)}, and this login asked {printable(issuer)}")


def _word(text: str) -> str:
    """Return what is shown of an iss or an error: with a wrong separator, the code stands behind it."""
    return printable(re.split("[;&=?#]", text, maxsplit=1)[0])


_REFUSALS: dict[str, tuple[type[AuthorizationResponseError], str, str]] = {
    # RFC 6749 §4.1.2.1
    "access_denied": (
        AuthorizationDenied,
        "access was denied",
        "nothing was stored; run the login again and click Allow",
    ),
    "server_error": (
        AuthorizationServerUnavailable,
        "the authorization server had an internal error",
        "nothing was spent; try the login again later",
    ),
    "temporarily_unavailable": (
        AuthorizationServerUnavailable,
        "the authorization server is overloaded or being maintained",
        "nothing was spent; try the login again later",
    ),
    "unauthorized_client": (
        AuthorizationResponseError,
        "the authorization server does not let this client log in",
        "check that the client_id belongs to this environment (staging or production)",
    ),
    "invalid_scope": (
        AuthorizationResponseError,
        "the authorization server does not know the scope asked for",
        "check --scope",
    ),
    "invalid_request": (
        AuthorizationResponseError,
        "the authorization server found the authorization request malformed",
        "compare client_id and redirect_uri with what was registered, the trailing slash included",
    ),
    "unsupported_response_type": (
        AuthorizationResponseError,
        "the authorization server gives this client no codes",
        "ask for a registration with the authorization code grant",
    ),
}


def _refusal(error: str, description: str | None) -> AuthorizationResponseError:
    kind, message, hint = _REFUSALS.get(
        error,
        (
            AuthorizationResponseError,
            "the authorization server refused",
            "nothing was spent; see what the server says",
        ),
    )
    said = _word(error) if not description else f"{_word(error)}: {printable(description)}"
    return kind(
        f"{message} ({said})",
        error=_word(error),
        error_description=None if description is None else printable(description),
        hint=hint,
    )
