"""Looking for secrets in whatever was left behind: as they are, encoded, and in part."""

from __future__ import annotations

import base64
import json
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

PART = 12
"""Characters that count as a leak: what shortens a long text for display leaves as many at both of its ends."""
PRIVATE = ("accounts/*/tokens", "accounts/*/answer", "accounts/*/login-*-answer", "accounts/*/login", "secrets/*")
"""Files of the home folder that may hold secrets: those that the README says so of."""


def forms(secret: str) -> dict[str, str]:
    """How a secret may be written, by the name of the encoding; hex digits and escapes in lower case."""
    raw = secret.encode(errors="surrogateescape")
    found = {
        "plain": secret,
        "percent-encoded": quote(raw, safe=""),
        "percent-encoded in lower case": _small(quote(raw, safe="")),
        "percent-encoded, the unreserved too": "".join(f"%{byte:02x}" for byte in raw),
        "form-encoded": quote_plus(raw),
        "form-encoded in lower case": _small(quote_plus(raw)),
        "in hex": raw.hex(),
        "in hex with spaces": raw.hex(" "),
        "in JSON": json.dumps(secret)[1:-1],
        "in JSON, every letter escaped": "".join(f"\\u{ord(character):04x}" for character in secret),
        "in JSON, slashes escaped": secret.replace("/", "\\/"),
        "in bytes escaped by Python": repr(raw)[2:-1],
        "in a list of numbers": ", ".join(map(str, raw)),
        "reversed": secret[::-1],
    }
    for lead in range(3):
        for kind, encoded in (
            ("base64", base64.b64encode(b"\0" * lead + raw)),
            ("base64url", base64.urlsafe_b64encode(b"\0" * lead + raw)),
        ):  # what the neighbours of a secret have a share in is cut off at both ends
            end = len(encoded) - 4 if (lead + len(raw)) % 3 else len(encoded)
            found[f"in {kind}, {lead} bytes in"] = encoded[(0, 2, 3)[lead] : end].decode()
    return found


class Search:
    """A search for the same secrets in many places."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """`secrets` are values by what they are; one of less than 12 characters is looked for whole."""
        self._needles: dict[bytes, str] = {}
        for name, secret in secrets.items():
            for form, text in forms(secret).items():
                for needle in parts(text):
                    self._needles.setdefault(needle.encode(errors="surrogateescape"), f"{name}, {form}")

    def hits(self, searched: str | bytes) -> list[str]:
        """What was found, by name and encoding; best nothing."""
        text = searched.encode(errors="surrogateescape") if isinstance(searched, str) else searched
        lowered = text.lower()
        return sorted({name for needle, name in self._needles.items() if needle in text or needle in lowered})


def parts(text: str) -> set[str]:
    """Both ends and the middle of a text, as far as they say something of it."""
    if len(text) < 2 * PART:
        return {text}
    middle = (len(text) - PART) // 2
    return {text[:PART], text[middle : middle + PART], text[-PART:]}


def in_files(search: Search, folder: Path, home: Path) -> list[str]:
    """What files below `folder` tell, their names included, apart from the private files of `home`, kept as such."""
    found = []
    for path in _files(folder):
        name = str(path.relative_to(folder))
        found += [f"{hit} in the name {name!r}" for hit in search.hits(name)]
        hits = search.hits(path.read_bytes())
        if hits and is_private(path, home):
            mode = stat.S_IMODE(path.stat().st_mode)
            found += [f"{name} has mode {mode:o}"] if mode != 0o600 else []
        else:
            found += [f"{hit} in {name}" for hit in hits]
    return found


def is_private(path: Path, home: Path) -> bool:
    """Whether a file is one that may hold secrets."""
    return path.is_relative_to(home) and any(path.relative_to(home).match(pattern) for pattern in PRIVATE)


def _small(text: str) -> str:
    return re.sub("%..", lambda escape: escape[0].lower(), text)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path
