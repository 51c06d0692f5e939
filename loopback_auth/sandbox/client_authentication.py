"""Who sends a token request: HTTP Basic and nothing else (RFC 6749 §2.3.1, RFC 7617)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import unquote_plus

from .log import printable
from .parameters import ParsedRequest
from .refusals import ClientRefused, RequestRefused
from .settings import SandboxClient

_PLACE = "the client id and secret go in HTTP Basic"


def authenticate(request: ParsedRequest, clients: Mapping[str, SandboxClient]) -> SandboxClient:
    """Return the client whose id and secret the request carries.

    Raises `ClientRefused`, or `RequestRefused` where id or secret come in two ways at once.
    """
    client_id, client_secret = _basic(request)
    in_body = request.form.get("client_id")
    if "client_secret" in request.form:
        raise RequestRefused(f"the secret came in the body as well: {_PLACE} alone")
    if in_body is not None and in_body != unquote_plus(client_id):
        raise RequestRefused("client_id in the body differs from the one in HTTP Basic")
    client = clients.get(unquote_plus(client_id))
    if client is None:
        known = ", ".join(f"'{printable(name)}'" for name in clients)
        raise ClientRefused(
            f"client '{printable(unquote_plus(client_id))}' is not registered here; registered: {known}"
        )
    if not _equal(unquote_plus(client_secret), client.client_secret):
        raise ClientRefused(
            f"the secret is wrong for client '{printable(client.client_id)}'{_hint(client_secret, client)}"
        )
    return client


def _basic(request: ParsedRequest) -> tuple[str, str]:
    """Return id and secret as they stand in the header, still form-encoded."""
    if not request.authorization:
        moved = ", not in the body" if "client_secret" in request.form else ""
        raise ClientRefused(f"no Authorization header: {_PLACE}{moved}")
    if len(request.authorization) > 1:
        raise RequestRefused("two Authorization headers: one is enough")
    scheme, _, credentials = request.authorization[0].strip().partition(" ")
    if scheme.lower() != "basic":
        raise ClientRefused(f"the Authorization header does not begin with 'Basic': {_PLACE}")
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise ClientRefused("what follows 'Basic' is not base64 of id:secret") from None
    client_id, colon, client_secret = decoded.partition(":")
    if not colon:
        raise ClientRefused("what follows 'Basic' decodes to something without a colon: it is base64 of id:secret")
    return client_id, client_secret


def _hint(client_secret: str, client: SandboxClient) -> str:
    if _equal(client_secret.rstrip("\r\n"), client.client_secret) and client_secret != client.client_secret:
        return ": it ends with a line break that was encoded along with it (echo adds one, printf does not)"
    if _equal(client_secret, client.client_secret):
        return ": id and secret must be form-encoded before base64 (RFC 6749 section 2.3.1)"
    if not client_secret:
        return ": it is empty"
    return ""


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
