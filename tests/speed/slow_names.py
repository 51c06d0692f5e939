"""A name server that takes its time, as a process of its own.

`python -m tests.speed.slow_names SECONDS ADDRESS [NAMESPACE-OF-PROCESS]`. Whatever name it is asked for has this one
IPv4 address. It says `ready` on stdout, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from typing import cast

from tests.speed import namespaces

PORT = 53
_A = 1


class _Names(asyncio.DatagramProtocol):
    def __init__(self, delay: float, address: bytes) -> None:
        self._delay = delay
        self._address = address
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: tuple[str | int, int]) -> None:
        answer = answer_to(data, self._address)
        asyncio.get_running_loop().call_later(self._delay, self._transport.sendto, answer, sender)


def answer_to(query: bytes, address: bytes) -> bytes:
    """Return the answer of RFC 1035: the address, where one of IPv4 was asked for, and else that there is nothing."""
    end = query.index(b"\0", 12) + 5  # the name, its type and class
    found = int.from_bytes(query[end - 4 : end - 2], "big") == _A
    head = query[:2] + b"\x81\x80" + b"\0\1" + (b"\0\1" if found else b"\0\0") + b"\0\0\0\0"
    record = b"\xc0\x0c\0\1\0\1" + (60).to_bytes(4, "big") + len(address).to_bytes(2, "big") + address
    return head + query[12:end] + (record if found else b"")


async def main() -> None:
    delay, address, *process = sys.argv[1:]
    if process:
        namespaces.join_network(int(process[0]))
    loop = asyncio.get_running_loop()
    packed = ipaddress.IPv4Address(address).packed
    await loop.create_datagram_endpoint(lambda: _Names(float(delay), packed), ("0.0.0.0", PORT))
    print("ready", flush=True)
    ended = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), sys.stdin)
    await ended.read()


if __name__ == "__main__":
    asyncio.run(main())
