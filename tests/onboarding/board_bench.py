"""`scripts/bench board`: how long a change of a row takes to the page, in real browsers.

From the moment `Rows.change` is called until the page's text is the new one, and until the browser has painted it. Of
1,000 rows 50 change in each second, at any moment; the page is on the same computer. Clocks are compared by the page's
own answers, and what that leaves unsure is added. Status 1 if any change took longer than 200 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass, field

from tests.browsers.browser import Browser
from tests.browsers.fixtures import BROWSERS
from tests.onboarding.boards import served, waiting
from tests.speed.conditions import conditions
from tests.speed.figures import median, shown, table

RUNS = 200
ROWS = 1000
RATE = 50
"""Changes a second."""
LONGEST = 200
"""Milliseconds that a change may take."""
HEADER = ("browser", "rows", "changes", "change → text, ms", "worst", "change → painted, ms", "worst")
WATCH = """
    window.seen = {};
    const note = (text, kind) => { (window.seen[text] ??= {})[kind] = performance.timeOrigin + performance.now() };
    new MutationObserver((changes) => {
        for (const {target} of changes) {
            const cell = target.closest ? target : target.parentElement;
            const text = cell?.closest?.('.message')?.textContent;
            if (!text?.startsWith('change ')) continue;
            note(text, 'text');
            requestAnimationFrame(() => setTimeout(() => note(text, 'painted')));
        }
    }).observe(document.getElementById('rows'), {subtree: true, childList: true, characterData: true});
"""


@dataclass
class Figures:
    """What one browser took, in milliseconds, and by how much its clock may be wrong."""

    text: list[float] = field(default_factory=list)
    painted: list[float] = field(default_factory=list)
    missing: int = 0
    unsure: float = 0.0


async def measure(browser: Browser, rows: int, runs: int) -> Figures:
    """Change rows `runs` times, `RATE` times a second, and see when the page shows it."""
    async with served(waiting(rows)) as at:
        await browser.goto(at.board.new_url())
        await browser.wait_for(css=f"#rows tr[data-number='{rows - 1}']", within=60)
        await browser.execute(WATCH)
        offset, unsure = await _clock_of(browser)
        changed_at: dict[str, float] = {}
        states = ("logging in", "done", "failed", "waiting", "timed out")
        for number in range(runs):
            text = f"change {number}"
            changed_at[text] = time.time() * 1000
            row = at.rows[random.randrange(rows)]
            at.rows.change(row, message=text, state=random.choice(states), began=time.monotonic() - 3)
            await asyncio.sleep(random.uniform(0.5, 1.5) / RATE)
        await asyncio.sleep(1)
        seen = await browser.execute("return window.seen")
    figures = Figures(unsure=unsure)
    for text, began in changed_at.items():
        if set(seen.get(text, {})) != {"text", "painted"}:
            figures.missing += 1
            continue
        figures.text.append(seen[text]["text"] - offset - began + unsure)
        figures.painted.append(seen[text]["painted"] - offset - began + unsure)
    return figures


async def _clock_of(browser: Browser) -> tuple[float, float]:
    """Return how far the page's clock is ahead of ours, and how far that may be wrong, in milliseconds."""
    tries = []
    for _ in range(20):
        before = time.time() * 1000
        there = await browser.execute("return performance.timeOrigin + performance.now()")
        after = time.time() * 1000
        tries.append(((after - before) / 2, there - (before + after) / 2))
    unsure, offset = min(tries)
    return offset, unsure


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench board", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"changes ({RUNS})")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help=f"on the board ({ROWS})")
    parser.add_argument("--only", choices=BROWSERS, help="one browser")
    options = parser.parse_args(arguments)
    lines, worst = [], 0.0
    for name in [options.only] if options.only else BROWSERS:
        figures = asyncio.run(_in_a_browser(name, options.rows, options.runs))
        worst = max(worst, *figures.painted, LONGEST + 1 if figures.missing > options.runs / 10 else 0)
        cells = [shown(each) for times in (figures.text, figures.painted) for each in (median(times), max(times))]
        lines.append((name, str(options.rows), str(len(figures.text)), *cells))
        print(f"{name}: clocks compared to {shown(figures.unsure)} ms; {figures.missing} overtaken", file=sys.stderr)
    print(f"{conditions(options.runs)} {RATE} changes a second.\n\n{table(HEADER, lines)}")
    return 1 if worst > LONGEST else 0


async def _in_a_browser(name: str, rows: int, runs: int) -> Figures:
    browser = await BROWSERS[name].start()
    try:
        return await measure(browser, rows, runs)
    finally:
        await browser.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
