"""Where the keys of the store are, and fetching them: `LOOPBACK_AUTH_STORE_KEY`, else `store_key` in `config.toml`.

A text holds one key, or several for the time in which they change: 64 hex digits each, with commas or white space
between them. The first one seals, all of them open.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import NoReturn

from loopback_auth import config_file, files
from loopback_auth.errors import ConfigurationError, StoreUnsafe
from loopback_auth.store.base import SecretReference
from loopback_auth.store.keys import KEY_SIZE, Keys
from loopback_auth.text import printable

VARIABLE = "LOOPBACK_AUTH_STORE_KEY"
MAKE_ONE = "make one: openssl rand -hex 32"


def named(environ: Mapping[str, str] = os.environ) -> Callable[[], Keys] | None:
    """Return what fetches the keys, None where none are named. Nothing is fetched, run or asked before it is called.

    It raises ConfigurationError; also where a configuration that cannot be read may name some: what is secret must not
    be written in clear then.
    """
    if text := environ.get(VARIABLE, ""):
        return lambda: parse(text, VARIABLE)
    try:
        reference = config_file.store_key(environ)
    except ConfigurationError as error:
        return _raising(error)
    return None if reference is None else lambda: fetch(reference, environ)


def fetch(reference: SecretReference, environ: Mapping[str, str] = os.environ) -> Keys:
    """Return the keys that `store_key` points to. Raises ConfigurationError."""
    from loopback_auth import (
        secret_source,
    )  # and subprocess: `token` of a store whose key is in a variable does without

    match reference:
        case {"env": str(name)}:
            return parse(environ.get(name, ""), f"the variable {printable(name)}")
        case {"file": str(path)}:
            return parse(_from_file(path), f"the file {printable(path)}")
        case {"command": [str(), *_]}:
            words = [str(word) for word in reference["command"]]
            return parse(secret_source.from_command("store_key", words, environ), f"the command {printable(words[0])}")
        case _:
            user = str(reference["keyring"])
            held = secret_source.from_keyring("store_key", user)
            if not held.strip():
                put = f'put it there: keyring set {secret_source.KEYRING_SERVICE} "{user}"'
                raise ConfigurationError("there is no store key in the keyring", hint=(MAKE_ONE, put))
            return parse(held, "the keyring")


def parse(text: str, where: str) -> Keys:
    """Return the keys in a text that came from `where`; no message repeats it. Raises ConfigurationError."""
    keys: list[bytes] = []
    for number, word in enumerate(re.findall(r"[^,\s]+", text), 1):
        if not re.fullmatch(f"[0-9A-Fa-f]{{{2 * KEY_SIZE}}}", word):
            raise ConfigurationError(f"key {number} of {where} is not {2 * KEY_SIZE} hex digits", hint=MAKE_ONE)
        key = bytes.fromhex(word)
        if not any(key):
            raise ConfigurationError(f"key {number} of {where} is all zeros", hint=MAKE_ONE)
        if key in keys:
            raise ConfigurationError(f"key {number} of {where} is there twice", hint="leave one of the two out")
        keys.append(key)
    if not keys:
        raise ConfigurationError(f"there is no store key in {where}", hint=MAKE_ONE)
    return Keys(*keys)


def _from_file(path: str) -> str:
    try:
        return files.read(path).decode("ascii", errors="replace")
    except (FileNotFoundError, ValueError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not a path"
        raise ConfigurationError(
            f"the store_key file {printable(path)} cannot be read: {reason}",
            hint=(
                "put it back: another key opens nothing that is sealed already",
                f"if there never was one, make it: (umask 077; openssl rand -hex 32 >{shlex.quote(printable(path))})",
            ),
        ) from None
    except StoreUnsafe as error:
        raise ConfigurationError(f"the store_key file: {error}", hint=error.hint) from None


def _raising(error: ConfigurationError) -> Callable[[], Keys]:
    def fetch() -> NoReturn:
        raise error

    return fetch
