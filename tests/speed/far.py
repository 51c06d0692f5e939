"""The processes at the far end of the link, told what to do in lines on their stdin; gone when told no more."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class FarProcess:
    """A module of this folder, running. What it cannot do it says on stderr, and ends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process
        self._turn = threading.Lock()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._turn:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def ask(self, line: str) -> str:
        """Send a line and return the line that answers it."""
        assert self._process.stdin is not None
        with self._turn:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
            return self.heard()

    def heard(self) -> str:
        """Return the next line it says. Raises EOFError if it ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError(f"{self._process.args!r} ended")
        return line.rstrip("\n")


@contextmanager
def far_process(module: str, *arguments: str) -> Iterator[FarProcess]:
    """Run `tests.speed.MODULE` while this lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.speed.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        start_new_session=True,  # Ctrl-C is for us, who end it
    )
    try:
        yield FarProcess(process)
    finally:
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Seen:
    """One connection at the provider."""

    accepted: float
    client_port: int
    secured: float | None
    closed: float | None
    requests: list[dict[str, Any]]

    @property
    def was_the_browsers(self) -> bool:
        return any(one["path"] == "/authorize" for one in self.requests)

    @property
    def was_asked_for_tokens(self) -> bool:
        return any(one["path"] == "/token" for one in self.requests)


class Provider:
    """The authorization server, from afar."""

    def __init__(self, process: FarProcess) -> None:
        self._process = process

    def listen(self, port: int, *, at: int | None = None, idle_close: float | None = None) -> None:
        """Serve on one more port, whose connections are closed when nothing was asked for `idle_close` seconds.

        `at` is the port that is really listened on, where `port` is only what clients know.
        """
        self._do("listen", port, at=at or port, idle_close=idle_close)

    def close_idle(self, port: int, at: float) -> None:
        """Close, at that moment of the monotonic clock, all connections on which nothing has been asked yet."""
        self._do("close idle", port, at=at)

    def seen(self, port: int) -> list[Seen]:
        """Return the connections since this was asked last, and those still open."""
        return [Seen(**one) for one in self._do("seen", port)]

    def _do(self, what: str, port: int, **more: float | None) -> Any:
        return json.loads(self._process.ask(json.dumps({"do": what, "port": port, **more})))
