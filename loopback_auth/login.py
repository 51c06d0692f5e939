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
from contextlib import asynccontextmanager, suppress

from loopback_auth import clock
from loopback_auth.catching import catching, first_code
from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import (
    LoginRequired,
    OutcomeUnknown,
    StoreError,
    StoreNotWritable,
    TokensNotStored,
    WrongAccount,
)
from loopback_auth.grant import Grant, adopt_left, checked, intent_of, save, with_company
from loopback_auth.oauth.authorization import AuthorizationCode, build_authorization_request
from loopback_auth.oauth.registration import parse_redirect_uri
from loopback_auth.oauth.token import TokenSet, build_code_request, tokens_in
from loopback_auth.progress import Answered, BrowserOpened, CodeReceived, Progress, Stored
from loopback_auth.redirect.browser import open_browser
from loopback_auth.redirect.server import LoopbackServer
from loopback_auth.secret import Secret
from loopback_auth.spend import locked, spend
from loopback_auth.store.base import Account, Journal, Store

DEFAULT_TIMEOUT = 300.0
"""Seconds a person has to log in and click Allow."""


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
    redirect_uri = parse_redirect_uri(registration.redirect_uri)
    token_endpoint_url = registration.server.token_endpoint
    async with (
        journal_of(grant, store, now) as journal,
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
                journal,
                store=store,
                tell=catch.tell,
                now=now,
                caught_at=catch.caught_at,
            )
            return await name_company(account, store, tell)


@asynccontextmanager
async def journal_of(grant: Grant, store: Store, now: Callable[[], clock.Moment]) -> AsyncIterator[Journal]:
    """Prove the store and make it durable that this login is under way, before a person does anything for it.

    Where its tokens came and could not be stored, the journal stays for the next command; else it is cleared. It is the
    login's own: a person who takes five minutes stands in no refresh's way. Raises StoreError.
    """
    await adopt_left(store, grant.account)
    with store.login_journal(grant.account) as journal:
        journal.prove()
        journal.arm(intent_of(grant, now()))
        try:
            yield journal
        except BaseException as error:
            if isinstance(error, WrongAccount) or tokens_in(journal.answer) is None:
                with suppress(StoreNotWritable):
                    journal.clear()
            raise


async def redeem(
    code: AuthorizationCode,
    client_secret: Secret | None,
    grant: Grant,
    token_endpoint: TokenEndpoint,
    journal: Journal,
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

    async def commit(tokens: TokenSet) -> Account:
        account = await checked(grant, tokens, store, now(), tell)
        account = await _stored(account, store, journal)
        tell(Stored(account))
        return account

    try:
        request = build_code_request(code, client_secret)
        return await spend(token_endpoint, request, journal, commit=commit, answered=answered)
    except LoginRequired as refused:
        refused.hint = (
            "the code is spent, nothing was stored; run the login again",
            "if that is in vain: the redirect_uri must be letter for letter as it was registered",
        )
        raise
    except OutcomeUnknown as unknown:
        unknown.hint = ("the code may be spent, nothing was stored; run the login again",)
        raise


async def _stored(account: Account, store: Store, journal: Journal) -> Account:
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


async def name_company(account: Account, store: Store, tell: Callable[[Progress], None]) -> Account:
    """Ask whose data the access token opens, if that is not known yet, and keep the answer beside the tokens."""
    named = await with_company(account, tell)
    if named.company != account.company:
        with suppress(StoreError):  # the tokens are stored; a name is not worth a failed login
            async with locked(store, account.name):
                stored = store.load(account.name)
                if stored is not None and stored.generation == account.generation:  # no newer tokens stand there by now
                    store.save(named)
    return named
