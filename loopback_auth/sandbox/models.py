"""Clients, codes and refresh tokens as authlib wants to see them: its mixins around the sandbox's own records."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, TokenMixin

from .log import printable
from .redirect_uris import default_redirect_uri, refusal
from .refusals import RequestRefused
from .settings import SandboxClient
from .state import Code, RefreshToken


class Registration(ClientMixin):
    """A client as authlib wants to see it."""

    def __init__(self, client: SandboxClient, pinned: tuple[str, ...] | None) -> None:
        self.client_id = client.client_id
        self.name = client.name
        self._pinned = pinned

    def get_client_id(self) -> str:
        """Return the client identifier."""
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        """Return where a request without `redirect_uri` goes."""
        uri = default_redirect_uri(self._pinned)
        if uri is None:
            raise RequestRefused("redirect_uri is missing, and the registered one has no port to send the code to")
        return uri

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Refuse, in words, what is not registered (RFC 6749 §3.1.2.3)."""
        if why := refusal(redirect_uri, self._pinned):
            raise RequestRefused(f"redirect_uri {printable(redirect_uri)} is refused: {why}")
        return True

    def get_allowed_scope(self, scope: Collection[str] | str) -> str:
        """Return no scope: L-Series documents none."""
        return ""

    def check_response_type(self, response_type: str) -> bool:
        """Allow the code flow alone."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Allow the two grants of this server."""
        return grant_type in {"authorization_code", "refresh_token"}


class IssuedCode(AuthorizationCodeMixin):
    """A code as authlib wants to see it."""

    code_challenge_method = "S256"

    def __init__(self, code: Code) -> None:
        self.code = code
        self.grant_id = code.grant_id
        self.user_id = code.user_id
        self.code_challenge = code.code_challenge

    def get_redirect_uri(self) -> str:
        """Return the redirect URI of the authorization request."""
        return self.code.redirect_uri

    def get_scope(self) -> str:
        """Return no scope."""
        return ""


class IssuedRefreshToken(TokenMixin):
    """A refresh token as authlib wants to see it."""

    def __init__(self, token: RefreshToken) -> None:
        self.grant_id = token.grant_id
        self.user_id = token.user_id
        self._client_id = token.client_id

    def check_client(self, client: Any) -> bool:
        """Say whether the token was issued to this client."""
        return bool(self._client_id == client.client_id)

    def get_scope(self) -> str:
        """Return no scope."""
        return ""
