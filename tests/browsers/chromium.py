"""Chromium, driven by chromedriver over W3C WebDriver."""

import asyncio
import base64
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Self

import aiohttp

from .browser import (
    LEADS_AWAY,
    VISIBLE_TEXT,
    Browser,
    BrowserError,
    BrowserMissing,
    NavigationFailed,
    Options,
    is_visible,
    strokes,
    without_empty_start,
    without_favicon,
)
from .processes import Processes

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key WebDriver gives to element references
SHOWS_ERROR_PAGE = "return document.URL.startsWith('chrome-error:')"
SHOWS_WARNING = f"{SHOWS_ERROR_PAGE} && !!document.querySelector('body.ssl')"


class Chromium(Browser):
    """One Chromium with its own chromedriver."""

    name = "chromium"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120))
        self._session = ""
        self._console: list[str] = []
        self.processes = Processes(options.home)

    @classmethod
    async def start(cls, options: Options | None = None) -> Self:
        """Start it on an empty page; raises BrowserMissing where it is not installed."""
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        driver = shutil.which("chromedriver")
        if program is None or driver is None:
            raise BrowserMissing("chromium" if program is None else "chromedriver")
        self = cls(options or Options())
        try:
            await self._start(program, driver)
        except BaseException:
            await self.close()
            raise
        return self

    @classmethod
    async def attach(cls, port: int) -> Self:
        """Drive a Chromium that runs already, and listens on this port; `close` leaves it running."""
        driver = shutil.which("chromedriver")
        if driver is None:
            raise BrowserMissing("chromedriver")
        self = cls(Options())
        try:
            await self._connect(driver, {"debuggerAddress": f"127.0.0.1:{port}"})
        except BaseException:
            await self.close()
            raise
        return self

    async def _start(self, program: str, driver: str) -> None:
        await self._connect(driver, {"binary": program, "args": self._arguments()})
        await self._set_up_tab()
        await self.goto("about:blank")  # instead of Chromium's own start page, which a back list would begin with
        await self._cdp("Page.resetNavigationHistory")

    async def _connect(self, driver: str, chrome_options: dict[str, Any]) -> None:
        await self.processes.start([driver, "--port=0"])
        port = await self.processes.says(r"started successfully on port (\d+)")
        self._session = f"http://127.0.0.1:{port}/session"
        capabilities = {
            "browserName": "chrome",
            "acceptInsecureCerts": False,
            "pageLoadStrategy": "normal",
            "unhandledPromptBehavior": "ignore",
            "timeouts": {"pageLoad": 60_000, "script": 30_000, "implicit": 0},
            "goog:loggingPrefs": {"browser": "WARNING"},
            "goog:chromeOptions": chrome_options,
        }
        created = await self._send("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        self._session += f"/{created['sessionId']}"

    def _arguments(self) -> list[str]:
        rules = [f"MAP {name} 127.0.0.1" for name in self._options.names]
        rules += [
            "MAP * ~NOTFOUND",
            "EXCLUDE localhost",
            "EXCLUDE *.localhost",
            "EXCLUDE 127.0.0.1",
            "EXCLUDE [::1]",
        ]
        return [
            "--headless",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium refuses to run as root with its sandbox
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-breakpad",
            "--disable-dev-shm-usage",  # containers give /dev/shm 64 MB
            "--no-proxy-server",
            "--password-store=basic",
            f"--user-data-dir={self.processes.profile}",
            f"--host-resolver-rules={', '.join(rules)}",
        ]

    async def _set_up_tab(self) -> None:
        """Give the current tab its size and colours; they last for the tab, across pages and sites."""
        width, height = self._options.size
        phone = width < 600
        await self._cdp(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone},
        )
        scheme = "dark" if self._options.dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self._cdp("Emulation.setEmulatedMedia", {"features": features})

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        async with self._http.request(method, self._session + path, json=body) as response:
            value = (await response.json())["value"]
        if isinstance(value, dict) and "error" in value:
            raise BrowserError(value["error"], value["message"])
        return value

    async def _cdp(self, command: str, parameters: dict[str, Any] | None = None) -> Any:
        return await self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters or {}})

    async def _element(self, css: str) -> str:
        found = await self._send("POST", "/element", {"using": "css selector", "value": css})
        return f"/element/{found[ELEMENT]}"

    async def goto(self, url: str) -> None:
        """See Browser."""
        try:
            await self._send("POST", "/url", {"url": url})
        except BrowserError as error:
            if error.error not in ("unknown error", "insecure certificate"):
                raise
        # Not every failure is an error to chromedriver (a port Chromium blocks is none), and a warning is one.
        if await self.execute(SHOWS_ERROR_PAGE) and not await self.shows_certificate_warning():
            raise NavigationFailed("error page", f"{url}: {await self.text()}")

    async def url(self) -> str:
        """See Browser."""
        return str(await self._send("GET", "/url"))

    async def text(self) -> str:
        """See Browser."""
        return str(await self.execute(VISIBLE_TEXT))

    async def fill(self, css: str, text: str) -> None:
        """See Browser."""
        element = await self._element(css)
        await self._send("POST", f"{element}/clear", {})
        await self._send("POST", f"{element}/value", {"text": text})

    async def click(self, css: str) -> None:
        """See Browser."""
        element = await self._element(css)
        leads_away = await self.execute(f"return ({LEADS_AWAY})(document.querySelector({json.dumps(css)}))")
        before = await self._document()
        await self._send("POST", f"{element}/click", {})
        # chromedriver waits for a navigation it knows of, before each answer; of a form's it may not know yet.
        deadline = time.monotonic() + 1
        while leads_away and time.monotonic() < deadline:
            if await self._document() != before:
                break
            await asyncio.sleep(0.02)

    async def _document(self) -> tuple[str, str]:
        """Return what tells the shown page from any other: Chromium's number for its load, and its address."""
        frame = (await self._cdp("Page.getFrameTree"))["frameTree"]["frame"]
        return frame["loaderId"], await self.url()

    async def press(self, *keys: str) -> None:
        """See Browser."""
        await self._send("POST", "/actions", {"actions": [strokes(keys)]})

    async def screenshot(self, path: Path) -> None:
        """See Browser."""
        png = base64.b64decode(await self._send("GET", "/screenshot"))
        await asyncio.to_thread(path.write_bytes, png)

    async def console(self) -> list[str]:
        """See Browser."""
        await asyncio.sleep(0.2)  # reports travel beside the load they belong to
        # Each entry is handed out once, so we keep them.
        for entry in await self._send("POST", "/se/log", {"type": "browser"}):
            self._console.append(f"{entry['source']}: {entry['message']}")
        return without_favicon(self._console)

    async def back_list(self) -> list[str]:
        """See Browser."""
        history = await self._cdp("Page.getNavigationHistory")
        reachable = history["entries"][: history["currentIndex"] + 1]
        return without_empty_start([entry["url"] for entry in reachable])

    async def back(self) -> None:
        """See Browser."""
        await self._send("POST", "/back", {})

    async def shows_certificate_warning(self) -> bool:
        """See Browser."""
        return bool(
            await self.execute("return location.protocol == 'chrome-error:' && !!document.querySelector('body.ssl')")
        )

    async def accept_certificate_warning(self) -> None:
        """See Browser."""
        if not await self.execute(is_visible("#proceed-link")):
            await self.click("#details-button")
        await self.click("#proceed-link")
        deadline = time.monotonic() + 15
        while await self.shows_certificate_warning():
            if time.monotonic() > deadline:
                raise BrowserError("timeout", "the warning stays after its last link")
            await asyncio.sleep(0.02)

    async def open_tab(self, url: str) -> str:
        """See Browser."""
        created = await self._send("POST", "/window/new", {"type": "tab"})
        await self.switch_to(created["handle"])
        await self._set_up_tab()
        await self.goto(url)
        return str(created["handle"])

    async def tabs(self) -> list[str]:
        """See Browser."""
        return list(await self._send("GET", "/window/handles"))

    async def switch_to(self, tab: str) -> None:
        """See Browser."""
        await self._send("POST", "/window", {"handle": tab})

    async def execute(self, script: str) -> Any:
        """See Browser."""
        body = {"script": f"return (async () => {{ {script}\n}})()", "args": []}
        return await self._send("POST", "/execute/sync", body)

    async def quit(self) -> None:
        """See Browser."""
        await self._cdp("Browser.close")

    async def close(self) -> None:
        """See Browser."""
        await self._http.close()
        await self.processes.end()
