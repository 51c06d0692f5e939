"""The part of `login` that waits: what goes on in the event loop once the browser is on its way."""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager

from loopback_auth.beginning import Beginning
from loopback_auth.cli import embedded, setup, signals
from loopback_auth.cli.login_words import LoginWords
from loopback_auth.grant import Grant
from loopback_auth.login import complete
from loopback_auth.progress import Progress, Stored
from loopback_auth.redirect.paste import Terminal
from loopback_auth.secret import Secret
from loopback_auth.store.base import Account


def run(
    grant: Grant,
    beginning: AbstractContextManager[Beginning],
    *,
    client_secret: Secret | None,
    tls: ssl.SSLContext | None,
    self_signed: str | None,
    stored: Callable[[Account], None],
    timeout: float,
    quiet: bool,
    verbose: bool,
) -> Account:
    """Complete a login, say what happens, and return the stored account.

    `beginning` is entered once the sandbox is there, if it is the sandbox's. `stored` is called the moment the tokens
    are durable. `self_signed` is the fingerprint of a certificate that browsers will warn about. Raises what `complete`
    raises, and Interrupted.
    """
    registration = grant.registration
    words = LoginWords(
        registration,
        self_signed=self_signed,
        can_paste=setup.may_ask(),
        timeout=timeout,
        quiet=quiet,
        verbose=verbose,
    )

    def tell(progress: Progress) -> None:
        words.tell(progress)
        if isinstance(progress, Stored):
            stored(progress.account)

    async def work() -> Account:
        async with embedded.sandbox(registration.server), words.live(), _terminal(words) as pasted:
            with beginning as begun:
                return await complete(
                    begun, client_secret=client_secret, tls=tls, timeout=timeout, pasted=pasted, tell=tell
                )

    try:
        return signals.run(work())
    except signals.Interrupted as stopped:
        raise signals.Interrupted(stopped.number, words.interrupted()) from None


@asynccontextmanager
async def _terminal(words: LoginWords) -> AsyncIterator[Callable[[], Awaitable[str]] | None]:
    """Let the redirect URL be pasted where there is a terminal: beside the loopback server, whichever comes first."""
    if not setup.may_ask():
        yield None
        return
    async with Terminal.open(sys.stdin.fileno(), stopping=words.erase) as terminal:
        yield terminal.next
