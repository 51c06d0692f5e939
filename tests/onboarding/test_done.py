"""Which accounts of a manifest need no login."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loopback_auth import clock
from loopback_auth.grant import Grant
from loopback_auth.onboarding.run import done_already
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore

from ..store.accounts import REGISTRATION, SERVER, account

ELSEWHERE = replace(REGISTRATION, server=replace(SERVER, token_endpoint="https://other.example/token"))
ANOTHER = replace(REGISTRATION, client_id="another")


@pytest.mark.parametrize(
    ("registration", "expected", "is_done"),
    [
        (REGISTRATION, None, True),
        (REGISTRATION, "4711", True),
        (REGISTRATION, "4712", False),
        (ANOTHER, None, False),
        (ELSEWHERE, None, False),
    ],
)
def test_what_is_done(tmp_path: Path, registration: object, expected: str | None, is_done: bool) -> None:
    """Done is what is stored for the same client at the same server, and for the company that is expected."""
    store = Accounts(FileStore(str(tmp_path / "accounts")))
    store.save(account("cafe", company={"id": "4711", "name": "Cafe"}, received=clock.now()))
    grant = Grant(account="cafe", registration=registration, client_secret=None, expected_company=expected)  # type: ignore[arg-type]  # one of ours
    assert (done_already(grant, store, clock.now()) is not None) is is_done


def test_what_cannot_be_used_is_not_done(tmp_path: Path) -> None:
    """An account without a token that works, and one whose record cannot be read, need a login."""
    store = Accounts(FileStore(str(tmp_path / "accounts")))
    grant = Grant(account="cafe", registration=REGISTRATION, client_secret=None)
    assert done_already(grant, store, clock.now()) is None
    store.save(account("cafe", refresh_token=None))  # and its access token is years old
    assert done_already(grant, store, clock.now()) is None
    (tmp_path / "accounts/cafe/tokens").write_text("nonsense")
    assert done_already(grant, store, clock.now()) is None
