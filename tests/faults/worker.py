"""Runs one piece of client work in a process of its own, again and again, without paying for its imports each time.

`Worker` starts this file as a program, which loads everything once. For each `run` the program forks; the child
installs the injector, does the work and ends, or is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.faults.injector import Fault, Injector

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """What became of one piece of work. `signal` is what ended it, 0 if it ended by itself."""

    signal: int
    value: str | None
    """The access token, or the generation of a refresh."""
    error: str | None
    """The class of the error, if one was raised."""
    message: str
    exit_status: int
    calls: list[str]
    warnings: list[str]


class Worker:
    """A process to fork from, for a store at `address`. Use it as a context manager; one `run` at a time."""

    def __init__(self, *, resend_after: float = 0.05, address: str = "file:") -> None:
        self._resend_after = resend_after
        self._address = address

    def __enter__(self) -> Worker:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)

    def run(
        self, home: Path, work: str = "token", fault: Fault | None = None, *, survivors: Path | None = None, **also: Any
    ) -> Outcome:
        """Do `work` for the account `default` in `home`: `token`, `force`, `resend`, `finish` a login, or `move`.

        It is in `store` there, and is moved to the store `to`.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {
            "home": str(home),
            "work": work,
            "fault": fault and asdict(fault),
            "survivors": str(survivors) if survivors else None,
            "resend_after": self._resend_after,
            "address": self._address,
            **also,
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))

    def stopped_child(self) -> int:
        """Wait until the child has stopped itself, and return its process id."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for status in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(OSError):
                    number, _, rest = status.read_text().partition(" ")
                    state, parent = rest.rpartition(") ")[2].split()[:2]
                    if state == "T" and int(parent) == self._process.pid:
                        return int(number)
            time.sleep(0.01)
        raise AssertionError("no child has stopped")


# -- the program


def serve() -> None:
    import tests.faults.machine  # noqa: F401 (for the children)
    from tests.forking import import_all

    import_all()

    for line in sys.stdin:
        print(json.dumps(asdict(perform(json.loads(line)))), flush=True)


def perform(order: dict[str, Any]) -> Outcome:
    """Fork, wait, and put together what the child left."""
    with tempfile.TemporaryDirectory(prefix="loopback-auth-fault-") as folder:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = in_child(order, Path(folder))
            finally:
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        number = os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0
        said: dict[str, Any] = {"value": None, "error": None, "message": "", "exit_status": -1, "calls": []}
        with contextlib.suppress(FileNotFoundError):
            said = json.loads(Path(folder, "said").read_text("utf-8"))
        if not number and said["exit_status"] == -1:
            said["error"] = "the child itself failed"
        return Outcome(signal=number, warnings=said.pop("warnings", []), **said)


def in_child(order: dict[str, Any], folder: Path) -> int:
    from loopback_auth import clock, config, moving, renewal, stores
    from loopback_auth.errors import LoopbackAuthError
    from tests.faults.machine import root_of

    home = Path(order["home"])
    os.environ["LOOPBACK_AUTH_HOME"] = str(home)
    sys.stdin.close()
    renewal.RESEND_AFTER = order["resend_after"]
    renewal.CONNECT_PAUSES = tuple(order.get("connect_pauses", ()))
    fault = Fault(**order["fault"]) if order["fault"] else None
    address = order["address"]
    root = str(root_of(home, address) if address != "file:" else home / order.get("store", "accounts"))
    store = stores.open_at(address if address != "file:" else f"file:{root}")  # before its disk fails
    to = stores.open_at(f"file:{home / order['to']}") if "to" in order else store
    injector = Injector(str(home) if order["work"] == "move" else root, fault, order["survivors"])
    if order.get("injected", True):
        injector.install()
    warnings: list[str] = []
    jump = float(order.get("jump", 0))

    def now() -> clock.Moment:
        moment = clock.now()
        return clock.Moment(moment.unix + jump, moment.boot_id, moment.uptime)

    source = config.token_source("default", store, warn=lambda e: warnings.append(str(e)))
    source._now = now
    source._lock_timeout = float(order.get("lock_timeout", source._lock_timeout))
    said: dict[str, Any] = {"value": None, "error": None, "message": "", "exit_status": 0}

    async def work() -> str:
        if order["work"] == "finish":
            return await finished(home, order["pasted"])
        if order["work"] == "move":
            moved = await moving.move(store, to, "default")
            return str(moved.generation)
        if order["work"] == "token":
            return (await source.token()).reveal()
        refreshed = await source.refresh(force=order["work"] == "force", resend=order["work"] == "resend")
        return str(refreshed.generation)

    try:
        said["value"] = asyncio.run(work())
    except LoopbackAuthError as error:
        said |= {"error": type(error).__name__, "message": str(error), "exit_status": error.exit_status}
    except BaseException as error:  # a fault of ours, for the parent to see
        said |= {"error": f"unexpected {type(error).__name__}", "message": str(error), "exit_status": 1}
    said |= {"calls": injector.calls, "warnings": warnings}
    injector.stop()
    Path(folder, "said").write_text(json.dumps(said), "utf-8")
    return 0


async def finished(home: Path, pasted: str) -> str:
    from loopback_auth import client_secret, two_step
    from loopback_auth.stores import open_store

    account = await two_step.finish(
        "default",
        pasted,
        accounts_folder=str(home / "accounts"),
        store=open_store(),
        client_secret=lambda login: client_secret.fetch(login.secret_reference, login.registration),
    )
    return account.tokens.access_token.reveal()


if __name__ == "__main__":
    serve()
