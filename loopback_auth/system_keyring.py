"""The system's keyring, through the `keyring` library: never one that keeps secrets in plain text, no call without end.

A keyring is asked in a thread of its own, since a bus or a prompt that nobody answers would hold the caller for ever. A
call that was given up may still happen later; until it has, no other is made. The library takes 80 ms to import, and is
an extra: it is imported when it is needed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from loopback_auth.errors import KeyringRefused, StoreError
from loopback_auth.text import printable

TIME_LIMIT = 15.0
"""Seconds a keyring has for one call."""
_T = TypeVar("_T")
_NONE = "keyring.backends.fail"
_OFF = "keyring.backends.null"
_OWN = "keyring.backends."
_PLAIN = ("keyrings.alt.", "keyrings.unencrypted")
"""Where backends come from that write files: in plain text, or with a password they ask for on a terminal."""


class Keyring:
    """The items of one service. Whatever goes wrong is a StoreError, within `time_limit` seconds for each call.

    `instead` is the hint that says what to type to do without a keyring.
    """

    def __init__(self, service: str, *, instead: str, time_limit: float = TIME_LIMIT) -> None:
        self._service = service
        self._instead = instead
        self._time_limit = time_limit
        self._backend: Any = None

    @property
    def backend(self) -> str | None:
        """What the keyring is called, for people; None before the first call that it answered."""
        return None if self._backend is None else _name(self._backend)

    def get(self, user: str) -> str | None:
        """Return the item, None if there is none."""
        found = self._call(lambda backend: backend.get_password(self._service, user))
        if found is not None and not isinstance(found, str):
            raise KeyringRefused(f"{self._named} gave something that is no text")
        return found

    def set(self, user: str, text: str) -> None:
        """Keep an item, in the place of an earlier one. That it is kept only `get` shows."""
        self._call(lambda backend: backend.set_password(self._service, user, text), text)

    def remove(self, user: str) -> bool:
        """Remove an item; return whether it was there."""
        if self.get(user) is None:
            return False
        self._call(lambda backend: backend.delete_password(self._service, user))
        if self.get(user) is not None:
            raise KeyringRefused(f"{self._named} removed nothing", hint=self._instead)
        return True

    @property
    def late(self) -> Call[Any] | None:
        """The call that was given up and may still happen, in the whole process; None without one."""
        return _late()

    # -- within

    @property
    def _named(self) -> str:
        name = self.backend
        return "the keyring" if name is None else f"the keyring ({name})"

    def _call(self, work: Callable[[Any], _T], secret: str = "") -> _T:
        """Do the work with the backend. Nothing of `secret` gets into an error, whatever the backend makes of it."""
        if _late() is None:
            call = Call(lambda: work(self._opened()))
            if call.ended_within(self._time_limit):
                return self._judged(call, secret)
            _given_up.append(call)
        raise StoreError(
            f"{self._named} did not answer within {self._time_limit:g} s", hint=(*_not_answered(), self._instead)
        )

    def _judged(self, call: Call[_T], secret: str) -> _T:
        error = call.error
        if error is None:
            return call.result()
        if isinstance(error, StoreError):
            raise error
        if not isinstance(error, Exception):
            raise KeyringRefused(f"{self._named} ended with {type(error).__name__}", hint=self._instead)
        if self._backend is None:
            raise StoreError(f"the keyring cannot be opened: {_said(error, secret)}", hint=self._instead)
        if type(error).__name__ == "KeyringLocked":  # a class of the library's, which only this thread need not import
            raise StoreError(f"{self._named} is locked: {_said(error, secret)}", hint=(*_not_answered(), self._instead))
        raise KeyringRefused(f"{self._named} refused: {_said(error, secret)}", hint=self._instead)

    def _opened(self) -> Any:
        """Return the backend, once it was found to be one that secrets can be trusted to. May take for ever."""
        if self._backend is None:
            try:
                import keyring  # type: ignore[import-not-found,unused-ignore]  # an extra
            except ImportError:
                raise StoreError(
                    "the library for the system's keyring is not installed",
                    hint=("pipx inject loopback-auth keyring", self._instead),
                ) from None
            self._backend = self._checked(keyring.get_keyring())
        return self._backend

    def _checked(self, backend: Any) -> Any:
        modules = [f"{kind.__module__}." for kind in type(backend).__mro__]
        if f"{_OWN}chainer." in modules:  # it is as good as what it would write to
            first = next(iter(backend.backends), None)
            if first is not None:
                return self._checked(first)
        if f"{_NONE}." in modules or f"{_OWN}chainer." in modules:
            raise StoreError("there is no keyring here", hint=(*_no_keyring(), self._instead))
        name = _name(backend)
        if f"{_OFF}." in modules:
            raise StoreError(f"the keyring is turned off ({name})", hint=self._instead)
        if (
            any(module.startswith(_PLAIN) for module in modules)
            or "plain" in type(backend).__name__.lower()
            or not (modules[0].startswith(_OWN) or backend.priority >= 1)  # the library's own measure: not recommended
        ):
            raise StoreError(
                f"{name} is no keyring to trust with secrets: it may keep them in plain text",
                hint=("choose the system's own: unset PYTHON_KEYRING_BACKEND, or mend keyringrc.cfg", self._instead),
            )
        return backend


class Call(Generic[_T]):
    """Work in a thread that keeps nobody from ending."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self.error: BaseException | None = None
        self._results: list[_T] = []
        self._work = work
        self._afterwards: list[Callable[[], None]] = []
        self._ended = threading.Event()
        self._changing = threading.Lock()

    def ended_within(self, seconds: float) -> bool:
        """Start it, wait, and return whether it has ended. Raises StoreError: the interpreter is about to leave."""
        thread = threading.Thread(target=self._run, name="keyring", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            raise StoreError("the keyring cannot be asked any more: the program is ending") from None
        return self._ended.wait(seconds)

    @property
    def has_ended(self) -> bool:
        """Whether it is over, well or not."""
        return self._ended.is_set()

    def result(self) -> _T:
        """Return what came of it. It has ended without an error."""
        return self._results[0]

    def afterwards(self, what: Callable[[], None]) -> None:
        """Do this once it has ended; at once if it has."""
        with self._changing:
            if not self.has_ended:
                self._afterwards.append(what)
                return
        what()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # it is the caller's
            self.error = error
        with self._changing:
            self._ended.set()
        for what in self._afterwards:
            what()


_given_up: list[Call[Any]] = []


def _late() -> Call[Any] | None:
    _given_up[:] = [call for call in _given_up if not call.has_ended]
    return next(iter(_given_up), None)


def _name(backend: Any) -> str:
    try:
        return printable(backend.name, 60)
    except Exception:  # a backend's own property
        return printable(type(backend).__name__, 60)


def _said(error: Exception, secret: str) -> str:
    """Return what a backend says, unless some of the secret is in it."""
    try:
        text = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
    except Exception:  # a backend's own class
        text = ""
    words = [secret[at : at + _PIECE] for at in range(0, max(len(secret) - _PIECE, 0) + 1, _PIECE // 2)]
    if not text or any(word in text for word in words if word):
        return printable(type(error).__name__)
    return printable(text)


_PIECE = 8


def _not_answered() -> tuple[str, ...]:
    return _no_bus() or ("unlock it, or answer what it asks, and run the command again",)


def _no_keyring() -> tuple[str, ...]:
    return _no_bus() or ("start one, such as gnome-keyring or KWallet, and run the command again",)


def _no_bus() -> tuple[str, ...]:
    if sys.platform != "linux" or os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return ()
    return (
        "there is no session bus here, as often under SSH; make one: dbus-run-session -- bash",
        "and in it: gnome-keyring-daemon --unlock --components=secrets, with the password on stdin",
    )
