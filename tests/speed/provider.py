"""The authorization server that the tools log in at, as a process of its own: it signs everybody in at once.

`python -m tests.speed.provider CERTIFICATE [NAMESPACE-OF-PROCESS]`. It is told on stdin, a line of JSON each, what to
listen on and when to close what (see `Provider`), answers each on stdout, and ends with its stdin. Of every connection
it keeps when it was accepted, when each request's first byte came and when its answer was written, all by the
monotonic clock, which the processes of one machine share.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.speed import namespaces
from tests.speed.answers import Grants, answer_to


@dataclass
class Request:
    """One request: the end of its path, and when it began to come, was there, and was answered."""

    path: str
    first_byte: float
    whole: float
    answered: float = 0.0
    status: int = 0


@dataclass
class Connection:
    """One connection, as the server saw it."""

    accepted: float
    client_port: int
    secured: float | None = None
    closed: float | None = None
    requests: list[Request] = field(default_factory=list)


@dataclass
class Place:
    """A port that is listened on: its rules, and what was seen there."""

    idle_close: float | None
    listening: socket.socket
    seen: list[Connection] = field(default_factory=list)
    open: set[Visitor] = field(default_factory=set)


def main() -> None:
    certificate, *process = sys.argv[1:]
    if process:
        namespaces.join_network(int(process[0]))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.set_alpn_protocols(["http/1.1"])
    tls.load_cert_chain(certificate)
    gc.disable()
    with suppress(BrokenPipeError):  # whoever asked is gone
        asyncio.run(serve(tls))


async def serve(tls: ssl.SSLContext) -> None:
    """Do as stdin says until it ends."""
    loop = asyncio.get_running_loop()
    places: dict[int, Place] = {}
    accepting: set[asyncio.Task[None]] = set()
    grants = Grants()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = json.loads(line)
        answer: Any = None
        port = command["port"]
        match command["do"]:
            case "listen":
                listening = socket.create_server(("0.0.0.0", command["at"]), backlog=256)
                listening.setblocking(False)
                places[port] = Place(command["idle_close"], listening)
                accepting.add(asyncio.create_task(accept(places[port], tls, grants)))
            case "close idle":
                place = places[port]
                loop.call_later(max(0.0, command["at"] - time.monotonic()), close_idle, place)
            case "seen":
                place = places[port]
                answer = [asdict(one) for one in place.seen]
                place.seen = [one.connection for one in place.open]
        print(json.dumps(answer), flush=True)
    for task in accepting:
        task.cancel()


async def accept(place: Place, tls: ssl.SSLContext, grants: Grants) -> None:
    loop = asyncio.get_running_loop()
    welcoming: set[asyncio.Task[Any]] = set()
    while True:
        connected, address = await loop.sock_accept(place.listening)
        connection = Connection(time.monotonic(), address[1])
        place.seen.append(connection)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        welcome = asyncio.create_task(_secure(connected, tls, place, connection, grants))
        welcoming.add(welcome)
        welcome.add_done_callback(welcoming.discard)


async def _secure(
    connected: socket.socket, tls: ssl.SSLContext, place: Place, connection: Connection, grants: Grants
) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: Visitor(place, connection, grants), connected, ssl=tls, ssl_shutdown_timeout=0.001
        )
    except (OSError, ssl.SSLError):
        connection.closed = time.monotonic()


def close_idle(place: Place) -> None:
    """Close what has never been asked anything, as a server does that has waited long enough."""
    for visitor in [one for one in place.open if not one.connection.requests]:
        visitor.close()


class Visitor(asyncio.Protocol):
    """One connection: HTTP/1.1, kept alive, until the place's patience ends."""

    def __init__(self, place: Place, connection: Connection, grants: Grants) -> None:
        self.connection = connection
        self._place = place
        self._grants = grants
        self._received = bytearray()
        self._began: float | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.connection.secured = time.monotonic()
        self._place.open.add(self)
        self._wait()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._began = self._began or now
        if self._patience is not None:
            self._patience.cancel()
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            whole = end + 4 + int(headers.get("content-length", 0))
            if len(self._received) < whole:
                return
            body = bytes(self._received[end + 4 : whole])
            del self._received[:whole]
            method, target, _ = head[0].split(" ")
            request = Request("/" + urlsplit(target).path.rpartition("/")[2], self._began or now, now)
            self._began = None
            self.connection.requests.append(request)
            keep = headers.get("connection", "").lower() != "close"
            request.status, answer = answer_to(method, target, headers.get("host", ""), body, self._grants)
            self._transport.write(answer)
            request.answered = time.monotonic()
            if not keep:
                self.close()
        self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        self.connection.closed = self.connection.closed or time.monotonic()
        self._place.open.discard(self)
        if self._patience is not None:
            self._patience.cancel()

    def close(self) -> None:
        """Say goodbye and close, without waiting for an answer to that."""
        self.connection.closed = time.monotonic()
        self._transport.close()

    def _wait(self) -> None:
        if self._place.idle_close is not None:
            self._patience = asyncio.get_running_loop().call_later(self._place.idle_close, self.close)


if __name__ == "__main__":
    main()
