"""The redirect in the middle of a flood: it is answered, memory stays flat, the terminal stays quiet."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..login.program import Program
from ..login.strict import StrictServer
from .flooded import SCHEMES, log_in, may_be_another


@pytest.mark.parametrize("kind", [f"{scheme}: {kind}" for scheme, kinds in SCHEMES.items() for kind in kinds])
async def test_right_redirect_in_a_flood(program: Program, server: StrictServer, tmp_path: Path, kind: str) -> None:
    """Whatever one process of another user sends, the right redirect is answered, at most one line is said about it."""
    outcome = await log_in(program, server, tmp_path, kind, stranger=may_be_another(), before=0.3)
    assert outcome.ended.status == 0
    assert outcome.seconds < 10  # it takes milliseconds: this catches a hang, and a browser's second try
    assert len(outcome.said) <= 1
    # who floods us as ourselves may be a crowd for a moment: 144 connections, 256 KiB each for TLS
    assert outcome.peak < (80_000 if may_be_another() else 96_000)
