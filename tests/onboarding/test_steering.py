"""The board and the run behind it, by the real command: what is pressed there happens, and is shown there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ..login.program import PATIENCE, Running
from .conftest import Onboarder, sent_home, until

ROWS = tuple(f"r{number},sandbox,{5000 + number},restaurant-{number}," for number in range(1, 4))


class Board:
    """A browser that has the board open: what its event stream says, and its buttons."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._address = address
        self.rows: dict[str, dict[str, Any]] = {}
        self.over: Any = None

    @classmethod
    @asynccontextmanager
    async def open(cls, running: Running) -> AsyncIterator[Board]:
        """Open the board at the address that the command says."""
        address = (await running.says(r"\(this address works once\): (\S+)"))[1]
        parts = urlsplit(address)
        origin = f"{parts.scheme}://{parts.netloc}"
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address literal
        async with aiohttp.ClientSession(cookie_jar=jar, headers={"Origin": origin}) as session:
            async with session.get(address, allow_redirects=False) as let_in:
                assert let_in.status == 303
            board = cls(session, f"{origin}{let_in.headers['Location']}")
            reading = asyncio.create_task(board._read())
            try:
                yield board
            finally:
                reading.cancel()

    async def press(self, account: str, button: str) -> None:
        """Press a button of a row."""
        number = self.rows[account]["number"]
        headers = {"X-Loopback-Auth": "board"}
        async with self._session.post(f"{self._address}/rows/{number}/{button}", headers=headers) as answer:
            assert answer.status == 202

    async def shows(self, account: str, state: str) -> None:
        """Wait until a row is in this state."""
        async with asyncio.timeout(PATIENCE):
            while self.rows.get(account, {}).get("state") != state:  # noqa: ASYNC110 (events come as they come)
                await asyncio.sleep(0.01)

    async def _read(self) -> None:
        async with self._session.get(f"{self._address}/events", timeout=aiohttp.ClientTimeout()) as stream:
            text = ""
            async for piece in stream.content.iter_any():
                text += piece.decode()
                *events, text = text.split("\n\n")
                for event in events:
                    self._hear(event)

    def _hear(self, event: str) -> None:
        found = re.search(r"^event: (\w+)\ndata: (.*)$", event, re.MULTILINE)
        if found is None:
            return
        data = json.loads(found[2])
        if found[1] == "rows":
            for row in data:
                self.rows[row["account"]] = row
        elif found[1] == "over":
            self.over = data


async def test_skip_connect_and_retry(onboarder: Onboarder) -> None:
    """Skip leaves an account out, Connect opens one out of turn, Retry one that failed; then the run is over."""
    onboarder.plan = {"restaurant-1": {"wait": 600}, "restaurant-2": {"decision": "deny"}, "restaurant-3": {"wait": 1}}
    onboarder.write(*ROWS)
    program = onboarder.program
    async with (
        program.start("onboard", "accounts.csv", "--json", environment=onboarder.environment) as running,
        Board.open(running) as board,
    ):
        await board.shows("r3", "waiting")
        await until(lambda: onboarder.visits == ["restaurant-1"])
        await board.press("r3", "connect")  # while r1 is still at it
        await board.shows("r3", "logging in")
        await board.shows("r3", "done")
        assert board.rows["r1"]["state"] == "logging in"
        await board.press("r1", "connect")  # neither is opened again
        await board.press("r3", "connect")
        await board.press("r1", "skip")
        await board.shows("r1", "skipped")
        await board.shows("r2", "denied")
        assert running.runs  # while somebody watches, what did not work may be tried again
        onboarder.plan = {}
        onboarder.environment  # noqa: B018 (writes the plan)
        await board.press("r2", "connect")
        await board.shows("r2", "done")
        ended = await running.end()
        assert "2 of 3 accounts done, 1 skipped" in json.dumps(board.over)
    sent_home(program)
    assert [row["state"] for row in json.loads(ended.stdout)] == ["skipped", "done", "done"]
    assert ended.status == 4
    assert sorted(onboarder.visits) == [f"restaurant-{number}" for number in (1, 2, 2, 3)]


async def test_the_board_knows_what_is_stored(onboarder: Onboarder) -> None:
    """A row is green only once its tokens are durable; what the board is told holds no token."""
    onboarder.plan = {"restaurant-1": {"wait": 1}}
    onboarder.write(ROWS[0], ROWS[1])
    program = onboarder.program
    async with (
        program.start("onboard", "accounts.csv", environment=onboarder.environment) as running,
        Board.open(running) as board,
    ):
        await board.shows("r1", "done")
        tokens = program.tokens("r1")
        assert board.rows["r1"]["company"] == {"id": "5001", "name": "Restaurant 1"}
        assert (await running.end()).status == 0
    said = json.dumps(board.rows)
    assert not [secret for secret in tokens.secrets if secret in said]


async def test_nobody_watches(onboarder: Onboarder) -> None:
    """Once the board is closed the run waits for nobody: it ends with what it has."""
    onboarder.plan = {"restaurant-1": {"decision": "deny", "wait": 1}}
    onboarder.write(ROWS[0])
    async with onboarder.program.start("onboard", "accounts.csv", environment=onboarder.environment) as running:
        async with Board.open(running) as board:
            await board.shows("r1", "denied")
            await asyncio.sleep(4)  # longer than a window shows its last page
            assert running.runs
        assert (await running.end()).status == 6
