"""Real processes that have the store open, are told what to do with it, and can be killed.

`Nursery` starts this file as a program, which imports the place by its name and whatever a refresh needs, once. It
forks for every `Process`; the child opens the store and then does what it is sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from loopback_auth import errors
from loopback_auth.store.base import Intent, Record, Store, Trouble
from tests.conformance.place import place_called

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds that any one thing may take."""
_PROGRAM = "import sys; from tests.conformance.process import serve; serve(*sys.argv[1:])"
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Process:
    """A process with the store open: what is done with `store`, and with what that returns, is done over there."""

    def __init__(self, nursery: Nursery, pid: int, connection: Connection) -> None:
        self._nursery = nursery
        self._connection = connection
        self.pid = pid
        self.alive = True

    @property
    def store(self) -> Store:
        return cast(Store, Remote(self, 0))

    def run(self, function: Callable[Concatenate[Store, _P], _T], *args: _P.args, **also: _P.kwargs) -> _T:
        """Call a function of a module over there, with the store before the arguments."""
        return self.begin(function, *args, **also).result()

    def begin(self, function: Callable[Concatenate[Store, _P], _T], *args: _P.args, **also: _P.kwargs) -> Pending[_T]:
        """Do the same, and go on here meanwhile."""
        self._connection.send(("run", function, args, also))
        return Pending(self)

    def kill(self) -> None:
        """Kill it (SIGKILL), and wait until the system has let go of all that it held."""
        self.end(signal.SIGKILL)

    def end(self, number: int = 0) -> int:
        """Wait for its end, after a signal where one is given; return what ended it."""
        if not self.alive:
            return 0
        self.alive = False
        ended = self._nursery.order(end=self.pid, signal=number)
        self._connection.close()
        return int(ended)

    def until_stopped(self) -> None:
        """Wait until it has stopped itself."""
        deadline = time.monotonic() + PATIENCE
        while self._nursery.order(state=self.pid) != "stopped":
            assert time.monotonic() < deadline, "the process does not stop"
            time.sleep(0.005)

    def has_ended_work(self) -> bool:
        """Whether its answer is there."""
        return self._connection.poll(0)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def ask(self, *order: object) -> Any:
        self._connection.send(order)
        return self.answer()

    def answer(self) -> Any:
        """Return what it says to the last order, or raise what went wrong over there."""
        assert self._connection.poll(PATIENCE), "the process does not answer"
        kind, *rest = self._connection.recv()
        if kind == "raised":
            name, message, details = rest
            error = getattr(errors, name, None)
            if error is None:
                raise AssertionError(details)
            raise error(message, **({"account": None} if error is errors.TokensNotStored else {}))
        return self._here(rest[0])

    def _here(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._here(one) for one in value]
        return Remote(self, value.number) if isinstance(value, _There) else value


class Pending(Generic[_T]):
    """What a process is at."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def result(self) -> _T:
        return cast(_T, self._process.answer())


class Remote:
    """An object of another process."""

    def __init__(self, process: Process, number: int) -> None:
        self._process = process
        self._number = number

    def __getattr__(self, name: str) -> Any:
        is_method, value = self._process.ask("get", self._number, name)
        if is_method:
            return lambda *args: self._process.ask("call", self._number, name, args)
        return value

    def __enter__(self) -> Any:
        return self._process.ask("call", self._number, "__enter__", ())

    def __exit__(self, *_: object) -> None:
        if self._process.alive:
            self._process.ask("call", self._number, "__exit__", (None, None, None))


class Nursery:
    """Makes processes for one kind of place."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> Nursery:
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        self._listener = Listener(os.path.join(self._folder.name, "socket"), "AF_UNIX")
        home = os.path.join(self._folder.name, "home")
        self._program = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, self._place, str(self._listener.address)],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
                "PYTHONDONTWRITEBYTECODE": "1",
                "LOOPBACK_AUTH_HOME": home,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with self._program as program:
            assert program.stdin is not None
            program.stdin.close()
            program.wait(PATIENCE)
        self._listener.close()
        self._folder.cleanup()

    def order(self, **order: object) -> Any:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(order) + "\n")
        self._program.stdin.flush()
        answer = self._program.stdout.readline()
        assert answer, f"{self._place} cannot be imported by another process"
        return json.loads(answer)

    def process(self, folder: Path, machine: str) -> Process:
        pid = self.order(folder=str(folder), machine=machine)
        return Process(self, pid, self._listener.accept())


# -- the program


class _There:
    """Stands for an object that stays over there."""

    def __init__(self, number: int) -> None:
        self.number = number


def serve(place: str, address: str) -> None:
    import tests.conformance.work  # noqa: F401 (for the children)
    from tests.forking import import_all

    import_all()
    kind = place_called(place)
    for line in sys.stdin:
        order = json.loads(line)
        if "end" in order:
            answer: object = _end(**order)
        else:
            answer = _state(**order) if "state" in order else _fork(kind, address, **order)
        print(json.dumps(answer), flush=True)


def _fork(kind: type[Any], address: str, folder: str, machine: str) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        with Client(address, "AF_UNIX") as connection:
            _Child(connection).serve(lambda: kind(Path(folder)).open(machine))
    finally:
        os._exit(0)


def _end(end: int, signal: int) -> int:
    if signal:
        os.kill(end, signal)
    _, status = os.waitpid(end, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _state(state: int) -> str:
    child, status = os.waitpid(state, os.WNOHANG | os.WUNTRACED)
    return "stopped" if child and os.WIFSTOPPED(status) else "running"


class _Child:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._objects: list[Any] = []

    def serve(self, opened: Callable[[], Store]) -> None:
        with contextlib.suppress(EOFError):
            while True:
                order = self._connection.recv()
                try:
                    if not self._objects:
                        self._objects.append(opened())
                    reply: tuple[Any, ...] = ("value", self._perform(*order))
                except BaseException as error:
                    reply = ("raised", type(error).__name__, str(error), traceback.format_exc())
                self._connection.send(reply)

    def _perform(self, what: str, *rest: Any) -> Any:
        if what == "run":
            function, args, also = rest
            return function(self._objects[0], *args, **also)
        number, name, *args = rest
        value = getattr(self._objects[number], name)
        if what == "get":
            return callable(value), None if callable(value) else value
        return self._kept(value(*args[0]))

    def _kept(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._kept(one) for one in value]
        if value is None or isinstance(value, bool | int | float | str | bytes | Record | Intent | Trouble):
            return value
        self._objects.append(value)
        return _There(len(self._objects) - 1)
