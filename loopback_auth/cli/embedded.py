"""The sandbox inside a command: for an account of the sandbox, when no sandbox is running.

Its state is in a file, and those inside commands share one port: so twenty logins at once, each with a sandbox inside,
see one sandbox. Where the port cannot be shared it is taken over when its holder ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from loopback_auth import background, folders
from loopback_auth.errors import ConfigurationError, PortTaken
from loopback_auth.oauth.registration import AuthorizationServer
from loopback_auth.oauth.servers import SANDBOX
from loopback_auth.redirect.holder import who_holds
from loopback_auth.store.accounts import Accounts

SERVER_HEADER = b"Server: loopback-auth-sandbox"
TAKE_OVER_PAUSE = 0.05
"""Seconds between two looks at whether the port is free."""


def folder() -> Path:
    """Return where the sandbox keeps its state."""
    return Path(folders.data(), "sandbox")


@contextlib.asynccontextmanager
async def sandbox(server: AuthorizationServer) -> AsyncIterator[None]:
    """Have a sandbox on its port while this lasts, if `server` is the sandbox. Raises ConfigurationError."""
    if server.name != SANDBOX:
        yield
        return
    keeping = asyncio.create_task(_keep(_port(server), ready := asyncio.Event()))
    try:
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({keeping, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if keeping.done():
            keeping.result()
        yield
    finally:
        await _settled()  # it is this sandbox that a refresh under way waits for
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await keeping


@contextlib.asynccontextmanager
async def sandbox_of(store: Accounts, account: str) -> AsyncIterator[None]:
    """Have a sandbox while this lasts, if the account is one of the sandbox."""
    stored = store.load(account)
    if stored is None:
        yield
        return
    async with sandbox(stored.registration.server):
        yield


def is_gone(server: AuthorizationServer) -> bool:
    """Whether `server` is the sandbox and does not run by itself. It is not asked: that would be in its log."""
    if server.name != SANDBOX:
        return False
    try:
        socket.create_connection(("127.0.0.1", _port(server)), timeout=2).close()
    except OSError:
        return True
    return False


def _port(server: AuthorizationServer) -> int:
    return urlsplit(server.token_endpoint).port or 0


async def _settled() -> None:
    with contextlib.suppress(asyncio.CancelledError):  # the first one is under way already
        await background.settled()


async def _keep(port: int, ready: asyncio.Event) -> None:
    """Serve, or wait to serve for as long as another sandbox does."""
    from loopback_auth.sandbox import Sandbox, SandboxSettings, StateUnusable

    while True:
        try:
            async with Sandbox(SandboxSettings(folder=folder(), port=port, shared=True)):
                ready.set()
                await asyncio.Event().wait()
        except StateUnusable as error:
            raise ConfigurationError(f"the sandbox's state cannot be used: {error}") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = os.strerror(error.errno or 0).lower()
                raise ConfigurationError(f"the sandbox cannot run on port {port}: {reason}") from error
        if not ready.is_set() and not await _is_sandbox(port):
            raise PortTaken(
                f"port {port}, the sandbox's, is taken by {who_holds(port)}",
                hint="stop that program, or choose another port for the sandbox: LOOPBACK_AUTH_SANDBOX_PORT=8932",
            )
        ready.set()
        await asyncio.sleep(TAKE_OVER_PAUSE)


async def _is_sandbox(port: int) -> bool:
    """Whether a sandbox holds the port: it says so in its `Server` header; or a program that ends just now."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                head = await reader.read(4096)
                return not head or SERVER_HEADER in head
            finally:
                writer.close()
    except ConnectionError:
        return True
    except (OSError, TimeoutError):
        return False
