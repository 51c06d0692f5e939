"""The whole life of an account, at the sandbox: log in, print, refresh, log in again, forget."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import stat
import time
from pathlib import Path

import pytest

from loopback_auth.sandbox import Sandbox
from tests.walker import Walker

from .certificates import fingerprint, make_certificate
from .program import Program
from .visits import few_at_a_time, log_in_at_sandbox, visit
from .wire import ask

KEYS = {
    "account", "server", "client_id", "company", "state", "scope",
    "expires_at", "expires_in", "refreshed_at", "generation", "store",
    "refresh_token_age", "idle_days_left", "last_error", "client_secret", "sealed",
    "sealed_with",
}  # fmt: skip
CAFE_ROMA = {"id": "4711", "name": "Cafe Roma"}


async def test_fresh_machine(program: Program) -> None:
    """`login --server sandbox` works on a fresh machine: the tokens are stored, private, and the person is told."""
    async with program.start("login", "--server", "sandbox") as running:
        walker = await visit(await running.start_url())
        ended = await running.end()
    assert (ended.status, ended.stdout) == (0, "")
    assert (walker.status, "You are logged in" in walker.text) == (200, True)
    assert "Logged in to Cafe Roma (company 4711), stored as account default" in ended.stderr
    stored = program.home / "accounts" / "default"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (stored, *stored.iterdir())}
    assert modes == {"default": 0o700, "tokens": 0o600, "lock": 0o600}


async def test_redirect_uris(program: Program, sandbox: Sandbox) -> None:
    """Every kind of loopback redirect URI is listened on as written, with any free port where it names port 0."""
    fixed = program.free_port()
    uris = {
        "ipv4": "http://127.0.0.1:0/",
        "ipv6": "http://[::1]:0/",
        "name": "http://localhost:0/",
        "no-path": "http://127.0.0.1:0",
        "path": "http://127.0.0.1:0/some/path",
        "port": f"http://127.0.0.1:{fixed}/",
    }

    async def through(name: str, uri: str) -> tuple[str, str]:
        async with program.start("login", name, "--server", "sandbox", "--redirect-uri", uri) as running:
            walker = await visit(await running.start_url())
            assert (await running.end()).status == 0, name
        redirect = walker.history[-2][1].partition("?")[0]
        port = redirect.split("/")[2].rpartition(":")[2]
        return name, redirect.replace(f":{port}", ":0") if int(port) != fixed else redirect

    reached = dict(await few_at_a_time(through(*one) for one in uris.items()))
    assert reached == {**uris, "no-path": "http://127.0.0.1:0"}


async def test_both_families(program: Program, sandbox: Sandbox) -> None:
    """A redirect URI at localhost is answered on 127.0.0.1 and on [::1], one at an address there alone."""
    for uri, families in (("http://localhost:0/", 2), ("http://127.0.0.1:0/", 1), ("http://[::1]:0/", 1)):
        async with program.start("login", "--server", "sandbox", "--redirect-uri", uri) as running:
            port = int((await running.start_url()).split("/")[2].rpartition(":")[2])
            answers = []
            for host in ("127.0.0.1", "[::1]"):
                try:
                    answer = await ask(f"http://{host}:{port}/nothing", host=f"{uri[7:-3]}:{port}")
                except ConnectionRefusedError:
                    continue
                answers.append(answer.status)
        assert answers == [404] * families, uri


async def test_https(program: Program, sandbox: Sandbox) -> None:
    """An https redirect is served with a leaf made here, for this machine's names alone, and kept for the next time."""
    port = program.free_port()
    leaf = program.home / "certificate" / "localhost.pem"
    seen = set()
    for _ in range(2):
        async with program.start(
            "login", "--server", "sandbox", "--redirect-uri", f"https://localhost:{port}/", "--force", "-v"
        ) as running:
            walker = await visit(await running.start_url(), ca_file=leaf)
            ended = await running.end()
        assert (ended.status, walker.status) == (0, 200)
        assert walker.url.startswith(f"https://localhost:{port}/")
        assert "The browser will warn about the certificate of localhost" in " ".join(ended.stderr.split())
        assert fingerprint(leaf) in ended.stderr
        seen.add(leaf.read_bytes())
    assert len(seen) == 1
    assert stat.S_IMODE(leaf.stat().st_mode) == 0o600
    assert stat.S_IMODE(leaf.parent.stat().st_mode) == 0o700


