"""Lets a command fail at its n-th call of one of its own functions, for every n in turn, and searches what it leaves.

As a program it walks a whole login, a refresh, a `token` and a `logout` that revokes: `main`. Each run logs at DEBUG,
with asyncio's debug mode and Python's development mode on; all that was printed or logged is searched, and every file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

from aiohttp import web

from ..ended import Ended
from ..login.program import MARKER, ROOT, Program, Running
from ..login.strict import StrictServer
from ..login.wire import Answer, ask
from .leak_search import Search, in_files

CLIENT_SECRET = f"{MARKER}of-the-client+/&=% \\"
RAISED = ("RuntimeError", "ValueError", "OSError", "MemoryError", "CancelledError", "KeyboardInterrupt")
"""What may come from where nobody expects it: the n-th run raises the n-th of them, round and round."""
TELLING = ("ValueError", "OSError")
"""Those of them that come with a message, and a secret in it."""
LOUD = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "PYTHONFAULTHANDLER": "1", "PYTHONWARNINGS": "default"}
"""All that makes Python talk."""
PERSON = 4
"""Seconds in which a login that nobody can finish any more gives up."""
PATIENCE = 20.0
SITE = """
import asyncio, logging, os, secrets, sys, threading
from asyncio.base_events import BaseEventLoop

class Everything(logging.Formatter):
    # the message as it would be shown, and what it was made of
    def format(self, record):
        return f"{record.name}: {super().format(record)} {record.args!r}"

if os.environ["LEAK_LOG"]:
    handler = logging.FileHandler(os.environ["LEAK_LOG"])
    handler.setFormatter(Everything())
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])

def as_on_a_slow_machine(loop):
    made(loop)
    loop.slow_callback_duration = 0.0

made = BaseEventLoop.__init__
BaseEventLoop.__init__ = as_on_a_slow_machine

random = secrets.token_urlsafe
secrets.token_urlsafe = lambda size: "MARKER" + random(size)[len("MARKER"):]

own, point, raises = os.environ["LEAK_OWN"], os.environ["LEAK_POINT"], os.environ["LEAK_RAISES"]
report = os.open(os.environ["LEAK_REPORT"], os.O_WRONLY | os.O_CREAT)
counting = threading.Lock()
calls = 0

def look(frame, event, _argument):
    global calls
    code = frame.f_code
    if event != "call" or not code.co_flags & 1 or not code.co_filename.startswith(own):
        return
    with counting:
        calls += 1
        place = f"{os.path.basename(code.co_filename)}:{code.co_name}"
        here = point in (str(calls), place)
        if point == "0":
            os.pwrite(report, b"%d" % calls, 0)
    if here:
        os.pwrite(report, place.encode(), 0)
        if raises == "CancelledError":
            raise asyncio.CancelledError
        if raises == "OSError":
            raise OSError(5, "MARKERin-the-message")
        if raises == "ValueError":
            raise ValueError("MARKERin-the-message")
        raise {"RuntimeError": RuntimeError, "MemoryError": MemoryError, "KeyboardInterrupt": KeyboardInterrupt}[raises]

if point:
    sys.setprofile(look)
    threading.setprofile(look)
""".replace("MARKER", MARKER)
"""What the command's interpreter runs first: it logs everything, makes marked secrets, and fails where it is told to.

