"""One folder, many sandboxes: yesterday's tokens, two processes at once, and one that takes over."""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopback_auth.sandbox import Sandbox, SandboxSettings, StateUnusable
from loopback_auth.sandbox.state import State

from .conftest import Start
from .visitor import Clock, Visitor, answered, bearer, refused

ROOT = Path(__file__).parents[2]


class Elsewhere(Sandbox):
    """A sandbox that runs in another process; a visitor only needs its address."""

    def __init__(self, settings: SandboxSettings, process: asyncio.subprocess.Process) -> None:
        super().__init__(settings)
        self.process = process

    async def holds_the_port(self) -> None:
        assert self.process.stdout
        line = (await asyncio.wait_for(self.process.stdout.readline(), 10)).decode()
        self._port = int(line.split(":")[2].split("/")[0])


@asynccontextmanager
async def in_another_process(settings: SandboxSettings) -> AsyncIterator[Elsewhere]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.sandbox.serving",
        str(settings.folder),
        str(settings.port),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield Elsewhere(settings, process)
    finally:
        if process.returncode is None:
            assert process.stdin
            process.stdin.close()
            await asyncio.wait_for(process.wait(), 10)


async def test_yesterday(start: Start, clock: Clock) -> None:
    """A refresh token of yesterday refreshes today, in a sandbox started anew."""
    yesterday = await start()
    tokens = await yesterday.tokens()
    await yesterday.sandbox.stop()
    clock.now += 86400
    today = await start()
    newer = answered(await today.refresh(tokens["refresh_token"]))
    assert (await today.company(bearer(newer))).status == 200
    refused(await today.refresh(tokens["refresh_token"]), 400, "invalid_grant")


async def test_takeover_within_a_login(settings: SandboxSettings) -> None:
    """When another sandbox takes the port over between two steps, the person notices nothing."""
    sandbox = Sandbox(settings)
    await sandbox.start()
    settings = replace(settings, port=sandbox.port)

    async def another(old: Sandbox) -> Sandbox:
        await old.stop()
        new = Sandbox(settings)
        await new.start()
        return new

    async with Visitor(sandbox) as visitor:
        url = visitor.authorization_url()
        login = await visitor.open(url)
        sandbox = await another(sandbox)
        consent = await visitor.submit(url, login, user_id="cafe-roma", password="espresso")
        sandbox = await another(sandbox)
        answer = await visitor.submit(url, consent, decision="allow")
        sandbox = await another(sandbox)
        tokens = answered(await visitor.exchange(answer.location.query["code"]))
        sandbox = await another(sandbox)
        assert (await visitor.company(bearer(tokens))).status == 200
    await sandbox.stop()


async def test_killed_process(settings: SandboxSettings) -> None:
    """What a process answered before it was killed is known to the next one."""
    async with in_another_process(settings) as first:
        await first.holds_the_port()
        async with Visitor(first) as visitor:
            tokens = await visitor.tokens()
            first.process.kill()
            await first.process.wait()
    async with Sandbox(settings) as sandbox, Visitor(sandbox) as visitor:
        answered(await visitor.refresh(tokens["refresh_token"]))


async def test_processes_take_turns(settings: SandboxSettings) -> None:
    """Three processes wait for one port; each takes over as the one before it ends, and serves its tokens."""
    async with in_another_process(settings) as first:
        await first.holds_the_port()
        shared = replace(settings, port=first.port)
        async with in_another_process(shared) as second, in_another_process(shared) as third:
            async with Visitor(first) as visitor:
                tokens = await visitor.tokens()
            assert first.process.stdin
            first.process.stdin.close()
            waiting = [asyncio.create_task(each.holds_the_port()) for each in (second, third)]
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=10)
            assert len(done) == 1
            holder = second if waiting[0] in done else third
            async with Visitor(holder) as visitor:
                tokens = answered(await visitor.refresh(tokens["refresh_token"]))
            assert holder.process.stdin
            holder.process.stdin.close()
            await asyncio.wait_for(asyncio.gather(*waiting), 10)
            async with Visitor(third if holder is second else second) as visitor:
                answered(await visitor.refresh(tokens["refresh_token"]))


