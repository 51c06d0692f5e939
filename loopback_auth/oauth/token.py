"""The two token requests (RFC 6749 §4.1.3 and §6), client authentication (§2.3.1), and the token response (§5)."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from urllib.parse import quote_plus, urlencode

from loopback_auth.errors import (
    ConfigurationError,
    LoginRequired,
    OutcomeUnknown,
    ServerUnavailable,
    TokenEndpointError,
)
from loopback_auth.oauth.authorization import AuthorizationCode
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.secret import Secret
from loopback_auth.text import printable

ANSWER_LIMIT = 64 * 1024
"""Bytes of a token answer that are read, and kept."""
LIFETIME_LIMIT = 10 * 365 * 24 * 3600
"""Seconds: a longer `expires_in` is cut to this, so that no arithmetic on it can overflow."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One POST to the token endpoint, ready to be sent: once."""

    url: str
    headers: dict[str, str] = field(repr=False)
    body: Secret


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What came back, before anybody judged it. `retry_after` is that header as received."""

    status: int
    body: bytes = field(repr=False)
    content_type: str = ""
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class TokenSet:
    """The tokens of one answer. `expires_in` is in seconds; None where the server does not say.

    A lifetime that makes no sense (0, negative, text) is 0: the token is used, but not trusted for long.
    """

    access_token: Secret
    """Empty where the answer broke off before it, and the refresh token had come."""
    refresh_token: Secret | None
    expires_in: int | None
    scope: str | None
    token_type: str | None = None
    """As received; L-Series sends none. A token set of an unknown type is kept, for its refresh token's sake."""

    @property
    def is_bearer(self) -> bool:
        """Whether the access token may be used as Bearer (RFC 6749 §7.1; absent counts as Bearer)."""
        return self.token_type is None or self.token_type.lower() == "bearer"


def build_code_request(code: AuthorizationCode, client_secret: Secret | None) -> TokenRequest:
    """Return the request that spends an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
    request = code.request
    return _build(
        request.registration,
        client_secret,
        "authorization_code",
        redirect_uri=request.redirect_uri,
        code_verifier=request.code_verifier.reveal(),
        code=code.code.reveal(),
    )


def build_refresh_request(
    registration: ClientRegistration, client_secret: Secret | None, refresh_token: Secret
) -> TokenRequest:
    """Return the request that spends a refresh token (RFC 6749 §6)."""
    return _build(registration, client_secret, "refresh_token", refresh_token=refresh_token.reveal())


def build_revocation_request(
    registration: ClientRegistration,
    client_secret: Secret | None,
    token: Secret,
    hint: Literal["refresh_token", "access_token"],
) -> TokenRequest:
    """Return the request that gives a token back (RFC 7009 §2.1). The server must have a revocation endpoint."""
    url = registration.server.revocation_endpoint
    assert url is not None  # noqa: S101 (for the caller to know)
    headers, values = _authenticated(registration, client_secret)
    values |= {"token": token.reveal().encode(errors="surrogatepass"), "token_type_hint": hint.encode()}
    return TokenRequest(url, headers, Secret(urlencode(values)))


def _build(
    registration: ClientRegistration, client_secret: Secret | None, grant_type: str, **parameters: str
) -> TokenRequest:
    from authlib.oauth2.rfc6749.parameters import prepare_token_request  # not before a browser is told

    headers, credentials = _authenticated(registration, client_secret)
    values = {name: value.encode(errors="surrogatepass") for name, value in parameters.items()} | credentials
    body = prepare_token_request(grant_type, **values)  # type: ignore[arg-type]  # its stubs know of text only
    return TokenRequest(registration.server.token_endpoint, headers, Secret(body))


def _authenticated(
    registration: ClientRegistration, client_secret: Secret | None
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the headers of a request, and the parameters in which the client says who it is (RFC 6749 §2.3.1)."""
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    if registration.token_endpoint_auth_method == "none":  # noqa: S105 (a method's name)
        return headers, {"client_id": registration.client_id.encode()}
    if client_secret is None:
        raise ConfigurationError(f"the client {printable(registration.client_id)} has no client_secret")
    if registration.token_endpoint_auth_method == "client_secret_basic":  # noqa: S105 (a method's name)
        return {**headers, "Authorization": _basic(registration, client_secret)}, {}
    return headers, {"client_id": registration.client_id.encode(), "client_secret": _octets(client_secret)}


def _basic(registration: ClientRegistration, client_secret: Secret) -> str:
    """RFC 6749 §2.3.1: id and secret are form-encoded first, so that a colon or an umlaut survives."""
    user, password = registration.client_id.encode(), _octets(client_secret)
    if registration.server.basic_form_encoding:
        user, password = quote_plus(user).encode("ascii"), quote_plus(password).encode("ascii")
    return "Basic " + base64.b64encode(user + b":" + password).decode("ascii")


def _octets(client_secret: Secret) -> bytes:
    return client_secret.reveal().encode(errors="surrogateescape")  # as its file, variable or command gave them


