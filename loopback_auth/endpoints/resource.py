"""GET below a server's API base with the access token (RFC 6750 §2.1): which restaurant is this?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from loopback_auth.endpoints.connection import BODY_LIMIT, proxy_for, tls_context
from loopback_auth.errors import ResourceError
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.secret import Secret
from loopback_auth.text import printable

TIMEOUT = 15.0
"""Seconds for the whole request."""


@dataclass(frozen=True, slots=True)
class Company:
    """Whose data an access token opens, as the API names it; not yet made printable."""

    id: str
    name: str
    others: int = 0
    """How many more companies the same access token opens."""


async def company(registration: ClientRegistration, access_token: Secret) -> Company | None:
    """Ask the server which company the token is for; None where its preset knows no way to ask.

    Raises ResourceError.
    """
    server = registration.server
    if server.api_base is None or server.company_path is None:
        return None
    url = server.api_base + server.company_path
    connector = aiohttp.TCPConnector(ssl=tls_context(registration.ca_file))
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    headers = {"Authorization": f"Bearer {access_token.reveal()}", "Accept": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, headers=headers, proxy=proxy_for(url), allow_redirects=False) as response,
        ):
            body = await response.content.read(BODY_LIMIT * 16)
            while not response.content.at_eof() and len(body) < BODY_LIMIT * 16:
                body += await response.content.read(BODY_LIMIT)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ResourceError(f"{printable(url)} does not answer ({printable(type(error).__name__)})") from error
    if response.status != 200:
        raise ResourceError(f"{printable(url)} answered HTTP {response.status}", status=response.status)
    return parse_companies(body)


def parse_companies(body: bytes) -> Company:
    """Return the first company of a JSON array of objects with `id` and `name`. Raises ResourceError."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    companies = [one for one in answer if isinstance(one, dict) and "id" in one] if isinstance(answer, list) else []
    if not companies:
        raise ResourceError("the API did not say which company this is")
    first = companies[0]
    return Company(str(first["id"]), str(first.get("name", "")), len(companies) - 1)
