"""The far side of a session: a token endpoint and an API that answer what the script says, and places that are dead."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from loopback_auth.redirect.certificate import own_leaf, server_context

GRANTED = '{"access_token": "s3kr1t-access", "refresh_token": "s3kr1t-refresh", "expires_in": 3600}'


@dataclass
class Answer:
    """One scripted answer. `status` 0 drops the connection, -1 never answers."""

    status: int = 200
    body: bytes = GRANTED.encode()
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Answer:
        """`400 {"error": …}`, `429 Retry-After=7 wait=0.5 {…}`, `drop`, `hang`."""
        status, _, rest = text.partition(" ")
        answer = cls({"drop": 0, "hang": -1}.get(status) or (0 if status == "drop" else int(status or 200)), b"")
        while rest and (word := rest.split(" ", 1)[0]) and rest[0] not in "{[<" and "=" in word:
            name, _, value = word.partition("=")
            if name == "wait":
                answer.wait = float(value)
            else:
                answer.headers[name] = value
            rest = rest[len(word) :].lstrip()
        answer.body = rest.encode()
        return answer


class Servers:
    """What one session talks to; all of it is on this machine and ends with the session."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._open: dict[str, int] = {}
        self.token = Answer()
        self.api = [Answer(404, b"")]

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def port(self, kind: str) -> int:
        """The port of the `http` or `https` server, of a `silent` listener, or of one that was free a moment ago."""
        if kind not in self._open:
            self._open[kind] = self._serve(kind) if kind in ("http", "https") else self._place(kind)
        return self._open[kind]

    def occupy(self, port: int) -> None:
        """Listen on a port for the rest of the session, as another program would."""
        taken = self._stack.enter_context(socket.socket())
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()

    def _place(self, kind: str) -> int:
        place = socket.socket()
        place.bind(("127.0.0.1", 0))
        port = int(place.getsockname()[1])
        if kind == "silent":
            self._stack.enter_context(place).listen()
        else:
            place.close()
        return port

    def _serve(self, kind: str) -> int:
        server = _Server(("127.0.0.1", 0), _handler(self))
        if kind == "https":
            pem, _ = own_leaf(self._folder / "server")
            server.socket = server_context(pem, pem).wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        return int(server.server_address[1])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave in the middle are what sessions are about."""

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        try:
            return super().get_request()
        except ssl.SSLError as error:  # a client that does not trust us
            raise OSError from error


def _handler(servers: Servers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(servers.token)

        def do_GET(self) -> None:
            self._answer(servers.api[0] if len(servers.api) == 1 else servers.api.pop(0))

        def _answer(self, answer: Answer) -> None:
            time.sleep(answer.wait)
            if answer.status <= 0:
                if answer.status < 0:
                    with suppress(OSError):
                        self.connection.recv(1)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the standard library)
            pass

    return Handler