async def test_double_spend_across_processes(settings: SandboxSettings) -> None:
    """Two processes that get the same refresh token twenty times at once answer one of them with tokens."""
    async with in_another_process(settings) as one, in_another_process(settings) as two:
        await asyncio.gather(one.holds_the_port(), two.holds_the_port())
        async with Visitor(one) as left, Visitor(two) as right:
            tokens = await left.tokens()
            for _ in range(5):
                pages = await asyncio.gather(*(each.refresh(tokens["refresh_token"]) for each in [left, right] * 10))
                (good,) = [page for page in pages if page.status == 200]
                assert {page.status for page in pages} == {200, 400}
                tokens = answered(good)


def test_spend_once() -> None:
    """Spending is decided by the statement that spends, not by a look beforehand."""
    # two states see the same unspent code before either spends it
    with tempfile.TemporaryDirectory() as folder:
        one, two = (State(Path(folder), time.time) for _ in range(2))
        one.save_code("MARK", client_id="c", user_id="u", redirect_uri="r", code_challenge="x", lifetime=30)
        seen_by_one, seen_by_two = one.load_code("MARK"), two.load_code("MARK")
        assert seen_by_one
        assert seen_by_two
        assert [one.spend_code(seen_by_one), two.spend_code(seen_by_two)] == [True, False]
        one.save_tokens(seen_by_one.grant_id, access_token="a", refresh_token="r", access_token_lifetime=1)
        tokens = [state.load_refresh_token("r") for state in (one, two)]
        assert [state.spend_refresh_token(token) for state, token in zip((one, two), tokens, strict=True) if token] == [
            True,
            False,
        ]
        assert one.times_presented("r") == 2
        one.close()
        two.close()


async def test_all_or_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the sandbox fails after spending a code and before issuing tokens, the code is not spent."""
    visitor = await start()
    code = await visitor.code()

    def broken(*_: object, **__: object) -> None:
        raise OSError("MARK disk full")

    with monkeypatch.context() as patch:
        patch.setattr(State, "save_tokens", broken)
        assert (await visitor.exchange(code)).status == 500
    answered(await visitor.exchange(code))


def test_waits_for_a_new_file(tmp_path: Path) -> None:
    """A new file that another process is still preparing is waited for."""
    other = sqlite3.connect(tmp_path / "state.sqlite3", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    other.execute("CREATE TABLE t (x)")
    release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    release.start()
    State(tmp_path, time.time).close()
    release.join()
    other.close()


def test_busy_switch_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that cannot be switched because others are at it, which SQLite does not wait for, is tried again."""
    refusals = iter([sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY])

    class Busy(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if "journal_mode" in sql and (code := next(refusals, None)) is not None:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = code
                raise error
            return super().execute(sql, parameters)

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Busy))
    State(tmp_path, time.time).close()
    assert next(refusals, None) is None


