"""No secret is in anything that is printed, logged, written down, passed on or left behind, whatever goes wrong."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import os
import re
import resource
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlencode

import pytest

from loopback_auth import stores

from ..ended import Ended
from ..login.certificates import make_certificate
from ..login.program import MARKER, Program
from ..login.strict import StrictServer
from ..login.visits import visit
from ..terminal.machine import Machine, redirect_of
from . import leak_walk
from .leak_search import Search, in_files
from .leak_walk import CLIENT_SECRET, RAISED, Loud, go, loud_environment

PROXY_PASSWORD = f"{MARKER}of-the-proxy"
STORE_KEY = f"{MARKER}".encode().hex() * 4 + "00112233"
POINTS = {"login": 16, "refresh": 8, "token": 6, "logout": 6}


@asynccontextmanager
async def strict(folder: Path, tls: ssl.SSLContext | None = None) -> AsyncIterator[Loud]:
    """A machine on which everything talks, and a strict server for it."""
    async with StrictServer(client_secret=CLIENT_SECRET, method="client_secret_basic", tls=tls) as server:
        loud = Loud(folder, server, {"LOOPBACK_AUTH_STORE_KEY": STORE_KEY})
        yield loud
        assert server.complaints == []


async def log_in(loud: Loud, *arguments: str) -> Ended:
    async with loud.program.start("login", "-v", *arguments) as running:
        await go(await running.start_url())
        return await running.end()


def assert_tight(loud: Loud, outputs: list[Ended], **also: str) -> None:
    """No secret that was made is in output, log or files; nor in what `watched` saw."""
    stored = {f"token {one[-9:]}": one for path in loud.program.home.glob("accounts/*/tokens") for one in tokens(path)}
    assert loud.leaks(outputs, **also, **stored, STORE_KEY=STORE_KEY) == []
    assert loud.logged, "nothing was logged"


def tokens(path: Path) -> set[str]:
    environ = {"LOOPBACK_AUTH_HOME": str(path.parents[2]), "LOOPBACK_AUTH_STORE_KEY": STORE_KEY}
    account = stores.open_at("file:", environ).load(path.parent.name)
    assert account is not None
    assert account.sealed_with is not None
    found = (account.tokens.access_token, account.tokens.refresh_token)
    return {one.reveal() for one in found if one is not None}


@contextmanager
def watched(home: Path, folder: Path) -> Iterator[set[str]]:
    """All command lines of processes with this home, and their children's environments, as often as can be seen."""
    seen: set[str] = set()
    over = threading.Event()
    mark = f"LOOPBACK_AUTH_HOME={home}\0".encode()

    before = set(os.listdir("/proc"))

    def look() -> None:
        while not over.wait(0.005):
            for number in set(os.listdir("/proc")) - before:
                process = Path("/proc", number)
                with suppress(OSError, IndexError, ValueError):
                    environment = (process / "environ").read_bytes()
                    if mark not in environment:
                        continue
                    line = (process / "cmdline").read_bytes()
                    seen.add(line.decode(errors="replace"))
                    parent = (process / "stat").read_text().rpartition(") ")[2].split()[1]
                    if int(parent) != os.getpid() and Path(f"/proc/{parent}/cmdline").read_bytes() != line:
                        seen.add(environment.decode(errors="replace"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        (folder / "processes").write_text("\n".join(sorted(seen)), errors="replace")  # searched with all other files


# -- what is looked for ------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ['a%b+c/d=e&f ä\\"0123456789xyz', f"{MARKER}1", "Zm9vYmFyYmF6cXV4" * 3])
def test_the_search_finds_every_form(secret: str, tmp_path: Path) -> None:
    """A secret is found in each encoding, between other things, cut short, and in a file's name; else nothing is."""
    search = Search({"it": secret})
    raw = secret.encode()
    written = {
        f"base64 after {lead} bytes": base64.b64encode(b"x" * lead + raw + b"more").decode() for lead in range(4)
    }
    written |= {f"base64url after {n}": base64.urlsafe_b64encode(b"?" * n + raw + b"~").decode() for n in range(4)}
    written |= {"plain": secret, "reversed": "".join(reversed(secret)), "hex": raw.hex(), "HEX": raw.hex().upper()}
    written |= {"percent": quote(secret, safe=""), "form": urlencode({"a": secret}), "JSON": json.dumps([secret])}
    written |= {"escaped": "".join(f"\\u{ord(letter):04X}" for letter in secret), "repr": repr({"a": raw})}
    written |= {"small": re.sub("%..", lambda one: one[0].lower(), quote(secret, safe="")), "list": str(list(raw))}
    for form, text in written.items():
        assert search.hits(f"before {text} after"), form
    assert len(secret) < 24 or (search.hits(secret[:13] + "...") and search.hits("..." + secret[-14:]))
    assert search.hits("nothing of the kind, but s3kr1 and Zm9vYm") == []
    (tmp_path / "home" / "accounts" / "a").mkdir(parents=True)
    (tmp_path / "home" / "accounts" / "a" / "tokens").write_text(secret)
    (tmp_path / "home" / "accounts" / "a" / "tokens").chmod(0o600)
    assert in_files(search, tmp_path, tmp_path / "home") == []
    (tmp_path / "home" / "accounts" / "a" / "tokens").chmod(0o640)
    (tmp_path / "elsewhere").write_text(secret)
    assert len(in_files(search, tmp_path, tmp_path / "home")) >= 2


# -- every command, everything talking ---------------------------------------------------------


async def test_every_command(tmp_path: Path) -> None:
    """Whatever is asked of an account, with all logs and debug modes on, its token on stdout is all that is shown."""
    async with strict(tmp_path) as loud:
        with watched(loud.program.home, tmp_path) as seen:
            ended = [await log_in(loud, *loud.server.flags, "--json")]
            ended += [await log_in(loud, *loud.server.flags, "--force", "--print-token")]
            for words in (
                "status", "status --json", "status default", "token", "refresh", "refresh --force --json",
                "refresh --resend", "token --min-validity 2h", "login --client-id client-1 --json", "api x",
            ):  # fmt: skip
                more = () if not words.startswith("login") else loud.server.flags
                ended.append(await loud.program.run(*words.split(), *more))
            shown = [one.stdout for one in ended if leak_walk.shows_token(one)]
            assert_tight(loud, ended)
            ended = [await loud.program.run("logout")]
        assert [len(one.split()) for one in shown] == [1, 1, 1]
        assert any("/bin/sh" in one for one in seen)
        assert len(loud.server.token_requests) == 3
        assert_tight(loud, ended)


async def test_https_by_way_of_a_proxy(tmp_path: Path) -> None:
    """The same over TLS: own certificate, a proxy with a password, the client's secret from a command."""
    certificate, private_key = make_certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, private_key)
    asked: list[str] = []
    async with strict(tmp_path / "machine", tls) as loud, tunnels(asked) as port:
        del loud.program.environment["LOOPBACK_AUTH_CLIENT_SECRET"]  # it would go before the configured one
        key = tmp_path / "key"
        key.write_text(CLIENT_SECRET)
        child = loud.folder / "child"
        script = f"cat /proc/$$/cmdline /proc/$$/environ >{child}; ls -l /proc/$$/fd >>{child}; cat {key}"
        loud.program.home.mkdir(mode=0o700)
        config = loud.program.home / "config.toml"
        config.write_text(
            f"proxy = 'http://alice:{PROXY_PASSWORD}@127.0.0.1:{port}'\n"
            f"[servers.mine]\nauthorization_endpoint = '{loud.server.base}/authorize'\n"
            f"token_endpoint = '{loud.server.base}/token'\n"
            f"[clients.acme]\nserver = 'mine'\nclient_id = 'client-1'\nredirect_uri = 'https://localhost:0/'\n"
            f"ca_file = '{certificate}'\n"
            f"client_secret = {{ command = ['sh', '-c', '{script}'] }}\n"
        )
        config.chmod(0o600)
        ended = [await log_in(loud, "--client", "acme", "--json")]
        ended += [await loud.program.run(*words.split()) for words in ("refresh --force --json", "status", "token")]
        assert [one.status for one in ended] == [0, 0, 0, 0], ended
        assert len(asked) == 2
        assert PROXY_PASSWORD not in "".join(asked)
        assert child.read_text(errors="replace").count("LOOPBACK_AUTH_HOME=") == 1
        config.unlink()  # where the test wrote it
        assert_tight(loud, ended, proxy=PROXY_PASSWORD)


@pytest.mark.parametrize("status", [200, 503])
async def test_tokens_that_are_given_back(status: int, tmp_path: Path) -> None:
    """Nor is anything told by a logout that revokes, whether the server takes the tokens or repeats them in its no."""
    async with strict(tmp_path) as loud:
        loud.server.revocation_status = status
        assert (await leak_walk.login_that_can_be_revoked(loud)).status == 0
        stored = tokens(loud.program.home / "accounts" / "default" / "tokens")
        with watched(loud.program.home, tmp_path):
            ended = await loud.program.run("logout")
        assert (ended.status, len(loud.server.revocations)) == (0, 2)
        assert_tight(loud, [ended], **{f"token {one[-9:]}": one for one in stored})
        assert not list(loud.program.home.glob("accounts/*/tokens"))


@asynccontextmanager
async def tunnels(asked: list[str]) -> AsyncIterator[int]:
    """A proxy for CONNECT that wants to be told who asks; the port of it."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        host, _, port = head.split()[1].rpartition(":")
        far = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pass_on(reader, far[1]), pass_on(far[0], writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_two_steps(tmp_path: Path) -> None:
    """`--start` prints the address to open and nothing else that is secret; `--finish` repeats nothing of its stdin."""
    async with strict(tmp_path) as loud:
        started = await loud.program.run("login", "--start", *loud.server.flags)
        address = started.json["authorization_url"]
        redirect = await leak_walk.redirect_from(address)
        wrong = [await loud.program.run("login", "--finish", "-v", stdin=f"{given}\n".encode()) for given in (
            redirect.replace("state=", "state=x"), redirect.partition("?")[2], redirect[:-5])]  # fmt: skip
        finished = await loud.program.run("login", "--finish", "-v", stdin=f"{redirect}\n".encode())
        assert finished.status == 0, finished.stderr
        again = await loud.program.run("login", "--finish", "-v", stdin=f"{redirect}\n".encode())
        assert_tight(loud, [*wrong, finished, again])
        assert started.stdout.count(MARKER) == 1


async def test_sandbox(tmp_path: Path) -> None:
    """Nor does the sandbox tell, inside a login or in a process of its own: it is a server with secrets too."""
    async with strict(tmp_path) as loud:
        program = loud.program
        del program.environment["LOOPBACK_AUTH_CLIENT_SECRET"]
        ended = []
        for number in range(2):
            async with program.start("sandbox") as serving:
                if number:
                    await serving.says("is running")
                async with program.start(
                    "login", "-v", "--force", "--server", "sandbox", "--timeout", "20s"
                ) as running:
                    if not number:
                        await serving.stop()
                    await visit(await running.start_url())
                    ended.append(await running.end())
                ended.append(await program.run("api", "rest/core/company"))
                ended.append(await program.run("refresh", "--force"))
                ended.append(await serving.stop())
        assert [one.status for one in ended] == [0, 0, 0, -9] * 2, ended
        assert "token" in ended[-1].stderr
        assert_tight(loud, ended)


# -- on a terminal -----------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    machine.environment |= loud_environment(tmp_path)
    yield machine
    machine.close()


def test_terminal(machine: Machine, tmp_path: Path) -> None:
    """What is typed or pasted where it is not shown, a secret or a redirect, is nowhere on the terminal, in no log."""
    terminal = machine.pty("setup")
    terminal.answer(r"Server \[", "")
    terminal.answer(r"Client id \(", "acme-9001")
    terminal.says("Client secret")
    terminal.until(lambda: not terminal.echoes, "the secret is not echoed")
    terminal.answer("Client secret", CLIENT_SECRET)
    terminal.answer("Redirect URI, exactly", "")
    assert terminal.end() == 0
    opened = tmp_path / "opened"
    browser = machine.program(tmp_path / "browser", f'echo "$1" >"{opened}.part"; mv "{opened}.part" "{opened}"')
    pasting = machine.pty("login", "--server", "sandbox", "--timeout", "20s", "-v", BROWSER=str(browser))
    pasting.until(opened.exists, "the browser is opened")
    redirect = redirect_of(opened.read_text().strip())
    pasting.until(lambda: not pasting.echoes, "pastes are not echoed")
    code, state = (re.search(rf"{name}=([^&]+)", redirect) for name in ("code", "state"))
    assert code and state
    pasting.paste(redirect.replace(state[1], "A" * 43))
    pasting.says("its state is not the one of this login")
    pasting.paste(code[1])
    pasting.says("the address should begin with")
    pasting.paste(redirect)
    assert pasting.end() == 0, pasting.text
    search = Search({"marked": MARKER, "client": CLIENT_SECRET, "code": code[1], "state": state[1]})
    assert search.hits(terminal.text + pasting.text) == []
    assert in_files(search, tmp_path, machine.home) == []


# -- when it fails -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", POINTS)
async def test_failing_anywhere(name: str, tmp_path: Path) -> None:
    """An error that nobody thought of, anywhere in a command, is said by kind and place: no traceback, no message."""
    _, faults = await leak_walk.walked(name, tmp_path, leak_walk.spread(POINTS[name]))
    assert [(fault.place, fault.leaks) for fault in faults if fault.leaks] == []
    assert [(fault.place, fault.status) for fault in faults if fault.status not in range(131)] == []
    assert [fault for fault in faults if fault.tracebacks] == []
    assert {fault.raised for fault in faults} == set(RAISED)
    assert sum(bool(fault.place) for fault in faults) > 0.7 * len(faults)  # how many calls there are depends on timing


PLACES = {
    "before anything else": ("token", "main.py:_stored_token", "ValueError"),
    "in a command": ("login", "config_file.py:load", "CancelledError"),
    "in a callback of the event loop": ("login", "server.py:_first_reply", "ValueError"),
    "where another thread waits": ("refresh", "background.py:_end", "MemoryError"),
    "between a token and its revocation": ("logout", "token.py:build_revocation_request", "ValueError"),
}


@pytest.mark.parametrize("where", PLACES)
async def test_failing_there(where: str, tmp_path: Path) -> None:
    """The same where Python or asyncio would say it in a way of their own, or nobody would ever say it."""
    name, place, raised = PLACES[where]
    walk = leak_walk.WALKS[name]
    async with leak_walk.machine(tmp_path / "machine") as loud:
        if walk.account:
            await leak_walk.count(walk, loud)
        fault = await leak_walk.fail(walk, loud, place, raised)
    assert (fault.place, fault.leaks, fault.tracebacks) == (place, [], [])
    assert fault.status in (0, 1, 5)  # 0: what failed in a callback before aiohttp was there is done once more


# -- memory on disks ---------------------------------------------------------------------------


CRASHES = (signal.SIGSEGV, signal.SIGQUIT, signal.SIGABRT)


def with_core_dumps() -> None:
    """What `ulimit -c unlimited` does, as far as this machine lets anybody."""
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def crash(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """End it as a crash would, and return the status that wait(2) has."""
    os.kill(process.pid, number)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return status


def core_limit(process: subprocess.Popen[bytes]) -> str:
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    return limits.partition("Max core file size")[2].split()[0]


async def test_no_core_dumps(tmp_path: Path) -> None:
    """A command that crashes while it waits leaves no core dump, and Python's report of the crash holds no secret."""
    async with strict(tmp_path) as loud, said_in(tmp_path / "said") as said:
        loud.server.tokens = {"expires_in": 1}
        assert (await log_in(loud, *loud.server.flags)).status == 0
        browser = tmp_path / "told"

        def start(*command: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=tmp_path,
                env=loud.program.environment | {"BROWSER": f"touch {browser}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                preexec_fn=with_core_dumps,
            )

        bare = start("-c", "import time; time.sleep(60)")
        await until(lambda: core_limit(bare) != "0" or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0)
        dumps = os.WCOREDUMP(crash(bare, signal.SIGSEGV))
        for core in cores(tmp_path):
            core.unlink()
        with (loud.program.home / "accounts" / "default" / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for words in (("login", "another", *loud.server.flags), ("token",), ("refresh",), ("sandbox",)):
                running = [start("-m", "loopback_auth", *words) for _ in CRASHES]
                for process, number in zip(running, CRASHES, strict=True):
                    await until(lambda: core_limit(process) == "0")  # noqa: B023 (called at once)
                    if words[0] == "login":
                        await until(browser.exists)
                    assert not os.WCOREDUMP(crash(process, number)), f"{words[0]} left a core dump"
        assert cores(tmp_path) == []
        assert_tight(loud, [])
        if not dumps:
            pytest.skip("nothing dumps core on this machine: only the limits were looked at")


@asynccontextmanager
async def said_in(path: Path) -> AsyncIterator[BinaryIO]:
    with path.open("ab") as file:
        yield file


def cores(folder: Path) -> list[Path]:
    return list(folder.rglob("core*"))


async def until(reached: Callable[[], bool]) -> None:
    """Wait half as long as a `token` waits for a lock."""
    for _ in range(500):
        if reached():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited in vain")


# -- what cannot be given away -----------------------------------------------------------------


async def test_no_option_takes_a_secret(tmp_path: Path) -> None:
    """No option of any command takes a secret's value; what is typed as if it did is refused and not repeated."""
    program = Program(tmp_path)
    taken = set()
    for command in ("login", "token", "status", "refresh", "logout", "api", "setup", "sandbox"):
        text = (await program.run(command, "--help")).stdout
        taken |= set(re.findall(r"--[\w-]*(?:secret|token|password|key|code|state|verifier)[\w-]* [A-Z]+", text))
    assert taken == {
        "--client-secret-file FILE",
        "--token-endpoint URL",
        "--token-endpoint-auth-method METHOD",
        "--private-key FILE",
        "--code-lifetime TIME",
        "--access-token-lifetime TIME",
    }
    for words in (
        "login --client-secret {}",
        "login --client-secret={}",
        "token --refresh-token={}",
        "login --token {}",
    ):
        ended = await program.run(*words.format(CLIENT_SECRET).split(" ", 2))
        assert ended.status == 2
        assert Search({"it": CLIENT_SECRET}).hits(ended.stdout + ended.stderr) == []
