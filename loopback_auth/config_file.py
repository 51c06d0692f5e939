"""`config.toml`: read whole and checked whole, as it was written. What it means with flags is for `config.py`."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from loopback_auth import folders
from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.registration import (
    AuthorizationServer,
    TokenEndpointAuthMethod,
    is_proxy,
    parse_redirect_uri,
)
from loopback_auth.oauth.servers import (
    SANDBOX,
    SANDBOX_PORT,
    find_server,
    nearest,
    parse_server,
    presets,
    sandbox_at,
)
from loopback_auth.store.base import SecretReference
from loopback_auth.text import printable

STORE_KEY_USER = "store key"
"""The user name in the keyring of the service `loopback-auth`; hardly a client's."""
AUTH_METHODS: tuple[str, ...] = get_args(TokenEndpointAuthMethod)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """`[clients.NAME]`: one registration at one server, as written."""

    server: str | None = None
    client_id: str | None = None
    client_secret: SecretReference | None = None
    redirect_uri: str | None = None
    token_endpoint_auth_method: TokenEndpointAuthMethod | None = None
    scope: str | None = None
    ca_file: str | None = None
    proxy: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedAccount:
    """`[accounts.NAME]`: what is expected of an account."""

    client: str
    company_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All of `config.toml`."""

    path: str
    clients: Mapping[str, Client] = field(default_factory=dict)
    accounts: Mapping[str, ExpectedAccount] = field(default_factory=dict)
    servers: Mapping[str, AuthorizationServer] = field(default_factory=dict)
    sandbox_port: int = SANDBOX_PORT
    allow_network_store: bool = False
    """Whether tokens are spent from a store on a network file system."""
    proxy: str | None = field(default=None, repr=False)
    """For clients that name none of their own."""
    store: str = field(default="", repr=False)
    """The store's address; it may hold a password."""
    store_key: SecretReference | None = None
    """Where the keys that seal it are."""

    def server(self, name: str) -> AuthorizationServer:
        """Return a server by name, the sandbox at its configured port. Raises ConfigurationError."""
        server = find_server(name, self.servers)
        return sandbox_at(self.sandbox_port) if name == SANDBOX and SANDBOX not in self.servers else server


