"""Any authorization server, by flags alone: what is sent to it, and what its answers mean."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from urllib.parse import quote, urlsplit

import pytest
from aiohttp import web

from .program import Program
from .strict import StrictServer, once, s256
from .visits import few_at_a_time, log_in, log_in_and_see
from .wire import arrive, ask, to_redirect

CODE = "s3kr1t-code-1-~._%2B%2F%3D"


async def test_authorization_request(program: Program, server: StrictServer) -> None:
    """The authorization request is this one, byte for byte, with 256 fresh bits of state and an S256 challenge."""
    port = program.free_port()
    redirect_uri = f"http://127.0.0.1:{port}/some/path"
    for _ in range(2):
        flags = ("--redirect-uri", redirect_uri, "--scope", "orders:read a&b", "--force")
        assert (await log_in(program, *server.flags, *flags)).status == 0
    states, challenges = ({once(sent)[name] for sent in server.authorization_requests} for name in _FRESH)
    assert len(states) == len(challenges) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", one) for one in states | challenges)
    for sent in server.authorization_requests:
        assert sent == (
            f"response_type=code&client_id=client-1&redirect_uri={quote(redirect_uri, safe='')}"
            f"&scope=orders%3Aread+a%26b&state={once(sent)['state']}"
            f"&code_challenge={once(sent)['code_challenge']}&code_challenge_method=S256"
        )


_FRESH = ("state", "code_challenge")


async def test_token_request(program: Program, server: StrictServer) -> None:
    """A public client's token request is this one, byte for byte, and there is only one."""
    redirect_uri = f"http://127.0.0.1:{program.free_port()}/"
    assert (await log_in(program, *server.flags, "--redirect-uri", redirect_uri)).status == 0
    (asked,) = server.token_requests
    verifier = asked.parameters["code_verifier"]
    assert s256(verifier) == once(server.authorization_requests[0])["code_challenge"]
    assert asked.body == (
        f"grant_type=authorization_code&redirect_uri={quote(redirect_uri, safe='')}"
        f"&code_verifier={verifier}&code={CODE}&client_id=client-1"
    )
    agent = asked.headers.pop("User-Agent")
    assert "loopback" not in agent
    assert asked.headers == {
        "Host": urlsplit(server.base).netloc,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(asked.body)),
    }


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_client_authentication(program: Program, server: StrictServer, method: str) -> None:
    """Id and secret arrive in the one way that was asked for, whatever characters they are made of."""
    server.client_id, server.client_secret, server.method = "client:1 +%", "s3kr1t-:ü%+ &=", method
    program.environment["LOOPBACK_AUTH_CLIENT_SECRET"] = server.client_secret
    flags = () if method == "client_secret_basic" else ("--token-endpoint-auth-method", method)
    assert (await log_in(program, *server.flags, *flags)).status == 0
    assert (await program.run("refresh", "--force")).status == 0
    id_, secret = "client%3A1+%2B%25", "s3kr1t-%3A%C3%BC%25%2B+%26%3D"
    for asked in server.token_requests:
        if method == "client_secret_basic":
            credentials = base64.b64encode(f"{id_}:{secret}".encode()).decode()
            assert asked.headers["Authorization"] == f"Basic {credentials}"
        else:
            assert asked.body.endswith(f"&client_id={id_}&client_secret={secret}")
    assert [asked.parameters["grant_type"] for asked in server.token_requests] == [
        "authorization_code",
        "refresh_token",
    ]


async def test_issuer(program: Program, server: StrictServer) -> None:
    """A redirect with another iss than `--issuer` is not ours; the login goes on until the right one comes."""
    server.iss = "https://right.example"
    async with program.start("login", *server.flags, "--issuer", "https://right.example") as running:
        redirect = await to_redirect(await running.start_url())
        wrong = redirect.replace("right.example", "wrong.example")
        assert (await ask(wrong)).status == 400
        assert (await ask(redirect + "&iss=https%3A%2F%2Fright.example")).status == 400
        assert (await ask(redirect + "&iss=")).status == 400
        assert server.token_requests == []
        assert (await arrive(redirect)).status == 200
        ended = await running.end()
    assert ended.status == 0
    assert "its iss is https://wrong.example, and this login asked https://right.example" in ended.stderr


