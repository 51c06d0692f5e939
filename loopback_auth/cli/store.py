"""`loopback-auth store`: what is done to a store as a whole. One file per command, `store_NAME.py`."""

from __future__ import annotations

import click

from loopback_auth.cli.group import LazyGroup

COMMANDS = {
    "init": "make the tables of a PostgreSQL store, or bring them up to date",
    "copy": "move accounts from one store to another; nothing is spent",
    "seal": "encrypt what is stored",
    "unseal": "store it as it is again",
    "rekey": "encrypt it with the first of the keys",
}


@click.command(
    cls=LazyGroup,
    table=COMMANDS,
    prefix="store_",
    short_help="set up a store, seal it, or move accounts to another",
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.pass_context
def command(context: click.Context) -> None:
    """Do something to a store as a whole. LOOPBACK_AUTH_STORE names it, or store in config.toml.

    \b
    file:/folder          the usual one; without a folder, the usual place
    keyring:              the system's keyring
    postgresql://HOST/DB  one for many machines
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
