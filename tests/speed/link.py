"""The way between the tools and the authorization server, as long as it was asked for.

Packets are held one by one between two network namespaces, where this machine lets us make them; else a proxy holds
what passes through it, and the report says so.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.speed import namespaces
from tests.speed.authority import Certificates, make_certificates
from tests.speed.far import FarProcess, Provider, far_process
from tests.speed.relay import MTU, SERVER

NAME = "provider.test"
UNKNOWN_NAME = "unknown.provider.test"
"""A name of the provider that no file knows: it must be asked for."""
_FIRST_PORT = 20_000


class Link:
    """The way to the provider, and the provider."""

    def __init__(
        self, kind: str, distance: float, certificates: Certificates, provider: Provider, held: FarProcess
    ) -> None:
        self.kind = kind
        self.distance = distance
        """Seconds of a round trip, as asked for."""
        self.certificates = certificates
        self.provider = provider
        self._held = held
        self._ports = iter(range(_FIRST_PORT, 32_000))

    host = NAME
    address = SERVER
    has_packets = True
    """Whether single connections can be cut, and names be slow."""

    def open_port(self, *, idle_close: float | None = None) -> int:
        """Let the provider serve on one more port, and return that."""
        port = next(self._ports)
        self.provider.listen(port, idle_close=idle_close)
        return port

    @property
    def far_side(self) -> list[str]:
        """What a far process is told, so that it is at the provider's side."""
        return [str(self._held.pid)]

    def cut(self, client_port: int) -> None:
        """Lose all packets of the connection from that port from now on."""
        self._held.tell(f"drop {client_port}")

    def round_trip(self, times: int = 20) -> tuple[float, float]:
        """Measure: the median of some connects, and the longest of them."""
        port = self.open_port()
        took = []
        for _ in range(times):
            begun = time.monotonic()
            socket.create_connection((self.address, port), 20).close()
            took.append(time.monotonic() - begun)
            time.sleep(0.01)
        return statistics.median(took), max(took)


class ProxyLink(Link):
    """The way through a proxy that holds what passes."""

    host = address = "127.0.0.1"
    has_packets = False

    @property
    def far_side(self) -> list[str]:
        return []

    def open_port(self, *, idle_close: float | None = None) -> int:
        port, inside = _free_port(), _free_port()
        self.provider.listen(port, at=inside, idle_close=idle_close)
        self._held.ask(f"listen {port} {inside}")
        return port

    def round_trip(self, times: int = 20) -> tuple[float, float]:
        """Measure on a connection of one's own to nowhere: how long a closed one takes to say so."""
        port = self.open_port()
        took = []
        for _ in range(times):
            with socket.create_connection((self.address, port), 20) as connected:
                time.sleep(0.3)
                begun = time.monotonic()
                connected.sendall(b"no TLS\n")
                with contextlib.suppress(ConnectionError):
                    connected.recv(100)
                took.append(time.monotonic() - begun)
        return statistics.median(took), max(took)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def joined(folder: Path, round_trip: float, *, hold_packets: bool = True) -> Iterator[Link]:
    """Move this process, which has one thread, to the client's side; the link and the provider last as long as this."""
    certificates = make_certificates(folder, [NAME, UNKNOWN_NAME, "localhost", "127.0.0.1"])
    with ExitStack() as stack:
        held = _hold_packets(folder, round_trip, stack) if hold_packets else None
        if held is not None:
            provider = stack.enter_context(far_process("provider", str(certificates.server), str(held.pid)))
            kind = f"packets held one by one between two network namespaces (TUN, MTU {MTU})"
            yield Link(kind, round_trip, certificates, Provider(provider), held)
        else:
            held = stack.enter_context(far_process("delaying_proxy", str(round_trip / 2)))
            provider = stack.enter_context(far_process("provider", str(certificates.server)))
            yield ProxyLink("a delaying TCP proxy", round_trip, certificates, Provider(provider), held)


def _hold_packets(folder: Path, round_trip: float, stack: ExitStack) -> FarProcess | None:
    """Enter the client's namespaces and start the relay; None where that is not possible here."""
    try:
        namespaces.enter_own()
        _know(folder)
        held = stack.enter_context(far_process("relay", str(round_trip / 2)))
        held.heard()
    except (namespaces.NotPossibleError, EOFError) as error:
        print(f"no packets can be held here ({error}); a proxy delays instead", file=sys.stderr)
        return None
    return held


def _know(folder: Path) -> None:
    """Give this mount namespace an /etc/hosts that knows the provider, and nobody to ask for other names."""
    hosts, resolver = folder / "hosts", folder / "resolv.conf"
    hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n{SERVER} {NAME}\n")
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    for ours, theirs in ((hosts, Path("/etc/hosts")), (resolver, Path("/etc/resolv.conf"))):
        if theirs.exists():
            namespaces.run("mount", "--bind", str(ours), str(theirs))
