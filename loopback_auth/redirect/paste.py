"""The redirect URL pasted into the terminal, for a browser that cannot reach this computer.

The terminal is read only while this process is in its foreground, and without echo: what is pasted holds a code, and
should not stay in the scrollback. A paste of any length is taken (a terminal's own line editing stops at 4095 bytes).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from loopback_auth.errors import RedirectRejected
from loopback_auth.oauth.registration import RedirectURI
from loopback_auth.redirect.pages import Page
from loopback_auth.secret import Secret
from loopback_auth.text import printable

LIMIT = 64 * 1024
"""Characters of a paste."""
SETTLED = 0.02
"""Seconds without another character after which a line break is taken for Enter, not for a break in what was pasted."""
LOOK_PAUSE = 0.2
"""Seconds between two looks at whether this process is in the foreground."""


class PastedRedirect:
    """A redirect that came through the terminal: nobody waits for a page."""

    def __init__(self, query: Secret) -> None:
        self.query = query
        self.received_at = time.monotonic()

    def answer(self, page: Page) -> None:
        """Do nothing: the browser is elsewhere, and has shown its own error page."""

    def reject(self) -> None:
        """Do nothing."""


def parse_pasted(text: str, redirect_uri: RedirectURI) -> PastedRedirect:
    """Return the redirect in what somebody pasted: quotes, brackets and line breaks around and within it are dropped.

    Raises RedirectRejected, in words for the one who pasted.
    """
    address = "".join(text.split()).strip("\"'<>`")
    expected = f"{redirect_uri.authority}{redirect_uri.path}"
    before, has_query, rest = address.partition("?")
    place = before.partition("://")[2] if "://" in before else before
    if place != expected and f"{place}/" != expected:
        host = _HOST.match(before)  # without a scheme it may be the code alone, which is not repeated
        found = f"yours is at {printable(host[1], 60)}" if host else "this is no address"
        raise RedirectRejected(f"the address should begin with {redirect_uri.text}, and {found}")
    if not has_query:
        raise RedirectRejected("the address ends before its ?: copy all of it, to its end")
    return PastedRedirect(Secret(rest.partition("#")[0]))


_HOST = re.compile(r"https?://(?:[^/#]*@)?((?:[\w.-]+|\[[\w.:]+\])(?::\d*)?)(?=/|#|$)", re.IGNORECASE)
"""An address's host and port, if it plainly has one; without user and password."""


class Terminal:
    """The terminal as a place to paste into. Made by `open`, which also gives the terminal back as it was."""

    def __init__(self, descriptor: int, stopping: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._stopping = stopping
        self._pastes: asyncio.Queue[str] = asyncio.Queue()
        self._typed = ""
        self._settling: asyncio.TimerHandle | None = None
        self._before: list[object] | None = None
        self._ours: list[object] | None = None
        self._reading = False

    @classmethod
    @asynccontextmanager
    async def open(cls, descriptor: int = 0, *, stopping: Callable[[], None] = lambda: None) -> AsyncIterator[Terminal]:
        """Read pastes from a terminal while this lasts; `stopping` is called at Ctrl-Z. On Windows nothing is read."""
        terminal = cls(descriptor, stopping)
        if sys.platform == "win32":
            yield terminal
            return
        loop = asyncio.get_running_loop()
        minding = asyncio.create_task(terminal._mind())
        loop.add_signal_handler(signal.SIGTSTP, terminal._stop)
        try:
            yield terminal
        finally:
            minding.cancel()
            loop.remove_signal_handler(signal.SIGTSTP)
            terminal._give_back()

    async def next(self) -> str:
        """Wait for the next paste, ended with Enter."""
        return await self._pastes.get()

    async def _mind(self) -> None:
        """Take the terminal whenever we are in its foreground: also after `bg`, `fg` and Ctrl-Z."""
        while True:
            with suppress(OSError):
                if os.tcgetpgrp(self._descriptor) == os.getpgrp():
                    self._take()
                else:
                    self._stop_reading()
            await asyncio.sleep(LOOK_PAUSE)

    def _take(self) -> None:
        import termios

        now = termios.tcgetattr(self._descriptor)
        if self._ours is None:
            self._before = list(now)
            ours = termios.tcgetattr(self._descriptor)
            ours[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl-C, Ctrl-Z stay what they are
            self._ours = ours
        if now[3] != self._ours[3]:
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._ours)  # type: ignore[arg-type]  # as it came
        if not self._reading:
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
            self._reading = True

    def _stop_reading(self) -> None:
        if self._reading:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._reading = False

    def _give_back(self) -> None:
        import termios

        self._stop_reading()
        with suppress(OSError, termios.error):
            if self._before is not None and os.tcgetpgrp(self._descriptor) == os.getpgrp():
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)  # type: ignore[arg-type]  # as it came

    def _stop(self) -> None:
        """Ctrl-Z: the shell gets its terminal as it was; `fg` lets us take it again."""
        self._stopping()
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _read(self) -> None:
        try:
            piece = os.read(self._descriptor, LIMIT)
        except OSError:
            piece = b""
        if not piece:  # the terminal is gone
            self._stop_reading()
            return
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        for character in piece.decode(errors="replace").replace("\x1b[200~", "").replace("\x1b[201~", ""):
            self._key(character)

    def _key(self, character: str) -> None:
        if character in "\r\n":
            self._settling = asyncio.get_running_loop().call_later(SETTLED, self._enter)
            return
        if self._settling is not None:  # a line break within the paste
            self._settling.cancel()
            self._settling = None
        if character in "\x7f\x08":
            self._typed = self._typed[:-1]
        elif character == "\x15":  # Ctrl-U
            self._typed = ""
        elif character >= " " and len(self._typed) < LIMIT:
            self._typed += character

    def _enter(self) -> None:
        typed, self._typed, self._settling = self._typed, "", None
        if typed.strip():
            self._pastes.put_nowait(typed)
