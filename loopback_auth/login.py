"""Use-case: the authorization code grant, from an open port to stored tokens (RFC 8252, RFC 7636). Reads top to bottom.

Nothing is written to disk between the redirect and the token request: the code dies within seconds. What takes long to
import, aiohttp above all, is imported once the browser is on its way.
"""

from __future__ import annotations

import secrets
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace

from loopback_auth import clock
from loopback_auth.adoption import adopt_left, checked, save, with_company
from loopback_auth.beginning import DEFAULT_TIMEOUT, Beginning, begin
from loopback_auth.catching import Catch, Catches, catching, first_code
from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import LoginRequired, OutcomeUnknown, StoreError, StoreNotWritable, TokensNotStored
from loopback_auth.grant import Grant
from loopback_auth.oauth.authorization import AuthorizationCode, build_authorization_request
from loopback_auth.oauth.registration import RedirectURI
from loopback_auth.oauth.token import TokenSet, build_code_request
from loopback_auth.progress import Answered, BrowserOpened, CodeReceived, Progress, Stored
from loopback_auth.redirect.browser import open_browser
from loopback_auth.redirect.server import LoopbackServer
from loopback_auth.secret import Secret
from loopback_auth.spend import locked, spend
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Journal

CODE_LIFETIME = 30.0
"""Seconds a code lives, where the server does not say."""


async def login(
    grant: Grant,
    *,
    store: Accounts,
    client_secret: Secret | None,
    tls: ssl.SSLContext | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    browser: Callable[[str], subprocess.Popen[bytes] | str | None] = open_browser,
    pasted: Callable[[], Awaitable[str]] | None = None,
    tell: Callable[[Progress], None] = lambda _progress: None,
    now: Callable[[], clock.Moment] = clock.now,
) -> Account:
    """Log a person in and return the account as it was stored: `begin` and `complete`, for programs with a loop.

    `browser` opens an address and returns its process or None, or in words why it could not.

    Raises ConfigurationError and StoreError before the browser opens; then what `complete` raises.
    """
    await adopt_left(store, grant.account)
    with begin(grant, store, browser, now) as beginning:
        return await complete(
            beginning, client_secret=client_secret, tls=tls, timeout=timeout, pasted=pasted, tell=tell, now=now
        )


async def complete(
    beginning: Beginning,
    *,
    client_secret: Secret | None,
    tls: ssl.SSLContext | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    pasted: Callable[[], Awaitable[str]] | None = None,
    tell: Callable[[Progress], None] = lambda _progress: None,
    random: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    now: Callable[[], clock.Moment] = clock.now,
) -> Account:
    """Complete a login that was begun, and return the account as it was stored.

    `tls` is needed for an https redirect URI. `pasted` waits for the next text that the person pasted. `tell` is called
    in the event loop and must not block. `timeout` is in seconds. Raises ConfigurationError, and what
    `authorization_code_grant` raises.
    """
    catches = Catches(tell)
    return await authorization_code_grant(
        beginning.grant,
        beginning.journal,
        beginning.listener.nonce,
        LoopbackServer.open(beginning.listener, tls, catches),
        catches,
        lambda _start_url: beginning.opened,
        redirect_uri=beginning.listener.redirect_uri,
        store=beginning.store,
        client_secret=client_secret,
        timeout=timeout,
        pasted=pasted,
        tell=tell,
        random=random,
        now=now,
    )


