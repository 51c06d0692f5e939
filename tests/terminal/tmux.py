"""A real terminal: tmux on a socket of its own, typed at, and its screen and scrollback looked at."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from .ptys import PATIENCE

PROMPT = "ready> "


class Tmux:
    """One window with a shell in it. Whatever still runs there ends with `close`."""

    def __init__(self, environment: Mapping[str, str], folder: Path, *, columns: int = 100, rows: int = 40) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tmux-"))  # short: the path of a socket has 107 bytes
        self._environment = dict(environment) | {"TMUX_TMPDIR": str(self._folder), "PS1": PROMPT, "SHELL": "/bin/bash"}
        size = ["-x", str(columns), "-y", str(rows)]
        shell = ["bash", "--norc", "--noprofile", "-i"]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(folder), *shell)
        self.shows(re.escape(PROMPT.strip()))

    def type(self, text: str) -> None:
        """Type text and press Enter."""
        self._tmux("send-keys", "-l", text)
        self.press("Enter")

    def press(self, key: str) -> None:
        """Press one key by its name: Enter, C-c, C-z."""
        self._tmux("send-keys", key)

    def paste(self, text: str) -> None:
        """Paste as a terminal does: with the markers around it, if the program asked for them."""
        self._tmux("load-buffer", "-", given=text)
        self._tmux("paste-buffer", "-p", "-d")

    def screen(self) -> str:
        """What the person sees now, line by line."""
        return self._tmux("capture-pane", "-p")

    def everything(self) -> str:
        """Screen and scrollback, broken lines joined again."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-")

    def shows(self, pattern: str, *, times: int = 1, within: float = PATIENCE) -> re.Match[str]:
        """Wait until screen and scrollback match, so many times."""
        deadline = time.monotonic() + within
        while True:
            found = list(re.finditer(pattern, self.everything(), re.MULTILINE))
            if len(found) >= times:
                return found[-1]
            assert time.monotonic() < deadline, f"no {pattern!r} on the screen:\n{self.everything()}"
            time.sleep(0.03)

    def status(self) -> int:
        """The exit status of the last command, once the shell is ready again: until then it gets no key."""
        deadline = time.monotonic() + PATIENCE
        while not self.everything().rstrip().endswith(PROMPT.strip()):
            assert time.monotonic() < deadline, f"no prompt:\n{self.everything()}"
            time.sleep(0.03)
        self.type("echo status=$?")
        return int(self.shows(r"^status=(\d+)$")[1])

    def close(self) -> None:
        subprocess.run(["tmux", "kill-server"], env=self._environment, capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tmux(self, *arguments: str, given: str | None = None) -> str:
        done = subprocess.run(
            ["tmux", *arguments], env=self._environment, input=given, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
