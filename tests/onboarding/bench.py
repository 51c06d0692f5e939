"""`scripts/bench onboard`: forty sandbox accounts in one run, by real Chromium and by real Firefox, nobody attending.

In each run one person lies, one denies, one mistypes first, one closes the window, and the machine loses power in the
middle; the same command then does what is missing. Then: memory with many logins pending. Ends with status 1 where an
account has another company than its own, met an earlier login, or was exchanged more or less often than it should.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shlex
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.login.program import Program
from tests.onboarding.conftest import write_manifest
from tests.onboarding.people import Habit, People, command
from tests.speed.conditions import conditions
from tests.speed.figures import median, shown, table

ACCOUNTS = 40
FIRST_HABITS: dict[int, Habit] = {3: "deny", 7: "mistype", 11: "lie", 15: "close"}
PENDING = (1, 40)
TIMEOUT = "120s"


@dataclass
class Outcome:
    """What came of one browser's run."""

    kind: str
    faults: list[str] = field(default_factory=list)
    person: list[float] = field(default_factory=list)
    """Seconds each person took, from the login page to Allow."""
    whole: float = 0.0
    """Seconds from the first window to the end of the last command, between the two commands not counted."""
    windows: int = 0
    states: Counter[str] = field(default_factory=Counter)

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        each = self.whole / max(self.windows, 1)
        return (
            self.kind,
            str(self.windows),
            ", ".join(f"{number} {state}" for state, number in self.states.items()),
            shown(each),
            shown(median(self.person)),
            shown(each - sum(self.person) / max(self.windows, 1)),
            str(len(self.faults)),
        )


HEADER = ("browser", "windows", "first run", "s per window", "person, s", "beyond the person, s", "faults")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench onboard", description=__doc__)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS, metavar="N")
    parser.add_argument("--only", choices=("chromium", "firefox"), help="one browser alone")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="windows at once (1)")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write the result there, as Markdown")
    options = parser.parse_args(arguments)
    kinds = (options.only,) if options.only else ("chromium", "firefox")
    memory = [(str(number), shown(asyncio.run(_pending(number)) / 1024)) for number in PENDING]
    lines = [conditions(1), "", table(("logins pending", "MiB"), memory)]
    print("\n".join(lines), flush=True)
    outcomes = []
    for kind in kinds:
        outcomes.append(asyncio.run(_forty(kind, options.accounts, options.parallel)))
        print(outcomes[-1].cells(), outcomes[-1].faults, flush=True)  # the next takes minutes
    result = [table(HEADER, [outcome.cells() for outcome in outcomes])]
    result += [f"* {outcome.kind}: {fault}" for outcome in outcomes for fault in outcome.faults]
    print("\n".join(result))
    text = "\n".join([*lines, "", *result])
    if options.write:
        (options.write / "onboard.md").write_text(f"# Forty accounts\n\n{text}\n", "utf-8")
    return 1 if any(outcome.faults for outcome in outcomes) else 0


async def _forty(kind: str, accounts: int, parallel: int) -> Outcome:
    outcome = Outcome(kind)
    with tempfile.TemporaryDirectory(prefix="loopback-auth-bench-") as name:
        program = Program(Path(name))
        write_manifest(
            program.folder / "accounts.csv",
            *(f"r{n:02},sandbox,{5000 + n},restaurant-{n}," for n in range(1, accounts + 1)),
        )
        people = People(program.home / "windows")
        people.habits = {f"restaurant-{n}": habit for n, habit in FIRST_HABITS.items()}
        log = program.folder / "sandbox.log"
        flags = ("--browser", shlex.join(command(kind)), "--timeout", TIMEOUT, "--parallel", str(parallel), "--json")
        with log.open("wb") as said:
            sandbox = await asyncio.create_subprocess_exec(
                *program.words("sandbox"), env=program.environment, stdout=said, stderr=said
            )
        try:
            await _until(lambda: b"running" in log.read_bytes())
            async with people.at_work():
                began = time.monotonic()
                async with program.start("onboard", "accounts.csv", *flags) as running:  # the power fails in the middle
                    middle = f"r{accounts // 2:02}"
                    await _until(lambda: f"{middle}: done" in running.stderr or not running.runs, within=3600)
                    running.send_signal(signal.SIGKILL)
                    await running.process.wait()
                outcome.whole += time.monotonic() - began
                began = time.monotonic()
                first = await _ended(program, flags)
                outcome.whole += time.monotonic() - began
                outcome.states = Counter(row["state"] for row in first)
                people.habits = {}
                began = time.monotonic()
                rest = await _ended(program, flags)
                outcome.whole += time.monotonic() - began
            _look(outcome, program, people, rest, log.read_text())
        finally:
            sandbox.terminate()
            await sandbox.wait()
    return outcome


async def _ended(program: Program, flags: tuple[str, ...]) -> list[dict[str, Any]]:
    async with program.start("onboard", "accounts.csv", *flags) as running:
        await _until(lambda: not running.runs, within=3600)
        rows: list[dict[str, Any]] = json.loads((await running.end()).stdout)
        return rows


def _look(outcome: Outcome, program: Program, people: People, rows: list[dict[str, Any]], log: str) -> None:
    """Compare what there is with what there should be."""
    outcome.windows = len(people.sittings)
    outcome.person = [sitting.seconds for sitting in people.sittings if sitting.seconds]
    for number, row in enumerate(rows, 1):
        stored = program.tokens(row["account"]).members
        if row["state"] != "done" or stored["company"]["id"] != str(5000 + number):
            outcome.faults.append(f"{row['account']}: {row['state']}, {row['company']}, {row['message']}")
        exchanged = len(re.findall(rf"code exchanged for tokens of Restaurant {number},", log))
        if exchanged != 1 or stored["generation"] != 1:
            outcome.faults.append(f"{row['account']}: {exchanged} codes exchanged, generation {stored['generation']}")
    for sitting in people.sittings:
        if sitting.first_page and "Log in to your restaurant" not in sitting.first_page:
            outcome.faults.append(f"a window met an earlier login: {sitting.first_page[:80]!r}")
    if left := list((program.home / "windows").glob("window-*")):
        outcome.faults.append(f"{len(left)} profiles were left")


async def _pending(number: int) -> int:
    """Return the resident memory, in KiB, of a run with so many logins pending: their windows open, nobody comes."""
    with tempfile.TemporaryDirectory(prefix="loopback-auth-bench-") as name:
        program = Program(Path(name))
        write_manifest(program.folder / "accounts.csv", *(f"r{n},sandbox,,," for n in range(number)))
        flags = ("--parallel", str(number), "--browser", "true", "--timeout", "60s")
        async with program.start("onboard", "accounts.csv", *flags) as running:
            await _until(lambda: running.stderr.count("logging in\n") == number)
            await asyncio.sleep(3)
            resident = _resident(running.process.pid)
            running.send_signal(signal.SIGTERM)  # a shell's & makes it deaf to the other
            await running.end()
        return resident


def _resident(process: int) -> int:
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())[0])


async def _until(reached: Any, within: float = 60) -> None:
    async with asyncio.timeout(within):
        while not reached():  # noqa: ASYNC110 (what is waited for is in other processes)
            await asyncio.sleep(0.02)
