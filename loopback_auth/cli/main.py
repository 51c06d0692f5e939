"""From `argv` to an exit status: the short way for `token`, click for all else, and every error in one form."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as mypy knows it: `typing` takes 5 ms
if TYPE_CHECKING:
    from typing import NoReturn

    from loopback_auth.store.lock import FileLock


def main() -> None:
    """Run the command line and exit."""
    try:
        status = _run(sys.argv[1:])
    except KeyboardInterrupt:  # while it waited for another process, or was still being imported
        os.write(2, b"loopback-auth: error: interrupted\n")
        status = 130
    _leave(status)


def _run(arguments: list[str]) -> int:
    stored = _stored_token(arguments)
    if isinstance(stored, str):
        return _print_token(stored)
    import gc

    gc.set_threshold(50_000)  # imports make no garbage: to look for it at every 700th object costs a tenth of the start
    from loopback_auth.cli.commands import run

    return run(arguments, stored)


def _leave(status: int) -> NoReturn:
    """End the process at once: all is done and written, and tearing down what was imported would take 50 ms."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # absent, or nobody reads it, which `run` has said
            continue
    os._exit(status)


def _stored_token(arguments: list[str]) -> str | FileLock | None:
    """Return the access token for `token [ACCOUNT]` if the stored one will do, now or once another process is done.

    Neither click nor asyncio is needed for that. Else the account's lock, if there is an account to refresh.
    """
    if not arguments or arguments[0] != "token" or len(arguments) > 2 or arguments[-1].startswith("-"):
        return None
    from loopback_auth import folders
    from loopback_auth.usable import usable_now, usable_soon

    account = arguments[1] if len(arguments) == 2 else os.environ.get("LOOPBACK_AUTH_ACCOUNT") or "default"
    return usable_now(folders.accounts(), account) or usable_soon(folders.accounts(), account)


def _print_token(token: str) -> int:
    try:
        os.write(1, token.encode("ascii") + b"\n")
    except OSError as error:
        os.write(
            2, f"loopback-auth: error: the token cannot be written: {os.strerror(error.errno or 0).lower()}\n".encode()
        )
        return 1
    return 0
