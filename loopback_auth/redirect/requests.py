"""What a browser asks the loopback server, and what it is answered: whoever speaks HTTP for us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loopback_auth.redirect.pages import BARE_HEADERS, STATUS, Page, render


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A request without a body; it may hold a code, so it is never shown."""

    method: str
    target: str
    """Path and query as they came."""
    headers: Mapping[str, list[str]]
    """Names in lower case."""

    @classmethod
    def parse(cls, came: bytes) -> Request | None:
        """Return the request if this is one and nothing more, written as browsers do; None for all else."""
        head, end, rest = came.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if not end or rest or len(words) != 3 or words[2] != "HTTP/1.1":
            return None
        headers: dict[str, list[str]] = {}
        for each in fields:
            name, colon, value = each.partition(":")
            if not colon or not name.replace("-", "").isalnum():
                return None
            headers.setdefault(name.lower(), []).append(value.strip(" \t"))
        if "content-length" in headers or "transfer-encoding" in headers:
            return None
        return cls(words[0], words[1], headers)

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow on the same connection (RFC 9112 §9.3)."""
        return not any("close" in value.lower() for value in self.every("connection"))

    def every(self, name: str) -> list[str]:
        """Return the values of a header, which may stand there more than once."""
        return self.headers.get(name, [])

    def cookie(self, name: str) -> str:
        """Return the value of a cookie, "" without one."""
        for pair in ";".join(self.every("cookie")).split(";"):
            found, _, value = pair.strip().partition("=")
            if found == name:
                return value
        return ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whole."""

    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = b""

    @classmethod
    def bare(cls, status: int, **headers: str) -> Reply:
        """Return an answer without a page."""
        return cls(status, {**BARE_HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}})

    @classmethod
    def page(cls, page: Page) -> Reply:
        """Return a page."""
        body, headers = render(page)
        return cls(STATUS[page], dict(headers), body)

    def wire(self) -> bytes:
        """Return the bytes of it (RFC 9112)."""
        headers = {**self.headers, "Content-Length": str(len(self.body))}
        lines = [f"HTTP/1.1 {self.status} "]  # the reason phrase may be empty (§4)
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body
