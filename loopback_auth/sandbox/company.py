"""The one resource of the sandbox: whose access token is this (RFC 6750 §2.1, header only)."""

from __future__ import annotations

from aiohttp import web

from .authorization_server import SandboxAuthorizationServer
from .refusals import REVOKED, wire
from .replies import Reply, json_response
from .state import State

_PLACE = "the access token goes in the header 'Authorization: Bearer ...'"


class CompanyResource:
    """Answers `GET /resto/rest/core/company` with the restaurant that granted access."""

    def __init__(self, state: State, server: SandboxAuthorizationServer) -> None:
        self._state = state
        self._server = server

    async def get(self, request: web.BaseRequest) -> Reply:
        """Return an array with one company, or 401 in words."""
        found = request.headers.getall("Authorization", [])
        if not found:
            # without credentials the challenge carries no error code (RFC 6750 §3.1)
            return _refuse(f"no Authorization header: {_PLACE}", error=None)
        scheme, _, access_token = found[0].strip().partition(" ")
        if len(found) > 1 or scheme.lower() != "bearer":
            return _refuse(f"the Authorization header is not one 'Bearer': {_PLACE}", error="invalid_request")
        known = self._state.load_access_token(access_token.strip())
        restaurant = self._server.restaurant(known.user_id) if known else None
        if known is None or restaurant is None:
            return _refuse("the access token is not known here: not issued by this sandbox, or long ago")
        if known.revoked:
            return _refuse(f"the access token is {REVOKED}")
        now = self._server.clock()
        if now >= known.expires_at:
            return _refuse(f"the access token expired {self._server.age(known.expires_at)} ago: refresh it")
        return Reply(json_response(200, [restaurant.company()]), f"company of {restaurant.name} shown")


def _refuse(words: str, error: str | None = "invalid_token") -> Reply:
    challenge = 'Bearer realm="sandbox"'
    if error:
        challenge += f', error="{error}", error_description="{wire(words)}"'
    body = {"error": error or "invalid_token", "error_description": wire(words)}
    return Reply(json_response(401, body, {"WWW-Authenticate": challenge}), words, ok=False)
