"""How far each account of a run has come; and who watches that: terminal, board, report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from loopback_auth.errors import LoginRequired
from loopback_auth.text import printable

State = Literal[
    "waiting",
    "logging in",
    "storing",
    "done",
    "denied",
    "wrong account",
    "timed out",
    "window closed",
    "failed",
    "skipped",
]
UNDONE = LoginRequired.exit_status
"""What a run ends with where an account was not logged in, and nothing else was wrong."""
UNDER_WAY: frozenset[State] = frozenset({"waiting", "logging in", "storing"})


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """One account of a run. Only `Rows.change` changes it."""

    number: int
    """From 0, in the manifest's order."""
    account: str
    client: str
    """In words."""
    login: str | None = None
    """Whom the manifest says to log in as."""
    company_id: str | None = None
    """Whose data the tokens must open, where the manifest says."""
    notes: str | None = None
    steps: tuple[str, ...] = ()
    """What a person does in the browser, in its order."""
    state: State = "waiting"
    company: Mapping[str, str] | None = None
    """`id` and `name`: whose data the tokens open; where they were refused for that, whose it was."""
    message: str | None = None
    """What a person should know of it, in one line."""
    start_url: str | None = None
    """The start page, where no window could be opened: for a private window, by hand."""
    exit_status: int = UNDONE
    """What becomes of the command if it stays like this."""
    began: float | None = None
    ended: float | None = None
    """Of the last try, by `time.monotonic`."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing more happens to it of its own."""
        return self.state not in UNDER_WAY

    @property
    def seconds(self) -> float | None:
        """How long the last try took, or has taken so far."""
        return None if self.began is None else (self.ended or time.monotonic()) - self.began

    def describe(self) -> dict[str, Any]:
        """Return what may be known of it, as JSON has it: text from outside printable, never a token."""
        seconds = self.seconds
        return {
            "account": self.account,
            "client": printable(self.client),
            "login": self.login and printable(self.login),
            "company_id": self.company_id and printable(self.company_id),
            "notes": self.notes and printable(self.notes),
            "state": self.state,
            "company": self.company and {key: printable(value) for key, value in self.company.items()},
            "seconds": None if seconds is None else round(seconds, 1),
            "message": self.message and printable(self.message),
        }


class Rows:
    """All accounts of a run."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self._watches: list[Watch] = []

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Row:
        return self._rows[number]

    def change(self, row: Row, **members: object) -> None:
        """Set members of a row, and let all who watch know."""
        for name, value in members.items():
            setattr(row, name, value)
        for watch in self._watches:
            watch.note(row)

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """Watch while this lasts."""
        watch = Watch(self._rows)
        self._watches.append(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)


class Watch:
    """What has changed since one looked last: a row that changes ten times meanwhile is seen once, as it is."""

    def __init__(self, rows: list[Row]) -> None:
        self._changed: dict[Row, None] = dict.fromkeys(rows)
        self._is_news = asyncio.Event()
        self._is_news.set()

    def note(self, row: Row) -> None:
        """Remember that a row has changed."""
        self._changed[row] = None
        self._is_news.set()

    def wake(self) -> None:
        """Let `changes` return, whether something has changed or not."""
        self._is_news.set()

    async def changes(self) -> list[Row]:
        """Wait until something has changed, and return what; at first, all. May be cancelled: nothing is lost."""
        await self._is_news.wait()
        self._is_news.clear()
        changed, self._changed = self._changed, {}
        return list(changed)
