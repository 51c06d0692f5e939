"""Encryption at rest, around any store: what is kept is sealed on its way in, and opened on its way out.

AES-256-GCM (NIST SP 800-38D) with the first of the keys; all of them open.

    record   loopback-auth sealed 1 KEYID GENERATION
             BASE64(nonce + ciphertext + tag)                  nonce: 96 random bits

    answer   loopback-auth sealed 1 KEYID answer NONCE
             BASE64(ciphertext + tag)                          a line for each piece; the n-th has NONCE + n

Line 1 is in clear, and authenticated, as are the kind and the account's name; of a piece also its number and what it
answers: the generation, refresh token and grant of its intent. So nothing that is sealed can stand in another's place,
but an older whole one of the same account can: whoever can write the store can roll it back.
"""

from __future__ import annotations

import binascii
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from types import TracebackType
from typing import NoReturn

from loopback_auth.errors import StoreUnsafe, TokensGone, Unopenable
from loopback_auth.oauth.token import ANSWER_LIMIT
from loopback_auth.store.base import Intent, Journal, Lock, Record, Store, Trouble
from loopback_auth.store.head import SEALED
from loopback_auth.store.record import sealed_head
from loopback_auth.text import printable

KEY_SIZE = 32
"""Bytes of a key."""
NONCE_SIZE = 12
ONE_BY_ONE = 256
"""Pieces of an answer that are sealed as they come; later ones are put together, or their tags would need more room
than there is."""
BLOCK = 1024
"""Bytes that are put together then."""
_SEALED = SEALED.encode("ascii")
_ANSWER_HEAD = re.compile(rb"%s ([0-9a-f]{8}) answer ([0-9a-f]{24})" % re.escape(_SEALED))


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


class SealedStore:
    """Any store, sealed. Implements `Store`.

    `keys` is called when one is needed; None: there are none, what is sealed cannot be opened and what is written is
    not sealed. What is not sealed can be read if `allow_plain`, as in a store that is about to be sealed.
    """

    def __init__(self, inner: Store, keys: Callable[[], Keys] | None, *, allow_plain: bool) -> None:
        self.inner = inner
        self._fetch = keys
        self._fetched: Keys | None = None
        self._allow_plain = allow_plain

    @property
    def seals(self) -> bool:
        """Whether what is written is sealed."""
        return self._fetch is not None

    @property
    def keys(self) -> Keys | None:
        """The keys, fetched where that is not done yet. Raises ConfigurationError."""
        if self._fetched is None and self._fetch is not None:
            self._fetched = self._fetch()
        return self._fetched

    @property
    def address(self) -> str:
        """Where the secrets live."""
        return self.inner.address

    @property
    def described(self) -> str:
        """The same with what more the store within has to say of it."""
        return str(getattr(self.inner, "described", self.address))

    @property
    def shared(self) -> bool:
        """Whether several machines use it at once."""
        return self.inner.shared

    def names(self) -> list[str]:
        """Return the names of all accounts, sorted."""
        return self.inner.names()

    def read(self, name: str) -> Record | None:
        """Return what is kept under this name, opened. Raises Unopenable, and what the store within raises."""
        record = self.inner.read(name)
        if record is None or self._fetch is None:
            return record
        where = f"account {name} in {printable(self.address)}"
        if not record.content.startswith(_SEALED):
            if not self._allow_plain:
                raise _put_there(where, name, record.generation)
            return record
        key_id, generation = sealed_head(record.content) or ("", 0)
        keys = self.keys
        assert keys is not None  # noqa: S101 (there is what fetches them)
        if key_id and key_id not in keys.ids:
            raise _not_given(where, key_id, keys, record.generation)
        content = None
        if generation == record.generation:
            content = _opened(keys, key_id, record.content, name)
        if content is None:
            raise Unopenable(
                f"{where} was changed, or sealed under another name: it cannot be opened",
                hint=f"it is left as it is; log in again: loopback-auth login {name} --force",
                generation=record.generation,
            )
        return replace(record, content=content, sealed_with=key_id)

    def write(self, name: str, record: Record, replaces: int) -> None:
        """Seal the record and make it durable. Raises what the store within raises, ConfigurationError."""
        if (keys := self.keys) is not None:
            record = replace(record, content=_sealed(keys, record, name), sealed_with=keys.ids[0])
        self.inner.write(name, record, replaces)

    def remove(self, name: str) -> bool:
        """Forget the account and all that is about it, durably; return whether there was one."""
        return self.inner.remove(name)

    def lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the account's lock, not yet taken."""
        return self.inner.lock(name)

    def login_lock(self, name: str) -> AbstractContextManager[Lock]:
        """Return the lock of whoever asks a person to log in to the account, not yet taken."""
        return self.inner.login_lock(name)

    def journal(self, name: str) -> SealedJournal:
        """Return the journal of the account's refreshes, not yet opened."""
        return self._journal(name, self.inner.journal(name))

    def login_journal(self, name: str) -> SealedJournal:
        """Return a new journal, for one login.

        Raises Unopenable where what that would replace is sealed, and there is no key: nothing is unsealed unasked.
        """
        if self._fetch is None:
            with suppress(StoreUnsafe, TokensGone):  # it is replaced
                record = self.inner.read(name)
                if record is not None and record.content.startswith(_SEALED):
                    raise Unopenable(
                        f"account {name} in {printable(self.address)} is sealed, and the new tokens would not be: "
                        "no key was given",
                        hint=(
                            "the key goes into LOOPBACK_AUTH_STORE_KEY, or store_key in config.toml says where it is",
                            f"to have it in clear, forget the account first: loopback-auth logout {name}",
                        ),
                        generation=record.generation,
                    )
        return self._journal(name, self.inner.login_journal(name))

    def login_journals(self, name: str) -> Sequence[SealedJournal]:
        """Return the journals of all logins that have not ended as they should, or have not ended; not yet opened."""
        return [self._journal(name, journal) for journal in self.inner.login_journals(name)]

    def trouble(self, name: str) -> Trouble | None:
        """Return what was noted last; it holds no secret."""
        return self.inner.trouble(name)

    def note(self, name: str, trouble: Trouble) -> None:
        """Keep what went wrong, as it is. Raises StoreError."""
        self.inner.note(name, trouble)

    def _journal(self, name: str, inner: AbstractContextManager[Journal]) -> SealedJournal:
        where = f"account {name} in {printable(self.address)}"
        return SealedJournal(inner, name, where, lambda: self.keys, allow_plain=self._allow_plain)


