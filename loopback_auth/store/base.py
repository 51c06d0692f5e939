"""What is kept of an account, and what a store can do with it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from loopback_auth.clock import Moment
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.token import TokenSet

SecretReference = dict[str, Any]
"""Where a client secret is: `{"env": name}`, `{"file": path}`, `{"command": [words]}`, `{"keyring": name}`,
`{"preset": true}`. Never the secret itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A grant under a name: one restaurant's login, with all that is needed to refresh it."""

    name: str
    registration: ClientRegistration
    client_secret: SecretReference | None
    tokens: TokenSet
    generation: int
    """Counts committed token sets, from 1 at the first login; a login goes on counting."""
    logged_in_at: float
    """Unix seconds, as are all times here."""
    refresh_token_at: float
    """When the refresh token in hand was received."""
    received: Moment
    """When the access token in hand was received; its age is counted from here."""
    received_by: Literal["login", "refresh"] = "login"
    company: dict[str, str] | None = None
    """`id` and `name`, as the API says."""

    @property
    def expires_at(self) -> int | None:
        """Unix seconds; None where the server does not say."""
        lifetime = self.tokens.expires_in
        return None if lifetime is None else int(self.received.unix) + lifetime


class Store(Protocol):
    """Keeps accounts by name. All methods block; none is called while another thread is in one for the same account."""

    @property
    def address(self) -> str:
        """Where the secrets live, for people: `file:/…`."""

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted."""

    def load(self, name: str) -> Account | None:
        """Return the account, None if there is none. Raises StoreUnsafe, StoreError."""

    def prove(self, name: str) -> None:
        """Show that a token set could be saved right now, or raise StoreError."""

    def save(self, account: Account) -> None:
        """Make the account durable, or raise StoreNotWritable and leave what was there."""

    def remove(self, name: str) -> bool:
        """Forget the account durably; return whether there was one."""

    def lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the account's lock, not yet taken; leaving the context lets it go."""


class Lock(Protocol):
    """A lock that is asked for again and again, so that the wait can be cancelled and has an end."""

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it; never waits."""
