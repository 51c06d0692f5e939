"""Use-case: the authorization code grant, from an open port to stored tokens (RFC 8252, RFC 7636). Reads top to bottom.

Nothing is written to disk between the redirect and the token request: the code dies within seconds.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from loopback_auth import clock
from loopback_auth.endpoints import resource
from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import (
    AuthorizationDenied,
    AuthorizationResponseError,
    LoginTimedOut,
    LoopbackAuthError,
    RedirectRejected,
    ResourceError,
    TokenEndpointUnreachable,
    WrongAccount,
)
from loopback_auth.oauth.authorization import (
    AuthorizationCode,
    AuthorizationRequest,
    Evidence,
    build_authorization_request,
    parse_authorization_response,
)
from loopback_auth.oauth.registration import ClientRegistration, RedirectURI, parse_redirect_uri
from loopback_auth.oauth.token import TokenSet, build_code_request
from loopback_auth.redirect.browser import open_browser
from loopback_auth.redirect.pages import Page
from loopback_auth.redirect.paste import PastedRedirect, parse_pasted
from loopback_auth.redirect.server import LoopbackServer, Redirect
from loopback_auth.secret import Secret
from loopback_auth.spend import locked, spend
from loopback_auth.store.base import Account, SecretReference, Store
from loopback_auth.text import printable

DEFAULT_TIMEOUT = 300.0
"""Seconds a person has to log in and click Allow."""


@dataclass(frozen=True, slots=True)
class BrowserOpened:
    """The browser was told to open the start page, or `why_not` says in a few words why it was not.

    `authorization_url` is for a browser that cannot reach this computer; it is a secret of this login.
    """

    start_url: str
    authorization_url: Secret
    redirect_uri: RedirectURI
    why_not: str | None


@dataclass(frozen=True, slots=True)
class BrowserFailed:
    """The browser's command ended with `status`, so the start page may not be open."""

    status: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request, or a paste, that is not the redirect of this login."""

    why: str
    pasted: bool


@dataclass(frozen=True, slots=True)
class WrongPath:
    """A redirect came to another path than the redirect URI's; `path` is as it came."""

    path: str


@dataclass(frozen=True, slots=True)
class CodeReceived:
    """The redirect came, with a code that was checked; `shown_by` says what showed that it is ours."""

    shown_by: Evidence


@dataclass(frozen=True, slots=True)
class Answered:
    """The token endpoint answered. Ages of the code in seconds, counted from the redirect's headers."""

    sent_after: float
    answered_after: float


@dataclass(frozen=True, slots=True)
class Stored:
    """The tokens are durable."""

    account: Account


@dataclass(frozen=True, slots=True)
class CompanyUnknown:
    """The API did not say whose data the access token opens; the login stands."""

    why: ResourceError


Progress = BrowserOpened | BrowserFailed | Rejected | WrongPath | CodeReceived | Answered | Stored | CompanyUnknown


async def login(
    name: str,
    registration: ClientRegistration,
    *,
    store: Store,
    client_secret: Secret | None,
    secret_reference: SecretReference | None = None,
    tls: ssl.SSLContext | None = None,
    expected_company: str | None = None,
    force: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    browser: Callable[[str], subprocess.Popen[bytes] | str | None] = open_browser,
    pasted: Callable[[], Awaitable[str]] | None = None,
    tell: Callable[[Progress], None] = lambda _progress: None,
    random: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    now: Callable[[], clock.Moment] = clock.now,
) -> Account:
    """Log a person in and return the account, stored as `name`.

    `client_secret` is used now, `secret_reference` is stored, for later refreshes. `tls` is needed for an https
    redirect URI. `expected_company` is the id the tokens must be for; without it, that of the account stored under this
    name at this server, if there is one; `force` takes any. `browser` opens an address and returns None, or why it
    could not. `tell` is called in the event loop
    and must not block. `timeout` is in seconds.

    Raises ConfigurationError and StoreError before the browser opens; then LoginTimedOut, AuthorizationResponseError,
    TokenEndpointUnreachable, TokenEndpointError, OutcomeUnknown, WrongAccount, StoreNotWritable.
    """
    grant = _Grant(name, registration, secret_reference, expected_company, force)
    store.prove(name)
    redirect_uri = parse_redirect_uri(registration.redirect_uri)
    token_endpoint_url = registration.server.token_endpoint
    async with (
        LoopbackServer.open(redirect_uri, tls) as server,
        TokenEndpoint.open(token_endpoint_url, registration.ca_file) as token_endpoint,
    ):
        request = build_authorization_request(
            registration,
            redirect_uri=server.redirect_uri.text,
            state=Secret(random()),
            code_verifier=Secret(random()),
        )
        server.start_at(request.url)
        connecting = asyncio.create_task(token_endpoint.connect())
        opened = browser(server.start_url)
        why_not = opened if isinstance(opened, str) else None
        tell(BrowserOpened(server.start_url, request.url, server.redirect_uri, why_not))

        async with _catching(server, request, opened, pasted, tell) as catch:
            code = await _first_code(catch, connecting, timeout)
            tell(CodeReceived(code.shown_by))
            account = await spend(
                token_endpoint,
                build_code_request(code, client_secret),
                commit=partial(_commit, grant, store, now, tell),
                answered=lambda: tell(_ages(catch, token_endpoint)),
            )
            catch.answer("signed_in")
        account = await _with_company(account, tell)
        await _save_company(account, store)
        return account


