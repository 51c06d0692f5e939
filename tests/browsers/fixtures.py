"""Fixtures: a real browser per test, each with a fresh profile.

Import them in a conftest.py. A test that wants a phone, dark colours or more host names overrides `browser_options`:

    @pytest.mark.parametrize("browser_options", [Options(size=PHONE, dark=True)])
    async def test_page(browser: Browser) -> None: ...
"""

import os
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

import pytest
import pytest_asyncio

from .browser import Browser, BrowserMissing, Options
from .chromium import Chromium
from .firefox import Firefox
from .opener import Opener, open_with

__all__ = ["browser", "browser_options", "chromium", "firefox", "opener"]

Started = TypeVar("Started", bound=Browser)
BROWSERS: dict[str, type[Browser]] = {"chromium": Chromium, "firefox": Firefox}


@pytest.fixture
def browser_options() -> Options:
    """How the browsers of a test are set up."""
    return Options()


@pytest_asyncio.fixture
async def chromium(browser_options: Options) -> AsyncIterator[Chromium]:
    """Chromium with a fresh profile."""
    started = await start_or_skip(Chromium, browser_options)
    yield started
    await started.close()


@pytest_asyncio.fixture
async def firefox(browser_options: Options) -> AsyncIterator[Firefox]:
    """Firefox with a fresh profile."""
    started = await start_or_skip(Firefox, browser_options)
    yield started
    await started.close()


@pytest_asyncio.fixture(params=BROWSERS)
async def browser(request: pytest.FixtureRequest, browser_options: Options) -> AsyncIterator[Browser]:
    """Each browser in turn, with a fresh profile."""
    started = await start_or_skip(BROWSERS[request.param], browser_options)
    yield started
    await started.close()


@pytest.fixture
def opener() -> Iterator[Opener]:
    """A `$BROWSER` that notes the address it is handed."""
    with open_with() as opener:
        yield opener


async def start_or_skip(kind: type[Started], options: Options) -> Started:
    """Start a browser; without one, skip the test on a person's machine and fail it in CI."""
    try:
        return await kind.start(options)
    except BrowserMissing as missing:
        reason = f"{missing} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
