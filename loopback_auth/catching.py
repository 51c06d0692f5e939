"""Which redirect decides which login: from the loopback server or pasted, the first good one; and what all are told.

Whoever does not know the `state` (or hold what stands in for it) can neither end a login nor feed it.
"""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from loopback_auth.errors import (
    AuthorizationDenied,
    AuthorizationResponseError,
    LoginTimedOut,
    RedirectRejected,
    TokenEndpointUnreachable,
    WrongAccount,
)
from loopback_auth.oauth.authorization import (
    AuthorizationCode,
    AuthorizationRequest,
    Evidence,
    parse_authorization_response,
    states_in,
)
from loopback_auth.oauth.registration import RedirectURI
from loopback_auth.progress import BrowserFailed, Progress, Rejected, Stored, StrangerCame, WrongPath
from loopback_auth.redirect.expected import Expected, Redirect
from loopback_auth.redirect.pages import Page
from loopback_auth.redirect.paste import PastedRedirect, parse_pasted
from loopback_auth.secret import Secret


class Catches:
    """The logins that are caught on one loopback server, told apart by their `state`, or by what stands in for it."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        """`tell` hears only of the first stray request."""
        self._tell = tell
        self._told: set[str] = set()
        self._catches: dict[Expected, Catch] = {}
        self._by_state: dict[bytes, Expected] = {}
        """By digest: how long it takes to look there tells nothing about a state."""

    @contextmanager
    def adding(self, catch: Catch, expected: Expected) -> Iterator[None]:
        """Let a login be among them while this lasts."""
        digest = _digest(catch.request.state.reveal())
        self._catches[expected], self._by_state[digest] = catch, expected
        try:
            yield
        finally:
            del self._catches[expected], self._by_state[digest]

    def whose(self, path: str, query: Secret, marked: Sequence[Expected]) -> Expected | None:
        """Return the login whose redirect this is; its state, or what stands in for it, decides that before all else.

        Implements `redirect.server.Judge`.
        """
        expected = self._named_by(query, marked)
        if expected is None:
            return None
        catch = self._catches[expected]
        try:
            catch.parse(query, "cookie" if expected in marked else None)
        except RedirectRejected as rejected:
            self._tell_once("stray", Rejected(str(rejected), pasted=False))
            return None
        except AuthorizationResponseError:
            pass  # the server's own no is this login's too
        if path == catch.redirect_uri.path:
            return expected
        self._tell_once("path", WrongPath(path))  # of this login: worth a word of its own
        return None

    def stranger_came(self) -> None:
        """Say so: nobody else should know the start page's address, unless from the process list."""
        self._tell_once("stray", StrangerCame())

    def _named_by(self, query: Secret, marked: Sequence[Expected]) -> Expected | None:
        """Return the one login that this may belong to; where no more can be said, one of all, which will refuse it."""
        if len(self._catches) == 1:
            return next(iter(self._catches))
        for state in states_in(query.reveal()):
            if found := self._by_state.get(_digest(state)):
                return found
        if len(marked) == 1:  # one browser for several logins: its mark says nothing
            return marked[0]
        return next(iter(self._catches), None)

    def _tell_once(self, kind: str, what: Progress) -> None:
        """Whoever sends wrong requests by the thousand must not fill a terminal."""
        if kind not in self._told:
            self._told.add(kind)
            self._tell(what)


