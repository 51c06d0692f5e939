"""Writing to `config.toml` what was asked for, without losing what somebody wrote around it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, MutableMapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

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
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        document, expected = tomlkit.parse(text), tomllib.loads(text)
    except FileNotFoundError:
        document, expected = tomlkit.document(), {}
    except (OSError, ValueError, TOMLKitError, RecursionError) as error:
        raise ConfigurationError(f"{printable(path)} cannot be read: {printable(error)}") from error
    client = _table(document, "clients", name, path)
    for key, value in members.items():
        if client.get(key) != value:
            client[key] = _inline(value) if isinstance(value, Mapping) else value
    _table(document, "accounts", account, path)["client"] = name
    expected.setdefault("clients", {}).setdefault(name, {}).update(members)
    expected.setdefault("accounts", {}).setdefault(account, {})["client"] = name
    text = tomlkit.dumps(document)
    if not _says(text, expected):  # dotted keys: a heading above them would take them into its table
        raise _no_tables("clients", path)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise StoreNotWritable(f"the folder of {printable(path)} cannot be made: {reason}") from error
    files.replace(path, text.encode())


def _table(document: Any, kind: str, name: str, path: str) -> Any:
    """Return the table `[kind.name]`, made if it is not there; a table of tables gets no heading of its own."""
    tables = document.setdefault(kind, tomlkit.table(is_super_table=True))
    if isinstance(tables, MutableMapping):
        if name not in tables:
            tables[name] = tomlkit.inline_table() if isinstance(tables, InlineTable) else tomlkit.table()
        if isinstance(tables[name], Mapping):
            return tables[name]
    raise _no_tables(kind, path)


def _no_tables(kind: str, path: str) -> ConfigurationError:
    return ConfigurationError(f"{kind} in {printable(path)} is not a table of tables", hint=f"write [{kind}.NAME]")


def _says(text: str, expected: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == expected
    except ValueError:
        return False


def _inline(members: Mapping[str, Any]) -> Any:
    table = tomlkit.inline_table()
    table.update(members)
    return table
