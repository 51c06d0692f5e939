"""Whether our login is ready for the redirect whatever has become of the connection it made early: row by row."""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.speed import tools
from tests.speed.conditions import conditions
from tests.speed.desktop import Desktop
from tests.speed.far import far_process
from tests.speed.figures import median, shown, table
from tests.speed.link import UNKNOWN_NAME, Link, joined
from tests.speed.person import Person
from tests.speed.timed import Failure, Login, environment_of, log_in

LOGINS = 30
AT_ONCE = 10
"""Logins under way together, each in processes of its own."""
_APART = 0.25
"""Seconds between their starts, so that they do not wait for each other's."""
_PROXY_PORT = 3128
_DNS_SECONDS = 2.0
Meanwhile = Callable[[Link, int, float], None]


def _nothing(_link: Link, _port: int, _redirect_at: float) -> None:
    """The server keeps what it has."""


def _close_before(seconds: float) -> Meanwhile:
    def close(link: Link, port: int, redirect_at: float) -> None:
        link.provider.close_idle(port, redirect_at - seconds)

    return close


def _lose_the_path(link: Link, port: int, redirect_at: float) -> None:
    """Lose all packets of what is held, a second before the redirect."""
    time.sleep(max(0.0, redirect_at - 1 - time.monotonic()))
    for one in link.provider.seen(port):
        if one.closed is None:
            link.cut(one.client_port)


@dataclass(frozen=True)
class Row:
    """One thing that may happen while a person logs in."""

    name: str
    thinks: float
    idle_close: float | None = None
    meanwhile: Meanwhile = _nothing
    silent: bool = False
    through_proxy: bool = False
    slow_name: bool = False
    needs_packets: bool = False
    is_long: bool = False


@dataclass
class Outcome:
    """What became of a row's logins."""

    logins: list[Login] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def rows() -> Iterator[Row]:
    yield Row("the server keeps its connections", 3)
    for close, thinks in ((1, 3), (5, 3), (5, 12), (15, 12), (15, 20)):
        yield Row(f"the server closes after {close} s", thinks, idle_close=close)
    for thinks in (58, 65):
        yield Row("the server closes after 60 s", thinks, idle_close=60, is_long=True)
    for before in (100, 60, 30, 10, 2):
        yield Row(f"it closes {before} ms before the redirect", 3, meanwhile=_close_before(before / 1000))
    yield Row("the held connection's packets are lost", 4, meanwhile=_lose_the_path, needs_packets=True)
    for thinks in (0, 4):
        yield Row(f"DNS takes {_DNS_SECONDS:.0f} s", thinks, slow_name=True, needs_packets=True)
    yield Row("through an HTTP proxy (CONNECT)", 3, through_proxy=True)
    yield Row("the browser opens silent connections", 3, silent=True)


def main(options: argparse.Namespace, folder: Path) -> int:
    count = options.runs or LOGINS
    shown_rows, left_out = [], []
    good = True
    with joined(folder, options.rtt / 1000, hold_packets=options.link == "packets") as link, ExitStack() as stack:
        said = conditions(count, link).replace("in turns", f"{AT_ONCE} at once, {_APART} s apart")
        print(said, file=sys.stderr)
        proxy = stack.enter_context(far_process("connect_proxy", str(_PROXY_PORT), *link.far_side))
        proxy.heard()
        if link.has_packets:
            names = far_process("slow_names", str(_DNS_SECONDS), link.address, *link.far_side)
            stack.enter_context(names).heard()
        for number, row in enumerate(rows()):
            if (row.is_long and not options.long) or not _asked_for(row, options.row):
                continue
            if row.needs_packets and not link.has_packets:
                left_out.append(f"Left out: {row.name}: no packets can be held on this machine.")
                continue
            outcome = _log_in_all(row, count, link, folder / f"row-{number}", silent=options.silent)
            good &= not outcome.failures
            shown_rows.append(_shown(row, outcome))
            print(" | ".join(shown_rows[-1]), file=sys.stderr)
            for reason, times in Counter(one.reason for one in outcome.failures).items():
                left_out.append(f"{row.name}: failed {times} times: {reason}")
                print(f"  {times} times: {reason}", file=sys.stderr)
    header = ["what happens", "the person takes", "logged in", "on the held connection", "redirect → token request, ms"]
    header += ["redirect → token, ms", "slowest, ms", "connections per login"]
    parts = [said, table(header, shown_rows), *left_out]
    text = "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
    print(text)
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        (options.write / "login-ready.md").write_text(text)
    return 0 if good else 1


