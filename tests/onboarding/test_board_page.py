"""The board in real browsers: what a person sees of a run, and can do with mouse or keyboard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.browsers.browser import ENTER, PHONE, SPACE, TAB, Browser, Options
from tests.browsers.hostile_page import HostileSite, attack, readable

from .board_bench import measure
from .boards import Shown, mixed, served

MARKUP = "<img src=x onerror='window.ran=1'><script>window.ran=1</script>"
FOCUSED = "return document.activeElement.ariaLabel ?? document.activeElement.textContent"


@pytest.fixture
async def at(browser: Browser) -> AsyncIterator[Shown]:
    """A run well under way, open in the browser."""
    async with served(mixed()) as shown:
        await browser.goto(shown.board.new_url())
        await browser.wait_for(css="#rows tr[data-number='39']")
        yield shown


async def cell(browser: Browser, number: int, name: str) -> str:
    css = json.dumps(f"#rows tr[data-number='{number}'] .{name}")
    return str(await browser.execute(f"return document.querySelector({css}).textContent"))


async def tab_to(browser: Browser, name: str) -> None:
    """Press Tab until what has this name has the focus."""
    for _ in range(150):
        await browser.press(TAB)
        if await browser.execute(FOCUSED) == name:
            return
    raise AssertionError(f"the keyboard does not get to {name}")


async def asked(at: Shown, *actions: tuple[str, int]) -> None:
    """Wait until the board has asked for these, and see that it asks for nothing else."""
    async with asyncio.timeout(10):
        while len(at.steered.asked) < len(actions):  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)
    assert at.steered.asked == list(actions)


async def test_rows_come_and_change(browser: Browser, at: Shown) -> None:
    """All rows are shown, then what changes of them; progress and title follow; the browser complains of nothing."""
    assert await browser.execute("return document.querySelectorAll('#rows tr').length") == 40
    assert "8 of 40 done" in await browser.text()
    assert "Restaurants of Acme" in await browser.text()
    assert await browser.execute("return document.title") == "8/40 done, 7 need you – Restaurants of Acme"
    row = at.rows[15]
    at.rows.change(
        row, state="done", company={"id": "4726", "name": "Golden Dragon"}, ended=row.began and row.began + 9.4
    )
    await browser.wait_for(text="9 of 40 done")
    found = [await cell(browser, 15, name) for name in ("state", "company", "seconds")]
    assert found == ["done", "Golden Dragon, 4726", "9.4"]
    assert await browser.execute("return document.title") == "9/40 done, 6 need you – Restaurants of Acme"
    bar = "const bar = document.querySelector('progress'); return [bar.value, bar.max]"
    assert await browser.execute(bar) == [9, 40]
    assert "golden-dragon: done" in await browser.execute("return document.getElementById('said').textContent")
    assert await browser.console() == []


async def test_no_key_stays_in_the_browser(browser: Browser, at: Shown) -> None:
    """Address bar and back list hold the clean address alone; a reload and a second tab show the board again."""
    assert await browser.url() == f"{at.origin}/board"
    assert await browser.back_list() == [f"{at.origin}/board"]
    await browser.goto(f"{at.origin}/board")
    await browser.wait_for(text="8 of 40 done")
    await browser.open_tab(f"{at.origin}/board")
    await browser.wait_for(text="8 of 40 done")


async def test_a_login_that_is_open(browser: Browser, at: Shown) -> None:
    """A card says what a person needs: as whom, which company, notes, steps; its seconds tick; it goes at the end."""
    card = "#cards [data-number='15']"
    shown = await browser.execute(f'return document.querySelector("{card}").innerText')
    for words in (
        "golden-dragon",
        "logging in",
        "Log in as golden-dragon@example.com",
        "It must be company 4726",
        "call Mei first",
        *at.rows[15].steps,
    ):
        assert words in shown
    seconds = f'return parseInt(document.querySelector("{card} .seconds").textContent)'
    before = await browser.execute(seconds)
    await asyncio.sleep(3.5)
    assert before + 2 <= await browser.execute(seconds) <= before + 8
    at.rows.change(at.rows[15], state="timed out")
    await browser.wait_for(css="#rows tr[data-number='15'][data-state='timed out']")
    assert await browser.execute(f'return document.querySelector("{card}") === null') is True


async def test_a_start_address_to_open_by_hand(browser: Browser, at: Shown) -> None:
    """Where no window could be opened the start address is shown, to be copied for a private window, and is no link."""
    field = "#cards [data-number='16'] .start input"
    assert await browser.execute(f'return document.querySelector("{field}").value') == at.rows[16].start_url
    assert await browser.execute("return document.querySelectorAll('a').length") == 0
    assert await browser.execute("return document.querySelectorAll('.start:not([hidden])').length") == 1
    await browser.click("#cards [data-number='16'] .start button")
    await browser.wait_for(text="Copied")


async def test_buttons_by_mouse(browser: Browser, at: Shown) -> None:
    """Waiting rows can be connected now or skipped, open ones skipped, failed ones tried again, done ones none."""
    labels = (
        "const all = [...document.querySelectorAll(`#rows tr[data-number='%d'] button`)];"
        "return all.filter((button) => button.checkVisibility()).map((button) => button.ariaLabel)"
    )
    assert await browser.execute(labels % 20) == ["Connect cafe-roma-2", "Skip cafe-roma-2"]
    assert await browser.execute(labels % 15) == ["Skip golden-dragon"]
    assert await browser.execute(labels % 3) == ["Retry trattoria-da-nino"]
    assert await browser.execute(labels % 12) == ["Retry noodle-bar"]
    assert await browser.execute(labels % 0) == []
    await browser.click("#rows tr[data-number='20'] .connect")
    await browser.click("#rows tr[data-number='21'] .skip")
    await browser.click("#rows tr[data-number='3'] .connect")
    await browser.click("#cards [data-number='15'] .skip")
    await asked(at, ("connect", 20), ("skip", 21), ("connect", 3), ("skip", 15))
    assert await browser.console() == []


async def test_buttons_by_keyboard(browser: Browser, at: Shown) -> None:
    """With Tab, Enter and Space alone all can be done; the focus stays where it is while rows change."""
    await tab_to(browser, "Skip golden-dragon")
    await browser.press(ENTER)
    await asked(at, ("skip", 15))
    await tab_to(browser, "Retry trattoria-da-nino")
    for number in (2, 3, 4):
        at.rows.change(at.rows[number], message="has changed")
    await browser.wait_for(text="has changed")
    assert await browser.execute(FOCUSED) == "Retry trattoria-da-nino"
    await browser.press(SPACE)
    await asked(at, ("skip", 15), ("connect", 3))


async def test_the_focus_is_not_lost(browser: Browser, at: Shown) -> None:
    """When the button that has the focus goes away, its row has it, or the cards' heading: Tab goes on from there."""
    await tab_to(browser, "Skip golden-dragon")
    at.rows.change(at.rows[15], state="done")
    await browser.wait_for(text="9 of 40 done")
    assert await browser.execute(FOCUSED) == "Log in now"
    await tab_to(browser, "Retry trattoria-da-nino")
    at.rows.change(at.rows[3], state="done")
    await browser.wait_for(text="10 of 40 done")
    assert "trattoria-da-nino" in await browser.execute(FOCUSED)
    await browser.press(TAB)
    assert await browser.execute(FOCUSED) == "Retry curry-house"


