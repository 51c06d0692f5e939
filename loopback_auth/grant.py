"""What the tokens of a login are for; and what a login that was killed has left of itself."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loopback_auth import clock
from loopback_auth.errors import Unopenable
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.token import tokens_in
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Intent, SecretReference
from loopback_auth.store.record import parse_registration


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


def intent_of(grant: Grant, now: clock.Moment) -> Intent:
    """Return the intent of a login, with all that another process needs to finish it."""
    return Intent(generation=0, digest="", armed=now, grant=dataclasses.asdict(grant))


def grant_of(name: str, intent: Intent | None) -> Grant | None:
    """Return the grant of a login's intent, None where it holds none."""
    members: dict[str, Any] = (intent and intent.grant) or {}
    try:
        return Grant(
            account=name,
            registration=parse_registration(members["registration"]),
            client_secret=members["client_secret"],
            expected_company=members["expected_company"],
            force=members["force"],
        )
    except (KeyError, TypeError, AttributeError):
        return None


def to_adopt(store: Accounts, name: str) -> bool:
    """Whether a login that has ended left tokens behind."""
    for left in store.login_journals(name):
        with left as journal, suppress(Unopenable):  # it is left for whoever has the key
            if journal.try_open() and tokens_in(journal.answer) is not None:
                return True
    return False
