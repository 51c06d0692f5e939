"""What can be set on a sandbox, and the values that are refused before anything is bound or written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from .redirect_uris import fault_of
from .restaurants import RESTAURANTS, Restaurant

Fault = Literal["none", "slow", "drop", "500"]
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
    `faults`, `fault_count`, `slow_seconds`
        what goes wrong at the token endpoint, for how many token requests from the start (None: all of them),
        and how long the answer of `slow` is held back. `slow` and `drop` process the request, so its code or
        refresh token is spent; `500` processes nothing.
    `redirect_uris`
        None registers every loopback redirect URI; a tuple pins exact ones, the first being the default.
    `clients`, `restaurants`
        who may ask, and who may log in.

    Raises ValueError, in words, for values that cannot work.
    """

    folder: Path
    port: int = DEFAULT_PORT
    shared: bool = False
    https: bool = False
    code_lifetime: float = 30
    access_token_lifetime: int = 3600
    state: StateHandling = "echo"
    faults: Fault = "none"
    fault_count: int | None = None
    slow_seconds: float = 5
    redirect_uris: tuple[str, ...] | None = None
    clients: tuple[SandboxClient, ...] = (SANDBOX_CLIENT,)
    restaurants: tuple[Restaurant, ...] = RESTAURANTS

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not between 0 and 65535")
        if self.faults not in get_args(Fault) or self.state not in get_args(StateHandling):
            raise ValueError(f"faults is one of {get_args(Fault)}, state one of {get_args(StateHandling)}")
        if self.code_lifetime <= 0 or self.access_token_lifetime <= 0:
            raise ValueError("a lifetime is a positive number of seconds")
        if self.slow_seconds < 0:
            raise ValueError("slow_seconds cannot be negative")
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


def _refuse_repeated(what: str, values: list[str]) -> None:
    if not values or not all(values):
        raise ValueError(f"at least one {what} is needed, and none may be empty")
    if len(set(values)) != len(values):
        raise ValueError(f"each {what} may occur once")
