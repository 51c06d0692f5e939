"""`scripts/bench growth`: token, status, refresh with 1 to 10 000 accounts stored, with 1 to 100 callers at once."""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.speed import stored
from tests.speed.conditions import conditions
from tests.speed.far import ROOT, FarProcess, far_process
from tests.speed.figures import Line, lines_svg, median, milliseconds, shown, table
from tests.speed.installed import NotInstalledError
from tests.speed.stored import Installation, Ran, RunFailedError

RUNS = 12
ACCOUNTS = (1, 100, 1_000, 10_000)
CALLERS = (1, 10, 100)
HELD_BACK = 2.0
"""Seconds until the server answers a refresh, so that all callers are there and wait."""
_PATIENCE = 60.0
_COMMANDS = {"token": ["token"], "status": ["status"], "status --json": ["status", "--json"]}
_HELP = "--help"


@dataclass(frozen=True)
class Race:
    """Callers that were started at once. `served` is when each had its token, in seconds since `since`."""

    served: list[float]
    processor: list[float]
    """Seconds of processor time of each, the fewest first."""


@dataclass
class Results:
    """What was measured: seconds, by what and by how many there were of it."""

    commands: dict[str, list[float]] = field(default_factory=dict)
    refreshes: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    valid: dict[int, list[Race]] = field(default_factory=dict)
    expired: dict[int, list[Race]] = field(default_factory=dict)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"of each figure ({RUNS})")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write the result as Markdown and SVG there")
    options = parser.parse_args(arguments)
    installation, remark = _installation()
    with tempfile.TemporaryDirectory(prefix="storedbench-") as folder, ExitStack() as stack:
        said = conditions(options.runs)
        quick = stack.enter_context(far_process("stored_server", "0"))
        slow = stack.enter_context(far_process("stored_server", str(HELD_BACK)))
        for server in (quick, slow):
            server.heard()
        results = _measure(installation, quick, slow, Path(folder), options.runs)
    text = _report(said, remark, results)
    print(text)
    stored.write(options.write, {"growth.md": text, **_drawings(results)})
    return 0


def _installation() -> tuple[Installation, str]:
    try:
        wheel = stored.from_wheel()
    except NotInstalledError as error:
        return stored.editable(), f"`loopback-auth` is the editable one in `.venv`: {error}."
    return wheel, f"`loopback-auth` was installed from a wheel, its script written by {wheel.by}."


# -- what is measured --------------------------------------------------------------------------


def _measure(installation: Installation, quick: FarProcess, slow: FarProcess, folder: Path, runs: int) -> Results:
    homes = {}
    for count in ACCOUNTS:
        _tell(f"storing {count} accounts")
        homes[count] = folder / f"accounts-{count}"
        stored.fill(homes[count], count)
    commands = {
        f"{name} {count}": partial(_command, [installation.script, *words], home)
        for count, home in homes.items()
        for name, words in _COMMANDS.items()
    }
    commands[_HELP] = partial(_command, [installation.script, _HELP], homes[1])
    results = Results(commands=stored.in_turns(commands, runs))
    _tell("refreshing")
    results.refreshes = _refreshes(quick, folder, runs)
    for kind, found, race in (
        ("valid", results.valid, partial(_on_valid, installation, homes[1])),
        ("expired", results.expired, partial(_on_expired, installation, slow, folder)),
    ):
        for number in range(runs):
            for callers in CALLERS:
                found.setdefault(callers, []).append(race(callers))
            _tell(f"round {number + 1} of {runs} with callers on a token that is {kind} done")
    return results


def _command(command: Sequence[str], home: Path) -> Ran:
    ran = stored.run(command, stored.environment(home))
    if not ran.stdout:
        raise RunFailedError(f"{' '.join(command)}: nothing on stdout")
    return ran


def _refreshes(server: FarProcess, folder: Path, runs: int) -> dict[int, list[dict[str, float]]]:
    homes = {count: server.ask(f"account {folder}") for count in ACCOUNTS}
    for count, home in homes.items():
        stored.fill(Path(home), count)
    command = [sys.executable, "-m", "tests.speed.stored_refresh", str(runs), *homes.values()]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, list[dict[str, float]]] = json.loads(done.stdout)
    return {count: found[home] for count, home in homes.items()}


def _on_valid(installation: Installation, home: Path, callers: int) -> Race:
    since = time.monotonic()
    return _race([installation.script, "token"], stored.environment(home), callers, lambda: since)


def _on_expired(installation: Installation, server: FarProcess, folder: Path, callers: int) -> Race:
    """Seconds count from the server's one answer."""
    home = Path(server.ask(f"account {folder}"))

    def answered() -> float:
        (moment,) = json.loads(server.ask("answered"))  # more of them would be more than one spend
        assert isinstance(moment, float)
        return moment

    return _race([installation.script, "token"], stored.environment(home), callers, answered)


