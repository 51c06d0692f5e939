"""Listening on both loopback families with one port: literal addresses, bound before anything else."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Final

_ABSENT: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
_ATTEMPTS: Final = 20


def open_loopback(port: int, *, shared: bool = False) -> list[socket.socket]:
    """Return listening sockets on [::1], where the host has IPv6, and 127.0.0.1: one port, 0 being any free.

    `shared` lets other sandboxes of the same user that say so too listen beside this one (SO_REUSEPORT, socket(7)).
    Raises OSError (EADDRINUSE) when either address is taken: a stranger on one of them would receive
    passwords.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        ipv4 = _listen(socket.AF_INET, "127.0.0.1", port, shared)
        try:
            return [_listen(socket.AF_INET6, "::1", ipv4.getsockname()[1], shared), ipv4]
        except OSError as error:
            if error.errno in _ABSENT:
                return [ipv4]
            ipv4.close()
            if port != 0 or error.errno != errno.EADDRINUSE or attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _listen(family: socket.AddressFamily, host: str, port: int, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # a port whose last connections linger is free; elsewhere the option would let others share it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        # with SO_REUSEADDR two processes can bind: only listening decides who holds the port
        sock.listen(128)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
