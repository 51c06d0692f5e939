"""The person: signed in already, so that all the time that passes is the tool's and the link's.

They open the address that the tool gave their browser, allow, and stay until the last page is there.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.speed.browser import Browser, Going


@dataclass
class Visit:
    """What became of the browser: when the redirect was sent to the tool, when and how the last page came."""

    redirected: float = 0.0
    last_page: float = 0.0
    status: int = 0
    trouble: str = ""


@dataclass
class Person:
    """Somebody who clicks Allow, at once or at a moment of their own."""

    authority: Path
    addresses: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False
    """Whether their browser opens spare connections on which it never says a word, as Chrome does."""
    patience: float = 20.0

    def __post_init__(self) -> None:
        self._tls = ssl.create_default_context(cafile=str(self.authority))
        self._tls.set_alpn_protocols(["http/1.1"])

    def walk(self, address: str, redirect_at: float = 0.0) -> Visit:
        """Go from the address to the last page; the redirect is not delivered before `redirect_at`."""
        visit = Visit()
        browser = Browser(self._tls, self.addresses, self.patience)
        going: Going | None = Going(address)
        was_allowed = False
        try:
            for _ in range(10):
                assert going is not None
                at_the_tool = urlsplit(going.address).scheme == "http"
                if at_the_tool and self.silent:
                    browser.spare(going.address)
                if at_the_tool and was_allowed and not visit.redirected:
                    browser.connect(going.address)
                    time.sleep(max(0.0, redirect_at - time.monotonic()))
                    visit.redirected = time.monotonic()
                was_allowed |= not at_the_tool
                visit.status, going = browser.go(going)
                visit.last_page = time.monotonic()
                if going is None:
                    return visit
            visit.trouble = "too many redirects"
        except (OSError, http.client.HTTPException) as error:
            visit.trouble = repr(error)
        finally:
            browser.close()
        return visit
