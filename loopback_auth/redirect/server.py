"""The temporary server on the loopback interface that catches the redirect (RFC 8252 §7.3).

Pull style: `redirect = await server.next()`, and later `redirect.answer(page)`; until then the browser waits.
It knows nothing of OAuth: which redirect is ours is for its caller to say. It never shows, logs or keeps what a
request holds, and acts on GET alone. A connection goes through `entrance.py` to `doorman.py`, and on to `http.py` if it
may be the redirect.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from loopback_auth.importing import imported
from loopback_auth.redirect.doorman import Doorman
from loopback_auth.redirect.entrance import Entrance
from loopback_auth.redirect.listener import Listener
from loopback_auth.redirect.pages import STATUS, Page
from loopback_auth.redirect.requests import Reply, Request
from loopback_auth.secret import Secret

if TYPE_CHECKING:
    from loopback_auth.redirect.http import HTTPServer

IMPORT_DELAY = 0.05
"""Seconds that the import of aiohttp waits for a browser to come: it would take the processor from its start page."""
LAST_PAGE_TIMEOUT = 1.0
"""Seconds the browser has to fetch the last page, once it was told where that is."""


class Redirect:
    """A request that may be the redirect: the raw `query` of it. The browser waits for an answer."""

    def __init__(self, query: Secret, clean_address: Callable[[Page], str], *, from_our_browser: bool) -> None:
        """`clean_address` returns where the server shows a page, and makes it wait for the browser to come there."""
        self.query = query
        self.from_our_browser = from_our_browser
        """Whether it holds the cookie of this login's start page."""
        self.received_at = time.monotonic()
        self._clean_address = clean_address
        self._reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def answer(self, page: Page) -> None:
        """Send the browser to a clean address that shows `page`: no code stays in the address bar or the back list."""
        if not self._reply.done():
            self._reply.set_result(Reply.bare(303, Location=self._clean_address(page)))

    def reject(self) -> None:
        """Answer 400: not part of this login."""
        if not self._reply.done():
            self._reply.set_result(Reply.page("rejected"))

    async def reply(self) -> Reply:
        """Wait for the answer."""
        return await self._reply


class Judge(Protocol):
    """Knows what the redirect must be. It is asked for each request: it must neither wait nor take long."""

    def is_stray(self, path: str, query: Secret, from_our_browser: bool) -> bool:
        """Whether a request cannot be this login's redirect."""

    def stranger_came(self) -> None:
        """Hear that another user of this machine asked for the start page, and did not get it."""


