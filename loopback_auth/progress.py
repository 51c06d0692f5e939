"""What a login tells while it goes on: one small value for each thing that happened, for whoever puts it into words."""

from __future__ import annotations

from dataclasses import dataclass

from loopback_auth.errors import ResourceError
from loopback_auth.oauth.authorization import Evidence
from loopback_auth.oauth.registration import RedirectURI
from loopback_auth.secret import Secret
from loopback_auth.store.base import Account


@dataclass(frozen=True, slots=True)
class BrowserOpened:
    """The browser was told to open the start page, or `why_not` says in a few words why it was not.

    `authorization_url` is for a browser that cannot reach this computer; it is a secret of this login.
    """

    start_url: str
    authorization_url: Secret
    redirect_uri: RedirectURI
    why_not: str | None


@dataclass(frozen=True, slots=True)
class BrowserFailed:
    """The browser's command ended with `status`, so the start page may not be open."""

    status: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request, or a paste, that is not the redirect of this login."""

    why: str
    pasted: bool


@dataclass(frozen=True, slots=True)
class WrongPath:
    """A redirect came to another path than the redirect URI's; `path` is as it came."""

    path: str


@dataclass(frozen=True, slots=True)
class CodeReceived:
    """The redirect came, with a code that was checked; `shown_by` says what showed that it is ours."""

    shown_by: Evidence


@dataclass(frozen=True, slots=True)
class Answered:
    """The token endpoint answered. Ages of the code in seconds, counted from the redirect's headers."""

    sent_after: float
    answered_after: float


@dataclass(frozen=True, slots=True)
class Stored:
    """The tokens are durable."""

    account: Account


@dataclass(frozen=True, slots=True)
class CompanyUnknown:
    """The API did not say whose data the access token opens; the login stands."""

    why: ResourceError


Progress = BrowserOpened | BrowserFailed | Rejected | WrongPath | CodeReceived | Answered | Stored | CompanyUnknown
