"""Which certificate an https redirect URI is served with, by the flags of `login` and `onboard`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopback_auth import folders
from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.registration import RedirectURI

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the loopback server speaks TLS with."""

    context: ssl.SSLContext
    own_leaf: Path | None
    """The PEM file of our own leaf, which browsers warn about; None for the person's own certificate."""
    fingerprint: str | None
    """Its SHA-256 fingerprint."""


def certificate_for(redirect_uri: RedirectURI, flags: Mapping[str, Any]) -> Certificate | None:
    """Return the certificate of an https redirect URI, None for http. Raises ConfigurationError, StoreError."""
    own, private_key = flags["certificate"], flags["private_key"]
    if redirect_uri.scheme == "http":
        if own or private_key:
            raise ConfigurationError("--certificate is for an https redirect URI", hint="see --redirect-uri")
        return None
    if private_key and not own:
        raise ConfigurationError("--private-key needs --certificate")
    from pathlib import Path

    from loopback_auth.redirect.certificate import own_leaf, server_context, sha256_fingerprint  # and ssl

    if own:
        return Certificate(server_context(Path(own), Path(private_key or own)), None, None)
    leaf, _made = own_leaf(Path(folders.data(), "certificate"))
    return Certificate(server_context(leaf, leaf), leaf, sha256_fingerprint(leaf))
