"""Figures and drawings: what they show is what was measured."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

from tests.speed.figures import (
    Bar,
    Line,
    TooFewRunsError,
    bars_svg,
    lines_svg,
    median,
    ratio,
    shown,
    spread,
    table,
)

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def paths(drawing: str, kind: str) -> list[list[float]]:
    """The figures in each path whose class holds `kind`."""
    found = [one for one in ElementTree.fromstring(drawing).iter(f"{SVG}path") if kind in one.attrib["class"].split()]
    return [[float(figure) for figure in re.findall(r"-?[\d.]+", one.attrib["d"])] for one in found]


def test_a_median_and_its_quartiles() -> None:
    """Half of the runs lie between the quartiles, in whatever order they came; one run is its own spread."""
    runs = [9.0, 1.0, 5.0, 3.0, 7.0]
    assert median(runs) == 5.0
    assert spread(runs) == (3.0, 7.0)
    assert spread([4.0]) == (4.0, 4.0)


def test_a_ratio_is_of_medians() -> None:
    """Theirs over ours: 2 says that they take twice as long, whatever one run of either did."""
    ours, theirs = [10.0] * 9 + [500.0], [20.0] * 9 + [1.0]
    assert ratio(ours, theirs) == 2.0


@pytest.mark.parametrize(("ours", "theirs"), [(9, 10), (10, 9), (0, 12)])
def test_no_ratio_of_fewer_than_ten_runs(ours: int, theirs: int) -> None:
    """With nine runs on either side there is no ratio."""
    with pytest.raises(TooFewRunsError, match="at least 10"):
        ratio([1.0] * ours, [1.0] * theirs)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.012"), (0.5, "0.500"), (5.678, "5.68"), (56.78, "56.8"), (567.8, "568"), (56789, "56 789")],
)
def test_three_figures_are_shown(value: float, text: str) -> None:
    """Three figures are shown, thousands apart, never an exponent."""
    assert shown(value).replace("\N{NO-BREAK SPACE}", " ") == text


def test_a_table_is_readable_as_it_stands() -> None:
    """Columns stand under each other, figures to the right, and a bar in a cell does not end it."""
    assert table(("tool", "ms"), [("a|b", "7"), ("c", "1200")]) == (
        "| tool |   ms |\n"
        "| ---- | ---: |\n"
        "| a\\|b |    7 |\n"
        "| c    | 1200 |\n"
    )  # fmt: skip


def test_bars_are_as_long_as_their_medians() -> None:
    """A median twice as large is a bar twice as long, and the floor stands where a bar of its size would end."""
    drawing = bars_svg("t", "ms", [Bar("a", [100.0] * 3, ours=True), Bar("b", [200.0] * 3)], floor=50.0)
    (left, _, ours, *_), (_, _, theirs, *_) = paths(drawing, "bar")
    ((floor, *_),) = paths(drawing, "floor")
    assert theirs + 3 == pytest.approx(2 * (ours + 3), abs=0.2)
    assert floor - left == pytest.approx((ours + 3) / 2, abs=0.2)


def test_bars_tell_whose_they_are() -> None:
    """Every bar has its tool's name and median beside it; ours alone is marked, and the floor only drawn if known."""
    drawing = bars_svg("Logins <8>", "ms", [Bar("mine", [1.0, 2.0, 3.0], ours=True), Bar("other & co", [8.0])])
    assert {"Logins <8>", "mine", "2.00", "other & co", "8.00"} <= set(texts(drawing))
    assert len(paths(drawing, "bar")) == 2
    assert drawing.count('class="ours bar"') == 1
    assert not paths(drawing, "floor")


def test_lines_give_each_decade_the_same_width() -> None:
    """1, 10 and 100 stand equally far apart, and more of something is drawn higher up."""
    drawing = lines_svg("t", "how many", "ms", [Line("mine", [(1, 5.0), (10, 5.0), (100, 10.0)], ours=True)])
    ((x1, y1, x2, y2, x3, y3),) = paths(drawing, "line")
    assert x3 - x2 == pytest.approx(x2 - x1, abs=0.2)
    assert y3 < y2 == y1
    assert {"how many", "ms", "mine", "1", "10", "100"} <= set(texts(drawing))


def test_names_of_lines_do_not_stand_on_each_other() -> None:
    """Lines that end at the same height have their names one above the other, inside the drawing."""
    drawing = lines_svg("t", "x", "y", [Line(name, [(1, 0.0), (10, 0.0)]) for name in ("a1", "b1", "c1")])
    root = ElementTree.fromstring(drawing)
    heights = sorted(float(one.attrib["y"]) for one in root.iter(f"{SVG}text") if one.text in ("a1", "b1", "c1"))
    assert all(lower - upper >= 15 for upper, lower in itertools.pairwise(heights))
    assert heights[-1] < float(root.attrib["height"])


@pytest.mark.parametrize(
    "drawing", [bars_svg("t", "u", [Bar("a", [1.0])], 0.5), lines_svg("t", "x", "y", [Line("a", [(1, 1)])])]
)
def test_a_drawing_needs_nothing_else(drawing: str) -> None:
    """A drawing loads nothing, runs nothing, and has colours for either theme."""
    assert "prefers-color-scheme: dark" in drawing
    assert set(re.findall(r"https?://[^\"]*", drawing)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script|url\(|href|@import", drawing)
