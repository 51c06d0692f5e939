"""The server itself: addresses, ports, https, and an end that keeps nobody waiting."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import gc
import socket
import ssl
import stat
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from loopback_auth.sandbox import Sandbox, SandboxSettings, sockets
from loopback_auth.sandbox.certificate import open_certificate

from .conftest import Start
from .visitor import Log, Visitor, bearer


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this host has no IPv6 loopback")


async def test_base_url(settings: SandboxSettings) -> None:
    """The base URL has the port in use, and ends like the real one."""
    sandbox = Sandbox(settings)
    async with sandbox:
        assert sandbox.port > 0
        assert sandbox.base_url == f"http://127.0.0.1:{sandbox.port}/resto/"
        assert sandbox.certificate is None


@needs_ipv6
async def test_both_families(settings: SandboxSettings) -> None:
    """127.0.0.1 and [::1] answer on the same port, and nothing but loopback is bound."""
    async with Sandbox(settings) as sandbox, aiohttp.ClientSession() as session:
        for host in ("127.0.0.1", "[::1]", "localhost"):
            async with session.get(f"http://{host}:{sandbox.port}/") as response:
                assert response.status == 200
        with socket.socket() as elsewhere:
            elsewhere.bind(("127.0.0.2", sandbox.port))


async def test_without_ipv6(settings: SandboxSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host has no IPv6, IPv4 alone is served."""
    real = sockets._listen

    def without(family: socket.AddressFamily, host: str, port: int, shared: bool) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return real(family, host, port, shared)

    monkeypatch.setattr(sockets, "_listen", without)
    async with Sandbox(settings) as sandbox, Visitor(sandbox) as visitor:
        assert (await visitor.company()).status == 401


async def test_shared_port(settings: SandboxSettings) -> None:
    """Sandboxes that are shared listen on one port together; one that is not keeps the port to itself."""
    shared = dataclasses.replace(settings, shared=True)
    async with Sandbox(shared) as first, Sandbox(dataclasses.replace(shared, port=first.port)) as second:
        assert second.port == first.port
        with pytest.raises(OSError, match="in use"):
            await Sandbox(dataclasses.replace(settings, port=first.port)).start()
        await first.stop()
        async with Visitor(second) as visitor:
            assert (await visitor.company()).status == 401
    async with Sandbox(settings) as alone:
        with pytest.raises(OSError, match="in use"):
            await Sandbox(dataclasses.replace(shared, port=alone.port)).start()


@pytest.mark.parametrize(
    ("family", "host"),
    [
        (socket.AF_INET, "127.0.0.1"),
        pytest.param(socket.AF_INET6, "::1", marks=needs_ipv6),
    ],
)
async def test_port_taken(settings: SandboxSettings, tmp_path: Path, family: socket.AddressFamily, host: str) -> None:
    """A port that is taken on either family raises EADDRINUSE, and nothing is bound or written."""
    with socket.socket(family) as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        sandbox = Sandbox(replace(settings, port=port))
        with pytest.raises(OSError, match="in use") as raised:
            await sandbox.start()
        assert raised.value.errno == errno.EADDRINUSE
        assert not settings.folder.exists()
        if family == socket.AF_INET6:
            with socket.socket() as free:
                free.bind(("127.0.0.1", port))


def test_bound_and_listening() -> None:
    """The port is taken as soon as the sockets are open, before anything answers on them."""
    held = sockets.open_loopback(0)
    try:
        with pytest.raises(OSError, match="in use"):
            sockets.open_loopback(held[0].getsockname()[1])
    finally:
        for sock in held:
            sock.close()


async def test_second_sandbox(settings: SandboxSettings) -> None:
    """Of two sandboxes for one port the second raises, and gets the port as soon as the first stops."""
    async with Sandbox(settings) as first:
        second = Sandbox(replace(settings, port=first.port))
        with pytest.raises(OSError, match="in use"):
            await second.start()
    async with second:
        assert second.port == first.port


async def test_lingering_connections(settings: SandboxSettings) -> None:
    """A port whose connections have only just ended can be bound at once."""
    port = settings.port
    for _ in range(3):
        async with Sandbox(replace(settings, port=port)) as sandbox, Visitor(sandbox) as visitor:
            await visitor.tokens()
            port = sandbox.port


