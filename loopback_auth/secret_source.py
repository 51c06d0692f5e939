"""What a secret is taken from beside variables and files: a command's output, the system's keyring.

`what` is the secret's name in messages; none of them repeats what came.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from loopback_auth import config_file
from loopback_auth.errors import ConfigurationError, StoreError
from loopback_auth.redirect.browser import SECRET_VARIABLES
from loopback_auth.system_keyring import Keyring
from loopback_auth.text import printable

KEYRING_SERVICE = "loopback-auth"
COMMAND_TIMEOUT = 60.0
"""Seconds a secret's command has: it may ask a person for a passphrase."""


def hidden_variables(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the variables that no child is to see: those of our names, and the one that `store_key` points to."""
    try:
        reference = config_file.store_key(environ) or {}
    except ConfigurationError:
        return SECRET_VARIABLES
    return (*SECRET_VARIABLES, str(reference["env"])) if "env" in reference else SECRET_VARIABLES


def from_command(what: str, words: list[str], environ: Mapping[str, str]) -> str:
    """Return what the command prints: no shell, no stdin, none of our secrets. Raises ConfigurationError."""
    hidden = hidden_variables(environ)
    hint = f"run it yourself to see why: it must print the {what} alone, read nothing from stdin, and end with 0"
    try:
        done = subprocess.run(  # noqa: S603 (the user's own command, from their own config, as a list)
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={name: value for name, value in environ.items() if name not in hidden},
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(
            f"the {what} command {printable(words[0])} did not work: {_why_not_run(error)}", hint=hint
        ) from None
    if done.returncode != 0:
        raise ConfigurationError(f"the {what} command {printable(words[0])} ended with {done.returncode}", hint=hint)
    return done.stdout.decode(errors="surrogateescape")


def _why_not_run(error: OSError | ValueError | subprocess.TimeoutExpired) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {COMMAND_TIMEOUT:.0f} seconds"
    return os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not a command"


def from_keyring(what: str, name: str) -> str:
    """Return what the keyring holds for service `loopback-auth` and this user name, "" where that is nothing.

    Raises ConfigurationError.
    """
    keyring = Keyring(KEYRING_SERVICE, instead=f"or have the {what} elsewhere: in a file, a variable, from a command")
    try:
        return keyring.get(name) or ""
    except StoreError as error:
        raise ConfigurationError(f"the {what} is in the keyring: {error}", hint=error.hint) from None