@dataclass(frozen=True, slots=True)
class _Grant:
    """What the tokens of this login are for."""

    name: str
    registration: ClientRegistration
    secret_reference: SecretReference | None
    expected_company: str | None
    force: bool


class _Catch:
    """The redirects of one login: the first good one decides, all good ones are told how it ended."""

    def __init__(self, request: AuthorizationRequest, tell: Callable[[Progress], None]) -> None:
        self.code: asyncio.Future[AuthorizationCode] = asyncio.get_running_loop().create_future()
        self.caught_at = 0.0
        self._request = request
        self._tell = tell
        self._held: list[Redirect | PastedRedirect] = []
        self._page: Page | None = None

    async def redirects(self, server: LoopbackServer) -> None:
        """Judge what comes to the loopback server, for ever."""
        expected = server.redirect_uri.path
        while True:
            redirect = await server.next()
            if redirect.path == expected:
                self._judge(redirect, "cookie" if redirect.from_our_browser else None)
            else:
                redirect.reject()
                self._tell(WrongPath(redirect.path))

    async def pastes(self, pasted: Callable[[], Awaitable[str]], server: LoopbackServer) -> None:
        """Judge what is pasted into the terminal, for ever."""
        while True:
            text = await pasted()
            try:
                redirect = parse_pasted(text, server.redirect_uri)
            except RedirectRejected as rejected:
                self._tell(Rejected(str(rejected), pasted=True))
            else:
                self._judge(redirect, "pasted")

    def answer(self, page: Page) -> None:
        """Tell every browser that waits, and those that still come, how the login ended."""
        self._page = page
        for redirect in self._held:
            redirect.answer(page)

    def _judge(self, redirect: Redirect | PastedRedirect, otherwise: Evidence | None) -> None:
        """Let a good redirect decide, once, and hold its browser; a second click on Allow deserves the same answer."""
        try:
            outcome = parse_authorization_response(self._request, redirect.query.reveal(), otherwise=otherwise)
        except RedirectRejected as rejected:
            redirect.reject()
            self._tell(Rejected(str(rejected), pasted=otherwise == "pasted"))
            return
        except AuthorizationResponseError as refusal:
            if not self.code.done():
                self.code.set_exception(refusal)
        else:
            if not self.code.done():
                self.caught_at = redirect.received_at
                self.code.set_result(outcome)
        self._held.append(redirect)
        if self._page is not None:
            redirect.answer(self._page)


@asynccontextmanager
async def _catching(
    server: LoopbackServer,
    request: AuthorizationRequest,
    browser: subprocess.Popen[bytes] | str | None,
    pasted: Callable[[], Awaitable[str]] | None,
    tell: Callable[[Progress], None],
) -> AsyncIterator[_Catch]:
    """Catch redirects in the background; on an error, say so to the browsers that wait, and on the start page."""
    catch = _Catch(request, tell)
    tasks = [asyncio.create_task(catch.redirects(server))]
    if pasted is not None:
        tasks.append(asyncio.create_task(catch.pastes(pasted, server)))
    if isinstance(browser, subprocess.Popen):
        tasks.append(asyncio.create_task(_watch(browser, tell)))
    try:
        yield catch
    except BaseException as error:
        if isinstance(error, TokenEndpointUnreachable):
            server.start_shows("unreachable")
        catch.answer(_page_for(error))
        raise
    finally:
        for task in tasks:
            task.cancel()
        catch.code.cancel()


