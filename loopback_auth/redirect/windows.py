"""Browser windows of their own: a login in one of them neither sees nor leaves a session.

Chromium's and Firefox's families get a fresh profile each, deleted with the window. Any other command opens the
address as it would anyway, and is left alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loopback_auth.errors import StoreError
from loopback_auth.redirect.browser import SECRET_VARIABLES, browser_command, started
from loopback_auth.redirect.certificate import public_key_pin, sha256_fingerprint
from loopback_auth.redirect.profiles import PAUSE, Profile, ending, remove_leftovers, removing, using
from loopback_auth.text import printable

_CHROMIUM = re.compile(r"(chromium|google-chrome|chrome|brave|msedge|microsoft-edge|vivaldi)(?![a-z])")
_FIREFOX = re.compile(r"(firefox|librewolf)(?![a-z])")
_OWN_PROFILE = re.compile(r"--user-data-dir|--?(profile|P)$")
_PROGRAMS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "brave-browser"),
    *("firefox", "firefox-esr", "librewolf"),
)
_MACOS = (
    "Google Chrome.app/Contents/MacOS/Google Chrome",
    "Chromium.app/Contents/MacOS/Chromium",
    "Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "Firefox.app/Contents/MacOS/firefox",
)
_WINDOWS = (
    r"Google\Chrome\Application\chrome.exe",
    r"Chromium\Application\chrome.exe",
    r"Microsoft\Edge\Application\msedge.exe",
    r"Mozilla Firefox\firefox.exe",
)

CHROMIUM_FLAGS = (
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-search-engine-choice-screen",
    "--disable-sync",
    "--disable-background-mode",  # else it may stay when its last window is closed
    "--password-store=basic",  # else a desktop may ask for the password of its keyring
)
CHROMIUM_PREFERENCES = {"credentials_enable_service": False, "profile": {"password_manager_leak_detection": False}}
"""It does not offer to keep a password in a profile that is about to be deleted."""
FIREFOX_PREFERENCES: Mapping[str, bool | int | str] = {
    "browser.aboutwelcome.enabled": False,
    "browser.preonboarding.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "browser.tabs.warnOnClose": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "signon.rememberSignons": False,
    "startup.homepage_welcome_url": "",
    "termsofuse.bypassNotification": True,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class Window:
    """A browser that was opened, or a command that opens one somewhere."""

    def __init__(self, process: subprocess.Popen[bytes], profile: Profile | None) -> None:
        self.process = process
        self.isolated = profile is not None
        """Whether it has a profile of its own, and ends when the window is closed."""
        self._profile = profile

    def ended(self) -> int | None:
        """Return the exit status once the browser or command has ended, None while it runs; does not wait.

        A browser ends when the last of its windows is closed, with 0.
        """
        return self.process.poll()

    async def close(self) -> None:
        """End the browser and delete its profile. Any number of calls; another command is not ended."""
        for _ in self.closing():
            await asyncio.sleep(PAUSE)

    def closing(self) -> Iterator[None]:
        """Close it step by step; yields where there is time to wait."""
        running = self.process.poll() is None
        if self._profile is None:
            return
        profile, leader = self._profile, self.process.pid if running else None

        def alive() -> list[int]:
            found = using(profile.folder, leader)  # a leader's number is not given away while its session lasts
            if self.process.poll() is None and self.process.pid not in found:
                found.append(self.process.pid)
            return found

        yield from ending(alive)
        yield from removing(profile)
        self._profile = None


class Windows:
    """Opens windows; made by `open`, which also ends them."""

    def __init__(self, folder: Path, command: list[str] | str, environ: Mapping[str, str], hide: tuple[str, ...]):
        """`command` holds the words that start the browser, or says why there is none."""
        self._folder, self._environ, self._hide = folder, environ, hide
        self._command = [] if isinstance(command, str) else command
        self._open: list[Window] = []
        self._leaf: Path | None = None
        self._authority = ""
        name = re.split(r"[/\\]", self._command[0])[-1] if self._command else ""
        self.words = printable(name, 60) or "no browser"
        """What opens, for people."""
        self.why_none = command if isinstance(command, str) else None
        """In a few words why no window can be opened here, None if one can."""
        name = name.lower().removesuffix(".exe").replace(" ", "-")
        chosen = any(_OWN_PROFILE.match(word) for word in self._command)  # by a person: not ours to delete
        self._chromium = bool(_CHROMIUM.match(name)) and not chosen
        self._firefox = bool(_FIREFOX.match(name)) and not chosen
        self.isolated = self._chromium or self._firefox
        """Whether it is a browser whose profile we choose."""

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        *,
        command: list[str] | None = None,
        leaf: Path | None = None,
        authority: str = "",
        environ: Mapping[str, str] = os.environ,
        hide: tuple[str, ...] = SECRET_VARIABLES,
    ) -> Iterator[Windows]:
        """Get ready to open windows while this lasts; then those that are open are ended, their profiles deleted.

        Profiles are made in `folder`; what a run that was killed has left there is ended and removed first. `command`
        is the browser's words; None: `$BROWSER`, else the first that is found. `leaf` is our own self-signed
        certificate, in PEM: at `authority` (host:port) the windows take it, and warn about any other. The child sees no
        variable named in `hide`. A browser in a snap cannot see `folder`, and has its profiles where it can. Raises
        StoreError where `folder` is not private.
        """
        words = command or _found(environ)
        if isinstance(words, list) and (snap := _snap(words[0], environ)):
            folder = Path(environ.get("HOME") or Path.home(), "snap", snap, "common", "loopback-auth")
        self = cls(folder, words, environ, hide)
        self._leaf, self._authority = leaf, authority
        remove_leftovers(folder)
        try:
            yield self
        finally:
            steps = [window.closing() for window in self._open]
            while steps := [one for one in steps if next(one, self) is not self]:
                time.sleep(PAUSE)
            for window in self._open:
                if window.process.poll() is None:
                    window.process.returncode = 0  # a command that is left alone: nobody waits for it, so no warning

    def show(self, url: str) -> Window | str:
        """Open `url` in a window of its own, or return in a few words why it did not start."""
        if self.why_none is not None:
            return self.why_none
        try:
            profile = Profile.make(self._folder) if self.isolated else None
        except StoreError as error:
            return str(error)
        program, *words = self._command
        if profile is not None:
            words = [*(self._for_chromium if self._chromium else self._for_firefox)(profile.folder), *words]
        process = started([program, *words], url, self._environ, self._hide)
        if isinstance(process, str):
            if profile is not None:
                profile.remove()
            return process
        self._open.append(window := Window(process, profile))
        return window

    def _for_chromium(self, profile: Path) -> list[str]:
        (profile / "Default").mkdir(0o700)
        (profile / "Default" / "Preferences").write_text(json.dumps(CHROMIUM_PREFERENCES))
        as_root = sys.platform == "linux" and os.geteuid() == 0  # where Chromium refuses to run with its sandbox
        return [
            f"--user-data-dir={profile}",
            *CHROMIUM_FLAGS,
            *(["--no-sandbox"] if as_root else []),
            *([f"--ignore-certificate-errors-spki-list={public_key_pin(self._leaf)}"] if self._leaf else []),
        ]

    def _for_firefox(self, profile: Path) -> list[str]:
        preferences = (f"user_pref({json.dumps(name)}, {json.dumps(to)});" for name, to in FIREFOX_PREFERENCES.items())
        (profile / "user.js").write_text("\n".join(preferences) + "\n")
        if self._leaf is not None:
            host, port = re.fullmatch(r"(.*?)(?::(\d+))?", self._authority).groups()  # type: ignore[union-attr]
            # As Firefox keeps what a person has accepted: where, by which hash (the OID of SHA-256), which certificate.
            accepted = f"{host}:{port or 443}:\tOID.2.16.840.1.101.3.4.2.1\t{sha256_fingerprint(self._leaf)}\t\n"
            (profile / "cert_override.txt").write_text(accepted)
        wait = ["-wait-for-browser"] if sys.platform == "win32" else []  # or the process we hold ends at once
        return ["-profile", str(profile), "-no-remote", "-new-instance", *wait]


def _snap(program: str, environ: Mapping[str, str]) -> str | None:
    """Return the name of the snap that a program is in: the program is a link to snap itself, or a script for it."""
    import shutil

    found = shutil.which(program, path=environ.get("PATH"))
    if found is None:
        return None
    if os.path.realpath(found) == "/usr/bin/snap":
        return os.path.basename(found)
    try:
        with open(found, "rb") as file:
            start = file.read(4096)
    except OSError:  # to be run, not to be read
        return None
    script = re.search(rb"/snap/bin/([a-z0-9-]+)", start) if start.startswith(b"#!") else None
    return script[1].decode() if script else None


def _found(environ: Mapping[str, str]) -> list[str] | str:
    """Return the words that start a browser here, one whose profile we can choose if there is one; or why not."""
    otherwise = browser_command(environ)
    if environ.get("BROWSER", "").strip() or (isinstance(otherwise, str) and otherwise != "no browser found here"):
        return otherwise
    if environ.get("WSL_DISTRO_NAME") and not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        return otherwise
    import shutil

    if sys.platform == "darwin":
        folders = ("/Applications", os.path.expanduser("~/Applications"))
        paths = [os.path.join(folder, program) for program in _MACOS for folder in folders]
    elif sys.platform == "win32":
        folders = tuple(environ.get(name, "") for name in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"))
        paths = [os.path.join(folder, program) for program in _WINDOWS for folder in folders if folder]
    else:
        paths = list(_PROGRAMS)
    found = next(filter(None, (shutil.which(path, path=environ.get("PATH")) for path in paths)), None)
    if found is None and otherwise == [""]:
        return "no browser found here"  # Windows' own way to open an address is no command
    return [found] if found else otherwise
