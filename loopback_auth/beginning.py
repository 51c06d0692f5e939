"""How a login begins: the store is proven, the port is ours, the browser is on its way.

Whatever takes long to import, asyncio included, is imported after that: browsers take long to start.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from loopback_auth import clock
from loopback_auth.errors import StoreBusy, StoreNotWritable, WrongAccount
from loopback_auth.grant import Grant, intent_of
from loopback_auth.oauth.registration import parse_redirect_uri
from loopback_auth.oauth.token import tokens_in
from loopback_auth.redirect.browser import open_browser
from loopback_auth.redirect.listener import Listener
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Journal

DEFAULT_TIMEOUT = 300.0
"""Seconds a person has to log in and click Allow."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A login that waits for its browser; the kernel lets that wait until somebody answers."""

    grant: Grant
    store: Accounts
    journal: Journal
    listener: Listener
    opened: subprocess.Popen[bytes] | str | None
    """The browser's process where there is one, or in words why no browser was opened."""


@contextmanager
def begin(
    grant: Grant,
    store: Accounts,
    browser: Callable[[str], subprocess.Popen[bytes] | str | None] = open_browser,
    now: Callable[[], clock.Moment] = clock.now,
) -> Iterator[Beginning]:
    """Begin a login; it must be completed, or given up, while this lasts.

    Raises StoreError, PortTaken, ConfigurationError: before the browser opens.
    """
    with (
        journal_of(grant, store, now) as journal,
        only_login(store, grant.account),
        Listener.open(parse_redirect_uri(grant.registration.redirect_uri)) as listener,
    ):
        yield Beginning(grant, store, journal, listener, browser(listener.start_url))


@contextmanager
def only_login(store: Accounts, name: str) -> Iterator[None]:
    """Be the only login of this account that a person is asked for, among all processes, while this lasts.

    Raises StoreBusy: nobody is asked twice, however many scripts call for it.
    """
    with store.login_lock(name) as lock:
        if not lock.try_acquire():
            raise StoreBusy(
                f"a login of account {name} is under way already",
                hint="finish it in its browser window, or end it (Ctrl-C where it was started); nothing was spent",
            )
        yield


@contextmanager
def journal_of(grant: Grant, store: Accounts, now: Callable[[], clock.Moment]) -> Iterator[Journal]:
    """Prove the store and make it durable that this login is under way, before a person does anything for it.

    Where its tokens came and could not be stored, the journal stays for the next command; else it is cleared. It is the
    login's own: a person who takes five minutes stands in no refresh's way. Raises StoreError.
    """
    if not grant.force:
        store.check_keys()
    with store.login_journal(grant.account) as journal:
        try:
            journal.prove()
            journal.arm(intent_of(grant, now()))
            yield journal
        except BaseException as error:
            if isinstance(error, WrongAccount) or tokens_in(journal.answer) is None:
                with suppress(StoreNotWritable):
                    journal.clear()
            raise
