"""What is kept of an account, and what a store can do with it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from loopback_auth.clock import Moment
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.token import ANSWER_LIMIT, TokenSet

STAGE_LIMIT = 2 * ANSWER_LIMIT
"""Bytes that a journal keeps: an answer, sealed."""
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
    machine: str | None = None
    """The machine that received the tokens (`loopback_auth.machine`); None where it has no name."""
    stored_as: str | None = None
    """What stands in the record in the place of `name` where that is another: it was copied, or is being moved
    (`transit.py`)."""
    sealed: bool = False
    """Whether the record that it was loaded from is sealed."""

    @property
    def expires_at(self) -> int | None:
        """Unix seconds; None where the server does not say."""
        lifetime = self.tokens.expires_in
        return None if lifetime is None else int(self.received.unix) + lifetime

    @property
    def digest(self) -> str:
        """Return SHA-256 of the refresh token in hex, "" without one: which one a spend is about, not what it is."""
        import hashlib  # 3 ms, which a browser need not wait for

        token = self.tokens.refresh_token
        return hashlib.sha256(token.reveal().encode(errors="surrogatepass")).hexdigest() if token else ""

    @property
    def spends(self) -> tuple[int, str]:
        """Return what an intent or a trouble must name to be about the refresh token in hand."""
        return self.generation, self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """That something which works once is sent. It is durable before that is, and holds no code, token or secret."""

    generation: int
    """Of the token set whose refresh token is sent; 0 for a login."""
    digest: str
    """`Account.digest` of it; "" for a login."""
    armed: Moment
    sendings: int = 1
    """How often the same thing was sent, this time included."""
    grant: dict[str, Any] | None = None
    """What a login needs, so that another process can finish it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How the last try to refresh failed. It is about one token set: once there is another, it is of no account."""

    generation: int
    digest: str
    message: str
    at: float
    """Unix seconds."""
    refused: bool = False
    """The server refused this very refresh token: it is never sent again."""
    not_before: float | None = None
    """Unix seconds: the server asked not to be asked earlier."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a store keeps of an account: ASCII bytes that it need not understand, and that may be sealed."""

    content: bytes = field(repr=False)
    generation: int
    """Of the token set in it; 0 where a store that has nothing but the content finds it damaged."""
    age: float | None = None
    """Seconds since its access token was received, by a clock that all who share the store share; None where the
    store has no such clock, and the content tells."""
    sealed_with: str | None = None
    """The id of the key that seals it where it is kept; None: none does."""


class Store(Protocol):
    """Keeps records by account name. All methods block; none is called while another thread is in one for the same
    account. Whatever goes wrong is a StoreError, and spends nothing."""

    @property
    def address(self) -> str:
        """Where the secrets live, for people, without a password: `file:/…`."""

    @property
    def shared(self) -> bool:
        """Whether several machines use it at once."""

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted."""

    def read(self, name: str) -> Record | None:
        """Return what is kept under this name, None if there is nothing. Raises StoreUnsafe, StoreError."""

    def write(self, name: str, record: Record, replaces: int) -> None:
        """Make the record durable in the place of generation `replaces` (0: of nothing), and settle that one's journal.

        Raises StoreNotWritable, or Overtaken where another generation stands there; then that is left as it was.
        """

    def remove(self, name: str) -> bool:
        """Forget the account and all that is about it, durably; return whether there was one."""

    def lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the account's lock, not yet taken; leaving the context lets it go."""

    def login_lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the lock of whoever asks a person to log in to the account; not yet taken, the store is proven."""

    def journal(self, name: str) -> AbstractContextManager[Journal]:
        """Return the journal of the account's refreshes, not yet opened."""

    def login_journal(self, name: str) -> AbstractContextManager[Journal]:
        """Return a new journal, for one login: it is nobody else's while that lasts."""

    def login_journals(self, name: str) -> Sequence[AbstractContextManager[Journal]]:
        """Return the journals of all logins that have not ended as they should, or have not ended; not yet opened."""

    def trouble(self, name: str) -> Trouble | None:
        """Return what was noted last."""

    def note(self, name: str, trouble: Trouble) -> None:
        """Keep what went wrong. Raises StoreError."""


class Lock(Protocol):
    """A lock that is asked for again and again, so that the wait can be cancelled and has an end."""

    def try_acquire(self) -> bool:
        """Take the lock if nobody else holds it; never waits. True also while it is held already."""


class Journal(Protocol):
    """What is known of one spend while its outcome is not; it outlives the process that sends.

    Open it, then: prove → arm → (send) → stage → sync → (commit) → clear. For as long as the process lives that armed
    it, no other can open it; where nobody can know that, as long as its request may still be under way.
    """

    def try_open(self) -> bool:
        """Take over what a process that has ended left; False while its sender is alive. Never waits for it."""

    @property
    def news(self) -> int | None:
        """A descriptor to wait at before the next `try_open`: readable when that may be worth it; None without one."""

    def tidy(self) -> None:
        """Remove what is left of a process that ended before it sent anything. Call it holding the account's lock."""

    @property
    def intent(self) -> Intent | None:
        """What was sent last, or was about to be; None where nothing is in doubt."""

    @property
    def answer(self) -> bytes:
        """What that brought, as far as it came."""

    def prove(self) -> None:
        """Show that tokens could be saved right now, keep room for the answer, and keep others out.

        Raises StoreError, and Overtaken where another process was faster.
        """

    def arm(self, intent: Intent) -> None:
        """Make it durable that this is sent now. Raises StoreNotWritable, Overtaken: then it must not be sent."""

    def stage(self, piece: bytes) -> None:
        """Keep the next bytes of the answer, which hold no zero, `STAGE_LIMIT` in all; never fails."""

    def sync(self) -> None:
        """Make the answer durable. Raises StoreNotWritable; it outlives the process all the same."""

    def withdraw(self) -> None:
        """Take the last `arm` back: it turned out that what was sent was not spent by it. Raises StoreNotWritable."""

    def clear(self) -> None:
        """Remove intent and answers: the outcome is known. Raises StoreNotWritable."""
