"""The keys of a sealed store: what they seal with (AES-256-GCM, NIST SP 800-38D), what is said if they do not open."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from loopback_auth.errors import Unopenable

KEY_SIZE = 32
"""Bytes of a key."""
NONCE_SIZE = 12


class Keys:
    """The keys of a store: the first one seals, all of them open. They are shown nowhere, but for their ids."""

    __slots__ = ("_keys", "ids")

    def __init__(self, *keys: bytes) -> None:
        """Each is 32 random bytes, none is there twice."""
        if not keys or any(len(key) != KEY_SIZE for key in keys) or len(set(keys)) != len(keys):
            raise ValueError("keys are 32 bytes each, and different")
        import hashlib  # 3 ms, not for a store without keys

        self._keys = keys
        self.ids = tuple(hashlib.sha256(b"loopback-auth store key\0" + key).hexdigest()[:8] for key in keys)
        """What a key is called where it is talked about; nobody can find the key from that."""

    def sealing(self) -> Callable[[bytes, bytes, bytes], bytes]:
        """Return what makes ciphertext and tag of nonce, content and what is authenticated beside it."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 17 ms, not for a store without keys

        return AESGCM(self._keys[0]).encrypt

    def opened(self, key_id: str, nonce: bytes, sealed: bytes, about: bytes) -> bytes | None:
        """Return what was sealed; None where no key of this id did that, or something was changed since."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        for own_id, key in zip(self.ids, self._keys, strict=True):
            if own_id == key_id:
                with suppress(InvalidTag, ValueError):  # the second: shorter than a tag
                    return AESGCM(key).decrypt(nonce, sealed, about)
        return None

    def __repr__(self) -> str:
        return "Keys(not shown)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are not pickled")


def encoded(sealed: bytes) -> bytes:
    """Return a line of BASE64."""
    return binascii.b2a_base64(sealed)


def decoded(line: bytes) -> bytes:
    """Return what such a line holds, nothing where it is none."""
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except ValueError:
        return b""


def not_given(where: str, name: str, key_id: str, keys: Keys | None, generation: int = 0) -> Unopenable:
    """Return the error of what was sealed with a key that is not among those given."""
    lost = f"if that key is lost, log in with a new one, as at first: loopback-auth login {name} --force"
    if keys is None:
        return Unopenable(
            f"{where} is sealed with key {key_id}, and no key was given",
            hint=("the key that it was sealed with goes into LOOPBACK_AUTH_STORE_KEY", lost),
            generation=generation,
        )
    return Unopenable(
        f"{where} is sealed with key {key_id}, which is not given",
        hint=(f"given: {', '.join(keys.ids)}; the key that it was sealed with must be among them", lost),
        generation=generation,
    )


def put_there(where: str, name: str, generation: int = 0) -> Unopenable:
    """Return the error of what is in clear where everything is sealed."""
    return Unopenable(
        f"{where} is not sealed, as all is in this store: somebody else has put it there",
        hint=f"it is left as it is; log in again: loopback-auth login {name} --force",
        generation=generation,
    )
