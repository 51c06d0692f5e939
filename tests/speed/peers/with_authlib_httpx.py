"""Authlib with httpx: the client that its documentation shows, PKCE included, around a server for the redirect."""

from __future__ import annotations

import sys

from authlib.common.security import generate_token
from authlib.integrations.httpx_client import OAuth2Client  # type: ignore[import-not-found,unused-ignore]

from tests.speed.peers.loopback import RedirectServer

origin = sys.argv[1]
server = RedirectServer()
client = OAuth2Client(
    "bench",
    token_endpoint_auth_method="none",
    scope="profile",
    redirect_uri=server.redirect_uri,
    code_challenge_method="S256",
)
verifier = generate_token(48)
url, state = client.create_authorization_url(f"{origin}/authorize", code_verifier=verifier)
redirect = server.send_browser_to(url)
token = client.fetch_token(f"{origin}/token", authorization_response=redirect, state=state, code_verifier=verifier)
print(token["access_token"], flush=True)
