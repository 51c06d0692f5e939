"""Which store an address names: `file:/folder`, `keyring:`, `postgresql://…`; and what it is sealed with."""

from __future__ import annotations

import os
from collections.abc import Mapping

from loopback_auth import config_file, folders
from loopback_auth.errors import ConfigurationError
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Store
from loopback_auth.store.file import FileStore
from loopback_auth.text import printable


def open_store(environ: Mapping[str, str] = os.environ) -> Accounts:
    """Return the accounts of the store that `LOOPBACK_AUTH_STORE` names, or `store` in `config.toml`.

    Without either, those in the usual folder. Raises ConfigurationError.
    """
    try:
        address = folders.store_address(environ)
    except (OSError, ValueError):
        config_file.read(environ)  # says what is wrong with it
        raise ConfigurationError("store in config.toml is not text", hint='store = "file:/folder"') from None
    return open_at(address, environ)


def open_at(address: str, environ: Mapping[str, str] = os.environ) -> Accounts:
    """Return the accounts of the store at an address. Raises ConfigurationError."""
    return Accounts(_store_at(address, environ))


def _store_at(address: str, environ: Mapping[str, str]) -> Store:
    kind = address.partition(":")[0]
    if kind == "file" and ":" in address:
        return FileStore(folders.folder_of(address, environ), allow_network=_allows_network_store(environ))
    raise ConfigurationError(
        f"there is no store of the kind {printable(kind, 40)}",
        hint="unset LOOPBACK_AUTH_STORE, or set it to file:/some/folder",
    )


def _allows_network_store(environ: Mapping[str, str]) -> bool:
    """Look at that key alone: what is stored can be used whatever else is wrong in `config.toml`."""
    try:
        return config_file.read(environ)[0].get("allow_network_store") is True
    except ConfigurationError:
        return False