def _race(command: Sequence[str], variables: Mapping[str, str], callers: int, since: Callable[[], float]) -> Race:
    """Start so many at once. Raises RunFailedError where they do not all print one and the same token."""
    processes: list[int] = []
    printed: dict[int, bytes] = {}
    served: dict[int, float] = {}
    with selectors.DefaultSelector() as waiting:
        for _ in range(callers):
            reading, writing = os.pipe()
            actions = [(os.POSIX_SPAWN_DUP2, writing, 1)]
            processes.append(os.posix_spawn(command[0], list(command), dict(variables), file_actions=actions))
            os.close(writing)
            waiting.register(reading, selectors.EVENT_READ)
            printed[reading] = b""
        while waiting.get_map():
            ready = waiting.select(_PATIENCE)
            moment = time.monotonic()
            if not ready:
                raise RunFailedError(f"{callers} callers: not all were served within {_PATIENCE:.0f} s")
            for key, _ in ready:
                if more := os.read(key.fd, 1 << 16):
                    printed[key.fd] += more
                    served[key.fd] = moment
                else:
                    waiting.unregister(key.fd)
    for reading in printed:
        os.close(reading)
    ended = [os.wait4(process, 0) for process in processes]
    tokens = set(printed.values())
    if any(status for _, status, _ in ended) or len(tokens) != 1 or b"" in tokens:
        raise RunFailedError(f"{callers} callers: not all got the same token")
    start = since()
    return Race([one - start for one in served.values()], sorted(used.ru_utime + used.ru_stime for _, _, used in ended))


def _tell(what: str) -> None:
    print(what, file=sys.stderr)


# -- what is said ------------------------------------------------------------------------------

_EXPLAINED = """\
Milliseconds: median (quartiles). Commands are measured from the start of a process to its end, stdout in a pipe.
`refresh, store work` is a refresh in a process that is running already, without `connecting` and `exchange`, which are
the server's and the network's, and without what is spent in fsync."""
_EXPLAINED_CALLERS = """\
Callers are processes started at once: `valid`, on a token that is valid, from the first one's start; `expired`, on one
expired token, from the moment the server gave its one answer, {held:g} s after it was asked. `each`: processor time of
the caller in the middle, nearly all of it Python's start; `waiting`: what waiting added to that, per second."""


def _report(said: str, remark: str, results: Results) -> str:
    counts = [f"{count:,}".replace(",", " ") for count in ACCOUNTS]
    rows = [[name, *(milliseconds(results.commands[f"{name} {count}"]) for count in ACCOUNTS)] for name in _COMMANDS]
    rows.append(["refresh, store work", *(milliseconds(_part(results, count, "store")) for count in ACCOUNTS)])
    parts = [
        said,
        table(["accounts", *counts], rows),
        f"`--help`: {milliseconds(results.commands[_HELP])}",
        table(["refresh, accounts", *counts], _refresh_rows(results)),
        _EXPLAINED,
        table(
            ["callers", "valid: middle", "last", "expired: first", "middle", "last", "each", "waiting, ms/s"],
            [_callers_row(results, callers) for callers in CALLERS],
        ),
        _EXPLAINED_CALLERS.format(held=HELD_BACK),
        remark,
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _refresh_rows(results: Results) -> list[list[str]]:
    names = {
        "whole": "whole",
        "connecting": "connecting",
        "exchange": "exchange",
        "synced": "fsync",
        "store": "store work",
    }
    rows = [[name, *(milliseconds(_part(results, count, key)) for count in ACCOUNTS)] for key, name in names.items()]
    rows.append(["fsyncs", *(f"{median(_part(results, count, 'fsyncs')):.0f}" for count in ACCOUNTS)])
    return rows


def _callers_row(results: Results, callers: int) -> list[str]:
    valid, expired = results.valid[callers], results.expired[callers]
    base = median(median(race.processor) for race in valid)
    waiters = [one for race in expired for one in race.processor[:-1]]  # the last one refreshed
    return [
        str(callers),
        milliseconds([median(race.served) for race in valid]),
        milliseconds([max(race.served) for race in valid]),
        milliseconds([min(race.served) for race in expired]),
        milliseconds([median(race.served) for race in expired]),
        milliseconds([max(race.served) for race in expired]),
        shown(base * 1000),
        shown(max(median(waiters) - base, 0.0) / HELD_BACK * 1000) if waiters else "",
    ]


def _part(results: Results, count: int, key: str) -> list[float]:
    return [one[key] for one in results.refreshes[count]]


def _drawings(results: Results) -> dict[str, str]:
    accounts = [
        Line(name, [(count, median(results.commands[f"{name} {count}"]) * 1000) for count in ACCOUNTS], ours=False)
        for name in _COMMANDS
    ]
    store = [(count, median(_part(results, count, "store")) * 1000) for count in ACCOUNTS]
    accounts.append(Line("refresh, store work", store))
    callers = [
        Line(name, [(count, median(max(race.served) for race in found[count]) * 1000) for count in CALLERS])
        for name, found in (("valid, from the start", results.valid), ("expired, from the answer", results.expired))
    ]
    return {
        "growth-accounts.svg": lines_svg("As accounts grow in number", "accounts stored", "milliseconds", accounts),
        "growth-callers.svg": lines_svg(
            "Until the last of many callers has the token", "callers at once", "milliseconds", callers
        ),
    }
