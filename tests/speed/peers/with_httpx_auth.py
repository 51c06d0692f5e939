"""httpx-auth: a request that logs in when it has to; the token is printed when the request is ready to go with it."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import httpx  # type: ignore[import-not-found,unused-ignore]
from httpx_auth import OAuth2AuthorizationCodePKCE  # type: ignore[import-not-found,unused-ignore]

origin = sys.argv[1]
login = OAuth2AuthorizationCodePKCE(f"{origin}/authorize", f"{origin}/token", client_id="bench", scope="profile")
request = httpx.Request("GET", f"{origin}/resource")
ready: Generator[Any, Any, None] = login.auth_flow(request)
print(next(ready).headers["Authorization"].removeprefix("Bearer "), flush=True)
