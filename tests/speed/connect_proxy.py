"""An HTTP proxy for CONNECT, as a process of its own.

`python -m tests.speed.connect_proxy PORT [NAMESPACE-OF-PROCESS]`. It says `ready` on stdout, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from tests.speed import namespaces


async def main() -> None:
    port, *process = sys.argv[1:]
    if process:
        namespaces.join_network(int(process[0]))
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(_connected, "0.0.0.0", int(port), backlog=256)
    print("ready", flush=True)
    ended = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), sys.stdin)
    await ended.read()
    server.close()


async def _connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, target, _ = head.split(" ", 2)
    if method != "CONNECT":
        writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        return
    host, _, port = target.rpartition(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


if __name__ == "__main__":
    asyncio.run(main())
