"""`loopback-auth store`: what is done to a store as a whole. One file per command, `store_NAME.py`."""

from __future__ import annotations

import click

from loopback_auth.cli.group import LazyGroup

COMMANDS = {
    "init": "make the tables of a PostgreSQL store, or bring them up to date",
    "copy": "move accounts from one store to another; nothing is spent (also: move)",
    "seal": "encrypt the tokens that are stored",
    "unseal": "store tokens in clear again",
    "rekey": "encrypt them with a new key",
}


@click.command(
    cls=LazyGroup,
    table=COMMANDS,
    aliases={"move": "copy"},
    prefix="store_",
    short_help="set up a store, seal it, or move accounts to another",
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.pass_context
def command(context: click.Context) -> None:
    """Choose where accounts are kept, encrypt them there, or move them. Where that is, LOOPBACK_AUTH_STORE says, or
    store in config.toml:

    \b
    file:/folder               a folder; file: alone is the usual one
    keyring:                   the system's keyring
    postgresql://USER@HOST/DB  a database, for many machines

    \b
    loopback-auth store copy file: keyring:     move all accounts to the keyring
    LOOPBACK_AUTH_STORE=keyring: loopback-auth status
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