def test_opened_by_many_at_once(tmp_path: Path) -> None:
    """Processes that open a new folder at the same moment all succeed, with one signing key; thirty times over."""
    program = """if True:
        import sys, time, pathlib
        from loopback_auth.sandbox.state import State
        print("ready", flush=True)
        begin = float(sys.stdin.readline())
        for folder in range(30):
            while time.time() < begin + folder * 0.02:
                pass
            state = State(pathlib.Path(sys.argv[1], str(folder)), time.time)
            print(state.signing_key.hex())
            state.close()
        """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    begin = str(time.time() + 0.1)
    seen = [process.communicate(begin, timeout=20)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 6
    assert [len(set(keys)) for keys in zip(*seen, strict=True)] == [1] * 30


async def test_private(settings: SandboxSettings) -> None:
    """Folder and files are the owner's alone, whatever the umask."""
    before = os.umask(0)
    try:
        async with Sandbox(settings) as sandbox, Visitor(sandbox) as visitor:
            await visitor.tokens()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.folder.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(settings.folder.stat().st_mode) == 0o700
    assert "state.sqlite3" in modes
    assert set(modes.values()) == {0o600}


async def test_new_parents_are_private(settings: SandboxSettings, tmp_path: Path) -> None:
    """Folders made on the way are the owner's alone as well."""
    async with Sandbox(replace(settings, folder=tmp_path / "a" / "b" / "c")):
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


async def test_digests_only(settings: SandboxSettings) -> None:
    """No code, token, cookie or verifier stands in the files."""
    async with Sandbox(settings) as sandbox, Visitor(sandbox) as visitor:
        code = await visitor.code()
        tokens = answered(await visitor.exchange(code))
        cookies = [cookie.value for cookie in visitor.session.cookie_jar]
        assert cookies
        content = b"".join(path.read_bytes() for path in settings.folder.iterdir())
    for secret in [code, tokens["access_token"], tokens["refresh_token"], *cookies, "MARK-verifier"]:
        assert secret.encode() not in content


async def test_old_rows_go(start: Start, clock: Clock, settings: SandboxSettings) -> None:
    """What ended long ago is deleted, so the file does not grow for ever."""
    visitor = await start()
    for _ in range(3):
        await visitor.refresh((await visitor.tokens())["refresh_token"])
    clock.now += 62 * 86400
    await visitor.code()
    with sqlite3.connect(settings.folder / "state.sqlite3") as database:
        counts = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("sessions", "grants", "codes", "access_tokens", "refresh_tokens")
        }
    database.close()
    assert counts == {"sessions": 1, "grants": 1, "codes": 1, "access_tokens": 0, "refresh_tokens": 0}


async def test_foreign_file(settings: SandboxSettings) -> None:
    """A file that is no state file is left alone, and the message says what to do."""
    settings.folder.mkdir()
    path = settings.folder / "state.sqlite3"
    path.write_text("not a database" * 100)
    sandbox = Sandbox(settings)
    with pytest.raises(StateUnusable, match="delete it to start afresh"):
        await sandbox.start()
    assert path.read_text() == "not a database" * 100


@pytest.mark.parametrize("plant", ["link", "link to nothing", "fifo", "folder", "link to a folder"])
async def test_planted(settings: SandboxSettings, tmp_path: Path, plant: str) -> None:
    """What is no file or folder of this user's is not opened, nothing is written through it, and nobody waits."""
    path, elsewhere = settings.folder / "state.sqlite3", tmp_path / "elsewhere"
    if plant == "link to a folder":
        elsewhere.mkdir()
        settings.folder.symlink_to(elsewhere)
    else:
        settings.folder.mkdir(mode=0o700)
    match plant:
        case "link":
            elsewhere.write_text("")
            path.symlink_to(elsewhere)
        case "link to nothing":
            path.symlink_to(elsewhere)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    with pytest.raises(StateUnusable, match="of this user's: look at it: ls"):
        await Sandbox(settings).start()
    assert not elsewhere.exists() or not (elsewhere.is_dir() and any(elsewhere.iterdir()))
    assert not elsewhere.is_file() or elsewhere.read_text() == ""


async def test_other_schema(settings: SandboxSettings) -> None:
    """A state file of another version is left alone, and the port is free again."""
    async with Sandbox(settings) as sandbox:
        port = sandbox.port
    with sqlite3.connect(settings.folder / "state.sqlite3") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StateUnusable, match="has schema 99 and this version reads 1"):
        await Sandbox(replace(settings, port=port)).start()
    async with Sandbox(replace(settings, port=port, folder=settings.folder / "new")):
        pass


async def test_restaurant_gone(start: Start, settings: SandboxSettings) -> None:
    """Tokens of a restaurant that is no longer in the settings are refused in words."""
    before = await start()
    tokens = await before.tokens()
    await before.sandbox.stop()
    after = await start(restaurants=settings.restaurants[1:])
    assert (await after.company(bearer(tokens))).status == 401
    page = await after.refresh(tokens["refresh_token"])
    assert "is gone from the settings" in refused(page, 400, "invalid_grant")
