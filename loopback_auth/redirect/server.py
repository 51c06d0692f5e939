"""The temporary server on the loopback interface that catches the redirect (RFC 8252 §7.3).

Pull style: `redirect = await server.next()`, and later `redirect.answer(page)`; until then the browser waits.
It knows nothing of OAuth: which redirect is ours is for its caller to say. It never shows, logs or keeps what a
request holds, and acts on GET alone.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from loopback_auth.oauth.registration import RedirectURI
from loopback_auth.redirect.pages import BARE_HEADERS, STATUS, Page, render
from loopback_auth.redirect.sockets import listen
from loopback_auth.secret import Secret

LINE_LIMIT = 8190
"""Bytes of a request line: a 4 KiB code and what stands beside it."""
HEADER_LIMIT = 64 * 1024
"""Bytes of one header: other programs leave cookies on `localhost`, which would cost us the code."""
LAST_PAGE_TIMEOUT = 1.0
"""Seconds the browser has to fetch the last page, once it was told where that is."""

_muted = logging.getLogger("loopback_auth.redirect.muted")  # aiohttp logs the request line, and the code is in it
_muted.disabled = True


class Redirect:
    """A request that may be the redirect: `path` as it came, and the raw `query`. The browser waits for an answer."""

    def __init__(
        self, path: str, query: Secret, clean_address: Callable[[Page], str], *, from_our_browser: bool
    ) -> None:
        """`clean_address` returns where the server shows a page, and makes it wait for the browser to come there."""
        self.path = path
        self.query = query
        self.from_our_browser = from_our_browser
        """Whether it holds the cookie of this login's start page."""
        self.received_at = time.monotonic()
        self._clean_address = clean_address
        self._response: asyncio.Future[web.Response] = asyncio.get_running_loop().create_future()

    def answer(self, page: Page) -> None:
        """Send the browser to a clean address that shows `page`: no code stays in the address bar or the back list."""
        if not self._response.done():
            self._response.set_result(_bare(303, {"Location": self._clean_address(page)}))

    def reject(self) -> None:
        """Answer 400: not part of this login."""
        if not self._response.done():
            self._response.set_result(_page("rejected"))

    async def response(self) -> web.Response:
        """Wait for the answer."""
        return await self._response


class LoopbackServer:
    """Listens for one login. Made by `open`, which also ends it."""

    def __init__(self, redirect_uri: RedirectURI) -> None:
        self.redirect_uri = redirect_uri
        """With the port that was found, where any would do."""
        self._nonce = secrets.token_urlsafe(16)
        self._start_path = f"/start/{self._nonce}"
        self._cookie_name = f"loopback-auth-{secrets.token_hex(8)}"  # all ports of a host share their cookies
        self._cookie = Secret(secrets.token_urlsafe(32))
        self._start: Secret | Page = "used"
        self._redirects: asyncio.Queue[Redirect] = asyncio.Queue()
        self._open: set[Redirect] = set()
        self._to_fetch: set[str] = set()
        self._all_fetched = asyncio.Event()
        self._all_fetched.set()

    @classmethod
    @asynccontextmanager
    async def open(cls, redirect_uri: RedirectURI, tls: ssl.SSLContext | None = None) -> AsyncIterator[LoopbackServer]:
        """Listen on the redirect URI, with `tls` for an https one; on leaving, let the answers under way finish.

        Raises PortTaken, ConfigurationError.
        """
        sockets = listen(redirect_uri.host, redirect_uri.port)
        server = cls(redirect_uri.at_port(sockets[0].getsockname()[1]))
        runner = web.ServerRunner(_Server(server._handle), shutdown_timeout=LAST_PAGE_TIMEOUT)
        try:
            await runner.setup()
            for listening in sockets:
                await web.SockSite(runner, listening, ssl_context=tls).start()
            try:
                yield server
            finally:
                for redirect in server._open:
                    redirect.reject()
        finally:
            await runner.cleanup()
            for listening in sockets:
                listening.close()

    @property
    def start_url(self) -> str:
        """What the browser opens: the one-shot start page, on the redirect URI's own origin."""
        return f"{self.redirect_uri.scheme}://{self.redirect_uri.authority}{self._start_path}"

    def start_at(self, location: Secret) -> None:
        """Let the start page send the browser to `location`, once."""
        self._start = location

    def start_shows(self, page: Page) -> None:
        """Let the start page show `page` instead, if the browser has not been there yet."""
        if isinstance(self._start, Secret):
            self._start = page
            self._expect(self._start_path)

    async def next(self) -> Redirect:
        """Wait for the next request that may be the redirect: for its path, or for another with a code in it."""
        return await self._redirects.get()

    async def last_page_fetched(self) -> None:
        """Wait until the browsers have the page they were sent to, `LAST_PAGE_TIMEOUT` at most."""
        try:
            await asyncio.wait_for(self._all_fetched.wait(), LAST_PAGE_TIMEOUT)
        except TimeoutError:
            return

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "GET":
            return _bare(405, {"Allow": "GET"})
        if request.headers.getall("Host", []) != [self.redirect_uri.authority]:  # a rebound name is not us
            return _page("rejected")
        if set(request.headers.getall("Origin", [])) - {"null"}:  # a script of another page, never a navigation
            return _page("rejected")
        if "prefetch" in request.headers.get("Sec-Purpose", "") or "prefetch" in request.headers.get("Purpose", ""):
            return _bare(503)
        path, _, query = request.raw_path.partition("?")
        self._fetched(path)
        if path == self._start_path:
            return self._start_page()
        if (page := self._last_page(path)) is not None:
            return self._with_cookie(_page(page), "gone", "; Max-Age=0")
        if path == self.redirect_uri.path or _may_hold_code(query):
            ours = self._cookie.matches(request.cookies.get(self._cookie_name, ""))
            redirect = Redirect(path, Secret(query), self._clean_address, from_our_browser=ours)
            return await self._redirect(redirect)
        return _bare(404)

    def _start_page(self) -> web.StreamResponse:
        start, self._start = self._start, "used"
        if isinstance(start, Secret):
            return self._with_cookie(_bare(303, {"Location": start.reveal()}), self._cookie.reveal())
        return _page(start)

    def _with_cookie(self, response: web.Response, value: str, expires: str = "") -> web.Response:
        """Mark the browser that opened the start page: the mark comes back with the redirect, and no script sees it."""
        secure = "; Secure" if self.redirect_uri.scheme == "https" else ""
        cookie = f"{self._cookie_name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{expires}"
        response.headers["Set-Cookie"] = cookie
        return response

    async def _redirect(self, redirect: Redirect) -> web.StreamResponse:
        self._open.add(redirect)
        try:
            self._redirects.put_nowait(redirect)
            return await redirect.response()
        finally:
            self._open.discard(redirect)

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


def _bare(status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, headers={**BARE_HEADERS, **(headers or {})})


def _page(page: Page) -> web.Response:
    body, headers = render(page)
    return web.Response(status=STATUS[page], body=body, headers=headers)


class _Connection(web.RequestHandler):
    """One connection, as aiohttp handles it, except for what it says about a request it cannot read."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer with the bare status: aiohttp's own text would repeat a piece of the request."""
        response = _bare(status)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "no log", and says otherwise
            logger=_muted,
            max_line_size=LINE_LIMIT,
            max_field_size=HEADER_LIMIT,
            max_headers=HEADER_LIMIT,
            lingering_time=0,
            keepalive_timeout=10,
        )
