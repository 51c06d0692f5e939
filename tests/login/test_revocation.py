"""`logout` where the server takes tokens back (RFC 7009)."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from loopback_auth import clock
from loopback_auth.grant import Grant, intent_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Intent, Journal
from loopback_auth.store.file import FileStore

from .program import Program
from .strict import StrictServer, once
from .visits import log_in

SECRET = "s3kr1t-of-the-client"


@dataclass
class Revoking:
    """A revocation endpoint that answers as it is told, and keeps what it was asked."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [200] * 4)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@asynccontextmanager
async def revoking() -> AsyncIterator[Revoking]:
    far = Revoking()

    async def revoke(request: web.Request) -> web.Response:
        far.asked.append((request.headers.get("Authorization", ""), once(await request.text())))
        return web.Response(status=far.answers[len(far.asked) - 1], text="s3kr1t-not-to-be-repeated")

    app = web.Application()
    app.router.add_post("/revoke", revoke)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    far.url = f"http://127.0.0.1:{runner.addresses[0][1]}/revoke"
    try:
        yield far
    finally:
        await runner.cleanup()


async def logged_in(program: Program, server: StrictServer, url: str) -> tuple[str, str]:
    """Log in at a server of one's own, and return what is stored: refresh and access token."""
    program.home.mkdir(mode=0o700)
    (program.home / "config.toml").write_text(
        f"[servers.mine]\nauthorization_endpoint = '{server.base}/authorize'\n"
        f"token_endpoint = '{server.base}/token'\nrevocation_endpoint = '{url}'\n"
        "[clients.acme]\nserver = 'mine'\nclient_id = 'client-1'\nclient_secret = { env = 'ACME' }\n"
    )
    program.environment["ACME"] = SECRET
    assert (await log_in(program, "--client", "acme")).status == 0
    stored = program.tokens()
    assert stored.refresh_token is not None
    return stored.refresh_token, stored.access_token


@pytest.fixture
async def confidential(program: Program) -> AsyncIterator[StrictServer]:
    async with StrictServer(client_secret=SECRET, method="client_secret_basic", secrets=program.secrets) as server:
        yield server


async def test_tokens_are_given_back(program: Program, confidential: StrictServer) -> None:
    """Refresh and access token are sent to the revocation endpoint, the client says who it is, and all copies go."""
    async with revoking() as far:
        refresh_token, access_token = await logged_in(program, confidential, far.url)
        ended = await program.run("logout")
        assert (ended.status, ended.stdout) == (0, "")
        assert ended.stderr == "Account default was removed from this computer. Its tokens were revoked.\n"
        basic = "Basic " + base64.b64encode(f"client-1:{SECRET}".encode()).decode()
        assert far.asked == [
            (basic, {"token": refresh_token, "token_type_hint": "refresh_token"}),
            (basic, {"token": access_token, "token_type_hint": "access_token"}),
        ]
        assert not any(access_token.encode() in content for content in program.files().values())


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([503, 503], "it answered HTTP 503"),
        ([400, 200], "it answered HTTP 400"),
        ([200, 400], "it answered HTTP 400"),
        ([302, 200], "it answered HTTP 302"),
    ],
)
async def test_a_server_that_does_not_take_them(
    program: Program, confidential: StrictServer, answers: list[int], why: str
) -> None:
    """What could not be revoked is said, the other token is tried, and the account is gone from here all the same."""
    async with revoking() as far:
        far.answers = answers
        tokens = await logged_in(program, confidential, far.url)
        ended = await program.run("logout", "-q")
        assert [asked["token"] for _, asked in far.asked] == [*tokens]
        assert ended.status == 0
        assert ended.stderr == (
            f"loopback-auth: warning: the server did not revoke the tokens of account default: {why}\n"
        )
        assert (await program.run("token")).status == 4


async def test_any_yes_will_do(program: Program, confidential: StrictServer) -> None:
    """A server that answers 204 has taken them too."""
    async with revoking() as far:
        far.answers = [204, 204]
        await logged_in(program, confidential, far.url)
        ended = await program.run("logout")
        assert (ended.status, ended.stderr.endswith("Its tokens were revoked.\n")) == (0, True)


async def test_a_server_that_is_not_there(program: Program, confidential: StrictServer) -> None:
    """Without the server, or without the client's secret, the tokens go from here, and what outlives that is said."""
    url = f"http://127.0.0.1:{program.free_port()}/revoke"
    await logged_in(program, confidential, url)
    ended = await program.run("logout")
    assert ended.status == 0
    assert "Copies of the access token work for another" in ended.stderr
    assert "did not revoke the tokens of account default: " in ended.stderr
    assert "cannot be reached" in ended.stderr
    assert (await log_in(program, "--client", "acme")).status == 0
    ended = await program.run("logout", environment={"ACME": ""})
    assert ended.status == 0
    assert "did not revoke the tokens of account default: the client_secret of client-1 is missing" in ended.stderr


