"""Which redirect URIs are registered: a pure rule over strings (RFC 6749 §3.1.2, RFC 8252 §7.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

#: Where a request without `redirect_uri` is sent when nothing is pinned: the vendor's own sample.
DEFAULT_REDIRECT_URI: Final = "https://localhost:8000/"

_LOOPBACK_LITERALS: Final = frozenset({"127.0.0.1", "::1"})
_LOOPBACK_HOSTS: Final = _LOOPBACK_LITERALS | {"localhost"}


def fault_of(uri: str) -> str | None:
    """Say what keeps `uri` from being a redirect URI at all, or return None."""
    if not uri.isascii() or not uri.isprintable() or any(char in uri for char in ' "<>\\^`{|}'):
        # a backslash is a slash to browsers, and not to urlsplit: the two would see different hosts
        return "it has characters that a URI cannot have"
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is not a URI"
    if parts.scheme not in {"http", "https"} or not host:
        return "it must begin with https:// or http:// and a host"
    if "@" in parts.netloc:
        return "it carries user info before the host"
    if "#" in uri:
        return "it has a fragment (RFC 6749 section 3.1.2 allows none)"
    return None


def refusal(uri: str, pinned: Sequence[str] | None) -> str | None:
    """Say why `uri` is not registered, or return None when it is.

    Without `pinned`, every loopback redirect URI is. With it, comparison is byte for byte, except for the
    port of an http URI on a loopback address literal whose pinned form has port 0 or none (RFC 8252 §7.3).
    """
    if fault := fault_of(uri):
        return fault
    if pinned is None:
        if urlsplit(uri).hostname in _LOOPBACK_HOSTS:
            return None
        return "it is not on loopback: this sandbox takes http or https on localhost, 127.0.0.1 or [::1]"
    if any(uri == known or _differs_in_port_alone(uri, known) for known in pinned):
        return None
    return f"it is not registered; registered are {', '.join(pinned)}, and every byte counts"


def default_redirect_uri(pinned: Sequence[str] | None) -> str | None:
    """Return where a request without `redirect_uri` goes; None when the first pinned one has port 0."""
    if pinned is None:
        return DEFAULT_REDIRECT_URI
    return None if urlsplit(pinned[0]).port == 0 else pinned[0]


def _differs_in_port_alone(uri: str, known: str) -> bool:
    ours, theirs = urlsplit(known), urlsplit(uri)
    if ours.scheme != "http" or ours.hostname not in _LOOPBACK_LITERALS or ours.port not in {0, None}:
        return False
    return _without_port(ours) == _without_port(theirs)


def _without_port(parts: SplitResult) -> tuple[str, str, str, str]:
    host = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
    return parts.scheme, host.removesuffix(":"), parts.path, parts.query
