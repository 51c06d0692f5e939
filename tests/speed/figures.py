"""Figures of repeated runs, and how they are shown: Markdown tables, and SVG drawn by hand.

The drawings bring their own ground and follow the reader's light or dark theme; they load nothing from anywhere.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

ENOUGH = 10
"""Runs on either side, below which a ratio says nothing."""


class TooFewRunsError(ValueError):
    """A ratio was asked for of fewer runs than can carry one."""


@dataclass(frozen=True)
class Bar:
    """One tool: its runs, in the drawing's unit."""

    name: str
    values: Sequence[float]
    ours: bool = False


@dataclass(frozen=True)
class Line:
    """One tool as something grows: points of (how much there is, what it takes)."""

    name: str
    points: Sequence[tuple[float, float]]
    ours: bool = False


# -- figures -----------------------------------------------------------------------------------


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Return the quartiles: half of the runs lie between them."""
    known = list(values)
    if len(known) == 1:
        return known[0], known[0]
    lower, _, upper = statistics.quantiles(known, n=4, method="inclusive")
    return lower, upper


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """Return how many times our median theirs is. Raises TooFewRunsError for fewer than ten runs on either side."""
    mine, other = list(ours), list(theirs)
    if min(len(mine), len(other)) < ENOUGH:
        raise TooFewRunsError(f"a ratio of {len(mine)} runs and {len(other)} runs: at least {ENOUGH} of each")
    return median(other) / median(mine)


def shown(value: float) -> str:
    """Three figures, never an exponent."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 3)}f}".replace(",", "\N{NO-BREAK SPACE}")


# -- a table -----------------------------------------------------------------------------------


def milliseconds(seconds: Sequence[float]) -> str:
    """Return median and quartiles."""
    lower, upper = spread(seconds)
    return f"{shown(median(seconds) * 1000)} ({shown(lower * 1000)}–{shown(upper * 1000)})"


def times(base: Sequence[float], seconds: Sequence[float]) -> str:
    """Return how many times the base it takes, nothing where there are too few runs to say."""
    try:
        return f"{ratio(base, seconds):.2f}"
    except TooFewRunsError:
        return ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, its first column to the left and the figures to the right, readable as it stands."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    lines = ["| " + " | ".join(_padded(row, widths)) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]) + " |")
    return "\n".join(lines) + "\n"


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


# -- drawings ----------------------------------------------------------------------------------

_STYLE = """\
svg { color-scheme: light dark; font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", Helvetica, sans-serif }
.ground { fill: #ffffff; stroke: #d1d9e0 }
text { fill: #1f2328; font-variant-numeric: tabular-nums }
.title { font-size: 15px; font-weight: 600 }
.faint { fill: #59636e; font-size: 12px }
.grid { stroke: #d1d9e0; stroke-opacity: .7 }
.bar { fill: #afb8c1 }
.ours.bar { fill: #0969da }
text.ours { font-weight: 600 }
.whisker { stroke: #1f2328; stroke-width: 1.5; fill: none }
.floor { stroke: #bc4c00; stroke-width: 1.5; stroke-dasharray: 5 4 }
text.floor { fill: #bc4c00; stroke: none; font-size: 12px }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
.ours.line { stroke-width: 3 }
.c0 { stroke: #0969da } circle.c0, text.c0 { fill: #0969da; stroke: none }
.c1 { stroke: #bc4c00 } circle.c1, text.c1 { fill: #bc4c00; stroke: none }
.c2 { stroke: #1a7f37 } circle.c2, text.c2 { fill: #1a7f37; stroke: none }
.c3 { stroke: #8250df } circle.c3, text.c3 { fill: #8250df; stroke: none }
.c4 { stroke: #9a6700 } circle.c4, text.c4 { fill: #9a6700; stroke: none }
.c5 { stroke: #bf3989 } circle.c5, text.c5 { fill: #bf3989; stroke: none }
.c6 { stroke: #59636e } circle.c6, text.c6 { fill: #59636e; stroke: none }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117; stroke: #3d444d }
text { fill: #f0f6fc }
.faint { fill: #9198a1 }
.grid { stroke: #3d444d }
.bar { fill: #59636e }
.ours.bar { fill: #4493f8 }
.whisker { stroke: #f0f6fc }
.floor { stroke: #f0883e } text.floor { fill: #f0883e }
.c0 { stroke: #4493f8 } circle.c0, text.c0 { fill: #4493f8 }
.c1 { stroke: #f0883e } circle.c1, text.c1 { fill: #f0883e }
.c2 { stroke: #3fb950 } circle.c2, text.c2 { fill: #3fb950 }
.c3 { stroke: #ab7df8 } circle.c3, text.c3 { fill: #ab7df8 }
.c4 { stroke: #d29922 } circle.c4, text.c4 { fill: #d29922 }
.c5 { stroke: #db61a2 } circle.c5, text.c5 { fill: #db61a2 }
.c6 { stroke: #9198a1 } circle.c6, text.c6 { fill: #9198a1 }
}
"""
_COLOURS = 7
_WIDTH = 860
_EDGE = 20


