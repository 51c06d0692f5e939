"""The token endpoint over HTTP, and the faults one can ask it for."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .grants import SandboxAuthorizationServer
from .parameters import MalformedParameters, Parameters, ParsedRequest, parse_form
from .refusals import OAuth2Error, RequestRefused
from .replies import BodyRefused, Reply, json_response, read_form_body
from .settings import Fault, SandboxSettings
from .state import State


class TokenEndpoint:
    """Answers token requests (RFC 6749 §3.2); counts them, for the faults."""

    def __init__(self, settings: SandboxSettings, state: State, server: SandboxAuthorizationServer) -> None:
        self._settings = settings
        self._state = state
        self._server = server
        self._requests = 0

    async def post(self, request: web.BaseRequest) -> Reply:
        """Answer one token request, or fail it as the settings say."""
        fault = self._next_fault()
        if fault == "500":
            words = "answered 500 as asked for; nothing is spent"
            return Reply(web.Response(status=500, text="Internal Server Error\n"), words, ok=False)
        reply = await self._answer(request)
        if fault == "drop":
            return Reply(None, f"no answer was sent, as asked for; what was lost: {reply.words}", ok=False)
        if fault == "slow":
            await asyncio.sleep(self._settings.slow_seconds)
            words = f"{reply.words}; held back for {self._settings.slow_seconds:g} s as asked for"
            return Reply(reply.response, words, reply.ok)
        return reply

    def _next_fault(self) -> Fault:
        self._requests += 1
        count = self._settings.fault_count
        return self._settings.faults if count is None or self._requests <= count else "none"

    async def _answer(self, request: web.BaseRequest) -> Reply:
        try:
            body = await read_form_body(request)
            values = parse_form(body)
        except (BodyRefused, MalformedParameters) as why:
            return self._refuse(str(why) if isinstance(why, BodyRefused) else f"the body cannot be read: {why}")
        if request.rel_url.raw_query_string:
            # an access log would keep them (RFC 6749 §2.3.1, §3.2)
            return self._refuse("the URL has a query: the parameters of a token request go in the body")
        parsed = ParsedRequest("POST", Parameters(values), request.headers.getall("Authorization", []))
        # one transaction: what is spent and what is issued are written together or not at all
        with self._state.transaction():
            answer = self._server.create_token_response(parsed)
        response = json_response(answer.status, answer.body, dict(answer.headers))
        return Reply(response, parsed.words, ok=answer.status == 200)

    def _refuse(self, words: str) -> Reply:
        return refuse(RequestRefused(words), words)


def refuse(error: OAuth2Error, words: str, headers: dict[str, str] | None = None, status: int | None = None) -> Reply:
    """Return an error's JSON answer (RFC 6749 §5.2)."""
    error_status, body, error_headers = error()
    response = json_response(status or error_status, body, {**dict(error_headers), **(headers or {})})
    return Reply(response, words, ok=False)
