"""Answers of the token endpoint, sealed: a journal around any other.

    loopback-auth sealed 1 KEYID answer NONCE
    BASE64(ciphertext + tag)                          a line for each piece; the n-th has NONCE + n

Line 1 is in clear, and authenticated, as are the account's name, the number of the piece, and what it answers: the
generation, refresh token and grant of its intent. So no piece can stand in another's place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from loopback_auth.oauth.token import ANSWER_LIMIT
from loopback_auth.store.base import Intent, Journal
from loopback_auth.store.head import SEALED
from loopback_auth.store.keys import NONCE_SIZE, Keys, decoded, encoded, not_given, put_there

ONE_BY_ONE = 256
"""Pieces of an answer that are sealed as they come; later ones are put together, or their tags would need more room
than there is."""
BLOCK = 1024
"""Bytes that are put together then."""
_SEALED = SEALED.encode("ascii")
_ANSWER_HEAD = re.compile(rb"%s ([0-9a-f]{8}) answer ([0-9a-f]{24})" % re.escape(_SEALED))


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
                raise put_there(f"the last answer for {self._where}", self._name)
            return content
        head, *lines = content.split(b"\n")[:-1] or [b""]
        known = _ANSWER_HEAD.fullmatch(head)
        if known is None:
            return b""
        key_id, first = known[1].decode("ascii"), int(known[2], 16)
        keys = self._keys()
        if keys is None or key_id not in keys.ids:
            raise not_given(f"the last answer for {self._where}", self._name, key_id, keys)
        answers = _answers(self._inner.intent)
        pieces = []
        for number, line in enumerate(lines):
            about = _about_piece(head, self._name, answers, number)
            piece = keys.opened(key_id, _nonce(first, number), decoded(line), about)
            if piece is None:
                break
            pieces.append(piece)
        return b"".join(pieces)

    # -- within

    def _stage_waiting(self) -> None:
        if self._seal is None or not self._waiting:
            return
        about = _about_piece(self._head, self._name, self._answers, self._lines)
        line = encoded(self._seal(_nonce(self._nonce, self._lines), self._waiting, about))
        self._inner.stage(line if self._lines else self._head + b"\n" + line)
        self._lines += 1
        self._waiting = b""


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
