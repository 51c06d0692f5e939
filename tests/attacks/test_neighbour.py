"""Another user of the same machine, at work while we are: takes our port, looks at everything, swaps what he can."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from loopback_auth.errors import PortTaken
from loopback_auth.redirect.sockets import listen
from loopback_auth.secret import Secret
from tests.attacks.forked import Commands
from tests.attacks.neighbour import ADDRESSES, STRANGER, WAYS, Neighbour
from tests.attacks.test_planted import Scene, picture
from tests.ended import Ended
from tests.faults.commands import end, environment, start, until
from tests.faults.conftest import far
from tests.faults.machine import Far, Trial
from tests.login.program import Program
from tests.login.strict import StrictServer
from tests.login.wire import arrive, send, to_redirect
from tests.redirect.test_sockets import needs_ipv6
from tests.store.accounts import REGISTRATION, account
from tests.store.planted import as_root, mode

__all__ = ["far"]

SECRET = "s3kr1t-of-the-client"


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as commands:
        yield commands


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    """Another user; for a plain user, another process."""
    with Neighbour() as neighbour:
        yield neighbour


@pytest.fixture
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that anybody may enter and look into: what is in it is protected by its own modes alone."""
    folder = Path(tempfile.mkdtemp(prefix="loopback-auth-street-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def program(street: Path) -> AsyncIterator[Program]:
    """The command, at home in the street."""
    program = Program(street)
    yield program
    await program.settled()
    assert program.complaints() == []


@pytest.fixture
async def server(program: Program) -> AsyncIterator[StrictServer]:
    """A strict authorization server whose client has a secret."""
    async with StrictServer(secrets=program.secrets, client_secret=SECRET, method="client_secret_basic") as server:
        yield server
    assert server.complaints == []


# -- the port


@needs_ipv6
async def test_port_while_we_wait(program: Program, server: StrictServer, neighbour: Neighbour) -> None:
    """While a login waits nobody else can listen on its port, on no address and in no way; and the redirect is ours."""
    port = program.free_port()
    program.environment["LOOPBACK_AUTH_CLIENT_SECRET"] = SECRET
    async with program.start("login", *server.flags, "--redirect-uri", f"http://localhost:{port}/") as running:
        redirect = await to_redirect(await running.start_url())
        said = {(where, how): neighbour.order("squat", port=port, address=where, way=how)
                for where in ADDRESSES for how in WAYS}  # fmt: skip
        assert set(said.values()) == {"EADDRINUSE"}, said
        assert (await arrive(redirect)).status == 200
        assert (await running.end()).status == 0


async def test_other_family_while_we_wait(program: Program, server: StrictServer, neighbour: Neighbour) -> None:
    """Where the redirect is to 127.0.0.1, whoever takes the same port of another address gets nothing of it."""
    port = program.free_port()
    program.environment["LOOPBACK_AUTH_CLIENT_SECRET"] = SECRET
    async with program.start("login", *server.flags, "--redirect-uri", f"http://127.0.0.1:{port}/") as running:
        redirect = await to_redirect(await running.start_url())
        for where in ("127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"):
            for how in WAYS:
                assert neighbour.order("squat", port=port, address=where, way=how) == "EADDRINUSE", (where, how)
        neighbour.order("squat", port=port, address=":: alone", way="plainly")
        assert (await arrive(redirect)).status == 200
        assert (await running.end()).status == 0


@needs_ipv6
@pytest.mark.parametrize("where", ADDRESSES)
def test_port_before_we_come(far: Far, commands: Commands, tmp_path: Path, neighbour: Neighbour, where: str) -> None:
    """A port that somebody listens on, anywhere, ends a login with 3 before a browser opens; he is named harmlessly."""
    scene = Scene(far, commands, tmp_path)
    neighbour.order("call_itself", name="\x1b[2J\udcff\udcfe\nx")
    port = free_port()
    assert neighbour.order("squat", port=port, address=where, way="with both") == ""
    for powerful in (False, True):
        ended = scene.run("login", *scene.flags("--redirect-uri", f"http://localhost:{port}/"), powerful=powerful)
        assert ended.status == 3
        assert ended.errors[0].startswith(f"port {port} of localhost is taken by ")
        assert (ended.stderr.isascii(), "\x1b" in ended.stderr) == (True, False)
    neighbour.order("let_go")
    assert scene.run("login", *scene.flags("--redirect-uri", f"http://localhost:{port}/")).status == 5


@needs_ipv6
@pytest.mark.parametrize("where", ADDRESSES)
def test_port_that_is_bound_and_silent(neighbour: Neighbour, where: str) -> None:
    """Who has bound the port before us, and listens once we do, does not get in: either we refuse, or he cannot."""
    for way in WAYS:
        port = free_port()
        assert neighbour.order("squat", port=port, address=where, way=way, listen=False) == ""
        try:
            ours = listen("localhost", port)
        except PortTaken:
            neighbour.order("let_go")
            continue
        assert neighbour.order("listen") == ["EADDRINUSE"], way
        neighbour.order("let_go")
        for one in ours:
            one.close()


@needs_ipv6
def test_port_that_is_hammered(neighbour: Neighbour) -> None:
    """Somebody takes the port and lets it go, all the time: whenever we have it, both addresses lead to us."""
    port, had, refused = free_port(), 0, 0
    neighbour.order("hammer", port=port)
    until_then = time.monotonic() + 1
    while time.monotonic() < until_then or not (had and refused):
        assert time.monotonic() < until_then + 20
        try:
            ours = listen("localhost", port)
        except PortTaken:
            refused += 1
            continue
        had += 1
        for one in ours:
            with closing(one), socket.create_connection(one.getsockname()[:2], 5) as visitor:
                one.settimeout(5)
                accepted, address = one.accept()
                accepted.close()
                assert address[:2] == visitor.getsockname()[:2]
    assert neighbour.order("rest") > 0


def free_port() -> int:
    while True:
        with socket.socket() as one, socket.socket(socket.AF_INET6) as other:
            one.bind(("127.0.0.1", 0))
            with suppress(OSError):
                other.bind(("::1", one.getsockname()[1]))
                return int(one.getsockname()[1])


# -- looking


async def test_spy(program: Program, server: StrictServer, street: Path) -> None:
    """Another user who reads all he can, all the time, finds no secret of a login, a refresh, a token or a logout."""
    as_root()
    canary = street / "canary"
    canary.write_text("s3kr1t-canary-in-a-file")
    with Neighbour() as spy, waiting("s3kr1t-canary-in-a-word") as shown:
        assert spy.order("who") == STRANGER
        spy.order("spy", folders=[str(street)])
        flags = (*server.flags, "--client-secret-stdin", "--redirect-uri", "https://localhost:0/", "-v")
        async with program.start("login", *flags, stdin=SECRET.encode()) as running:
            start_url = await running.start_url()
            tls = ssl.create_default_context(cafile=program.home / "certificate" / "localhost.pem")
            server.may_answer.clear()
            redirect = await to_redirect(start_url, tls)
            browser = await send(redirect, tls=tls)
            await server.asked.wait()
            await asyncio.sleep(0.2)
            server.may_answer.set()
            await browser.answer()
            assert (await running.end()).status == 0
        stored = program.tokens()
        for words_ in (("refresh", "--force"), ("token",), ("status",)):
            assert (await program.run(*words_)).status == 0
        secrets = {*program.secrets, *stored.secrets, *program.tokens().secrets, SECRET}
        secrets |= {asked.parameters.get("code", SECRET) for asked in server.token_requests}
        secrets |= {asked.headers["Authorization"] for asked in server.token_requests}
        secrets |= {(program.home / "certificate" / "localhost.pem").read_text().splitlines()[1]}
        assert (await program.run("logout")).status == 0
        shown.kill()
        assert spy.order("rest") >= 3
        assert len(secrets) >= 11
        assert spy.order("found", secrets=sorted(secrets)) == []
        marks = ["s3kr1t-canary-in-a-file", "s3kr1t-canary-in-a-word", str(program.home)]
        assert spy.order("found", secrets=marks) == marks  # he does see what can be seen


def waiting(word: str) -> subprocess.Popen[bytes]:
    """A process with this word in its arguments."""
    return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", word], stdin=subprocess.PIPE)


# -- in the middle of a refresh


def no_lock(trial: Trial, _victims: Path) -> None:
    (trial.folder / "lock").unlink()


def fifo_as_lock(trial: Trial, _victims: Path) -> None:
    (trial.folder / "lock").unlink()
    os.mkfifo(trial.folder / "lock", 0o600)


def no_intent(trial: Trial, _victims: Path) -> None:
    (trial.folder / "intent").unlink()


def victim_as_answer(trial: Trial, victims: Path) -> None:
    (trial.folder / "answer").unlink()
    (trial.folder / "answer").symlink_to(victims / "file")


def victim_as_tokens(trial: Trial, victims: Path) -> None:
    (trial.folder / "tokens").unlink()
    (trial.folder / "tokens").symlink_to(victims / "file")


def folder_as_tokens(trial: Trial, _victims: Path) -> None:
    (trial.folder / "tokens").rename(trial.folder / "aside")
    (trial.folder / "tokens").mkdir(0o700)


def no_tokens(trial: Trial, _victims: Path) -> None:
    (trial.folder / "tokens").unlink()


def no_folder(trial: Trial, _victims: Path) -> None:
    trial.folder.rename(trial.folder.with_name("aside"))


def link_as_folder(trial: Trial, victims: Path) -> None:
    no_folder(trial, victims)
    trial.folder.symlink_to(victims)


def file_as_folder(trial: Trial, victims: Path) -> None:
    no_folder(trial, victims)
    trial.folder.touch(0o600)


def open_folder(trial: Trial, _victims: Path) -> None:
    trial.folder.chmod(0o777)


def link_as_accounts(trial: Trial, victims: Path) -> None:
    trial.folder.parent.rename(trial.home / "aside")
    trial.folder.parent.symlink_to(victims)


DEEDS: dict[Callable[[Trial, Path], None], tuple[int, bool]] = {
    # what is done while the answer is on its way: how that refresh ends, and whether its tokens are stored by then
    no_lock: (0, True),
    fifo_as_lock: (0, True),
    no_intent: (0, True),
    victim_as_answer: (0, True),
    victim_as_tokens: (0, True),
    folder_as_tokens: (8, False),
    no_tokens: (4, False),  # which is what a logout does
    no_folder: (4, False),
    link_as_folder: (8, False),
    file_as_folder: (8, False),
    open_folder: (8, False),
    link_as_accounts: (4, False),
}
UNDONE = {folder_as_tokens, no_folder, link_as_folder, file_as_folder, open_folder, link_as_accounts}
"""After these, with what was there back in its place, the next command stores the answer that was kept."""


def undo(trial: Trial) -> None:
    if (trial.home / "aside").exists():
        trial.folder.parent.unlink()
        (trial.home / "aside").rename(trial.folder.parent)
    if (aside := trial.folder.with_name("aside")).exists():
        trial.folder.unlink(missing_ok=True)
        aside.rename(trial.folder)
    if (trial.folder / "aside").exists():
        (trial.folder / "tokens").rmdir()
        (trial.folder / "aside").rename(trial.folder / "tokens")
    trial.folder.chmod(0o700)


async def test_deeds_during_a_refresh(commands: Commands, street: Path) -> None:
    """Whatever is deleted or replaced meanwhile: one spend, nothing outside or for others, and what came is kept."""
    numbers = itertools.count(1)

    def tokens() -> web.Response:
        new = {"access_token": f"{NEW}access-{next(numbers)}", "refresh_token": f"{NEW}refresh-{next(numbers)}"}
        return web.json_response({**new, "token_type": "Bearer", "expires_in": 3600})

    async with StrictServer(answer=tokens) as server, AsyncExitStack() as processes:
        server.may_answer.clear()
        scenes = []
        for deed in DEEDS:
            trial, victims = expired(street / deed.__name__, server), street / f"victims of {deed.__name__}"
            victims.mkdir()
            victims.chmod(0o777)
            (victims / "file").write_text("the victim's own words")
            process = start(trial.home, "refresh", "--force")
            processes.callback(process.kill)
            scenes.append((deed, trial, victims, process))
        await asyncio.to_thread(until, lambda: len(server.token_requests) == len(DEEDS), 60)
        before = {}
        for deed, trial, victims, _ in scenes:
            deed(trial, victims)
            before[deed] = picture(victims)
        server.may_answer.set()
        for deed, trial, victims, process in scenes:
            ended = await asyncio.to_thread(end, process)
            what = (deed.__name__, ended)
            status, stored = DEEDS[deed]
            assert (ended.status, len(ended.errors)) == (status, 1 if status else 0), what
            assert not re.search("unexpected|Traceback|Exception", ended.stderr), what
            assert picture(victims) == before[deed], what
            assert mode_of_new_tokens(street) <= {"0600"}, what
            if stored:
                assert (trial.stored.generation, mode(trial.folder / "tokens")) == (2, "0600"), what
            if deed in UNDONE:
                undo(trial)
        for deed, trial in [(deed, trial) for deed, trial, _, _ in scenes if deed in UNDONE]:
            ended = commands.run("token", environment=environment(trial.home), cwd=street)
            assert (ended.status, trial.stored.generation) == (0, 2), (deed.__name__, ended)
        presented = [asked.parameters["refresh_token"] for asked in server.token_requests]
        assert len(presented) == len(set(presented)) == len(DEEDS)


NEW = "s3kr1t-new-"


def expired(home: Path, server: StrictServer) -> Trial:
    """An account at this server whose access token has expired."""
    at_server = replace(REGISTRATION.server, token_endpoint=f"{server.base}/token")
    registration = replace(REGISTRATION, server=at_server, client_id="client-1", token_endpoint_auth_method="none")
    trial = Trial(home, f"s3kr1t-refresh-of-{home.name}")
    stored = account(registration=registration, client_secret=None, refresh_token=Secret(trial.refresh_token))
    trial.store.save(stored)
    return trial


def mode_of_new_tokens(folder: Path) -> set[str]:
    """How the files are protected that hold tokens, wherever they are."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {mode(path) for path in files if NEW.encode() in path.read_bytes()}


def test_folder_that_is_swapped(far: Far, commands: Commands, street: Path) -> None:
    """A folder that is swapped for a link to an open one, all the time: nothing is left open there, or taken from it.

    Only this user's own programs can do that: that a token is sent twice then cannot be helped.
    """
    scene = Scene(far, commands, street)
    elsewhere = street / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    bait = elsewhere / "tokens"
    bait.write_bytes((scene.trial.folder / "tokens").read_bytes())
    lines = bait.read_text().splitlines()
    bait.write_text(
        "\n".join([f"loopback-auth 1 {time.time() + 3600:.0f} {time.time()} - 0 login", "bait", *lines[2:]])
    )
    (bait.chmod(0o604) if os.getuid() else os.chown(bait, STRANGER, STRANGER))
    link = scene.home / "accounts" / "link"
    link.symlink_to(elsewhere)
    ended: list[Ended] = []
    with Neighbour(as_ourselves=True) as swapping:
        swapping.order("swap", one=str(link), other=str(scene.trial.folder))
        until_then = time.monotonic() + 1.5
        while time.monotonic() < until_then:
            words = (("refresh", "--force"), ("token",))[len(ended) % 2]
            ended.append(commands.run(*words, environment=scene.environment, cwd=street))
        assert swapping.order("rest") > 20
    assert {one.status for one in ended} <= {0, 4, 8}, ended
    assert len(ended) > 10
    assert not [one for one in ended if "bait" in one.stdout]
    left = [path for path in elsewhere.iterdir() if path.lstat().st_uid == os.getuid() and path != bait]
    assert {mode(path) for path in left} <= {"0600"}
