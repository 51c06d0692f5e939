"""Authorization servers by name: the presets of `servers.toml`, and those of the user's own configuration."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pkgutil import get_data
from typing import Any

from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.registration import AuthorizationServer, endpoint, parse_redirect_uri
from loopback_auth.text import printable

DEFAULT = "lightspeed-l-staging"
SANDBOX = "sandbox"
SANDBOX_PORT = 8931


@cache
def presets() -> Mapping[str, AuthorizationServer]:
    """Return the servers this package knows, by name."""
    data = tomllib.loads((get_data("loopback_auth.oauth", "servers.toml") or b"").decode())
    return {name: parse_server(name, members, "servers.toml") for name, members in data.items()}


def find_server(name: str, own: Mapping[str, AuthorizationServer]) -> AuthorizationServer:
    """Return the server called `name`: the user's own come first. Raises ConfigurationError."""
    server = own.get(name) or presets().get(name)
    if server is None:
        known = [*own, *presets()]
        raise ConfigurationError(
            f"there is no server called {printable(name)}",
            hint=(*nearest(name, known), f"known servers: {', '.join(map(printable, sorted(known)))}"),
        )
    return server


def sandbox_at(port: int) -> AuthorizationServer:
    """Return the sandbox's preset on another port than its usual one."""
    preset = presets()[SANDBOX]
    moved = {
        field: getattr(preset, field).replace(f":{SANDBOX_PORT}/", f":{port}/")
        for field in ("authorization_endpoint", "token_endpoint", "api_base")
    }
    return dataclasses.replace(preset, **moved)


def parse_server(
    name: str, members: object, source: str, preset: AuthorizationServer | None = None
) -> AuthorizationServer:
    """Return the server described by a TOML table; under a preset's name it says only what is different there.

    Raises ConfigurationError: the key, and the nearest known one.
    """
    where = f"[servers.{printable(name)}] in {source}"
    if not isinstance(members, dict):
        raise ConfigurationError(f"{where} is not a table")
    values = {"title": name, **_checked(members, where)}
    for required in ("authorization_endpoint", "token_endpoint"):
        if required not in members and preset is None:
            raise ConfigurationError(f"{where} has no {required}")
    for key in ("authorization_endpoint", "token_endpoint", "revocation_endpoint", "api_base"):
        if key in values:
            values[key] = endpoint(values[key], key)
    if "redirect_uri" in values:
        parse_redirect_uri(values["redirect_uri"])
    if preset is not None:
        return dataclasses.replace(preset, **{key: value for key, value in values.items() if key in members})
    return AuthorizationServer(name=name, **values)


def nearest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return a hint that names the known word most like `name`, or none."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return (f"did you mean {printable(close[0])}?",) if close else ()


_TYPES: dict[str, type] = {
    "str": str,
    "str | None": str,
    "bool": bool,
    "int | None": int,
    "StatePolicy": str,
    "Mapping[str, str]": dict,
}
_FIELDS = {
    field.name: _TYPES[str(field.type)] for field in dataclasses.fields(AuthorizationServer) if field.name != "name"
}


def _checked(members: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key, value in members.items():
        wanted = _FIELDS.get(key)
        if wanted is None:
            raise ConfigurationError(f"{where} has the unknown key {printable(key)}", hint=nearest(key, _FIELDS))
        if not _fits(value, wanted):
            raise ConfigurationError(f"{where}: {key} is {_kind(value)}, and should be {_kind(wanted())}")
    if members.get("state", "required") not in ("required", "unconfirmed", "none"):
        raise ConfigurationError(f"{where}: state is one of required, unconfirmed, none")
    return dict(members)


_LONGEST = 10**9
"""Seconds of a lifetime, some thirty years: arithmetic on it must not overflow."""


def _fits(value: object, wanted: type) -> bool:
    if isinstance(value, dict):
        return wanted is dict and all(isinstance(one, str) for one in value.values())
    if isinstance(value, int):
        return type(value) is wanted and 0 <= value <= _LONGEST
    return type(value) is wanted


def _kind(value: object) -> str:
    if isinstance(value, int) and not 0 <= value <= _LONGEST:
        return "no number of seconds"
    if isinstance(value, dict) and value:
        return "a dict of something else than text"
    return {str: "text", bool: "true or false", int: "a whole number"}.get(type(value), f"a {type(value).__name__}")