async def _watch(browser: subprocess.Popen[bytes], tell: Callable[[Progress], None]) -> None:
    """Say so if the browser's command fails; one that has not within 20 seconds is on its own."""
    try:
        for _ in range(80):
            if browser.poll() is not None:
                if browser.returncode != 0:
                    tell(BrowserFailed(browser.returncode))
                return
            await asyncio.sleep(0.25)
    finally:
        browser.returncode = browser.returncode or 0  # nobody waits for it: no warning that it still runs


async def _first_code(catch: _Catch, connecting: asyncio.Task[None], timeout: float) -> AuthorizationCode:
    """Wait for the person, unless the token endpoint turns out to be out of reach: then nothing is to be waited for."""
    waiting: set[asyncio.Future[AuthorizationCode] | asyncio.Task[None]] = {catch.code, connecting}
    try:
        async with asyncio.timeout(timeout):
            while not catch.code.done():
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if connecting in done and not catch.code.done():
                    connecting.result()
                    waiting.discard(connecting)
    except TimeoutError:
        raise LoginTimedOut(
            f"no redirect arrived within {timeout:.0f} seconds",
            hint="nothing was spent; run the login again and click Allow in time, or give it longer with --timeout 15m",
        ) from None
    finally:
        if catch.code.done() or not connecting.done():
            connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
    return catch.code.result()


def _page_for(error: BaseException) -> Page:
    match error:
        case AuthorizationDenied():
            return "denied"
        case AuthorizationResponseError():
            return "refused"
        case WrongAccount():
            return "wrong_account"
        case _:
            return "failed"


def _ages(catch: _Catch, token_endpoint: TokenEndpoint) -> Answered:
    sent_at = token_endpoint.sent_at or catch.caught_at
    return Answered(sent_at - catch.caught_at, time.monotonic() - catch.caught_at)


async def _commit(
    grant: _Grant,
    store: Store,
    now: Callable[[], clock.Moment],
    tell: Callable[[Progress], None],
    tokens: TokenSet,
) -> Account:
    received = now()
    account = Account(
        name=grant.name,
        registration=grant.registration,
        client_secret=grant.secret_reference,
        tokens=tokens,
        generation=1,
        logged_in_at=received.unix,
        refresh_token_at=received.unix,
        received=received,
        received_by="login",
    )
    expected = None if grant.force else _expected_company(grant, store)
    if expected is not None:
        account = await _with_company(account, tell)
        _check_company(account, expected)
    async with locked(store, grant.name):
        stored = _stored(store, grant.name)
        account = replace(account, generation=stored.generation + 1 if stored else 1)
        store.save(account)
    tell(Stored(account))
    return account


def _stored(store: Store, name: str) -> Account | None:
    """Return what stands there; a damaged record must not cost the new tokens."""
    try:
        return store.load(name)
    except LoopbackAuthError:
        return None


def _expected_company(grant: _Grant, store: Store) -> str | None:
    if grant.expected_company is not None:
        return grant.expected_company
    stored = _stored(store, grant.name)
    same_server = stored and stored.registration.server.token_endpoint == grant.registration.server.token_endpoint
    return stored.company["id"] if stored and same_server and stored.company else None


def _check_company(account: Account, expected: str) -> None:
    """Raise WrongAccount. A company that could not be asked for is no wrong one: the tokens are worth keeping."""
    if account.company is None or account.company["id"] == expected:
        return
    known = f"{printable(account.company['name'], 60)} (company {printable(account.company['id'], 40)})"
    raise WrongAccount(
        f"you logged in to {known}, and account {account.name} is for company {printable(expected, 40)}",
        hint=(
            "nothing was stored, what was stored before stays; log out in the browser and log in to the other one",
            "or store it under a name of its own: loopback-auth login NAME; or replace the account with --force",
        ),
    )


async def _with_company(account: Account, tell: Callable[[Progress], None]) -> Account:
    """Ask whose data this is, unless that is known."""
    if account.company is not None:
        return account
    try:
        company = await resource.company(account.registration, account.tokens.access_token)
    except ResourceError as error:
        tell(CompanyUnknown(error))
        return account
    return account if company is None else replace(account, company={"id": company.id, "name": company.name})


async def _save_company(account: Account, store: Store) -> None:
    """Keep the company beside the tokens, unless newer ones stand there by now."""
    async with locked(store, account.name):
        stored = store.load(account.name)
        if stored is not None and stored.generation == account.generation and stored.company != account.company:
            store.save(account)
