"""A login whose redirect comes in the middle of a flood: how long its answer takes, and what the flood cost."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from tests.attacks import floods
from tests.ended import Ended
from tests.login.certificates import make_certificate
from tests.login.program import PATIENCE, Program
from tests.login.strict import StrictServer
from tests.login.wire import ask, to_redirect

NOBODY = 65534
SCHEMES = {"http": floods.KINDS, "https": floods.KINDS_OF_TLS}


@dataclass(frozen=True)
class Outcome:
    """One login under one flood."""

    seconds: float
    """From the redirect, connection included, to its answer; the tokens were stored by then."""
    peak: int
    """Most memory that the command had, in KiB."""
    said: list[str]
    """Lines on stderr between the beginning of the flood and the redirect."""
    ended: Ended


@asynccontextmanager
async def flood(kind: str, url: str, *, stranger: bool) -> AsyncIterator[None]:
    """Flood the server at `url` while this lasts, as another user if that is wanted (and we are root)."""
    parts = urlsplit(url)
    arguments = [kind, str(parts.hostname), str(parts.port), *([str(NOBODY)] if stranger else [])]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", floods.__file__, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"begun\n"
        yield
    finally:
        process.kill()
        await process.wait()


async def log_in(
    program: Program, server: StrictServer, folder: Path, kind: str, *, stranger: bool, before: float
) -> Outcome:
    """Log in; the redirect comes `before` seconds after the flood began. `kind` is as in "https: hellos"."""
    scheme = kind.partition(":")[0]
    tls, flags = None, list(server.flags)
    if scheme == "https":
        certificate, private_key = make_certificate(folder)
        tls = ssl.create_default_context(cafile=str(certificate))
        flags += ["--certificate", str(certificate), "--private-key", str(private_key)]
    async with program.start("login", *flags, "--redirect-uri", f"{scheme}://127.0.0.1:0/") as running:
        redirect = await to_redirect(await running.start_url(), tls)
        said = running.stderr
        async with flood(kind, redirect, stranger=stranger):
            await asyncio.sleep(before)
            began = time.perf_counter()
            answer = await ask(redirect, tls=tls)
            seconds = time.perf_counter() - began
            assert answer.status == 303, answer
            peak = _peak(running.process.pid)
            lines = running.stderr.removeprefix(said).splitlines()
        await ask(urljoin(redirect, answer.location), tls=tls)
        return Outcome(seconds, peak, lines, await running.end())


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def may_be_another() -> bool:
    """Whether we can become another user."""
    return os.getuid() == 0
