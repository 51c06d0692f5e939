"""What can be set on a sandbox, and the values that are refused before anything is bound or written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from .redirect_uris import fault_of
from .restaurants import RESTAURANTS, Restaurant

Fault = Literal[
    "none",
    "slow",
    "trickle",
    "gzip",
    "no-refresh-token",
    "expires-missing",
    "expires-null",
    "expires-0",
    "expires-negative",
    "expires-text",
    "expires-fraction",
    "expires-huge",
    "drop",
    "reset",
    "hang",
    "truncate",
    "cut",
    "html",
    "empty",
    "garbage",
    "late-500",
    "late-502",
    "late-503",
    "late-504",
    "500",
    "502",
    "503",
    "503-retry-after",
    "503-retry-date",
    "504",
    "404",
    "408",
    "429",
    "429-retry-after",
    "redirect",
    "invalid-client",
    "invalid-grant",
    "invalid-request",
    "invalid-scope",
    "unauthorized-client",
    "unsupported-grant-type",
    "refuse-drop",
    "endless",
    "big",
]
"""What the token endpoint can do wrong; `faults.py` says what each of them is."""
FaultGrant = Literal["any", "authorization_code", "refresh_token"]
Reuse = Literal["refuse", "revoke"]
StateHandling = Literal["echo", "drop", "replace"]

DEFAULT_PORT: Final = 8931


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxClient:
    """One registration: what a developer would receive from Lightspeed after one to two weeks."""

    client_id: str
    client_secret: str = field(repr=False)
    name: str


SANDBOX_CLIENT: Final = SandboxClient(
    client_id="sandbox",
    client_secret="sandbox-secret",  # noqa: S106 - public: printed on the sandbox's own start page
    name="Sandbox application",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Everything a sandbox can be told; the defaults are a staging server that behaves.

    `folder`
        where codes, tokens, logins, the signing key and the certificate live; made with mode 0700 if absent.
        Several sandboxes, one after another or at once, may share it.
    `port`
        on 127.0.0.1 and [::1] alike; 0 is any free port.
    `shared`
        let other sandboxes of the same user, which are shared too, listen on the port beside this one (Linux).
    `https`
        serve with a self-signed certificate for localhost, 127.0.0.1 and ::1, kept in `folder`.
    `code_lifetime`, `access_token_lifetime`
        seconds.
    `state`
        what the redirect carries: the `state` of the request, none, or one of the server's own.
    `grace`, `reuse`
        for how many seconds a spent refresh token is still answered with tokens (each time with new ones), and what
        happens when it is presented later: it is refused, or the whole grant is revoked as well (RFC 9700 §4.14.2).
    `faults`, `fault_grant`, `fault_count`
        what goes wrong at the token endpoint (`FAULTS` lists it), for token requests of which grant, and for how
        many of those from the start (None: all of them).
    `slow_seconds`, `trickle_seconds`, `retry_after`
        how long `slow` holds the answer back, how long `trickle` waits between two bytes, and how many seconds
        a `Retry-After` says.
    `redirect_uris`
        None registers every loopback redirect URI; a tuple pins exact ones, the first being the default.
    `clients`, `restaurants`
        who may ask, and who may log in beside the numbered restaurants, which are always there.

    Raises ValueError, in words, for values that cannot work.
    """

    folder: Path
    port: int = DEFAULT_PORT
    shared: bool = False
    https: bool = False
    code_lifetime: float = 30
    access_token_lifetime: int = 3600
    state: StateHandling = "echo"
    grace: float = 0
    reuse: Reuse = "refuse"
    faults: Fault = "none"
    fault_grant: FaultGrant = "any"
    fault_count: int | None = None
    slow_seconds: float = 5
    trickle_seconds: float = 1
    retry_after: int = 2
    redirect_uris: tuple[str, ...] | None = None
    clients: tuple[SandboxClient, ...] = (SANDBOX_CLIENT,)
    restaurants: tuple[Restaurant, ...] = RESTAURANTS

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not between 0 and 65535")
        _refuse_unknown("state", self.state, get_args(StateHandling))
        _refuse_unknown("reuse", self.reuse, get_args(Reuse))
        _refuse_unknown("faults", self.faults, get_args(Fault))
        _refuse_unknown("fault_grant", self.fault_grant, get_args(FaultGrant))
        if self.code_lifetime <= 0 or self.access_token_lifetime <= 0:
            raise ValueError("a lifetime is a positive number of seconds")
        for name in ("grace", "slow_seconds", "trickle_seconds", "retry_after"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative")
        if self.fault_count is not None and self.fault_count < 1:
            raise ValueError("fault_count is at least 1, or None for every token request")
        _refuse_repeated("client_id", [client.client_id for client in self.clients])
        _refuse_repeated("user_id", [restaurant.user_id for restaurant in self.restaurants])
        if self.redirect_uris is not None:
            if not self.redirect_uris:
                raise ValueError("redirect_uris names none: leave it out to accept every loopback redirect URI")
            for uri in self.redirect_uris:
                if fault := fault_of(uri):
                    raise ValueError(f"redirect URI {uri!r}: {fault}")


def _refuse_unknown(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} is one of {', '.join(known)}")


def _refuse_repeated(what: str, values: list[str]) -> None:
    if not values or not all(values):
        raise ValueError(f"at least one {what} is needed, and none may be empty")
    if len(set(values)) != len(values):
        raise ValueError(f"each {what} may occur once")
