"""Firefox, driven over WebDriver BiDi, which it speaks itself: no driver program."""

import asyncio
import base64
import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aiohttp

from .bidi import BiDi
from .browser import (
    LEADS_AWAY,
    VISIBLE_TEXT,
    Browser,
    BrowserError,
    BrowserMissing,
    NavigationFailed,
    Options,
    strokes,
    without_empty_start,
    without_favicon,
)
from .firefox_prefs import user_js
from .processes import Processes

PROGRAMS = ("firefox-esr", "firefox")
EVENTS = [
    "browsingContext.navigationStarted",
    "browsingContext.navigationCommitted",
    "browsingContext.navigationFailed",
    "browsingContext.downloadWillBegin",
    "browsingContext.load",
    "log.entryAdded",
    "network.fetchError",
    "network.responseCompleted",
]
ABORTED = ("NS_BINDING_ABORTED", "NS_ERROR_ABORT")  # left by the page or the person, no failure
ADVANCED = "#advanced-button, #advancedButton"  # Firefox 153, and the warning that older ones show
ACCEPT = "#exception-button, #exceptionDialogButton"
BACKSPACE = "\ue003"

# Find the first element, in open shadow roots too: the certificate warning is built of them.
FIND = """(css) => {
    const within = root => root.querySelector(css)
        ?? [...root.querySelectorAll('*')].reduce((found, each) =>
            found ?? (each.shadowRoot ? within(each.shadowRoot) : null), null);
    const element = within(document);
    element?.scrollIntoView({block: 'nearest', behavior: 'instant'});
    return element?.checkVisibility() ? element : null;
}"""
IS_ENABLED = f"(css) => {{ const button = ({FIND})(css); return !!button && !button.disabled }}"
AT_ITS_CENTRE = """(element) => {
    const box = element.getClientRects()[0];
    let top = document, at;
    while (top) {
        const next = top.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
        if (next === at) break;
        at = next; top = at?.shadowRoot;
        if (element.contains(at)) return true;
    }
    return !!at && (element.contains(at) || !!element.shadowRoot?.contains(at));
}"""
BACK_LIST = """(() => {
    const history = gBrowser.selectedBrowser.browsingContext.sessionHistory;
    const addresses = [];
    for (let i = 0; i <= history.index; i++) addresses.push(history.getEntryAtIndex(i).URI.spec);
    return JSON.stringify(addresses);
})()"""
# Without a screen no window is the active one, and in another no key presses a button.
ACTIVATE = "Services.focus.activeWindow = window; gBrowser.selectedBrowser.focus(); ''"


