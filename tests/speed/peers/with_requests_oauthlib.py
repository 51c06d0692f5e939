"""requests-oauthlib: the recipe that its documentation suggests, PKCE included, around a server for the redirect."""

from __future__ import annotations

import sys
from urllib.parse import parse_qs, urlsplit

from requests_oauthlib import OAuth2Session  # type: ignore[import-not-found,import-untyped,unused-ignore]

from tests.speed.peers.loopback import RedirectServer

origin = sys.argv[1]
server = RedirectServer()
session = OAuth2Session("bench", redirect_uri=server.redirect_uri, scope=["profile"], pkce="S256")
url, state = session.authorization_url(f"{origin}/authorize")
answer = parse_qs(urlsplit(server.send_browser_to(url)).query)
assert answer["state"] == [state]
token = session.fetch_token(f"{origin}/token", code=answer["code"][0], include_client_id=True)
print(token["access_token"], flush=True)
