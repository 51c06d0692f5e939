"""The one sink for text from outside: what a server, a file or a browser sent, before a person or a log sees it."""

from __future__ import annotations

LIMIT = 200
"""Characters of outside text that are shown at most."""


def printable(text: object, limit: int = LIMIT) -> str:
    r"""Return `text` in printable ASCII, everything else as `\xNN` (UTF-8 bytes), at most `limit` characters.

    Backslashes stay as they are: the result is for reading, not for decoding. Never raises.
    """
    try:
        shown = str(text)
    except ValueError:  # a number of more than 4,300 digits
        shown = "a very long number"
    if len(shown) <= limit and shown.isascii() and shown.isprintable():
        return shown
    shown = "".join(map(_shown, shown[: limit + 1]))
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _shown(character: str) -> str:
    if " " <= character <= "~":
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
