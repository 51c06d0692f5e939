"""The pages a person may see on the loopback server: static files, nothing of a request is ever put into one."""

from __future__ import annotations

from functools import cache
from pkgutil import get_data
from typing import Literal

Page = Literal["signed_in", "denied", "failed", "refused", "rejected", "used", "unreachable", "wrong_account"]

STATUS: dict[Page, int] = {
    "signed_in": 200,
    "denied": 200,
    "failed": 502,
    "refused": 502,
    "rejected": 400,
    "used": 410,
    "unreachable": 503,
    "wrong_account": 409,
}
"""HTTP status of each page. A denial is what the person wanted: it worked."""


@cache
def render(page: Page) -> tuple[bytes, dict[str, str]]:
    """Return the page in UTF-8, in the frame that all share, and its headers: the style is allowed by its digest."""
    import base64  # not before a browser has its start page
    import hashlib

    style, content = _file("style.css"), _file(f"{page}.html")
    title = content.partition("<h1>")[2].partition("</h1>")[0]
    html = _file("frame.html").replace("/* style.css */", style)
    html = html.replace("<!-- title -->", title).replace("<!-- content -->\n", content)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html.encode(), {
        **BARE_HEADERS,
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
    }


def _file(name: str) -> str:
    return (get_data(__name__, name) or b"").decode()


BARE_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",  # to a script of another page it looks as if nobody answered
    "Server": "loopback-auth",
}
"""On every answer of the loopback server, the ones without a page included."""
