"""One process that gets in the way of the redirect as fast as it can, until it is killed.

`python floods.py KIND HOST PORT [UID]`: one line on stdout when it has begun. The standard library and nothing else.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 (connections need it, and another user may not be able to read it)
import os
import signal
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

HELD = 500
"""Connections that are kept open at once."""
RECENT = 200
"""Connections that are left open behind a flood."""

Address = tuple[str, int]


def begun() -> None:
    print("begun", flush=True)


def opened(address: Address, sent: bytes = b"") -> socket.socket:
    """Connect without waiting, and send."""
    connection = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    connection.setblocking(False)
    with suppress(OSError):
        connection.connect_ex(address)
        if sent:
            connection.send(sent)
    return connection


def is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True


def hold(address: Address, sent: bytes = b"", drip: bytes = b"") -> None:
    """Keep 500 connections open, each of which sends a little from time to time, and open those anew that end."""
    held = [opened(address, sent) for _ in range(HELD)]
    begun()
    while True:
        for number, connection in enumerate(held):
            if is_closed(connection):
                connection.close()
                held[number] = opened(address, sent)
            elif drip:
                with suppress(OSError):
                    connection.send(drip)
        time.sleep(0.001)


def pour(address: Address, sent: bytes) -> None:
    """Connect, send, and go on, without waiting for any answer."""
    recent: deque[socket.socket] = deque()
    begun()
    while True:
        recent.append(opened(address, sent))
        if len(recent) > RECENT:
            recent.popleft().close()


def ask(address: Address, sent: bytes) -> None:
    """Send one request after the other, each on a connection of its own, and read what is answered."""
    begun()
    while True:
        with suppress(OSError), socket.create_connection(address, timeout=1) as connection:
            connection.sendall(sent)
            while connection.recv(65536):
                pass


def leave(address: Address, sent: bytes) -> None:
    """Connect, begin to speak, and reset the connection."""
    begun()
    while True:
        with opened(address, sent) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def never_read(address: Address, sent: bytes) -> None:
    """Send requests by the thousand on connections from which nothing is ever read."""
    held = [opened(address) for _ in range(HELD)]
    begun()
    while True:
        for number, connection in enumerate(held):
            try:
                connection.send(sent * 1000)
            except BlockingIOError:
                continue
            except OSError:
                connection.close()
                held[number] = opened(address)


def shake_hands(address: Address, sent: bytes) -> None:
    """Make TLS connections, and send a request on each."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    begun()
    while True:
        with (
            suppress(OSError),
            socket.create_connection(address, timeout=1) as connection,
            context.wrap_socket(connection) as secured,
        ):
            secured.sendall(sent)
            secured.recv(65536)


def client_hello() -> bytes:
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def request(address: Address) -> bytes:
    """A redirect with a wrong state."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    state = "w" * 43
    return f"GET /?code=w&state={state} HTTP/1.1\r\nHost: {host}:{address[1]}\r\nAccept: */*\r\n\r\n".encode()


def nothing(_address: Address) -> None:
    """To compare with."""
    begun()
    signal.pause()


KINDS: dict[str, Callable[[Address], None]] = {
    "nothing": nothing,
    "500 silent": hold,
    "500 slow": lambda to: hold(to, b"GET /?code=", b"x"),
    "500 half": lambda to: hold(to, request(to)[:-2]),
    "wrong": lambda to: pour(to, request(to)),
    "wrong, one by one": lambda to: ask(to, request(to)),
    "wrong, never read": lambda to: never_read(to, request(to)),
    "rubbish": lambda to: pour(to, os.urandom(60_000)),
    "connect": lambda to: pour(to, b""),
    "reset": lambda to: leave(to, request(to)[:30]),
}
KINDS_OF_TLS: dict[str, Callable[[Address], None]] = {
    "nothing": nothing,
    "500 silent": hold,
    "500 half hellos": lambda to: hold(to, client_hello()[:50]),
    "hellos": lambda to: pour(to, client_hello()),
    "handshakes": lambda to: shake_hands(to, request(to)),
    "rubbish": lambda to: pour(to, os.urandom(60_000)),
}

if __name__ == "__main__":
    kind, host, port, *uid = sys.argv[1:]
    if uid:
        os.setgroups([])
        os.setgid(int(uid[0]))
        os.setuid(int(uid[0]))
    scheme, _, name = kind.partition(": ")
    (KINDS_OF_TLS if scheme == "https" else KINDS)[name]((host, int(port)))