async def test_only_some_rows(browser: Browser, at: Shown) -> None:
    """A filter shows what needs somebody, what waits or what is done, and rows come and go as they change."""
    rows = "return [...document.querySelectorAll('#rows tr')].filter((row) => row.checkVisibility()).length"
    for name, many in (("needs", 7), ("waiting", 23), ("done", 8), ("all", 40), ("needs", 7)):
        await browser.click(f"input[value={name}]")
        assert await browser.execute(rows) == many
    at.rows.change(at.rows[30], state="failed")
    await browser.wait_for(text="8 need you")
    assert await browser.execute(rows) == 8
    for row in at.rows:
        at.rows.change(row, state="done")
    await browser.wait_for(text="No account is like this")


async def test_markup_stays_text(browser: Browser, at: Shown) -> None:
    """Whatever a server or a file calls a company is shown letter by letter, and never becomes part of the page."""
    at.rows.change(
        at.rows[15], company={"id": MARKUP, "name": MARKUP}, message=MARKUP, notes=MARKUP, login=MARKUP, steps=(MARKUP,)
    )
    await browser.wait_for(text=MARKUP)
    at.board.finish(MARKUP)
    await browser.wait_for(css="#notice:not(:empty)")
    assert await cell(browser, 15, "company") == f"{MARKUP}, {MARKUP}"
    assert await browser.execute("return document.querySelectorAll('img, #rows script, #cards script').length") == 0
    assert await browser.execute("return window.ran") is None
    assert await browser.console() == []


async def test_a_summary_to_copy(browser: Browser, at: Shown) -> None:
    """One button copies all rows as a plain table."""
    await browser.click("#copy-summary")
    await browser.wait_for(text="Copied")
    lines = str(await browser.execute("return document.getElementById('summary-text').value")).splitlines()
    assert len(lines) == 41
    assert lines[0].split() == ["ACCOUNT", "STATE", "COMPANY", "SECONDS", "MESSAGE"]
    assert lines[1].split() == ["cafe-roma", "done", "Cafe", "Roma,", "4711", "14.0"]
    assert lines[4].split("  ")[-1] == "access was denied in the browser"
    assert await browser.console() == []


