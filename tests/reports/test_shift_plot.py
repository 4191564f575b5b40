"""The percentile shift as a picture: what it draws, what it says to who cannot see it, and what it leaves out."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from harness.records.comparison import Shift
from reports.shift_plot import KEY, draw_shift

pytestmark = pytest.mark.covers("RE-02")

PERCENTS = tuple(range(1, 100))
EVEN = Shift(
    "disk", PERCENTS, (10e6,) * 99, (1.1,) * 99, (1.08,) * 99, (1.12,) * 99, 0.05,
    base_requests=3000, new_requests=2000, base_sessions=3, new_sessions=1,
)  # fmt: skip


def heights(path: str) -> list[float]:
    return [float(y) for _, y in re.findall(r"[ML](\d+) (\d+)", path)]


def paths(shift: Shift) -> dict[str, str]:
    drawn = draw_shift("disk-latency", shift)
    assert drawn is not None
    root = ElementTree.fromstring(drawn.svg)  # our own
    return {str(path.get("class")): str(path.get("d")) for path in root.iter("path") if path.get("class")}


def test_slower_calls_stand_over_the_middle_line_and_faster_ones_under_it() -> None:
    slower, faster = paths(EVEN), paths(replace(EVEN, ratio=(0.9,) * 99, low=(0.88,) * 99, high=(0.92,) * 99))
    assert set(heights(slower["median"])) != set(heights(faster["median"]))
    assert max(heights(slower["median"])) < 600 < min(heights(faster["median"]))
    assert len(heights(slower["median"])) == 99


def test_the_band_holds_the_line() -> None:
    drawn = paths(EVEN)
    line = heights(drawn["median"])[0]
    assert min(heights(drawn["bars"])) < line < max(heights(drawn["bars"]))


def test_where_a_percentile_is_not_known_the_line_breaks() -> None:
    gap = tuple(None if 40 <= percent < 50 else 1.1 for percent in PERCENTS)
    assert paths(replace(EVEN, ratio=gap))["median"].count("M") == 2


def test_without_an_interval_there_is_no_band_and_without_a_figure_no_picture() -> None:
    nothing = (None,) * 99
    assert not paths(replace(EVEN, low=nothing, high=nothing))["bars"]
    assert draw_shift("disk", replace(EVEN, ratio=nothing)) is None


@pytest.mark.parametrize(
    ("ratio", "told"),
    [
        ((1.01,) * 99, "no percentile moved beyond the margin"),
        ((1.10,) * 99, "all calls are slower, by about as much"),
        ((0.90,) * 99, "all calls are faster, by about as much"),
        ((*[1.0] * 90, *[1.5] * 9), "the slow calls alone are slower by more than the margin: p91 to p99"),
        ((*[1.1] * 80, *[1.5] * 19), "calls are slower, the slow ones more"),
    ],
)
def test_it_says_in_words_which_calls_moved(ratio: tuple[float, ...], told: str) -> None:
    drawn = draw_shift("disk-latency", replace(EVEN, ratio=ratio))
    assert drawn is not None
    assert drawn.words == f"{told}; base 3,000 requests of 3 sessions, new 2,000 requests of 1 session"
    assert told in drawn.svg


def test_who_cannot_see_it_hears_its_figures() -> None:
    drawn = draw_shift("disk-latency", EVEN)
    assert drawn is not None
    assert "p50 10.0 ms +10.0 % [+8.0, +12.0]; p75" in drawn.svg
    assert 'role="img"' in drawn.svg
    assert "style=" not in drawn.svg
    assert (drawn.top, drawn.bottom) == ("+13 %", "-11 %")
    assert "all its measured requests" in KEY


def test_a_name_is_no_markup() -> None:
    drawn = draw_shift("<b>row</b>", replace(EVEN, model="</svg><script>"))
    assert drawn is not None
    assert "<script>" not in drawn.svg
    assert "<b>" not in drawn.svg


def test_an_interval_that_is_far_wider_than_the_shift_does_not_flatten_the_picture() -> None:
    wide = paths(replace(EVEN, high=(50.0,) * 99, low=(0.02,) * 99))
    assert heights(wide["median"])[0] < 540