class SealedJournal:
    """A journal whose answers are sealed. Implements `Journal`; enter it once."""

    def __init__(
        self,
        inner: AbstractContextManager[Journal],
        name: str,
        where: str,
        keys: Callable[[], Keys | None],
        *,
        allow_plain: bool,
    ) -> None:
        self._entering = inner
        self._name = name
        self._where = where
        self._keys = keys
        self._allow_plain = allow_plain
        self._answers = b""
        """What the next answer will be one to."""
        self._seal: Callable[[bytes, bytes, bytes], bytes] | None = None
        """None until the journal was proven, and without keys."""
        self._in_clear = False
        """Whether it turned out that there are no keys."""
        self._head = b""
        self._nonce = 0
        self._lines = 0
        self._taken = 0
        """Bytes of the answer so far."""
        self._waiting = b""
        """Those of them that are to be sealed together with what follows."""

    def __enter__(self) -> SealedJournal:
        self._inner = self._entering.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entering.__exit__(kind, error, traceback)

    # -- what is not about the answer

    def try_open(self) -> bool:
        """Take over what a process that has ended left; False while its sender is alive."""
        return self._inner.try_open()

    @property
    def news(self) -> int | None:
        """A descriptor to wait at before the next `try_open`."""
        return self._inner.news

    def tidy(self) -> None:
        """Remove what is left of a process that ended before it sent anything."""
        self._inner.tidy()

    @property
    def intent(self) -> Intent | None:
        """What was sent last, or was about to be."""
        return self._inner.intent

    def withdraw(self) -> None:
        """Take the last `arm` back."""
        self._inner.withdraw()

    def clear(self) -> None:
        """Remove intent and answers."""
        self._seal = None
        self._inner.clear()

    # -- what is

    def prove(self) -> None:
        """Fetch the key and draw the nonce: from here on sealing needs nothing of the system. Then prove the store.

        Raises ConfigurationError, and what the journal within raises.
        """
        keys = self._keys()
        self._in_clear = keys is None
        self._seal = None if keys is None else keys.sealing()
        nonce = os.urandom(NONCE_SIZE)
        self._nonce = int.from_bytes(nonce)
        self._head = b"" if keys is None else f"{SEALED} {keys.ids[0]} answer {nonce.hex()}".encode("ascii")
        self._lines, self._taken, self._waiting = 0, 0, b""
        self._inner.prove()

    def arm(self, intent: Intent) -> None:
        """Make it durable that this is sent now."""
        if self._seal is not None:
            self._answers = _answers(intent)
        self._inner.arm(intent)

    def stage(self, piece: bytes) -> None:
        """Seal and keep the next bytes of the answer, `ANSWER_LIMIT` in all; never fails, makes no system call."""
        if self._in_clear:
            self._inner.stage(piece)
        if self._seal is None:
            return
        piece = piece[: ANSWER_LIMIT - self._taken]
        self._taken += len(piece)
        self._waiting += piece
        if self._lines < ONE_BY_ONE or len(self._waiting) >= BLOCK:
            self._stage_waiting()

    def sync(self) -> None:
        """Make all of the answer durable."""
        self._stage_waiting()
        self._inner.sync()

    @property
    def answer(self) -> bytes:
        """What came, opened, as far as it is whole and nobody has changed it.

        Raises Unopenable where the key is missing: as long as nobody knows what came, nothing may be sent again.
        """
        self._stage_waiting()
        content = self._inner.answer
        if _SEALED.startswith(content):  # nothing, or its writer was killed at once
            return b""
        if not content.startswith(_SEALED):
            if not self._allow_plain:
                raise _put_there(f"the last answer for {self._where}", self._name)
            return content
        head, *lines = content.split(b"\n")[:-1] or [b""]
        known = _ANSWER_HEAD.fullmatch(head)
        if known is None:
            return b""
        key_id, first = known[1].decode("ascii"), int(known[2], 16)
        keys = self._keys()
        if keys is None or key_id not in keys.ids:
            raise _not_given(f"the last answer for {self._where}", key_id, keys)
        answers = _answers(self._inner.intent)
        pieces = []
        for number, line in enumerate(lines):
            about = _about_piece(head, self._name, answers, number)
            piece = keys.opened(key_id, _nonce(first, number), _decoded(line), about)
            if piece is None:
                break
            pieces.append(piece)
        return b"".join(pieces)

    # -- within

    def _stage_waiting(self) -> None:
        if self._seal is None or not self._waiting:
            return
        about = _about_piece(self._head, self._name, self._answers, self._lines)
        line = _encoded(self._seal(_nonce(self._nonce, self._lines), self._waiting, about))
        self._inner.stage(line if self._lines else self._head + b"\n" + line)
        self._lines += 1
        self._waiting = b""


