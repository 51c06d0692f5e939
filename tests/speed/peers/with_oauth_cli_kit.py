"""oauth-cli-kit: its interactive login; the redirect comes to the one port and path that it listens on."""

from __future__ import annotations

import sys

from oauth_cli_kit import login_oauth_interactive  # type: ignore[import-not-found,unused-ignore]
from oauth_cli_kit.models import OAuthProviderConfig  # type: ignore[import-not-found,unused-ignore]

origin = sys.argv[1]
provider = OAuthProviderConfig(
    client_id="bench",
    authorize_url=f"{origin}/authorize",
    token_url=f"{origin}/token",
    redirect_uri="http://localhost:1455/auth/callback",
    scope="profile",
)
token = login_oauth_interactive(print_fn=lambda text: print(text, file=sys.stderr), prompt_fn=input, provider=provider)
print(token.access, flush=True)
