"""Each parser meets the same inputs at every run: a few of many. `scripts/bench fuzz` goes on from there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loopback_auth.errors import ConfigurationError

from . import protocol
from .target import MARK, Target, ToldSecretError, last_lines, parsed, tells_nothing, well_said
from .targets import TARGETS
from .wire import KEPT_SENT, SENT, Waiting

ALWAYS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
IDS: Callable[[Any], str] = lambda one: one.name if isinstance(one, Target) else ""  # noqa: E731
SLOW = 8.0
"""How much longer four times the input may take at most: a square would be sixteen times."""
MEASURABLE = 0.2
"""Seconds; what takes less is not looked at."""


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_any_input(target: Target[Any]) -> None:
    """Whatever comes is parsed by the rules or refused in our words; and enough of it is parsed to mean something."""
    seen = [0, 0]

    @settings(ALWAYS, max_examples=target.examples)
    @given(target.inputs)
    def each(drawn: Any) -> None:
        seen[0] += 1
        seen[1] += target.check(drawn)

    each()
    assert seen[1] >= target.share * seen[0], f"only {seen[1]} of {seen[0]} were parsed"


@pytest.mark.parametrize(
    ("target", "case"),
    [
        pytest.param(target, case, id=f"{target.name} {number}")
        for target in TARGETS
        for number, case in enumerate(target.kept)
    ],
)
def test_kept(target: Target[Any], case: Any) -> None:
    """What once went wrong, or might."""
    target.check(case)


@pytest.mark.parametrize("target", [target for target in TARGETS if target.large], ids=IDS)
def test_large_inputs(target: Target[Any]) -> None:
    """The largest input that can come takes no time that somebody would notice, and no square of its length."""
    for make in target.large:
        took = _seconds(target, make(target.limit))
        if took > MEASURABLE:
            quarter = _seconds(target, make(target.limit // 4))
            again = min(took, _seconds(target, make(target.limit)))
            assert again < max(quarter * SLOW, MEASURABLE), f"{quarter:.3f} s, then {again:.3f} s"


def _seconds(target: Target[Any], case: Any) -> float:
    begun = time.process_time()
    target.check(case)
    return time.process_time() - begun


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_any_bytes_at_the_loopback_server(scheme: str) -> None:
    """Whatever arrives is answered, or its connection closed; the login waits on, and the right redirect ends it."""
    with Waiting(scheme) as waiting:
        for sent in KEPT_SENT:
            waiting.check(sent)

        @settings(ALWAYS, max_examples=120 if scheme == "http" else 30)
        @given(SENT)
        def each(sent: bytes) -> None:
            waiting.check(sent)

        each()
    assert waiting.answered >= waiting.tried / (3 if scheme == "http" else 8)


@settings(ALWAYS, max_examples=60)
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#\"'<>`")))
def test_a_pasted_query_comes_back(query: str) -> None:
    """A query that a browser can show comes back as it stands behind the redirect URI."""
    protocol.check_paste_comes_back(query)


# --- the nets themselves: a check that lets everything through would hold nothing ---


@pytest.mark.parametrize("said", ["\x1b[2J", "ü", "two\nlines", "", "x" * 1000])
def test_what_is_not_well_said_is_noticed(said: str) -> None:
    """An error that is not one line of printable ASCII fails the check, in its message and in its hints."""
    for error in (ConfigurationError(said), ConfigurationError("fine", hint=("fine", said))):
        with pytest.raises(AssertionError):
            well_said(error)


def test_a_told_secret_is_noticed() -> None:
    """A secret in a message, in a hint, in an attribute or in a repr fails the check."""
    kept = ConfigurationError("fine")
    kept.detail = f"{MARK}x"  # type: ignore[attr-defined]
    for error in (ConfigurationError(f"{MARK}x"), ConfigurationError("fine", hint=f"{MARK}x"), kept):
        with pytest.raises(ToldSecretError):
            well_said(error)
    with pytest.raises(AssertionError):
        tells_nothing({"token": f"{MARK}x"})


def test_another_error_than_ours_is_a_failure() -> None:
    """What a parser raises by accident is not taken for a refusal."""
    with pytest.raises(IndexError) as caught:
        parsed(lambda: [][0])
    assert last_lines(caught.value).startswith("IndexError: list index out of range (")
