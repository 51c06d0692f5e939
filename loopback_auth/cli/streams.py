"""Standard streams that are closed, or full."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, cast

from loopback_auth.errors import LoopbackAuthError


class OutputNotWritten(LoopbackAuthError):
    """Stdout takes no more. What the command has done besides is done."""


class Output:
    """A stream, whose failures say that it is the output that could not be written; but who has hung up is no failure.

    Everything else is as the stream has it.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> Output:
        """The same for bytes."""
        return Output(self._stream.buffer)

    def write(self, data: str | bytes) -> int:
        """Write it. Raises OutputNotWritten, BrokenPipeError."""
        return cast(int, self._tried("write", data))

    def writelines(self, lines: Iterable[str | bytes]) -> None:
        """Write them. Raises OutputNotWritten, BrokenPipeError."""
        self._tried("writelines", lines)

    def flush(self) -> None:
        """Write what is still kept. Raises OutputNotWritten, BrokenPipeError."""
        self._tried("flush")

    def _tried(self, method: str, *data: object) -> object:
        try:
            return getattr(self._stream, method)(*data)
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise OutputNotWritten(f"the output cannot be written: {reason}") from error


def prepare() -> None:
    """Give a program started with `<&-` or `>&-` an empty stream there, before a socket gets that number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115 (as long as the program)
    sys.stdout = cast(Any, Output(sys.stdout))
