"""What is known before a login: the authorization server (RFC 8414 names) and the client's registration (RFC 7591).

The rule that every address must be https, or http to this machine, lives here and nowhere else.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from loopback_auth.errors import ConfigurationError
from loopback_auth.text import printable

TokenEndpointAuthMethod = Literal["client_secret_basic", "client_secret_post", "none"]
StatePolicy = Literal["required", "unconfirmed", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationServer:
    """An authorization server and what it is like. Field names are RFC 8414's where it has one.

    `code_lifetime` and `refresh_token_idle_lifetime` are in seconds; None where nobody has said.
    """

    name: str
    title: str
    authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str | None = None
    """Where tokens are given back (RFC 7009); None where the server documents none."""
    issuer: str | None = None
    authorization_response_iss_parameter_supported: bool = False
    api_base: str | None = None
    company_path: str | None = None
    """Below `api_base`: answers who the access token belongs to, as a JSON array of objects with `id` and `name`."""
    redirect_uri: str = "http://127.0.0.1:0/"
    """Used where the registration names none."""
    redirect_uri_parameter: bool = True
    """Whether the authorization request carries `redirect_uri`."""
    login_hint_parameter: bool = False
    """Whether the authorization request carries `login_hint` (OpenID Connect Core 3.1.2.1), which account is meant."""
    state: StatePolicy = "required"
    basic_form_encoding: bool = True
    """Whether id and secret are form-encoded before Basic, as RFC 6749 §2.3.1 says."""
    public_clients: bool = True
    """Whether a client may come without a secret."""
    code_lifetime: int | None = None
    refresh_token_idle_lifetime: int | None = None
    client_id: str | None = None
    client_secret: str | None = None
    """Published credentials: only the sandbox has them."""
    production: bool = False
    login_as: str | None = None
    allow_means: str | None = None
    keys_from: str | None = None
    foreign_client_ids: Mapping[str, str] = field(default_factory=dict)
    """How client ids of other products and environments begin, and whose they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRegistration:
    """One client at one authorization server (RFC 7591 names)."""

    server: AuthorizationServer
    client_id: str
    redirect_uri: str
    token_endpoint_auth_method: TokenEndpointAuthMethod
    scope: str | None = None
    ca_file: str | None = None
    proxy: str | None = field(default=None, repr=False)
    """An http:// or https:// URL, for requests to the token endpoint and the API; it may hold a password."""

    def is_same_client(self, other: ClientRegistration) -> bool:
        """Whether both are one client at one server, so that the tokens of one are the other's."""
        return (self.server.token_endpoint, self.client_id) == (other.server.token_endpoint, other.client_id)


@dataclass(frozen=True, slots=True)
class RedirectURI:
    """A loopback redirect URI (RFC 8252 §7.3): `text` as registered, for the wire, and its parts, for listening."""

    text: str
    scheme: Literal["http", "https"]
    host: str
    """`localhost`, or an address literal without brackets."""
    port: int
    """0 means any free one: `text` is not for the wire then."""
    path: str
    """As a browser asks for it: at least `/`."""

    @property
    def authority(self) -> str:
        """Return what a browser sends as `Host`: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Return scheme and authority, as a browser sends them as `Origin`."""
        return f"{self.scheme}://{self.authority}"

    def at_port(self, port: int) -> RedirectURI:
        """Return the URI on the port that was found for a URI with port 0."""
        return self if self.port else replace(self, port=port, text=re.sub(":0+", f":{port}", self.text, count=1))


_DEFAULT_PORTS = {"http": 80, "https": 443}


def endpoint(url: str, name: str) -> str:
    """Return `url` serialised anew from its parts, if it may be used as the endpoint called `name`.

    https, or http to a loopback host; no user info, fragment, control character, space, quote or backslash.
    Raises ConfigurationError.
    """
    parts = _split(url, name)
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"the {name} is not protected: {printable(url)}", hint="use https; http goes to this machine only"
        )
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path or "/", parts.query, ""))


def check_client_id(client_id: str, server: AuthorizationServer) -> None:
    """Raise ConfigurationError for a client id that cannot be one of `server`."""
    if any(not " " <= character <= "~" for character in client_id):  # RFC 6749 appendix A.1
        raise ConfigurationError(f"the client_id holds something else than printable ASCII: {printable(client_id)}")
    if client_id != client_id.strip():
        raise ConfigurationError("the client_id begins or ends with a space", hint="it was copied with too much")
    for beginning, owner in server.foreign_client_ids.items():
        if client_id.startswith(beginning):
            raise ConfigurationError(
                f"the client_id {printable(client_id, 60)} is one of {printable(owner)}, "
                f"and this is {printable(server.title)}",
                hint="take the id that Lightspeed gave for this product and environment",
            )


def parse_redirect_uri(uri: str) -> RedirectURI:
    """Return the parts of a redirect URI that this machine can catch. Raises ConfigurationError.

    `text` stays byte for byte as given: servers compare it with what was registered.
    """
    parts = _split(uri, "redirect_uri")
    shown = printable(uri)
    if not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"the redirect_uri does not come back to this machine: {shown}",
            hint="register one at localhost, 127.0.0.1 or [::1] with the server, for example https://localhost:8000/",
        )
    if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ConfigurationError(
            f"the redirect_uri uses an unusual loopback address: {shown}",
            hint="use localhost, 127.0.0.1 or [::1]",
        )
    if parts.query:
        raise ConfigurationError(f"the redirect_uri has a query: {shown}", hint="leave out everything from the ? on")
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    port = _DEFAULT_PORTS[scheme] if parts.port is None else parts.port
    return RedirectURI(uri, scheme, parts.hostname, port, parts.path or "/")


def is_proxy(url: str) -> bool:
    """Whether this is an http:// or https:// URL with a host, as the address of a proxy must be."""
    try:
        parts = urlsplit(url)
        if any(not "!" <= character <= "~" for character in url):
            return False
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and _is_plain(parts)
    except ValueError:
        return False


def is_loopback(host: str | None) -> bool:
    """Whether `host` is `localhost` or a loopback address literal. No name is looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _split(url: str, name: str) -> SplitResult:
    _, at, behind = url.rpartition("@")
    shown = printable(f"[not shown]@{behind}" if at else url)  # a password may stand in front of it
    if any(not "!" <= character <= "~" or character in _FORBIDDEN for character in url):
        raise ConfigurationError(f"the {name} holds a character that no URL may hold: {shown}")
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port >= 0
    except ValueError as error:
        raise ConfigurationError(f"the {name} is not a URL: {shown}") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not port_is_valid or not _is_plain(parts):
        raise ConfigurationError(
            f"the {name} is not a URL: {shown}", hint="it begins with https:// (or http://) and names a host"
        )
    if "@" in parts.netloc:
        raise ConfigurationError(f"the {name} holds a user name or password", hint="leave out all before the @")
    if "#" in url:
        raise ConfigurationError(f"the {name} has a fragment: {shown}", hint="leave out everything from the # on")
    return parts


def _is_plain(parts: SplitResult) -> bool:
    """Whether nothing stands beside an address literal: urlsplit reads [::1].evil.example as ::1, and evil[::1] too."""
    before, _, rest = parts.netloc.rpartition("@")[2].partition("[")
    return not rest or (not before and rest.partition("]")[2][:1] in ("", ":"))


_FORBIDDEN = frozenset("\"'\\<>`{}|^")
