"""The token endpoint over HTTP; what can go wrong with it on request is in `faults.py`."""

from __future__ import annotations

from collections import Counter

from aiohttp import web

from .authorization_server import SandboxAuthorizationServer
from .faults import FAULTS, Effect
from .parameters import MalformedParameters, Parameters, ParsedRequest, parse_form
from .refusals import OAuth2Error, RequestRefused
from .replies import BodyRefused, Reply, json_response, read_form_body
from .settings import SandboxSettings
from .state import State

Form = dict[str, list[str]]


class TokenEndpoint:
    """Answers token requests (RFC 6749 §3.2), or fails them as the settings say; counts them in `arrived`."""

    def __init__(
        self, settings: SandboxSettings, state: State, server: SandboxAuthorizationServer, arrived: Counter[str]
    ) -> None:
        self._settings = settings
        self._state = state
        self._server = server
        self._arrived = arrived
        self._hurt = 0

    async def post(self, request: web.BaseRequest) -> Reply:
        """Answer one token request, or fail it."""
        form = await _read(request)
        grant_type = form.get("grant_type", [""])[0] if isinstance(form, dict) else ""
        self._arrived[grant_type] += 1
        fault = self._next_fault(grant_type)
        if fault is None:
            return self._answer(request, form)
        right = self._answer(request, form, rotates=fault.rotates) if fault.processed else None
        return fault.hurt(request, self._settings, right)

    def _next_fault(self, grant_type: str) -> Effect | None:
        if self._settings.fault_grant not in {"any", grant_type} or self._hurt == self._settings.fault_count:
            return None
        self._hurt += 1
        return FAULTS.get(self._settings.faults)

    def _answer(self, request: web.BaseRequest, form: Form | str, *, rotates: bool = True) -> Reply:
        if isinstance(form, str):
            return _refuse(form)
        if request.rel_url.raw_query_string:
            # an access log would keep them (RFC 6749 §2.3.1, §3.2)
            return _refuse("the URL has a query: the parameters of a token request go in the body")
        authorization = request.headers.getall("Authorization", [])
        parsed = ParsedRequest("POST", Parameters(form), authorization, rotates=rotates)
        # one transaction: what is spent and what is issued are written together or not at all
        with self._state.transaction():
            answer = self._server.create_token_response(parsed)
        response = json_response(answer.status, answer.body, dict(answer.headers))
        return Reply(response, parsed.words, ok=answer.status == 200)


async def _read(request: web.BaseRequest) -> Form | str:
    """Return the parameters in the body, or in words why they cannot be read."""
    try:
        return parse_form(await read_form_body(request))
    except BodyRefused as why:
        return str(why)
    except MalformedParameters as why:
        return f"the body cannot be read: {why}"


def _refuse(words: str) -> Reply:
    return refuse(RequestRefused(words), words)


def refuse(error: OAuth2Error, words: str, headers: dict[str, str] | None = None, status: int | None = None) -> Reply:
    """Return an error's JSON answer (RFC 6749 §5.2)."""
    error_status, body, error_headers = error()
    response = json_response(status or error_status, body, {**dict(error_headers), **(headers or {})})
    return Reply(response, words, ok=False)
