"""`scripts/bench fleet`: what a PostgreSQL store costs: a valid token, an expired one for many, a server that dies."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore
from tests.faults.machine import Far, far_side
from tests.speed import stored as timed
from tests.speed.conditions import conditions
from tests.speed.figures import milliseconds, table, times

from .cluster import Cluster, Database
from .home import Home
from .machines import Machine, all_ended, end, machines, row, stored, with_tables
from .proxy import Proxy, Verdict

RUNS = 30
MANY = 10_000
CLIENTS = (1, 10, 100)
FLEET = 4
AWAY = 2.0
"""Seconds after which a killed server is started again."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench fleet", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"of each row of the first table ({RUNS})")
    parser.add_argument("--accounts", type=int, default=MANY, metavar="N", help=f"in either store ({MANY})")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write the result as Markdown there")
    options = parser.parse_args(arguments)
    said = [f"# A PostgreSQL store\n\n{conditions(options.runs)} Server and sandbox on the same machine, fsync on.\n"]
    with tempfile.TemporaryDirectory(prefix="fleetbench-") as folder, far_side(Path(folder, "far")) as far:
        home = Home()
        try:
            bench = Bench(far, home, Path(folder))
            said += [bench.valid(options.runs, options.accounts), bench.expired(), bench.killed()]
        finally:
            home.close()
    text = "\n".join(said)
    print(text)
    timed.write(options.write, {"fleet.md": text})
    return 0 if bench.as_promised else 1


