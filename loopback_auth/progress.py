"""What a login tells while it goes on: one small value for each thing that happened, for whoever puts it into words.

Named tuples, because eight data classes take 2 ms to make, and a browser is waiting.
"""

from __future__ import annotations

from typing import NamedTuple

from loopback_auth.errors import ResourceError
from loopback_auth.oauth.authorization import Evidence
from loopback_auth.oauth.registration import RedirectURI
from loopback_auth.secret import Secret
from loopback_auth.store.base import Account


class BrowserOpened(NamedTuple):
    """The browser was told to open the start page, or `why_not` says in a few words why it was not.

    `authorization_url` is for a browser that cannot reach this computer; it is a secret of this login.
    """

    start_url: str
    authorization_url: Secret
    redirect_uri: RedirectURI
    why_not: str | None


class BrowserFailed(NamedTuple):
    """The browser's command ended with `status`, so the start page may not be open."""

    status: int


class Rejected(NamedTuple):
    """A request, or a paste, that is not the redirect of this login."""

    why: str
    pasted: bool


class WrongPath(NamedTuple):
    """A redirect came to another path than the redirect URI's; `path` is as it came."""

    path: str


class StrangerCame(NamedTuple):
    """Another user of this machine asked for the start page, and did not get it."""


class CodeReceived(NamedTuple):
    """The redirect came, with a code that was checked; `shown_by` says what showed that it is ours."""

    shown_by: Evidence


class Answered(NamedTuple):
    """The token endpoint answered. Ages of the code in seconds, counted from the redirect's headers."""

    sent_after: float
    answered_after: float


class Stored(NamedTuple):
    """The tokens are durable."""

    account: Account


class CompanyUnknown(NamedTuple):
    """The API did not say whose data the access token opens; the login stands."""

    why: ResourceError


Progress = (
    BrowserOpened
    | BrowserFailed
    | Rejected
    | WrongPath
    | StrangerCame
    | CodeReceived
    | Answered
    | Stored
    | CompanyUnknown
)