class LoopbackServer:
    """Answers for one login. Made by `open`, which also ends it."""

    def __init__(self, listener: Listener, location: Secret, judge: Judge) -> None:
        self._judge = judge
        self.redirect_uri = listener.redirect_uri
        self.start_url = listener.start_url
        self._start_path = listener.start_path
        self._nonce = listener.nonce
        self._cookie_name = f"loopback-auth-{secrets.token_hex(8)}"  # all ports of a host share their cookies
        self._cookie = Secret(secrets.token_urlsafe(32))
        self._start: Secret | Page = location
        self._redirects: asyncio.Queue[Redirect] = asyncio.Queue()
        self._open: set[Redirect] = set()
        self._to_fetch: set[str] = set()
        self._all_fetched = asyncio.Event()
        self._all_fetched.set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        listener: Listener,
        location: Secret,
        tls: ssl.SSLContext | None,
        judge: Judge,
    ) -> AsyncIterator[LoopbackServer]:
        """Answer on `listener`, with `tls` for an https redirect URI; the start page sends the browser to `location`.

        On leaving, the answers under way are let finish. aiohttp is imported meanwhile, in a thread.
        """
        server = cls(listener, location, judge)
        doorman = Doorman(server._first_reply)
        async with Entrance.open(listener.sockets, tls, doorman.meet):
            handing_over = asyncio.create_task(_hand_over(doorman, server._answer))
            try:
                yield server
            finally:
                for redirect in server._open:
                    redirect.reject()
                http = await handing_over
                doorman.close()
                await http.end(LAST_PAGE_TIMEOUT)

    def start_shows(self, page: Page) -> None:
        """Let the start page show `page` instead, if the browser has not been there yet."""
        if isinstance(self._start, Secret):
            self._start = page
            self._expect(self._start_path)

    async def next(self) -> Redirect:
        """Wait for the next request that is no stray one."""
        return await self._redirects.get()

    async def last_page_fetched(self) -> None:
        """Wait until the browsers have the page they were sent to, `LAST_PAGE_TIMEOUT` at most."""
        try:
            await asyncio.wait_for(self._all_fetched.wait(), LAST_PAGE_TIMEOUT)
        except TimeoutError:
            return

    async def _answer(self, request: Request) -> Reply:
        """Answer anything; a request that may be the redirect waits until its answer is known."""
        reply = self._first_reply(request)
        if reply is not None:
            return reply
        query = Secret(request.target.partition("?")[2])
        redirect = Redirect(query, self._clean_address, from_our_browser=self._has_cookie(request))
        self._open.add(redirect)
        try:
            self._redirects.put_nowait(redirect)
            return await redirect.reply()
        finally:
            self._open.discard(redirect)

    def _first_reply(self, request: Request) -> Reply | None:
        """Answer what needs no waiting; None for what may be the redirect."""
        if request.method != "GET":
            return Reply.bare(405, Allow="GET")
        if request.every("host") != [self.redirect_uri.authority]:  # a rebound name is not us, and reads nothing
            return Reply.bare(400)
        if set(request.every("origin")) - {"null"}:  # a script of another page, never a navigation
            return Reply.page("rejected")
        if any("prefetch" in value for value in (*request.every("sec-purpose")[:1], *request.every("purpose")[:1])):
            return Reply.bare(503)
        path, _, query = request.target.partition("?")
        page = self._last_page(path)
        is_start = path == self._start_path
        if not (is_start or page or path == self.redirect_uri.path or _may_hold_code(query)):
            return Reply.bare(404)
        if set(request.every("sec-fetch-dest")) - {"document"}:  # an image, a frame, a script: part of another page
            return Reply.page("rejected")
        if is_start and request.sender != "ours":  # the address stands in the process list
            if request.sender == "a stranger":
                self._judge.stranger_came()
            return Reply.page("rejected")
        self._fetched(path)
        if is_start:
            return self._start_page()
        if page is not None:
            return self._with_cookie(Reply.page(page), "gone", "; Max-Age=0")
        if self._judge.is_stray(path, Secret(query), self._has_cookie(request)):
            return Reply.page("rejected")
        return None

    def _start_page(self) -> Reply:
        start, self._start = self._start, "used"
        if isinstance(start, Secret):
            return self._with_cookie(Reply.bare(303, Location=start.reveal()), self._cookie.reveal())
        return Reply.page(start)

    def _has_cookie(self, request: Request) -> bool:
        return self._cookie.matches(request.cookie(self._cookie_name))

    def _with_cookie(self, reply: Reply, value: str, expires: str = "") -> Reply:
        """Mark the browser that opened the start page: the mark comes back with the redirect, and no script sees it."""
        secure = "; Secure" if self.redirect_uri.scheme == "https" else ""
        cookie = f"{self._cookie_name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{expires}"
        reply.headers["Set-Cookie"] = cookie
        return reply

    def _clean_address(self, page: Page) -> str:
        address = f"/{self._nonce}/{page}"
        self._expect(address)
        return address

    def _last_page(self, path: str) -> Page | None:
        return next((page for page in STATUS if path == f"/{self._nonce}/{page}"), None)

    def _expect(self, path: str) -> None:
        """Stay until the browser has fetched `path`, or `LAST_PAGE_TIMEOUT` is over."""
        self._to_fetch.add(path)
        self._all_fetched.clear()

    def _fetched(self, path: str) -> None:
        self._to_fetch.discard(path)
        if not self._to_fetch:
            self._all_fetched.set()


def _may_hold_code(query: str) -> bool:
    return any(part.startswith(("code=", "error=")) for part in query.split("&"))


async def _hand_over(doorman: Doorman, answer: Callable[[Request], Awaitable[Reply]]) -> HTTPServer:
    """Import aiohttp, while the doorman answers, and let it serve from then on."""
    await doorman.first_answered(IMPORT_DELAY)
    http = (await imported(_import_http))(answer)
    doorman.hand_over(http)
    return http


def _import_http() -> type[HTTPServer]:
    from loopback_auth.redirect.http import HTTPServer

    return HTTPServer
