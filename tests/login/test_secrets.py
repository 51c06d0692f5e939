"""Where secrets are: not in arguments, not in a child's environment, not on the terminal, and kept private."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from .program import Program, command_lines
from .strict import StrictServer, once
from .visits import log_in
from .wire import arrive, send, to_redirect

SECRET = "s3kr1t-of-the-client"
STORE_KEY = "5e" * 32
STDIN = ("--client-secret-stdin",)


@pytest.fixture
def confidential(server: StrictServer) -> StrictServer:
    """A server whose client has a secret."""
    server.client_secret, server.method = SECRET, "client_secret_basic"
    return server


async def test_browser(program: Program, confidential: StrictServer) -> None:
    """The browser's process gets the start page's address alone: no secret in arguments, environment, or open files."""
    environment = {
        "LOOPBACK_AUTH_CLIENT_SECRET": SECRET,
        "LOOPBACK_AUTH_STORE_KEY": STORE_KEY,
        "HARMLESS": "is passed on",
    }
    async with program.start("login", *confidential.flags, environment=environment) as running:
        opened = await running.opened()
        redirect = await to_redirect(opened.address)
        assert (await arrive(redirect)).status == 200
        assert (await running.end()).status == 0
    script = opened.arguments[1]
    assert opened.arguments == ["/bin/sh", script, opened.address]
    given = "\n".join([*opened.arguments, *(f"{name}={value}" for name, value in opened.environment.items())])
    assert not [secret for secret in (*confidential.secrets, SECRET, STORE_KEY, "s3kr1t-") if secret in given]
    assert opened.environment["HARMLESS"] == "is passed on"
    assert not {"LOOPBACK_AUTH_CLIENT_SECRET", "LOOPBACK_AUTH_STORE_KEY"} & set(opened.environment)
    assert set(opened.files) <= {"/dev/null", script, str(Path(script).with_name("files"))}


async def test_ps(program: Program, confidential: StrictServer) -> None:
    """At no moment of a login does any process show state, challenge, verifier, code, token or secret in `ps`."""
    confidential.may_answer.clear()
    async with program.start(
        "login", *confidential.flags, "-v", environment={"LOOPBACK_AUTH_CLIENT_SECRET": SECRET}
    ) as running:
        start = await running.start_url()
        seen = command_lines()
        redirect = await to_redirect(start)
        seen += command_lines()
        browser = await send(redirect)
        await confidential.asked.wait()
        seen += command_lines()
        confidential.may_answer.set()
        await browser.answer()
        seen += command_lines()
        assert (await running.end()).status == 0
    assert b"loopback_auth" in seen
    asked = confidential.token_requests[0].parameters
    for secret in (*confidential.secrets, *program.tokens().secrets, asked["code"], SECRET):
        assert secret.encode() not in seen


@pytest.mark.parametrize("flags", [("-v", "--json"), ("-q",)])
async def test_terminal(program: Program, confidential: StrictServer, flags: tuple[str, ...]) -> None:
    """Whatever is asked for, no output holds state, challenge, verifier, code, token or secret; -v has figures."""
    program.environment["LOOPBACK_AUTH_CLIENT_SECRET"] = SECRET
    ended = await log_in(program, *confidential.flags, *flags)
    assert ended.status == 0
    asked = once(confidential.token_requests[0].body)
    secrets = {*confidential.secrets, *program.tokens().secrets, asked["code"], asked["code_verifier"], SECRET}
    assert len(secrets) == 7
    assert not [secret for secret in secrets if secret in ended.stdout + ended.stderr]
    assert ("ms old when it was sent" in ended.stderr) == ("-v" in flags)


async def test_from_environment(program: Program, confidential: StrictServer) -> None:
    """A secret from the environment is stored as the variable's name, and must be there again for a refresh."""
    program.environment["LOOPBACK_AUTH_CLIENT_SECRET"] = SECRET
    assert (await log_in(program, *confidential.flags)).status == 0
    assert not kept(program)
    assert (await program.run("refresh", "--force")).status == 0
    del program.environment["LOOPBACK_AUTH_CLIENT_SECRET"]
    stored = program.files()
    ended = await program.run("refresh", "--force")
    assert (ended.status, len(ended.errors)) == (3, 1)
    assert "LOOPBACK_AUTH_CLIENT_SECRET is not set" in ended.errors[0]
    assert program.files() == stored
    assert len(confidential.token_requests) == 2