def load(environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read and check `config.toml`; a missing one is an empty one. Raises ConfigurationError: which key, and why."""
    data, path, mode = read(environ)
    configuration = _parse(data, path, environ)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO) and _holds_secret(configuration):
        raise ConfigurationError(
            f"{printable(path)} holds a secret and can be read by other users",
            hint=(f"chmod 600 {printable(path)}", 'or keep the secret elsewhere: client_secret = { file = "…" }'),
        )
    return configuration


def read(environ: Mapping[str, str]) -> tuple[dict[str, Any], str, int]:
    """Return what stands in `config.toml`, its path and its mode; a missing one is an empty one."""
    path = os.path.join(folders.configuration(environ), "config.toml")
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            _check_file(status, path)
            return tomllib.load(file), path, status.st_mode
    except FileNotFoundError:
        return {}, path, 0
    except (ValueError, RecursionError) as error:  # also an int of 5,000 digits, and 1,000 brackets
        raise ConfigurationError(f"{printable(path)} is not TOML: {printable(error)}") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ConfigurationError(f"{printable(path)} cannot be read: {reason}") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO in its place must not hold us


def _check_file(status: os.stat_result, path: str) -> None:
    """Raise ConfigurationError for a file that another user can write: a `command` in it is run by us."""
    reason = None
    if not stat.S_ISREG(status.st_mode):
        reason = "it is not a regular file"
    elif os.name == "posix" and status.st_uid not in (0, os.getuid()):
        reason = f"it belongs to user id {status.st_uid}"
    elif os.name == "posix" and status.st_mode & stat.S_IWOTH:
        reason = "it can be written by other users"
    if reason is not None:
        shown = printable(path)
        raise ConfigurationError(f"{shown} cannot be read: {reason}", hint=f"look at it: ls -l {shown}")


def _parse(data: Mapping[str, Any], path: str, environ: Mapping[str, str]) -> Configuration:
    where = printable(path)
    top = ("allow_network_store", "proxy", "store", "store_key", "clients", "accounts", "servers", "sandbox")
    _known(data, top, where)
    allow_network_store = data.get("allow_network_store", False)
    if not isinstance(allow_network_store, bool):
        raise ConfigurationError(f"allow_network_store in {where} is neither true nor false")
    if not isinstance(store := data.get("store", ""), str):
        raise ConfigurationError(f"store in {where} is not text", hint='store = "file:/folder"')
    proxy = _parse_proxy(data.get("proxy"), where)
    sandbox = data.get("sandbox", {})
    if not isinstance(sandbox, dict):
        raise ConfigurationError(f"[sandbox] in {where} is not a table")
    _known(sandbox, ("port",), f"[sandbox] in {where}")
    port = environ.get("LOOPBACK_AUTH_SANDBOX_PORT") or sandbox.get("port", SANDBOX_PORT)
    if isinstance(port, str) and re.fullmatch("[0-9]{1,5}", port):
        port = int(port)
    if type(port) is not int or not 0 < port < 65536:
        shown = f"{port:#x}" if isinstance(port, int) and abs(port) >= 2**63 else port  # decimal digits have a limit
        raise ConfigurationError(f"the sandbox's port is not a port: {printable(shown)}", hint="1 to 65535")
    servers = {}
    for name, table in _tables(data, "servers", where):
        preset = sandbox_at(port) if name == SANDBOX else presets().get(name)
        servers[name] = parse_server(name, table, where, preset)
    clients = {
        name: _parse_client(name, table, where, os.path.dirname(path))
        for name, table in _tables(data, "clients", where)
    }
    accounts = {name: _parse_account(name, table, where) for name, table in _tables(data, "accounts", where)}
    return Configuration(
        path=path,
        clients=clients,
        accounts=accounts,
        servers=servers,
        sandbox_port=port,
        allow_network_store=allow_network_store,
        proxy=proxy,
        store=store,
        store_key=_parse_store_key(data, path),
    )


def _tables(data: Mapping[str, Any], key: str, where: str) -> list[tuple[str, dict[str, Any]]]:
    tables = data.get(key, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigurationError(f"{key} in {where} is not a table of tables", hint=f"write [{key}.NAME]")
    return list(tables.items())


def _parse_client(name: str, table: Mapping[str, Any], where: str, folder: str) -> Client:
    place = f"[clients.{printable(name)}] in {where}"
    known = [one.name for one in dataclasses.fields(Client)]
    _known(table, known, place)
    for key, value in table.items():
        if key != "client_secret" and (not isinstance(value, str) or "\0" in value):
            raise ConfigurationError(f"{place}: {key} is not text")
    values = dict(table)
    if "client_secret" in values:
        values["client_secret"] = _parse_client_secret(values["client_secret"], name, place, folder)
    if (method := values.get("token_endpoint_auth_method")) and method not in AUTH_METHODS:
        raise ConfigurationError(f"{place}: token_endpoint_auth_method is one of {', '.join(AUTH_METHODS)}")
    if "redirect_uri" in values:
        parse_redirect_uri(values["redirect_uri"])
    _parse_proxy(values.get("proxy"), place)
    return Client(**values)


def _parse_proxy(proxy: object, place: str) -> str | None:
    """Check it; it is not shown, it may hold a password."""
    if proxy is None or (isinstance(proxy, str) and is_proxy(proxy)):
        return proxy
    raise ConfigurationError(f"proxy in {place} is not the URL of a proxy", hint='proxy = "http://proxy.example:3128"')


def _parse_account(name: str, table: Mapping[str, Any], where: str) -> ExpectedAccount:
    place = f"[accounts.{printable(name)}] in {where}"
    _known(table, ("client", "company_id"), place)
    if not isinstance(table.get("client"), str):
        raise ConfigurationError(f"{place} names no client", hint='client = "…", one of [clients.…]')
    company_id = table.get("company_id")
    if not isinstance(company_id, str | None) and not (type(company_id) is int and abs(company_id) < 2**63):
        raise ConfigurationError(f"{place}: company_id is neither a number nor text")
    return ExpectedAccount(client=table["client"], company_id=None if company_id is None else str(company_id))


def _parse_client_secret(value: object, client: str, place: str, folder: str) -> SecretReference:
    return {"config": client} if isinstance(value, str) else _reference(value, "client_secret", place, folder, client)


def _reference(value: object, what: str, place: str, folder: str, keyring_user: str) -> SecretReference:
    if isinstance(value, dict) and len(value) == 1:
        match value:
            case {"file": str(path)} if path and "\0" not in path:
                return {"file": os.path.join(folder, os.path.expanduser(path))}
            case {"env": str(name)} if name:
                return {"env": name}
            case {"command": [str(), *rest]} if all(isinstance(word, str) for word in rest):
                return {"command": value["command"]}
            case {"keyring": True}:
                return {"keyring": keyring_user}
        _known(value, ("env", "file", "command", "keyring"), f"{what} of {place}")
    raise ConfigurationError(
        f"{place}: {what} says in no known way where the secret is",
        hint='one of { file = "…" }, { env = "…" }, { keyring = true }, { command = ["…"] }',
    )


def _parse_store_key(data: Mapping[str, Any], path: str) -> SecretReference | None:
    """A key itself has no place here: this file is copied and shown, and the key opens everything."""
    if "store_key" not in data:
        return None
    return _reference(data["store_key"], "store_key", printable(path), os.path.dirname(path), STORE_KEY_USER)


def store_key(environ: Mapping[str, str] = os.environ) -> SecretReference | None:
    """Return where the keys of the store are, None where nothing is said: that key alone is looked at.

    Raises ConfigurationError: it says so in no known way, or the file cannot be read and may say it.
    """
    path = os.path.join(folders.configuration(environ), "config.toml")
    try:
        data, path, _ = read(environ)
    except ConfigurationError:
        if not _may_name_a_store_key(path):
            return None
        raise
    return _parse_store_key(data, path)


def _may_name_a_store_key(path: str) -> bool:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            return b"store_key" in file.read(1 << 20)
    except OSError as error:  # what is no file says nothing
        return isinstance(error, PermissionError)


def _holds_secret(configuration: Configuration) -> bool:
    return folders.without_password(configuration.store) != configuration.store or any(
        "config" in (client.client_secret or {}) for client in configuration.clients.values()
    )


def _known(table: Mapping[str, Any], known: Any, place: str) -> None:
    for key in table:
        if key not in known:
            raise ConfigurationError(f"{place} has the unknown key {printable(key)}", hint=nearest(key, known))
