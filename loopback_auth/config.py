"""What the user configured: `config.toml`, read whole and checked whole, and what it means together with flags.

The order is: flag, environment variable, config, what is stored of the account, default.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

from loopback_auth import client_secret, folders
from loopback_auth.errors import ConfigurationError, LoopbackAuthError, RegistrationIncomplete
from loopback_auth.oauth.registration import (
    AuthorizationServer,
    ClientRegistration,
    TokenEndpointAuthMethod,
    check_client_id,
    endpoint,
    parse_redirect_uri,
)
from loopback_auth.oauth.servers import (
    DEFAULT,
    SANDBOX,
    SANDBOX_PORT,
    find_server,
    nearest,
    parse_server,
    presets,
    sandbox_at,
)
from loopback_auth.store.base import Account, Lock, SecretReference, Store
from loopback_auth.store.file import FileStore
from loopback_auth.text import printable
from loopback_auth.usable import LOCK_TIMEOUT, MIN_VALIDITY

if TYPE_CHECKING:
    from loopback_auth.refresh import TokenSource

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

    def server(self, name: str) -> AuthorizationServer:
        """Return a server by name, the sandbox at its configured port. Raises ConfigurationError."""
        server = find_server(name, self.servers)
        return sandbox_at(self.sandbox_port) if name == SANDBOX and SANDBOX not in self.servers else server


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the flags of `login` say, and its variables; None where they say nothing."""

    client: str | None = None
    server: str | None = None
    client_id: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    issuer: str | None = None
    redirect_uri: str | None = None
    token_endpoint_auth_method: TokenEndpointAuthMethod | None = None
    scope: str | None = None
    ca_file: str | None = None
    client_secret: SecretReference | None = None
    client_secret_stdin: bool = False
    """A secret follows that has no reference yet."""
    environment_client_id: str | None = None
    environment_client_secret: SecretReference | None = None

    @property
    def names_a_server(self) -> bool:
        """Whether server or client is chosen here, so that config and stored account have no say in it."""
        return any((self.client, self.server, self.client_id, self.authorization_endpoint, self.token_endpoint))


def open_store(environ: Mapping[str, str] = os.environ) -> Store:
    """Return the store that `LOOPBACK_AUTH_STORE` names: `file:` and a folder; without it, the usual folder."""
    chosen = environ.get("LOOPBACK_AUTH_STORE", "")
    if chosen and not chosen.startswith("file:"):
        raise ConfigurationError(
            f"there is no store of the kind {printable(chosen.partition(':')[0], 40)}",
            hint="unset LOOPBACK_AUTH_STORE, or set it to file:/some/folder",
        )
    return FileStore(folders.accounts(environ), allow_network=_allows_network_store(environ))


def _allows_network_store(environ: Mapping[str, str]) -> bool:
    """Look at that key alone: what is stored can be used whatever else is wrong in `config.toml`."""
    try:
        return _read(environ)[0].get("allow_network_store") is True
    except ConfigurationError:
        return False


