"""What a test may ask of a browser, whichever browser it is.

A browser here is a person's: its own fresh profile, no switch that weakens what it checks, every click and key a real
input event. What a person could not do is marked so.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from .processes import Processes

DESKTOP = (1280, 800)
PHONE = (390, 844)

# Open shadow roots included: Firefox builds its warnings of them.
VISIBLE_TEXT = """
    const texts = root => [
        root.body ? root.body.innerText
            : [...root.children].filter(each => each.checkVisibility()).map(each => each.innerText ?? ''),
        [...root.querySelectorAll('*')].filter(each => each.shadowRoot && each.checkVisibility())
            .map(each => texts(each.shadowRoot)),
    ].flat(Infinity);
    return texts(document).join('\\n').trim();
"""
IS_VISIBLE = "const found = document.querySelector({css}); return !!found && found.checkVisibility()"
# A link, or a button that sends its form: a navigation is to be expected of a click.
LEADS_AWAY = """(element) => {
    const pressed = element.closest('a[href], button, input');
    return !!pressed && (pressed.localName === 'a' || !!pressed.form && ['submit', 'image'].includes(pressed.type));
}"""
TAB, ENTER, SPACE = "\ue004", "\ue006", " "
EMPTY_PAGES = ("about:blank", "data:,")


class BrowserMissing(Exception):
    """This machine lacks the browser or its driver; the message says which program."""


class BrowserError(Exception):
    """The browser refused a command; `error` is WebDriver's own word for why."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(f"{error}: {message}")
        self.error = error


class NavigationFailed(BrowserError):
    """The tab shows the browser's own error page, and not a certificate warning: nobody listens, a redirect loop."""


@dataclass(frozen=True)
class Options:
    """How the browser is set up before its first page.

    `size` is the viewport in CSS pixels. `names` are host names that lead to this machine; any other name but localhost
    leads nowhere, in tests as on a machine without network. `home` replaces the browser's empty home folder by a
    prepared one (a certificate store, say), which is then the caller's to delete.
    """

    size: tuple[int, int] = DESKTOP
    dark: bool = False
    names: tuple[str, ...] = ()
    home: Path | None = None


class Browser(Protocol):
    """One browser process with one profile; commands act on the current tab. One command at a time."""

    name: str
    processes: Processes

    @classmethod
    async def start(cls, options: Options | None = None) -> Self:
        """Start it on an empty page; raises BrowserMissing where it is not installed."""

    async def goto(self, url: str) -> None:
        """Navigate and wait for the load; a certificate warning and any HTTP status are pages like others."""

    async def url(self) -> str:
        """Return what the address bar holds; under a certificate warning, the address warned about."""

    async def text(self) -> str:
        """Return the text a reader of the page sees."""

    async def fill(self, css: str, text: str) -> None:
        """Type `text` into the first field matching `css`, in place of what it held."""

    async def click(self, css: str) -> None:
        """Click the first element matching `css` with the mouse; wait for the page this leads to, if any.

        A link or submit button is given a second to begin leading somewhere; what a script does later, `wait_for` sees.
        """

    async def press(self, *keys: str) -> None:
        """Press and release keys one after another, on whatever has the focus; special ones as WebDriver has them."""

    async def screenshot(self, path: Path) -> None:
        """Save the viewport as PNG."""

    async def console(self) -> list[str]:
        """Return the warnings and errors of all tabs so far: scripts, policy violations, failed loads, 4xx and 5xx.

        Each is one line in the browser's own words, with the address it concerns.
        """

    async def back_list(self) -> list[str]:
        """Return the addresses the back button can reach, oldest first, the current page last."""

    async def back(self) -> None:
        """Press the back button and wait for the page."""

    async def shows_certificate_warning(self) -> bool:
        """Tell whether the tab shows the warning about an untrusted certificate."""

    async def accept_certificate_warning(self) -> None:
        """Pass the warning by its own buttons, and wait for the page behind it."""

    async def open_tab(self, url: str) -> str:
        """Open `url` in a new tab, which becomes the current one; return its handle for `switch_to`."""

    async def tabs(self) -> list[str]:
        """Return the handles of all tabs."""

    async def switch_to(self, tab: str) -> None:
        """Make `tab` the current one."""

    async def quit(self) -> None:
        """Quit as a person does, who closes the last window: headless, a browser outlives its tabs."""

    async def execute(self, script: str) -> Any:
        """Run `script` in the page as the body of an async function; return what it returns, if JSON can hold it."""

    async def close(self) -> None:
        """End every process of the browser and delete its profile; a second call does nothing."""

    async def wait_for(
        self, *, css: str | None = None, text: str | None = None, url: str | None = None, within: float = 15
    ) -> None:
        """Wait until the page shows an element matching `css`, contains `text`, and its address contains `url`.

        Raises TimeoutError after `within` seconds, with what the tab showed instead.
        """
        deadline = time.monotonic() + within
        while True:
            try:
                if (
                    (url is None or url in await self.url())
                    and (text is None or text in await self.text())
                    and (css is None or await self.execute(is_visible(css)))
                ):
                    return
            except BrowserError:
                if time.monotonic() > deadline:
                    raise
                # a page on its way out cannot be asked: ask the next one
            if time.monotonic() > deadline:
                wanted = {"css": css, "text": text, "url": url}
                wanted = {key: value for key, value in wanted.items() if value is not None}
                raise TimeoutError(
                    f"{self.name}: no {wanted} in {within} s; at {await self.url()}: {await self.text()!r}"
                )
            await asyncio.sleep(0.05)


def is_visible(css: str) -> str:
    """Return the script that tells whether the page shows an element matching `css`."""
    return IS_VISIBLE.format(css=json.dumps(css))


def strokes(keys: Sequence[str]) -> dict[str, Any]:
    """Return the input source, as WebDriver and BiDi have it, that presses keys one after another."""
    actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
    return {"type": "key", "id": "keyboard", "actions": actions}


def without_empty_start(addresses: list[str]) -> list[str]:
    """Leave out the empty page a browser starts with: a person's new tab, not part of any login."""
    return addresses[1:] if len(addresses) > 1 and addresses[0] in EMPTY_PAGES else addresses


def without_favicon(messages: list[str]) -> list[str]:
    """Leave out complaints about the /favicon.ico that browsers ask for although no page named it."""
    return [message for message in messages if "/favicon.ico" not in message]
