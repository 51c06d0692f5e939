"""A server that answers as no server should, byte by byte; its answers; and what they cost in memory and time.

Run as a program it is the other side: it takes one answer after the other and tells the most memory that each has held.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from loopback_auth import clock, machine
from loopback_auth.oauth.registration import AuthorizationServer, ClientRegistration
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore

from ..store.accounts import account

ROOT = Path(__file__).resolve().parents[2]
ACCESS, REFRESH = "s3kr1t-next-access", "s3kr1t-next-refresh"
"""What a good answer brings."""
BEFORE = "s3kr1t-refresh"
"""The refresh token that is stored before."""
TOKENS = json.dumps({"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 3600}).encode()

Writing = Callable[[asyncio.StreamWriter], Awaitable[None]]
Reply = bytes | Writing
"""Bytes, behind which the connection is closed, or whatever writes them."""


@dataclass
class HostileServer:
    """An authorization server, a token endpoint and an API on one port of this machine."""

    host: str = "127.0.0.1"
    port: int = 0
    token: Reply = b""
    api: Reply = b""
    redirects: list[bytes] = field(default_factory=list)
    """Queries of the redirects that /authorize sends, beside the state; the last one for ever."""
    asked: list[bytes] = field(default_factory=list)
    """Every request, head and body."""

    @property
    def base(self) -> str:
        return f"http://{self.host}:{self.port}/"

    @property
    def flags(self) -> tuple[str, ...]:
        """What `login` needs to be told."""
        endpoints = "--authorization-endpoint", f"{self.base}authorize", "--token-endpoint", f"{self.base}token"
        return (*endpoints, "--client-id", "client", "--timeout", "30s")

    def __post_init__(self) -> None:
        self._serving: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

    async def listen(self, tls: ssl.SSLContext | None = None) -> None:
        self._listening = await asyncio.start_server(self._connected, self.host, 0, ssl=tls)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def end(self) -> None:
        self._listening.close()
        for task, _ in self._serving:
            task.cancel()
        await asyncio.gather(*(task for task, _ in self._serving), return_exceptions=True)
        for _, writer in self._serving:
            with suppress(AttributeError):  # Python 3.11.2: TLS that was closed twice
                writer.transport.abort()
        await asyncio.sleep(0.01)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.append((asyncio.create_task(self._serve(reader, writer)), writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request, and answer it as was said."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self.asked.append(head + await reader.readexactly(int(length[0].split(b":")[1]) if length else 0))
            target = head.split(b" ")[1]
            reply = self._redirect(target) if target.startswith(b"/authorize") else self.api
            await write(writer, self.token if target.startswith(b"/token") else reply)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _redirect(self, target: bytes) -> bytes:
        asked = parse_qs(target.decode().partition("?")[2])
        query = self.redirects.pop(0) if len(self.redirects) > 1 else self.redirects[0]
        location = f"{asked['redirect_uri'][0]}?state={asked['state'][0]}&".encode() + query
        return answer(b"", "302 Found", b"Location: " + location)


async def write(writer: asyncio.StreamWriter, reply: Reply) -> None:
    if isinstance(reply, bytes):
        writer.write(reply)
        await writer.drain()
    else:
        await reply(writer)


@contextmanager
def hostile(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[HostileServer]:
    """Run one in a thread for as long as this lasts."""
    server = HostileServer(host)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="hostile-server")
    thread.start()

    try:
        asyncio.run_coroutine_threadsafe(server.listen(tls), loop).result(20)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.end(), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


@asynccontextmanager
async def answering(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[HostileServer]:
    """Run one in this event loop that answers everything alike."""
    server = HostileServer(token=reply, api=reply)
    await server.listen(tls)
    try:
        yield server
    finally:
        await server.end()


def registration_at(base: str, ca_file: str | None = None) -> ClientRegistration:
    """Return a public client's registration at a server at `base`."""
    server = AuthorizationServer(
        name="hostile",
        title="Hostile",
        authorization_endpoint=f"{base}authorize",
        token_endpoint=f"{base}token",
        api_base=f"{base}api/",
        company_path="company",
    )
    return ClientRegistration(
        server=server,
        client_id="client",
        redirect_uri="http://127.0.0.1:0/",
        token_endpoint_auth_method="none",
        ca_file=ca_file,
    )


