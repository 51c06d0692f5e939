"""Driving a browser that somebody else has opened."""

from pathlib import Path

import pytest

from loopback_auth.redirect.windows import Window, Windows

from .attach import attach, attach_to_next, profiles
from .test_harness import Site, origin, site

__all__ = ["origin", "site"]
COMMANDS = {
    "chromium": ["chromium", "--headless=new", "--no-proxy-server", "--remote-debugging-port=0"],
    "firefox": ["firefox-esr", "--headless", "--remote-debugging-port=0"],
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_form_in_a_window_that_is_not_ours(tmp_path: Path, site: Site, origin: str, name: str) -> None:
    """It is typed into and clicked in as in any browser, and goes on when we leave; we may come again."""
    known: set[Path] = set()
    with Windows.open(tmp_path / "windows", command=COMMANDS[name]) as windows:
        window = windows.show(f"{origin}/form")
        assert isinstance(window, Window)
        browser = await attach_to_next(tmp_path / "windows", known)
        try:
            await browser.wait_for(css="[name=user]")
            await browser.fill("[name=user]", "cafe-roma")
            await browser.fill("[name=password]", "secret")
            await browser.click("button")
            await browser.wait_for(text="Done")
        finally:
            await browser.close()
        assert site.logins == [{"user": "cafe-roma", "password": "secret"}]
        assert window.ended() is None
        assert known == set(profiles(tmp_path / "windows"))
        again = await attach(known.pop())
        try:
            assert await again.text() == "Done"
        finally:
            await again.close()
        assert window.ended() is None


async def test_no_window(tmp_path: Path) -> None:
    """One that does not come, or tells no port, is waited for in vain."""
    with pytest.raises(TimeoutError, match="no browser was opened"):
        await attach_to_next(tmp_path, set(), within=0.1)
    with pytest.raises(TimeoutError, match="tells no port"):
        await attach(tmp_path, within=0.1)
