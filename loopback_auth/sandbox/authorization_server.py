"""authlib's authorization server around the sandbox's own records: who may ask, what is issued, how it is answered.

No HTTP and no SQL lives here. A token response holds `access_token`, `refresh_token` and `expires_in`, as L-Series
sends it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Request, grants

from .client_authentication import authenticate
from .grants import S256Only, SandboxCodeGrant, SandboxRefreshGrant
from .log import printable
from .models import Registration
from .parameters import ParsedRequest
from .refusals import GrantTypeRefused, OAuth2Error, RequestRefused, words_of
from .restaurants import Restaurant, numbered
from .settings import SandboxSettings
from .state import State


@dataclass(frozen=True, slots=True)
class Answer:
    """What a grant decided: an HTTP status, headers, and a JSON object or nothing as body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: Mapping[str, object]


class TokenResponse(dict[str, Any]):
    """The tokens just issued; authlib logs this object at DEBUG, so it shows nothing."""

    def __repr__(self) -> str:
        """Show no token."""
        return "<token response>"

    __str__ = __repr__


class SandboxAuthorizationServer(AuthorizationServer):
    """The sandbox's authorization server. Synchronous: call it inside `State.transaction`."""

    def __init__(self, settings: SandboxSettings, state: State, clock: Callable[[], float]) -> None:
        super().__init__()
        self.settings = settings
        self.state = state
        self.clock = clock
        self._clients = {client.client_id: client for client in settings.clients}
        self._restaurants = {restaurant.user_id: restaurant for restaurant in settings.restaurants}
        self.register_grant(SandboxCodeGrant, [S256Only(required=True)])
        self.register_grant(SandboxRefreshGrant)

    def restaurant(self, user_id: str) -> Restaurant | None:
        """Return the restaurant with this login: one of the settings, or one of the numbered ones."""
        return self._restaurants.get(user_id) or numbered(user_id)

    def age(self, since: float) -> str:
        """Return how long ago something was, in whole seconds unless it was just now."""
        seconds = max(0.0, self.clock() - since)
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"

    def query_client(self, client_id: str) -> Registration:
        """Return a registered client, or refuse in words."""
        client = self._clients.get(client_id)
        if client is None:
            known = ", ".join(printable(name) for name in self._clients)
            raise RequestRefused(f"client_id '{printable(client_id)}' is not registered here; registered: {known}")
        return Registration(client, self.settings.redirect_uris)

    def authenticate_client(
        self, request: OAuth2Request, methods: Collection[str], endpoint: str = "token"
    ) -> Registration:
        """Authenticate by HTTP Basic, whatever authlib would also accept."""
        assert isinstance(request, ParsedRequest)  # noqa: S101 - create_oauth2_request lets nothing else in
        return Registration(authenticate(request, self._clients), self.settings.redirect_uris)

    def generate_token(
        self,
        grant_type: str,
        client: ClientMixin,
        user: Any = None,
        scope: str | None = None,
        expires_in: int | None = None,
        include_refresh_token: bool = True,
    ) -> dict[str, str | int]:
        """Issue an access token of JWT form and a refresh token; no `token_type`, no `scope`."""
        now = int(self.clock())
        claims = {
            "sub": str(user.id),
            "client_id": client.get_client_id(),
            "iat": now,
            "exp": now + self.settings.access_token_lifetime,
            "jti": secrets.token_hex(16),
        }
        return TokenResponse(
            access_token=_signed(claims, self.state.signing_key),
            refresh_token=secrets.token_urlsafe(32),
            expires_in=self.settings.access_token_lifetime,
        )

    def save_token(self, token: dict[str, str | int], request: OAuth2Request) -> None:
        """Remember the tokens under the grant that they were issued for."""
        assert isinstance(request, ParsedRequest)  # noqa: S101 - create_oauth2_request lets nothing else in
        credential = request.authorization_code or request.refresh_token
        assert credential is not None  # noqa: S101 - both grants set one before they issue
        if not request.rotates:
            del token["refresh_token"]  # from what authlib answers with, too
        self.state.save_tokens(
            credential.grant_id,
            access_token=str(token["access_token"]),
            refresh_token=str(token["refresh_token"]) if request.rotates else None,
            access_token_lifetime=self.settings.access_token_lifetime,
        )

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Tell nobody: authlib announces to web frameworks that a client is authenticated."""

    def create_oauth2_request(self, request: Any) -> ParsedRequest:
        """Take a request that is parsed already."""
        assert isinstance(request, ParsedRequest)  # noqa: S101 - the only caller is this room
        return request

    def get_token_grant(self, request: OAuth2Request) -> grants.BaseGrant:
        """Return the grant for `grant_type`, or refuse in words.

        An unknown grant type is answered once the client is known, like everything else.
        """
        assert isinstance(request, ParsedRequest)  # noqa: S101 - create_oauth2_request lets nothing else in
        grant_type = request.payload.grant_type
        if grant_type in {"authorization_code", "refresh_token"}:
            return super().get_token_grant(request)
        self.authenticate_client(request, ())
        if grant_type is None:
            raise RequestRefused("grant_type is missing: authorization_code or refresh_token")
        raise GrantTypeRefused(
            f"grant_type '{printable(grant_type)}' is not known here: authorization_code or refresh_token"
        )

    def create_token_response(self, request: Any = None) -> Answer:  # type: ignore[override]
        """Answer a token request; authlib catches only some errors of `get_token_grant`."""
        parsed = self.create_oauth2_request(request)
        try:
            if repeated := parsed.payload.repeated():
                raise RequestRefused(f"{printable(repeated)} comes twice: each parameter may occur once")
            answer: Answer = super().create_token_response(parsed)  # type: ignore[assignment]
        except OAuth2Error as error:
            answer = self.handle_error_response(parsed, error)
        if parsed.presented > 1:
            parsed.words += f"; presented for the {_ordinal(parsed.presented)} time"
        return answer

    def handle_response(self, status: int, body: Any, headers: Any) -> Answer:
        """Return the answer in a form that knows no HTTP library."""
        return Answer(status, tuple(headers), body or {})

    def handle_error_response(self, request: OAuth2Request, error: OAuth2Error) -> Answer:
        """Return an error's answer, and leave its words for the log."""
        assert isinstance(request, ParsedRequest)  # noqa: S101 - create_oauth2_request lets nothing else in
        request.words = words_of(error)
        return self.handle_response(*error())


def _signed(claims: Mapping[str, object], key: bytes) -> str:
    """Return claims as a JWT signed with HS256 (RFC 7515 §3.1)."""
    head = _base64url(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = _base64url(json.dumps(claims).encode())
    signature = hmac.new(key, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{_base64url(signature)}"


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in {11, 12, 13} else ending}"