async def test_no_issuer(program: Program, server: StrictServer) -> None:
    """No iss is missed where none was promised, and one that nobody configured an issuer for says nothing."""
    assert (await log_in(program, *server.flags, "--issuer", "https://right.example")).status == 0
    server.iss = "https://whatever.example"
    assert (await log_in(program, *server.flags, "--force")).status == 0


async def test_promised_issuer(program: Program, server: StrictServer) -> None:
    """Where the server's configuration promises an iss, a redirect without one is not ours."""
    program.home.mkdir()
    (program.home / "config.toml").write_text(
        f"[servers.mine]\nauthorization_endpoint = '{server.base}/authorize'\ntoken_endpoint = '{server.base}/token'\n"
        "issuer = 'https://right.example'\nauthorization_response_iss_parameter_supported = true\n"
    )
    async with program.start("login", "--server", "mine", "--client-id", server.client_id) as running:
        redirect = await to_redirect(await running.start_url())
        assert (await ask(redirect)).status == 400
        assert (await arrive(redirect + "&iss=https%3A%2F%2Fright.example")).status == 200
        assert (await running.end()).status == 0


REFUSALS = {
    "access_denied": (6, 200, "Access was not allowed"),
    "server_error": (9, 502, "The server did not allow the login"),
    "temporarily_unavailable": (9, 502, "The server did not allow the login"),
    "invalid_request": (3, 502, "The server did not allow the login"),
    "unauthorized_client": (3, 502, "The server did not allow the login"),
    "unsupported_response_type": (3, 502, "The server did not allow the login"),
    "invalid_scope": (3, 502, "The server did not allow the login"),
    "of_its_own": (3, 502, "The server did not allow the login"),
}


async def test_refusals(program: Program) -> None:
    """An error in the redirect ends the login with its own exit status and page; nothing is spent or stored."""

    async def refuse(error: str) -> tuple[int, int, str]:
        async with StrictServer(secrets=program.secrets) as server:
            server.error = {"error": error, "error_description": f'because "{error}"'}
            ended, page = await log_in_and_see(program, error, *server.flags)
        assert server.token_requests == []
        assert f'({error}: because "{error}")' in ended.errors[0]
        assert len(ended.errors) == 1
        assert ended.hints
        return ended.status, page.status, page.title

    assert dict(zip(REFUSALS, await few_at_a_time(map(refuse, REFUSALS)), strict=True)) == REFUSALS
    assert not list(program.home.glob("accounts/*/tokens"))


