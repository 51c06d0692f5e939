"""Listening for a loopback redirect URI: both families on one port, all of them ours, or none."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from loopback_auth.errors import ConfigurationError, PortTaken
from loopback_auth.redirect.holder import who_holds
from loopback_auth.redirect.sockets import listen

V4, V6 = socket.AF_INET, socket.AF_INET6


def has_ipv6() -> bool:
    try:
        with socket.socket(V6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no [::1]")


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(one)) for one in listen(host, port)]


def ports(sockets: list[socket.socket]) -> set[int]:
    return {one.getsockname()[1] for one in sockets}


def addresses(sockets: list[socket.socket]) -> list[str]:
    return [one.getsockname()[0] for one in sockets]


@needs_ipv6
def test_localhost_is_both_families_on_one_port() -> None:
    """RFC 8252 §8.3: 127.0.0.1 and ::1, and both lead to us."""
    with listening("localhost") as sockets:
        assert addresses(sockets) == ["127.0.0.1", "::1"]
        assert len(ports(sockets)) == 1
        for one in sockets:
            with socket.create_connection(one.getsockname()[:2], 1):
                one.settimeout(1)
                one.accept()[0].close()


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", V4), pytest.param("::1", V6, marks=needs_ipv6)])
def test_a_literal_is_one_family(host: str, family: socket.AddressFamily) -> None:
    """An address literal is listened on, and nothing else: the other family stays free."""
    with listening(host) as sockets:
        assert addresses(sockets) == [host]
        assert sockets[0].family == family
        other = "::1" if family == V4 else "127.0.0.1"
        if has_ipv6():
            with listening(other, ports(sockets).pop()):
                pass


def test_only_loopback_is_bound() -> None:
    """Nobody from another machine reaches the port: the address of a socket is never a wildcard."""
    with listening("localhost") as sockets:
        for one in sockets:
            assert one.getsockname()[0] in ("127.0.0.1", "::1")
            assert not one.getblocking()
            assert not os.get_inheritable(one.fileno())
            if one.family == V6:
                assert one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_port_that_is_taken_names_its_holder(host: str) -> None:
    """The port asked for or none: taken, it is said by which program, and what to do."""
    with listening("127.0.0.1") as taken:
        port = ports(taken).pop()
        with pytest.raises(PortTaken) as caught:
            listen(host, port)
    own_name = Path("/proc/self/comm").read_text().strip()
    assert str(caught.value) == f"port {port} of {host} is taken by {own_name} (process {os.getpid()})"
    assert caught.value.exit_status == 3
    assert caught.value.hint == (
        "the redirect URI is registered with this port, so that program must go: stop it and log in again",
        "or register another redirect URI with the server and give it as --redirect-uri",
    )


@needs_ipv6
@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
def test_one_family_that_is_taken_is_enough_to_refuse(taken: str) -> None:
    """Another user who holds [::1] would be sent our code: then 127.0.0.1 is not taken either, nothing is left open."""
    with listening(taken) as sockets:
        port = ports(sockets).pop()
        with pytest.raises(PortTaken):
            listen("localhost", port)
        with listening("127.0.0.1" if taken == "::1" else "::1", port):
            pass


@needs_ipv6
def test_a_free_port_is_free_in_both_families() -> None:
    """A port that is free in one family and taken in the other is passed over, silently."""
    with ExitStack() as stack:
        held = [stack.enter_context(listening("::1")) for _ in range(50)]
        taken = {ports(one).pop() for one in held}
        for _ in range(50):
            with listening("localhost") as sockets:
                assert addresses(sockets) == ["127.0.0.1", "::1"]
                assert ports(sockets).isdisjoint(taken)


def test_another_program_with_reuseport_does_not_get_in() -> None:
    """Nobody can share the port with us, however they ask."""
    with listening("127.0.0.1") as sockets, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", ports(sockets).pop()))


def test_the_last_login_does_not_block_the_next() -> None:
    """Connections of the last login in TIME_WAIT leave the port usable."""
    with listening("127.0.0.1") as sockets:
        port = ports(sockets).pop()
        with socket.create_connection(("127.0.0.1", port), 1) as browser:
            sockets[0].settimeout(1)
            sockets[0].accept()[0].close()
            assert browser.recv(1) == b""
    with listening("127.0.0.1", port) as again:
        assert ports(again) == {port}


HOLDING = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_the_holder_is_named_across_processes() -> None:
    """Another process is named with its id."""
    with subprocess.Popen([sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        assert re.fullmatch(rf"python[0-9.]* \(process {holder.pid}\)", who_holds(port))
        holder.kill()


def test_nobody_is_named_where_nobody_is() -> None:
    """A port that nobody holds any more has another program as its holder, no crash."""
    with listening("127.0.0.1") as sockets:
        port = ports(sockets).pop()
    assert who_holds(port) == "another program"


def test_a_port_that_needs_root() -> None:
    """A plain user and a port below 1024: a configuration error, with the way out."""
    if os.geteuid() == 0:
        pytest.skip("needs a plain user: root may listen on port 1")
    with pytest.raises(ConfigurationError) as caught:
        listen("127.0.0.1", 1)
    assert str(caught.value) == "this user may not listen on port 1"


def test_refusing_leaks_no_sockets() -> None:
    """Thirty refusals leave no descriptor open."""
    with listening("127.0.0.1") as taken:
        port = ports(taken).pop()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(30):
            with pytest.raises(PortTaken):
                listen("localhost", port)
        assert len(os.listdir("/proc/self/fd")) == before