class Firefox(Browser):
    """One Firefox."""

    name = "firefox"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._bidi = BiDi(self._on_event)
        self._tab = ""
        self._console: list[str] = []
        self._is_ours = True
        self._loading: dict[str, str | None] = {}  # tab → navigation under way
        self.processes = Processes(options.home)

    @classmethod
    async def start(cls, options: Options | None = None) -> Self:
        """Start it on an empty page; raises BrowserMissing where it is not installed."""
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            raise BrowserMissing("firefox")
        self = cls(options or Options())
        try:
            await self._start(program)
        except BaseException:
            await self.close()
            raise
        return self

    @classmethod
    async def attach(cls, port: int) -> Self:
        """Drive a Firefox that runs already, and listens on this port; `close` leaves it running."""
        self = cls(Options())
        self._is_ours = False
        try:
            await self._connect(f"ws://127.0.0.1:{port}")
        except BaseException:
            await self.close()
            raise
        return self

    async def _start(self, program: str) -> None:
        profile = self.processes.profile
        (profile / "user.js").write_text(user_js(self._options))
        await self.processes.start(
            [
                program,
                "--headless",
                "--no-remote",
                "--remote-debugging-port=0",
                "--remote-allow-system-access",  # only to read the back list, and to be the active window
                "-profile",
                str(profile),
            ],
            # Without the second, Firefox ignores the preference that keeps its lists from being fetched.
            {"MOZ_CRASHREPORTER_DISABLE": "1", "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1"},
        )
        address = await self.processes.says(r"WebDriver BiDi listening on (ws://\S+)")
        await self._connect(address)
        await self._set_up_tab()

    async def _connect(self, address: str) -> None:
        await self._bidi.connect(f"{address}/session")
        capabilities = {"acceptInsecureCerts": False, "unhandledPromptBehavior": {"default": "ignore"}}
        await self._bidi.send("session.new", {"capabilities": {"alwaysMatch": capabilities}})
        await self._bidi.send("session.subscribe", {"events": EVENTS})
        self._tab = (await self.tabs())[0]

    async def _set_up_tab(self) -> None:
        width, height = self._options.size
        viewport = {"width": width, "height": height}
        ratio = 2 if width < 600 else 1
        await self._send("browsingContext.setViewport", viewport=viewport, devicePixelRatio=ratio)

    def _on_event(self, method: str, event: dict[str, Any]) -> None:
        tab, navigation = event.get("context"), event.get("navigation")
        match method:
            case "browsingContext.navigationStarted":
                self._loading[str(tab)] = navigation
            case "browsingContext.navigationCommitted" if is_error_page(event["url"]):
                self._end_loading(tab, navigation)  # error pages report no load
            case "browsingContext.load" | "browsingContext.navigationFailed" | "browsingContext.downloadWillBegin":
                self._end_loading(tab, navigation)
            case "log.entryAdded" if event["level"] in ("warn", "error"):
                frames = (event.get("stackTrace") or {}).get("callFrames") or [{"url": ""}]
                self._console.append(f"{event['type']}: {frames[0]['url']} {event['text']}")
            case "network.responseCompleted":
                response = event["response"]
                if response["status"] in (204, 205):
                    self._end_loading(tab, navigation)  # the page stays
                if response["status"] >= 400:
                    self._console.append(f"network: {response['url']} {response['status']} {response['statusText']}")
            case "network.fetchError" if event["errorText"] in ABORTED:
                self._end_loading(tab, navigation)
            case "network.fetchError" if navigation is None:
                self._console.append(f"network: {event['request']['url']} {event['errorText']}")

    def _end_loading(self, tab: str | None, navigation: str | None) -> None:
        if self._loading.get(str(tab)) == navigation:
            self._loading.pop(str(tab), None)

    async def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return await self._bidi.send(method, {"context": self._tab, **parameters})

    async def _call(self, function: str, *arguments: dict[str, Any]) -> dict[str, Any]:
        answer = await self._bidi.send(
            "script.callFunction",
            {
                "functionDeclaration": function,
                "arguments": arguments,
                "target": {"context": self._tab},
                "awaitPromise": True,
                "userActivation": False,
            },
        )
        if answer["type"] == "exception":
            raise BrowserError("javascript error", answer["exceptionDetails"]["text"])
        result: dict[str, Any] = answer["result"]
        return result

    async def _element(self, css: str) -> dict[str, Any]:
        found = await self._call(FIND, {"type": "string", "value": css})
        if found["type"] != "node":
            raise BrowserError("no such element", f"nothing visible matches {css!r}")
        return {"sharedId": found["sharedId"]}

    async def _settle(self, start: float) -> None:
        """Wait for the navigation that begins within `start` seconds, if one does, and for those that follow it."""
        begins, ends = time.monotonic() + start, time.monotonic() + 60
        while (loading := self._tab in self._loading) or time.monotonic() < begins:
            if loading:
                begins = 0  # from here on only its end counts
            if time.monotonic() > ends:
                raise BrowserError("timeout", f"still loading: {await self.url()}")
            await asyncio.sleep(0.01)

    async def _is_complete(self) -> bool:
        try:
            return bool(await self.execute("return document.readyState === 'complete'"))
        except BrowserError:
            return False  # on its way out

    async def _document_uri(self) -> str:
        return str(await self.execute("return document.documentURI"))

    async def goto(self, url: str) -> None:
        """See Browser."""
        try:
            await self._send("browsingContext.navigate", url=url, wait="complete")
        except BrowserError as error:
            if error.error != "unknown error":
                raise
            shown = await self._document_uri()
            if is_error_page(shown) and not is_warning(shown):
                raise NavigationFailed(error.error, f"{url}: {error}") from error
        await self._settle(0)
        if await self.shows_certificate_warning():
            await self._enabled(ADVANCED)  # it builds itself by script, after its load

    async def url(self) -> str:
        """See Browser."""
        tree = await self._bidi.send("browsingContext.getTree", {"root": self._tab, "maxDepth": 0})
        return str(tree["contexts"][0]["url"])

    async def text(self) -> str:
        """See Browser."""
        return str(await self.execute(VISIBLE_TEXT))

    async def fill(self, css: str, text: str) -> None:
        """See Browser."""
        await self.click(css)
        await self._call("(element) => element.select()", await self._element(css))
        await self._send("input.performActions", actions=[strokes(text or BACKSPACE)])

    async def click(self, css: str) -> None:
        """See Browser."""
        element = await self._element(css)
        if not (await self._call(AT_ITS_CENTRE, element))["value"]:
            raise BrowserError("element click intercepted", f"something lies over {css!r}")
        leads_away = (await self._call(LEADS_AWAY, element))["value"]
        centre = {"type": "element", "element": element}
        steps = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": centre},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        await self._send("input.performActions", actions=[mouse])
        await self._settle(1 if leads_away else 0.05)

    async def press(self, *keys: str) -> None:
        """See Browser."""
        await self._in_chrome(ACTIVATE)
        await self._send("input.performActions", actions=[strokes(keys)])

    async def screenshot(self, path: Path) -> None:
        """See Browser."""
        taken = await self._send("browsingContext.captureScreenshot", origin="viewport")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(taken["data"]))

    async def console(self) -> list[str]:
        """See Browser."""
        await asyncio.sleep(0.2)  # reports travel beside the load they belong to
        return without_favicon(self._console)

    async def back_list(self) -> list[str]:
        """See Browser."""
        return without_empty_start(json.loads(await self._in_chrome(BACK_LIST)))

    async def _in_chrome(self, expression: str) -> str:
        """Return what `expression` is in the browser's own window, around the page."""
        windows = await self._bidi.send("browsingContext.getTree", {"moz:scope": "chrome", "maxDepth": 0})
        target = {"context": windows["contexts"][0]["context"]}
        answer = await self._bidi.send(
            "script.evaluate", {"expression": expression, "target": target, "awaitPromise": False}
        )
        return str(answer["result"]["value"])

    async def back(self) -> None:
        """See Browser."""
        before = len(await self.back_list())
        await self._send("browsingContext.traverseHistory", delta=-1)
        deadline = time.monotonic() + 60
        # A page brought back whole reports neither commit nor load: look at the history and the page instead.
        while len(await self.back_list()) == before or not await self._is_complete():
            if time.monotonic() > deadline:
                raise BrowserError("timeout", f"still there: {await self.url()}")
            await asyncio.sleep(0.02)
        self._loading.pop(self._tab, None)

    async def shows_certificate_warning(self) -> bool:
        """See Browser."""
        return is_warning(await self._document_uri())

    async def accept_certificate_warning(self) -> None:
        """See Browser."""
        for button in (ADVANCED, ACCEPT):
            await self._enabled(button)
            await self.click(button)
        deadline = time.monotonic() + 15
        while await self.shows_certificate_warning():  # the reload begins once the exception is stored
            if time.monotonic() > deadline:
                raise BrowserError("timeout", "the warning stays after its last button")
            await self._settle(0.05)
        await self._settle(0)

    async def _enabled(self, css: str) -> None:
        """Wait for a button of the warning: the last one can be pressed a second after it appears, no sooner."""
        deadline = time.monotonic() + 15
        while not (await self._call(IS_ENABLED, {"type": "string", "value": css}))["value"]:
            if time.monotonic() > deadline:
                raise BrowserError("no such element", f"the warning offers no {css!r}")
            await asyncio.sleep(0.05)

    async def open_tab(self, url: str) -> str:
        """See Browser."""
        created = await self._bidi.send("browsingContext.create", {"type": "tab", "background": False})
        self._tab = created["context"]
        await self._set_up_tab()
        await self.goto(url)
        return self._tab

    async def tabs(self) -> list[str]:
        """See Browser."""
        tree = await self._bidi.send("browsingContext.getTree", {"maxDepth": 0})
        return [tab["context"] for tab in tree["contexts"]]

    async def switch_to(self, tab: str) -> None:
        """See Browser."""
        await self._bidi.send("browsingContext.activate", {"context": tab})
        self._tab = tab

    async def execute(self, script: str) -> Any:
        """See Browser."""
        answer = await self._call(f"async () => JSON.stringify(await (async () => {{ {script}\n}})())")
        return json.loads(answer["value"]) if answer["type"] == "string" else None

    async def quit(self) -> None:
        """See Browser."""
        await self._bidi.send("browser.close", {})

    async def close(self) -> None:
        """See Browser."""
        if not self._is_ours:
            with suppress(BrowserError, TimeoutError, OSError, aiohttp.ClientError):  # it may have ended meanwhile
                await self._bidi.send("session.end", {}, within=5)  # it takes one session at a time
        await self._bidi.close()
        await self.processes.end()


def is_error_page(address: str) -> bool:
    """Tell whether `address`, as a document knows it, is a page that Firefox shows instead of the one asked for."""
    return address.startswith(("about:neterror?", "about:certerror?"))


def is_warning(address: str) -> bool:
    """Tell whether `address`, as a document knows it, is the warning about a certificate."""
    return address.startswith("about:certerror?")
