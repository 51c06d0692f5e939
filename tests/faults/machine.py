"""The two sides of the fault suite: a sandbox in a thread, and accounts at it whose access token has expired."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loopback_auth import clock, folders, machine, stores
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.servers import sandbox_at
from loopback_auth.oauth.token import TokenSet
from loopback_auth.sandbox import Sandbox, SandboxSettings
from loopback_auth.sandbox.state import State
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account

SEALED = 'store_key = { file = "store.key" }\n'
"""`config.toml` of a home whose store is sealed: then it is for whoever works there."""


def made_home(home: Path, *, sealed: bool) -> Path:
    """Make a home folder, with a key in it if its store is to be sealed."""
    if sealed:
        home.mkdir(parents=True)
        home.chmod(0o700)
        (home / "config.toml").write_text(SEALED)
        (home / "store.key").touch(0o600)
        (home / "store.key").write_text(secrets.token_hex(32))
    return home


def store_of(home: Path, address: str = "file:") -> Accounts:
    return stores.open_at(address, {"LOOPBACK_AUTH_HOME": str(home)})


@dataclass(frozen=True)
class Trial:
    """One account in a home of its own."""

    home: Path
    refresh_token: str
    address: str = "file:"

    @property
    def store(self) -> Accounts:
        return store_of(self.home, self.address)

    @property
    def root(self) -> Path:
        return root_of(self.home, self.address)

    @property
    def folder(self) -> Path:
        return Path(folders.folder_of(self.address, {"LOOPBACK_AUTH_HOME": str(self.home)})) / "default"

    @property
    def stored(self) -> Account:
        account = self.store.load("default")
        assert account is not None
        return account

    def files(self) -> set[str]:
        """What is in the account's folder, but for what is always there or says what went wrong."""
        return {path.name for path in self.folder.iterdir()} - {"tokens", "lock", "last-error"}


def root_of(home: Path, address: str) -> Path:
    """The folder of all that a store at this address keeps on the disk."""
    return home / ("accounts" if address == "file:" else "stores")


class Far:
    """The sandbox, and what it knows."""

    address = "file:"
    """Where accounts are stored."""

    def __init__(self, sandbox: Sandbox, state: State) -> None:
        self.sandbox = sandbox
        self.seals = False
        """Whether accounts are stored in sealed stores."""
        self._state = state
        self._number = 0

    def account(self, homes: Path, age: float = 7200, **changes: Any) -> Trial:
        """Store an account whose tokens the sandbox issued, `age` seconds ago by the client's clock."""
        self._number += 1
        home = made_home(homes / f"home-{self._number}", sealed=self.seals)
        code = secrets.token_urlsafe(8)
        with self._state.transaction():
            self._state.save_code(
                code,
                client_id="sandbox",
                user_id="cafe-roma",
                redirect_uri="http://127.0.0.1:1/",
                code_challenge="x",
                lifetime=30,
            )
            issued = self._state.load_code(code)
            assert issued is not None
            access_token, refresh_token = (f"s3kr1t-{secrets.token_hex(8)}" for _ in range(2))
            self._state.save_tokens(
                issued.grant_id, access_token=access_token, refresh_token=refresh_token, access_token_lifetime=3600
            )
        server = sandbox_at(self.sandbox.port)
        now = clock.now()
        account = Account(
            name="default",
            registration=ClientRegistration(
                server=server,
                client_id="sandbox",
                redirect_uri="http://127.0.0.1:0/",
                token_endpoint_auth_method="client_secret_basic",
            ),
            client_secret={"preset": True},
            tokens=TokenSet(Secret(access_token), Secret(refresh_token), 3600, None),
            generation=1,
            logged_in_at=now.unix - age,
            refresh_token_at=now.unix - age,
            received=clock.Moment(now.unix - age, now.boot_id, now.uptime - age),
            machine=machine.identity(),
        )
        trial = Trial(home, refresh_token, self.address)
        trial.store.save(replace(account, **changes))
        with trial.store.lock("default") as lock:  # as any earlier refresh would have left it
            assert lock.try_acquire()
        return trial

    def hurt_next(self, fault: str) -> None:
        """Let the next token answer be hurt so, and no other."""
        settings = self.sandbox.settings
        hurt = sum(self.sandbox.token_requests.values()) if settings.fault_count is None else settings.fault_count
        object.__setattr__(settings, "faults", fault)
        object.__setattr__(settings, "fault_count", hurt + 1)

    def presented(self, refresh_token: str) -> int:
        """How often it reached the token endpoint."""
        return self._state.times_presented(refresh_token)

    def most_presented(self) -> int:
        """How often that refresh token reached the token endpoint which did so most often."""
        return max(self._state.presented())

    def takes(self, access_token: str) -> bool:
        """Whether the API would take this access token."""
        known = self._state.load_access_token(access_token)
        return known is not None and not known.revoked and known.expires_at > time.time()

    def would_refresh(self, refresh_token: str) -> bool:
        """Whether this refresh token still works. Asking counts as presenting it."""
        known = self._state.load_refresh_token(refresh_token)
        return known is not None and known.spent_at is None and not known.revoked


@contextmanager
def far_side(folder: Path, **settings: Any) -> Iterator[Far]:
    """Run a sandbox in a thread for as long as this lasts."""
    sandbox = Sandbox(SandboxSettings(folder=folder, port=0, **settings))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandbox")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(sandbox.start(), loop).result(20)
        state = State(folder, time.time)
        try:
            yield Far(sandbox, state)
        finally:
            state.close()
            asyncio.run_coroutine_threadsafe(sandbox.stop(), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
