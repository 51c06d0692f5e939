"""`login --start` and `login --finish`: the two halves of a login that nobody waits for."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from loopback_auth import client_secret, config_file, folders, two_step
from loopback_auth.cli import embedded, report, setup, signals
from loopback_auth.cli.login_words import LoginWords
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.store import pending
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, SecretReference

LIMIT = 64 * 1024
"""Characters of a redirect URL on stdin."""


def start(
    account: str,
    registration: ClientRegistration,
    reference: SecretReference | None,
    store: Accounts,
    flags: dict[str, Any],
) -> None:
    """Begin a login, and print as JSON what to open, until when it can be finished, and the command for that."""
    url, expires_at = two_step.start(
        account,
        registration,
        accounts_folder=folders.accounts(),
        store=store,
        secret_reference=reference,
        timeout=flags["timeout"],
    )
    name = [] if account == "default" else [account]
    report.print_json(
        {
            "authorization_url": url.reveal(),
            "expires_at": int(expires_at),
            "finish": shlex.join(["loopback-auth", "login", *name, "--finish"]),
        }
    )


def finish(account: str, store: Accounts, flags: dict[str, Any]) -> Account:
    """Read the redirect URL from stdin and finish the login."""
    expected = config_file.load().accounts.get(account)
    waiting = pending.load(folders.accounts(), account)
    words = LoginWords(
        waiting.registration,
        self_signed=None,
        can_paste=False,
        timeout=flags["timeout"],
        quiet=flags["quiet"],
        verbose=flags["verbose"],
    )
    pasted = _redirect_url()

    async def work() -> Account:
        async with embedded.sandbox(waiting.registration.server):
            return await two_step.finish(
                account,
                pasted,
                accounts_folder=folders.accounts(),
                store=store,
                client_secret=lambda login: client_secret.fetch(login.secret_reference, login.registration),
                expected_company=expected.company_id if expected else None,
                force=flags["force"],
                tell=words.tell,
            )

    return signals.run(work())


def _redirect_url() -> str:
    if setup.may_ask():
        typed: str = click.prompt("Redirect URL (not shown)", hide_input=True, err=True)
        return typed
    return sys.stdin.buffer.read(LIMIT).decode(errors="replace")
