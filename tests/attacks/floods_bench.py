"""`scripts/bench floods`: how long the right redirect waits in the middle of each flood, and what that costs in memory.

A flood is one process, as fast as it can, beside a real `login`; as another user (it takes root to become one) and as
our own. The redirect comes half a second after the flood began. A login that fails while another user floods ends this
with status 1; one that fails while our own user does is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.attacks.flooded import SCHEMES, Outcome, log_in, may_be_another
from tests.login.program import Program
from tests.login.strict import StrictServer
from tests.speed.conditions import conditions
from tests.speed.figures import median, shown, table

RUNS = 12
HEADER = ("flood", "from", "redirect → answer, ms", "worst", "peak, MiB", "lines said", "failed")


@dataclass
class Row:
    """One kind of flood."""

    kind: str
    stranger: bool
    outcomes: list[Outcome] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        seconds = [outcome.seconds for outcome in self.outcomes]
        return (
            self.kind,
            "another user" if self.stranger else "our own",
            shown(median(seconds) * 1000) if seconds else "",
            shown(max(seconds) * 1000) if seconds else "",
            shown(max((outcome.peak for outcome in self.outcomes), default=0) / 1024),
            str(max((len(outcome.said) for outcome in self.outcomes), default=0)),
            f"{len(self.failed)} of {len(self.failed) + len(self.outcomes)}",
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench floods", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"of each flood ({RUNS})")
    parser.add_argument("--only", metavar="TEXT", default="", help="floods with this in their name")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write the result there, as Markdown")
    options = parser.parse_args(arguments)
    names = [f"{scheme}: {kind}" for scheme, kinds in SCHEMES.items() for kind in kinds]
    whose = (True, False) if may_be_another() else (False,)
    rows = [Row(name, stranger) for name in names if options.only in name for stranger in whose]
    for run in range(options.runs):  # in turns
        for number, row in enumerate(rows):
            if sys.stderr.isatty():
                print(f"\r\x1b[2Krun {run + 1}, {number + 1} of {len(rows)}", end="", file=sys.stderr)
            asyncio.run(_once(row))
    if sys.stderr.isatty():
        print("\r\x1b[2K", end="", file=sys.stderr)
    text = f"{conditions(options.runs)}\n\n{table(HEADER, [row.cells() for row in rows])}"
    print(text)
    for row in rows:
        for why in row.failed:
            print(f"{row.cells()[:2]}: {why}")
    if options.write:
        (options.write / "floods.md").write_text(f"# The redirect in a flood\n\n{text}", "utf-8")
    return 1 if any(row.failed for row in rows if row.stranger) else 0


async def _once(row: Row) -> None:
    with tempfile.TemporaryDirectory(prefix="loopback-auth-bench-") as name:
        folder = Path(name)
        program = Program(folder)
        async with StrictServer() as server:
            try:
                outcome = await log_in(program, server, folder, row.kind, stranger=row.stranger, before=0.5)
            except (AssertionError, OSError, TimeoutError) as error:
                row.failed.append(repr(error))
            else:
                row.outcomes.append(outcome)
                if outcome.ended.status:
                    row.failed.append(outcome.ended.stderr)
        await program.settled()
