"""The link, as a process of its own: two network namespaces joined by two TUN devices, every packet held on its way.

`python -m tests.speed.relay SECONDS`, started in the client's namespace. It makes the server's namespace, says `ready`
on stdout, and ends with its stdin; a line `drop PORT` there cuts the client's connection from that port, both ways,
without a word to either end.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import select
import struct
import sys
import time
from collections import deque

from tests.speed import namespaces

CLIENT, SERVER = "10.213.7.1", "10.213.7.2"
MTU = 1500
_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_HEADER = 0x0001 | 0x1000
_TCP = 6


def main() -> None:
    delay = float(sys.argv[1])
    client = _tun(CLIENT)
    namespaces.enter_other_network()
    server = _tun(SERVER)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    gc.disable()
    print("ready", flush=True)
    relay(client, server, delay)


def relay(client: int, server: int, delay: float) -> None:
    """Pass packets on, each `delay` seconds after it came, until stdin ends."""
    for source in (client, server, 0):
        os.set_blocking(source, False)
    held: deque[tuple[float, int, bytes]] = deque()  # one delay for all, so the oldest is due first
    cut: set[int] = set()
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        ready, _, _ = select.select([client, server, 0], [], [], wait)  # unlike epoll, to the microsecond
        for source in ready:
            if source == 0:
                command = os.read(0, 4096)
                if not command:
                    return
                cut.update(int(line.split()[1]) for line in command.decode().splitlines())
                continue
            target, offset = (server, 0) if source == client else (client, 2)
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet = os.read(source, 2 * MTU)
                    if not cut or client_port(packet, offset) not in cut:
                        held.append((time.monotonic() + delay, target, packet))
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, target, packet = held.popleft()
            with contextlib.suppress(OSError):  # as a wire would
                os.write(target, packet)


def client_port(packet: bytes, offset: int) -> int | None:
    """The client's TCP port: the source's place is the header's first two bytes, the target's the next two."""
    if packet[0] >> 4 != 4 or packet[9] != _TCP:
        return None
    place = (packet[0] & 15) * 4 + offset
    return int.from_bytes(packet[place : place + 2], "big")


def _tun(address: str) -> int:
    try:
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"far0", _TUN_WITHOUT_HEADER))
    except OSError as error:
        raise namespaces.NotPossibleError(f"no TUN device: {os.strerror(error.errno or 0).lower()}") from error
    namespaces.run("ip", "address", "add", f"{address}/30", "dev", "far0")
    namespaces.run("ip", "link", "set", "far0", "mtu", str(MTU), "up")
    return device


if __name__ == "__main__":
    try:
        main()
    except namespaces.NotPossibleError as error:
        sys.exit(str(error))
