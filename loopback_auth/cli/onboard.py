"""`loopback-auth onboard`: a list of accounts, each logged in through a browser window of its own."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import click

from loopback_auth.beginning import DEFAULT_TIMEOUT
from loopback_auth.cli import options
from loopback_auth.errors import ConfigurationError
from loopback_auth.text import printable

MOST = 4 * 1024 * 1024
"""Bytes of a manifest."""


@click.command(short_help="log in to a list of accounts")
@click.argument("file", required=False)
@click.option("--new-manifest", is_flag=True, help="Print an example of FILE, with comments.")
@click.option("--client", metavar="NAME", help="The client of config.toml for accounts that name none.")
@click.option("--server", metavar="NAME", help="The server for accounts that name no client: sandbox.")
@click.option("--redo", metavar="ACCOUNT", multiple=True, help="Log in to this one though it is done; more than once.")
@click.option("--parallel", type=click.IntRange(1, 100), default=1, metavar="N", help="Windows open at once (1).")
@click.option("--browser", metavar="COMMAND", help="What opens a window, instead of $BROWSER: chromium, firefox, …")
@click.option("--no-browser", is_flag=True, help="Open nothing: print the addresses.")
@click.option("--board/--no-board", default=None, help="Open the board in your browser; on a terminal, the default.")
@click.option("--certificate", metavar="FILE", help="Your own certificate for an https redirect URI (PEM).")
@click.option("--private-key", metavar="FILE", help="Its private key, if it is not in the same file.")
@click.option(
    "--timeout",
    type=options.Duration(),
    default=DEFAULT_TIMEOUT,
    metavar="TIME",
    help="How long to wait for each (5m).",
)
@click.option("--yes", is_flag=True, help="Ask no questions.")
@click.option("--report", metavar="FILE", help="Write what became of each account to FILE (CSV).")
@click.option("--json", "as_json", is_flag=True, help="Print what became of each account as JSON on stdout.")
@click.option("-v", "--verbose", is_flag=True, help="Say what happens, with figures.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(file: str | None, **flags: Any) -> int:
    """Log in to every account of FILE that is not logged in yet, and store the tokens.

    FILE is CSV (account,client,company_id,login,notes), TOML, or a name a line; - is stdin. Each login opens in a
    browser window of its own, with a fresh profile. Run it again to go on where it was.

    \b
    loopback-auth onboard --new-manifest >accounts.csv
    loopback-auth onboard accounts.csv
    loopback-auth onboard accounts.csv --redo cafe-roma
    printf 'one\\ntwo\\n' | loopback-auth onboard - --server sandbox
    """
    if flags["new_manifest"]:
        from loopback_auth.onboarding.manifest import NEW_MANIFEST

        click.echo(NEW_MANIFEST, nl=False)
        return 0
    if file is None and sys.stdin.isatty():
        raise click.UsageError("which accounts? give a FILE; --new-manifest prints an example")
    if flags["browser"] is not None:
        flags["browser"] = _words(flags["browser"])
    from loopback_auth.cli import onboarding

    source, content = _read(file or "-")
    return onboarding.run(source, content, flags)


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise click.UsageError(f"--browser {printable(command, 60)} is not a command line")
    return words


def _read(file: str) -> tuple[str, bytes]:
    """Return what a manifest is called, and what is in it. Raises ConfigurationError."""
    if file == "-":
        return "stdin", sys.stdin.buffer.read(MOST + 1)
    try:
        with open(file, "rb") as manifest:
            return printable(os.path.basename(file), 60), manifest.read(MOST + 1)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not a path"
        raise ConfigurationError(
            f"{printable(file)} cannot be read: {reason}", hint="an example: loopback-auth onboard --new-manifest"
        ) from error
