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
    except BaseException as error:  # a traceback would show messages that nobody has looked at
        what, hint = unexpected(error)
        os.write(2, f"loopback-auth: error: {what}\nloopback-auth: hint: {hint}\n".encode())
        status = 1
    _leave(status)


def unexpected(error: BaseException) -> tuple[str, str]:
    """Return what is said of an error that nobody thought of, and a hint. No message, no locals: they may be secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "?" if trace is None else f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
    return (
        f"unexpected: {type(error).__name__} at {where}",
        "this is a fault of loopback-auth: please report it, with the command you typed",
    )


def _run(arguments: list[str]) -> int:
    stored = _stored_token(arguments)
    if isinstance(stored, str):
        return _print_token(stored)
    _no_core_dumps()
    import gc

    gc.set_threshold(50_000)  # imports make no garbage: to look for it at every 700th object costs a tenth of the start
    from loopback_auth.cli.commands import run

    return run(arguments, stored)


def _leave(status: int) -> NoReturn:
    """End the process at once: all is done and written, and tearing down what was imported would take 50 ms."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S112 (absent, or it takes nothing, which `run` has said)
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
    try:
        folder = folders.accounts()
    except (OSError, ValueError):  # `config.toml` cannot be read, which the full path says
        return None
    token = usable_now(folder, account)
    if token is None:
        _no_core_dumps()
        return usable_soon(folder, account)
    return token


def _no_core_dumps() -> None:
    """Let no memory reach a disk, wherever it takes longer than to print a token, which an import would delay."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _print_token(token: str) -> int:
    try:
        os.write(1, token.encode("ascii") + b"\n")
    except OSError as error:
        os.write(
            2, f"loopback-auth: error: the token cannot be written: {os.strerror(error.errno or 0).lower()}\n".encode()
        )
        return 1
    return 0
