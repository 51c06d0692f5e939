"""One login whose redirect is expected: its start page, the mark on its browser, what came, its last page."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping

from loopback_auth.oauth.registration import RedirectURI
from loopback_auth.redirect.listener import start_path
from loopback_auth.redirect.pages import STATUS, Page
from loopback_auth.redirect.requests import Reply
from loopback_auth.secret import Secret

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


class Expected:
    """What a `LoopbackServer` knows of one login. It has addresses of its own there, which only its browser is told."""

    def __init__(self, redirect_uri: RedirectURI, nonce: str, location: Secret) -> None:
        self.start_path = start_path(nonce)
        self.start_url = redirect_uri.origin + self.start_path
        """What the browser opens: the one-shot start page, which sends it to `location`."""
        self._pages: dict[str, Page] = {f"/{nonce}/{page}": page for page in STATUS}
        self._clean = {page: path for path, page in self._pages.items()}
        self._cookie_name = f"loopback-auth-{secrets.token_hex(8)}"  # all ports of a host share their cookies
        self._cookie = Secret(secrets.token_urlsafe(32))
        self._cookie_is_for = "; Path=/; HttpOnly; SameSite=Lax" + (
            "; Secure" if redirect_uri.scheme == "https" else ""
        )
        self._start: Secret | Page = location
        self._redirects: asyncio.Queue[Redirect] = asyncio.Queue()
        self._open: set[Redirect] = set()
        self._to_fetch: set[str] = set()
        self._all_fetched = asyncio.Event()
        self._all_fetched.set()

    @property
    def paths(self) -> tuple[str, ...]:
        """The addresses of its own."""
        return self.start_path, *self._pages

    def start_shows(self, page: Page) -> None:
        """Let the start page show `page` instead, if the browser has not been there yet."""
        if isinstance(self._start, Secret):
            self._start = page
            self._expect(self.start_path)

    async def next(self) -> Redirect:
        """Wait for the next request that is no stray one."""
        return await self._redirects.get()

    async def last_page_fetched(self) -> None:
        """Wait until the browsers have the page they were sent to, `LAST_PAGE_TIMEOUT` at most."""
        try:
            await asyncio.wait_for(self._all_fetched.wait(), LAST_PAGE_TIMEOUT)
        except TimeoutError:
            return

    def has_marked(self, cookies: Mapping[str, str]) -> bool:
        """Whether the browser that sends these cookies is the one which opened the start page."""
        return self._cookie.matches(cookies.get(self._cookie_name, ""))

    def page_at(self, path: str) -> Reply:
        """Answer whoever opens one of `paths`."""
        self._to_fetch.discard(path)
        if not self._to_fetch:
            self._all_fetched.set()
        if path != self.start_path:
            return self._with_cookie(Reply.page(self._pages[path]), "gone", "; Max-Age=0")
        start, self._start = self._start, "used"
        if isinstance(start, Secret):
            return self._with_cookie(Reply.bare(303, Location=start.reveal()), self._cookie.reveal())
        return Reply.page(start)

    async def reply_to(self, query: Secret, *, from_our_browser: bool) -> Reply:
        """Let what may be the redirect wait until its answer is known."""
        redirect = Redirect(query, self._clean_address, from_our_browser=from_our_browser)
        self._open.add(redirect)
        try:
            self._redirects.put_nowait(redirect)
            return await redirect.reply()
        finally:
            self._open.discard(redirect)

    def close(self) -> None:
        """Let nobody wait any more."""
        for redirect in self._open:
            redirect.reject()

    def _with_cookie(self, reply: Reply, value: str, expires: str = "") -> Reply:
        """Mark the browser that opened the start page: the mark comes back with the redirect, and no script sees it."""
        reply.headers["Set-Cookie"] = f"{self._cookie_name}={value}{self._cookie_is_for}{expires}"
        return reply

    def _clean_address(self, page: Page) -> str:
        address = self._clean[page]
        self._expect(address)
        return address

    def _expect(self, path: str) -> None:
        """Stay until the browser has fetched `path`, or `LAST_PAGE_TIMEOUT` is over."""
        self._to_fetch.add(path)
        self._all_fetched.clear()