async def test_own_certificate(program: Program, sandbox: Sandbox, tmp_path: Path) -> None:
    """With `--certificate` and `--private-key` that certificate is served, and none is made."""
    certificate, private_key = make_certificate(tmp_path)
    async with program.start(
        "login", "--server", "sandbox", "--redirect-uri", f"https://localhost:{program.free_port()}/some/path",
        "--certificate", str(certificate), "--private-key", str(private_key),
    ) as running:  # fmt: skip
        walker = await visit(await running.start_url(), ca_file=certificate)
        ended = await running.end()
    assert (ended.status, walker.status) == (0, 200)
    assert "will warn" not in " ".join(ended.stderr.split())
    assert not (program.home / "certificate").exists()


async def test_tls_version(program: Program, sandbox: Sandbox) -> None:
    """The https redirect server speaks TLS 1.2 and newer only."""
    async with program.start(
        "login", "--server", "sandbox", "--redirect-uri", f"https://localhost:{program.free_port()}/"
    ) as running:
        url = await running.start_url()
        tls = ssl.create_default_context(cafile=program.home / "certificate" / "localhost.pem")
        tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        tls.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(url, tls=tls)
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await ask(url, tls=tls)).status == 303


async def test_next_without_a_sandbox(program: Program) -> None:
    """The sandbox inside a login ends with it: what is to be typed next brings one along, and works."""
    for account in ((), ("cafe-roma",)):
        ended = await log_in_at_sandbox(program, *account)
        (words,) = re.findall(r"^Next: loopback-auth (.*)$", ended.stderr, re.MULTILINE)
        following = await program.run(*words.split())
        assert (following.status, following.json[0]["name"]) == (0, "Cafe Roma"), following


async def test_next_where_the_sandbox_stays(program: Program, sandbox: Sandbox) -> None:
    """Where the sandbox runs by itself curl reaches it, too, and it is asked nothing for that line."""
    ended = await log_in_at_sandbox(program)
    url = f"http://127.0.0.1:{program.sandbox_port}/resto/rest/core/company"
    assert f'\nNext: curl -H "Authorization: Bearer $(loopback-auth token)" {url}\n' in ended.stderr


async def test_print_token(program: Program) -> None:
    """`--print-token` prints the access token alone, and so does `token` afterwards, with no other word anywhere."""
    ended = await log_in_at_sandbox(program, "--print-token")
    assert ended.stdout == program.tokens().access_token + "\n"
    again = await program.run("token")
    assert (again.status, again.stdout, again.stderr) == (0, ended.stdout, "")


async def test_json(program: Program) -> None:
    """`--json` of login and status has exactly the documented members, and nothing else is on stdout."""
    ended = await log_in_at_sandbox(program, "--json")
    described = ended.json
    assert set(described) == KEYS
    now = time.time()
    assert {name: described[name] for name in ("account", "server", "client_id", "company", "state", "generation")} == {
        "account": "default",
        "server": "sandbox",
        "client_id": "sandbox",
        "company": CAFE_ROMA,
        "state": "ok",
        "generation": 1,
    }
    assert described["store"] == f"file:{program.home / 'accounts'}"
    assert now - 60 < described["refreshed_at"] <= now
    assert now + 3500 < described["expires_at"] <= now + 3600
    assert 3500 < described["expires_in"] <= 3600
    one = (await program.run("status", "default", "--json")).json
    assert {**one, "expires_in": 0} == {**described, "expires_in": 0}
    everything = (await program.run("status", "--json")).json
    assert [set(each) for each in everything] == [KEYS]