def parse_token_response(answer: TokenAnswer) -> TokenSet:
    """Judge an answer of the token endpoint. One that broke off is good if its refresh token came whole.

    Raises LoginRequired (`invalid_grant`), ServerUnavailable (429, 503), TokenEndpointError (the client or the
    request was refused: nothing spent), OutcomeUnknown (what was sent may be spent).
    """
    members = _members(answer.body)
    if 200 <= answer.status < 300:
        return _token_set(members, answer)
    error, description = (_text(members, name) for name in ("error", "error_description"))
    said = ": ".join(printable(text) for text in (error, description) if text)
    about = {"status": answer.status, "error": error and printable(error)}
    about["error_description"] = description and printable(description)
    details = cast("dict[str, Any]", about)
    if answer.status == 429 or (answer.status == 503 and answer.retry_after is not None):
        raise ServerUnavailable(
            f"the token endpoint asks to come back later (HTTP {answer.status})",
            hint="nothing was spent" + _later(answer.retry_after),
            retry_after=answer.retry_after,
            **details,
        )
    if not 200 <= answer.status < 500:
        raise OutcomeUnknown(f"the token endpoint had an internal error (HTTP {answer.status})")
    if 300 <= answer.status < 400:
        raise TokenEndpointError(
            f"the token endpoint answered with a redirect (HTTP {answer.status}), which is not followed",
            hint="nothing was spent at another host; check the address of the token_endpoint",
            **details,
        )
    if error == "invalid_grant":
        raise LoginRequired(f"the token endpoint refused ({said})", **details)
    if error == "invalid_client" or answer.status == 401:
        raise TokenEndpointError(
            f"the token endpoint does not accept this client ({said or f'HTTP {answer.status}'})",
            hint=(
                "nothing was spent; check client_id and client_secret, and that they belong to this environment",
                "some servers want --token-endpoint-auth-method client_secret_post",
            ),
            **details,
        )
    raise TokenEndpointError(
        f"the token endpoint refused the request ({said or f'HTTP {answer.status}'})",
        hint="nothing was spent; check client_id, redirect_uri and the address of the token_endpoint",
        **details,
    )


def tokens_in(body: bytes) -> TokenSet | None:
    """Return the tokens that a body holds, whatever came with it; None where there are none."""
    try:
        return parse_token_response(TokenAnswer(200, body))
    except OutcomeUnknown:
        return None


def _later(retry_after: str | None) -> str:
    return f"; try again after {printable(retry_after, 40)} seconds" if (retry_after or "").isdigit() else "; try later"


_COMPRESSED = (b"\x1f\x8b", b"\x78")
"""How gzip and zlib begin, and JSON never does."""


def _members(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a body; of one that broke off, the members that came whole, if tokens are among them.

    A body that was compressed, though nobody asked for that, is taken as what it holds.
    """
    if body.startswith(_COMPRESSED):
        try:
            body = zlib.decompressobj(wbits=47).decompress(body, ANSWER_LIMIT)  # 32 + 15: either of them
        except zlib.error:
            return None
    try:
        try:
            members = json.loads(body, parse_int=float)  # int raises on more than 4,300 digits
        except UnicodeDecodeError:  # a description in Latin-1 must not hide what stands beside it
            members = _readable(json.loads(body.decode(errors="replace"), parse_int=float))
    except (ValueError, RecursionError):
        members = _whole_members(body.decode(errors="replace"))
        return members if isinstance(members.get("refresh_token"), str) else None
    return members if isinstance(members, dict) else None


def _readable(members: object) -> object:
    """Leave out what was not UTF-8: a token that is not as it came is none."""
    if not isinstance(members, dict):
        return members
    return {name: value for name, value in members.items() if not (isinstance(value, str) and "\ufffd" in value)}


def _whole_members(text: str) -> dict[str, Any]:
    """Return the members at the beginning of a JSON object that breaks off."""
    decoder = json.JSONDecoder(parse_int=float)
    members: dict[str, Any] = {}
    separator, position = "{", 0
    try:
        while text[(position := _skip_space(text, position))] == separator:
            name, position = decoder.raw_decode(text, _skip_space(text, position + 1))
            if not isinstance(name, str) or text[(position := _skip_space(text, position))] != ":":
                break
            value, position = decoder.raw_decode(text, _skip_space(text, position + 1))
            if isinstance(value, float) and position == len(text):
                break  # 36 of 3600
            members[name], separator = value, ","
    except (ValueError, IndexError, RecursionError):
        pass
    return members


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\n", "\r"):
        position += 1
    return position


def _text(members: dict[str, Any] | None, name: str) -> str | None:
    value = (members or {}).get(name)
    return value if isinstance(value, str) else None


def _token_set(members: dict[str, Any] | None, answer: TokenAnswer) -> TokenSet:
    access_token, refresh_token = _text(members, "access_token"), _text(members, "refresh_token")
    if members is None or not (access_token or refresh_token):
        kind = printable(answer.content_type.partition(";")[0], 40) or "no content type"
        raise OutcomeUnknown(
            f"the token endpoint said yes (HTTP {answer.status}) without tokens "
            f"({len(answer.body)} bytes of {kind}): a wrong address, or a page in between"
        )
    return TokenSet(
        access_token=Secret(access_token or ""),
        refresh_token=Secret(refresh_token) if refresh_token else None,
        expires_in=_lifetime(members.get("expires_in")),
        scope=_text(members, "scope"),
        token_type=_text(members, "token_type"),
    )


def _lifetime(value: object) -> int | None:
    """RFC 6749 §5.1 wants a number of seconds. Servers also send it as text, as a fraction, or as nonsense."""
    if value is None:
        return None
    try:
        seconds = int(float(value)) if isinstance(value, float | str) else 0
    except (ValueError, OverflowError):
        return 0
    return min(max(seconds, 0), LIFETIME_LIMIT)