def bars_svg(title: str, unit: str, rows: Sequence[Bar], floor: float | None = None) -> str:
    """Draw a bar per tool up to its median, with the quartiles as a whisker; `floor` is what nothing can go below."""
    left = _EDGE + 12 + max(_text_width(row.name) for row in rows)
    right = _WIDTH - _EDGE - 70
    top, pitch, thick = (86 if floor is not None else 66), 30, 18
    bottom = top + pitch * len(rows)
    largest = max([floor or 0, *(spread(row.values)[1] for row in rows)])
    step = _step(largest, 6)
    scale = (right - left) / (largest or 1)

    drawn = [
        _text(_EDGE, 32, title, "title"),
        _text(_EDGE, 51, f"{unit}, median and quartiles; shorter is better", "faint"),
    ]
    for number in range(int(largest / step) + 1):
        x = left + number * step * scale
        drawn.append(_stroke(f"M{x:.1f} {top - 4}V{bottom}", "grid"))
        drawn.append(_text(x, bottom + 17, _tick(number * step), "faint", "middle"))
    for number, row in enumerate(rows):
        y = top + number * pitch + pitch / 2
        low, high = (left + quartile * scale for quartile in spread(row.values))
        end = left + median(row.values) * scale
        kind = "ours " if row.ours else ""
        drawn.append(_text(left - 12, y + 4.5, row.name, kind.strip(), "end"))
        body = max(0.0, end - left - 3)
        outline = f"M{left:.1f} {y - thick / 2}h{body:.1f}q3 0 3 3v{thick - 6}q0 3 -3 3h{-body:.1f}z"
        drawn.append(_stroke(outline, f"{kind}bar"))
        drawn.append(_stroke(f"M{low:.1f} {y - 4}v8m0 -4H{high:.1f}m0 -4v8", "whisker"))
        drawn.append(_text(max(end, high) + 8, y + 4.5, shown(median(row.values)), kind.strip()))
    if floor is not None:
        x = left + floor * scale
        drawn.append(_stroke(f"M{x:.1f} {top - 8}V{bottom}", "floor"))
        drawn.append(
            _text(x, top - 13, f"physical floor {shown(floor)}", "floor", "middle" if x > left + 70 else "start")
        )
    return _document(title, bottom + 34, drawn)


def lines_svg(title: str, x_label: str, y_label: str, series: Sequence[Line]) -> str:
    """Draw what something takes as something grows, each decade of it equally wide."""
    left, top, bottom = _EDGE + 50, 72, 372
    right = _WIDTH - _EDGE - 16 - max(_text_width(line.name) for line in series)
    xs = [math.log10(x) for line in series for x, _ in line.points]
    first, last = min(xs), max(max(xs), min(xs) + 1e-9)
    largest = max(y for line in series for _, y in line.points) or 1
    step = _step(largest, 5)
    ceiling = math.ceil(largest / step - 1e-9) * step

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - first) / (last - first)
        return left + across * (right - left), bottom - y / ceiling * (bottom - top)

    drawn = [_text(_EDGE, 32, title, "title"), _text(_EDGE, 53, y_label, "faint")]
    for number in range(round(ceiling / step) + 1):
        y = place(10**first, number * step)[1]
        drawn.append(_stroke(f"M{left} {y:.1f}H{right:.1f}", "grid"))
        drawn.append(_text(left - 8, y + 4, _tick(number * step), "faint", "end"))
    for exponent in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1):
        x = place(10**exponent, 0)[0]
        drawn.append(_stroke(f"M{x:.1f} {top}V{bottom + 4}", "grid"))
        drawn.append(_text(x, bottom + 19, _tick(10**exponent), "faint", "middle"))
    drawn.append(_text((left + right) / 2, bottom + 40, x_label, "faint", "middle"))
    colours = _colours(series)
    for line in sorted(series, key=lambda line: line.ours):  # ours on top
        kind = f"{'ours ' if line.ours else ''}c{colours[line.name]}"
        places = [place(x, y) for x, y in sorted(line.points)]
        drawn.append(_stroke("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places), f"{kind} line"))
        drawn += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{4 if line.ours else 3}"/>' for x, y in places]
    ends = {line.name: place(*max(line.points)) for line in series}
    heights = _apart([ends[line.name][1] for line in series], 16, bottom)
    for line, height in zip(series, heights, strict=True):
        kind = f"{'ours ' if line.ours else ''}c{colours[line.name]}"
        drawn.append(_text(right + 12, height + 4.5, line.name, kind))
    return _document(title, bottom + 56, drawn)


def _colours(series: Sequence[Line]) -> dict[str, int]:
    """The first colour is ours alone; the others go round in the rest."""
    others = [line.name for line in series if not line.ours]
    taken = {name: 1 + number % (_COLOURS - 1) for number, name in enumerate(others)}
    return taken | {line.name: 0 for line in series if line.ours}


def _apart(heights: Sequence[float], least: float, lowest: float) -> list[float]:
    """Move labels up until none stands on another."""
    moved = list(heights)
    below = lowest + least
    for number in sorted(range(len(moved)), key=lambda number: -moved[number]):
        below = moved[number] = min(moved[number], below - least)
    return moved


def _step(largest: float, about: int) -> float:
    """Return a round distance for about so many lines."""
    raw = (largest or 1) / about
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)


def _tick(value: float) -> str:
    return f"{round(value, 6):,.12g}".replace(",", "\N{NO-BREAK SPACE}")


def _text_width(text: str) -> float:
    return 7.2 * len(text)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _stroke(path: str, kind: str) -> str:
    return f'<path class="{kind}" d="{path}"/>'


def _document(title: str, height: float, drawn: Sequence[str]) -> str:
    inside = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" '
        f'height="{height:.0f}" role="img">\n<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n'
        f'<rect class="ground" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1:.0f}" rx="8"/>\n'
        f"{inside}\n</svg>\n"
    )
