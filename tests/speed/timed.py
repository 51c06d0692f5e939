"""One login of one tool, with the moments that count."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.speed.answers import TOKEN
from tests.speed.desktop import Desktop, NobodyCameError
from tests.speed.far import ROOT, Seen
from tests.speed.link import Link
from tests.speed.person import Person, Visit

PATIENCE = 20.0
"""Seconds for a login, beyond what its person takes: after that it has failed."""


@dataclass(frozen=True)
class Login:
    """A login that worked. Moments are seconds of the monotonic clock."""

    started: float
    told: float
    redirected: float
    requested: float
    coming: float
    """Seconds from the first byte of the token request at the provider until it was all there."""
    answering: float
    """Seconds the provider then took to answer it."""
    token: float
    last_page: float
    ended: float
    peak_kib: int
    connections: int
    """How many the provider saw, the browser's own left out."""
    warm: bool
    """Whether the connection that the token request came on was there before the redirect was."""

    @property
    def to_browser(self) -> float:
        return self.told - self.started

    @property
    def to_request(self) -> float:
        return self.requested - self.redirected

    @property
    def to_token(self) -> float:
        return self.token - self.redirected

    @property
    def whole(self) -> float:
        return self.token - self.started

    @property
    def to_end(self) -> float:
        return self.ended - max(self.token, self.last_page)


@dataclass(frozen=True)
class Failure:
    """A login that did not work, in one line."""

    reason: str
    connections: int = 0


@dataclass(frozen=True)
class Measured:
    """A command that was run by the launcher to its end."""

    started: float
    ended: float
    status: int
    peak_kib: int


class Run:
    """A command, started by the launcher: its output as it comes, and the launcher's report."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"") -> None:
        report, write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(ROOT / "tests" / "speed" / "launcher.py"), str(write), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=ROOT,
            pass_fds=[write],
            start_new_session=True,
        )
        os.close(write)
        _running.add(self)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as given:
            given.write(stdin)
        self.report = report
        """Readable when the command has ended."""
        self.token: float | None = None
        self.printed = {"stdout": b"", "stderr": b""}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("stdout", self._process.stdout), ("stderr", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def end(self, deadline: float) -> Measured | None:
        """Wait for its end; None if it did not come in time."""
        select.select([self.report], [], [], max(0.0, deadline - time.monotonic()))
        with suppress(BlockingIOError):
            os.set_blocking(self.report, False)
            if text := os.read(self.report, 4096):
                return Measured(**json.loads(text))
        return None

    def close(self) -> None:
        """Let nothing of it remain."""
        _running.discard(self)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join(1)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        os.close(self.report)

    def _read(self, name: str, stream: Any) -> None:
        wanted = TOKEN.encode()
        with suppress(OSError, ValueError):
            while data := os.read(stream.fileno(), 65536):
                now = time.monotonic()
                self.printed[name] += data
                if name == "stdout" and self.token is None and wanted in self.printed[name]:
                    self.token = now


_running: set[Run] = set()


def stop_all() -> None:
    """Close what still runs: the bench was stopped."""
    for run in list(_running):
        run.close()


def measure(command: Sequence[str], environment: Mapping[str, str]) -> Measured | None:
    """Run a command that opens no browser."""
    run = Run(command, environment)
    try:
        return run.end(time.monotonic() + PATIENCE)
    finally:
        run.close()


def log_in(
    command: Sequence[str],
    environment: Mapping[str, str],
    desktop: Desktop,
    person: Person,
    link: Link,
    port: int,
    *,
    stdin: bytes = b"",
    thinks: float = 0.0,
    meanwhile: Callable[[float], None] = lambda _redirect_at: None,
) -> Login | Failure:
    """Log in at the provider's port. The person takes `thinks` seconds from the browser's opening to the redirect.

    `meanwhile` is told the moment at which the redirect will be delivered, while there is time until then.
    """
    begun = time.monotonic()
    deadline = begun + PATIENCE + thinks
    run = Run(command, environment, stdin)
    try:
        address, told = desktop.address(run.report, deadline)
        redirect_at = told + thinks if thinks else 0.0
        meanwhile(redirect_at)
        visit = person.walk(address, redirect_at)
        measured = run.end(deadline)
    except NobodyCameError as error:
        link.provider.seen(port)
        run.close()
        return Failure(f"{error}{_last_words(run)}")
    except BaseException:
        run.close()
        raise
    run.close()
    seen = link.provider.seen(port)
    own = [one for one in seen if one.accepted > begun and not one.was_the_browsers]
    if trouble := _trouble(run, measured, visit):
        unread = "" if any(one.was_asked_for_tokens for one in own) else "; the server read no token request"
        return Failure(f"{trouble}{_last_words(run)}{unread}", len(own))
    asked, request = _token_request(own)
    assert measured is not None
    assert run.token is not None
    return Login(
        started=measured.started,
        told=told,
        redirected=visit.redirected,
        requested=request["first_byte"],
        coming=request["whole"] - request["first_byte"],
        answering=request["answered"] - request["whole"],
        token=min(run.token, measured.ended),  # it was there by then, if our thread came late to read it
        last_page=visit.last_page,
        ended=measured.ended,
        peak_kib=measured.peak_kib,
        connections=len(own),
        warm=asked.accepted < visit.redirected,
    )


def environment_of(desktop: Desktop, home: Path, authority: Path, **more: str) -> dict[str, str]:
    """Return what every tool is given: a home of its own, a browser to open, and whom to trust."""
    path = os.environ.get("PATH", os.defpath)
    trust = {
        name: str(authority)
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
    }
    return {
        "PATH": f"{desktop.programs}{os.pathsep}{path}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "BROWSER": desktop.command,
        "DISPLAY": ":0",
        **trust,
        **more,
    }


def _token_request(own: list[Seen]) -> tuple[Seen, dict[str, Any]]:
    """Return the token request that brought the tokens, and its connection."""
    return next((one, request) for one in own for request in one.requests if _brought_tokens(request))


def _brought_tokens(request: dict[str, Any]) -> bool:
    return (request["path"], request["status"]) == ("/token", 200)


def _trouble(run: Run, measured: Measured | None, visit: Visit) -> str:
    if measured is None:
        return f"not done within {PATIENCE:.0f} s"
    if measured.status != 0:
        return f"exit status {measured.status}"
    if run.token is None:
        return "no token on stdout"
    if visit.trouble or visit.status >= 400:
        return f"the last page: {visit.trouble or visit.status}"
    return "" if visit.redirected else "the browser never came to a redirect"


def _last_words(run: Run) -> str:
    text = (run.printed["stderr"].strip() or run.printed["stdout"].strip()).decode(errors="replace")
    shown = " / ".join(re.sub(r":\d{4,5}\b", ":PORT", line) for line in text.splitlines()[-2:])
    return f" ({shown[-300:]})" if text else ""
