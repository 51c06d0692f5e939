"""What the user configured, together: flags, variables, `config.toml` and what is stored → registration and store.

The order is: flag, environment variable, config, what is stored of the account, default.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loopback_auth import client_secret
from loopback_auth.config_file import Client, Configuration
from loopback_auth.errors import ConfigurationError, LoopbackAuthError, RegistrationIncomplete
from loopback_auth.oauth.registration import (
    AuthorizationServer,
    ClientRegistration,
    TokenEndpointAuthMethod,
    check_client_id,
    endpoint,
    parse_redirect_uri,
)
from loopback_auth.oauth.servers import DEFAULT, nearest
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Lock, SecretReference
from loopback_auth.stores import open_store
from loopback_auth.text import printable
from loopback_auth.usable import LOCK_TIMEOUT, MIN_VALIDITY

if TYPE_CHECKING:
    from loopback_auth.refresh import TokenSource


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

    @classmethod
    def of_environment(cls, environ: Mapping[str, str], **named: Any) -> Wanted:
        """Return what is `named`, beside what the variables say."""
        variable = client_secret.VARIABLE
        return cls(
            environment_client_id=environ.get("LOOPBACK_AUTH_CLIENT_ID") or None,
            environment_client_secret={"env": variable} if environ.get(variable) else None,
            **named,
        )

    @property
    def names_a_server(self) -> bool:
        """Whether server or client is chosen here, so that config and stored account have no say in it."""
        return any((self.client, self.server, self.client_id, self.authorization_endpoint, self.token_endpoint))


def token_source(
    account: str = "default",
    store: Accounts | None = None,
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
            hint=(
                *nearest(name, known),
                *([f"known clients: {', '.join(map(printable, sorted(known)))}"] if known else []),
            ),
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
        f"{missing}: which client is to be logged in at {printable(server.title)}?",
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
        f"no keys yet? they come from {printable(server.keys_from)}; one to two weeks is normal",
        "meanwhile, without keys: loopback-auth login --server sandbox",
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(os.path.expanduser(path))
