"""The comparison: every tool logs in once per round, and what is measured of it becomes a table and two drawings."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.speed import tools
from tests.speed.conditions import conditions
from tests.speed.desktop import Desktop
from tests.speed.figures import Bar, bars_svg, median, milliseconds, shown, table, times
from tests.speed.installed import NotInstalledError
from tests.speed.link import Link, joined
from tests.speed.person import Person
from tests.speed.timed import Failure, Login, Measured, environment_of, log_in, measure

RUNS = 12
_MS = 1000.0
_AT_ONCE = 0.005
"""Seconds within which a request is there in one piece; one that is not waits for the link in the middle of it."""


@dataclass
class Results:
    """What was measured of all tools."""

    logins: dict[str, list[Login]] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    bare: list[Measured] = field(default_factory=list)


def main(options: argparse.Namespace, folder: Path) -> int:
    compared, missing = _install(options.tool)
    runs = options.runs or RUNS
    with joined(folder, options.rtt / 1000, hold_packets=options.link == "packets") as link:
        said = conditions(runs, link)
        print(said, file=sys.stderr)
        results = _measure(compared, runs, link, folder, silent=options.silent)
        middle, _ = link.round_trip()
    text = _report(compared, missing, results, middle, said, runs)
    print(text)
    if options.write:
        _write(options.write, text, compared, results, middle)
    return 0 if results.logins[tools.OURS] and not results.failures[tools.OURS] else 1


def _install(only: Sequence[str] | None) -> tuple[list[tools.Tool], dict[str, str]]:
    compared, missing = [tools.ours()], {}
    for name, install in tools.peers().items():
        if only is None or name in only:
            try:
                compared.append(install())
            except NotInstalledError as error:
                missing[name] = str(error)
                print(f"{name} is left out: {error}", file=sys.stderr)
    return compared, missing


def _measure(compared: Sequence[tools.Tool], runs: int, link: Link, folder: Path, *, silent: bool) -> Results:
    """Take turns: each round begins with another tool, and the first round is not counted."""
    results = Results({one.name: [] for one in compared}, {one.name: [] for one in compared})
    person = Person(link.certificates.authority, silent=silent)
    desktop = Desktop(folder)
    port = link.open_port()
    turns = deque(compared)
    try:
        for number in range(runs + 1):
            for tool in turns:
                time.sleep(0.1 + 2 * link.distance)  # what the last one leaves on the link arrives
                with tempfile.TemporaryDirectory(dir=folder) as home:
                    outcome = _one(tool, number, Path(home), desktop, person, link, port)
                if number == 0:
                    if isinstance(outcome, Failure):
                        print(f"warm-up: {tool.name}: {outcome.reason}", file=sys.stderr)
                elif isinstance(outcome, Failure):
                    results.failures[tool.name].append(outcome.reason)
                    print(f"{tool.name} failed: {outcome.reason}", file=sys.stderr)
                else:
                    results.logins[tool.name].append(outcome)
            bare = measure(tools.bare_python(), environment_of(desktop, folder, link.certificates.authority))
            if bare is not None and number > 0:
                results.bare.append(bare)
            turns.rotate(-1)
            print(f"round {number} of {runs} done" if number else "warm-up round done", file=sys.stderr)
    finally:
        desktop.close()
    return results


def _one(
    tool: tools.Tool, number: int, home: Path, desktop: Desktop, person: Person, link: Link, port: int
) -> Login | Failure:
    authority = link.certificates.authority
    occasion = tools.Occasion(f"https://{link.host}:{port}", authority, home, number)
    environment = environment_of(desktop, home, authority, LOOPBACK_AUTH_HOME=str(home / "loopback-auth"))
    stdin = tool.stdin(occasion)
    with tool.around(occasion, environment) as known:
        return log_in(tool.command(occasion), known, desktop, person, link, port, stdin=stdin)


# -- what is reported --------------------------------------------------------------------------------

_FIGURES: list[tuple[str, Callable[[Login], float]]] = [
    ("start → browser", lambda login: login.to_browser),
    ("redirect → token request", lambda login: login.to_request),
    ("redirect → token", lambda login: login.to_token),
    ("whole login", lambda login: login.whole),
    ("done → end", lambda login: login.to_end),
]

_EXPLAINED = """\
Milliseconds: median (quartiles). `start → browser`: from the start of the process until `$BROWSER` has the address.
`redirect → token request`: from the redirect's delivery to the tool until its token request's first byte is at the
server. `redirect → token`, `whole login`: until the access token is on stdout. `done → end`: from there, or from the
last page if that is later, until the process has ended. `MiB`: the most that one process of the tool had resident;
below 9 it is that of the process that started it, and what runs before the login (oidc-agent's agent) is left out. The
physical floor is half a round trip, one, and for the whole login four (the browser's TCP, TLS and authorization
request, and the exchange) beside a bare Python's start. The provider took {answering} ms to answer a token request."""


def _report(
    compared: Sequence[tools.Tool],
    missing: dict[str, str],
    results: Results,
    round_trip: float,
    said: str,
    runs: int,
) -> str:
    names = [name for name, _ in _FIGURES]
    header = ["tool", "version", *names, "redirect → token, × ours", "whole login, × ours", "MiB", "failed"]
    rows = [_row(tool, results) for tool in compared]
    bare = [one.ended - one.started for one in results.bare]
    peak = median(one.peak_kib for one in results.bare) / 1024
    rows.append([tools.BARE, "", *_blank(3), milliseconds(bare), *_blank(3), shown(peak), ""])
    floor = [median(bare), round_trip / 2, round_trip, median(bare) + 4 * round_trip]
    rows.append(["physical floor", "", *(shown(one * _MS) for one in floor), *_blank(5)])
    answering = [one.answering for logins in results.logins.values() for one in logins] or [0.0]
    parts = [
        f"{said} Afterwards: {round_trip * _MS:.1f} ms.",
        table(header, rows),
        _EXPLAINED.format(answering=shown(median(answering) * _MS)),
    ]
    if runs < 10:
        parts.append("No ratios: there are none of fewer than ten runs.")
    for name, logins in results.logins.items():
        if logins and (coming := median(one.coming for one in logins)) > _AT_ONCE:
            parts.append(f"{name}: the last of its token request comes {shown(coming * _MS)} ms after the first byte.")
    failed = {f"{name}: {reason}": None for name, reasons in results.failures.items() for reason in reasons}
    parts += [f"Failed: {one}" for one in failed]
    parts += [f"Left out: {name}: {reason}." for name, reason in missing.items()]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _row(tool: tools.Tool, results: Results) -> list[str]:
    logins = results.logins[tool.name]
    failed = len(results.failures[tool.name])
    counted = f"{failed} of {failed + len(logins)}"
    if not logins:
        return [tool.name, tool.version, *_blank(len(_FIGURES) + 3), counted]
    mine = results.logins[tools.OURS]
    figures = [milliseconds([take(login) for login in logins]) for _, take in _FIGURES]
    ratios = [times([take(one) for one in mine], [take(one) for one in logins]) for _, take in _FIGURES[2:4]]
    return [tool.name, tool.version, *figures, *ratios, shown(median(one.peak_kib for one in logins) / 1024), counted]


def _blank(count: int) -> list[str]:
    return [""] * count


def _write(folder: Path, text: str, compared: Sequence[tools.Tool], results: Results, round_trip: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "login.md").write_text(text)
    bare = median(one.ended - one.started for one in results.bare)
    for name, title, take, floor in (
        ("login", "One login: from the start of the process to the token", _FIGURES[3][1], bare + 4 * round_trip),
        ("login-redirect", "From the redirect in hand to the token", _FIGURES[2][1], round_trip),
    ):
        bars = [
            Bar(tool.name, [take(login) * _MS for login in logins], ours=tool.name == tools.OURS)
            for tool in compared
            if (logins := results.logins[tool.name])
        ]
        bars.sort(key=lambda bar: (not bar.ours, median(bar.values)))
        (folder / f"{name}.svg").write_text(bars_svg(title, "milliseconds", bars, floor * _MS))
