"""The real command in a process of its own for each call, forked from one that has imported everything once.

Hundreds of small calls would spend their time on imports. `Commands` starts this file as a program; for each order the
program forks, and the child becomes the command: its environment, its streams, its limits, its user.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.ended import Ended

ROOT = Path(__file__).resolve().parents[2]
HUNG = -1
"""The status of a command that did not end in time."""


class Commands:
    """A process to fork commands from. Use it as a context manager; one `run` at a time."""

    def __enter__(self) -> Commands:
        passed_on = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.forked"],
            cwd=ROOT,
            env={**passed_on, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"},
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
        self,
        *arguments: str,
        environment: Mapping[str, str],
        cwd: Path,
        umask: int = 0o022,
        limits: Mapping[str, int] | None = None,
        closed: tuple[int, ...] = (),
        powerful: bool = False,
        seconds: float = 10,
    ) -> Ended:
        """Run a command to its end.

        `limits` are soft ones, by the names of the module `resource`; `closed` are descriptors that are not there.
        Unless it is to be `powerful`, permissions hold for root as for anybody.
        """
        order = {
            "arguments": arguments,
            "environment": dict(environment),
            "cwd": str(cwd),
            "umask": umask,
            "limits": dict(limits or {}),
            "closed": closed,
            "powerful": powerful,
            "seconds": seconds,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        return Ended(said["status"], said["stdout"], said["stderr"], arguments)


# -- the program


def serve() -> None:
    from tests.forking import import_all

    import_all()
    for line in sys.stdin:
        print(json.dumps(perform(json.loads(line))), flush=True)


def perform(order: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait, and put together what the child said."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            become(order, stdout.fileno(), stderr.fileno())
        status = wait(child, order["seconds"])
        stdout.seek(0)
        stderr.seek(0)
        said = [stream.read().decode(errors="replace") for stream in (stdout, stderr)]
        return {"status": status, "stdout": said[0], "stderr": said[1]}


def wait(child: int, seconds: float) -> int:
    """Return how the child ended, `HUNG` if it had to be killed."""
    descriptor = os.pidfd_open(child)
    try:
        import select

        ended, _, _ = select.select([descriptor], [], [], seconds)
        if not ended:
            os.killpg(child, 9)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(descriptor)
    return status if ended else HUNG


def become(order: dict[str, Any], stdout: int, stderr: int) -> None:
    """Be the command; never returns."""
    import resource

    from loopback_auth.cli.main import main

    os.setsid()
    for number, stream in enumerate((os.open(os.devnull, os.O_RDWR), stdout, stderr)):
        os.dup2(stream, number)
    os.closerange(3, 1024)
    for number in order["closed"]:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)  # as an interpreter that starts so has it
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    os.umask(order["umask"])
    for name, limit in order["limits"].items():
        which = getattr(resource, name)
        resource.setrlimit(which, (limit, resource.getrlimit(which)[1]))
    if not order["powerful"]:
        powerless()
    sys.argv = ["loopback-auth", *order["arguments"]]
    try:
        main()
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    os._exit(99)


def powerless() -> None:
    """Give up all capabilities (capset(2)), so that permissions hold for root too."""
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    serve()
