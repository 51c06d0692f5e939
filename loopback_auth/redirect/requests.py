"""What a browser asks the loopback server, and what it is answered: whoever speaks HTTP for us."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from loopback_auth.redirect.pages import BARE_HEADERS, STATUS, Page, render
from loopback_auth.redirect.peers import Owner

LINE_LIMIT = 8190
"""Bytes of a request line: a 4 KiB code and what stands beside it."""
HEADER_LIMIT = 1024 * 1024
"""Bytes of one header: other programs leave cookies on `localhost`, which would cost us the code; browsers keep up to
180 of 4 KiB for a host."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 §5.6.2
_LINE = re.compile(rf"({_NAME}) ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])")
_HEADER = re.compile(rf"({_NAME}):([\t\x20-\x7e\x80-\xff]*)")


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A request without a body; it may hold a code, so it is never shown."""

    method: str
    target: str
    """Path and query as they came."""
    headers: Mapping[str, list[str]]
    """Names in lower case."""
    sender: Owner = "ours"

    @classmethod
    def parse(cls, head: bytes, sender: Owner = "ours") -> Request | None:
        """Read a request line and headers, without the empty line behind them; None if malformed (RFC 9112 §2-5)."""
        first, *fields = head.decode("latin-1").split("\r\n")
        if len(first) > LINE_LIMIT or (line := _LINE.fullmatch(first)) is None:
            return None
        headers: dict[str, list[str]] = {}
        for each in fields:
            if (header := _HEADER.fullmatch(each)) is None:
                return None
            headers.setdefault(header[1].lower(), []).append(header[2].strip(" \t"))
        if line[3] == "HTTP/1.0":
            headers.setdefault("connection", []).append("close")
        return cls(line[1], line[2], headers, sender)

    @property
    def is_last(self) -> bool:
        """Whether its connection ends with it: that is asked for, or a body follows, which nobody here reads."""
        asked = any("close" in value.lower() for value in self.every("connection"))
        return asked or bool(self.every("content-length") or self.every("transfer-encoding"))

    def every(self, name: str) -> list[str]:
        """Return the values of a header, which may stand there more than once."""
        return self.headers.get(name, [])

    def cookies(self) -> dict[str, str]:
        """Return the cookies; of two with one name, the first."""
        found: dict[str, str] = {}
        for pair in ";".join(self.every("cookie")).split(";"):
            name, _, value = pair.strip().partition("=")
            found.setdefault(name, value)
        found.pop("", None)
        return found


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = b""
    pieces: AsyncGenerator[bytes, None] | None = field(default=None, repr=False)
    """What comes after the body, for as long as it lasts: such an answer waits, and is not for `wire`."""

    @classmethod
    def bare(cls, status: int, **headers: str) -> Reply:
        """Return an answer without a page."""
        return cls(status, {**BARE_HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}})

    @classmethod
    def page(cls, page: Page) -> Reply:
        """Return a page."""
        body, headers = render(page)
        return cls(STATUS[page], dict(headers), body)

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with it."""
        return self.headers.get("Connection") == "close"

    def wire(self) -> bytes:
        """Return the bytes of it (RFC 9112)."""
        headers = {**self.headers, "Content-Length": str(len(self.body))}
        lines = [f"HTTP/1.1 {self.status} "]  # the reason phrase may be empty (§4)
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body
