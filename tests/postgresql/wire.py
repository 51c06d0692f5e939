"""What a proxy must know of PostgreSQL's protocol, version 3: where messages end, and which of them hold statements."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

ENCRYPTION_REQUESTS = (80877103, 80877104)
"""A client that asks for TLS, or for GSSAPI, before it says who it is."""


@dataclass(frozen=True)
class Message:
    """One message of a client or a server; the first of a client has no kind."""

    kind: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        return self.kind + (len(self.body) + 4).to_bytes(4) + self.body

    @property
    def code(self) -> int:
        """Of a client's first message: the protocol's version, or what it asks for."""
        return int.from_bytes(self.body[:4])

    @property
    def is_answered_by_ready(self) -> bool:
        """Whether the server ends its answers to this one, and to those before, with ReadyForQuery."""
        return self.kind in {b"Q", b"S", b"F"}  # Query, Sync, FunctionCall


async def read_first(reader: asyncio.StreamReader) -> Message:
    return await _read_rest(b"", reader)


async def read(reader: asyncio.StreamReader) -> Message:
    return await _read_rest(await reader.readexactly(1), reader)


async def _read_rest(kind: bytes, reader: asyncio.StreamReader) -> Message:
    length = int.from_bytes(await reader.readexactly(4))
    return Message(kind, await reader.readexactly(length - 4))


class Statements:
    """The texts of the statements which a client prepared, and so of those it runs."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, str] = {}

    def run_by(self, message: Message) -> str | None:
        """The text that this message of a client has the server run, if it does: Query, or Bind after a Parse."""
        parts = message.body.split(b"\0", 2)
        match message.kind:
            case b"Q":
                return parts[0].decode()
            case b"P":
                self._prepared[parts[0]] = parts[1].decode()
            case b"B":
                return self._prepared.get(parts[1], "")
        return None
