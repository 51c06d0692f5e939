"""The board: a web page beside the logins that shows live how a run gets on, and steers it.

It shows what no other page of the loopback server may, so it is for one person's browsers alone. Who holds the address
that the terminal shows gets in once, and a cookie for later. Pages of other origins get nothing: not read, not framed,
not steered. The page itself is static: what is known of the rows comes as events, and is never part of any markup.
"""

from __future__ import annotations

import re
import secrets
from typing import Protocol

from loopback_auth.onboarding.pages import Page, render
from loopback_auth.onboarding.rows import Rows
from loopback_auth.onboarding.stream import Streams
from loopback_auth.redirect.pages import BARE_HEADERS
from loopback_auth.redirect.requests import Reply, Request
from loopback_auth.secret import Secret

_KEY = re.compile(r"/[A-Za-z0-9_-]{43}")
"""256 bits, as `secrets.token_urlsafe` writes them."""
_ACTION = re.compile(r"/rows/(0|[1-9][0-9]{0,8})/(connect|skip)")


class Steering(Protocol):
    """What a person may ask of a run. It is asked between two requests: it must neither wait nor raise."""

    def connect(self, number: int) -> None:
        """Open this row's login now, or open it again."""

    def skip(self, number: int) -> None:
        """Leave this row out, or end its login."""


class Board:
    """The pages at `path` and below: a `Site` of the loopback server."""

    def __init__(self, rows: Rows, steering: Steering, *, origin: str, path: str = "/board", title: str = "") -> None:
        """`origin` is the loopback server's, without a slash at its end; `title` says what this run is, in words."""
        self.path = path
        self._rows = rows
        self._steering = steering
        self._origin = origin
        self._streams = Streams(rows, title)
        self._key: Secret | None = None
        self._cookie_name = f"loopback-auth-board-{secrets.token_hex(8)}"  # all ports of a host share their cookies
        self._cookie = Secret(secrets.token_urlsafe(32))
        self._cookie_is_for = f"; Path={path}; HttpOnly; SameSite=Strict" + (
            "; Secure" if origin.startswith("https:") else ""
        )

    def new_url(self) -> str:
        """Return an address that lets one browser in, once; the one before lets nobody in any more.

        Whoever has it may do all that the board can: it is for the browser and the terminal of this user.
        """
        key = secrets.token_urlsafe(32)
        self._key = Secret(key)
        return f"{self._origin}{self.path}/{key}"

    @property
    def is_watched(self) -> bool:
        """Whether a browser has the board open now; a closed tab is noticed within seconds."""
        return len(self._streams) > 0

    def finish(self, words: str) -> None:
        """The run is over: tell the browsers in these words, and end their streams. Nothing can be steered any more."""
        self._streams.finish(words)

    def first_reply(self, request: Request) -> Reply | None:
        """Answer all but the event stream."""
        path, _, query = request.target.partition("?")
        below = path.removeprefix(self.path)
        if any("prefetch" in value for value in (*request.every("sec-purpose"), *request.every("purpose"))):
            return Reply.bare(503)  # no person has come yet: the key stays
        if request.sender != "ours" or set(request.every("origin")) - {self._origin}:
            return Reply.bare(403)
        if _KEY.fullmatch(below):
            return self._reply_to_key(request, below[1:])
        if not self._cookie.matches(request.cookies().get(self._cookie_name, "")):
            return _page("closed", 403)
        if query:
            return Reply.bare(404)
        if below == "":
            return _refusal(request, "GET", "document") or _page("board", 200)
        if below == "/events":
            return _refusal(request, "GET", "empty")
        if action := _ACTION.fullmatch(below):
            return _refusal(request, "POST", "empty") or self._act(request, int(action[1]), action[2])
        return Reply.bare(404)

    async def answer(self, request: Request) -> Reply:
        """Open the event stream."""
        headers = {**BARE_HEADERS, "Content-Type": "text/event-stream"}
        return Reply(200, headers, pieces=self._streams.open())

    def _reply_to_key(self, request: Request, key: str) -> Reply:
        """Take the key for a cookie, and lead to an address that does not hold it."""
        refusal = _refusal(request, "GET", "document")
        if refusal is not None:
            return refusal
        if self._key is None or not self._key.matches(key):
            return _page("closed", 410)
        self._key = None
        cookie = f"{self._cookie_name}={self._cookie.reveal()}{self._cookie_is_for}"
        return Reply.bare(303, Location=self.path, Set_Cookie=cookie)

    def _act(self, request: Request, number: int, action: str) -> Reply:
        if request.every("origin") != [self._origin] or request.every("x-loopback-auth") != ["board"]:
            return Reply.bare(403)
        if request.every("content-length") not in ([], ["0"]) or request.every("transfer-encoding"):
            return Reply.bare(400)
        if number >= len(self._rows):
            return Reply.bare(404)
        if self._streams.is_over:
            return Reply.bare(409)
        if action == "connect":
            self._steering.connect(number)
        else:
            self._steering.skip(number)
        return Reply.bare(202)


def _refusal(request: Request, method: str, destination: str) -> Reply | None:
    """Return the answer to what a browser would not ask like this for our page, None to what it would.

    `same-site` is refused too: to a browser all ports of this computer are one site.
    """
    if request.method != method:
        return Reply.bare(405, Allow=method)
    from_where = {"same-origin", "none"} if destination == "document" else {"same-origin"}  # none: the address bar
    if set(request.every("sec-fetch-site")) - from_where or set(request.every("sec-fetch-dest")) - {destination}:
        return Reply.bare(403)
    return None


def _page(page: Page, status: int) -> Reply:
    body, headers = render(page)
    return Reply(status, dict(headers), body)
