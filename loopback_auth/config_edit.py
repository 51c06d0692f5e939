"""Writing to `config.toml` what was asked for, without losing what somebody wrote around it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from loopback_auth import files
from loopback_auth.errors import ConfigurationError, StoreNotWritable
from loopback_auth.text import printable


def save_client(path: str, account: str, name: str, members: Mapping[str, Any]) -> None:
    """Put `[clients.name]` with `members`, and `[accounts.account]` naming it, into the file at `path`.

    Comments, order and every other key stay. The file is replaced whole, 0600; where `path` is a link, what it points
    to is. Raises ConfigurationError, StoreNotWritable.
    """
    path = os.path.realpath(path)
    try:
        with open(path, encoding="utf-8") as file:
            document = tomlkit.parse(file.read())
    except FileNotFoundError:
        document = tomlkit.document()
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigurationError(f"{printable(path)} cannot be read: {printable(error)}") from error
    client = _table(_table(document, "clients"), name)
    for key, value in members.items():
        if client.get(key) != value:
            client[key] = _inline(value) if isinstance(value, Mapping) else value
    _table(_table(document, "accounts"), account)["client"] = name
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise StoreNotWritable(f"the folder of {printable(path)} cannot be made: {reason}") from error
    files.replace(path, tomlkit.dumps(document).encode())


def _table(parent: Any, key: str) -> Any:
    """Return the table under `key`, made if it is not there; a table of tables gets no heading of its own."""
    if key not in parent:
        parent[key] = tomlkit.table(is_super_table=not isinstance(parent, Table))
    return parent[key]


def _inline(members: Mapping[str, Any]) -> Any:
    table = tomlkit.inline_table()
    table.update(members)
    return table