class Catch:
    """The redirects of one login: the first good one decides, all good ones are told how it ended."""

    def __init__(
        self, request: AuthorizationRequest, redirect_uri: RedirectURI, tell: Callable[[Progress], None]
    ) -> None:
        """`tell` hears of each wrong paste."""
        self.code: asyncio.Future[AuthorizationCode] = asyncio.get_running_loop().create_future()
        self.caught_at = 0.0
        self.request = request
        self.redirect_uri = redirect_uri
        self._tell = tell
        self._held: list[Redirect | PastedRedirect] = []
        self._page: Page | None = None

    def parse(self, query: Secret, otherwise: Evidence | None) -> AuthorizationCode:
        """Return the code of this login's redirect; raises what `parse_authorization_response` raises."""
        return parse_authorization_response(self.request, query.reveal(), otherwise=otherwise)

    async def redirects(self, expected: Expected) -> None:
        """Judge what comes to the loopback server, for ever."""
        while True:
            redirect = await expected.next()
            self._judge(redirect, "cookie" if redirect.from_our_browser else None)

    async def pastes(self, pasted: Callable[[], Awaitable[str]]) -> None:
        """Judge what is pasted into the terminal, for ever."""
        while True:
            text = await pasted()
            try:
                self._judge(parse_pasted(text, self.redirect_uri), "pasted")
            except RedirectRejected as rejected:
                self._tell(Rejected(str(rejected), pasted=True))

    def tell(self, progress: Progress) -> None:
        """Pass it on; once the tokens are stored the browsers hear that, whatever becomes of our caller."""
        if isinstance(progress, Stored):
            self.answer("signed_in")
        self._tell(progress)

    def answer(self, page: Page) -> None:
        """Tell every browser that waits, and those that still come, how the login ended: the first word stands."""
        self._page = self._page or page
        for redirect in self._held:
            redirect.answer(self._page)

    def _judge(self, redirect: Redirect | PastedRedirect, otherwise: Evidence | None) -> None:
        """Let a good redirect decide, once, and hold its browser; a second click on Allow deserves the same answer."""
        try:
            outcome = self.parse(redirect.query, otherwise)
        except AuthorizationResponseError as refusal:
            if not self.code.done():
                self.code.set_exception(refusal)
        else:
            if not self.code.done():
                self.caught_at = redirect.received_at
                self.code.set_result(outcome)
        self._held.append(redirect)
        if self._page is not None:
            redirect.answer(self._page)


@asynccontextmanager
async def catching(
    catch: Catch,
    expected: Expected,
    browser: subprocess.Popen[bytes] | str | None,
    pasted: Callable[[], Awaitable[str]] | None,
) -> AsyncIterator[None]:
    """Catch redirects in the background; on an error, say so to the browsers that wait, and on the start page."""
    tasks = [asyncio.create_task(catch.redirects(expected))]
    if pasted is not None:
        tasks.append(asyncio.create_task(catch.pastes(pasted)))
    if isinstance(browser, subprocess.Popen):
        tasks.append(asyncio.create_task(_watch(browser, catch.tell)))
    try:
        yield
    except BaseException as error:
        if isinstance(error, TokenEndpointUnreachable):
            expected.start_shows("unreachable")
        catch.answer(_page_for(error))
        raise
    finally:
        try:
            await expected.last_page_fetched()  # a second click on Allow may still come
        finally:
            for task in tasks:
                task.cancel()
            catch.code.cancel()


async def _watch(browser: subprocess.Popen[bytes], tell: Callable[[Progress], None]) -> None:
    """Say so if the browser's command fails; one that has not within 20 seconds is on its own."""
    try:
        for _ in range(80):
            if browser.poll() is not None:
                if browser.returncode != 0:
                    tell(BrowserFailed(browser.returncode))
                return
            await asyncio.sleep(0.25)
    finally:
        browser.returncode = browser.returncode or 0  # nobody waits for it: no warning that it still runs


async def first_code(catch: Catch, connecting: asyncio.Task[None], timeout: float) -> AuthorizationCode:
    """Wait for the person, unless the token endpoint turns out to be out of reach: then nothing is to be waited for."""
    waiting: set[asyncio.Future[AuthorizationCode] | asyncio.Task[None]] = {catch.code, connecting}
    try:
        async with asyncio.timeout(timeout):
            while not catch.code.done():
                if connecting in waiting and connecting.done():  # before the start page is asked for, if it can be
                    connecting.result()
                    waiting.discard(connecting)
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        raise LoginTimedOut(
            f"no redirect arrived within {timeout:.0f} s",
            hint="nothing was spent; run the login again and click Allow in time, or give it longer with --timeout 15m",
        ) from None
    finally:
        if not catch.code.done():
            connecting.cancel()
        connecting.add_done_callback(lambda task: task.cancelled() or task.exception())  # said above, or by the send
    return catch.code.result()


def _page_for(error: BaseException) -> Page:
    match error:
        case AuthorizationDenied():
            return "denied"
        case AuthorizationResponseError():
            return "refused"
        case WrongAccount():
            return "wrong_account"
        case _:
            return "failed"


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode(errors="surrogatepass")).digest()
