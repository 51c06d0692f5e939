"""`scripts/bench`: what can be measured, by name."""

from __future__ import annotations

import argparse
import os
import platform
import sys

from tests.faults import bench as faults
from tests.speed import login, stored_growth, stored_token

BENCHES = {"faults": faults.main, "login": login.main, "token": stored_token.main, "growth": stored_growth.main}


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=BENCHES)
    options, rest = parser.parse_known_args(given)
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores\n"
    )
    return BENCHES[options.name](rest)


if __name__ == "__main__":
    sys.exit(main())
