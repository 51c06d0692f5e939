"""From `argv` to an exit status: the short way for `token`, click for all else, and every error in one form."""

from __future__ import annotations

import os
import sys

USAGE_STATUS = 2


def main() -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:]
    token = _stored_token(arguments)
    if token is not None:
        sys.exit(_print_token(token))
    from loopback_auth.cli.commands import run

    sys.exit(run(arguments))


def _stored_token(arguments: list[str]) -> str | None:
    """Return the access token for `token [ACCOUNT]` if the stored one will do: neither click nor asyncio is needed."""
    if not arguments or arguments[0] != "token" or len(arguments) > 2 or arguments[-1].startswith("-"):
        return None
    from loopback_auth import folders
    from loopback_auth.refresh import usable_now

    account = arguments[1] if len(arguments) == 2 else os.environ.get("LOOPBACK_AUTH_ACCOUNT") or "default"
    return usable_now(folders.accounts(), account)


def _print_token(token: str) -> int:
    try:
        os.write(1, token.encode("ascii") + b"\n")
    except OSError as error:
        os.write(
            2, f"loopback-auth: error: the token cannot be written: {os.strerror(error.errno or 0).lower()}\n".encode()
        )
        return 1
    return 0