def stored_account(
    home: Path, base: str, *, ca_file: str | None = None, age: float = 7200.0, company: dict[str, str] | None = None
) -> Accounts:
    """Store the account `default` of a server at `base`, whose tokens are `age` seconds old."""
    now = clock.now()
    store = Accounts(FileStore(str(home / "accounts")))
    store.save(
        account(
            registration=registration_at(base, ca_file),
            client_secret=None,
            logged_in_at=now.unix - age,
            refresh_token_at=now.unix - age,
            received=clock.Moment(now.unix - age, now.boot_id, now.uptime - age),
            machine=machine.identity(),
            company=company,
        )
    )
    return store


# -- what it may answer with


def answer(body: bytes, status: str = "200 OK", *headers: bytes | str, length: object = None) -> bytes:
    """Return an answer as it goes over the wire; `length` is said in place of the true one."""
    lines = [line.encode() if isinstance(line, str) else line for line in headers]
    said = str(len(body) if length is None else length).encode()
    return b"\r\n".join([b"HTTP/1.1 " + status.encode(), b"Content-Length: " + said, *lines, b"", body])


def headed(head: bytes, body: bytes = TOKENS) -> bytes:
    """Return an answer with this head, whose lines end as they stand here, and no length unless it is said there."""
    return head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n", head: bytes = b"") -> bytes:
    """Return an answer in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + head + b"\r\n" + body + end


def tokens(**members: object) -> bytes:
    """Return the JSON of a good answer with these members added, or taken away where they are None."""
    whole = {**json.loads(TOKENS), **members}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def endless(head: bytes, piece: bytes, after: float = 0.0) -> Writing:
    """Write `head`, and `after` so many seconds `piece` for as long as anybody reads, up to 300 MB."""

    async def writing(writer: asyncio.StreamWriter) -> None:
        many = piece * (256 * 1024 // len(piece) + 1)
        writer.write(head)
        await asyncio.sleep(after)
        for _ in range(300 * 1024 * 1024 // len(many)):
            writer.write(many)
            await writer.drain()
            if writer.is_closing():
                break

    return writing


def dripping(head: bytes, piece: bytes, seconds: float = 0.01) -> Writing:
    """Write `head`, and then `piece` again and again, a little apart, and never come to an end."""

    async def writing(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(seconds)

    return writing


def apart(*pieces: bytes) -> Writing:
    """Write these, each a moment after the one before."""

    async def writing(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)

    return writing


def reset(said: bytes) -> Writing:
    """Say this, and reset the connection."""

    async def writing(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await asyncio.sleep(0.02)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return writing


# -- the other side, as a program


def costs(orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each of these orders, the outcome, the seconds and the most memory (MiB) that it took."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.hostile_server"],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    answered: list[dict[str, Any]] = json.loads(done.stdout)
    return answered


def meet(order: dict[str, Any]) -> dict[str, Any]:
    """Send one request, and tell what became of it."""
    from loopback_auth.endpoints import resource as api
    from loopback_auth.endpoints.token_endpoint import TokenEndpoint
    from loopback_auth.errors import LoopbackAuthError
    from loopback_auth.oauth.token import TokenRequest, parse_token_response
    from loopback_auth.secret import Secret

    url, timeout = order["url"], order.get("timeout", 15.0)
    registration = Accounts(FileStore(order["accounts"])).load("default") if "accounts" in order else None

    async def work() -> str:
        if order["what"] == "company":
            assert registration is not None
            company = await api.company(registration.registration, Secret("token"))
            return str(company)[:100]
        if order["what"] == "get":
            assert registration is not None
            return str(len((await api.get(registration.registration, url, Secret("token"), timeout=timeout)).body))
        async with TokenEndpoint.open(
            url, proxy=order.get("proxy"), total_timeout=timeout, connect_timeout=timeout
        ) as endpoint:
            got = await endpoint.send(TokenRequest(url, {}, Secret("a=b")))
            return str(parse_token_response(got).refresh_token is not None)

    _forget_the_most()
    begun = time.monotonic()
    try:
        outcome = _command(order) if order["what"] == "api" else asyncio.run(work())
    except LoopbackAuthError as error:
        outcome = type(error).__name__
    return {"outcome": outcome, "seconds": time.monotonic() - begun, "most": _most()}


def _command(order: dict[str, Any]) -> str:
    """Run `api` as if in a pipe, and return its exit status."""
    from loopback_auth.cli import commands

    os.environ["LOOPBACK_AUTH_HOME"] = str(Path(order["accounts"]).parent)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return str(commands.run(["api", "company"]))


def _forget_the_most() -> None:
    with suppress(OSError):  # where the kernel does not let us, it is the most so far
        Path("/proc/self/clear_refs").write_text("5")


def _most() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps([meet(order) for order in json.load(sys.stdin)]))