async def test_status(program: Program, sandbox: Sandbox) -> None:
    """`status` shows every account and where the secrets are; `list` is the same; one account is shown whole."""
    nothing = await program.run("status")
    assert (nothing.status, nothing.stdout) == (0, "")
    await few_at_a_time(log_in_at_sandbox(program, name, user=name) for name in ("cafe-roma", "bistro-lyon"))
    table = await program.run("status")
    rows = [line.split() for line in table.stdout.splitlines()]
    assert [row[0] for row in rows[1:3]] == ["bistro-lyon", "cafe-roma"]
    assert ["Bistro" in rows[1], "Roma" in rows[2]] == [True, True]
    assert rows[-1] == ["secrets", "are", "in", f"file:{program.home / 'accounts'}"]
    same = await program.run("list")
    assert re.sub(r"\d+ s old", "", same.stdout) == re.sub(r"\d+ s old", "", table.stdout)
    one = (await program.run("status", "cafe-roma")).stdout.splitlines()
    assert "company:       Cafe Roma (company 4711)" in one
    assert "generation:    1" in one
    assert (await program.run("status", "--check")).status == 0
    assert (await program.run("status", "nobody")).status == 4


async def test_refresh(program: Program) -> None:
    """`refresh` leaves a good token alone, `--force` replaces both tokens, and `token` prints the new one."""
    await log_in_at_sandbox(program)
    assert (await program.run("token", "--min-validity", "2h")).stdout == program.tokens().access_token + "\n"
    first = program.tokens()
    assert first.members["generation"] == 2
    still_good = await program.run("refresh")
    assert (still_good.status, program.tokens()) == (0, first)
    assert "the access token is still good" in still_good.stderr
    forced = await program.run("refresh", "--force", "--json")
    assert (forced.status, set(forced.json), forced.json["generation"]) == (0, KEYS, 3)
    second = program.tokens()
    assert not first.secrets & second.secrets
    assert (await program.run("token")).stdout == second.access_token + "\n"


async def test_logout(program: Program, sandbox: Sandbox) -> None:
    """`logout` forgets one account and says what outlives that; `logout --all` forgets all of them."""
    await few_at_a_time(log_in_at_sandbox(program, name) for name in ("default", "b", "c"))
    first = program.tokens()
    ended = await program.run("logout")
    assert (ended.status, ended.stdout) == (0, "")
    assert "removed" in ended.stderr
    assert "copies of the access token work for another" in ended.stderr
    assert (await program.run("logout")).status == (await program.run("token")).status == 4
    assert [one["account"] for one in (await program.run("status", "--json")).json] == ["b", "c"]
    assert (await program.run("logout", "b", "--all")).status == 2
    assert (await program.run("logout", "--all")).status == 0
    assert (await program.run("status", "--json")).json == []
    assert not any(secret.encode() in content for secret in first.secrets for content in program.files().values())


async def test_logged_in_already(program: Program) -> None:
    """A second login finds the token good: no browser, exit 0, and `--print-token` prints it."""
    await log_in_at_sandbox(program)
    stored = program.files()
    ended = await program.run("login", "--server", "sandbox")
    assert (ended.status, ended.stdout) == (0, "")
    assert "logged in already" in ended.stderr
    assert (await program.run("login", "--print-token")).stdout == program.tokens().access_token + "\n"
    assert (await program.run("login", "--json", "-q")).json["generation"] == 1
    assert program.files() == stored


async def test_force(program: Program) -> None:
    """`login NAME --force` needs no flags: it logs in as before, to newer tokens, and counts on."""
    uri = f"http://localhost:{program.free_port()}/some/path"
    await log_in_at_sandbox(program, "cafe-roma", "--redirect-uri", uri)
    before = program.tokens("cafe-roma")
    async with program.start("login", "cafe-roma", "--force", "--json") as running:
        walker = await visit(await running.start_url())
        ended = await running.end()
    assert (ended.status, ended.json["generation"], ended.json["company"]) == (0, 2, CAFE_ROMA)
    assert walker.history[-2][1].startswith(f"{uri}?")
    assert not before.secrets & program.tokens("cafe-roma").secrets


