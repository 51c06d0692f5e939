"""Log in to an OAuth 2.0 authorization server with one command, and keep the tokens usable.

Public names are imported when they are asked for (PEP 562): `import loopback_auth` costs nothing.

    source = loopback_auth.token_source("default")
    token = (await source.token()).reveal()

`Accounts` is for those who bring a store of their own: `token_source("default", Accounts(MyStore()))`.

The login itself is `loopback_auth.login.login`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as mypy knows it: `typing` takes 5 ms
if TYPE_CHECKING:
    from loopback_auth.config import token_source as token_source
    from loopback_auth.errors import LoginRequired as LoginRequired
    from loopback_auth.errors import LoopbackAuthError as LoopbackAuthError
    from loopback_auth.refresh import TokenSource as TokenSource
    from loopback_auth.secret import Secret as Secret
    from loopback_auth.store.accounts import Accounts as Accounts
    from loopback_auth.stores import open_store as open_store

_HOMES = {
    "Accounts": "store.accounts",
    "LoginRequired": "errors",
    "LoopbackAuthError": "errors",
    "Secret": "secret",
    "TokenSource": "refresh",
    "open_store": "stores",
    "token_source": "config",
}

__all__ = ["Accounts", "LoginRequired", "LoopbackAuthError", "Secret", "TokenSource", "open_store", "token_source"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
