"""`logout` where the server takes tokens back (RFC 7009)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from .program import Program
from .strict import StrictServer, once
from .visits import log_in

SECRET = "s3kr1t-of-the-client"


@dataclass
class Revoking:
    """A revocation endpoint that answers as it is told, and keeps what it was asked."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [200, 200])
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
    [([503], "it answered HTTP 503"), ([200, 400], "it answered HTTP 400"), ([302], "it answered HTTP 302")],
)
async def test_a_server_that_does_not_take_them(
    program: Program, confidential: StrictServer, answers: list[int], why: str
) -> None:
    """What could not be revoked is said; the account is gone from here all the same."""
    async with revoking() as far:
        far.answers = answers
        await logged_in(program, confidential, far.url)
        ended = await program.run("logout", "-q")
        assert ended.status == 0
        assert ended.stderr == (
            f"loopback-auth: warning: the server did not revoke the tokens of account default: {why}\n"
        )
        assert (await program.run("token")).status == 4


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
