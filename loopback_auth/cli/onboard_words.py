"""What `onboard` tells a person: a table that lives on a terminal, a line for each event elsewhere, and the summary."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from loopback_auth.cli import voice
from loopback_auth.oauth.registration import RedirectURI
from loopback_auth.onboarding.rows import Row, Rows, State
from loopback_auth.progress import Answered, Progress, Rejected, StrangerCame, WrongPath
from loopback_auth.redirect.browser import forwarding_command
from loopback_auth.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_STYLES: dict[State, str] = {
    "waiting": "dim",
    "logging in": "bold cyan",
    "storing": "bold cyan",
    "done": "green",
    "skipped": "yellow",
}
"""What is not named needs a person: red."""
_PATIENT: frozenset[State] = frozenset({"waiting", "done", "skipped"})
"""Rows of which, where there is no room for all, those nearest to what goes on now are shown; all others come first."""
TABLE_LIMIT = 200
"""Rows that the last table has at most."""


class OnboardWords:
    """Turns the rows of a run into lines on stderr. `quiet` leaves only what went wrong, `verbose` adds figures."""

    def __init__(self, rows: Rows, source: str, *, quiet: bool, verbose: bool) -> None:
        self._rows = rows
        self.source = source
        """What the manifest is called."""
        self._quiet = quiet
        self._verbose = verbose
        self.by_hand: str | None = None
        """Why the person must open each address, if so."""

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal to draw on, and nothing on it that must stay to be copied."""
        return voice.live() and not self._quiet and self.by_hand is None

    def begun(self, board_url: str | None, redirect_uri: RedirectURI) -> None:
        """Say what happens now. `board_url` is the board's address where it was not opened."""
        if not self._quiet and self.by_hand is None:
            voice.note(f"{self.count_words()}. Each login opens in a browser window of its own.")
        if self.by_hand is not None:  # said even with -q: without it nobody could go on
            voice.note(f"No windows are opened ({self.by_hand}): open each address in a private window of its own.")
            forward = forwarding_command(redirect_uri.host, redirect_uri.port)
            if forward is not None:
                voice.note(
                    "To use the browser on your own computer, forward the port from there, and leave it running:"
                )
                voice.note(f"  {voice.bold(forward)}")
        if board_url is not None and not self._quiet:
            voice.note(f"The board, for a browser here (this address works once): {voice.bold(board_url)}")

    def heard(self, row: Row, progress: Progress) -> None:
        """Say what is not in the row."""
        if isinstance(progress, Answered) and self._verbose:
            voice.note(
                f"{row.account}: the code was {progress.sent_after * 1000:.1f} ms old when it was sent, "
                f"{progress.answered_after * 1000:.0f} ms when the answer came"
            )

    def stray(self, progress: Progress) -> None:
        """Say, once, that something came which is no redirect of these logins."""
        match progress:
            case Rejected(why):
                voice.warning(f"a request that is not a redirect of these logins was ignored: {why}")
            case WrongPath(path):
                voice.warning(
                    f"a redirect arrived at {printable(path, 100)}, and these logins wait at another path",
                    "the redirect URI registered with the server must be the one of config.toml",
                )
            case StrangerCame():
                voice.warning(
                    "another user of this machine asked for a start page and was refused: run browser and onboard as "
                    "one user"
                )
            case _:
                pass

    @contextlib.asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Show how the rows are getting on while this lasts."""
        telling = asyncio.create_task(self._draw() if self.is_live else self._say_each())
        try:
            yield
        finally:
            await asyncio.sleep(0)  # what has just changed is said
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling

    def summary(self) -> None:
        """Say what came of it, and what to type next."""
        undone = [row for row in self._rows if row.state != "done"]
        if self.is_live and len(self._rows) <= TABLE_LIMIT:
            console = _console()
            console.print(self._table(self._rows, console))
        if not undone:
            if not self._quiet:
                voice.note(f"{voice.good(self.outcome())} See them: loopback-auth status")
            return
        if not self.is_live:
            for row in undone:
                voice.error(f"account {row.account}: {row.state}{_because(row)}")
        voice.error(self.outcome().removesuffix(".").lower(), self._next())

    def outcome(self) -> str:
        """Return in one sentence what came of it."""
        return f"{self.count_words()}."

    def interrupted(self) -> str:
        """Return what is said of a run that a signal ended."""
        return f"interrupted: {self.count_words()}; what was logged in is stored, and {self._next()}"

    def count_words(self) -> str:
        """Return how many accounts are in which state, in words."""
        counts = Counter(row.state for row in self._rows)
        done = counts.pop("done", 0)
        others = "".join(f", {number} {state}" for state, number in counts.items())
        return f"{done} of {_accounts(len(self._rows))} done{others}"

    def _next(self) -> str:
        return f"the same command does only what is missing: loopback-auth onboard {self.source}"

    # -- on a terminal

    async def _draw(self) -> None:
        from rich.live import Live

        console = _console()
        with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
            while True:
                if voice.in_front():
                    live.update(self._shown(console), refresh=True)
                await asyncio.sleep(0.25)

    def _shown(self, console: Console) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        active = [row for row in self._rows if row.state in ("logging in", "storing")]
        steps = [Text(line, overflow="ellipsis", no_wrap=True) for line in _steps(active[:2])]
        room = max(console.height - len(steps) - 5, 3)
        now = active[0].number if active else 0
        chosen = sorted(
            self._rows, key=lambda row: (row not in active, row.state in _PATIENT, abs(row.number - now), row.number)
        )[:room]
        chosen.sort(key=lambda row: row.number)
        more = len(self._rows) - len(chosen)
        line = f"{self.count_words()}{f' ({more} not shown)' if more else ''}   (Ctrl-C stops; run it again to go on)"
        return Group(self._table(chosen, console), *steps, Text(line, style="dim", overflow="ellipsis", no_wrap=True))

    def _table(self, rows: Iterable[Row], console: Console) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        longest = max(len(row.account) for row in self._rows)
        widths = [min(max(longest, len("ACCOUNT")), 32), len("window closed"), len("SECONDS")]
        rest = max(console.width - sum(widths) - 2 * len(widths), 20)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for heading, width in zip(("ACCOUNT", "STATE"), widths, strict=False):
            table.add_column(heading, width=width, no_wrap=True, overflow="ellipsis")
        table.add_column("SECONDS", width=widths[2], no_wrap=True, justify="right")
        table.add_column("COMPANY", width=rest, no_wrap=True, overflow="ellipsis")
        for row in rows:
            seconds = row.seconds
            table.add_row(
                Text(row.account),
                Text(row.state, style=_STYLES.get(row.state, "bold red")),
                "" if seconds is None else f"{seconds:.0f}" if not row.is_settled else f"{seconds:.1f}",
                Text(_about(row)),
            )
        return table

    # -- elsewhere

    async def _say_each(self) -> None:
        said: dict[Row, tuple[object, ...]] = {row: (row.state, row.start_url) for row in self._rows}
        with self._rows.watched() as watch:
            while True:
                for row in await watch.changes():
                    event = (row.state, row.start_url)
                    if said[row] != event:
                        said[row] = event
                        if row.start_url is not None or (row.state != "storing" and not self._quiet):
                            voice.note(_event(row))


def _event(row: Row) -> str:
    seconds = row.seconds
    after = f" after {seconds:.1f} s" if row.is_settled and seconds is not None else ""
    if row.start_url is not None:
        return f"{row.account}: open in a private window: {row.start_url}"
    if row.state == "logging in" and row.login:
        return f"{row.account}: logging in as {printable(row.login, 60)}"
    return f"{row.account}: {row.state}{after}{_because(row)}"


def _because(row: Row) -> str:
    about = _about(row)
    return f": {about}" if about else ""


def _about(row: Row) -> str:
    """Return the company of a row, and whatever else is to be said of it."""
    company = "" if row.company is None or row.state != "done" else company_words(row.company)
    return "; ".join(part for part in (company, row.message and printable(row.message)) if part)


def company_words(company: object) -> str:
    """Return name and number of a company."""
    assert isinstance(company, dict)  # noqa: S101 (as it is stored)
    return f"{printable(company['name'], 60)} (company {printable(company['id'], 40)})"


def _steps(rows: Iterable[Row]) -> list[str]:
    """Return what to do now for each of these."""
    return [
        f"{row.account}: {f'as {printable(row.login, 60)}. ' if row.login else ''}{' '.join(row.steps)}"
        for row in rows
        if row.state == "logging in"
    ]


def _accounts(number: int) -> str:
    return f"{number} account" if number == 1 else f"{number} accounts"


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, no_color=not voice.colour(), highlight=False, emoji=False, markup=False)
