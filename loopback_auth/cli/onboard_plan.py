"""What each entry of a manifest comes to, by what is configured and stored; whatever is wrong is found at once."""

from __future__ import annotations

import os
from typing import Any

from loopback_auth import client_secret, config
from loopback_auth.config_file import Configuration
from loopback_auth.errors import ConfigurationError, LoopbackAuthError
from loopback_auth.grant import Grant
from loopback_auth.oauth.registration import RedirectURI, parse_redirect_uri
from loopback_auth.oauth.servers import SANDBOX
from loopback_auth.onboarding.faults import Fault, ManifestInvalid
from loopback_auth.onboarding.manifest import Entry
from loopback_auth.onboarding.run import Wanted
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.text import printable


class Plan:
    """Turns the entries of a manifest into what is wanted, by what is configured and stored; all faults at once."""

    def __init__(self, configuration: Configuration, store: Accounts, source: str, flags: dict[str, Any]) -> None:
        self._configuration = configuration
        self._store = store
        self._source = source
        self._flags = flags
        self._secrets: dict[str, Secret | LoopbackAuthError | None] = {}
        self._first: tuple[Entry, RedirectURI] | None = None

    def wanted(self, entries: list[Entry]) -> list[Wanted]:
        """Return what is wanted, in the same order. Raises ManifestInvalid, ConfigurationError."""
        names = {entry.account for entry in entries}
        if unknown := [name for name in self._flags["redo"] if name not in names]:
            raise ConfigurationError(f"--redo {printable(unknown[0], 64)}: there is no such account in {self._source}")
        wanted: list[Wanted] = []
        faults: list[Fault] = []
        hints: dict[str, None] = {}
        for entry in entries:
            try:
                wanted.append(self._wanted(entry))
            except LoopbackAuthError as error:
                faults.append(Fault(entry.line, str(error)))
                hints |= dict.fromkeys(error.hint)
        if faults:
            raise ManifestInvalid(self._source, faults, hint=tuple(hints)[:5])
        return wanted

    def _wanted(self, entry: Entry) -> Wanted:
        redo = entry.account in self._flags["redo"]
        expected = self._configuration.accounts.get(entry.account)
        client = entry.client or (None if expected else self._flags["client"])
        server = None if client or expected else self._flags["server"]
        if client == SANDBOX and SANDBOX not in self._configuration.clients:
            client, server = None, SANDBOX
        asked = config.Wanted.of_environment(os.environ, client=client, server=server)
        stored = self._store.load(entry.account)
        registration, reference = config.registration(asked, self._configuration, entry.account, stored)
        if stored is not None and not redo and not stored.registration.is_same_client(registration):
            before = stored.registration
            raise ConfigurationError(
                f"account {entry.account} belongs to client {printable(before.client_id, 60)} "
                f"at {printable(before.server.name, 40)}",
                hint=f"take another name, or replace it: --redo {entry.account}",
            )
        self._check_redirect_uri(entry, parse_redirect_uri(registration.redirect_uri))
        company_id = entry.company_id or (expected.company_id if expected else None)
        grant = Grant(
            account=entry.account,
            registration=registration,
            client_secret=reference,
            expected_company=company_id,
            force=redo and company_id is None,
        )
        return Wanted(
            grant=grant,
            client_secret=self._secret(grant),
            login_hint=entry.login,
            redo=redo,
        )

    def _check_redirect_uri(self, entry: Entry, redirect_uri: RedirectURI) -> None:
        """All are caught on one address."""
        self._first = self._first or (entry, redirect_uri)
        first, its_uri = self._first
        if redirect_uri != its_uri:
            raise ConfigurationError(
                f"its redirect_uri is {redirect_uri.text}, and that of line {first.line} is {its_uri.text}",
                hint="one run waits at one address: make a manifest for each",
            )

    def _secret(self, grant: Grant) -> Secret | None:
        """Fetch a client's secret, once: a command may ask a person for it."""
        key = repr((grant.registration.client_id, grant.client_secret))
        if key not in self._secrets:
            try:
                self._secrets[key] = client_secret.fetch(grant.client_secret, grant.registration)
            except LoopbackAuthError as error:
                self._secrets[key] = error
        secret = self._secrets[key]
        if isinstance(secret, LoopbackAuthError):
            raise secret
        return secret