async def authorization_code_grant(
    grant: Grant,
    journal: Journal,
    nonce: str,
    serving: AbstractAsyncContextManager[LoopbackServer],
    catches: Catches,
    browser: Callable[[str], subprocess.Popen[bytes] | str | None],
    *,
    redirect_uri: RedirectURI,
    store: Accounts,
    client_secret: Secret | None,
    timeout: float,
    login_hint: str | None = None,
    pasted: Callable[[], Awaitable[str]] | None = None,
    tell: Callable[[Progress], None] = lambda _progress: None,
    random: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    now: Callable[[], clock.Moment] = clock.now,
) -> Account:
    """Go through one grant (RFC 6749 §4.1), on a loopback server that may serve others too; return what was stored.

    `journal` is armed for it. `serving` is entered once the connection to the token endpoint has begun; `catches` is
    its judge. `browser` is given the start page. Raises LoginTimedOut, AuthorizationResponseError,
    TokenEndpointUnreachable, TokenEndpointError, OutcomeUnknown, WrongAccount, StoreNotWritable.
    """
    registration = grant.registration
    request = build_authorization_request(
        registration,
        redirect_uri=redirect_uri.text,
        state=Secret(random()),
        code_verifier=Secret(random()),
        login_hint=login_hint,
    )
    catch = Catch(request, redirect_uri, tell)
    async with (
        TokenEndpoint.open(registration.server.token_endpoint, registration.ca_file, registration.proxy) as endpoint,
        endpoint.stay_connected() as connecting,
        serving as server,
    ):
        with server.expect(request.url, nonce) as expected, catches.adding(catch, expected):
            opened = browser(expected.start_url)
            why_not = opened if isinstance(opened, str) else None
            tell(BrowserOpened(expected.start_url, request.url, redirect_uri, why_not))

            async with catching(catch, expected, opened, pasted):
                code = await first_code(catch, connecting, timeout)
                tell(CodeReceived(code.shown_by))
                account = await redeem(
                    code,
                    client_secret,
                    grant,
                    endpoint,
                    journal,
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
    journal: Journal,
    *,
    store: Accounts,
    tell: Callable[[Progress], None],
    now: Callable[[], clock.Moment] = clock.now,
    caught_at: float | None = None,
) -> Account:
    """Send a checked code at once, and return the account made durable of the answer.

    It is sent once; once more where no byte of an answer came, within the code's life: nobody can have the tokens of
    the first. `caught_at` is when the redirect came, by `time.monotonic`; now, if it is not given.
    """
    caught_at = time.monotonic() if caught_at is None else caught_at

    def answered() -> None:
        sent_at = token_endpoint.sent_at or caught_at
        tell(Answered(sent_at - caught_at, time.monotonic() - caught_at))

    async def commit(tokens: TokenSet) -> Account:
        account = await checked(grant, tokens, store, now(), tell)
        account = await _stored(account, store, journal)
        tell(Stored(account))
        return account

    try:
        request = build_code_request(code, client_secret)
        lifetime = grant.registration.server.code_lifetime or CODE_LIFETIME
        return await spend(
            token_endpoint, request, journal, commit=commit, answered=answered, again_before=caught_at + lifetime
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


async def _stored(account: Account, store: Accounts, journal: Journal) -> Account:
    """Make the account durable, over whatever a refresh has brought meanwhile. Raises TokensNotStored."""
    try:
        async with locked(store, account.name):
            account = save(account, store)
            with suppress(StoreNotWritable):
                journal.clear()  # before anybody refreshes these tokens: they must not be adopted after that
            return account
    except StoreError as error:
        raise TokensNotStored(
            f"the tokens came, and {error}",
            account=account,
            hint=(
                "nothing is lost, the answer is kept, and the next command stores it: "
                f"loopback-auth refresh {account.name}",
            ),
        ) from error


async def name_company(account: Account, store: Accounts, tell: Callable[[Progress], None]) -> Account:
    """Ask whose data the access token opens, if that is not known yet, and keep the answer beside the tokens."""
    named = await with_company(account, tell)
    if named.company != account.company:
        with suppress(StoreError):  # the tokens are stored; a name is not worth a failed login
            async with locked(store, account.name):
                stored = store.load(account.name)
                if stored is not None and stored.spends == account.spends:  # no other tokens stand there by now
                    store.save(replace(stored, company=named.company), replaces=stored.generation)
    return named
