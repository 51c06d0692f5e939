"""The commands by name, imported when called, and the one place where an exception becomes an exit status."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

from loopback_auth.cli import streams, voice
from loopback_auth.cli.group import LazyGroup
from loopback_auth.cli.main import unexpected
from loopback_auth.cli.signals import Interrupted
from loopback_auth.errors import LoopbackAuthError
from loopback_auth.text import printable

if TYPE_CHECKING:
    from loopback_auth.store.base import Lock

COMMANDS = {
    "login": "log in once, in the browser; the tokens are stored",
    "onboard": "log in to a list of accounts, one window after the other",
    "token": "print a valid access token, refreshed when needed",
    "status": "show accounts: what is stored, for how long, where",
    "refresh": "refresh an account's tokens now",
    "logout": "forget an account's tokens",
    "api": "GET below the server's API base with the access token",
    "setup": "write config.toml by answering questions",
    "store": "set up a store, seal it, or move accounts to another",
    "certificate": "show, renew or trust the certificate of https redirects",
    "sandbox": "run a stand-in for the authorization server",
}
ALIASES = {"list": "status"}

EPILOG = """\b
Begin without any keys:
  loopback-auth login --server sandbox
  curl -H "Authorization: Bearer $(loopback-auth token)" URL
"""


@click.command(
    cls=LazyGroup,
    table=COMMANDS,
    aliases=ALIASES,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.version_option(None, "--version", package_name="loopback-auth", message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context) -> None:
    """Log in to an OAuth 2.0 authorization server with one command, and hand a valid access token to any script.

    Without ACCOUNT a command is about the account LOOPBACK_AUTH_ACCOUNT names, else about the one called default.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: list[str], lock: AbstractContextManager[Lock] | None = None) -> int:
    """Run a command and return its exit status. Whatever goes wrong is said here, in one form.

    `lock` is what `token` has waited for, held or not.
    """
    streams.prepare()
    try:
        result = group.main(arguments, prog_name="loopback-auth", standalone_mode=False, obj=lock)
        sys.stdout.flush()
    except LoopbackAuthError as error:
        voice.error(str(error), *error.hint)
        return error.exit_status
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.UsageError as error:
        voice.error(_lowered(error.format_message()), *_usage_hints(error))
        return 2
    except (Interrupted, click.Abort, KeyboardInterrupt) as stopped:
        if words := str(stopped) if isinstance(stopped, Interrupted) else "interrupted":
            voice.error(words)
        return 128 + (stopped.number if isinstance(stopped, Interrupted) else signal.SIGINT)
    except (BrokenPipeError, SystemExit):  # the second is click's answer to the first
        # Whoever read our output has gone: that is not our failure; Python must not try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except Exception as error:
        voice.error(*unexpected(error))
        return 1
    return result if isinstance(result, int) else 0


def _lowered(message: str) -> str:
    message = printable(message.replace("\n", " ")).removesuffix(".")
    return message[:1].lower() + message[1:]


def _usage_hints(error: click.UsageError) -> tuple[str, ...]:
    path = error.ctx.command_path if error.ctx else "loopback-auth"
    return (f"see {path} --help",)
