"""google-auth-oauthlib: the local-server flow for installed applications."""

from __future__ import annotations

import sys

from google_auth_oauthlib.flow import InstalledAppFlow  # type: ignore[import-not-found,unused-ignore]

origin = sys.argv[1]
flow = InstalledAppFlow.from_client_config(
    {
        "installed": {
            "client_id": "bench",
            "client_secret": "not a secret in an installed application",
            "auth_uri": f"{origin}/authorize",
            "token_uri": f"{origin}/token",
            "redirect_uris": ["http://localhost"],
        }
    },
    scopes=["profile"],
)
credentials = flow.run_local_server(port=0)
print(credentials.token, flush=True)
