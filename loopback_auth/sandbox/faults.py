"""What can go wrong at the token endpoint on request: `FAULTS`, a table with a row for each fault.

A row says whether the request is processed first, so that the code or refresh token in it is spent, and what then
goes over the wire.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from .replies import Reply, json_response
from .settings import Fault, SandboxSettings

_BIG: Final = 200_000_000
_PIECE: Final = b" " * 65536
_GARBAGE: Final = hashlib.shake_256(b"garbage").digest(200)
_HTML: Final = "<!DOCTYPE html>\n<title>Maintenance</title>\n<p>We will be back soon.</p>\n"
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Case:
    """One token request that a fault hurts; `answer` is the right one, and for sending the one to be sent."""

    request: web.BaseRequest
    settings: SandboxSettings
    answer: web.Response


Answer = Callable[[Case], web.Response]
Send = Callable[[Case], Awaitable[web.StreamResponse | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one fault does.

    `processed`
        whether the request is processed first; `rotates` is whether a refresh token is spent and replaced then.
    `arrives`
        whether the client gets its tokens all the same.
    `tokens`
        whether an answer without tokens stays as it is.
    `words`
        for the log; may name a setting.
    `answer`, `send`
        what is answered, None being nothing, and how it is sent, None being as usual.
    """

    processed: bool
    arrives: bool = False
    rotates: bool = True
    tokens: bool = False
    words: str
    answer: Answer | None
    send: Send | None

    def hurt(self, request: web.BaseRequest, settings: SandboxSettings, right: Reply | None) -> Reply:
        """Return what is answered instead of the right reply, which is None where nothing was processed."""
        if right is not None and self.tokens and not right.ok:
            return right
        words = self.words.format(settings=settings)
        if right is None:
            words = f"{words} as asked for; nothing is spent"
        elif self.arrives:
            words = f"{right.words}; {words} as asked for"
        else:
            words = f"{words}, as asked for; what was lost: {right.words}"
        case = Case(request, settings, web.Response() if right is None or right.response is None else right.response)
        answer = None if self.answer is None else self.answer(case)
        if answer is not None:
            case = replace(case, answer=answer)
        send = None if self.send is None else partial(self.send, case)
        return Reply(answer, words, ok=self.arrives and right is not None and right.ok, send=send)


# -- what is answered ------------------------------------------------------------------------------------------


def _right(case: Case) -> web.Response:
    return case.answer


def _blank(case: Case) -> web.Response:
    return web.Response(content_type="application/json")


def _html(case: Case) -> web.Response:
    return web.Response(text=_HTML, content_type="text/html")


def _garbage(case: Case) -> web.Response:
    return web.Response(body=_GARBAGE, content_type="application/json")


def _gzipped(case: Case) -> web.Response:
    headers = {**case.answer.headers, "Content-Encoding": "gzip"}
    return web.Response(status=case.answer.status, body=gzip.compress(_body(case)), headers=headers)


def _with(**changes: object) -> Answer:
    return lambda case: json_response(200, {**_tokens(case), **changes})


def _without(name: str) -> Answer:
    return lambda case: json_response(200, {key: value for key, value in _tokens(case).items() if key != name})


def _status(status: int) -> Answer:
    return lambda case: web.Response(status=status, text=f"{HTTPStatus(status).phrase}\n")


def _retry_after(status: int) -> Answer:
    return lambda case: _later(status, str(case.settings.retry_after))


def _retry_date(status: int) -> Answer:
    return lambda case: _later(status, formatdate(time.time() + case.settings.retry_after, usegmt=True))


def _later(status: int, when: str) -> web.Response:
    return web.Response(status=status, text=f"{HTTPStatus(status).phrase}\n", headers={"Retry-After": when})


def _error(status: int, error: str) -> Answer:
    challenge = {"WWW-Authenticate": 'Basic realm="sandbox", charset="UTF-8"'} if status == 401 else None
    return lambda case: json_response(status, {"error": error, "error_description": "as asked for"}, challenge)


def _elsewhere(case: Case) -> web.Response:
    port = case.request.get_extra_info("sockname", ("", 0))[1]
    return web.Response(status=307, headers={"Location": f"{case.request.scheme}://127.0.0.1:{port}/elsewhere"})


# -- how it is sent --------------------------------------------------------------------------------------------


async def _held_back(case: Case) -> web.StreamResponse:
    await asyncio.sleep(case.settings.slow_seconds)
    return case.answer


async def _trickled(case: Case) -> web.StreamResponse:
    stream = await _begun(case, len(_body(case)))
    for byte in _body(case):
        await stream.write(bytes([byte]))
        await asyncio.sleep(case.settings.trickle_seconds)
    return stream


