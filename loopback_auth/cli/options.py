"""What several commands take: an account's name, durations with a unit, `-v` and `-q`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import click

from loopback_auth.errors import ConfigurationError, LoopbackAuthError
from loopback_auth.secret import Secret
from loopback_auth.store.head import tokens_path
from loopback_auth.text import printable

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """`90s`, `5m`, `1h`, `1.5h`, or plain seconds; as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip()
        number = text.rstrip("smhd")
        try:
            seconds = float(number) * _UNITS[text[len(number) :]]
        except (ValueError, KeyError):
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"{printable(value, 40)} is not a duration: write 90s, 5m or 1h", param, ctx)
        return seconds


def default_account() -> str:
    """Return the account of a command that names none: `LOOPBACK_AUTH_ACCOUNT`, else `default`."""
    return valid(os.environ.get("LOOPBACK_AUTH_ACCOUNT") or "default")


def _account(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str:
    return default_account() if name is None else valid(name)


def valid(name: str) -> str:
    """Return a name that an account may have. Raises UsageError."""
    try:
        tokens_path("", name)
    except ConfigurationError as error:
        raise click.UsageError(f"{error}: {' '.join(error.hint)}") from error
    return name


def _account_or_none(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    return None if name is None else valid(name)


def account(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument ACCOUNT: `LOOPBACK_AUTH_ACCOUNT`, else `default`."""
    return click.argument("account", required=False, callback=_account)(function)


def account_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--account NAME`, for commands whose argument is something else."""
    return click.option("--account", metavar="NAME", callback=_account, help="Which account (default).")(function)


def _accounts(_context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(valid, names))


def accounts(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument ACCOUNTS: any number of names, none for all."""
    return click.argument("accounts", nargs=-1, callback=_accounts)(function)


def account_or_all(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument ACCOUNT: None where it is not given."""
    return click.argument("account", required=False, callback=_account_or_none)(function)


def shown_token(token: Secret, account: str) -> str:
    """Return the access token for stdout. Raises LoopbackAuthError: one with a line break is stored, never printed."""
    text = token.reveal()
    if not (text.isascii() and text.isprintable()):
        raise LoopbackAuthError(
            f"the access token of account {account} holds a line break or another character that is never printed",
            hint="use it from Python: loopback_auth.token_source()",
        )
    return text
