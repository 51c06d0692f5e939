"""GET below a server's API base with the access token (RFC 6750 §2.1)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from loopback_auth.endpoints.proxy import proxy_for
from loopback_auth.endpoints.trust import tls_context
from loopback_auth.errors import ConfigurationError, ResourceError
from loopback_auth.oauth.registration import AuthorizationServer, ClientRegistration
from loopback_auth.secret import Secret
from loopback_auth.text import printable

TIMEOUT = 60.0
"""Seconds for a whole request."""
COMPANY_TIMEOUT = 10.0
"""Seconds for the question whose data it is: a login may be waiting for it with tokens that are not stored yet."""
BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of an answer."""
COMPANY_LIMIT = 1024 * 1024
"""Bytes of the answer to the question whose data it is."""
NAME_LIMIT = 200
"""Characters of a company's id, and of its name that are kept: they are stored with the tokens."""


@dataclass(frozen=True, slots=True)
class ResourceAnswer:
    """What the API answered, as it came."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Company:
    """Whose data an access token opens, as the API names it; not yet made printable."""

    id: str
    name: str


def resource_url(server: AuthorizationServer, path: str) -> str:
    """Return the URL of `path` below the server's API base; a whole URL must be below it too.

    The access token goes nowhere else. Raises ConfigurationError.
    """
    shown = printable(path)
    if server.api_base is None:
        raise ConfigurationError(
            f"the API base of server {printable(server.name)} is not known",
            hint=f"write api_base under [servers.{printable(server.name)}] in config.toml, and log in again",
        )
    if any(not "!" <= character <= "~" for character in path) or "\\" in path or "#" in path:
        raise ConfigurationError(f"this is not a path: {shown}", hint="percent-encode spaces and other characters")
    base = server.api_base if server.api_base.endswith("/") else server.api_base + "/"
    try:
        url = urljoin(base, path if urlsplit(path).scheme else path.lstrip("/"))
    except ValueError:  # half an address literal
        url = ""
    if (
        path.startswith("//")
        or not url.startswith(base)
        or "/../" in f"{urlsplit(url).path}/".replace("%2e", ".").replace("%2E", ".")
    ):
        raise ConfigurationError(
            f"{shown} is not below {printable(base)}: the access token is not sent there",
            hint="give the path alone, for example rest/core/company",
        )
    return url


async def get(
    registration: ClientRegistration,
    url: str,
    access_token: Secret,
    *,
    timeout: float = TIMEOUT,
    limit: int = BODY_LIMIT,
) -> ResourceAnswer:
    """Send one GET, follow nothing, and return the answer whatever its status. Raises ResourceError: none came."""
    import aiohttp  # 100 ms, and whoever logs in or refreshes has imported it by now

    headers = {"Authorization": f"Bearer {access_token.reveal()}", "Accept": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls_context(registration.ca_file)),
                timeout=aiohttp.ClientTimeout(total=timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.get(
                url, headers=headers, proxy=proxy_for(url, registration.proxy), allow_redirects=False
            ) as response,
        ):
            body = bytearray()
            async for piece in response.content.iter_chunked(64 * 1024):
                body += piece
                if len(body) > limit:
                    raise ResourceError(f"the answer is larger than {limit >> 20} MiB", status=response.status)
            return ResourceAnswer(
                response.status,
                response.headers.get("Content-Type", ""),
                bytes(body),
                response.headers.get("Retry-After"),
            )
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        host = printable(urlsplit(url).netloc, 100)
        raise ResourceError(f"{host} does not answer: {_why(error)}") from error


def _why(error: Exception) -> str:
    """Return in plain words why there is no answer."""
    import aiohttp

    match error:
        case TimeoutError():
            return "it takes too long"
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not trusted"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known (DNS)"
        case aiohttp.ClientConnectorError():
            return os.strerror(error.os_error.errno).lower() if error.os_error.errno else "no connection"
        case _:
            return "the connection broke"


async def company(registration: ClientRegistration, access_token: Secret) -> Company | None:
    """Ask the server which company the token is for; None where its preset knows no way to ask.

    Raises ResourceError.
    """
    server = registration.server
    if server.api_base is None or server.company_path is None:
        return None
    try:
        url = resource_url(server, server.company_path)
        answer = await _asked_twice(registration, url, access_token)
    except ConfigurationError as error:  # whoever asks has tokens in hand that work once: the question can wait
        raise ResourceError(str(error)) from error
    if answer.status != 200:
        raise ResourceError(f"{printable(server.company_path)} answered HTTP {answer.status}", status=answer.status)
    return parse_companies(answer.body)


async def _asked_twice(registration: ClientRegistration, url: str, access_token: Secret) -> ResourceAnswer:
    """Ask, and once more where the connection broke: that costs nothing, and a wrong account may hang on the answer."""
    try:
        return await get(registration, url, access_token, timeout=COMPANY_TIMEOUT, limit=COMPANY_LIMIT)
    except ResourceError as error:
        if error.status is not None or isinstance(error.__cause__, TimeoutError):
            raise
    return await get(registration, url, access_token, timeout=COMPANY_TIMEOUT, limit=COMPANY_LIMIT)


def parse_companies(body: bytes) -> Company:
    """Return the first company of a JSON array of objects with `id` and `name`. Raises ResourceError."""
    try:
        answer: Any = json.loads(body)
        companies = [one for one in answer if isinstance(one, dict) and "id" in one] if isinstance(answer, list) else []
        found = [Company(str(one["id"]), str(one.get("name", ""))[:NAME_LIMIT]) for one in companies[:1]]
    except (ValueError, RecursionError):
        found = []
    if not found or len(found[0].id) > NAME_LIMIT:
        raise ResourceError("the API did not say which company this is")
    return found[0]
