"""What a recipe has to bring itself: a server for one redirect, from the standard library, as tutorials have it."""

from __future__ import annotations

import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer


class RedirectServer(HTTPServer):
    """Listens on a free port of 127.0.0.1; `redirect` is the address that the browser came to."""

    redirect = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.redirect_uri = f"http://127.0.0.1:{self.server_port}/"

    def send_browser_to(self, url: str) -> str:
        """Open the browser, wait for the redirect, and return it."""
        webbrowser.open(url)
        while "code=" not in self.redirect:
            self.handle_request()
        self.server_close()
        return self.redirect


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, RedirectServer)
        self.server.redirect = self.server.redirect_uri.rstrip("/") + self.path
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"You may close this window.")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""
