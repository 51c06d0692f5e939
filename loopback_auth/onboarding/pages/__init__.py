"""The pages of the board: static files, nothing of a run is ever put into one."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pkgutil import get_data
from typing import Literal

from loopback_auth.redirect.pages import BARE_HEADERS

Page = Literal["board", "closed"]


@cache
def render(page: Page) -> tuple[bytes, dict[str, str]]:
    """Return the page in UTF-8, and its headers: its own style and script are allowed by their digests, no others."""
    style, script = _file("board.css"), _file("board.js")
    html = _file(f"{page}.html").replace("/* board.css */", style).replace("/* board.js */", script)
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"  # text cannot be made markup, even by mistake
    )
    return html.encode(), {
        **BARE_HEADERS,
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def _digest(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode('ascii')}"


def _file(name: str) -> str:
    return (get_data(__name__, name) or b"").decode()