async def test_another_server(program: Program) -> None:
    """An account is not replaced by one of another server or client, `--yes` or not, unless `--force` says so."""
    await log_in_at_sandbox(program)
    stored = program.files()
    other = ("--authorization-endpoint", "https://idp.example/a", "--token-endpoint", "https://idp.example/t")
    for flags in ((*other, "--client-id", "x"), (*other, "--client-id", "x", "--yes")):
        ended = await program.run("login", *flags)
        assert (ended.status, program.files()) == (3, stored)
        assert ended.errors == ["account default belongs to client sandbox at sandbox"]
        assert ended.hints == ["log in under another account name, or replace it with --force"]


async def test_production(program: Program) -> None:
    """Off a terminal a production login needs `--yes`: without it nothing happens at all."""
    ended = await program.run(
        "login", "--server", "lightspeed-l-production", "--client-id", "x",
        environment={"LOOPBACK_AUTH_CLIENT_SECRET": "s3kr1t-"},
    )  # fmt: skip
    assert ended.status == 3
    assert ended.errors == ["--yes is missing: Lightspeed Restaurant L-Series (production) holds real restaurants"]
    assert len(ended.hints) == 1
    assert program.files() == {}


async def test_account_of_the_environment(program: Program) -> None:
    """Without ACCOUNT the one that LOOPBACK_AUTH_ACCOUNT names is meant, by every command."""
    program.environment["LOOPBACK_AUTH_ACCOUNT"] = "cafe-roma"
    await log_in_at_sandbox(program)
    assert os.listdir(program.home / "accounts") == ["cafe-roma"]
    assert (await program.run("token")).stdout == program.tokens("cafe-roma").access_token + "\n"
    assert (await program.run("refresh", "--force", "-q")).stderr == ""
    assert (await program.run("logout")).status == 0
    assert (await program.run("token", "default")).status == 4


async def test_wrong_password(program: Program) -> None:
    """A wrong password, and then the right one, is between person and server: the login waits."""
    async with program.start("login", "--server", "sandbox") as running:
        walker = Walker()
        await asyncio.to_thread(walker.open, await running.start_url())
        await asyncio.to_thread(walker.log_in, "cafe-roma", "wrong")
        assert (walker.status, running.runs) == (401, True)
        await asyncio.to_thread(walker.log_in, "cafe-roma", "espresso")
        await asyncio.to_thread(walker.decide, "allow")
        assert walker.status == 200
        assert (await running.end()).status == 0


async def test_deny(program: Program) -> None:
    """Deny ends the login with 6, stores nothing, and the page does not call it a failure."""
    async with program.start("login", "--server", "sandbox") as running:
        walker = await visit(await running.start_url(), decision="deny")
        ended = await running.end()
    assert (ended.status, len(ended.errors)) == (6, 1)
    assert ended.hints == ["nothing was stored; run the login again and click Allow"]
    assert (walker.status, "Access was not allowed" in walker.text) == (200, True)
    assert not list(program.home.glob("accounts/*/tokens"))


async def test_printed_address(program: Program) -> None:
    """Where no browser can be opened, or may be, the address is printed, and works in a browser opened by hand."""
    for flags, browser, why in (
        (("--no-browser",), None, "--no-browser was given"),
        (("-q",), "/nowhere/browser", "/nowhere/browser did not start: no such file or directory"),
        ((), "'unclosed", "\\$BROWSER is not a command line"),
    ):
        environment = {} if browser is None else {"BROWSER": browser}
        async with program.start("login", "--server", "sandbox", "--force", *flags, environment=environment) as running:
            said = await running.says(rf"\({why}\)[\s\S]*\n +(http://\S+/start/\S+)\n")
            assert (await visit(said[1])).status == 200
            assert (await running.end()).status == 0
            assert not running.was_opened
