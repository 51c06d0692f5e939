"""Addresses of servers, and the names that every cluster of the tests knows."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote, urlencode

PASSWORD = "s3kr1t-postgres"
"""Of every role but the superuser."""
ROLE = "app"
"""A role of every new cluster which is not a superuser; it owns the database of this name."""
SUPERUSER = "postgres"


class Server(Protocol):
    """What has a port and an address: a cluster, a pooler."""

    @property
    def port(self) -> int: ...

    def url(self, **parameters: object) -> str:
        """See `postgresql_url`."""


def postgresql_url(**parameters: object) -> str:
    """A postgresql:// URL: `user`, `password`, `host`, `port` and `dbname` in their places, the rest as its query."""
    user, password, host, port, name = (
        quote(str(parameters.pop(key)), safe="") for key in ("user", "password", "host", "port", "dbname")
    )
    query = urlencode(parameters, quote_via=quote)
    return f"postgresql://{user}:{password}@{host}:{port}/{name}" + (f"?{query}" if query else "")
