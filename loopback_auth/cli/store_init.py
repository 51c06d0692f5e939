"""`loopback-auth store init`: the tables of a PostgreSQL store, and the rights that its users need."""

from __future__ import annotations

import click

from loopback_auth import stores
from loopback_auth.cli import voice


@click.command(short_help="make the tables of a PostgreSQL store, or bring them up to date")
@click.option("--role", metavar="NAME", help="Whom the printed rights are for (loopback_auth_user).")
@click.option("--sql", "only_sql", is_flag=True, help="Change nothing: print all of it as SQL.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(role: str | None, only_sql: bool, quiet: bool) -> None:
    """Make the tables of the PostgreSQL store that LOOPBACK_AUTH_STORE names, or bring them up to date.

    It needs the rights of whoever owns the database. What everybody else needs, and no more, is printed as SQL.

    \b
    LOOPBACK_AUTH_STORE=postgresql://fleet_owner@db.example/fleet \\
      loopback-auth store init --role fleet_app >rights.sql
    psql -f rights.sql postgresql://fleet_owner@db.example/fleet
    """
    from loopback_auth.store.postgresql import schema

    if role is not None and not (role and role.isprintable()):  # a line of its own would end the comment it is in
        raise click.UsageError("the role's name is empty, or has a character that cannot be printed")

    if only_sql:
        click.echo(schema.as_sql(role), nl=False)
        return
    connection = stores.postgresql_connection()
    before, after = schema.migrate(connection)
    if not quiet:
        made = {0: "has its tables now", after: "was up to date"}.get(before, f"went from version {before} to {after}")
        voice.note(f"The store {connection.shown} {made}. Its users need these rights:")
    click.echo(schema.rights(role), nl=False)
