"""The whole login in real browsers: the command opens one, a person logs in at the sandbox and clicks Allow."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .browser import PHONE, Browser, Options
from .opener import Opener

SCREENS = Path(__file__).resolve().parents[2] / ".artifacts" / "screens"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Machine:
    """A fresh machine: an empty home, a sandbox port of its own, and `$BROWSER`."""

    environment: dict[str, str]

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        process = await self.start(*arguments)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loopback_auth", *arguments, env=self.environment, stdout=pipe, stderr=pipe
        )

    @asynccontextmanager
    async def login(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await self.start("login", "--server", "sandbox", "--timeout", "60s", *arguments)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


@pytest.fixture
def machine(tmp_path: Path, opener: Opener) -> Machine:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOPBACK_AUTH_")}
    return Machine(
        environment
        | {
            "LOOPBACK_AUTH_HOME": str(tmp_path / "home"),
            "LOOPBACK_AUTH_SANDBOX_PORT": str(free_port()),
            "BROWSER": opener.command,
        }
    )


async def shot(browser: Browser, name: str) -> None:
    SCREENS.mkdir(parents=True, exist_ok=True)
    await browser.screenshot(SCREENS / f"{browser.name}-{name}.png")


async def log_in(browser: Browser, user: str = "cafe-roma", password: str = "espresso") -> None:
    await browser.wait_for(css="input[name=user_id]")
    await browser.fill("input[name=user_id]", user)
    await browser.fill("input[name=password]", password)
    await browser.click("form button[type=submit], form button:not([type])")


async def decide(browser: Browser, decision: str) -> None:
    await browser.wait_for(css=f"button[value={decision}]")
    await browser.click(f"button[value={decision}]")


def assert_no_code(addresses: list[str]) -> None:
    assert not [address for address in addresses if re.search(r"[?&](code|state)=", address.split("authorize")[0])]
    assert not [address for address in addresses if "code=" in address]


async def test_login_over_http(browser: Browser, machine: Machine, opener: Opener) -> None:
    """A person logs in and clicks Allow; the tab ends on a clean page, no code is left in it, and the token works."""
    async with machine.login("-v") as process:
        await browser.goto(await opener.address())
        await shot(browser, "sandbox-login")
        await log_in(browser)
        await browser.wait_for(css="button[value=allow]")
        await shot(browser, "sandbox-allow")
        await decide(browser, "allow")
        await browser.wait_for(text="You are logged in")
        await shot(browser, "signed-in")
        _, err = await process.communicate()
    assert process.returncode == 0
    assert re.search(rb"the code was [\d.]+ ms old when it was sent", err)
    assert "signed_in" in await browser.url()
    assert_no_code(await browser.back_list())
    assert await browser.console() == []
    status, out, _ = await machine.run("token")
    assert (status, len(out.splitlines())) == (0, 1)
    status, out, _ = await machine.run("status", "default", "--json")
    assert json.loads(out)["company"] == {"id": "4711", "name": "Cafe Roma"}


async def test_login_over_https_with_our_own_certificate(browser: Browser, machine: Machine, opener: Opener) -> None:
    """The certificate warning is announced, and settled on the start page, before any code exists."""
    port = free_port()
    async with machine.login("--redirect-uri", f"https://localhost:{port}/") as process:
        address = await opener.address()
        assert address.startswith(f"https://localhost:{port}/start/")
        await browser.goto(address)
        assert await browser.shows_certificate_warning()
        await shot(browser, "certificate-warning")
        await browser.accept_certificate_warning()
        await log_in(browser)
        await decide(browser, "allow")
        await browser.wait_for(text="You are logged in")
        _, err = await process.communicate()
    assert process.returncode == 0
    assert b"will warn about the certificate" in err
    assert await browser.url() == (await browser.back_list())[-1]
    assert (await browser.url()).startswith(f"https://localhost:{port}/")
    assert_no_code(await browser.back_list())
    assert [message for message in await browser.console() if "cert" not in message.lower()] == []


async def test_wrong_password_then_deny(browser: Browser, machine: Machine, opener: Opener) -> None:
    """A wrong password costs nothing; Deny ends the login with 6, and the page says that nothing was stored."""
    async with machine.login() as process:
        await browser.goto(await opener.address())
        await log_in(browser, password="wrong")
        await browser.wait_for(css="input[name=password]")
        await shot(browser, "sandbox-wrong-password")
        await log_in(browser)
        await decide(browser, "deny")
        await browser.wait_for(text="Access was not allowed")
        await shot(browser, "denied")
        await process.communicate()
    assert process.returncode == 6
    assert_no_code(await browser.back_list())


async def test_closed_tab_times_out(chromium: Browser, machine: Machine, opener: Opener) -> None:
    """A person who closes the tab is waited for until the time is over, and then told so: 5."""
    async with machine.login("--timeout", "2s") as process:
        await chromium.goto(await opener.address())
        await chromium.wait_for(css="input[name=user_id]")
        await chromium.close()
        _, err = await process.communicate()
    assert process.returncode == 5
    assert b"no redirect arrived within 2 s" in err


async def test_start_page_works_once(browser: Browser, machine: Machine, opener: Opener) -> None:
    """Opening the start page again shows that it was used, and the login in the first tab goes on."""
    async with machine.login() as process:
        address = await opener.address()
        await browser.goto(address)
        first = (await browser.tabs())[0]
        await browser.open_tab(address)
        await browser.wait_for(text="This start page was used already")
        await browser.switch_to(first)
        await log_in(browser)
        await decide(browser, "allow")
        await browser.wait_for(text="You are logged in")
        await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("browser_options", [Options(size=PHONE, dark=True)], ids=["phone-dark"])
async def test_pages_fit_a_phone_in_the_dark(chromium: Browser, machine: Machine, opener: Opener) -> None:
    """On a phone-sized window in dark colours no page needs scrolling sideways."""
    wide = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
    async with machine.login() as process:
        await chromium.goto(await opener.address())
        await shot(chromium, "phone-sandbox-login")
        assert await chromium.execute(wide) is False
        await log_in(chromium)
        await chromium.wait_for(css="button[value=allow]")
        await shot(chromium, "phone-sandbox-allow")
        assert await chromium.execute(wide) is False
        await decide(chromium, "allow")
        await chromium.wait_for(text="You are logged in")
        await shot(chromium, "phone-signed-in")
        assert await chromium.execute(wide) is False
        await process.communicate()
