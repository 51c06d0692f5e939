"""Use-case: a login in two steps, for scripts, notebooks and remote desktops: start here, log in anywhere, finish here.

No server listens in between; the person brings the redirect URL. The checks are those of `login`, and a started login
can be finished once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from loopback_auth import clock
from loopback_auth.adoption import adopt_left
from loopback_auth.beginning import journal_of
from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.errors import ConfigurationError, LoginRequired, LoginTimedOut, RedirectRejected
from loopback_auth.grant import Grant
from loopback_auth.login import name_company, redeem
from loopback_auth.oauth.authorization import build_authorization_request, parse_authorization_response
from loopback_auth.oauth.registration import ClientRegistration, parse_redirect_uri
from loopback_auth.progress import Progress
from loopback_auth.redirect.paste import parse_pasted
from loopback_auth.redirect.sockets import listen
from loopback_auth.secret import Secret
from loopback_auth.store import pending
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, SecretReference


def start(
    name: str,
    registration: ClientRegistration,
    *,
    accounts_folder: str,
    store: Accounts,
    secret_reference: SecretReference | None,
    timeout: float,
    random: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    now: Callable[[], float] = time.time,
) -> tuple[Secret, float]:
    """Begin a login and return its authorization URL, and until when (Unix seconds) it can be finished.

    `timeout` is the person's time in seconds; the code's own life comes on top. Raises ConfigurationError, StoreError.
    """
    with store.login_journal(name) as journal:
        journal.prove()
    redirect_uri = _concrete(registration.redirect_uri)
    state, code_verifier = Secret(random()), Secret(random())
    request = build_authorization_request(
        registration, redirect_uri=redirect_uri, state=state, code_verifier=code_verifier
    )
    expires_at = now() + timeout + (registration.server.code_lifetime or 0)
    pending.save(
        accounts_folder,
        name,
        pending.PendingLogin(
            registration=registration,
            secret_reference=secret_reference,
            redirect_uri=redirect_uri,
            state=state,
            code_verifier=code_verifier,
            expires_at=expires_at,
        ),
    )
    return request.url, expires_at


async def finish(
    name: str,
    pasted: str,
    *,
    accounts_folder: str,
    store: Accounts,
    client_secret: Callable[[pending.PendingLogin], Secret | None],
    expected_company: str | None = None,
    force: bool = False,
    tell: Callable[[Progress], None] = lambda _progress: None,
    now: Callable[[], clock.Moment] = clock.now,
) -> Account:
    """Finish a started login with the redirect URL, and return the account as stored.

    A URL that is not the redirect of this login leaves it as it was (ConfigurationError); a good one uses it up before
    its code is sent. Raises LoginRequired (none was started), LoginTimedOut, and all that `login` raises.
    """
    waiting = pending.load(accounts_folder, name)
    if now().unix > waiting.expires_at:
        pending.remove(accounts_folder, name)
        raise LoginTimedOut(
            f"the login of account {name} was started too long ago",
            hint=f"start again: loopback-auth login {name} --start",
        )
    registration = waiting.registration
    secret = client_secret(waiting)
    request = build_authorization_request(
        registration, redirect_uri=waiting.redirect_uri, state=waiting.state, code_verifier=waiting.code_verifier
    )
    grant = Grant(
        account=name,
        registration=registration,
        client_secret=waiting.secret_reference,
        expected_company=expected_company,
        force=force,
    )
    await adopt_left(store, name)
    with journal_of(grant, store, now) as journal:
        async with TokenEndpoint.open(
            registration.server.token_endpoint, registration.ca_file, registration.proxy
        ) as token_endpoint:
            await token_endpoint.connect()
            try:
                redirect = parse_pasted(pasted, parse_redirect_uri(waiting.redirect_uri))
                code = parse_authorization_response(request, redirect.query.reveal(), otherwise="pasted")
            except RedirectRejected as rejected:
                raise ConfigurationError(
                    f"this is not the redirect of the login that was started: {rejected}",
                    hint="nothing was spent, it can still be finished; "
                    "give the whole address that the browser ended on",
                ) from rejected
            if not pending.remove(accounts_folder, name):
                raise LoginRequired(f"the login of account {name} was finished already")
            account = await redeem(code, secret, grant, token_endpoint, journal, store=store, tell=tell, now=now)
    return await name_company(account, store, tell)


def _concrete(redirect_uri: str) -> str:
    """Return the redirect URI with a port: nobody listens, but the browser must have an address to fail at."""
    parsed = parse_redirect_uri(redirect_uri)
    if parsed.port:
        return parsed.text
    sockets = listen(parsed.host, 0)
    try:
        return parsed.at_port(sockets[0].getsockname()[1]).text
    finally:
        for listening in sockets:
            listening.close()