async def test_where_they_may_go(program: Program, confidential: StrictServer) -> None:
    """A revocation endpoint is https, or http to this machine, like every address that tokens go to."""
    program.home.mkdir(mode=0o700)
    (program.home / "config.toml").write_text(
        f"[servers.mine]\nauthorization_endpoint = '{confidential.base}/authorize'\n"
        f"token_endpoint = '{confidential.base}/token'\nrevocation_endpoint = 'http://idp.example/revoke'\n"
    )
    ended = await program.run("login", "--server", "mine", "--client-id", "client-1")
    assert (ended.status, ended.errors) == (3, ["the revocation_endpoint is not protected: http://idp.example/revoke"])


def leave(journal: Journal, intent: Intent) -> None:
    """Be killed between an answer and the store."""
    journal.prove()
    journal.arm(intent)
    answer = {"access_token": "s3kr1t-newer-access", "refresh_token": "s3kr1t-newer-refresh", "expires_in": 3600}
    journal.stage(json.dumps(answer).encode())
    journal.sync()


async def test_what_a_killed_refresh_brought(program: Program, confidential: StrictServer) -> None:
    """Tokens that came and were not stored yet are the ones that work: they are given back before the older ones."""
    async with revoking() as far:
        refresh_token, access_token = await logged_in(program, confidential, far.url)
        store = Accounts(FileStore(str(program.home / "accounts")))
        account = store.load("default")
        assert account is not None
        with store.journal("default") as journal:
            leave(journal, Intent(generation=account.generation, digest=account.digest, armed=clock.now()))
        assert (await program.run("logout")).status == 0
        newer = ["s3kr1t-newer-refresh", "s3kr1t-newer-access"]
        assert [asked["token"] for _, asked in far.asked] == [*newer, refresh_token, access_token]
        assert sorted(program.files()) == ["accounts/default/lock", "config.toml"]


@pytest.mark.parametrize("first", [False, True])
async def test_what_a_killed_login_brought(program: Program, confidential: StrictServer, first: bool) -> None:
    """An account whose first login was killed with its tokens in hand can be logged out, as any other."""
    async with revoking() as far:
        await logged_in(program, confidential, far.url)
        store = Accounts(FileStore(str(program.home / "accounts")))
        account = store.load("default")
        assert account is not None
        grant = Grant(account="default", registration=account.registration, client_secret=account.client_secret)
        with store.login_journal("default") as journal:
            leave(journal, intent_of(grant, clock.now()))
        if first:
            (program.home / "accounts" / "default" / "tokens").unlink()
        ended = await program.run("logout")
        assert (ended.status, "Its tokens were revoked." in ended.stderr) == (0, True)
        assert [asked["token"] for _, asked in far.asked] == ["s3kr1t-newer-refresh", "s3kr1t-newer-access"]
        assert sorted(program.files()) == ["accounts/default/lock", "config.toml"]
        assert (await program.run("logout")).status == 4


async def test_a_copy(program: Program, confidential: StrictServer) -> None:
    """Whoever removes a copy of an account does not end the account that it was copied from."""
    async with revoking() as far:
        await logged_in(program, confidential, far.url)
        shutil.copytree(program.home / "accounts" / "default", program.home / "accounts" / "copy")
        ended = await program.run("logout", "copy")
        assert ended.status == 0
        assert ended.stderr == (
            "Account copy was removed from this computer. "
            "It was copied here: its tokens were not revoked, the place it came from may use them.\n"
        )
        assert far.asked == []
        assert (await program.run("refresh", "--force")).status == 0
        assert not (program.home / "accounts" / "copy" / "tokens").exists()


async def test_one_of_many_that_cannot_be_read(program: Program, confidential: StrictServer) -> None:
    """`logout --all` goes on after an account that it cannot remove, and says so; one that is damaged is removed."""
    async with revoking() as far:
        await logged_in(program, confidential, far.url)
        accounts = program.home / "accounts"
        for name in ("a", "b"):
            shutil.copytree(accounts / "default", accounts / name)
        (accounts / "a").chmod(0o755)
        (accounts / "b" / "tokens").write_bytes(b"damaged")
        ended = await program.run("logout", "--all")
        assert (ended.status, len(ended.errors), len(far.asked)) == (8, 1, 2)
        assert "can be entered by other users" in ended.errors[0]
        assert "Account b was removed from this computer. What it held could not be read, so nothing was revoked." in (
            ended.stderr.splitlines()
        )
        assert [name for name in ("a", "b", "default") if (accounts / name / "tokens").exists()] == ["a"]
