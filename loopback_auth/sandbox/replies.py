"""What a handler gives back, an answer and the words about it, and how it reads a body: no OAuth here."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

_LARGEST_BODY: Final = 64 * 1024
FORM: Final = "application/x-www-form-urlencoded"


Send = Callable[[], Awaitable[web.StreamResponse | None]]
"""Puts an answer on the wire; what it returns is sent to its end, and after None the connection is closed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and what the log says about it; without a response the connection is closed unanswered.

    `send` is for an answer that goes over the wire in a way of its own.
    """

    response: web.Response | None
    words: str
    ok: bool = True
    send: Send | None = None


class BodyRefused(Exception):
    """A body of the wrong type, too large, or not text; the message says which."""


async def read_form_body(request: web.BaseRequest) -> str:
    """Return the form-urlencoded body of a request. Raises `BodyRefused`."""
    if request.content_type != FORM:
        raise BodyRefused(f"the body must be {FORM}, by Content-Type as well")
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise BodyRefused(f"the body is larger than {_LARGEST_BODY // 1024} KiB")
    try:
        return body.decode("ascii")
    except UnicodeDecodeError:
        raise BodyRefused("the body is not form-urlencoded: it has bytes outside ASCII") from None


def json_response(status: int, body: object, headers: dict[str, str] | None = None) -> web.Response:
    """Return a JSON answer that nobody keeps (RFC 6749 §5.1)."""
    own = {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Pragma": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(status=status, body=json.dumps(body).encode(), headers={**own, **(headers or {})})
