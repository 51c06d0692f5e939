"""The run: every account of a list goes through the grant, one after another or several at once, on one server.

Whoever is at the board steers it. An account counts as done once its tokens are durable; the rest is in `rows.py`.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from loopback_auth import clock
from loopback_auth.adoption import adopt_left
from loopback_auth.beginning import journal_of, only_login
from loopback_auth.catching import Catches
from loopback_auth.errors import (
    AuthorizationDenied,
    LoginTimedOut,
    LoopbackAuthError,
    StoreBusy,
    StoreError,
    WrongAccount,
)
from loopback_auth.grant import Grant
from loopback_auth.login import authorization_code_grant
from loopback_auth.onboarding.rows import UNDONE, Row, Rows, State
from loopback_auth.progress import CodeReceived, CompanyUnknown, Progress, Stored
from loopback_auth.redirect.listener import new_nonce
from loopback_auth.redirect.server import LoopbackServer
from loopback_auth.redirect.windows import Window
from loopback_auth.secret import Secret
from loopback_auth.standing import standing_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account

LINGER = 1.0
"""Seconds that a window shows its last page before it is closed."""
GRACE = 1.0
"""Seconds that a redirect may still take to arrive when its window is gone."""
LOOK = 0.1
"""Seconds between two looks at whether a window is still there."""
ONE_FOR_ALL = (3, 8, 9)
"""Exit statuses of what will be no better with the next account of the same client: configuration, store, server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One account to be logged in, whatever else is known of it."""

    grant: Grant
    client_secret: Secret | None = field(repr=False)
    login_hint: str | None = None
    redo: bool = False
    """Log in although what is stored is good."""


@dataclass(slots=True)
class _Sitting:
    """One try to log in to an account: the task it goes on in, its window and who watches that, what was stored."""

    login: asyncio.Task[None] | None
    window: Window | None = None
    watching: asyncio.Task[None] | None = None
    stored: Account | None = None


class Opens(Protocol):
    """Opens windows: `redirect.windows.Windows`."""

    def show(self, url: str) -> Window | str:
        """Open `url`, or say in a few words why that cannot be done."""


class Run:
    """One run through `rows`, of which the n-th is about the n-th of `wanted`. Implements the board's `Steering`."""

    def __init__(
        self,
        rows: Rows,
        wanted: Sequence[Wanted],
        *,
        store: Accounts,
        windows: Opens,
        parallel: int,
        timeout: float,
        is_watched: Callable[[], bool] = lambda: False,
        tell: Callable[[Row, Progress], None] = lambda _row, _progress: None,
        now: Callable[[], clock.Moment] = clock.now,
    ) -> None:
        """`parallel` windows are opened by itself at once; `timeout` is in seconds, for one account.

        While `is_watched` and an account needs a person, the run waits for them.
        """
        self._rows = rows
        self._wanted = wanted
        self._store = store
        self._windows = windows
        self._parallel = parallel
        self._timeout = timeout
        self._is_watched = is_watched
        self._tell = tell
        self._now = now
        self._queue: deque[Row] = deque()
        self._under_way: dict[Row, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()

    async def look(self) -> None:
        """Find out what is done already: stored, good, and of the company that is expected. Opens nothing."""
        for row in self._rows:
            wanted = self._wanted[row.number]
            try:
                await adopt_left(self._store, row.account)
            except LoopbackAuthError as error:  # of a login that was killed: this one is another
                self._rows.change(row, message=str(error))
            account = None if wanted.redo else done_already(wanted.grant, self._store, self._now())
            if account is None:
                self._queue.append(row)
            else:
                self._rows.change(row, state="done", company=account.company, exit_status=0)

    async def go(self, server: LoopbackServer, catches: Catches) -> None:
        """Log in to all that are waiting; return when nothing more can come of it. `catches` is the server's judge."""
        self._server, self._catches = server, catches
        try:
            while True:
                self._stirred.clear()
                while self._queue and len(self._under_way) < self._parallel:
                    self._start(self._queue.popleft())
                if not self._under_way and not self._is_awaited():
                    return
                await self._something(0.5)
        finally:
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), *self._closing, return_exceptions=True)

    def connect(self, number: int) -> None:
        """Open this account's login now, or again. Without effect while it is under way, or done."""
        row = self._rows[number]
        if row.state == "done" or row in self._under_way:
            return
        if row in self._queue:
            self._queue.remove(row)
        self._start(row)
        self._stirred.set()

    def skip(self, number: int) -> None:
        """Leave this account out, unless its code is on its way already."""
        row = self._rows[number]
        if row.state == "waiting":
            if row in self._queue:
                self._queue.remove(row)
            self._settle(row, "skipped", "skipped; the next run asks for it again")
        elif row.state == "logging in":
            self._settle(row, "skipped", "skipped; the next run asks for it again")
            self._under_way[row].cancel()
        self._stirred.set()

    # -- within

    def _is_awaited(self) -> bool:
        """Whether somebody at the board may still do something about what did not work."""
        needs_a_person = any(row.state not in ("done", "skipped") for row in self._rows)
        return needs_a_person and self._is_watched()

    async def _something(self, within: float) -> None:
        """Wait until a login has ended or somebody has pressed a button."""
        stirred = asyncio.ensure_future(self._stirred.wait())
        try:
            await asyncio.wait(
                {stirred, *self._under_way.values()}, timeout=within, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stirred.cancel()

    def _start(self, row: Row) -> None:
        task = asyncio.create_task(self._log_in(row, self._wanted[row.number]))
        self._under_way[row] = task

        def ended(task: asyncio.Task[None]) -> None:
            del self._under_way[row]
            if not task.cancelled() and (error := task.exception()) is not None:
                self._settle(row, "failed", f"unexpected: {type(error).__name__}", exit_status=1)
                asyncio.get_running_loop().call_exception_handler({"message": "a login failed", "exception": error})

        task.add_done_callback(ended)

    async def _log_in(self, row: Row, wanted: Wanted) -> None:
        """Take one account through the grant; whatever becomes of it stands in its row."""
        self._rows.change(
            row, state="logging in", began=time.monotonic(), ended=None, message=None, company=None, start_url=None
        )
        sitting = _Sitting(asyncio.current_task())
        try:
            self._done(row, await self._granted(row, wanted, sitting))
        except AuthorizationDenied as denied:
            self._settle(row, "denied", str(denied), denied.exit_status)
        except WrongAccount as wrong:
            self._settle(row, "wrong account", str(wrong), wrong.exit_status, company=wrong.company)
        except LoginTimedOut as late:
            self._settle(row, "timed out", str(late), late.exit_status)
        except LoopbackAuthError as error:
            self._settle(row, "failed", str(error), error.exit_status)
            if error.exit_status in ONE_FOR_ALL and not isinstance(error, StoreBusy):
                self._hold_back(wanted, error)
        except asyncio.CancelledError:
            if row.is_settled:  # skipped, or its window was closed: that is why
                return
            if sitting.stored is not None:
                self._done(row, sitting.stored)
            else:
                self._rows.change(row, state="waiting", message="interrupted", ended=time.monotonic())
            raise
        finally:
            if sitting.watching is not None:
                sitting.watching.cancel()
            if sitting.window is not None:
                self._close(sitting.window, LINGER if row.state in ("done", "denied", "wrong account") else 0)

    async def _granted(self, row: Row, wanted: Wanted, sitting: _Sitting) -> Account:
        """Open the window and wait for its person; return the account as it was stored."""

        def browser(start_url: str) -> subprocess.Popen[bytes] | str | None:
            opened = self._windows.show(start_url)
            if isinstance(opened, str):
                self._rows.change(row, start_url=start_url)
                return opened
            sitting.window = opened
            sitting.watching = asyncio.create_task(self._watch(row, opened, sitting))
            return None

        def tell(progress: Progress) -> None:
            match progress:
                case CodeReceived():
                    self._rows.change(row, state="storing", start_url=None)
                case Stored(account):
                    sitting.stored = account
                    if account.company is not None or account.registration.server.company_path is None:
                        self._done(row, account)  # else once it was asked for
                case CompanyUnknown(why):
                    self._rows.change(row, message=f"whose data this is could not be asked: {why}")
            self._tell(row, progress)

        await adopt_left(self._store, row.account)
        with journal_of(wanted.grant, self._store, self._now) as journal, only_login(self._store, row.account):
            return await authorization_code_grant(
                wanted.grant,
                journal,
                new_nonce(),
                nullcontext(self._server),
                self._catches,
                browser,
                redirect_uri=self._server.redirect_uri,
                store=self._store,
                client_secret=wanted.client_secret,
                timeout=self._timeout,
                login_hint=wanted.login_hint,
                tell=tell,
                now=self._now,
            )

    async def _watch(self, row: Row, window: Window, sitting: _Sitting) -> None:
        """End a login whose window the person has closed; of any other command, one whose command failed."""
        while (status := window.ended()) is None:  # noqa: ASYNC110 (a process tells nobody that it has ended)
            await asyncio.sleep(LOOK)
        if not window.isolated and status == 0:  # it has told a browser that runs already
            return
        await asyncio.sleep(GRACE)
        if row.state == "logging in" and sitting.login is not None:
            if window.isolated:
                self._settle(row, "window closed", "its window was closed before it came back")
            else:
                self._settle(row, "failed", f"the browser's command ended with {status}")
            sitting.login.cancel()

    def _done(self, row: Row, account: Account) -> None:
        message = row.message
        if account.company is not None:
            twin = self._twin(row, account.company)
            if twin is not None:
                message = f"the same company as account {twin.account}"
        ended = time.monotonic() if row.state != "done" else row.ended
        self._rows.change(row, state="done", company=account.company, message=message, exit_status=0, ended=ended)

    def _twin(self, row: Row, company: Mapping[str, str]) -> Row | None:
        """Return another account of the same company at the same client: most often a slip in the browser."""
        registration = self._wanted[row.number].grant.registration
        for one in self._rows:
            is_done = one is not row and one.state == "done" and one.company is not None
            if (
                is_done
                and one.company == company
                and self._wanted[one.number].grant.registration.is_same_client(registration)
            ):
                return one
        return None

    def _settle(
        self, row: Row, state: State, message: str, exit_status: int | None = None, company: object = None
    ) -> None:
        status = UNDONE if exit_status is None else exit_status
        self._rows.change(
            row,
            state=state,
            message=message,
            company=company,
            exit_status=status,
            start_url=None,
            ended=time.monotonic(),
        )

    def _hold_back(self, wanted: Wanted, error: LoopbackAuthError) -> None:
        """Open no windows for accounts that will meet the same error; a person may, one by one."""
        for row in list(self._queue):
            if isinstance(error, StoreError) or self._wanted[row.number].grant.registration.is_same_client(
                wanted.grant.registration
            ):
                self._queue.remove(row)
                self._rows.change(row, message=f"not opened: {error}", exit_status=error.exit_status)

    def _close(self, window: Window, after: float) -> None:
        async def close() -> None:
            try:
                await asyncio.sleep(after)
            finally:
                await window.close()

        closing = asyncio.create_task(close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def done_already(grant: Grant, store: Accounts, now: clock.Moment) -> Account | None:
    """Return the account if it needs no login: of the same client, good, and of the company that is expected.

    Raises nothing: what cannot be read needs a login, which will say why.
    """
    try:
        account = store.load(grant.account)
        if account is None or standing_of(account, store, now).state != "ok":
            return None
    except LoopbackAuthError:
        return None
    if not account.registration.is_same_client(grant.registration):
        return None
    expected = grant.expected_company
    return account if expected is None or account.company is None or account.company["id"] == expected else None