# -- the formats


def _sealed(keys: Keys, record: Record, name: str) -> bytes:
    head = f"{SEALED} {keys.ids[0]} {record.generation}".encode("ascii")
    nonce = os.urandom(NONCE_SIZE)
    return head + b"\n" + _encoded(nonce + keys.sealing()(nonce, record.content, _about_record(head, name)))


def _opened(keys: Keys, key_id: str, content: bytes, name: str) -> bytes | None:
    lines = content.split(b"\n")
    sealed = _decoded(lines[1]) if len(lines) == 3 and not lines[2] else b""
    if len(sealed) < NONCE_SIZE:
        return None
    head = lines[0]
    return keys.opened(key_id, sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], _about_record(head, name))


def _about_record(head: bytes, name: str) -> bytes:
    return b"\0".join((head, b"record", name.encode()))


def _about_piece(head: bytes, name: str, answers: bytes, number: int) -> bytes:
    return b"\0".join((head, b"piece", name.encode(), answers, str(number).encode("ascii")))


def _answers(intent: Intent | None) -> bytes:
    """Return what an answer belongs to, as it is authenticated: to send it elsewhere takes another grant."""
    import hashlib
    import json

    what = None if intent is None else [intent.generation, intent.digest, intent.grant]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode("ascii")).hexdigest().encode("ascii")


def _nonce(first: int, number: int) -> bytes:
    return ((first + number) % (1 << 8 * NONCE_SIZE)).to_bytes(NONCE_SIZE)


def _encoded(sealed: bytes) -> bytes:
    return binascii.b2a_base64(sealed)


def _decoded(line: bytes) -> bytes:
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except ValueError:
        return b""


def _not_given(where: str, key_id: str, keys: Keys | None, generation: int = 0) -> Unopenable:
    if keys is None:
        return Unopenable(
            f"{where} is sealed, and no key was given",
            hint="the key that it was sealed with goes into LOOPBACK_AUTH_STORE_KEY",
            generation=generation,
        )
    return Unopenable(
        f"{where} is sealed with key {key_id}, which is not given",
        hint=f"given: {', '.join(keys.ids)}; the key that it was sealed with must be among them",
        generation=generation,
    )


def _put_there(where: str, name: str, generation: int = 0) -> Unopenable:
    return Unopenable(
        f"{where} is not sealed, as all is in this store: somebody else has put it there",
        hint=f"it is left as it is; log in again: loopback-auth login {name} --force",
        generation=generation,
    )
