"""The protocol: authlib's two grants, made as strict as the real server may be.

No HTTP and no SQL lives here. Everything that authlib leaves open is decided in favour of refusing:

* PKCE with S256 for every client (RFC 7636; authlib asks public clients only, and accepts `plain`);
* a code is spent by the first request that presents it, right or wrong; presented again, it revokes the
  tokens that were issued from it (RFC 6749 §4.1.2);
* `redirect_uri` is repeated in the token request, byte for byte (§4.1.3), as L-Series documents it;
* a refresh token works once, without grace unless the settings ask for one, and dies after 30 days unused (§6).
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from authlib.oauth2.rfc6749 import OAuth2Request, grants
from authlib.oauth2.rfc7636 import CodeChallenge, create_s256_code_challenge

from .log import printable
from .models import IssuedCode, IssuedRefreshToken, Registration
from .parameters import ParsedRequest
from .refusals import REVOKED, GrantRefused, OAuth2Error, RequestRefused, ResponseTypeRefused
from .restaurants import Restaurant
from .state import REFRESH_TOKEN_IDLE_LIFETIME, Code, RefreshToken

if TYPE_CHECKING:
    from .authorization_server import SandboxAuthorizationServer

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class S256Only(CodeChallenge):
    """PKCE, required of every client, with S256 (RFC 7636 §4.2, RFC 9700 §2.1.1)."""

    SUPPORTED_CODE_CHALLENGE_METHOD: list[str] = ["S256"]  # noqa: RUF012 - authlib declares it so

    def validate_code_challenge(self, grant: Any, redirect_uri: Any) -> None:
        """Refuse an authorization request without a proper challenge."""
        sent = grant.request.payload.data
        challenge, method = sent.get("code_challenge"), sent.get("code_challenge_method")
        if challenge is None:
            raise RequestRefused("code_challenge is missing: PKCE is required, with code_challenge_method=S256")
        if method is None:
            raise RequestRefused("code_challenge_method is missing, which means plain: send S256")
        if method != "S256":
            raise RequestRefused(f"code_challenge_method '{printable(method)}' is refused: only S256 is taken")
        if not _CHALLENGE.fullmatch(challenge):
            padded = " (leave out the padding '=')" if challenge.endswith("=") else ""
            raise RequestRefused(f"code_challenge is not 43 characters of base64url{padded}: it is no SHA-256")
        super().validate_code_challenge(grant, redirect_uri)

    def validate_code_verifier(self, grant: Any, result: Any) -> None:
        """Refuse a token request whose verifier does not fit the challenge (§4.6)."""
        verifier = grant.request.form.get("code_verifier")
        challenge = grant.request.authorization_code.code_challenge
        if verifier is None:
            raise RequestRefused("code_verifier is missing: the code was issued for one; it is spent, log in again")
        # authlib's own pattern ends in $, which lets a line break through
        if not _VERIFIER.fullmatch(verifier):
            raise RequestRefused("code_verifier is not 43 to 128 letters, digits, '-', '.', '_', '~'; log in again")
        if not hmac.compare_digest(_s256(verifier), challenge):
            swapped = ": it is the challenge itself, send the value it was made from" if verifier == challenge else ""
            raise GrantRefused(
                f"code_verifier does not fit the code_challenge{swapped}; the code is spent, log in again"
            )
        super().validate_code_verifier(grant, result)


class SandboxCodeGrant(grants.AuthorizationCodeGrant):
    """The authorization code grant (RFC 6749 §4.1)."""

    server: SandboxAuthorizationServer
    TOKEN_ENDPOINT_AUTH_METHODS: Collection[str] = ("client_secret_basic",)

    @classmethod
    def check_authorization_endpoint(cls, request: OAuth2Request) -> bool:
        """Take every request: what is wrong with it is said once client and redirect are known."""
        return True

    @staticmethod
    def validate_no_multiple_request_parameter(request: OAuth2Request) -> None:
        """Leave it to `validate_authorization_request`, which knows whether the error may be redirected."""

    def validate_authorization_request(self) -> str:
        """Return the redirect URI, or raise: with a redirect only where client and redirect URI are sound."""
        sent = self._sent
        for name in ("client_id", "redirect_uri"):
            if len(sent.payload.datalist.get(name, [])) > 1:
                raise RequestRefused(f"{name} comes twice: each parameter may occur once")
        if sent.payload.client_id is None:
            raise RequestRefused("client_id is missing: it says which application asks")
        client = self.server.query_client(sent.payload.client_id)
        redirect_uri = self.validate_authorization_redirect_uri(sent, client)
        try:
            if repeated := sent.payload.repeated():
                raise RequestRefused(f"{printable(repeated)} comes twice: each parameter may occur once")
            self._check_response_type(sent.payload.response_type)
            super().validate_authorization_request()
        except OAuth2Error as error:
            error.redirect_uri = redirect_uri
            raise
        return redirect_uri

    @staticmethod
    def _check_response_type(response_type: str | None) -> None:
        if response_type is None:
            raise RequestRefused("response_type is missing: send response_type=code")
        if response_type != "code":
            raise ResponseTypeRefused(f"response_type '{printable(response_type)}' is refused: only code is taken")

    def generate_authorization_code(self) -> str:
        """Return a code that nobody can guess."""
        return secrets.token_urlsafe(32)

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        """Remember the code with everything that the token request must match."""
        sent = self._sent
        assert isinstance(sent.client, Registration)  # noqa: S101 - set by authlib's validation
        self.server.state.save_code(
            code,
            client_id=sent.client.client_id,
            user_id=sent.user.user_id,  # type: ignore[union-attr]
            redirect_uri=sent.payload.redirect_uri or sent.client.get_default_redirect_uri(),
            code_challenge=sent.payload.data["code_challenge"],
            lifetime=self.server.settings.code_lifetime,
        )

    def query_authorization_code(self, code: str, client: Any) -> IssuedCode:
        """Spend the code and return it, or refuse in words."""
        server, state = self.server, self.server.state
        known = state.load_code(code)
        if known is None or known.client_id != client.client_id:
            whose = "was issued to another client" if known else "is not known here: it was never issued, or long ago"
            raise GrantRefused(f"the code {whose}")
        if not state.spend_code(known):
            state.revoke(known.grant_id)
            since = server.age(known.spent_at or known.issued_at)
            raise GrantRefused(
                f"the code was presented before, {since} ago, and works once: log in again;"
                " tokens issued from it are revoked now"
            )
        if server.clock() >= known.expires_at:
            age, lifetime = server.age(known.issued_at), known.expires_at - known.issued_at
            raise GrantRefused(f"the code is {age} old and died after {lifetime:g} s: send it at once")
        self._check_redirect_uri(known)
        self._age = server.age(known.issued_at)
        return IssuedCode(known)

    def _check_redirect_uri(self, known: Code) -> None:
        redirect_uri = self._sent.payload.redirect_uri
        if redirect_uri is None:
            raise GrantRefused(
                f"redirect_uri is missing: repeat the one of the authorization request, {known.redirect_uri};"
                " the code is spent, log in again"
            )
        if redirect_uri != known.redirect_uri:
            raise GrantRefused(
                "redirect_uri differs from the one in the authorization request:"
                f" {printable(redirect_uri)} vs {printable(known.redirect_uri)};"
                " the code is spent, log in again"
            )

    def authenticate_user(self, authorization_code: Any) -> Restaurant:
        """Return the restaurant that allowed it."""
        restaurant = self.server.restaurant(authorization_code.user_id)
        if restaurant is None:
            raise GrantRefused("the restaurant that allowed it is gone from the settings: log in again")
        self._sent.words = f"code exchanged for tokens of {restaurant.name}, {self._age} after it was issued"
        return restaurant

    def delete_authorization_code(self, authorization_code: Any) -> None:
        """Do nothing: it is spent since it was queried, and kept to recognise a second use."""

    @property
    def _sent(self) -> ParsedRequest:
        assert isinstance(self.request, ParsedRequest)  # noqa: S101 - create_oauth2_request lets nothing else in
        return self.request


class SandboxRefreshGrant(grants.RefreshTokenGrant):
    """Refreshing, by a token that works once (RFC 6749 §6)."""

    server: SandboxAuthorizationServer
    TOKEN_ENDPOINT_AUTH_METHODS: Collection[str] = ("client_secret_basic",)
    INCLUDE_NEW_REFRESH_TOKEN: bool = True

    def authenticate_refresh_token(self, refresh_token: str) -> IssuedRefreshToken:
        """Spend the refresh token and return it, or refuse in words."""
        server, state = self.server, self.server.state
        known = state.load_refresh_token(refresh_token)
        if known is None:
            raise GrantRefused("the refresh token is not known here: not issued by this sandbox, or long ago")
        sent = self._sent
        sent.presented = known.presented
        if known.client_id != sent.client.client_id:  # type: ignore[union-attr]
            raise GrantRefused("the refresh token was issued to another client")
        if known.revoked:
            raise GrantRefused(f"the refresh token is {REVOKED}")
        if known.spent_at is not None or (sent.rotates and not state.spend_refresh_token(known)):
            self._use_again(known)
            return IssuedRefreshToken(known)
        self._old_one = "is spent" if sent.rotates else "stays good"
        if server.clock() - known.issued_at >= REFRESH_TOKEN_IDLE_LIFETIME:
            days = REFRESH_TOKEN_IDLE_LIFETIME / 86400
            raise GrantRefused(f"the refresh token lay unused for {days:g} days and died: log in again")
        return IssuedRefreshToken(known)

    def _use_again(self, known: RefreshToken) -> None:
        """Let a spent refresh token pass within the grace; refuse it otherwise, and revoke the grant if that is set.

        The default harms nobody else: L-Series does not say that it would revoke anything.
        """
        server, settings = self.server, self.server.settings
        since = server.age(known.spent_at or known.issued_at)
        if known.spent_at is not None and max(0.0, server.clock() - known.spent_at) < settings.grace:
            self._old_one = f"was spent {since} ago, within the grace of {settings.grace:g} s"
            return
        words = f"the refresh token was used before, {since} ago, and works once"
        if settings.reuse == "revoke":
            server.state.revoke(known.grant_id)
            raise GrantRefused(f"{words}: every token of this login is revoked now, log in again")
        raise GrantRefused(f"{words}: use the one that came with that answer, or log in again")

    def authenticate_user(self, refresh_token: Any) -> Restaurant:
        """Return the restaurant that the token belongs to."""
        restaurant = self.server.restaurant(refresh_token.user_id)
        if restaurant is None:
            raise GrantRefused("the restaurant that allowed it is gone from the settings: log in again")
        self._sent.words = f"tokens of {restaurant.name} refreshed; the old refresh token {self._old_one}"
        return restaurant

    def revoke_old_credential(self, refresh_token: Any) -> None:
        """Do nothing: it is spent since it was authenticated."""

    @property
    def _sent(self) -> ParsedRequest:
        assert isinstance(self.request, ParsedRequest)  # noqa: S101 - create_oauth2_request lets nothing else in
        return self.request


def _s256(verifier: str) -> str:
    return str(create_s256_code_challenge(verifier))  # type: ignore[no-untyped-call]
