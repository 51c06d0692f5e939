"""Which store an address names: `file:/folder`, `keyring:`, `postgresql://…`; and what it is sealed with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loopback_auth import config_file, folders, store_key
from loopback_auth.errors import ConfigurationError, StoreUnsafe
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Store
from loopback_auth.store.cache import AccessTokenCache
from loopback_auth.store.file import FileStore
from loopback_auth.store.head import valid_name
from loopback_auth.store.keys import Keys
from loopback_auth.store.sealed import SealedStore
from loopback_auth.text import printable

if TYPE_CHECKING:
    from loopback_auth.store.postgresql.connection import Connection


def open_store(environ: Mapping[str, str] | None = None) -> Accounts:
    """Return the accounts of the store that `LOOPBACK_AUTH_STORE` names, or `store` in `config.toml`.

    Without either, those in the usual folder. `environ` stands in the place of the process's environment variables.
    Raises ConfigurationError.
    """
    environ = os.environ if environ is None else environ  # as a default, `help` would print it, secrets and all
    return open_at(_address(environ), environ)


def _address(environ: Mapping[str, str]) -> str:
    try:
        return folders.store_address(environ)
    except PermissionError as error:
        path = printable(os.path.join(folders.configuration(environ), "config.toml"))
        raise StoreUnsafe(
            f"{path} may name another store, and cannot be read, or was written by another user",
            hint=(f"look at it: ls -l {path}", "or say which store is meant: LOOPBACK_AUTH_STORE=file:"),
        ) from error
    except (OSError, ValueError):
        config_file.read(environ)  # says what is wrong with it
        raise ConfigurationError("store in config.toml is not text", hint='store = "file:/folder"') from None


def postgresql_connection(environ: Mapping[str, str] = os.environ) -> Connection:
    """Return a connection to the PostgreSQL store that is named, not yet made. Raises ConfigurationError."""
    address = _address(environ)
    if not _is_postgresql(address):
        raise ConfigurationError(
            f"the store {printable(folders.without_password(address))} has no tables to be made",
            hint="name a PostgreSQL server: LOOPBACK_AUTH_STORE=postgresql://OWNER@HOST/DATABASE",
        )
    _import_psycopg()
    from loopback_auth.store.postgresql.connection import Connection

    return Connection(address, environ)


def _is_postgresql(address: str) -> bool:
    return address.startswith(("postgresql://", "postgres://"))


def _import_psycopg() -> None:
    try:
        import psycopg  # noqa: F401 (only to say what is missing)
    except ImportError:
        raise ConfigurationError(
            "the store is a PostgreSQL server, and the library for that is not installed",
            hint="pipx inject loopback-auth 'psycopg[binary]', or: pip install 'loopback-auth[postgresql]'",
        ) from None


def open_at(address: str, environ: Mapping[str, str] = os.environ) -> Accounts:
    """Return the accounts of the store at an address, sealed where a key is named. Raises ConfigurationError.

    The key is fetched when something sealed is read or written, and not before.
    """
    store, keys = _store_at(address, environ), store_key.named(environ)
    if store.shared and keys is None:
        raise ConfigurationError(
            f"{printable(store.address)} is a shared store, which is always sealed, and no key was given",
            hint=(
                f"the key of the store's other machines goes into {store_key.VARIABLE}",
                f"on the first of them {store_key.MAKE_ONE}",
            ),
        )
    cache = AccessTokenCache(folders.folder_of(address, environ)) if store.shared else None
    return Accounts(SealedStore(store, keys, allow_plain=not store.shared), cache)


def keys_of(environ: Mapping[str, str] = os.environ) -> Keys | None:
    """Fetch and return the keys of the store, None where none are named. Raises ConfigurationError."""
    keys = store_key.named(environ)
    return None if keys is None else keys()


def _store_at(address: str, environ: Mapping[str, str]) -> Store:
    kind = address.partition(":")[0]
    if kind == "file" and ":" in address:
        return FileStore(folders.folder_of(address, environ), allow_network=_allows_network_store(environ))
    if _is_postgresql(address):
        _import_psycopg()
        from loopback_auth.store.postgresql.store import PostgreSQLStore

        return PostgreSQLStore(address, folders.folder_of(address, environ))
    if kind == "keyring" and ":" in address:
        return _keyring(address, environ)
    raise ConfigurationError(
        f"there is no store of the kind {printable(folders.without_password(kind), 40)}",
        hint="a store is file:/folder, keyring: or postgresql://USER@HOST/DATABASE",
    )


def _keyring(address: str, environ: Mapping[str, str]) -> Store:
    """Return the keyring store; in another folder than the usual one it has items of its own, as it has locks."""
    from loopback_auth.store.keyring import SERVICE, KeyringStore

    name = address.partition(":")[2]
    if name and not valid_name(name):
        raise ConfigurationError(
            f"{printable(name, 40)} is no name for a set of accounts in the keyring",
            hint="keyring: alone, or keyring:NAME with 1 to 64 letters, digits, dots, dashes, underscores",
        )
    folder = folders.folder_of(address, environ)
    usual = folder == folders.folder_of(address, {})
    service = f"{SERVICE} {name}".strip() if usual else f"{SERVICE} in {folder}"
    return KeyringStore(address, folder, service=service, allow_network=_allows_network_store(environ))


def _allows_network_store(environ: Mapping[str, str]) -> bool:
    """Look at that key alone: what is stored can be used whatever else is wrong in `config.toml`."""
    try:
        return config_file.read(environ)[0].get("allow_network_store") is True
    except ConfigurationError:
        return False