async def _half(case: Case) -> None:
    body = _body(case)
    stream = await _begun(case, len(body))
    await stream.write(body[: len(body) // 2])


async def _cut(case: Case) -> None:
    body, member = _body(case), json.dumps(_tokens(case)["refresh_token"]).encode()
    stream = await _begun(case, len(body))
    await stream.write(body[: body.index(member) + len(member)])


async def _reset(case: Case) -> None:
    transport = case.request.transport
    if transport is not None:
        # lingering for 0 seconds makes closing a reset (socket(7))
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def _silent(case: Case) -> None:
    # aiohttp has no event for a client that goes away
    while case.request.transport is not None and not case.request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)


async def _endless(case: Case) -> None:
    stream = await _begun(case, None)
    while True:
        await stream.write(_PIECE)
        await asyncio.sleep(0)  # to a quick reader writing never waits, and nobody else would get a turn


async def _big(case: Case) -> web.StreamResponse:
    stream = await _begun(case, _BIG)
    for sent in range(0, _BIG, len(_PIECE)):
        await stream.write(_PIECE[: _BIG - sent])
        await asyncio.sleep(0)
    return stream


async def _begun(case: Case, length: int | None) -> web.StreamResponse:
    """Send the head of the answer; without a length its body is chunked."""
    stream = web.StreamResponse(status=case.answer.status, headers=case.answer.headers)
    stream.content_length = length
    await stream.prepare(case.request)
    return stream


def _body(case: Case) -> bytes:
    assert isinstance(case.answer.body, bytes)  # noqa: S101 - every JSON answer is made of bytes
    return case.answer.body


def _tokens(case: Case) -> dict[str, Any]:
    tokens: dict[str, Any] = json.loads(_body(case))
    return tokens


# -- the table -------------------------------------------------------------------------------------------------


def _arrives(
    words: str, answer: Answer = _right, send: Send | None = None, *, tokens: bool = False, rotates: bool = True
) -> Effect:
    return Effect(processed=True, arrives=True, rotates=rotates, tokens=tokens, words=words, answer=answer, send=send)


def _lost(words: str, answer: Answer | None = None, send: Send | None = None, *, tokens: bool = False) -> Effect:
    return Effect(processed=True, tokens=tokens, words=words, answer=answer, send=send)


def _refused(words: str, answer: Answer | None = None, send: Send | None = None) -> Effect:
    return Effect(processed=False, words=words, answer=answer, send=send)


FAULTS: Final[Mapping[Fault, Effect]] = {
    # the request is processed, and the answer arrives in an unusual form
    "slow": _arrives("held back for {settings.slow_seconds:g} s", send=_held_back),
    "trickle": _arrives("sent one byte every {settings.trickle_seconds:g} s", send=_trickled),
    "gzip": _arrives("sent compressed", _gzipped),
    "no-refresh-token": _arrives("sent without a refresh token", tokens=True, rotates=False),
    "expires-missing": _arrives("sent without expires_in", _without("expires_in"), tokens=True),
    "expires-null": _arrives("sent with expires_in null", _with(expires_in=None), tokens=True),
    "expires-0": _arrives("sent with expires_in 0", _with(expires_in=0), tokens=True),
    "expires-negative": _arrives("sent with expires_in -5", _with(expires_in=-5), tokens=True),
    "expires-text": _arrives("sent with expires_in as text", _with(expires_in="3600"), tokens=True),
    "expires-fraction": _arrives("sent with expires_in 3600.7", _with(expires_in=3600.7), tokens=True),
    "expires-huge": _arrives("sent with expires_in 1e12", _with(expires_in=10**12), tokens=True),
    # the request is processed, and the answer is lost
    "drop": _lost("no answer was sent"),
    "reset": _lost("the connection was reset", send=_reset),
    "hang": _lost("no answer will be sent", send=_silent),
    "truncate": _lost("half of the answer was sent", _right, _half),
    "cut": _lost("the answer was cut off behind the refresh token", _right, _cut, tokens=True),
    "html": _lost("an HTML page was sent", _html),
    "empty": _lost("an empty answer was sent", _blank),
    "garbage": _lost("garbage was sent", _garbage),
    "late-500": _lost("answered 500", _status(500)),
    "late-502": _lost("answered 502", _status(502)),
    "late-503": _lost("answered 503", _status(503)),
    "late-504": _lost("answered 504", _status(504)),
    # nothing is processed
    "500": _refused("answered 500", _status(500)),
    "502": _refused("answered 502", _status(502)),
    "503": _refused("answered 503", _status(503)),
    "503-retry-after": _refused("answered 503, to be tried again in {settings.retry_after} s,", _retry_after(503)),
    "503-retry-date": _refused("answered 503, to be tried again in {settings.retry_after} s,", _retry_date(503)),
    "504": _refused("answered 504", _status(504)),
    "404": _refused("answered 404", _status(404)),
    "408": _refused("answered 408", _status(408)),
    "429": _refused("answered 429", _status(429)),
    "429-retry-after": _refused("answered 429, to be tried again in {settings.retry_after} s,", _retry_after(429)),
    "redirect": _refused("redirected to /elsewhere", _elsewhere),
    "invalid-client": _refused("answered invalid_client", _error(401, "invalid_client")),
    "invalid-grant": _refused("answered invalid_grant", _error(400, "invalid_grant")),
    "invalid-request": _refused("answered invalid_request", _error(400, "invalid_request")),
    "invalid-scope": _refused("answered invalid_scope", _error(400, "invalid_scope")),
    "unauthorized-client": _refused("answered unauthorized_client", _error(400, "unauthorized_client")),
    "unsupported-grant-type": _refused("answered unsupported_grant_type", _error(400, "unsupported_grant_type")),
    "refuse-drop": _refused("no answer was sent"),
    "endless": _refused("an answer without end was begun", _blank, _endless),
    "big": _refused("an answer of 200 MB was begun", _blank, _big),
}
