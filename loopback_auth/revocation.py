"""Use-case: giving an account's tokens back to the server that issued them (RFC 7009)."""

from __future__ import annotations

from typing import Literal

from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import LoopbackAuthError
from loopback_auth.oauth.token import build_revocation_request
from loopback_auth.secret import Secret
from loopback_auth.store.base import Account


async def revoke(account: Account, client_secret: Secret | None) -> str | None:
    """Give refresh and access token back; return None when the server has taken both, else in words why it has not.

    The server must have a revocation endpoint. Whoever calls holds the account's lock: a refresh must not cross this.
    """
    registration, tokens = account.registration, account.tokens
    held: list[tuple[Secret | None, Literal["refresh_token", "access_token"]]] = [
        (tokens.refresh_token, "refresh_token"),  # first: a server that takes it forgets the access token too (§2.1)
        (tokens.access_token, "access_token"),
    ]
    url = registration.server.revocation_endpoint or ""
    why: str | None = None
    try:
        for token, hint in held:
            if token:
                request = build_revocation_request(registration, client_secret, token, hint)
                async with TokenEndpoint.open(url, registration.ca_file, registration.proxy) as endpoint:
                    answer = await endpoint.send(request)
                if not 200 <= answer.status < 300:  # some take one kind of token alone: the other is tried all the same
                    why = why or f"it answered HTTP {answer.status}"
    except LoopbackAuthError as error:
        return why or str(error)
    return why
