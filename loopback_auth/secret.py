"""The type secrets live in. It shows nothing: not by repr, str, format, pickle, nor in a traceback's locals."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Text that must not be shown. `reveal()` is the only way out, so that a search for it finds every use."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself: for the wire, the store and the pipe of `token`, nothing else."""
        return self._text

    def fingerprint(self) -> str:
        """Return length and the first 8 hex digits of SHA-256: enough to compare two by eye, useless to guess one."""
        import hashlib  # 3 ms, which a browser need not wait for

        digest = hashlib.sha256(self._text.encode(errors="surrogatepass")).hexdigest()
        return f"{len(self._text)} characters, sha256 {digest[:8]}"

    def matches(self, text: str) -> bool:
        """Compare in constant time."""
        import hmac

        return hmac.compare_digest(self._text.encode(errors="surrogatepass"), text.encode(errors="surrogatepass"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._text)

    __hash__ = None  # type: ignore[assignment]  # a secret is no dictionary key: its hash would tell it

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(not shown)"

    def __str__(self) -> str:
        return "[not shown]"

    def __format__(self, _spec: str) -> str:
        return "[not shown]"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
