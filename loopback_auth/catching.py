"""Which redirect decides a login: from the loopback server or pasted, the first good one; and what all are told.

Whoever does not know the `state` (or hold what stands in for it) can neither end a login nor feed it.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

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
)
from loopback_auth.progress import BrowserFailed, Progress, Rejected, Stored, WrongPath
from loopback_auth.redirect.pages import Page
from loopback_auth.redirect.paste import PastedRedirect, parse_pasted
from loopback_auth.redirect.server import LoopbackServer, Redirect


class Catch:
    """The redirects of one login: the first good one decides, all good ones are told how it ended."""

    def __init__(self, request: AuthorizationRequest, tell: Callable[[Progress], None]) -> None:
        self.code: asyncio.Future[AuthorizationCode] = asyncio.get_running_loop().create_future()
        self.caught_at = 0.0
        self._request = request
        self._tell = tell
        self._held: list[Redirect | PastedRedirect] = []
        self._page: Page | None = None

    async def redirects(self, server: LoopbackServer) -> None:
        """Judge what comes to the loopback server, for ever."""
        expected = server.redirect_uri.path
        while True:
            redirect = await server.next()
            if redirect.path == expected:
                self._judge(redirect, "cookie" if redirect.from_our_browser else None)
            else:
                redirect.reject()
                self._tell(WrongPath(redirect.path))

    async def pastes(self, pasted: Callable[[], Awaitable[str]], server: LoopbackServer) -> None:
        """Judge what is pasted into the terminal, for ever."""
        while True:
            text = await pasted()
            try:
                redirect = parse_pasted(text, server.redirect_uri)
            except RedirectRejected as rejected:
                self._tell(Rejected(str(rejected), pasted=True))
            else:
                self._judge(redirect, "pasted")

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
            outcome = parse_authorization_response(self._request, redirect.query.reveal(), otherwise=otherwise)
        except RedirectRejected as rejected:
            redirect.reject()
            self._tell(Rejected(str(rejected), pasted=otherwise == "pasted"))
            return
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
    server: LoopbackServer,
    request: AuthorizationRequest,
    browser: subprocess.Popen[bytes] | str | None,
    pasted: Callable[[], Awaitable[str]] | None,
    tell: Callable[[Progress], None],
) -> AsyncIterator[Catch]:
    """Catch redirects in the background; on an error, say so to the browsers that wait, and on the start page."""
    catch = Catch(request, tell)
    tasks = [asyncio.create_task(catch.redirects(server))]
    if pasted is not None:
        tasks.append(asyncio.create_task(catch.pastes(pasted, server)))
    if isinstance(browser, subprocess.Popen):
        tasks.append(asyncio.create_task(_watch(browser, tell)))
    try:
        yield catch
    except BaseException as error:
        if isinstance(error, TokenEndpointUnreachable):
            server.start_shows("unreachable")
        catch.answer(_page_for(error))
        raise
    finally:
        try:
            await server.last_page_fetched()  # a second click on Allow may still come
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
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if connecting in done and not catch.code.done():
                    connecting.result()
                    waiting.discard(connecting)
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
