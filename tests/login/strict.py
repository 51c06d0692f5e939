"""A small authorization server, written from the RFCs: it forgives nothing and keeps every request for the test.

RFC 6749 §3.1, §4.1, §5, §6 and appendix B; RFC 7636 with S256 alone; RFC 9207. It imports nothing of the package.
Whoever comes to its authorization endpoint has already logged in and clicked Allow.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import itertools
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

from aiohttp import web

MARK = "s3kr1t-"


class Refusal(Exception):
    """An error of RFC 6749 §5.2."""

    def __init__(self, error: str, why: str) -> None:
        super().__init__(f"{error}: {why}")
        self.error = error
        self.why = why


@dataclass
class Asked:
    """One request to the token endpoint."""

    headers: dict[str, str]
    body: str
    refused: str | None = None

    @property
    def parameters(self) -> dict[str, str]:
        return once(self.body)


@dataclass
class StrictServer:
    """An authorization server at a free port of 127.0.0.1, with one client registered."""

    client_id: str = "client-1"
    client_secret: str | None = None
    method: str = "none"
    iss: str | None = None
    """Sent in every redirect, where it is not None."""
    error: dict[str, str] | None = None
    """Sent in the redirect instead of a code."""
    answer: Callable[[], web.Response | None] | None = None
    """The token endpoint's answer, whatever was asked; None drops the connection. Nothing is spent by it."""
    tokens: dict[str, Any] = field(default_factory=lambda: {"token_type": "Bearer", "expires_in": 3600})
    tls: ssl.SSLContext | None = None
    authorization_requests: list[str] = field(default_factory=list)
    token_requests: list[Asked] = field(default_factory=list)
    revocations: list[Asked] = field(default_factory=list)
    revocation_status: int = 200
    complaints: list[str] = field(default_factory=list)
    """What was wrong with the requests that came."""
    secrets: set[str] = field(default_factory=set)
    """What nobody may print: every state, challenge, code, verifier, token that was seen or made."""

    def __post_init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self._codes: dict[str, dict[str, str]] = {}
        self._refresh_tokens: set[str] = set()
        self._numbers = itertools.count(1)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> StrictServer:
        listening = socket.create_server(("127.0.0.1", 0))
        self.base = f"{'https' if self.tls else 'http'}://127.0.0.1:{listening.getsockname()[1]}"
        app = web.Application()
        app.router.add_get("/authorize", self._authorize, allow_head=False)
        app.router.add_post("/token", self._token)
        app.router.add_post("/revoke", self._revoke)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listening, ssl_context=self.tls).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def flags(self) -> tuple[str, ...]:
        """What `login` needs to be told."""
        endpoints = "--authorization-endpoint", f"{self.base}/authorize", "--token-endpoint", f"{self.base}/token"
        return (*endpoints, "--client-id", self.client_id, "--timeout", "60s")

    @property
    def state(self) -> str:
        return once(self.authorization_requests[-1])["state"]

    async def _authorize(self, request: web.Request) -> web.Response:
        query = request.rel_url.raw_query_string
        self.authorization_requests.append(query)
        try:
            given = once(query)
            if given.get("response_type") != "code":
                raise Refusal("unsupported_response_type", "response_type is not code")
            if given.get("client_id") != self.client_id:
                raise Refusal("unauthorized_client", "another client_id")
            if given.get("code_challenge_method") != "S256" or not challenge_is_valid(given.get("code_challenge", "")):
                raise Refusal("invalid_request", "no S256 challenge")
            if len(given.get("state", "")) < 43 or "redirect_uri" not in given:
                raise Refusal("invalid_request", "no redirect_uri, or no state of 256 bits")
        except Refusal as refusal:
            self.complaints.append(str(refusal))
            return web.Response(status=400, text=str(refusal))
        self.secrets |= {given["state"], given["code_challenge"]}
        answer = dict(self.error) if self.error is not None else {"code": self._code(given)}
        answer["state"] = given["state"]
        if self.iss is not None:
            answer["iss"] = self.iss
        location = f"{given['redirect_uri']}?{urlencode(answer)}"
        return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})

    def _code(self, given: dict[str, str]) -> str:
        code = f"{MARK}code-{next(self._numbers)}-~._+/="
        self._codes[code] = given
        return code

    async def _token(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(dict(request.headers), await request.text())
        self.token_requests.append(asked)
        self.asked.set()
        await self.may_answer.wait()
        if self.answer is not None:
            response = self.answer()
            if response is None and request.transport is not None:
                request.transport.abort()
            return response or web.Response()
        try:
            members = self._granted(request, asked)
        except Refusal as refusal:
            asked.refused = str(refusal)
            self.complaints.append(str(refusal))
            status = 401 if refusal.error == "invalid_client" else 400
            return web.json_response({"error": refusal.error, "error_description": refusal.why}, status=status)
        return web.json_response(members, headers={"Cache-Control": "no-store"})

    async def _revoke(self, request: web.Request) -> web.Response:
        """RFC 7009 §2; an answer that is no yes repeats what it was asked."""
        asked = Asked(dict(request.headers), await request.text())
        self.revocations.append(asked)
        try:
            self._authenticate(request.headers.getall("Authorization", []), asked.parameters)
        except Refusal as refusal:
            self.complaints.append(str(refusal))
        body = {"error": "unsupported_token_type", "error_description": asked.body, **asked.parameters}
        return web.json_response(body, status=self.revocation_status)

    def _granted(self, request: web.Request, asked: Asked) -> dict[str, Any]:
        if request.rel_url.raw_query_string or request.headers["Content-Type"] != "application/x-www-form-urlencoded":
            raise Refusal("invalid_request", "not a form, or a query beside it")
        given = once(asked.body)
        self._authenticate(request.headers.getall("Authorization", []), given)
        match given.pop("grant_type", None):
            case "authorization_code":
                self._spend_code(given)
            case "refresh_token":
                token = given.pop("refresh_token", "")
                if token not in self._refresh_tokens:
                    raise Refusal("invalid_grant", "no such refresh token, or spent")
                self._refresh_tokens.remove(token)
            case _:
                raise Refusal("unsupported_grant_type", "neither of the two")
        if given:
            raise Refusal("invalid_request", f"nobody asked for {', '.join(sorted(given))}")
        number = next(self._numbers)
        new = {"access_token": f"{MARK}access-{number}", "refresh_token": f"{MARK}-refresh-{number}"}
        self._refresh_tokens.add(new["refresh_token"])
        return {**new, **self.tokens}

    def _authenticate(self, authorization: list[str], given: dict[str, str]) -> None:
        """RFC 6749 §2.3.1 and §3.2.1: in the one way that was registered, and in no second one beside it."""
        in_body = given.pop("client_id", None), given.pop("client_secret", None)
        if self.method == "client_secret_basic":
            if in_body != (None, None) or len(authorization) != 1 or not authorization[0].startswith("Basic "):
                raise Refusal("invalid_client", "not by Basic alone")
            try:
                user, _, password = base64.b64decode(authorization[0][6:], validate=True).decode("ascii").partition(":")
            except (binascii.Error, ValueError):
                raise Refusal("invalid_client", "not base64 of ASCII") from None
            in_body = unquote_plus(user), unquote_plus(password)
        elif authorization:
            raise Refusal("invalid_client", "an Authorization header")
        if in_body != (self.client_id, self.client_secret):
            raise Refusal("invalid_client", "another client_id or client_secret")

    def _spend_code(self, given: dict[str, str]) -> None:
        request = self._codes.pop(given.pop("code", ""), None)
        verifier = given.pop("code_verifier", "")
        self.secrets.add(verifier)
        if request is None:
            raise Refusal("invalid_grant", "no such code, or spent")
        if given.pop("redirect_uri", None) != request["redirect_uri"]:
            raise Refusal("invalid_grant", "another redirect_uri")
        if not re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) or s256(verifier) != request["code_challenge"]:
            raise Refusal("invalid_grant", "the verifier does not fit the challenge")


def s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def challenge_is_valid(challenge: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge) is not None


def once(form: str) -> dict[str, str]:
    """Parse application/x-www-form-urlencoded; no parameter may be empty or stand there twice (RFC 6749 §3.1, §3.2)."""
    pairs = parse_qsl(form, keep_blank_values=True, strict_parsing=True, max_num_fields=20)
    if len(dict(pairs)) != len(pairs) or not all(value for _, value in pairs):
        raise Refusal("invalid_request", "a parameter stands there twice, or is empty")
    return dict(pairs)
