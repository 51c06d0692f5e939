"""What both endpoints share: a session that verifies TLS, follows nothing, reads no netrc, and keeps to its limits."""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from loopback_auth.errors import ConfigurationError, TokenEndpointUnreachable
from loopback_auth.text import printable


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a verifying context, TLS 1.2 or newer, that also trusts `ca_file`. Raises ConfigurationError.

    `SSL_CERT_FILE` is heeded by the system's own defaults.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        return context
    shown = printable(ca_file)
    try:
        Path(ca_file).open("rb").close()  # OpenSSL's own error does not say which file
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigurationError(f"the CA file {shown} holds no certificate", hint="it must be PEM") from error
    except OSError as error:
        raise ConfigurationError(
            f"the CA file {shown} cannot be read: {os.strerror(error.errno or 0).lower()}",
            hint="see --ca-file",
        ) from error
    return context


def proxy_for(url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the proxy that `HTTPS_PROXY` names for an https URL, unless `NO_PROXY` excepts its host."""
    parts = urlsplit(url)
    proxy = environ.get("HTTPS_PROXY") or environ.get("https_proxy")
    excepted = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if parts.scheme != "https" or not proxy or not parts.hostname:
        return None
    bypass = urllib.request.proxy_bypass_environment(parts.hostname, {"no": excepted})  # type: ignore[attr-defined,unused-ignore]  # undocumented, and what urllib itself uses
    return None if bypass else proxy


def why_unreachable(error: BaseException, url: str) -> TokenEndpointUnreachable:
    """Return in plain words why no connection to `url` came about."""
    host = printable(urlsplit(url).netloc, 100)
    hints: tuple[str, ...] = ("nothing was sent, nothing was spent; try again",)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = f"its certificate is not trusted ({printable(_verify_message(error))})"
            hints = ("nothing was sent; if that server has a private CA, name its certificate with --ca-file",)
        case aiohttp.ClientConnectorDNSError():
            reason = "its name is not known (DNS)"
        case aiohttp.ClientSSLError():
            reason = f"no TLS connection came about ({printable(_tls_reason(error.os_error))})"
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            reason = "the proxy refused or cannot be reached"
            hints = ("nothing was sent; look at HTTPS_PROXY and NO_PROXY",)
        case aiohttp.ClientConnectorError():
            reason = os.strerror(error.os_error.errno).lower() if error.os_error.errno else "no connection"
        case TimeoutError():
            reason = "it did not answer in time"
        case _:
            reason = printable(type(error).__name__)
    return TokenEndpointUnreachable(f"{host} cannot be reached: {reason}", hint=hints)


def _tls_reason(error: OSError) -> str:
    """Return OpenSSL's reason in words, without the place in Python's own source that `str` shows."""
    reason = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if isinstance(reason, str) else error.strerror or type(error).__name__


def _verify_message(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    return str(getattr(cause, "verify_message", "") or cause)
