"""Where a client secret is, and fetching it from there when a request needs it. It is never kept beside the tokens."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress

from loopback_auth import files, folders
from loopback_auth.errors import ConfigurationError, StoreUnsafe
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.secret import Secret
from loopback_auth.secret_source import from_command, from_keyring
from loopback_auth.store.base import SecretReference
from loopback_auth.store.head import valid_name
from loopback_auth.text import printable

VARIABLE = "LOOPBACK_AUTH_CLIENT_SECRET"


def fetch(
    reference: SecretReference | None, registration: ClientRegistration, environ: Mapping[str, str] = os.environ
) -> Secret | None:
    """Return the secret that `reference` points to; None for a client that has none (`none`).

    One line end at its end is not part of it: a newline inside Basic is a 401. Raises ConfigurationError, StoreUnsafe.
    """
    if registration.token_endpoint_auth_method == "none":  # noqa: S105 (a method's name)
        return None
    match reference or {}:
        case {"env": str(name)}:
            text = environ.get(name, "")
            missing = f"the variable {printable(name)} is not set"
        case {"file": str(path)}:
            text = _from_file(path, environ)
            missing = f"the file {printable(path)} is empty"
        case {"command": [_, *_] as words}:
            text = from_command("client_secret", [str(word) for word in words], environ)
            missing = f"the command {printable(words[0])} printed nothing"
        case {"keyring": str(name)}:
            text = from_keyring("client_secret", name)
            missing = f"the keyring holds no secret for client {printable(name)}"
        case {"config": str(name)}:
            text = _from_config(name, environ)
            missing = f"[clients.{printable(name)}] in config.toml holds no client_secret any more"
        case {"preset": True}:
            text = registration.server.client_secret or ""
            missing = "the preset holds no secret"
        case _:
            text, missing = "", "nobody said where it is"
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ConfigurationError(
            f"the client_secret of {printable(registration.client_id, 60)} is missing: {missing}",
            hint="put it there, or log in with --client-secret-file FILE, or with --client-secret-stdin",
        )
    return Secret(text)


def keep(name: str, secret: Secret, environ: Mapping[str, str] = os.environ) -> SecretReference:
    """Save a secret that was typed or piped in, 0600, apart from config and tokens. Raises StoreError."""
    reference = kept(name, environ)
    files.make_folder(os.path.dirname(reference["file"]))
    files.replace(reference["file"], secret.reveal().encode(errors="surrogateescape") + b"\n")
    return reference


def check_place(environ: Mapping[str, str] = os.environ) -> None:
    """Raise StoreUnsafe if `keep` could not: a person should not log in first."""
    with suppress(FileNotFoundError):
        files.check_folder(_own_folder(environ))


def kept(name: str, environ: Mapping[str, str] = os.environ) -> SecretReference:
    """Return where `keep` saves."""
    file = "".join(letter if valid_name(letter) or letter in ".-" else "_" for letter in name)
    return {"file": os.path.join(_own_folder(environ), file)}


def _own_folder(environ: Mapping[str, str]) -> str:
    return os.path.join(folders.data(environ), "secrets")


def forget(name: str, reference: SecretReference | None, environ: Mapping[str, str] = os.environ) -> None:
    """Remove a secret that `keep` saved under this name; one that lives elsewhere is not ours to remove."""
    if reference == kept(name, environ):
        files.remove(reference["file"])


def _from_file(path: str, environ: Mapping[str, str]) -> str:
    """Read what the person named, which may be a pipe or a link; a file of our own must be as we made it."""
    try:
        if os.path.dirname(path) == _own_folder(environ):
            files.check_folder(os.path.dirname(path))
            return files.read(path).decode(errors="surrogateescape")
        with open(path, "rb") as file:
            return file.read(64 * 1024).decode(errors="surrogateescape")
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not a path"
        raise ConfigurationError(
            f"the client_secret file {printable(path)} cannot be read: {reason}",
            hint="put it back, or log in with --client-secret-file and another file",
        ) from error


def _from_config(name: str, environ: Mapping[str, str]) -> str:
    path = os.path.realpath(os.path.join(folders.configuration(environ), "config.toml"))
    try:
        secret = tomllib.loads(files.read(path).decode()).get("clients", {}).get(name, {}).get("client_secret")
    except (FileNotFoundError, ValueError, AttributeError, RecursionError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else printable(error)
        raise ConfigurationError(f"{printable(path)} cannot be read: {reason}") from error
    except StoreUnsafe as error:
        raise ConfigurationError(str(error), hint=error.hint) from error
    return secret if isinstance(secret, str) else ""
