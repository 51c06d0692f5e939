"""A browser without a window: connections kept per origin as Chrome keeps them, cookies, and spare connections.

It shows nothing and runs no script, but it sends a form on that would send itself (OAuth 2.0 Form Post Response Mode).
"""

from __future__ import annotations

import html
import http.client
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Encoding": "identity",
    "Accept-Language": "en-US,en;q=0.9",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Upgrade-Insecure-Requests": "1",
}
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Going:
    """Where the browser goes next, and the form it brings there, if it does."""

    address: str
    form: str | None = None


class Browser:
    """Connections and cookies of one login. `addresses` is what it knows of names."""

    def __init__(self, tls: ssl.SSLContext, addresses: Mapping[str, str], patience: float) -> None:
        self._tls = tls
        self._addresses = addresses
        self._patience = patience
        self._connections: dict[str, _Plain] = {}
        self._spares: list[socket.socket] = []
        self._cookies: dict[str, dict[str, str]] = {}

    def connect(self, address: str) -> http.client.HTTPConnection:
        """Have a connection for that address."""
        parts = urlsplit(address)
        connection = self._connections.get(parts.netloc)
        if connection is None:
            host = parts.hostname or ""
            place = self._addresses.get(host, host)
            if parts.scheme == "https":
                connection = _Secure(host, parts.port, timeout=self._patience)
                connection.tls = self._tls
            else:
                connection = _Plain(host, parts.port, timeout=self._patience)
            connection.place = place
            self._connections[parts.netloc] = connection
        if connection.sock is None:
            connection.connect()
        return connection

    def go(self, going: Going) -> tuple[int, Going | None]:
        """Fetch one page; return its status, and where it sends the browser on to, if it does."""
        parts = urlsplit(going.address)
        cookies = self._cookies.setdefault(parts.hostname or "", {})
        response = self._ask(going, cookies)
        body = response.read()
        for line in response.headers.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            if "max-age=0" in line.lower():
                cookies.pop(name, None)
            else:
                cookies[name] = value
        location = response.headers.get("Location")
        if 300 <= response.status < 400 and location is not None:
            return response.status, Going(urljoin(going.address, location))
        return response.status, form_in(body.decode(errors="replace"))

    def spare(self, address: str) -> None:
        """Open a connection and say nothing on it."""
        parts = urlsplit(address)
        self._spares.append(socket.create_connection((parts.hostname or "", parts.port or 80), self._patience))

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        for spare in self._spares:
            spare.close()

    def _ask(self, going: Going, cookies: Mapping[str, str]) -> http.client.HTTPResponse:
        parts = urlsplit(going.address)
        headers = dict(_HEADERS)
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        if going.form is not None:
            headers["Content-Type"] = _FORM
        method = "GET" if going.form is None else "POST"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        for again in (True, False):
            connection = self.connect(going.address)
            try:
                connection.request(method, target, going.form, headers)
                return connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()  # a kept connection that was closed meanwhile: browsers try once more
                if not again:
                    raise
        raise AssertionError("unreachable")


class _Plain(http.client.HTTPConnection):
    place = ""

    def connect(self) -> None:
        self.sock = socket.create_connection((self.place, self.port), self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Secure(_Plain):
    default_port = 443
    tls: ssl.SSLContext

    def connect(self) -> None:
        super().connect()
        self.sock = self.tls.wrap_socket(self.sock, server_hostname=self.host)


def form_in(page: str) -> Going | None:
    """Return what the page's form sends by itself, if it has one."""
    form = re.search(r'<form method="post" action="([^"]*)">', page)
    if form is None:
        return None
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page)
    return Going(
        html.unescape(form[1]), urlencode([(html.unescape(name), html.unescape(value)) for name, value in fields])
    )