async def test_from_named_variable(program: Program, confidential: StrictServer) -> None:
    """A variable that config.toml names as the secret's is not handed to the browser either."""
    program.home.mkdir()
    (program.home / "config.toml").write_text(
        f"[servers.mine]\nauthorization_endpoint = '{confidential.base}/authorize'\n"
        f"token_endpoint = '{confidential.base}/token'\n"
        "[clients.acme]\nserver = 'mine'\nclient_id = 'client-1'\nclient_secret = { env = 'ACME_KEY' }\n"
    )
    async with program.start("login", "--client", "acme", environment={"ACME_KEY": SECRET}) as running:
        opened = await running.opened()
        assert (await arrive(await to_redirect(opened.address))).status == 200
        assert (await running.end()).status == 0
    assert "ACME_KEY" not in opened.environment


async def test_a_place_that_others_can_enter(program: Program, confidential: StrictServer) -> None:
    """Where a secret cannot be kept safely, that is said before a browser opens, with the command that mends it."""
    place = program.home / "secrets"
    place.mkdir(parents=True, mode=0o700)
    place.chmod(0o777)
    ended = await program.run("login", *confidential.flags, "--client-secret-stdin", stdin=SECRET.encode())
    assert (ended.status, ended.hints) == (8, [f"chmod 700 {place}"])
    assert not list(place.iterdir())
    assert confidential.token_requests == []


async def test_shared_file(program: Program, confidential: StrictServer) -> None:
    """A secret that config.toml points to belongs to the client: no account's logout removes it."""
    secret = program.home / "secrets" / "client-acme"
    secret.parent.mkdir(parents=True, mode=0o700)
    secret.write_text(SECRET)
    secret.chmod(0o600)  # as all that stands in this folder
    (program.home / "config.toml").write_text(
        f"[servers.mine]\nauthorization_endpoint = '{confidential.base}/authorize'\n"
        f"token_endpoint = '{confidential.base}/token'\n"
        "[clients.acme]\nserver = 'mine'\nclient_id = 'client-1'\nclient_secret = { file = 'secrets/client-acme' }\n"
    )
    assert (await log_in(program, "--client", "acme")).status == 0
    assert (await program.run("logout")).status == 0
    assert secret.read_text() == SECRET


async def test_from_file(program: Program, confidential: StrictServer, tmp_path: Path) -> None:
    """A secret from a file is read anew at every refresh, without its line end, and not copied."""
    assert tmp_path == program.folder  # where the command runs
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\r\n")
    assert (await log_in(program, *confidential.flags, "--client-secret-file", "secret")).status == 0
    assert not kept(program)
    confidential.client_secret = "s3kr1t-another"
    file.write_text("s3kr1t-another")
    assert (await program.run("refresh", "--force")).status == 0


async def test_from_stdin(program: Program, confidential: StrictServer) -> None:
    """A secret from stdin is kept, 0600 in a folder 0700, apart from the tokens, and used by later refreshes."""
    async with program.start("login", *confidential.flags, *STDIN, stdin=f"{SECRET}\n".encode()) as running:
        assert (await arrive(await to_redirect(await running.start_url()))).status == 200
        assert (await running.end()).status == 0
    (path,) = kept(program)
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)]
    assert modes == [0o600, 0o700]
    assert path.parent == program.home / "secrets"
    assert (await program.run("refresh", "--force")).status == 0
    assert [asked.parameters["grant_type"] for asked in confidential.token_requests][1] == "refresh_token"
    assert (await program.run("logout")).status == 0
    assert not kept(program)


async def test_wrong_secret_from_stdin(program: Program, confidential: StrictServer) -> None:
    """A login that fails leaves the secret that was kept before: the account goes on refreshing."""
    for secret, status in ((SECRET, 0), ("s3kr1t-wrong", 3)):
        async with program.start("login", *confidential.flags, *STDIN, "--force", stdin=secret.encode()) as running:
            await arrive(await to_redirect(await running.start_url()))
            assert (await running.end()).status == status
    confidential.complaints.clear()
    assert (await program.run("refresh", "--force")).status == 0


def kept(program: Program) -> list[Path]:
    """Files that hold the client's secret."""
    return [program.home / name for name, content in program.files().items() if SECRET.encode() in content]
