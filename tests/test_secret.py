"""The type that secrets live in."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loopback_auth.oauth.token import TokenRequest, TokenSet
from loopback_auth.secret import Secret

TEXT = "s3kr1t-of-a-test"
SECRET = Secret(TEXT)


@pytest.mark.parametrize(
    "shown",
    [
        repr(SECRET),
        str(SECRET),
        f"{SECRET}",
        f"{SECRET:>40}",
        f"{SECRET!r}",
        "%s %r" % (SECRET, SECRET),  # noqa: UP031 (the very thing that is tested)
        str([SECRET]),
        str({"secret": SECRET}),
        str(ValueError(SECRET)),
        repr(TokenSet(SECRET, SECRET, 3600, None)),
        repr(TokenRequest("https://example/", {"Authorization": TEXT}, SECRET)),
        repr(dataclasses.asdict(dataclasses.make_dataclass("Holder", ["one"])([str(SECRET)]))),
        SECRET.fingerprint(),
    ],
)
def test_shows_nothing(shown: str) -> None:
    """No way of turning a secret, or what holds it, into text shows it."""
    assert "s3kr1t" not in shown


def test_only_reveal_gives_the_text() -> None:
    """`reveal` returns the text itself."""
    assert SECRET.reveal() == TEXT


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_is_not_pickled(protocol: int) -> None:
    """A secret cannot be pickled, by no protocol."""
    with pytest.raises(TypeError, match="a secret is not pickled"):
        pickle.dumps(SECRET, protocol)


def test_is_not_copied_or_turned_into_json() -> None:
    """A secret is neither deep-copied nor a JSON value."""
    with pytest.raises(TypeError):
        copy.deepcopy(SECRET)
    with pytest.raises(TypeError):
        json.dumps({"secret": SECRET})


def test_has_no_hash_and_no_attributes() -> None:
    """A secret is no dictionary key, and `vars` finds nothing."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(SECRET)
    with pytest.raises(TypeError):
        vars(SECRET)


def test_tracebacks_and_logs_show_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A traceback with locals and a log record with arguments show no secret."""
    secret = Secret(TEXT)
    try:
        raise ValueError(secret)
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        logging.getLogger(__name__).exception("with %s and %r", secret, secret)
    assert "secret = Secret(not shown)" in shown
    assert "s3kr1t" not in shown
    assert "with [not shown] and Secret(not shown)" in caplog.text


def test_compares_with_secrets_alone() -> None:
    """Two secrets of the same text are equal; a secret and its text are not."""
    assert Secret(TEXT) == SECRET
    assert Secret("s3kr1t-other") != SECRET
    assert SECRET != TEXT
    assert SECRET.matches(TEXT)
    assert not SECRET.matches(TEXT + " ")
    assert not SECRET.matches("\udcff")
    assert bool(SECRET)
    assert not Secret("")


def test_the_fingerprint_tells_two_apart() -> None:
    """The fingerprint is the length and the first 8 hex digits of SHA-256."""
    assert Secret("abc").fingerprint() == "3 characters, sha256 ba7816bf"


@given(st.text(st.characters(exclude_categories=())))
@example("\ud800")
@example("\udcff")
def test_any_text_can_be_a_secret(text: str) -> None:
    """Any text, lone surrogates included, can be kept, compared and fingerprinted."""
    secret = Secret(text)
    assert secret.reveal() == text
    assert secret == Secret(text)
    assert secret != Secret(text + "x")
    assert secret.fingerprint().startswith(f"{len(text)} characters, sha256 ")
