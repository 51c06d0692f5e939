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
    sealed_with: str | None = None
    """The id of the key that seals the record that it was loaded from; None: none does."""

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
    """What a store keeps of an account: ASCII bytes without zeros, that it need not understand; they may be sealed."""

    content: bytes = field(repr=False)
    generation: int
    """Of the token set in it; 0 where a store that has nothing but the content finds it damaged."""
    age: float | None = None
    """Seconds since its access token was received: as `write` is told it, and older by what has passed when it is
    read, by a clock that all who share the store share. None where it has no such clock, and the content tells."""
    sealed_with: str | None = None
    """The id of the key that seals it where it is kept; None: none does."""


class Store(Protocol):
    """Keeps records by account name: 1 to 64 of `A-Za-z0-9._-`, first neither dot nor dash, else ConfigurationError.

    All methods block, and threads may be in several at once. Whatever goes wrong is a StoreError, and spends nothing.
    Two members may be missing: a property `described`, for people alone, where a store has more to say of where the
    secrets are than its address, and that only once it was used; and a method `overview`, which returns the same store
    to be looked at alone, where asking for one account after the other takes long.
    """

    @property
    def address(self) -> str:
        """Where the secrets live, for people, without a password: `file:/…`."""

    @property
    def shared(self) -> bool:
        """Whether several machines use it at once. Then `lock` need not exclude them: `prove`, `arm` and `write` do."""

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted, damaged ones included."""

    def read(self, name: str) -> Record | None:
        """Return what is kept under this name, None if there is nothing; without any lock, and always a whole record.

        What is damaged is returned as it is, or StoreUnsafe raised; TokensGone where something was put there and
        somebody else removed it. Raises StoreError.
        """

    def write(self, name: str, record: Record, replaces: int) -> None:
        """Make the record durable in the place of what `read` says is of generation `replaces`; 0: of nothing.

        Any generation may follow, the same too; 0 also replaces what `read` raises StoreUnsafe for. What the refreshes'
        journal holds may go with another generation; it is cleared all the same. Call it holding the account's lock.
        Raises StoreNotWritable, or Overtaken where another generation stands there; then that is left as it was.
        """

    def remove(self, name: str) -> bool:
        """Forget record, trouble and what logins that have ended left, durably; return whether there was a record.

        Logins under way go on. Call it holding the account's lock and journal, and clear that.
        """

    def lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the account's lock, not yet taken; leaving the context lets it go, and the end of the process."""

    def login_lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the lock of whoever asks a person to log in to the account, not yet taken; a login journal of it was
        proven before."""

    def journal(self, name: str) -> AbstractContextManager[Journal]:
        """Return the journal of the account's refreshes, not yet opened."""

    def login_journal(self, name: str) -> AbstractContextManager[Journal]:
        """Return a new journal, for one login: it is nobody else's while that lasts."""

    def login_journals(self, name: str) -> Sequence[AbstractContextManager[Journal]]:
        """Return the journals of all logins that have not ended as they should, or have not ended; not yet opened."""

    def trouble(self, name: str) -> Trouble | None:
        """Return what was noted last, of whichever generation; a newer record may have taken it along."""

    def note(self, name: str, trouble: Trouble) -> None:
        """Keep what went wrong with an account that is there. Raises StoreError."""


class Lock(Protocol):
    """A lock that is asked for again and again, so that the wait can be cancelled and has an end.

    It excludes every other object, in this process too. Which thread asks is of no account.
    """

    def try_acquire(self) -> bool:
        """Take the lock if nobody else holds it; never waits. True also while it is held already."""


class Journal(Protocol):
    """What is known of one spend while its outcome is not; it outlives the process that sends.

    Open it, then: prove → arm → (send) → stage → sync → (commit) → clear; prove and arm again to send once more. From
    `arm` on nobody else can open it until the context is left or the process has ended; where nobody can know that, for
    as long as its request may still be under way. What is in doubt by then stays in it.
    """

    def try_open(self) -> bool:
        """Take over what was left, if anything was; False while somebody else has it. Never waits.

        What `intent` and `answer` say is to be believed once this was true. Where the store is shared, others may have
        opened what was left, too: `prove` and `arm` let one of them send.
        """

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
        """What that brought, as far as it came: all that was synced, and of the rest the beginning, or more."""

    def prove(self) -> None:
        """Show that tokens could be saved right now, keep room for a new answer, and keep others out.

        If nothing is armed after it, nothing of it is seen once the context was left. An intent that was found stays.
        Raises StoreError, and Overtaken where another process was faster.
        """

    def arm(self, intent: Intent) -> None:
        """Make it durable that this is sent now; the journal counts the sendings itself, whatever the intent says.

        Raises StoreNotWritable, Overtaken: then it must not be sent.
        """

    def stage(self, piece: bytes) -> None:
        """Keep the next bytes of the answer, which hold no zero; what is beyond `STAGE_LIMIT` in all is let go of.

        Never fails, and is quick: it is called for every piece that comes.
        """

    def sync(self) -> None:
        """Make the answer durable. Raises StoreNotWritable, and nothing else: the commit, which is tried all the same,
        decides then. Where that fails too, the answer should outlive the process on this machine if anything can."""

    def withdraw(self) -> None:
        """Take the last `arm` back: it turned out that what was sent was not spent by it. The sending before that, if
        there was one, is in doubt again. Raises StoreNotWritable, and nothing else."""

    def clear(self) -> None:
        """Remove intent and answers: the outcome is known. It may be clear already, and can be proven again.

        Raises StoreNotWritable, and nothing else.
        """
