"""OAuth parameters as they arrive, handed to authlib in the shape it expects.

RFC 6749 §3.1 and §3.2: a parameter without a value counts as absent, and none may come twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749 import OAuth2Payload

_MOST_PARAMETERS: Final = 100
# authlib only looks whether it is https or loopback; older versions know no other spelling of the latter
_URI: Final = "http://localhost:0/"


class MalformedParameters(ValueError):
    """A query or body that is not form-urlencoded UTF-8."""


def parse_form(encoded: str) -> dict[str, list[str]]:
    """Parse application/x-www-form-urlencoded text into the values of each name, empty values left out."""
    try:
        pairs = parse_qsl(
            encoded, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS, separator="&"
        )
    except ValueError as error:
        raise MalformedParameters("it is not form-urlencoded UTF-8") from error
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if value:
            values.setdefault(name, []).append(value)
    return values


class Parameters(OAuth2Payload):
    """The parameters of one request; `state` is what the answer shall carry, whatever was asked."""

    def __init__(self, values: Mapping[str, list[str]], state: str | None = None) -> None:
        self._lists = dict(values)
        self._first = {name: found[0] for name, found in values.items()}
        self._state = state

    @property
    def data(self) -> dict[str, str]:
        """The first value of each parameter."""
        return self._first

    @property
    def datalist(self) -> dict[str, list[str]]:
        """All values of each parameter."""
        return self._lists

    @property
    def scope(self) -> str:
        """Nothing, whatever was asked: L-Series documents no scopes."""
        return ""

    @property
    def state(self) -> str | None:
        """What authlib puts into the redirect, errors included."""
        return self._state

    def repeated(self) -> str | None:
        """Return the name of a parameter that came more than once, or None."""
        return next((name for name, found in self._lists.items() if len(found) > 1), None)


class ParsedRequest(OAuth2Request):
    """One request to an OAuth endpoint.

    `rotates` says whether a refresh token is spent and replaced; the grants leave their words for the log in `words`,
    and in `presented` how often the refresh token of the request has come, this time included.
    """

    def __init__(
        self, method: str, parameters: Parameters, authorization: list[str] | None = None, *, rotates: bool = True
    ) -> None:
        super().__init__(method, _URI)
        self.payload: Parameters = parameters
        self.authorization = authorization or []
        self.rotates = rotates
        self.words = ""
        self.presented = 0

    @property
    def form(self) -> dict[str, str]:
        """The parameters of the body, under the name by which the token grants ask for them."""
        return self.payload.data
