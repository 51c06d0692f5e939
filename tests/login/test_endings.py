"""Ways a login ends before a code was spent: too late, port taken, no place to store, a flag or file that is wrong."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback_auth.sandbox import Sandbox

from ..ended import Ended
from .program import Program
from .strict import StrictServer
from .visits import few_at_a_time
from .wire import arrive, ask, to_redirect

SANDBOX = ("login", "--server", "sandbox", "--timeout", "60s")


async def test_time_out(program: Program, server: StrictServer) -> None:
    """When no redirect comes in time the login ends with 5, not before, and says how to get more of it."""
    begun = time.monotonic()
    async with program.start("login", *server.flags, "--timeout", "1s") as running:
        start = await running.start_url()
        answer = await ask((await to_redirect(start)).replace("state=", "state=x"))
        assert answer.status == 400
        ended = await running.end()
    assert time.monotonic() - begun > 1
    assert (ended.status, len(ended.errors)) == (5, 1)
    assert "--timeout" in ended.hints[0]
    assert server.token_requests == []
    assert not list(program.home.glob("accounts/*/tokens"))


async def test_last_moment(program: Program, server: StrictServer) -> None:
    """The time-out is for the person: a redirect in time is exchanged however long that takes."""
    server.may_answer.clear()
    async with program.start("login", *server.flags, "--timeout", "2s") as running:
        page = asyncio.create_task(arrive(await to_redirect(await running.start_url())))
        await server.asked.wait()
        await asyncio.sleep(2.2)
        server.may_answer.set()
        assert (await page).status == 200
        assert (await running.end()).status == 0


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("127.0.0.1", "http://127.0.0.1:{}/"),
        ("127.0.0.1", "http://localhost:{}/"),
        ("::1", "https://localhost:{}/"),
        ("0.0.0.0", "http://127.0.0.1:{}/"),
    ],
)
async def test_port_taken(program: Program, sandbox: Sandbox, address: str, uri: str) -> None:
    """A port that another program listens on, on either family, is exit 3, and the program is named."""
    with socket.create_server(
        (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=1
    ) as held:
        port = held.getsockname()[1]
        ended = await program.run(*SANDBOX, "--redirect-uri", uri.format(port))
    assert ended.status == 3
    (error,) = ended.errors
    assert f"port {port} of " in error
    assert f"(process {os.getpid()})" in error
    assert len(ended.hints) >= 1


async def test_port_just_left(program: Program, sandbox: Sandbox) -> None:
    """A port whose last connections still linger is free."""
    port = program.free_port()
    with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = server.accept()
        accepted.close()  # first: it is this side that lingers (TIME_WAIT)
        client.recv(1)
    async with program.start(*SANDBOX, "--redirect-uri", f"http://127.0.0.1:{port}/") as running:
        assert f":{port}/" in await running.start_url()


ENDPOINTS = ("--authorization-endpoint", "https://idp.example/a", "--token-endpoint", "https://idp.example/t")
ANY = (*ENDPOINTS, "--client-id", "x")
HTTPS = (*ANY, "--redirect-uri", "https://localhost:0/")


def at(authorization_endpoint: str) -> tuple[str, ...]:
    return (*ANY, "--authorization-endpoint", authorization_endpoint)


def to(redirect_uri: str) -> tuple[str, ...]:
    return (*ANY, "--redirect-uri", redirect_uri)


WRONG: dict[str, tuple[tuple[str, ...], str, str]] = {
    # the flags → words of the error, words of the hint
    "no server": (("--server", "sandbax"), "there is no server called sandbax", "did you mean sandbox?"),
    "a preset": (("--server", "lightspeed-staging"), "called lightspeed-staging", "did you mean lightspeed-l-staging?"),
    "no client": (("--client", "acme"), "there is no client called acme", ""),
    "one endpoint": (ANY[2:], "--authorization-endpoint is missing", "both endpoints"),
    "http": (at("http://idp.example/a"), "the authorization_endpoint is not protected", "use https"),
    "no url": (at("idp.example"), "the authorization_endpoint is not a URL", "https://"),
    "a quote": (at('https://idp.example/"&calc'), "holds a character that no URL may hold", ""),
    "a line break": (at("https://idp.example/\na"), "holds a character that no URL may hold", ""),
    "redirect elsewhere": (to("http://example.com:8000/"), "does not come back to this machine", "localhost"),
    "no CA file": ((*ANY, "--ca-file", "/nowhere/ca.pem"), "/nowhere/ca.pem cannot be read", "--ca-file"),
    "no secret file": (
        (*ANY, "--client-secret-file", "/nowhere/s"),
        "/nowhere/s cannot be read",
        "--client-secret-file",
    ),
    "an empty secret file": ((*ANY, "--client-secret-file", "/dev/null"), "/dev/null is empty", "--client-secret-file"),
    "no secret": ((*ANY, "--token-endpoint-auth-method", "client_secret_post"), "of x is missing", "LOOPBACK_AUTH"),
    "nothing on stdin": ((*ANY, "--client-secret-stdin"), "from stdin is empty", "pipe it in"),
    "a space copied": ((*ENDPOINTS, "--client-id", "x "), "begins or ends with a space", "copied"),
    "an empty certificate": ((*HTTPS, "--certificate", "/dev/null"), "no certificate and its private key", "PEM"),
}


async def test_wrong_flags(program: Program) -> None:
    """What cannot work is exit 3 with one error and a hint, before a browser opens and without a change on disk."""

    async def run(name: str) -> Ended:
        return await program.run("login", *WRONG[name][0], "--timeout", "5s", stdin=b"\n")

    for name, ended in zip(WRONG, await few_at_a_time(map(run, WRONG)), strict=True):
        _, error, hint = WRONG[name]
        assert (ended.status, ended.stdout, len(ended.errors)) == (3, "", 1), (name, ended)
        assert error in ended.errors[0], (name, ended)
        assert not hint or any(hint in one for one in ended.hints), (name, ended)
        assert all(form(line) for line in ended.stderr.splitlines()), (name, ended)
    assert program.files() == {}


def form(line: str) -> bool:
    """`loopback-auth: error: …` and `hint: …`; lower case unless a name begins it, no full stop."""
    return line.startswith(("loopback-auth: error: ", "loopback-auth: hint: ")) and not line.endswith(".")


USAGE: dict[str, tuple[str, ...]] = {
    "no such command": ("lgoin",),
    "no such flag": ("login", "--sever", "sandbox"),
    "a second account": ("login", "a", "b"),
    "both outputs": ("login", "--server", "sandbox", "--print-token", "--json"),
    "no such method": ("login", "--server", "sandbox", "--token-endpoint-auth-method", "private_key_jwt"),
    "a path": ("login", "../evil", "--server", "sandbox"),
    "a dash": ("login", "--server", "sandbox", "--", "-x"),
    "a line break": ("login", "a\nb", "--server", "sandbox"),
    "an escape": ("status", "\x1b[31m"),
    "too long": ("login", "a" * 65, "--server", "sandbox"),
    "empty": ("login", "", "--server", "sandbox"),
}


async def test_usage(program: Program) -> None:
    """Wrong usage, account names included, is exit 2 in the form of every other error, with a hint, in plain ASCII."""
    ends = await few_at_a_time(program.run(*arguments) for arguments in USAGE.values())
    for name, ended in zip(USAGE, ends, strict=True):
        assert (ended.status, ended.stdout, len(ended.errors)) == (2, "", 1), (name, ended)
        assert ended.hints, (name, ended)
        assert all(form(line) for line in ended.stderr.splitlines()), (name, ended)
        assert ended.stderr.isascii(), (name, ended)
        assert "\x1b" not in ended.stderr, (name, ended)
    assert program.files() == {}


async def test_account_name_of_the_environment(program: Program) -> None:
    """LOOPBACK_AUTH_ACCOUNT is held to the same rule as a name that is typed."""
    ended = await program.run(*SANDBOX, environment={"LOOPBACK_AUTH_ACCOUNT": "../evil"})
    assert (ended.status, program.files()) == (2, {})


SECRET = 'client_secret = "s3kr1t-in-the-config"'
CONFIGS: dict[str, tuple[str, str, str]] = {
    # config.toml → a word of the error, a word of the hint
    "an unknown key": ("[clients.a]\nclientid = 'x'", "[clients.a]", "did you mean client_id?"),
    "an unknown server key": (
        "[servers.a]\nauthorization_endpoint = 'https://a/'\ntoken_endpoint = 'https://a/'\ntokn = 1",
        "unknown key tokn",
        "",
    ),
    "an unknown table": ("[client.a]\nclient_id = 'x'", "unknown key client", "did you mean clients?"),
    "a wrong type": ("[clients.a]\nclient_id = 7", "client_id is not text", ""),
    "not TOML": ("[clients.a\n" + SECRET, "is not TOML", ""),
    "a loose secret": (f"[clients.a]\nclient_id = 'x'\n{SECRET}", "can be read by other users", "chmod 600"),
    "a strange secret": ("[clients.a]\nclient_secret = { fiel = 's3kr1t-' }", "fiel", ""),
    "http elsewhere": (
        "[servers.a]\nauthorization_endpoint = 'http://a.example/'\ntoken_endpoint = 'https://a.example/'",
        "not protected",
        "https",
    ),
    "no sandbox port": ("[sandbox]\nport = 70000", "70000", "65535"),
}


async def test_wrong_config(program: Program) -> None:
    """A config.toml that is wrong anywhere is exit 3, says where, shows no secret of it, and stays as it was."""
    del program.environment["LOOPBACK_AUTH_SANDBOX_PORT"]

    async def run(name: str) -> Ended:
        home = program.folder / name.replace(" ", "-")
        home.mkdir()
        config = home / "config.toml"
        config.write_text(CONFIGS[name][0])
        config.chmod(0o644)
        before = config.read_bytes()
        ended = await program.run("login", "--client", "a", environment={"LOOPBACK_AUTH_HOME": str(home)})
        assert [path.name for path in home.iterdir()] == ["config.toml"]
        assert config.read_bytes() == before
        return ended

    for name, ended in zip(CONFIGS, await few_at_a_time(map(run, CONFIGS)), strict=True):
        _, error, hint = CONFIGS[name]
        assert (ended.status, len(ended.errors)) == (3, 1), (name, ended)
        assert error in ended.errors[0], (name, ended)
        assert not hint or any(hint in one for one in ended.hints), (name, ended)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB without any room left."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root may mount, and not in every container")
    try:
        (folder / "filler").write_bytes(b"\0" * 4096 * 15)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_full_disk(program: Program, server: StrictServer, full: Path) -> None:
    """No room for the tokens is exit 8 before a browser opens: no code is wasted on a full disk."""
    ended = await program.run("login", *server.flags, environment={"LOOPBACK_AUTH_STORE": f"file:{full}/accounts"})
    assert (ended.status, len(ended.errors)) == (8, 1)
    assert "no space left on device" in ended.errors[0]
    assert [folder[2] for folder in os.walk(full)] == [["filler"], [], []]


async def test_file_size_limit(program: Program, server: StrictServer) -> None:
    """A limit that no file may grow beyond (ulimit -f) is found before a browser opens: exit 8."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    ended = await program.run("login", *server.flags, before=limit)
    assert (ended.status, len(ended.errors)) == (8, 1)
    assert "file too large" in ended.errors[0]
    assert program.files() == {}


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
async def test_read_only_folder(program: Program, server: StrictServer) -> None:
    """A folder that may not be written to is exit 8 before a browser opens."""
    accounts = program.home / "accounts"
    accounts.mkdir(parents=True, mode=0o700)
    accounts.chmod(0o500)
    ended = await program.run("login", *server.flags)
    accounts.chmod(0o700)
    assert (ended.status, len(ended.errors)) == (8, 1)
    assert "permission denied" in ended.errors[0]


@pytest.mark.parametrize("what", ["file", "link", "loose", "fifo"])
async def test_unsafe_folder(program: Program, server: StrictServer, tmp_path: Path, what: str) -> None:
    """An accounts folder that is none, is a link, or is open to others is exit 8 before a browser opens."""
    accounts = program.home / "accounts"
    program.home.mkdir()
    match what:
        case "file":
            accounts.touch(0o600)
        case "fifo":
            os.mkfifo(accounts, 0o600)
        case "link":
            (tmp_path / "elsewhere").mkdir(0o700)
            accounts.symlink_to(tmp_path / "elsewhere")
        case "loose":
            accounts.mkdir()
            accounts.chmod(0o755)
    ended = await program.run("login", *server.flags)
    assert (ended.status, len(ended.errors)) == (8, 1)
    if what == "loose":
        assert ended.hints == [f"chmod 700 {accounts}"]
        accounts.chmod(0o700)
