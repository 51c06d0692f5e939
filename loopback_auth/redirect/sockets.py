"""Listening sockets for a loopback redirect URI: both families on one port where the host is a name (RFC 8252 §8.3).

Nothing here ever binds another address than 127.0.0.1 and ::1, or another port than the one asked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from loopback_auth.errors import ConfigurationError, PortTaken

_ADDRESSES = {
    "localhost": ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")),
    "127.0.0.1": ((socket.AF_INET, "127.0.0.1"),),
    "::1": ((socket.AF_INET6, "::1"),),
}
_BACKLOG = 4096
"""Connections that wait to be accepted: when more come the kernel drops them, and a browser tries again after 1 s."""
_ATTEMPTS = 20  # a free port of one family may be taken in the other
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets listening on `host` (`localhost`, `127.0.0.1` or `::1`), all on one port; 0 takes a free one.

    For `localhost` both families are ours or none is: another user who held `[::1]` would be sent our code.
    A family that this machine lacks is left out. Raises PortTaken, ConfigurationError.
    """
    for _ in range(1 if port else _ATTEMPTS):
        sockets: list[socket.socket] = []
        wanted = port
        try:
            for family, address in _ADDRESSES[host]:
                with contextlib.ExitStack() as undo:
                    try:
                        listening = undo.enter_context(_open(family, address, wanted))
                    except OSError as error:
                        if error.errno in _NO_SUCH_FAMILY and host == "localhost":
                            continue
                        raise
                    undo.pop_all()
                sockets.append(listening)
                wanted = listening.getsockname()[1]
        except OSError as error:
            for listening in sockets:
                listening.close()
            if error.errno == errno.EADDRINUSE and not port:
                continue
            raise _explained(error, host, port) from error
        if sockets:
            return sockets
        break
    raise ConfigurationError(f"this machine has no loopback interface for {host}")


def _open(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "nt":
            # There SO_REUSEADDR would let another program share the port.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only
        else:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the last login's TIME_WAIT
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _explained(error: OSError, host: str, port: int) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        from loopback_auth.redirect.holder import who_holds  # it reads much of /proc

        return PortTaken(
            f"port {port} of {host} is taken by {who_holds(port)}",
            hint=(
                "the redirect URI is registered with this port, so that program must go: stop it and log in again",
                "or register another redirect URI with the server and give it as --redirect-uri",
            ),
        )
    if error.errno == errno.EACCES:
        return ConfigurationError(
            f"this user may not listen on port {port}",
            hint="ports below 1024 need root; register a redirect URI with a higher one, as https://localhost:8000/",
        )
    return ConfigurationError(f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0).lower()}")