def _asked_for(row: Row, texts: Sequence[str] | None) -> bool:
    return not texts or any(text in row.name for text in texts)


def _log_in_all(row: Row, count: int, link: Link, folder: Path, *, silent: bool) -> Outcome:
    """Log in `count` times, with threads that nobody waits for when the bench is stopped."""
    folder.mkdir()
    begun = time.monotonic()
    waiting = iter(range(count))
    results: queue.SimpleQueue[Login | Failure | BaseException] = queue.SimpleQueue()

    def work(first: float) -> None:
        time.sleep(first)
        for number in waiting:
            try:
                results.put(_log_in(row, number, link, folder / str(number), silent=silent))
            except BaseException as error:
                results.put(error)

    for number in range(min(AT_ONCE, count)):
        starts = begun + number * _APART - time.monotonic()
        threading.Thread(target=work, args=(max(0.0, starts),), daemon=True).start()
    outcome = Outcome()
    for _ in range(count):
        match results.get():
            case Login() as login:
                outcome.logins.append(login)
            case Failure() as failure:
                outcome.failures.append(failure)
            case error:
                raise error
    return outcome


def _log_in(row: Row, number: int, link: Link, folder: Path, *, silent: bool) -> Login | Failure:
    home = folder / "home"
    home.mkdir(parents=True)
    desktop = Desktop(folder)
    authority = link.certificates.authority
    port = link.open_port(idle_close=row.idle_close)
    host = UNKNOWN_NAME if row.slow_name else link.host
    more = {"HTTPS_PROXY": f"http://{link.address}:{_PROXY_PORT}"} if row.through_proxy else {}
    environment = environment_of(desktop, home, authority, LOOPBACK_AUTH_HOME=str(home / "loopback-auth"), **more)
    command = tools.our_command(tools.Occasion(f"https://{host}:{port}", authority, home, number))
    if row.slow_name:
        command = _asking_for_names(command, link, folder)
    person = Person(authority, {UNKNOWN_NAME: link.address}, silent=silent or row.silent)
    try:
        return log_in(
            command,
            environment,
            desktop,
            person,
            link,
            port,
            thinks=row.thinks,
            meanwhile=lambda redirect_at: row.meanwhile(link, port, redirect_at),
        )
    finally:
        desktop.close()


def _asking_for_names(command: list[str], link: Link, folder: Path) -> list[str]:
    """Run the command where the only one who knows names is the slow one."""
    hosts, resolver = folder / "hosts", folder / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost\n")
    resolver.write_text(f"nameserver {link.address}\noptions timeout:5 attempts:2\n")
    binds = f"mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf"
    return ["unshare", "--mount", "sh", "-c", f'{binds} && exec "$@"', "sh", *command]


def _shown(row: Row, outcome: Outcome) -> list[str]:
    logins = outcome.logins
    total = len(logins) + len(outcome.failures)
    name = [row.name, f"{row.thinks:g} s", f"{len(logins)} of {total}"]
    if not logins:
        return [*name, *[""] * 5]
    warm = sum(one.warm for one in logins)
    tokens = [one.to_token * 1000 for one in logins]
    connections = Counter(one.connections for one in logins)
    return [
        *name,
        f"{warm} of {len(logins)}",
        shown(median(one.to_request * 1000 for one in logins)),
        shown(median(tokens)),
        shown(max(tokens)),
        ", ".join(
            f"{number} ({times}×)" if len(connections) > 1 else f"{number}"
            for number, times in sorted(connections.items())
        ),
    ]