@dataclass
class Bench:
    """Each part has a server of its own."""

    far: Far
    home: Home
    folder: Path
    as_promised: bool = True

    @contextmanager
    def _server(self, name: str) -> Iterator[tuple[Cluster, Database]]:
        with Cluster(self.home, fsync=True) as cluster:
            yield cluster, with_tables(cluster.create_database(name))

    def valid(self, runs: int, accounts: int) -> str:
        """A valid token among many accounts: file store and PostgreSQL in turns, beside a bare Python."""
        installation = timed.editable()
        with self._server("valid") as (_, database):
            (machine,) = machines(self.folder / "valid", database.url(), 1)
            files = self.folder / "files"
            timed.fill(files, accounts)
            shown = self._fill(machine, accounts)
            name = timed.name(accounts // 2)
            command = [installation.script, "token", name]
            rows: dict[str, tuple[list[str], dict[str, str]]] = {
                "python -c pass": ([installation.python, "-c", "pass"], timed.environment(files)),
                f"token, file store, {accounts:,} accounts": (command, timed.environment(files)),
                f"token, PostgreSQL, {accounts:,} accounts, warm cache": (
                    command,
                    {**timed.environment(machine.home), **store_of(machine)},
                ),
                "token, PostgreSQL, nothing cached": (
                    command,
                    {**timed.environment(self.folder / "cold"), **store_of(machine)},
                ),
            }

            def measured(words: list[str], variables: dict[str, str], cold: bool) -> Callable[[], timed.Ran]:
                def run() -> timed.Ran:
                    if cold:
                        for cached in (self.folder / "cold").rglob("tokens"):
                            cached.unlink()
                    ran = timed.run(words, variables)
                    if "token" in words and not ran.stdout.strip():
                        raise timed.RunFailedError("no token")
                    return ran

                return run

            seconds = timed.in_turns(
                {name: measured(*row, "nothing cached" in name) for name, row in rows.items()}, runs
            )
        base = seconds["python -c pass"]
        body = [[name, milliseconds(each), times(base, each)] for name, each in seconds.items()]
        return (
            "## A valid token\n\n"
            + table(["command", "ms, median (quartiles)", "times a bare Python"], body)
            + f"\n`status` of all {accounts:,} from PostgreSQL takes {shown:.1f} s.\n"
        )

    def _fill(self, machine: Machine, accounts: int) -> float:
        """Bring as many accounts as the file store has; return what `status` of all of them takes, in seconds."""
        source = Accounts(FileStore(str(self.folder / "files" / "accounts")))
        there = machine.accounts
        for name in source.names():
            account = source.load(name)
            assert account is not None
            there.save(account, 0)
            there.leave(account)
        os.sync()  # now, so that nothing that is measured waits for it
        began = time.monotonic()
        done = machine.run("status", "--json")
        assert done.status == 0, done.stderr
        return time.monotonic() - began

    def expired(self) -> str:
        """One expired token, many clients on four machines at once."""
        body = []
        for clients in CLIENTS:
            with self._server("expired") as (cluster, database):
                fleet = machines(self.folder / f"clients-{clients}", database.url(), min(FLEET, clients))
                trial = stored(self.far, self.folder / f"homes-{clients}", fleet[0])
                for machine in fleet:
                    machine.leave_cached(machine.account())
                before = _transactions(cluster, database)
                began = time.monotonic()
                processes = [fleet[number % len(fleet)].start("token") for number in range(clients)]
                with all_ended(processes):
                    tokens = {end(process).stdout for process in processes}
                took = time.monotonic() - began
                spends = self.far.presented(trial.refresh_token)
                self.as_promised &= spends == 1 and len(tokens) == 1 and tokens != {""}
                statements = _transactions(cluster, database) - before
                body.append(
                    [str(clients), str(len(fleet)), str(spends), str(len(tokens)), f"{took:.2f}", str(statements)]
                )
        header = ["clients at once", "machines", "spends", "different tokens", "s until all have it", "transactions"]
        return "## An expired token\n\n" + table(header, body)

    def killed(self) -> str:
        """A refresh whose server is killed, and is back two seconds later."""
        body = [["(nothing happens)", *self._killed(None, "", committed=False)]]
        for what, statement, committed in (
            ("killed once the claim is committed", "SET state = 'in_flight'", True),
            ("killed when the answer has come", "SET answer = ", False),
            ("killed once the answer is there", "SET answer = ", True),
            ("killed before the commit", "SET generation = ", False),
            ("killed after the commit, before it is acknowledged", "SET generation = ", True),
        ):
            body.append([what, *self._killed(statement, what, committed=committed)])
        header = [
            "the server is",
            "first `token`, s",
            "ends with",
            "until a token, here, s",
            "elsewhere, s",
            "presented",
        ]
        return "## A server that is killed, and back after 2 s\n\n" + table(header, body)

    def _killed(self, statement: str | None, what: str, *, committed: bool) -> list[str]:
        with self._server("killed") as (cluster, database):
            one, two = machines(self.folder / f"killed-{len(what)}-{committed}", database.url(), 2)
            trial = stored(self.far, self.folder / f"trial-{len(what)}-{committed}", one)
            proxy = Proxy(cluster)
            verdict: Verdict = "swallow answer" if committed else "cut before"
            pending = [statement] if statement else []

            def on_query(text: str) -> Verdict:
                if pending and pending[0] in text:
                    pending.clear()
                    if not committed:
                        cluster.kill()
                    return verdict
                return "pass"

            def die_and_return() -> None:
                if committed and proxy.withheld.wait(30):
                    cluster.kill()
                while cluster.running:
                    time.sleep(0.01)
                time.sleep(AWAY)
                cluster.start()

            proxy.on_query = on_query
            dying = threading.Thread(target=die_and_return)
            if statement:
                dying.start()
            began = time.monotonic()
            there = one.at(database.url(port=proxy.port, sslmode="disable"))
            first = there.run("token")
            took = time.monotonic() - began
            here = self._until(one, began)
            elsewhere = self._until(two, began)
            if statement:
                dying.join()
            proxy.close()
            presented = self.far.presented(trial.refresh_token)
            self.as_promised &= presented == 1 and row(database)["generation"] == 2
            ends = "the token" if first.status == 0 else f"exit status {first.status}"
            return [f"{took:.1f}", ends, f"{here:.1f}", f"{elsewhere:.1f}", str(presented)]

    @staticmethod
    def _until(machine: Machine, began: float) -> float:
        """Ask for a token again and again; return how long after the beginning it came."""
        while machine.run("token").status != 0:
            if time.monotonic() - began > 180:
                sys.exit("no token within three minutes")
            time.sleep(0.2)
        return time.monotonic() - began


def store_of(machine: Machine) -> dict[str, str]:
    """The two variables that name a machine's store."""
    return {name: value for name, value in machine.environment.items() if name.startswith("LOOPBACK_AUTH_STORE")}


def _transactions(cluster: Cluster, database: Database) -> int:
    """How many transactions have ended in a database; every statement of ours is one."""
    time.sleep(1.2)  # a session says so when it ends, or once a second
    ((count,),) = cluster.sql(f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database.name}'")
    return int(count)
