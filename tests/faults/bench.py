"""`scripts/bench faults`: the long form of the fault suite, in figures. What must not happen ends it with status 1."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.faults.aftermath import points, settle, went_wrong
from tests.faults.commands import WITHOUT_LOCK, end, start
from tests.faults.injector import Fault
from tests.faults.machine import Far, far_side
from tests.faults.test_disk import KINDS, refuse_each
from tests.faults.worker import Worker

ERRORS = ("ENOSPC", "EIO", "EACCES", "EDQUOT")
RATE = 0.01


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench faults", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this (repeatable)")
    parser.add_argument("--refreshes", type=int, default=10_000, metavar="N", help="of the random part, without grace")
    parser.add_argument("--processes", type=int, default=1000, metavar="N", help="of the largest race")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="loopback-auth-bench-") as folder, ExitStack() as stack:
        far = stack.enter_context(far_side(Path(folder, "strict")))
        forgiving = stack.enter_context(far_side(Path(folder, "forgiving"), grace=60))
        slow = stack.enter_context(far_side(Path(folder, "slow"), faults="slow", slow_seconds=2))
        bench = Bench(far, forgiving, slow, stack.enter_context(Worker()), Path(folder), options)
        good = [getattr(bench, part)() for part in options.part or PARTS]
    return 0 if all(good) else 1


PARTS = ("kills", "disk", "races", "random")


class Bench:
    """The parts; each prints its figures and returns whether all was as it must be."""

    def __init__(
        self, far: Far, forgiving: Far, slow: Far, worker: Worker, homes: Path, options: argparse.Namespace
    ) -> None:
        self._far, self._forgiving, self._slow = far, forgiving, slow
        self._worker = worker
        self._homes = homes
        self._options = options

    def kills(self) -> bool:
        """Kill, and two kinds of power cut, at every call; with and without a grace."""
        print("at every store and network call of one refresh:")
        good = True
        for what in ("kill", "cut", "cut-names"):
            for far, grace in ((self._far, "no grace"), (self._forgiving, "60 s grace")):
                calls = points(far, self._worker, self._homes)
                sent = calls.index("send socket")
                lost = []
                for number in range(1, len(calls) + 1):
                    trial = far.account(self._homes)
                    kept, _, _ = went_wrong(trial, far, self._worker, Fault(what, number))
                    if not kept:
                        lost.append(calls[number - 1])
                        good &= number > sent
                good &= len(lost) <= (3 if grace == "no grace" else 0)
                print(f"  {what:<10} {grace:<11} {len(calls)} points, lost {len(lost)}  {', '.join(lost)}")
        return good

    def disk(self) -> bool:
        """Each call of a kind refused, once and for ever."""
        print("the n-th call of each kind refused (nothing spent before sending, nothing lost after):")
        for name in ERRORS:
            for for_ever in (False, True):
                calls = points(self._far, self._worker, self._homes)
                tried = refuse_each(calls, KINDS, name, self._far, self._worker, self._homes, for_ever=for_ever)
                print(f"  {name:<7} {'for ever' if for_ever else 'once':<9} {tried} points, lost 0")
        return True

    def races(self) -> bool:
        """Many processes on one expired token."""
        print("processes on one expired token (the server answers after 2 s):")
        good = True
        for processes in (1, 10, 100, self._options.processes):
            good &= self._race(processes, None)
        good &= self._race(100, WITHOUT_LOCK)
        return good

    def _race(self, processes: int, program: str | None) -> bool:
        trial = self._slow.account(self._homes)
        with trial.store.lock("default") as lock:
            assert lock.try_acquire()  # until all are there and wait
            running = [start(trial.home, "token", program=program) for _ in range(processes)]
            memory = _memory([one.pid for one in running]) if program is None else ""
            begun = time.monotonic()
        ended = [end(one, 300) for one in running]
        statuses = Counter(one.status for one in ended)
        tokens = {one.stdout for one in ended if one.status == 0}
        spends = self._slow.presented(trial.refresh_token)
        print(
            f"  {processes:>5} processes{', lock a no-op' if program else '':<15} spends {spends}, distinct tokens "
            f"{len(tokens)}, exit statuses {dict(statuses)}, all within {time.monotonic() - begun:.1f} s{memory}"
        )
        return spends == 1 and len(tokens) == 1 and set(statuses) == {0}

    def random(self) -> bool:
        """Refresh after refresh, with 1 % each of kill, reset, 5xx and a full disk."""
        good = True
        for far, grace, refreshes in (
            (self._far, "no grace", self._options.refreshes),
            (self._forgiving, "60 s grace", self._options.refreshes // 4),
        ):
            good &= self._random(far, grace, refreshes)
        return good

    def _random(self, far: Far, grace: str, refreshes: int) -> bool:
        dice = random.Random(self._options.seed)
        calls = points(far, self._worker, self._homes)
        happened: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        trial = far.account(self._homes)
        good = True
        for _ in range(refreshes):
            what, fault, hurt = _draw(dice, len(calls))
            happened[what] += 1
            if hurt != "none":
                far.hurt_next(hurt)
            outcome = self._worker.run(trial.home, "force", fault)
            if what == "nothing":
                good &= outcome.error is None
                continue
            kept, _ = settle(trial, far, self._worker, "force")
            if not kept:
                where = calls[fault.number - 1] if fault else hurt
                lost[f"{what}: {where}"] += 1
                good &= grace == "no grace" and _may_be_lost(what, where)
                trial = far.account(self._homes)
        print(f"{refreshes} refreshes, {grace}: {dict(happened)}")
        print(f"  lost {sum(lost.values())}" + "".join(f"\n    {count} by {why}" for why, count in lost.most_common()))
        return good


def _draw(dice: random.Random, calls: int) -> tuple[str, Fault | None, str]:
    number = dice.randint(1, calls)
    drawn = dice.random()
    if drawn < RATE:
        return "kill", Fault("kill", number), "none"
    if drawn < 2 * RATE:
        return "reset", None, "reset"
    if drawn < 3 * RATE:
        return "5xx", None, dice.choice(("500", "502", "504", "late-500", "late-502", "late-504"))
    if drawn < 4 * RATE:
        return "full disk", Fault("ENOSPC", dice.randint(1, 4), dice.choice(("write", "fsync", "rename")), True), "none"
    return "nothing", None, "none"


def _may_be_lost(what: str, where: str) -> bool:
    """Whether it is a way in which a refresh token may be lost: the answer never came, or was not kept yet."""
    if what == "kill":
        return where in ("recv socket", "fsync default/answer")
    return what == "reset" or where.startswith("late-")


def _memory(processes: list[int]) -> str:
    """Return what the waiting processes hold: resident at most, and their fair share of memory together."""
    time.sleep(1)
    resident, share = [], 0
    for number in processes:
        try:
            text = Path(f"/proc/{number}/smaps_rollup").read_text()
        except OSError:
            continue
        figures = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if line.endswith("kB")}
        resident.append(figures["Rss"])
        share += figures["Pss"]
    if not resident:
        return ""
    resident.sort()
    return (
        f"; resident {resident[len(resident) // 2] / 1024:.0f} MiB (median), {resident[-1] / 1024:.0f} (largest), "
        f"together {share / 1024:.0f} MiB"
    )
