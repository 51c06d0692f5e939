"""Every exception of the package: what happened, what to do about it, and the exit status it ends in.

    LoopbackAuthError                        1
    ├── ConfigurationError                   3   decided before anything was sent
    │   ├── RegistrationIncomplete           3   client or secret not known, and nobody to ask
    │   └── PortTaken                        3
    ├── AuthorizationResponseError           3   the authorization server answered through the browser
    │   ├── AuthorizationDenied              6
    │   └── AuthorizationServerUnavailable   9
    ├── RedirectRejected                     –   a request that is not our redirect; the login goes on
    ├── TokenEndpointError                   3   the token endpoint answered
    │   ├── LoginRequired                    4   refresh token or code refused, or nothing stored
    │   └── ServerUnavailable                9   429, 503
    ├── TokenEndpointUnreachable             9   nothing was sent
    ├── OutcomeUnknown                       10  sent, and no answer that can be read
    ├── ResourceError                        1   the API answered with something else than 2xx
    ├── LoginTimedOut                        5
    ├── WrongAccount                         7   somebody else's tokens than expected
    └── StoreError                           8
        ├── StoreNotWritable                 8
        │   └── TokensNotStored              8   received, kept as they came, to be stored by the next command
        ├── StoreBusy                        8
        │   └── Overtaken                    8   another process was faster; whoever catches it looks again
        ├── StoreUnsafe                      8   permissions, owner, links
        ├── Unopenable                       8   sealed, and none of the keys opens it
        ├── TokensGone                       8   the store no longer has what was put into it
        └── KeyringRefused                   8   the system's keyring would not do what it was asked

Text from outside goes through `text.printable` before it is put into a message; no message holds a secret.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as mypy knows it: `typing` takes 5 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class LoopbackAuthError(Exception):
    """The base of all errors here. `str(error)` says what happened: one line, lower case, no full stop.

    `hint` holds zero or more lines that say what to do or type next.
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str | tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.hint: tuple[str, ...] = (hint,) if isinstance(hint, str) else hint


class ConfigurationError(LoopbackAuthError):
    """A flag, a variable, a file or a registration that cannot work. Nothing was sent, nothing has changed."""

    exit_status = 3


class RegistrationIncomplete(ConfigurationError):
    """Which client is to log in, or its secret, was not said."""


class PortTaken(ConfigurationError):
    """The port of the redirect URI belongs to another program."""


class AuthorizationResponseError(LoopbackAuthError):
    """The redirect carried an error (RFC 6749 §4.1.2.1): `error` and `error_description`, made printable."""

    exit_status = 3

    def __init__(
        self,
        message: str,
        *,
        error: str,
        error_description: str | None = None,
        hint: str | tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.error = error
        self.error_description = error_description


class AuthorizationDenied(AuthorizationResponseError):
    """The person clicked Deny, or may not grant access (`access_denied`)."""

    exit_status = 6


class AuthorizationServerUnavailable(AuthorizationResponseError):
    """The authorization server says `server_error` or `temporarily_unavailable`."""

    exit_status = 9


class RedirectRejected(LoopbackAuthError):
    """The request is not the redirect of this login: it is answered with 400 and the login goes on."""


class TokenEndpointError(LoopbackAuthError):
    """The token endpoint answered with an error (RFC 6749 §5.2); nothing was spent unless a subclass says so.

    `error` and `error_description` are as received, made printable; `status` is the HTTP status.
    """

    exit_status = 3

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        error: str | None = None,
        error_description: str | None = None,
        hint: str | tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.error = error
        self.error_description = error_description


class LoginRequired(TokenEndpointError):
    """A person must log in: nothing is stored under this name, or the code or refresh token was refused."""

    exit_status = 4


class ServerUnavailable(TokenEndpointError):
    """The token endpoint asks to come back later (429, 503): `retry_after` is that header as received.

    Nothing was spent.
    """

    exit_status = 9

    def __init__(self, message: str, *, retry_after: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class TokenEndpointUnreachable(LoopbackAuthError):
    """No connection: DNS, refused, time-out, proxy, TLS or certificate. Nothing was sent, nothing spent."""

    exit_status = 9


class OutcomeUnknown(LoopbackAuthError):
    """The request left and no readable answer came: what was sent may be spent."""

    exit_status = 10


class ResourceError(LoopbackAuthError):
    """The API refused a request made with the access token. `status` is the HTTP status, None without an answer."""

    def __init__(self, message: str, *, status: int | None = None, hint: str | tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class LoginTimedOut(LoopbackAuthError):
    """No redirect arrived within the time given."""

    exit_status = 5


class WrongAccount(LoopbackAuthError):
    """The person logged in to another company than the account's. The new tokens are not stored, the old ones stay.

    `company` is whose they were: `id` and `name`, as they came.
    """

    exit_status = 7

    def __init__(
        self, message: str, *, company: Mapping[str, str] | None = None, hint: str | tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.company = company


class StoreError(LoopbackAuthError):
    """The store cannot be used. Nothing was spent."""

    exit_status = 8


class StoreNotWritable(StoreError):
    """A token set could not be written: disk full, read-only, permissions."""


class TokensNotStored(StoreNotWritable):
    """The tokens came and could not be stored. The answer is kept as it came; the next command stores it."""

    def __init__(self, message: str, *, account: object, hint: str | tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.account = account
        """The account with its new tokens (`loopback_auth.store.base.Account`)."""


class StoreBusy(StoreError):
    """Another process holds the account's lock and did not let go in time."""


class Overtaken(StoreBusy):
    """Another process is about to spend what this one was about to: nothing was sent, look again."""


class StoreUnsafe(StoreError):
    """A file or folder of the store is a link, belongs to somebody else, or can be read by others."""


class Unopenable(StoreError):
    """What is kept is sealed, and no key that was given opens it; or it was changed, or is not sealed and should be.

    It is left as it is. `generation` is what is known of it in clear, 0 where nothing is.
    """

    def __init__(self, message: str, *, hint: str | tuple[str, ...] = (), generation: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.generation = generation


class TokensGone(StoreError):
    """The store no longer has what was put into it: nobody logged out, so it is never "no such account"."""


class KeyringRefused(StoreError):
    """The system's keyring answered, and would not do what it was asked."""