def _json(status: int, text: str, **headers: str) -> Callable[[], web.Response]:
    return lambda: web.Response(
        status=status,
        text=text,
        content_type="application/json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


ANSWERS: dict[str, tuple[Callable[[], web.Response | None], int]] = {
    "invalid-grant": (_json(400, '{"error": "invalid_grant", "error_description": "spent"}'), 4),
    "invalid-client": (_json(401, '{"error": "invalid_client"}'), 3),
    "invalid-request": (_json(400, '{"error": "invalid_request"}'), 3),
    "not-found": (lambda: web.Response(status=404, text="<h1>Not here</h1>", content_type="text/html"), 3),
    "redirect": (_json(307, "", Location="https://elsewhere.example/token"), 3),
    "too-many": (_json(429, ""), 9),
    "busy": (_json(503, "", Retry_After="7"), 9),
    "internal": (_json(500, ""), 10),
    "busy-or-broken": (_json(503, ""), 10),
    "dropped": (lambda: None, 10),
    "a-page": (lambda: web.Response(text="<h1>Welcome</h1>", content_type="text/html"), 10),
    "no-token": (_json(200, '{"access_token": 5}'), 10),
}


async def test_token_answers(program: Program) -> None:
    """Whatever the token endpoint answers has its exit status, one error line, the page that it failed, one request.

    Where not one byte of an answer came the code is sent once more: nobody holds the tokens of the first.
    """

    async def answer(name: str) -> int:
        async with StrictServer(answer=ANSWERS[name][0], secrets=program.secrets) as server:
            ended, page = await log_in_and_see(program, name, *server.flags)
        assert (page.status, page.title) == (502, "The login did not work"), name
        assert len(ended.errors) == 1, name
        assert len(server.token_requests) == (2 if name == "dropped" else 1), name
        return ended.status

    statuses = await few_at_a_time(map(answer, ANSWERS))
    assert dict(zip(ANSWERS, statuses, strict=True)) == {name: status for name, (_, status) in ANSWERS.items()}
    assert not list(program.home.glob("accounts/*/tokens"))


async def test_when_to_come_back(program: Program, server: StrictServer) -> None:
    """A server that asks to come back later is quoted with its time."""
    server.answer = _json(503, "", Retry_After="7")
    ended = await log_in(program, *server.flags)
    assert ended.hints == ["nothing was spent; try again after 7 seconds"]


async def test_hostile_description(program: Program, server: StrictServer) -> None:
    """What the token endpoint says reaches the terminal in printable ASCII, 200 characters at most."""
    server.answer = _json(
        400, '{"error": "invalid_grant", "error_description": "\\u001b[31mred\\n\\u202e' + 300 * "x" + '"}'
    )
    ended = await log_in(program, *server.flags)
    (error,) = ended.errors
    assert "invalid_grant: \\x1b[31mred\\x0a\\xe2\\x80\\xaexxx" in error
    assert len(error) < 300
    assert ended.stderr.isascii()
    assert "\x1b" not in ended.stderr


async def test_unreachable_token_endpoint(program: Program, server: StrictServer) -> None:
    """A token endpoint out of reach ends the login before the redirect, and the start page says so."""
    nowhere = f"http://127.0.0.1:{program.free_port()}/token"
    for _ in range(5):  # the start page is up for a second: a machine under load may miss it
        async with program.start("login", *server.flags, "--token-endpoint", nowhere) as running:
            try:
                page = await ask(await running.start_url())
            except ConnectionError:
                continue
            ended = await running.end()
            break
    assert (page.status, page.title) == (503, "The server cannot be reached")
    assert ended.status == 9
    assert ended.errors == [f"{urlsplit(nowhere).netloc} cannot be reached: connection refused"]
    assert ended.hints == ["nothing was sent, nothing was spent; try again"]
    assert server.authorization_requests == []


async def test_token_endpoint_lost_meanwhile(program: Program, server: StrictServer) -> None:
    """A token endpoint that goes away while the person logs in costs nothing: unreachable, and the page says it."""
    async with StrictServer() as other:
        gone = f"{other.base}/token"
        async with program.start("login", *server.flags, "--token-endpoint", gone) as running:
            redirect = await to_redirect(await running.start_url())
            await other.__aexit__(None, None, None)
            page = await arrive(redirect)
            ended = await running.end()
    assert (ended.status, page.status, page.title) == (9, 502, "The login did not work")


async def test_slow_answer(program: Program, server: StrictServer) -> None:
    """A token endpoint that takes its time is waited for."""
    async with program.start("login", *server.flags, "-v") as running:
        server.may_answer.clear()
        redirect = await to_redirect(await running.start_url())
        page = asyncio.create_task(arrive(redirect))
        await server.asked.wait()
        await asyncio.sleep(1.5)
        server.may_answer.set()
        assert (await page).status == 200
        ended = await running.end()
    assert ended.status == 0
    (ages,) = re.findall(
        r"^the code was (\d+\.\d) ms old when it was sent, (\d+) ms when the answer came$", ended.stderr, re.MULTILINE
    )
    assert 0 < float(ages[0]) < 1000
    assert 1500 <= int(ages[1]) < 10_000


@pytest.mark.parametrize(
    ("tokens", "expires_in"),
    [
        ({}, None),
        ({"token_type": "bEARER", "expires_in": "1800"}, 1800),
        ({"token_type": "Bearer", "expires_in": 3600, "x": ["unknown"]}, 3600),
    ],
)
async def test_token_sets(
    program: Program, server: StrictServer, tokens: dict[str, object], expires_in: int | None
) -> None:
    """A token response is taken as servers really write them."""
    server.tokens = tokens
    ended = await log_in(program, *server.flags, "--json")
    left = ended.json["expires_in"]
    assert left is None if expires_in is None else expires_in - 30 <= left <= expires_in
    assert (await program.run("token")).stdout == program.tokens().access_token + "\n"
