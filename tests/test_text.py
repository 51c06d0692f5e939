"""The one sink for text from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth.text import LIMIT, printable

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=600)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ASCII ~!", "plain ASCII ~!"),
        ("", ""),
        ("line\nfeed", r"line\x0afeed"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("delete\x7f", r"delete\x7f"),
        ("Zürich", r"Z\xc3\xbcrich"),
        ("‮evil", r"\xe2\x80\xaeevil"),
        ("\ud800", r"\xed\xa0\x80"),
        (r"back\slash", r"back\slash"),
        (4711, "4711"),
        (None, "None"),
        (OSError("gone\r"), r"gone\x0d"),
    ],
)
def test_shows_printable_ascii_and_the_rest_as_bytes(text: object, shown: str) -> None:
    r"""Printable ASCII stays, everything else is shown as the `\xNN` of its UTF-8 bytes."""
    assert printable(text) == shown


def test_cuts_at_the_limit() -> None:
    """200 characters are shown whole; of more, the first 197 and three dots."""
    assert printable("a" * LIMIT) == "a" * 200
    assert printable("a" * 201) == "a" * 197 + "..."
    assert printable("ü" * 200) == r"\xc3\xbc" * 24 + r"\xc3\..."
    assert printable("abcdefgh", 6) == "abc..."


@given(ANYTHING)
def test_never_shows_anything_else(text: str) -> None:
    """Whatever comes in, at most 200 printable ASCII characters come out."""
    shown = printable(text)
    assert len(shown) <= LIMIT
    assert all(" " <= character <= "~" for character in shown)


@given(ANYTHING)
def test_shown_text_is_shown_as_it_is(text: str) -> None:
    """Text that went through the sink once goes through it again unchanged."""
    assert printable(printable(text)) == printable(text)


def test_a_number_without_end() -> None:
    """A number that Python will not write out is shown all the same."""
    assert printable(10**5000) == "a very long number"
