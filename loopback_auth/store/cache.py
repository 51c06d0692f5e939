"""The access tokens of a shared store, as this machine has seen them last: files that the fast way of `token` reads.

Nothing else of an account is in them, and a machine that cannot keep them does without.
"""

from __future__ import annotations

import os
from contextlib import suppress

from loopback_auth import files
from loopback_auth.errors import StoreError
from loopback_auth.store.base import Account
from loopback_auth.store.head import head, tokens_path
from loopback_auth.store.record import serialise


class AccessTokenCache:
    """`folder/NAME/tokens`: the two lines of an account's record that say what its access token is, and how old."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def keep(self, account: Account) -> None:
        """Keep the account's access token, if it can stand on a line."""
        first, access_token, _ = serialise(account).split(b"\n", 2)
        with suppress(StoreError):
            if not access_token:
                self.forget(account.name)
            elif self._kept(account.name) != access_token:
                path = tokens_path(self.folder, account.name)
                files.make_folder(*os.path.split(os.path.dirname(path)))
                files.replace(path, first + b"\n" + access_token + b"\n{}\n")

    def forget(self, name: str) -> None:
        """Remove it. A file that cannot be removed is left: it is good for as long as its token is."""
        with suppress(StoreError):
            files.remove(tokens_path(self.folder, name))

    def _kept(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError, StoreError):
            found = head(files.read(tokens_path(self.folder, name)))
            return None if found is None else found.access_token.encode("ascii")
        return None