def token_source(
    account: str = "default",
    store: Store | None = None,
    *,
    min_validity: float = MIN_VALIDITY,
    warn: Callable[[LoopbackAuthError], None] = lambda _error: None,
    waiting: Callable[[LoopbackAuthError, float], None] = lambda _error, _seconds: None,
    lock: AbstractContextManager[Lock] | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> TokenSource:
    """Return the source of an account's access tokens: what was stored by `login`, no flags and no config needed."""
    from loopback_auth.refresh import TokenSource  # and aiohttp, which most commands do without

    return TokenSource(
        account,
        store or open_store(),
        client_secret=lambda stored: client_secret.fetch(stored.client_secret, stored.registration),
        min_validity=min_validity,
        warn=warn,
        waiting=waiting,
        lock=lock,
        lock_timeout=lock_timeout,
    )


def load(environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read and check `config.toml`; a missing one is an empty one. Raises ConfigurationError: which key, and why."""
    data, path, mode = _read(environ)
    configuration = _parse(data, path, environ)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO) and _holds_secret(configuration):
        raise ConfigurationError(
            f"{printable(path)} holds a client secret and can be read by other users",
            hint=(f"chmod 600 {printable(path)}", 'or keep the secret elsewhere: client_secret = { file = "…" }'),
        )
    return configuration


def registration(
    wanted: Wanted, configuration: Configuration, account: str, stored: Account | None
) -> tuple[ClientRegistration, SecretReference | None]:
    """Return what to log in with, and where its secret is (None: not known). Raises ConfigurationError."""
    client = _client(wanted, configuration, account)
    if client is None and stored is not None and not wanted.names_a_server:
        return _again(stored, wanted, configuration)
    client = client or Client()
    server = _server(wanted, client, configuration)
    # The sandbox publishes its credentials: the variables are for servers that do not.
    from_environment = wanted.environment_client_id if server.client_id is None else None
    client_id = wanted.client_id or from_environment or client.client_id or server.client_id
    if not client_id:
        secret = wanted.client_secret or wanted.environment_client_secret or client.client_secret
        raise _keys_missing(server, secret=secret is not None)
    check_client_id(client_id, server)
    published: SecretReference | None = {"preset": True} if client_id == server.client_id else None
    reference = wanted.client_secret or published or wanted.environment_client_secret or client.client_secret
    needs_secret = reference is not None or wanted.client_secret_stdin or not server.public_clients
    method = wanted.token_endpoint_auth_method or client.token_endpoint_auth_method
    redirect_uri = wanted.redirect_uri or client.redirect_uri or server.redirect_uri
    parse_redirect_uri(redirect_uri)
    return ClientRegistration(
        server=server,
        client_id=client_id,
        redirect_uri=redirect_uri,
        token_endpoint_auth_method=method or ("client_secret_basic" if needs_secret else "none"),
        scope=wanted.scope or client.scope,
        ca_file=_absolute(wanted.ca_file or client.ca_file),
        proxy=client.proxy or configuration.proxy,
    ), reference


def _again(
    stored: Account, wanted: Wanted, configuration: Configuration
) -> tuple[ClientRegistration, SecretReference | None]:
    """Log in as before: what is stored of the account, with what the flags change."""
    changes: dict[str, Any] = {
        name: value
        for name in ("redirect_uri", "token_endpoint_auth_method", "scope")
        if (value := getattr(wanted, name)) is not None
    }
    if configuration.proxy is not None:
        changes["proxy"] = configuration.proxy
    if wanted.ca_file is not None:
        changes["ca_file"] = _absolute(wanted.ca_file)
    again = dataclasses.replace(stored.registration, **changes)
    parse_redirect_uri(again.redirect_uri)
    if stored.client_secret == {"preset": True}:
        return again, wanted.client_secret or stored.client_secret
    if wanted.environment_client_id:  # with its secret, or the secret would go to another client's id
        check_client_id(wanted.environment_client_id, again.server)
        again = dataclasses.replace(again, client_id=wanted.environment_client_id)
    return again, wanted.client_secret or wanted.environment_client_secret or stored.client_secret


def _client(wanted: Wanted, configuration: Configuration, account: str) -> Client | None:
    name = wanted.client
    if name is None and not wanted.names_a_server and account in configuration.accounts:
        name = configuration.accounts[account].client
    if name is None:
        return None
    client = configuration.clients.get(name)
    if client is None:
        known = configuration.clients
        raise ConfigurationError(
            f"there is no client called {printable(name)} in {printable(configuration.path)}",
            hint=(*nearest(name, known), *([f"known clients: {', '.join(sorted(known))}"] if known else [])),
        )
    return client


def _server(wanted: Wanted, client: Client, configuration: Configuration) -> AuthorizationServer:
    given = {"authorization_endpoint": wanted.authorization_endpoint, "token_endpoint": wanted.token_endpoint}
    if any(given.values()):
        missing = [f"--{name.replace('_', '-')}" for name, value in given.items() if not value]
        if missing:
            raise ConfigurationError(f"{missing[0]} is missing", hint="a server of your own needs both endpoints")
        if wanted.server:
            raise ConfigurationError("--server and --token-endpoint exclude each other", hint="leave one of them out")
        authorization = endpoint(wanted.authorization_endpoint or "", "authorization_endpoint")
        token = endpoint(wanted.token_endpoint or "", "token_endpoint")
        host = urlsplit(token).netloc
        server = AuthorizationServer(name=host, title=host, authorization_endpoint=authorization, token_endpoint=token)
    else:
        server = configuration.server(wanted.server or client.server or DEFAULT)
    return dataclasses.replace(server, issuer=wanted.issuer) if wanted.issuer else server


def _keys_missing(server: AuthorizationServer, *, secret: bool) -> RegistrationIncomplete:
    missing = (
        "--client-id is missing" if secret or server.public_clients else "--client-id and a client secret are missing"
    )
    and_secret = "" if secret or server.public_clients else " and --client-secret-file FILE"
    return RegistrationIncomplete(
        f"{missing}: which client is to be logged in at {server.title}?",
        hint=(
            f"add --client-id ID{and_secret}, or --client NAME of config.toml, or run: loopback-auth setup",
            *no_keys_yet(server),
        ),
    )


def no_keys_yet(server: AuthorizationServer) -> tuple[str, ...]:
    """Return hints for somebody who waits for keys."""
    if not server.keys_from:
        return ()
    return (
        f"no keys yet? they come from {server.keys_from}; one to two weeks is normal",
        "meanwhile, without keys: loopback-auth login --server sandbox",
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(os.path.expanduser(path))


# --- config.toml ---


def _read(environ: Mapping[str, str]) -> tuple[dict[str, Any], str, int]:
    """Return what stands in `config.toml`, its path and its mode; a missing one is an empty one."""
    path = os.path.join(folders.configuration(environ), "config.toml")
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            return tomllib.load(file), path, mode
    except FileNotFoundError:
        return {}, path, 0
    except (ValueError, RecursionError) as error:  # also an int of 5,000 digits, and 1,000 brackets
        raise ConfigurationError(f"{printable(path)} is not TOML: {printable(error)}") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ConfigurationError(f"{printable(path)} cannot be read: {reason}") from error


def _parse(data: Mapping[str, Any], path: str, environ: Mapping[str, str]) -> Configuration:
    where = printable(path)
    _known(data, ("allow_network_store", "proxy", "clients", "accounts", "servers", "sandbox"), where)
    allow_network_store = data.get("allow_network_store", False)
    if not isinstance(allow_network_store, bool):
        raise ConfigurationError(f"allow_network_store in {where} is neither true nor false")
    proxy = _parse_proxy(data.get("proxy"), where)
    sandbox = data.get("sandbox", {})
    if not isinstance(sandbox, dict):
        raise ConfigurationError(f"[sandbox] in {where} is not a table")
    _known(sandbox, ("port",), f"[sandbox] in {where}")
    port = environ.get("LOOPBACK_AUTH_SANDBOX_PORT") or sandbox.get("port", SANDBOX_PORT)
    if not str(port).isdecimal() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"the sandbox's port is not a port: {printable(port)}", hint="1 to 65535")
    servers = {}
    for name, table in _tables(data, "servers", where):
        preset = sandbox_at(int(port)) if name == SANDBOX else presets().get(name)
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
        sandbox_port=int(port),
        allow_network_store=allow_network_store,
        proxy=proxy,
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
        values["client_secret"] = _parse_reference(values["client_secret"], name, place, folder)
    if (method := values.get("token_endpoint_auth_method")) and method not in AUTH_METHODS:
        raise ConfigurationError(f"{place}: token_endpoint_auth_method is one of {', '.join(AUTH_METHODS)}")
    if "redirect_uri" in values:
        parse_redirect_uri(values["redirect_uri"])
    _parse_proxy(values.get("proxy"), place)
    return Client(**values)


def _parse_proxy(proxy: object, place: str) -> str | None:
    """Check that it is an http:// or https:// URL with a host; it is not shown, it may hold a password."""
    if proxy is None:
        return None
    try:
        parts = urlsplit(proxy) if isinstance(proxy, str) else None
        if parts and parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return str(proxy)
    except ValueError:
        pass
    raise ConfigurationError(f"proxy in {place} is not the URL of a proxy", hint='proxy = "http://proxy.example:3128"')


def _parse_account(name: str, table: Mapping[str, Any], where: str) -> ExpectedAccount:
    place = f"[accounts.{printable(name)}] in {where}"
    _known(table, ("client", "company_id"), place)
    if not isinstance(table.get("client"), str):
        raise ConfigurationError(f"{place} names no client", hint='client = "…", one of [clients.…]')
    company_id = table.get("company_id")
    if not isinstance(company_id, int | str | None):
        raise ConfigurationError(f"{place}: company_id is neither a number nor text")
    return ExpectedAccount(client=table["client"], company_id=None if company_id is None else str(company_id))


def _parse_reference(value: object, client: str, place: str, folder: str) -> SecretReference:
    if isinstance(value, str):
        return {"config": client}
    if isinstance(value, dict) and len(value) == 1:
        match value:
            case {"file": str(path)} if path and "\0" not in path:
                return {"file": os.path.join(folder, os.path.expanduser(path))}
            case {"env": str(name)} if name:
                return {"env": name}
            case {"command": [str(), *rest]} if all(isinstance(word, str) for word in rest):
                return {"command": value["command"]}
            case {"keyring": True}:
                return {"keyring": client}
        _known(value, ("env", "file", "command", "keyring"), f"client_secret of {place}")
    raise ConfigurationError(
        f"{place}: client_secret says in no known way where the secret is",
        hint='one of { file = "…" }, { env = "…" }, { keyring = true }, { command = ["…"] }',
    )


def _holds_secret(configuration: Configuration) -> bool:
    return any("config" in (client.client_secret or {}) for client in configuration.clients.values())


def _known(table: Mapping[str, Any], known: Any, place: str) -> None:
    for key in table:
        if key not in known:
            raise ConfigurationError(f"{place} has the unknown key {printable(key)}", hint=nearest(key, known))
