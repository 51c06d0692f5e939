"""`scripts/bench`: what can be measured, by name; without a name, all that is about speed."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable

from tests.attacks import floods_bench as floods
from tests.attacks import leak_walk as leaks
from tests.faults import bench as faults
from tests.fuzz import bench as fuzz
from tests.onboarding import bench as onboard
from tests.onboarding import board_bench as board
from tests.postgresql import bench as fleet
from tests.speed import login, stored_growth, stored_token


def speed(arguments: list[str]) -> int:
    """Logins beside other tools and when connections go stale, then `token`, then growth; some 15 minutes."""
    parts: tuple[tuple[str, Callable[[list[str]], int], list[str]], ...] = (
        ("Whole logins", login.main, []),
        ("The ready connection", login.main, ["--part", "ready"]),
        ("A stored token", stored_token.main, []),
        ("Growth", stored_growth.main, []),
    )
    worst = 0
    for title, part, own in parts:
        print(f"## {title}\n", flush=True)
        worst = max(worst, part([*own, *arguments]))
        print(flush=True)
    return worst


BENCHES = {
    "speed": speed,
    "login": login.main,
    "token": stored_token.main,
    "growth": stored_growth.main,
    "faults": faults.main,
    "floods": floods.main,
    "fuzz": fuzz.main,
    "leaks": leaks.main,
    "onboard": onboard.main,
    "board": board.main,
    "fleet": fleet.main,
}


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=BENCHES, nargs="?", default="speed")
    options, rest = parser.parse_known_args(given)
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores\n"
    )
    return BENCHES[options.name](rest)


if __name__ == "__main__":
    sys.exit(main())
