"""msal: the interactive flow of a public client, at an OpenID provider, whose issuer must have a path for it."""

from __future__ import annotations

import sys

import msal  # type: ignore[import-not-found,unused-ignore]

application = msal.PublicClientApplication("bench", oidc_authority=f"{sys.argv[1]}/tenant")
result = application.acquire_token_interactive(scopes=["read"])
print(result["access_token"], flush=True)
