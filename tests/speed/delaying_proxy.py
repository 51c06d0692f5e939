"""The link where no packets can be held: a TCP proxy that holds what it passes on, as a process of its own.

`python -m tests.speed.delaying_proxy SECONDS`; lines `listen PORT TARGET` on stdin are answered with `ready`. A
connection to it is made at once, which on a real way takes a round trip: so its first bytes wait that much longer.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from contextlib import suppress


async def main() -> None:
    delay = float(sys.argv[1])
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    servers = []
    gc.disable()
    while line := await commands.readline():
        _, port, target = line.split()
        servers.append(await _listen(int(port), int(target), delay))
        print("ready", flush=True)
    for server in servers:
        server.close()


async def _listen(port: int, target: int, delay: float) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun = time.monotonic()
        with suppress(OSError, asyncio.CancelledError):  # the provider is gone, or we are to end
            await asyncio.sleep(delay)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
            there = _pass_on(reader, far_writer, delay, begun + 3 * delay)
            await asyncio.gather(there, _pass_on(far_reader, writer, delay, 0))

    return await asyncio.start_server(connected, "127.0.0.1", port, backlog=256)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, not_before: float) -> None:
    held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def read() -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(65536)
            except ConnectionError:
                data = b""
            held.put_nowait((time.monotonic() + delay, data))

    reading = asyncio.create_task(read())
    with suppress(ConnectionError):
        while True:
            due, data = await held.get()
            await asyncio.sleep(max(due, not_before) - time.monotonic())
            if not data:
                break
            writer.write(data)
    await reading
    writer.close()


if __name__ == "__main__":
    asyncio.run(main())
