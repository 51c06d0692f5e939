"""A login in two steps, between them: state and verifier in a file of its own, 0600, that works once."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass

from loopback_auth import files
from loopback_auth.errors import LoginRequired, StoreError
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.secret import Secret
from loopback_auth.store.base import SecretReference
from loopback_auth.store.head import account_folder
from loopback_auth.store.record import parse_reference, parse_registration
from loopback_auth.text import printable

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLogin:
    """What the second step needs: all that is known of the request, and until when it is waited for (Unix seconds)."""

    registration: ClientRegistration
    secret_reference: SecretReference | None
    redirect_uri: str
    state: Secret
    code_verifier: Secret
    expires_at: float


def save(accounts_folder: str, name: str, pending: PendingLogin) -> None:
    """Keep a pending login in the place of an earlier one of this account. Raises StoreError."""
    folder = account_folder(accounts_folder, name)
    files.make_folder(accounts_folder)
    files.make_folder(folder)
    members = {
        "format": _FORMAT,
        "registration": dataclasses.asdict(pending.registration),
        "client_secret": pending.secret_reference,
        "redirect_uri": pending.redirect_uri,
        "state": pending.state.reveal(),
        "code_verifier": pending.code_verifier.reveal(),
        "expires_at": pending.expires_at,
    }
    files.replace(_path(accounts_folder, name), json.dumps(members, indent=1).encode("ascii") + b"\n")


def load(accounts_folder: str, name: str) -> PendingLogin:
    """Return the pending login. Raises LoginRequired: there is none; StoreError."""
    path = _path(accounts_folder, name)
    try:
        members = json.loads(files.read(path))
        if members["format"] != _FORMAT:
            raise ValueError
        if not all(isinstance(members[key], str) for key in ("redirect_uri", "state", "code_verifier")):
            raise TypeError
        expires_at = float(members["expires_at"])
        if not math.isfinite(expires_at):
            raise ValueError
        return PendingLogin(
            registration=parse_registration(members["registration"]),
            secret_reference=parse_reference(members["client_secret"]),
            redirect_uri=members["redirect_uri"],
            state=Secret(members["state"]),
            code_verifier=Secret(members["code_verifier"]),
            expires_at=expires_at,
        )
    except FileNotFoundError:
        raise LoginRequired(
            f"no login of account {name} was started, or it was finished already",
            hint=f"start one: loopback-auth login {name} --start",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StoreError(
            f"{printable(path)} is damaged, or of another version of this program",
            hint=f"start again: loopback-auth login {name} --start",
        ) from error


def remove(accounts_folder: str, name: str) -> bool:
    """Use a pending login up, durably; return whether it was still there."""
    return files.remove(_path(accounts_folder, name))


def _path(accounts_folder: str, name: str) -> str:
    return os.path.join(account_folder(accounts_folder, name), "login")