asyncio shows all that it runs, with results, as it does for what takes 0.1 s. The bodies of modules are not counted.
"""


@dataclass
class Fault:
    """Where a run failed, and what was found of it."""

    number: int | str
    raised: str
    place: str
    status: int | None
    leaks: list[str]
    tracebacks: list[str]
    """Lines of one on stderr: no leak yet, but where one would be."""


def loud_environment(folder: Path) -> dict[str, str]:
    """What makes a command talk, and its interpreter run `SITE`; its log goes to `folder`."""
    site = folder.with_name(f"{folder.name}-site")  # it is not searched
    site.mkdir(parents=True)
    (site / "sitecustomize.py").write_text(SITE)
    (folder / "tmp").mkdir(parents=True)
    return {
        **LOUD,
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": f"{site}:{ROOT}",
        "LEAK_LOG": str(folder / "log"),
        "LEAK_OWN": str(ROOT / "loopback_auth") + os.sep,
        "LEAK_POINT": "",
        "LEAK_RAISES": "",
        "LEAK_REPORT": str(folder / "report"),
    }


@dataclass
class Loud:
    """A machine on which every command logs all that it can, to be searched afterwards."""

    folder: Path
    server: StrictServer
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.program = Program(self.folder)
        self._log = self.folder / "log"
        self._report = self.folder / "report"
        self.program.environment |= loud_environment(self.folder) | {
            "LOOPBACK_AUTH_CLIENT_SECRET": CLIENT_SECRET,
            **self.environment,
        }

    def fail_at(self, point: int | str, raised: str = "") -> None:
        """Let commands fail at this call, or at the first one of `file.py:function`; at 0 they count calls.

        Errors with a message come where nobody has asked Python to talk: then nobody may repeat the message.
        """
        self._report.unlink(missing_ok=True)
        loud = {**LOUD, "LEAK_LOG": str(self._log)}
        as_usual = dict.fromkeys(loud, "")
        talk = as_usual if raised in TELLING else loud
        self.program.environment |= {**talk, "LEAK_POINT": str(point), "LEAK_RAISES": raised}

    def clear(self) -> None:
        """Forget what was logged before."""
        self._log.write_text("")

    @property
    def template(self) -> Path:
        """Where a home folder is kept that commands begin with: nothing in it is theirs."""
        return self.folder.with_name(f"{self.folder.name}-before")

    @property
    def reported(self) -> str:
        return self._report.read_text() if self._report.exists() else ""

    @property
    def logged(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def secrets(self) -> dict[str, str]:
        """All that nobody may see, by what it is; every secret of a run holds the marker, whatever became of it."""
        seen = {f"what the server saw ({number})": one for number, one in enumerate(sorted(self.server.secrets))}
        return {"a marked secret": MARKER, "the client secret": CLIENT_SECRET, **seen}

    def leaks(self, outputs: Iterable[Ended], **also: str) -> list[str]:
        """What can be found of a secret in output, log and files; `also` are more secrets."""
        search = Search(self.secrets() | also)
        found = in_files(search, self.folder, self.program.home)
        for ended in outputs:
            shown = ended.stderr if shows_token(ended) else ended.stdout + ended.stderr
            found += [f"{hit} was printed by {ended.arguments}" for hit in search.hits(shown)]
        return found


def shows_token(ended: Ended) -> bool:
    """Whether a token alone on stdout is what was asked for, and what came."""
    asked = ended.arguments[0] == "token" or "--print-token" in ended.arguments
    return asked and re.fullmatch(r"(\S+\n)?", ended.stdout) is not None


async def go(address: str) -> None:
    """A browser's way through a login, as far as it leads."""
    with suppress(OSError, TimeoutError, KeyError):  # refused, no answer, no further address
        redirect = await redirect_from((await _asked(address)).location)
        await _asked(urljoin(redirect, (await _asked(redirect)).location))


async def redirect_from(authorization_url: str) -> str:
    """Where the authorization endpoint sends the browser."""
    return (await _asked(authorization_url)).location


async def _asked(url: str) -> Answer:
    """The answer, whatever the certificate."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with asyncio.timeout(PATIENCE):
        return await ask(url, tls=trusting if url.startswith("https:") else None)


async def login(loud: Loud) -> Ended:
    """A login from its first step to its end, whatever that is."""
    return await _log_in(loud, *loud.server.flags)


async def login_that_can_be_revoked(loud: Loud) -> Ended:
    """The same at a server that takes tokens back, which config.toml alone can say."""
    base = loud.server.base
    loud.program.home.mkdir(mode=0o700)
    (loud.program.home / "config.toml").write_text(
        f"[servers.mine]\nauthorization_endpoint = '{base}/authorize'\ntoken_endpoint = '{base}/token'\n"
        f"revocation_endpoint = '{base}/revoke'\n[clients.acme]\nserver = 'mine'\nclient_id = 'client-1'\n"
    )
    return await _log_in(loud, "--client", "acme")


async def _log_in(loud: Loud, *flags: str) -> Ended:
    arguments = ("login", *flags, "--timeout", f"{PERSON}s", "-v", "--json")
    async with loud.program.start(*arguments) as running:
        await _opened(running)
        if running.was_opened:
            await go(await running.start_url()) if running.runs else None
        return await _ended(running)


async def _opened(running: Running) -> None:
    for _ in range(int(PATIENCE / 0.01)):
        if running.was_opened or not running.runs:
            return
        await asyncio.sleep(0.01)


async def _ended(running: Running) -> Ended:
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            return await running.end()
    return await running.stop()


def command(*arguments: str) -> Callable[[Loud], Awaitable[Ended]]:
    """A command that needs nobody."""

    async def work(loud: Loud) -> Ended:
        async with loud.program.start(*arguments) as running:
            return await _ended(running)

    return work


REFRESH = command("refresh", "--force", "--json")
TOKEN = command("token", "--min-validity", "2h")
LOGOUT = command("logout")


@dataclass(frozen=True)
class Walk:
    """A command that is walked, and whether it needs an account that is logged in."""

    work: Callable[[Loud], Awaitable[Ended]]
    account: bool
    login: Callable[[Loud], Awaitable[Ended]] = login
    """How that comes to be."""


WALKS = {
    "login": Walk(login, account=False),
    "refresh": Walk(REFRESH, account=True),
    "token": Walk(TOKEN, account=True),
    "logout": Walk(LOGOUT, account=True, login=login_that_can_be_revoked),
}


@asynccontextmanager
async def machine(folder: Path) -> AsyncIterator[Loud]:
    """A machine and a server that answers every token request with new tokens, whatever was spent."""
    async with StrictServer(client_secret=CLIENT_SECRET, method="client_secret_basic") as server:
        numbers = iter(range(1, 1_000_000))

        def answer() -> web.Response:
            number = next(numbers)
            tokens = {"access_token": f"{MARKER}access-{number}", "refresh_token": f"{MARKER}refresh-{number}"}
            return web.json_response(tokens | {"expires_in": 3600})

        server.answer = answer
        yield Loud(folder, server)


async def count(walk: Walk, loud: Loud) -> int:
    """How many calls there are in a run where nothing fails."""
    if walk.account:
        assert (await walk.login(loud)).status == 0
        shutil.copytree(loud.program.home, loud.template)
    loud.fail_at(0)
    ended = await walk.work(loud)
    assert ended.status == 0, ended
    return int(loud.reported)


async def fail(walk: Walk, loud: Loud, number: int | str, raised: str) -> Fault:
    """Let the command fail at one call, and search what that leaves."""
    shutil.rmtree(loud.program.home, ignore_errors=True)
    if walk.account:
        shutil.copytree(loud.template, loud.program.home)
    loud.clear()
    loud.fail_at(number, raised)
    ended = await walk.work(loud)
    return Fault(number, raised, loud.reported, ended.status, loud.leaks([ended]), tracebacks(ended))


def tracebacks(ended: Ended) -> list[str]:
    """Python's own, but for those of what was thrown away: our way to fail may throw away a coroutine."""
    ignored = r"^Exception ignored in: .*\n(Traceback.*\n(  .*\n)*\w.*\n)?"
    return re.findall(r"^Traceback.*|^  File .*", re.sub(ignored, "", ended.stderr, flags=re.MULTILINE), re.MULTILINE)


