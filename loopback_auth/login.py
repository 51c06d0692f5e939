"""Use-case: the authorization code grant, from an open port to stored tokens (RFC 8252, RFC 7636). Reads top to bottom.

Nothing is written to disk between the redirect and the token request: the code dies within seconds.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from loopback_auth import clock
from loopback_auth.catching import catching, first_code
from loopback_auth.endpoints import resource
from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import (
    LoginRequired,
    LoopbackAuthError,
    OutcomeUnknown,
    ResourceError,
    WrongAccount,
)
from loopback_auth.oauth.authorization import (
    AuthorizationCode,
    build_authorization_request,
)
from loopback_auth.oauth.registration import ClientRegistration, parse_redirect_uri
from loopback_auth.oauth.token import TokenSet, build_code_request
from loopback_auth.progress import Answered, BrowserOpened, CodeReceived, CompanyUnknown, Progress, Stored
from loopback_auth.redirect.browser import open_browser
from loopback_auth.redirect.server import LoopbackServer
from loopback_auth.secret import Secret
from loopback_auth.spend import locked, spend
from loopback_auth.store.base import Account, SecretReference, Store
from loopback_auth.text import printable

DEFAULT_TIMEOUT = 300.0
"""Seconds a person has to log in and click Allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the tokens of a login are for.

    `client_secret` says where the secret will be found at later refreshes. `expected_company` is the id that the tokens
    must be for; without it, that of the account stored under this name at this server, if there is one; `force` takes
    any.
    """

    account: str
    registration: ClientRegistration
    client_secret: SecretReference | None
    expected_company: str | None = None
    force: bool = False


async def login(
    grant: Grant,
    *,
    store: Store,
    client_secret: Secret | None,
    tls: ssl.SSLContext | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    browser: Callable[[str], subprocess.Popen[bytes] | str | None] = open_browser,
    pasted: Callable[[], Awaitable[str]] | None = None,
    tell: Callable[[Progress], None] = lambda _progress: None,
    random: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    now: Callable[[], clock.Moment] = clock.now,
) -> Account:
    """Log a person in and return the account as it was stored.

    `tls` is needed for an https redirect URI. `browser` opens an address and returns its process or None, or in words
    why it could not; `pasted` waits for the next text that the person pasted. `tell` is called in the event loop and
    must not block. `timeout` is in seconds.

    Raises ConfigurationError and StoreError before the browser opens; then LoginTimedOut, AuthorizationResponseError,
    TokenEndpointUnreachable, TokenEndpointError, OutcomeUnknown, WrongAccount, StoreNotWritable.
    """
    registration = grant.registration
    store.prove(grant.account)
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

        async with catching(server, request, opened, pasted, tell) as catch:
            code = await first_code(catch, connecting, timeout)
            tell(CodeReceived(code.shown_by))
            account = await redeem(
                code,
                client_secret,
                grant,
                token_endpoint,
                store=store,
                tell=catch.tell,
                now=now,
                caught_at=catch.caught_at,
            )
            return await name_company(account, store, tell)


async def redeem(
    code: AuthorizationCode,
    client_secret: Secret | None,
    grant: Grant,
    token_endpoint: TokenEndpoint,
    *,
    store: Store,
    tell: Callable[[Progress], None],
    now: Callable[[], clock.Moment] = clock.now,
    caught_at: float | None = None,
) -> Account:
    """Send a checked code at once, once, and return the account made durable of the answer.

    `caught_at` is when the redirect came, by `time.monotonic`; now, if it is not given.
    """
    caught_at = time.monotonic() if caught_at is None else caught_at

    def answered() -> None:
        sent_at = token_endpoint.sent_at or caught_at
        tell(Answered(sent_at - caught_at, time.monotonic() - caught_at))

    try:
        return await spend(
            token_endpoint,
            build_code_request(code, client_secret),
            commit=partial(_commit, grant, store, now, tell),
            answered=answered,
        )
    except LoginRequired as refused:
        refused.hint = (
            "the code is spent, nothing was stored; run the login again",
            "if that is in vain: the redirect_uri must be letter for letter as it was registered",
        )
        raise
    except OutcomeUnknown as unknown:
        unknown.hint = ("the code may be spent, nothing was stored; run the login again",)
        raise


async def name_company(account: Account, store: Store, tell: Callable[[Progress], None]) -> Account:
    """Ask whose data the access token opens, if that is not known yet, and keep the answer beside the tokens."""
    named = await _with_company(account, tell)
    if named.company != account.company:
        async with locked(store, account.name):
            stored = store.load(account.name)
            if stored is not None and stored.generation == account.generation:  # no newer tokens stand there by now
                store.save(named)
    return named


async def _commit(
    grant: Grant,
    store: Store,
    now: Callable[[], clock.Moment],
    tell: Callable[[Progress], None],
    tokens: TokenSet,
) -> Account:
    received = now()
    account = Account(
        name=grant.account,
        registration=grant.registration,
        client_secret=grant.client_secret,
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
    async with locked(store, grant.account):
        stored = _stored(store, grant.account)
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


def _expected_company(grant: Grant, store: Store) -> str | None:
    if grant.expected_company is not None:
        return grant.expected_company
    stored = _stored(store, grant.account)
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
