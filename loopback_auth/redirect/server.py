"""The temporary server on the loopback interface that catches redirects (RFC 8252 §7.3): of one login, or of many.

It knows nothing of OAuth: whose a redirect is, is for its caller to say. It never shows, logs or keeps what a request
holds, and acts on GET alone. A connection goes through `entrance.py` to `doorman.py`, and on to `http.py` if it may be
a redirect, which waits in `expected.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol

from loopback_auth.importing import imported
from loopback_auth.redirect.doorman import Doorman
from loopback_auth.redirect.entrance import Entrance
from loopback_auth.redirect.expected import LAST_PAGE_TIMEOUT, Expected
from loopback_auth.redirect.listener import Listener
from loopback_auth.redirect.requests import Reply, Request
from loopback_auth.secret import Secret

if TYPE_CHECKING:
    from loopback_auth.redirect.http import HTTPServer

IMPORT_DELAY = 0.05
"""Seconds that the import of aiohttp waits for a browser to come: it would take the processor from its start page."""


class Judge(Protocol):
    """Knows what redirects must be. It is asked for each request: it must neither wait nor take long."""

    def whose(self, path: str, query: Secret, marked: Sequence[Expected]) -> Expected | None:
        """Return the login whose redirect a request may be, None for a stray one.

        `marked` are the logins whose start pages the browser has opened.
        """

    def stranger_came(self) -> None:
        """Hear that another user of this machine asked for a start page, and did not get it."""


class Site(Protocol):
    """Pages beside the logins, on the same origin. Only the Host of a request has been looked at."""

    path: str
    """It has this path, and all that is below it."""

    def first_reply(self, request: Request) -> Reply | None:
        """Answer what needs no waiting; None for what `answer` is to answer."""

    async def answer(self, request: Request) -> Reply:
        """Answer what `first_reply` did not."""


class LoopbackServer:
    """Answers on one listener. Made by `open`, which also ends it.

    Pull style: `redirect = await expected.next()`, later `redirect.answer(page)`; until then the browser waits.
    """

    def __init__(self, listener: Listener, judge: Judge, site: Site | None) -> None:
        self._judge = judge
        self._site = site
        self.redirect_uri = listener.redirect_uri
        self._expected: list[Expected] = []
        self._pages: dict[str, Expected] = {}
        """By path."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, listener: Listener, tls: ssl.SSLContext | None, judge: Judge, site: Site | None = None
    ) -> AsyncIterator[LoopbackServer]:
        """Answer on `listener`, with `tls` for an https redirect URI.

        On leaving, the answers under way are let finish. aiohttp is imported meanwhile, in a thread.
        """
        server = cls(listener, judge, site)
        doorman = Doorman(server._first_reply)
        async with Entrance.open(listener.sockets, tls, doorman.meet):
            handing_over = asyncio.create_task(_hand_over(doorman, server._answer))
            try:
                yield server
            finally:
                http = await handing_over
                doorman.close()
                await http.end(LAST_PAGE_TIMEOUT)

    @contextmanager
    def expect(self, location: Secret, nonce: str) -> Iterator[Expected]:
        """Expect the redirect of one login while this lasts; its start page sends the browser to `location`."""
        expected = Expected(self.redirect_uri, nonce, location)
        self._expected.append(expected)
        self._pages |= dict.fromkeys(expected.paths, expected)
        try:
            yield expected
        finally:
            self._expected.remove(expected)
            for path in expected.paths:
                del self._pages[path]
            expected.close()

    async def _answer(self, request: Request) -> Reply:
        """Answer anything; what may be a redirect waits until its answer is known."""
        reply = self._first_reply(request)
        if reply is not None:
            return reply
        if self._site is not None and self._is_beside(request):
            return await self._site.answer(request)
        path, _, query = request.target.partition("?")
        marked = self._marked(request)
        expected = self._judge.whose(path, Secret(query), marked)
        if expected is None:
            return Reply.page("rejected")
        return await expected.reply_to(Secret(query), from_our_browser=expected in marked)

    def _first_reply(self, request: Request) -> Reply | None:
        """Answer what needs no waiting; None for what may be a redirect."""
        is_us = request.every("host") == [self.redirect_uri.authority]  # a rebound name is not us, and reads nothing
        if is_us and self._site is not None and self._is_beside(request):
            return self._site.first_reply(request)
        if request.method != "GET":
            return Reply.bare(405, Allow="GET")
        if not is_us:
            return Reply.bare(400)
        if set(request.every("origin")) - {"null"}:  # a script of another page, never a navigation
            return Reply.page("rejected")
        if any("prefetch" in value for value in (*request.every("sec-purpose")[:1], *request.every("purpose")[:1])):
            return Reply.bare(503)
        path, _, query = request.target.partition("?")
        expected = self._pages.get(path)
        if not (expected or path == self.redirect_uri.path or _may_hold_code(query)):
            return Reply.bare(404)
        if set(request.every("sec-fetch-dest")) - {"document"}:  # an image, a frame, a script: part of another page
            return Reply.page("rejected")
        if expected is not None:
            if path == expected.start_path and request.sender != "ours":  # the address stands in the process list
                if request.sender == "a stranger":
                    self._judge.stranger_came()
                return Reply.page("rejected")
            return expected.page_at(path)
        if self._judge.whose(path, Secret(query), self._marked(request)) is None:
            return Reply.page("rejected")
        return None

    def _is_beside(self, request: Request) -> bool:
        path = request.target.partition("?")[0]
        return self._site is not None and (path == self._site.path or path.startswith(f"{self._site.path}/"))

    def _marked(self, request: Request) -> list[Expected]:
        cookies = request.cookies()
        return [expected for expected in self._expected if expected.has_marked(cookies)] if cookies else []


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
