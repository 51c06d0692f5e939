"""Accounts for the tests of the store: one that is written out, and any that can be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from loopback_auth.clock import Moment
from loopback_auth.oauth.registration import AuthorizationServer, ClientRegistration
from loopback_auth.oauth.token import LIFETIME_LIMIT, TokenSet
from loopback_auth.secret import Secret
from loopback_auth.store.base import Account

ACCESS, REFRESH = "s3kr1t-access", "s3kr1t-refresh"
BOOT = "6f0dcb11-6d3f-4a2a-9a3e-0c7c6a1d2b3c"

SERVER = AuthorizationServer(
    name="example",
    title="Example",
    authorization_endpoint="https://server.example/authorize",
    token_endpoint="https://server.example/token",
)
REGISTRATION = ClientRegistration(
    server=SERVER,
    client_id="s6BhdRkqt3",
    redirect_uri="http://127.0.0.1:0/",
    token_endpoint_auth_method="client_secret_basic",
)
TOKENS = TokenSet(Secret(ACCESS), Secret(REFRESH), 3600, None, None)


def account(name: str = "default", **changes: Any) -> Account:
    """Return an account; names of a token set's fields change that."""
    of_tokens = {key: changes.pop(key) for key in list(changes) if key in TokenSet.__dataclass_fields__}
    members: dict[str, Any] = {
        "name": name,
        "registration": REGISTRATION,
        "client_secret": {"env": "ACME_SECRET"},
        "tokens": replace(TOKENS, **of_tokens),
        "generation": 1,
        "logged_in_at": 1_700_000_000.25,
        "refresh_token_at": 1_700_000_000.25,
        "received": Moment(1_700_000_000.25, BOOT, 4711.5),
    }
    return Account(**{**members, **changes})


TEXT = st.text(st.characters(exclude_categories=()))
SECRETS = TEXT.filter(bool).map(Secret)
SECONDS = st.integers(0, 10**13).map(lambda milliseconds: milliseconds / 1000)
MOMENTS = st.builds(Moment, SECONDS, st.just("-") | st.uuids().map(str), SECONDS)
REGISTRATIONS = st.builds(
    ClientRegistration,
    server=st.builds(
        AuthorizationServer,
        name=TEXT,
        title=TEXT,
        authorization_endpoint=TEXT,
        token_endpoint=TEXT,
        issuer=st.none() | TEXT,
        login_hint_parameter=st.booleans(),
        state=st.sampled_from(["required", "unconfirmed", "none"]),
        code_lifetime=st.none() | st.integers(),
        production=st.booleans(),
    ),
    client_id=TEXT,
    redirect_uri=TEXT,
    token_endpoint_auth_method=st.sampled_from(["client_secret_basic", "client_secret_post", "none"]),
    scope=st.none() | TEXT,
    ca_file=st.none() | TEXT,
)
ACCOUNTS = st.builds(
    Account,
    name=st.just("default"),
    registration=REGISTRATIONS,
    client_secret=st.none()
    | st.fixed_dictionaries({"file": TEXT})
    | st.fixed_dictionaries({"command": st.lists(TEXT, min_size=1)})
    | st.just({"preset": True}),
    tokens=st.builds(
        TokenSet,
        access_token=SECRETS,
        refresh_token=st.none() | SECRETS,
        expires_in=st.none() | st.integers(0, LIFETIME_LIMIT),
        scope=st.none() | TEXT,
        token_type=st.none() | st.sampled_from(["Bearer", "bearer", "mac"]) | TEXT,
    ),
    generation=st.integers(1, 10**9),
    logged_in_at=SECONDS,
    refresh_token_at=SECONDS,
    received=MOMENTS,
    received_by=st.sampled_from(["login", "refresh"]),
    company=st.none() | st.fixed_dictionaries({"id": TEXT, "name": TEXT}),
)