async def walked(
    name: str, folder: Path, points: Callable[[int], Iterable[tuple[int, str]]], at_once: int = 2
) -> tuple[int, list[Fault]]:
    """Walk a command; `points` says, of so many calls, at which to fail and how. Returns that number, and all runs."""
    walk = WALKS[name]
    async with machine(folder / f"{name}-count") as loud:
        calls = await count(walk, loud)
    ahead = iter(list(points(calls)))

    async def worker(number: int) -> list[Fault]:
        async with machine(folder / f"{name}-{number}") as loud:
            if walk.account:
                await count(walk, loud)
            return [await fail(walk, loud, point, raised) for point, raised in ahead]

    found = await asyncio.gather(*map(worker, range(at_once)))
    return calls, sorted((fault for faults in found for fault in faults), key=lambda fault: int(fault.number))


def spread(most: int, raised: Sequence[str] = RAISED) -> Callable[[int], list[tuple[int, str]]]:
    """Points all over a run, `most` of them, each with another error than the one before; not before it has begun."""

    def points(calls: int) -> list[tuple[int, str]]:
        number = min(most, calls - 1)
        return [(2 + (calls - 1) * step // number, raised[step % len(raised)]) for step in range(number)]

    return points


def main(arguments: list[str] | None = None) -> int:
    """Walk, and print how many runs there were, how they ended, and every leak. 1 if there was one."""
    parser = argparse.ArgumentParser(prog="scripts/bench leaks", description=__doc__)
    parser.add_argument("--only", dest="names", action="append", choices=WALKS, help="this command (repeatable)")
    parser.add_argument(
        "--points", type=int, default=1_000_000, metavar="N", help="fail at N calls of each; else at every one"
    )
    parser.add_argument(
        "--raise", dest="raised", action="append", choices=RAISED, help="this alone; else one after another"
    )
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, metavar="N")
    options = parser.parse_args(arguments)
    leaks = 0
    for name in options.names or WALKS:
        points = spread(options.points, options.raised or RAISED)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="loopback-auth-leaks-") as folder:
            calls, faults = asyncio.run(walked(name, Path(folder), points, options.at_once))
        leaks += sum(map(_print_leaks, faults))
        ends = Counter(fault.status for fault in faults)
        missed = sum(not fault.place for fault in faults)
        print(
            f"{name}: {calls} calls, {len(faults)} failures ({missed} not reached), exit status "
            f"{', '.join(f'{status} x {number}' for status, number in sorted(ends.items()))}; "
            f"{sum(bool(fault.leaks) for fault in faults)} with a leak; {time.monotonic() - begun:.0f} s",
            flush=True,
        )
    return 1 if leaks else 0


def _print_leaks(fault: Fault) -> bool:
    for line in [*fault.leaks, *fault.tracebacks]:
        print(f"  {fault.raised} at call {fault.number} ({fault.place}), exit status {fault.status}: {line}")
    return bool(fault.leaks)


if __name__ == "__main__":
    sys.exit(main())
