"""A board on a real loopback server, and rows to show on it."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from loopback_auth.oauth.registration import parse_redirect_uri
from loopback_auth.onboarding.board import Board
from loopback_auth.onboarding.rows import Row, Rows
from loopback_auth.redirect.expected import Expected
from loopback_auth.redirect.listener import Listener
from loopback_auth.redirect.requests import Reply, Request
from loopback_auth.redirect.server import LoopbackServer
from loopback_auth.secret import Secret

TITLE = "Restaurants of Acme"
STEPS = (
    "Log in with the test account's user id and password.",
    "Click Allow. The client may then read and change data.",
)


class NoLogin:
    """A judge of redirects on a server that expects none."""

    def whose(self, path: str, query: Secret, marked: Sequence[Expected]) -> Expected | None:
        return None

    def stranger_came(self) -> None:
        pass


@dataclass
class Steered:
    """Notes what the board asks for."""

    asked: list[tuple[str, int]] = field(default_factory=list)

    def connect(self, number: int) -> None:
        self.asked.append(("connect", number))

    def skip(self, number: int) -> None:
        self.asked.append(("skip", number))


class CountingBoard(Board):
    """Counts how often its events were asked for."""

    opened = 0

    async def answer(self, request: Request) -> Reply:
        self.opened += 1
        return await super().answer(request)


@dataclass
class Shown:
    """A board that is being served."""

    rows: Rows
    board: CountingBoard
    steered: Steered
    origin: str


@asynccontextmanager
async def served(
    rows: Rows, *, redirect_uri: str = "http://127.0.0.1:0/", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Shown]:
    """Serve a board while this lasts."""
    steered = Steered()
    with Listener.open(parse_redirect_uri(redirect_uri)) as listener:
        origin = listener.redirect_uri.origin
        board = CountingBoard(rows, steered, origin=origin, title=TITLE)
        async with LoopbackServer.open(listener, tls, NoLogin(), board):
            yield Shown(rows, board, steered, origin)


def waiting(count: int) -> Rows:
    """Return rows of a run that has not begun."""
    return Rows(
        [Row(number=number, account=f"restaurant-{number:04}", client="acme-staging") for number in range(count)]
    )


def mixed(count: int = 40) -> Rows:
    """Return rows of a run that is well under way: every state there is."""
    rows, now = waiting(count), time.monotonic()
    for row in rows:
        name = NAMES[row.number % len(NAMES)]
        row.account = name + (f"-{row.number // len(NAMES) + 1}" if row.number >= len(NAMES) else "")
        row.login = f"{name}@example.com"
        row.steps = STEPS
        if row.number < 14:
            row.state, row.company = "done", {"id": str(4711 + row.number), "name": name.replace("-", " ").title()}
            row.began, row.ended = now - 100, now - 100 + 14 + row.number * 1.3
    for number, members in AMONG_THEM.items():
        for member, value in members.items():
            setattr(rows[number], member, value)
    for row in rows:
        if row.state == "skipped":
            row.began = row.ended = None
        elif row.state in ("logging in", "storing"):
            row.began = now - 12
    return rows


NAMES = (
    *("cafe-roma", "bistro-lumiere", "the-old-mill", "trattoria-da-nino", "sushi-hana", "el-toro", "curry-house"),
    *("green-leaf", "harbour-grill", "pizza-vesuvio", "la-petite-faim", "smoke-and-oak", "noodle-bar", "zum-ochsen"),
    *("tapas-y-mas", "golden-dragon", "olive-tree", "blue-door", "taverna-delfi", "brasserie-nord"),
)
AMONG_THEM: dict[int, dict[str, object]] = {
    3: {"state": "denied", "company": None, "message": "access was denied in the browser"},
    6: {
        "state": "wrong account",
        "company": {"id": "5120", "name": "Noodle Bar"},
        "message": "expected company 4717: log in as curry-house@example.com",
    },
    8: {"state": "timed out", "company": None, "message": "no redirect arrived within 5 min"},
    10: {"state": "window closed", "company": None, "message": "the window was closed before the login was finished"},
    12: {"state": "skipped", "company": None},
    13: {
        "state": "failed",
        "company": None,
        "message": "the token endpoint answered invalid_client: check the client secret",
    },
    14: {"state": "storing", "company": {"id": "4725", "name": "Tapas y mas"}},
    15: {"state": "logging in", "company_id": "4726", "notes": "The owner approves by text message: call Mei first."},
    16: {
        "state": "logging in",
        "start_url": "http://127.0.0.1:8000/start/s3kr1t-T8xv2Lq0bN",
        "message": "no browser was found that can be isolated",
    },
}
