"""A program on a pseudo-terminal of its own: typed at and read byte by byte, its terminal settings looked at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE = 20.0
"""Seconds for what takes less than two on an idle machine."""
CTRL_C, CTRL_D, CTRL_Z = "\x03", "\x04", "\x1a"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# The shell is leader of a session without a terminal: the one it opens becomes the session's own (Linux, open(2)).
_ON_TERMINAL = 'tty=$1; shift; exec "$@" <>"$tty" >&0 2>&0'
_STDOUT_ELSEWHERE = 'tty=$1; out=$2; shift 2; exec "$@" <>"$tty" >"$out" 2>&0'


class Pty:
    """One process, leader of its session, whose terminal this is. `stdout` may go to a file instead."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        *,
        columns: int = 100,
        rows: int = 40,
        stdout: Path | None = None,
    ) -> None:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.said = ""
        """All that was written to the terminal so far, escape sequences included."""
        self._answered = 0
        self.settings_before = self.settings()
        name = os.ttyname(self._slave)
        shell = [_ON_TERMINAL, "sh", name] if stdout is None else [_STDOUT_ELSEWHERE, "sh", name, str(stdout)]
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", *shell, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=dict(environment),
            cwd=folder,
        )

    def settings(self) -> list[Any]:
        """The terminal's settings, as `stty -g` shows them."""
        return termios.tcgetattr(self._slave)

    @property
    def echoes(self) -> bool:
        return bool(self.settings()[3] & termios.ECHO)

    @property
    def text(self) -> str:
        """What was said, without colours and the like."""
        return ESCAPES.sub("", self.said).replace("\r\n", "\n")

    def send(self, text: str) -> None:
        """Type, without waiting for anything: long pastes are read meanwhile, or they would block."""
        rest = text.encode()
        while rest:
            self._read(0)
            _, writable, _ = select.select([], [self._master], [], PATIENCE)
            assert writable, "the terminal takes no more"
            rest = rest[os.write(self._master, rest[:1024]) :]

    def paste(self, text: str) -> None:
        """Type it and press Enter."""
        self.send(text + "\r")

    def answer(self, question: str, reply: str) -> None:
        """Wait for a question that was not answered yet, and answer it."""
        self._answered += self.says(question, after=self._answered).end()
        self.paste(reply)

    def says(self, pattern: str, *, after: int = 0, within: float = PATIENCE) -> re.Match[str]:
        """Wait until what was said matches; `after` skips that much of `text`."""
        found: list[re.Match[str]] = []

        def matches() -> bool:
            found.extend(re.finditer(pattern, self.text[after:]))
            return bool(found)

        self.until(matches, f"it says {pattern!r}", within)
        return found[0]

    def until(self, reached: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
        deadline = time.monotonic() + within
        while not reached():
            self._read(0.02)
            assert time.monotonic() < deadline, f"waited in vain until {what}:\n{self.text}"

    def stays(self, seconds: float) -> None:
        """Let some time go by, reading."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._read(0.05)

    def end(self, within: float = PATIENCE) -> int:
        """Wait until the process has ended, and return its exit status; 128 + N for signal N."""
        self.until(lambda: self.process.poll() is not None, "it has ended", within)
        while self._read(0.02):
            pass
        status = self.process.returncode
        return status if status >= 0 else 128 - status

    def close(self) -> None:
        """End the whole session, and the terminal."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def _read(self, within: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], within)
        if not readable:
            return False
        with suppress(OSError):
            self.said += os.read(self._master, 65536).decode(errors="replace")
        return True
