"""Errors that say in words what was wrong: to the log in full, on the wire as RFC 6749 §5.2 lets them."""

from __future__ import annotations

import re
from typing import Final

from authlib.oauth2.rfc6749.errors import (
    AccessDeniedError,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Error,
    UnauthorizedClientError,
)

from .log import printable

#: Why a token is revoked, whichever it is: the state file does not tell.
REVOKED: Final = "revoked, since a code or refresh token of its login was presented twice: log in again"

_NOT_IN_A_DESCRIPTION: Final = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def wire(words: str) -> str:
    """Return words as an `error_description`: quotes and backslashes are not allowed in one."""
    return _NOT_IN_A_DESCRIPTION.sub("?", words.replace('"', "'").replace("\\", "/"))


class RequestRefused(InvalidRequestError):
    """`invalid_request`, in words."""

    def __init__(self, words: str) -> None:
        super().__init__(description=wire(words))
        self.words = words


class GrantRefused(InvalidGrantError):
    """`invalid_grant`, in words."""

    def __init__(self, words: str) -> None:
        super().__init__(description=wire(words))
        self.words = words


class ResponseTypeRefused(OAuth2Error):
    """`unsupported_response_type`, in words."""

    error = "unsupported_response_type"

    def __init__(self, words: str) -> None:
        super().__init__(description=wire(words))
        self.words = words


class GrantTypeRefused(OAuth2Error):
    """`unsupported_grant_type`, in words."""

    error = "unsupported_grant_type"

    def __init__(self, words: str) -> None:
        super().__init__(description=wire(words))
        self.words = words


class ClientRefused(InvalidClientError):
    """`invalid_client`, in words: 401 with a challenge, since Basic is how a client authenticates (§5.2)."""

    status_code = 401

    def __init__(self, words: str) -> None:
        super().__init__(description=wire(words))
        self.words = words

    def get_headers(self) -> list[tuple[str, str]]:
        """Return the headers with a challenge of our own: authlib's has no realm, which RFC 7617 requires."""
        inherited = super().get_headers()  # type: ignore[no-untyped-call]
        headers = [(name, value) for name, value in inherited if name != "WWW-Authenticate"]
        return [*headers, ("WWW-Authenticate", 'Basic realm="sandbox", charset="UTF-8"')]


def words_of(error: OAuth2Error) -> str:
    """Return what the log shall say about an error, ours or authlib's own."""
    if isinstance(error, RequestRefused | GrantRefused | ResponseTypeRefused | GrantTypeRefused | ClientRefused):
        return error.words
    return printable(f"{error.error}: {error.get_error_description()}")


__all__ = [
    "REVOKED",
    "AccessDeniedError",
    "ClientRefused",
    "GrantRefused",
    "GrantTypeRefused",
    "OAuth2Error",
    "RequestRefused",
    "ResponseTypeRefused",
    "UnauthorizedClientError",
    "wire",
    "words_of",
]
