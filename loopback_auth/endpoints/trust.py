"""Whom a connection trusts: the system's certificates, and those of a CA file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from loopback_auth.errors import ConfigurationError
from loopback_auth.text import printable

if TYPE_CHECKING:
    import ssl

_LIMIT = 4 * 1024 * 1024


def check_ca_file(path: str) -> None:
    """Raise ConfigurationError if this is no file of PEM certificates, as far as a look at it tells."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if b"-----BEGIN " in file.read(_LIMIT):
                return
    except OSError as error:
        raise ConfigurationError(
            f"the CA file {printable(path)} cannot be read: {os.strerror(error.errno or 0).lower()}",
            hint="see --ca-file",
        ) from error
    raise _holds_none(path)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO in its place must not hold a refresh


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a verifying context, TLS 1.2 or newer, that also trusts `ca_file`. Raises ConfigurationError.

    `SSL_CERT_FILE` is heeded by the system's own defaults. Takes some 10 ms: they are read from the disk.
    """
    import ssl

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        check_ca_file(ca_file)  # OpenSSL's own error does not say which file
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError as error:
            raise _holds_none(ca_file) from error
    return context


def _holds_none(path: str) -> ConfigurationError:
    return ConfigurationError(f"the CA file {printable(path)} holds no certificate", hint="it must be PEM")
