"""The tables of the PostgreSQL store, how they are brought up to date, and the rights that using them takes."""

from __future__ import annotations

import psycopg
from psycopg import sql

from loopback_auth.errors import StoreError
from loopback_auth.store.postgresql.connection import Connection, Row

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS loopback_auth.schema (version integer NOT NULL, id text NOT NULL);
    INSERT INTO loopback_auth.schema
    SELECT 0, gen_random_uuid()::text WHERE NOT EXISTS (SELECT FROM loopback_auth.schema);
"""
"""The store has a name of its own: whatever address it is found at, a machine knows what it has kept for it."""
MIGRATIONS = (
    """
    CREATE TABLE loopback_auth.account (
        name         text PRIMARY KEY,
        generation   bigint NOT NULL,                -- of the token set in content
        content      text NOT NULL,                  -- sealed: this server never sees a token
        written      text NOT NULL,                  -- a random name of the statement that brought it
        received_at  timestamptz NOT NULL,           -- when its access token was received
        state        text NOT NULL DEFAULT 'idle' CHECK (state IN ('idle', 'in_flight', 'in_doubt')),
        claim        text,                           -- who sends: a random name for one spend
        claimed_by   text,                           -- the same for people: host and process
        lease_until  timestamptz,                    -- in_flight and older than this is in doubt
        intents      jsonb NOT NULL DEFAULT '[]',    -- one for each time the refresh token was sent, without secrets
        answer       bytea,                          -- what that brought, sealed
        trouble      jsonb,                          -- how the last refresh failed, without secrets
        revision     bigint NOT NULL DEFAULT 1       -- counts the changes of who may send what
    );
    """,
)
"""From an empty schema on, one for each version."""
VERSION = len(MIGRATIONS)


def migrate(connection: Connection, migrations: tuple[str, ...] = MIGRATIONS) -> tuple[int, int]:
    """Bring the tables up to date, all or nothing; return the version before, 0 for none, and after.

    Raises StoreError, also where a later version of this program has been there.
    """
    with connection.transaction(keep=True) as session:
        session.execute("SELECT pg_advisory_xact_lock(hashtext('loopback_auth'))")  # two of these at once: one waits
        session.execute("CREATE SCHEMA IF NOT EXISTS loopback_auth")
        session.execute(_SCHEMA.encode("ascii"))
        before = _version(session)
        if before > len(migrations):
            raise StoreError(
                f"the tables of the store {connection.shown} are of version {before}, made by a later loopback-auth",
                hint="use that one here, too",
            )
        for migration in migrations[before:]:
            session.execute(migration.encode("ascii"))
        session.execute("UPDATE loopback_auth.schema SET version = %s", (len(migrations),))
    return before, len(migrations)


def as_sql(role: str | None = None) -> str:
    """Return what `migrate` does on an empty database, and the rights of who uses it, for somebody else to run."""
    tables = "".join(map(_unindented, (_SCHEMA, *MIGRATIONS)))
    last = f"UPDATE loopback_auth.schema SET version = {VERSION};\n"  # noqa: S608 (a number of ours)
    return f"BEGIN;\nCREATE SCHEMA loopback_auth;\n{tables}{last}COMMIT;\n\n{rights(role)}"


def rights(role: str | None = None) -> str:
    """Return the least rights that `token`, `login` and all other commands but `store init` take, as SQL."""
    name = "loopback_auth_user" if role is None else _identifier(role)
    return (
        f"-- If it is not there yet, as a superuser: CREATE ROLE {name} LOGIN PASSWORD '…';\n"
        f"GRANT USAGE ON SCHEMA loopback_auth TO {name};\n"
        f"GRANT SELECT ON loopback_auth.schema TO {name};\n"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON loopback_auth.account TO {name};\n"
    )


def _identifier(role: str) -> str:
    return sql.Identifier(role).as_string(None)


def _version(session: psycopg.Connection[Row]) -> int:
    row = session.execute("SELECT max(version) FROM loopback_auth.schema").fetchone()
    return row[0] if row is not None and row[0] is not None else 0


def _unindented(text: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in text.strip().splitlines()) + "\n"
