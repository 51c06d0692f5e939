"""Where redirects are caught: sockets that listen, and the addresses on them. Nobody answers there yet."""

from __future__ import annotations

import os
import socket
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from loopback_auth.oauth.registration import RedirectURI
from loopback_auth.redirect.sockets import listen


@dataclass(frozen=True, slots=True)
class Listener:
    """Listening sockets, and the redirect URI with the port that was found where any would do."""

    sockets: list[socket.socket]
    redirect_uri: RedirectURI
    nonce: str = field(default_factory=lambda: new_nonce())
    """Of the login that begins with it."""

    @classmethod
    @contextmanager
    def open(cls, redirect_uri: RedirectURI) -> Iterator[Listener]:
        """Listen on the redirect URI while this lasts. Raises PortTaken, ConfigurationError."""
        sockets = listen(redirect_uri.host, redirect_uri.port)
        try:
            yield cls(sockets, redirect_uri.at_port(sockets[0].getsockname()[1]))
        finally:
            for listening in sockets:
                listening.close()

    @property
    def start_url(self) -> str:
        """What the browser opens: the one-shot start page, on the redirect URI's own origin."""
        return self.redirect_uri.origin + start_path(self.nonce)


def start_path(nonce: str) -> str:
    """Return the path of the start page of the login that has this nonce."""
    return f"/start/{nonce}"


def new_nonce() -> str:
    """Return what nobody can guess: a part of the addresses that only one login's browser is told."""
    return urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
