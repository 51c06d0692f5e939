"""What the sandbox says about each request: one `LogLine`, and the one sink for text from outside.

Nothing in a line is a secret: no code, token, secret, password or verifier, not even in part.
"""

from __future__ import annotations

from dataclasses import dataclass

_LIMIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One request and what became of it, in words that need no knowledge of OAuth.

    `time` is Unix seconds, `path` comes without the query, `status` is 0 where no answer was sent, and `ok`
    says whether the request did what its sender wanted.
    """

    time: float
    method: str
    path: str
    status: int
    words: str
    ok: bool


def printable(text: str, limit: int = _LIMIT) -> str:
    """Return text from outside as printable ASCII of at most `limit` characters, the rest as `\\xNN`."""
    shown = "".join(char if " " <= char <= "~" else _escaped(char) for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _escaped(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
