"""Whose the other end of a connection is: another user of this machine must not crowd out the browser."""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, Literal, TypeAlias

_SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG: asks the kernel about one socket, in 5 microseconds (sock_diag(7))."""
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=IHHII BBBxI 2s2s16s16sI8s")
"""nlmsghdr; inet_diag_req_v2: family, protocol, extensions, states; inet_diag_sockid: ports, addresses, no more."""
_TYPE = struct.Struct("=4xH")
_Address: TypeAlias = tuple[Any, ...]
_OWNER = struct.Struct("=80xII")
"""Where the answer names user id and inode; an inode of 0 is a socket that no process has any more."""


Owner = Literal["ours", "a stranger", "nobody"]


class Peers:
    """Asks the kernel (Linux). Where it cannot be asked, all connections are ours."""

    def __init__(self) -> None:
        self._kernel: socket.socket | None = None
        if sys.platform == "linux":
            with suppress(OSError):
                self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG)
                self._kernel.setblocking(False)
        self._is_proven = False

    def owner(self, connection: socket.socket) -> Owner:
        """Return who has the other end: this user, another, or nobody any more. Does not wait.

        Root is no stranger: it can do all we can, and forwards connections for others (WSL).
        """
        if self._kernel is None:
            return "ours"
        try:
            here, there = connection.getsockname(), connection.getpeername()
        except OSError:
            return "nobody"
        if not self._is_proven:  # a kernel without that module knows of no connection at all
            self._is_proven = True
            if self._asked(connection.family, here, there) is None:
                self.close()
                return "ours"
        owner = self._asked(connection.family, there, here)
        if owner is None or not owner[1]:
            return "nobody"
        return "ours" if owner[0] in (0, os.getuid()) else "a stranger"

    def close(self) -> None:
        """Ask no more."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def _asked(self, family: int, own: _Address, other: _Address) -> tuple[int, int] | None:
        """Return user id and inode of the socket with these addresses."""
        assert self._kernel is not None  # noqa: S101 (looked at by the caller)
        try:
            self._kernel.send(_question(family, own, other))
            answer = self._kernel.recv(4096)
        except OSError:
            return None
        if len(answer) < _OWNER.size or _TYPE.unpack_from(answer) != (_SOCK_DIAG_BY_FAMILY,):
            return None
        uid, inode = _OWNER.unpack_from(answer)
        return uid, inode


def _question(family: int, own: _Address, other: _Address) -> bytes:
    return _REQUEST.pack(
        *(_REQUEST.size, _SOCK_DIAG_BY_FAMILY, 1, 1, 0),  # 1: NLM_F_REQUEST
        *(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF),
        *(own[1].to_bytes(2, "big"), other[1].to_bytes(2, "big")),
        *(socket.inet_pton(family, own[0]), socket.inet_pton(family, other[0]), 0, b"\xff" * 8),
    )
