"""Children that ask for a token, forked from a process that has imported everything: a trial costs no start.

A child can be killed before or after its n-th statement, by SIGKILL; or stopped after it, by SIGSTOP.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.commands import ROOT


@dataclass(frozen=True)
class Outcome:
    """What became of a child: the signal that ended it, or what it returned or raised."""

    signal: int
    token: str | None
    error: str | None
    message: str
    hint: str
    warnings: list[str]
    statements: int

    @property
    def killed(self) -> bool:
        return self.signal == 9


class Nursery:
    """A context manager; one child at a time."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.postgresql.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)

    def token(self, environ: Mapping[str, str], *, kill: tuple[int, str] | None = None, **order: Any) -> Outcome:
        """Ask for the token of account default, in a child with this environment."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"environ": dict(environ), "kill": kill, **order}) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))


def main() -> None:
    from tests.forking import import_all

    import_all()
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            with os.fdopen(writing, "w") as said:
                json.dump(in_child(order), said)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as heard:
            text = heard.read()
        status = os.waitpid(child, 0)[1]
        nothing: dict[str, Any] = {
            "token": None,
            "error": None,
            "message": "",
            "hint": "",
            "warnings": [],
            "statements": 0,
        }
        print(json.dumps({"signal": os.WTERMSIG(status), **(json.loads(text) if text else nothing)}), flush=True)


def in_child(order: dict[str, Any]) -> dict[str, Any]:
    import asyncio

    from loopback_auth import config, renewal
    from loopback_auth.errors import LoopbackAuthError
    from loopback_auth.store.postgresql import connection

    os.environ.clear()
    os.environ.update(order["environ"])
    renewal.RESEND_AFTER = 0.05
    renewal.CONNECT_PAUSES = ()  # type: ignore[assignment]  # none, and the loop has an end
    for name, value in order.get("set", {}).items():
        module, _, constant = name.rpartition(".")
        setattr(sys.modules[module], constant, value)
    statements = 0
    real = connection.Connection.run

    def run(self: Any, *arguments: Any, **settings: Any) -> Any:
        nonlocal statements
        statements += 1
        if order["kill"] == [statements, "before"]:
            os.kill(os.getpid(), 9)
        found = real(self, *arguments, **settings)
        if order["kill"] == [statements, "after"]:
            os.kill(os.getpid(), 9)
        if order["kill"] == [statements, "stop"]:
            os.kill(os.getpid(), 19)
            time.sleep(0.2)  # another thread may be stopped first, and this one go on for a moment
        return found

    connection.Connection.run = run  # type: ignore[method-assign]
    warnings: list[str] = []
    said: dict[str, Any] = {"token": None, "error": None, "message": "", "hint": "", "warnings": warnings}
    source = config.token_source(
        "default", warn=lambda error: warnings.append(str(error)), lock_timeout=order.get("lock_timeout", 20.0)
    )
    try:
        said["token"] = asyncio.run(source.token()).reveal()
    except LoopbackAuthError as error:
        said.update(error=type(error).__name__, message=str(error), hint=" / ".join(error.hint))
    return {**said, "statements": statements}


if __name__ == "__main__":
    main()
