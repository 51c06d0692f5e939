"""Which proxy a request goes by: known before anything is connected, so nothing heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.registration import is_proxy


def proxy_for(url: str, configured: str | None = None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the proxy for an https URL: of `HTTPS_PROXY`, else the configured one; none where `NO_PROXY` says so.

    It is an http:// or https:// URL with a host. Raises ConfigurationError.
    """
    parts = urlsplit(url)
    proxy = environ.get("HTTPS_PROXY") or environ.get("https_proxy") or configured
    excepted = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if parts.scheme != "https" or not proxy or not parts.hostname:
        return None
    import urllib.request  # 15 ms, which most do not need

    if urllib.request.proxy_bypass_environment(parts.hostname, {"no": excepted}):  # type: ignore[attr-defined,unused-ignore]  # undocumented, and what urllib itself uses
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    if is_proxy(address):
        return address
    raise ConfigurationError(
        "the proxy is not an http:// or https:// URL", hint="look at HTTPS_PROXY, and at proxy in config.toml"
    )
