"""What `login` tells a person, at the moment it is needed: in words, and live on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

from loopback_auth.cli import voice
from loopback_auth.oauth.authorization import Evidence
from loopback_auth.oauth.registration import AuthorizationServer, ClientRegistration, is_loopback
from loopback_auth.progress import (
    Answered,
    BrowserFailed,
    BrowserOpened,
    CodeReceived,
    CompanyUnknown,
    Progress,
    Rejected,
    Stored,
    StrangerCame,
    WrongPath,
)
from loopback_auth.redirect.browser import forwarding_command
from loopback_auth.text import printable

_ERASE = "\r\x1b[2K"


class LoginWords:
    """Turns the progress of one login into lines on stderr. `quiet` leaves only warnings, `verbose` adds figures."""

    def __init__(
        self,
        registration: ClientRegistration,
        *,
        self_signed: str | None,
        can_paste: bool,
        timeout: float,
        quiet: bool,
        verbose: bool,
    ) -> None:
        """`self_signed` is the SHA-256 fingerprint of our own leaf, None without one; `timeout` is in seconds."""
        self._registration = registration
        self._can_paste = can_paste
        self._start_url = ""
        self._self_signed = self_signed
        self._deadline = time.monotonic() + timeout
        self._quiet = quiet
        self._verbose = verbose
        self._waiting_for: str | None = None
        self._latest: Progress | None = None

    def tell(self, progress: Progress) -> None:
        """Say what happened."""
        self.erase()
        self._latest = progress
        match progress:
            case BrowserOpened():
                self._opened(progress)
            case BrowserFailed(status):
                voice.warning(f"the browser's command ended with {status}", f"open this yourself: {self._start_url}")
            case Rejected(why, pasted):
                self._rejected(why, pasted=pasted)
            case WrongPath(path):
                self._wrong_path(path)
            case StrangerCame():
                voice.warning(
                    "another user of this machine asked for the start page and was refused: "
                    "run browser and login as one user"
                )
            case CodeReceived(shown_by):
                self._waiting_for = None
                self._detail(f"the redirect came; {self._evidence(shown_by)}")
            case Answered(sent_after, answered_after):
                self._detail(
                    f"the code was {sent_after * 1000:.1f} ms old when it was sent, "
                    f"{answered_after * 1000:.0f} ms when the answer came"
                )
            case Stored(account):
                self._detail(f"the tokens are stored (generation {account.generation})")
            case CompanyUnknown(why):
                voice.warning(f"logged in, but whose data this is could not be asked: {why}")
        self._show()

    def interrupted(self) -> str:
        """Return what a login leaves behind that a signal ended here."""
        match self._latest:
            case Stored() | CompanyUnknown():
                return "interrupted, after the tokens were stored"
            case CodeReceived() | Answered():
                return "interrupted in mid-exchange: the code may be spent, nothing was stored; run the login again"
            case _:
                return "interrupted: nothing was spent, nothing was stored"

    @contextlib.asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Show the time that is left, on a terminal, while this lasts."""
        ticking = asyncio.create_task(self._tick()) if voice.live() and not self._quiet else None
        try:
            yield
        finally:
            self.erase()
            self._waiting_for = None
            if ticking is not None:
                ticking.cancel()

    def _opened(self, opened: BrowserOpened) -> None:
        server = self._registration.server
        if not self._quiet:
            client_id = printable(self._registration.client_id, 60)
            voice.note(f"Logging in at {voice.bold(printable(server.title))} as client {client_id}")
        self._start_url = opened.start_url
        if opened.why_not is not None:  # said even with -q: without it nobody could go on
            self._by_hand(opened, opened.why_not)
        if not self._quiet:
            for number, step in enumerate(self._steps(), 1):
                voice.note(_wrapped(f"  {number}. {step}"))
            if not voice.live():
                voice.note(f"Waiting for the redirect to {opened.redirect_uri.text}")
        if self._self_signed is not None:
            self._detail(f"SHA-256 fingerprint of the certificate: {self._self_signed}")
        self._waiting_for = opened.redirect_uri.text

    def _by_hand(self, opened: BrowserOpened, why_not: str) -> None:
        """Say how to go on where no browser was opened: here, through a forwarded port, or with a paste."""
        redirect_uri = opened.redirect_uri
        forward = forwarding_command(redirect_uri.host, redirect_uri.port)
        voice.note(f"No browser was opened ({why_not}).")
        if forward is not None:
            voice.note("To use the one on your own computer, forward the port from there, and leave it running:")
            voice.note(f"  {voice.bold(forward)}")
            voice.note("and open there:")
        else:
            voice.note("Open this address in a browser on this computer:")
        voice.note(f"  {voice.bold(opened.start_url)}")
        if self._can_paste:
            if is_loopback(urlsplit(self._registration.server.authorization_endpoint).hostname):
                where = "in a browser on this computer"
            else:
                where = "in any browser anywhere"
            voice.note(f"Or open this one {where}, and when it ends on a page that cannot be reached,")
            voice.note("copy the address of that page, paste it here (it is not shown) and press Enter:")
            voice.note(f"  {voice.bold(opened.authorization_url.reveal())}")

    def _steps(self) -> Iterator[str]:
        """What the person is about to meet in the browser, in its order."""
        server = self._registration.server
        if self._self_signed is not None:
            yield (
                "The browser will warn about the certificate of localhost: loopback-auth made it itself, on this "
                "computer, because the redirect must be https. Choose Advanced, then continue to localhost."
            )
        yield from steps(server)

    def _evidence(self, shown_by: Evidence) -> str:
        """Say what showed that the redirect is ours, and which line of config makes that the rule."""
        server = self._registration.server
        table = f"[servers.{printable(server.name, 40)}] of config.toml"
        if shown_by == "state":
            known = "" if server.state == "required" else f': state = "required" in {table} pins that'
            return f"its state is the one that was sent{known}"
        how = "its browser holds the start page's cookie" if shown_by == "cookie" else "you pasted it, and PKCE holds"
        known = "" if server.state == "none" else f': if that is always so, state = "none" in {table} says it'
        return f"its state is not the one that was sent, but {how}{known}"

    def _rejected(self, why: str, *, pasted: bool) -> None:
        if pasted:
            voice.warning(f"what was pasted is not the redirect of this login: {why}")
        else:
            voice.warning(f"a request that is not this login's redirect was ignored: {why}")

    def _wrong_path(self, path: str) -> None:
        voice.warning(
            f"a redirect arrived at {printable(path, 100)}, and this login waits at another path",
            "the redirect URI registered with the server must be the one given to login, "
            f"{self._registration.redirect_uri}: see --redirect-uri",
        )

    def _detail(self, text: str) -> None:
        if self._verbose:
            voice.note(voice.faint(text))

    async def _tick(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(1)

    def _show(self) -> None:
        if self._waiting_for is None or not voice.live() or not voice.in_front() or self._quiet:
            return
        left = max(int(self._deadline - time.monotonic()), 0)
        here = ", or its address pasted here" if self._can_paste else ""
        # where it does not fit the address goes first, which the browser shows anyhow, and how to stop never
        words = (f" for the redirect to {self._waiting_for}{here}", f" for the redirect{here}", " for the redirect", "")
        lines = [f"{left // 60}:{left % 60:02d} left{one}   (Ctrl-C stops)" for one in words]
        line = next((line for line in lines if len(line) <= _columns()), lines[-1])
        sys.stderr.write(_ERASE + voice.faint(_fitting(line)))
        sys.stderr.flush()

    def erase(self) -> None:
        """Take the line with the time that is left off the terminal; it comes back by itself."""
        if self._waiting_for is not None and voice.live() and voice.in_front() and not self._quiet:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()


def steps(server: AuthorizationServer) -> Iterator[str]:
    """Return what a person does in the browser, in its order."""
    yield f"Log in with {printable(server.login_as or 'your account')}."
    yield f"Click Allow. {printable(server.allow_means or '')}".rstrip()


def _columns() -> int:
    return max(shutil.get_terminal_size().columns - 1, 20)


def _fitting(line: str) -> str:
    return line[: _columns()]


def _wrapped(text: str) -> str:
    """Break a step at words, under itself; only a terminal needs that."""
    return textwrap.fill(text, _columns(), subsequent_indent="     ") if voice.live() else text