async def test_stop_is_quick(start: Start) -> None:
    """Stopping takes at most 0.2 s, though connections are idle, half a request, or waiting for an answer."""
    visitor = await start(faults="slow", slow_seconds=30)
    await visitor.open(visitor.authorization_url())  # leaves an idle connection
    _, silent = await asyncio.open_connection("127.0.0.1", visitor.sandbox.port)
    reader, half = await asyncio.open_connection("127.0.0.1", visitor.sandbox.port)
    half.write(b"POST /resto/oauth2/v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
    waiting = asyncio.create_task(visitor.refresh("x"))
    await asyncio.sleep(0.1)
    begun = time.monotonic()
    await visitor.sandbox.stop()
    assert time.monotonic() - begun <= 0.2
    with pytest.raises(aiohttp.ClientError):
        await waiting
    assert await reader.read() == b""
    for writer in (silent, half):
        writer.close()


@pytest.mark.parametrize("fault", ["hang", "trickle", "endless", "big"])
async def test_stop_within_an_answer(start: Start, fault: str) -> None:
    """Stopping takes 0.2 s at most and leaves no socket open, though an answer is under way that nobody reads."""
    visitor = await start(faults=fault, fault_grant="refresh_token")
    reader, writer = await visitor.connect((await visitor.tokens())["refresh_token"])
    await asyncio.sleep(0.1)
    assert _open_sockets(visitor.sandbox.port) > 0
    begun = time.monotonic()
    await visitor.sandbox.stop()
    assert time.monotonic() - begun <= 0.2
    await asyncio.sleep(0.02)
    assert _open_sockets(visitor.sandbox.port) == 0
    async with asyncio.timeout(1):
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(1 << 20):
                pass
    writer.close()


def _open_sockets(port: int) -> int:
    """How many sockets of this process are open on a port."""
    sockets = [found for found in gc.get_objects() if type(found) is socket.socket and found.fileno() >= 0]
    return sum(found.getsockname()[1] == port for found in sockets if found.family != socket.AF_UNIX)


async def test_stop_twice(settings: SandboxSettings) -> None:
    """Stopping twice, or without having started, is harmless."""
    sandbox = Sandbox(settings)
    await sandbox.stop()
    async with sandbox:
        await sandbox.stop()
    await sandbox.stop()


async def test_start_again(settings: SandboxSettings) -> None:
    """A sandbox that was stopped can be started again, and one that runs cannot."""
    sandbox = Sandbox(settings)
    async with sandbox:
        with pytest.raises(RuntimeError):
            await sandbox.start()
    async with sandbox, Visitor(sandbox) as visitor:
        await visitor.tokens()


async def test_large_cookies(visitor: Visitor) -> None:
    """Cookies that other programs left on localhost, 12 KB of them, do no harm."""
    page = await visitor.request("GET", visitor.authorization_url(), headers={"Cookie": "x=" + "y" * 12000})
    assert page.status == 200


# -- https ---------------------------------------------------------------------------------------------------


def _trusting(sandbox: Sandbox, flags: int = 0) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=sandbox.certificate)
    context.verify_flags |= ssl.VerifyFlags(flags)
    return context


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", pytest.param("[::1]", marks=needs_ipv6)])
async def test_https(settings: SandboxSettings, host: str) -> None:
    """Over https every loopback name is served with a certificate that verifies as its own CA file."""
    async with Sandbox(replace(settings, https=True)) as sandbox, aiohttp.ClientSession() as session:
        assert sandbox.base_url.startswith("https://127.0.0.1:")
        # strict and partial chain are the defaults from Python 3.13 on
        context = _trusting(sandbox, ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN)
        async with session.get(f"https://{host}:{sandbox.port}/", ssl=context) as response:
            assert response.status == 200


async def test_https_login(settings: SandboxSettings, log: Log) -> None:
    """A whole login works over https, and its cookie stays there."""
    sandbox = Sandbox(replace(settings, https=True), log.append)
    async with sandbox, Visitor(sandbox, ssl=_trusting(sandbox)) as visitor:
        cookie = (await visitor.open(visitor.authorization_url())).headers["Set-Cookie"]
        assert "Secure" in cookie
        assert f"_{sandbox.port}_https=" in cookie
        assert (await visitor.company(bearer(await visitor.tokens()))).status == 200


async def test_untrusted(settings: SandboxSettings) -> None:
    """A client that was not given the certificate refuses it."""
    async with Sandbox(replace(settings, https=True)) as sandbox, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(sandbox.base_url)


async def test_certificate_is_kept(settings: SandboxSettings) -> None:
    """The certificate stays the same from start to start, its key readable by the owner alone."""
    kept = set()
    for _ in range(2):
        async with Sandbox(replace(settings, https=True)) as sandbox:
            assert sandbox.certificate
            kept.add(sandbox.certificate.read_text())
    assert len(kept) == 1
    assert "PRIVATE" not in kept.pop()
    assert stat.S_IMODE((settings.folder / "key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAA\n"])
def test_broken_certificate(tmp_path: Path, content: str) -> None:
    """A broken key file is replaced."""
    (tmp_path / "key.pem").write_text(content)
    open_certificate(tmp_path)
    assert "PRIVATE KEY" in (tmp_path / "key.pem").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["certificate.pem", "key.pem"]
