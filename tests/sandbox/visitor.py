"""A person with a browser, and a client with its secret: what a test needs to use a sandbox over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL

from loopback_auth.sandbox import LogLine, Sandbox

REDIRECT_URI = "http://127.0.0.1:43211/"
VERIFIER = "MARK-verifier-0123456789-0123456789-0123456789"


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def basic(client_id: str = "sandbox", client_secret: str = "sandbox-secret") -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()


def refresh_request(refresh_token: str) -> bytes:
    """A refresh as it goes over the wire, without anything that nobody asked for."""
    body = f"grant_type=refresh_token&refresh_token={refresh_token}"
    return (
        f"POST /resto/oauth2/v1/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {basic()}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Form(HTMLParser):
    """The inputs of the one form of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inputs: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self.decisions: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        name = found.get("name")
        if tag == "input" and name:
            self.inputs[name] = found.get("value") or ""
            self.types[name] = found.get("type") or "text"
        if tag == "button" and name == "decision":
            self.decisions.append(found.get("value") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@dataclass
class Page:
    """What one request brought."""

    status: int
    headers: Any
    body: str

    @property
    def form(self) -> Form:
        return Form(self.body)

    @property
    def location(self) -> URL:
        return URL(self.headers["Location"], encoded=True)


@dataclass
class Wire:
    """All that came over one connection."""

    content: bytes

    @property
    def status(self) -> int:
        return int(self.content.split(b" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        lines = self.content.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return dict(line.split(": ", 1) for line in lines)

    @property
    def body(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[2]


@dataclass
class Visitor:
    """One browser with cookies of its own, which is also handy as the client."""

    sandbox: Sandbox
    ssl: Any = True
    session: aiohttp.ClientSession = field(init=False)

    async def __aenter__(self) -> Visitor:
        jar = aiohttp.CookieJar(unsafe=True)  # without it, cookies of IP addresses are dropped
        self.session = aiohttp.ClientSession(cookie_jar=jar, connector=aiohttp.TCPConnector(ssl=self.ssl))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    # -- as a browser ----------------------------------------------------------------------------------------

    def authorization_url(self, **changes: str | None) -> URL:
        query: dict[str, str | None] = {
            "response_type": "code",
            "client_id": "sandbox",
            "redirect_uri": REDIRECT_URI,
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "state": "MARK-state",
            **changes,
        }
        sent = {name: value for name, value in query.items() if value is not None}
        return URL(f"{self.sandbox.base_url}oauth2/v1/authorize").with_query(sent)

    async def request(self, method: str, url: URL | str, **options: Any) -> Page:
        async with self.session.request(method, url, allow_redirects=False, **options) as response:
            return Page(response.status, response.headers, await response.text())

    async def open(self, url: URL) -> Page:
        return await self.request("GET", url)

    async def submit(self, url: URL, page: Page, **values: str) -> Page:
        answer = await self.request("POST", url, data={**page.form.inputs, **values})
        return await self.open(url.join(answer.location)) if answer.status == 303 else answer

    async def log_in(self, url: URL, user_id: str = "cafe-roma", password: str = "espresso") -> Page:
        return await self.submit(url, await self.open(url), user_id=user_id, password=password)

    async def allow(self, url: URL, user_id: str = "cafe-roma", password: str = "espresso") -> URL:
        consent = await self.log_in(url, user_id, password)
        answer = await self.submit(url, consent, decision="allow")
        assert answer.status == 302, answer.body
        return answer.location

    async def code(self, **changes: str | None) -> str:
        """A fresh code, by a login from the start."""
        self.session.cookie_jar.clear()
        return (await self.allow(self.authorization_url(**changes))).query["code"]

    # -- as a client -----------------------------------------------------------------------------------------

    async def token_request(self, authorization: str | None = None, **parameters: str) -> Page:
        headers = {"Authorization": basic() if authorization is None else authorization}
        if authorization == "":
            headers = {}
        return await self.request("POST", f"{self.sandbox.base_url}oauth2/v1/token", data=parameters, headers=headers)

    async def exchange(self, code: str | None, authorization: str | None = None, **changes: str | None) -> Page:
        sent = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": VERIFIER,
            **changes,
        }
        parameters = {name: value for name, value in sent.items() if value is not None}
        return await self.token_request(authorization, **parameters)

    async def refresh(self, refresh_token: str, authorization: str | None = None, **more: str) -> Page:
        return await self.token_request(authorization, grant_type="refresh_token", refresh_token=refresh_token, **more)

    async def connect(self, refresh_token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a refresh over a connection of its own, whose answer stays unread."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.sandbox.port)
        writer.write(refresh_request(refresh_token))
        return reader, writer

    async def wire(self, refresh_token: str) -> Wire:
        """Refresh, and return what came until the connection was closed."""
        reader, writer = await self.connect(refresh_token)
        try:
            return Wire(await reader.read())
        finally:
            writer.close()

    async def tokens(self) -> dict[str, Any]:
        """Fresh tokens of Cafe Roma."""
        return answered(await self.exchange(await self.code()))

    async def company(self, headers: dict[str, str] | None = None) -> Page:
        return await self.request("GET", f"{self.sandbox.base_url}rest/core/company", headers=headers or {})


def answered(page: Page) -> dict[str, Any]:
    """The tokens of a good answer."""
    assert page.status == 200, page.body
    tokens: dict[str, Any] = json.loads(page.body)
    return tokens


def refused(page: Page, status: int, error: str) -> str:
    """The description of a refusal, after checking that it is the expected one."""
    body = json.loads(page.body)
    assert (page.status, body["error"]) == (status, error), page.body
    assert page.headers["Content-Type"] == "application/json"
    assert page.headers["Cache-Control"] == "no-store"
    return str(body["error_description"])


Log = list[LogLine]
