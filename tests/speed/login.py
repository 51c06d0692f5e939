"""`scripts/bench login`: whole logins over a link with a real distance, ours and those of other tools, in turns."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.speed import compare, ready
from tests.speed.leftovers import end_all_in
from tests.speed.timed import stop_all

PARTS = {"compare": compare.main, "ready": ready.main}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench login", description=__doc__)
    parser.add_argument("--part", choices=PARTS, default="compare", help="compare: with other tools; ready: ours alone")
    parser.add_argument("--runs", type=int, metavar="N", help="of each tool (12), or of each row of ready (30)")
    parser.add_argument("--rtt", type=float, default=80, metavar="MS", help="between the tool and the server (80)")
    parser.add_argument("--link", choices=("packets", "proxy"), default="packets", help="how the distance is made")
    parser.add_argument("--tool", action="append", metavar="NAME", help="only this one beside ours (repeatable)")
    parser.add_argument("--row", action="append", metavar="TEXT", help="of ready: only rows that say this (repeatable)")
    parser.add_argument("--silent", action="store_true", help="the browser opens spare connections, as Chrome does")
    parser.add_argument("--long", action="store_true", help="of ready: also what takes minutes")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write the result as Markdown and SVG there")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell's & ignores, the tools must not inherit
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is cleaned up
    with tempfile.TemporaryDirectory(prefix="speedbench-", ignore_cleanup_errors=True) as folder:
        try:
            return PARTS[options.part](options, Path(folder))
        except KeyboardInterrupt:
            return 130
        finally:
            stop_all()
            end_all_in(Path(folder))
