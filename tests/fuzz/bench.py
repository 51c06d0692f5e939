"""`scripts/bench fuzz`: every parser, for as long as is wanted, with other inputs each time."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from .target import last_lines
from .targets import TARGETS
from .wire import SENT, Waiting

BATCH = 250
"""Inputs between two looks at the clock."""
SERVERS = {"loopback server, http": "http", "loopback server, https": "https"}
SHOWN = 2000
"""Characters of an input that failed."""


@dataclass
class Outcome:
    """What came of one target."""

    name: str
    tried: int = 0
    parsed: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    last: Any = None
    failure: BaseException | None = None
    words: list[str] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    names = [target.name for target in TARGETS] + list(SERVERS)
    parser = argparse.ArgumentParser(prog="scripts/bench fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, metavar="N", help="for each target (10)")
    parser.add_argument("--seed", type=int, help="begin with this one, to see a run again")
    parser.add_argument("target", nargs="*", metavar="TARGET", help=f"part of a name of: {'; '.join(names)}")
    options = parser.parse_args(arguments)
    chosen = [name for name in names if not options.target or any(part in name for part in options.target)]
    if not chosen:
        parser.error("no target is called so")
    dice = random.Random(options.seed if options.seed is not None else (begun := random.SystemRandom().getrandbits(32)))
    print(f"seed {options.seed if options.seed is not None else begun}, {options.seconds:g} s for each target\n")
    outcomes = [_run(name, options.seconds, dice, number, len(chosen)) for number, name in enumerate(chosen, 1)]
    print("| target | inputs | parsed | slowest | failed |\n| --- | ---: | ---: | ---: | --- |")
    for one in outcomes:
        failed = "" if one.failure is None else last_lines(one.failure).replace("|", "\\|")
        share = one.parsed / max(one.tried, 1)
        print(f"| {one.name} | {one.tried:,} | {share:.0%} | {one.slowest * 1000:.1f} ms | {ascii(failed)[1:-1]} |")
    print(f"\n{sum(one.tried for one in outcomes):,} inputs in {sum(one.seconds for one in outcomes):.0f} s")
    failed_ones = [one for one in outcomes if one.failure is not None]
    for one in failed_ones:
        shown = ascii(one.last)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}... ({len(shown)} characters)"
        place = "KEPT_SENT in tests/fuzz/wire.py" if one.name in SERVERS else f"`kept` of the target {one.name!r}"
        print(f"\n### {one.name}\n\nAdd this to {place}:\n\n    {shown},")
    return 1 if failed_ones else 0


def _run(name: str, seconds: float, dice: random.Random, number: int, of: int) -> Outcome:
    outcome = Outcome(name)
    begun = time.monotonic()
    try:
        with ExitStack() as stack:
            if name in SERVERS:
                inputs: SearchStrategy[Any] = SENT
                check: Callable[[Any], bool] = stack.enter_context(Waiting(SERVERS[name])).check
            else:
                target = next(one for one in TARGETS if one.name == name)
                inputs, check = target.inputs, target.check
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                _batch(outcome, inputs, check, dice.getrandbits(64), deadline)
                _show(f"{number}/{of} {name}: {outcome.tried:,} inputs")
    except Exception as failure:
        outcome.failure = failure
    outcome.seconds = time.monotonic() - begun
    _show("")
    return outcome


def _batch(
    outcome: Outcome, inputs: SearchStrategy[Any], check: Callable[[Any], bool], number: int, deadline: float
) -> None:
    """Try a batch of inputs; after a failure `outcome.last` is the smallest that still fails."""

    @seed(number)
    @settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def each(drawn: Any) -> None:
        if time.monotonic() > deadline and not failed:
            return
        outcome.last = drawn
        outcome.tried += 1
        begun = time.perf_counter()
        try:
            outcome.parsed += check(drawn)
        except BaseException:
            failed.append(True)
            raise
        outcome.slowest = max(outcome.slowest, time.perf_counter() - begun)

    failed: list[bool] = []
    each()


def _show(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