async def test_the_end_of_a_run(browser: Browser, at: Shown) -> None:
    """At the end the words of the terminal stand on top, no button is left, and the page asks for nothing any more."""
    at.board.finish("The run is over: 8 done, 32 not. You can close this tab.")
    await browser.wait_for(text="The run is over: 8 done, 32 not. You can close this tab.")
    assert "32 not done" in await browser.text()
    assert await browser.execute("return document.title") == "Over: 8/40 done – Restaurants of Acme"
    buttons = "return [...document.querySelectorAll('.actions button')].some((button) => button.checkVisibility())"
    assert await browser.execute(buttons) is False
    await asyncio.sleep(2.5)
    assert at.board.opened == 1
    await browser.click("input[value=needs]")
    rows = "return [...document.querySelectorAll('#rows tr')].filter((row) => row.checkVisibility()).length"
    assert await browser.execute(rows) == 32


async def test_after_the_end_nothing_is_missed(browser: Browser) -> None:
    """A board whose run is over does not complain that nobody answers any more."""
    async with served(mixed()) as at:
        await browser.goto(at.board.new_url())
        await browser.wait_for(text="8 of 40 done")
        at.board.finish("The run is over.")
        await browser.wait_for(text="The run is over.")
    await asyncio.sleep(8)
    assert "does not answer" not in await browser.text()


async def test_nobody_answers_any_more(browser: Browser) -> None:
    """When the terminal is gone without a word, the page says so within seconds, and its seconds stand still."""
    async with served(mixed()) as at:
        await browser.goto(at.board.new_url())
        await browser.wait_for(text="8 of 40 done")
    await browser.wait_for(text="loopback-auth does not answer any more: look at the terminal", within=12)
    assert str(await browser.execute("return document.title")).startswith("No answer")
    seconds = "return document.querySelector(\"#cards [data-number='15'] .seconds\").textContent"
    before = await browser.execute(seconds)
    await asyncio.sleep(1.5)
    assert await browser.execute(seconds) == before


async def test_too_many_tabs(browser: Browser, at: Shown) -> None:
    """The oldest of five tabs says that the board is open elsewhere, and does not take its place back."""
    [first] = await browser.tabs()
    for _ in range(4):
        await browser.open_tab(f"{at.origin}/board")
        await browser.wait_for(text="8 of 40 done")
    await browser.switch_to(first)
    await browser.wait_for(text="The board was opened in other tabs")
    await asyncio.sleep(2.5)
    for tab in (await browser.tabs())[1:]:
        await browser.switch_to(tab)
        assert "opened in other tabs" not in await browser.text()


async def test_who_is_late(browser: Browser, at: Shown) -> None:
    """A used address shows how to get in, and nothing of the run."""
    url = at.board.new_url()
    await browser.goto(url)
    await browser.wait_for(text="8 of 40 done")
    await browser.goto(url)
    await browser.wait_for(text="The board is closed here")
    assert "cafe-roma" not in await browser.text()


@pytest.mark.parametrize("browser_options", [Options(names=("evil.example",))], ids=["evil"])
async def test_a_hostile_page_beside_it(browser: Browser, at: Shown) -> None:
    """A page at another port, to which the browser sends the cookie, or of another site, reads and steers nothing."""
    key = at.board.new_url()
    there = {
        "page": f"{at.origin}/board",
        "events": f"{at.origin}/board/events",
        "connect": f"{at.origin}/board/rows/0/connect",
        "key": key,
    }
    async with HostileSite().at() as site:
        await browser.open_tab("about:blank")
        for host in ("127.0.0.1", "evil.example"):
            await browser.goto(f"{site.origin(host)}/page")
            learned = await attack(browser, "WAYS", there)
            assert readable(learned) == []
            assert "cafe-roma" not in json.dumps(learned)
    assert at.steered.asked == []
    await browser.goto(key)
    await browser.wait_for(text="8 of 40 done")


@pytest.mark.parametrize(
    "browser_options", [Options(size=PHONE), Options(size=PHONE, dark=True)], ids=["light", "dark"]
)
async def test_a_phone(browser: Browser, at: Shown) -> None:
    """On a phone nothing needs scrolling sideways, with the longest words too, and buttons are large to touch."""
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await browser.execute(wide) == 0
    long = "x" * 190
    at.rows.change(
        at.rows[15], login=long, notes=long, message=long, steps=(long,), start_url=f"http://{long}/", company_id=long
    )
    at.rows.change(at.rows[14], state="failed", message=long, company={"id": long, "name": long})
    await browser.wait_for(text=long)
    await browser.click("#copy-summary")
    assert await browser.execute(wide) == 0
    least = (
        "const all = [...document.querySelectorAll('#rows .connect:not([hidden])')];"
        "return Math.min(...all.map((button) => button.offsetHeight))"
    )
    assert await browser.execute(least) >= 40
    at.board.finish(long)
    await browser.wait_for(css="#notice:not(:empty)")
    assert await browser.execute(wide) == 0


async def test_a_thousand_rows(browser: Browser) -> None:
    """With 1,000 rows, 50 of which change in each second, no change takes long to be seen."""
    figures = await measure(browser, 1000, 100)
    assert figures.missing < 20
    assert max(figures.painted) < 3000  # against hangs; scripts/bench has the figures
