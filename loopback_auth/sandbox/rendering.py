"""Turns the files under `pages/` into answers: values escaped, nothing from elsewhere allowed to load."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from aiohttp import web

_PAGES: Final = Path(__file__).parent / "pages"


class Markup(str):
    """Text that is HTML already; everything else is escaped when it is filled in."""

    __slots__ = ()


def fragment(name: str, **values: str) -> Markup:
    """Fill `pages/NAME.html` with values."""
    filled = {key: value if isinstance(value, Markup) else escape(value) for key, value in values.items()}
    return Markup(_template(name).substitute(filled))


def joined(fragments: Iterable[Markup]) -> Markup:
    """Put fragments one after another."""
    return Markup("".join(fragments))


def page(title: str, body: Markup, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a whole page that may not be kept, framed, or load anything."""
    style = Markup((_PAGES / "style.css").read_text("utf-8"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        # no form-action: Chromium applies it to the redirect after the form too, and would block that
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    )
    return web.Response(
        status=status,
        text=fragment("layout", title=title, style=style, body=body),
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            **(headers or {}),
        },
    )


@cache
def _template(name: str) -> Template:
    return Template((_PAGES / f"{name}.html").read_text("utf-8"))
