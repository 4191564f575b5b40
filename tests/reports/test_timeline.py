from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import timeline
from reports.timeline import BINS, Bins, Clock, Lane, Rug, into_bins


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e9, 1e9)), min_size=1, max_size=300))
def test_thinning_loses_no_peak_and_keeps_the_median_of_each_piece(points: list[tuple[float, float]]) -> None:
    at_s, values = (np.array(side) for side in zip(*points, strict=True))
    seen = into_bins(at_s, values, 100.0)
    assert np.nanmax(seen.high) == values.max()
    assert np.nanmin(seen.low) == values.min()
    place = np.minimum((at_s / 100.0 * BINS).astype(int), BINS - 1)
    for piece in np.unique(place):
        assert seen.middle[piece] == pytest.approx(np.median(values[place == piece]))
    assert np.isfinite(seen.middle).sum() == len(np.unique(place))


def test_one_slow_call_among_a_million_is_drawn() -> None:
    values = np.full(1_000_000, 10.0)
    values[567_890] = 900.0
    bins = into_bins(np.linspace(0, 3600, len(values)), values, 3600.0)
    svg = timeline.draw_lane(Lane("Latency", bins, "words", is_log=True))
    envelope = re.findall(r'class="bars" d="([^"]+)"', svg)[0]
    top = int(envelope.partition(" ")[2].partition("h")[0])
    rises = [int(rise) for rise in re.findall(r"v(-?\d+)", envelope.partition("V")[0])]
    assert min(np.cumsum([top, *rises])) < 50, "in tenths of a pixel from the top"
    assert len(svg) < 2_000, "flat stretches are one line each"


def test_what_is_not_finite_is_a_gap() -> None:
    seen = into_bins(np.array([0.0, 50.0, 99.0]), np.array([1.0, math.nan, math.inf]), 100.0)
    assert np.isfinite(seen.middle).sum() == 1
    assert timeline.draw_lane(Lane("t", into_bins(np.zeros(0), np.zeros(0), 1.0), "w")) == ""


def test_launches_stand_one_after_the_other_whatever_their_clocks_began_with() -> None:
    clock = Clock({0: (300, 300 + 10_000_000_000), 1: (9_000_000_000, 14_000_000_000)})
    assert clock.length_s == pytest.approx(15.0)
    at_s = clock.at_s(np.array([0, 0, 1, 1]), np.array([300, 10_000_000_300, 9_000_000_000, 14_000_000_000]))
    assert at_s.tolist() == pytest.approx([0.0, 10.0, 10.0, 15.0])
    axis = timeline.draw_axis(clock, lambda seconds: f"{seconds:g}")
    assert len(re.findall('class="limit"', axis)) == 1, "where the second one begins"
    assert re.findall(r">([\d.]+)</text>", axis) == ["0", "5", "10"]


@given(st.floats(1e-6, 1e9), st.floats(0, 1e9), st.booleans())
def test_the_ends_of_an_axis_hold_every_value(low: float, more: float, is_log: bool) -> None:
    nothing = np.full(BINS - 1, math.nan)
    bins = Bins(np.append(nothing, low), np.append(nothing, low), np.append(nothing, low + more))
    bottom, top = timeline.ends(Lane("t", bins, "w", limit=low * 2, is_log=is_log))
    assert bottom <= low * 1.001
    assert top >= max(low + more, low * 2) * 0.999
    assert bottom < top


def test_a_lane_says_its_figures_escapes_what_it_is_given_and_draws_its_limit_inside() -> None:
    bins = into_bins(np.linspace(0, 9.9, 50), np.linspace(1, 9, 50), 10.0)
    root = ET.fromstring(timeline.draw_lane(Lane("<b>&", bins, "</desc><script>", limit=20.0)))
    assert root.findtext("title") == "<b>&"
    assert root.findtext("desc") == "</desc><script>"
    (limit,) = root.findall("line[@class='limit']")
    assert 0 <= float(limit.get("y1", "nan")) <= 56


def test_a_rug_has_a_block_for_each_stretch() -> None:
    when = np.zeros(BINS, bool)
    when[[0, 1, 2, 80, BINS - 1]] = True
    root = ET.fromstring(timeline.draw_rug(Rug("t", when, "w", is_loud=True)))
    path = root.find(".//path[@class='apart']")
    assert path is not None
    assert re.findall(r"M(\d+) 0H(\d+)", path.get("d", "")) == [("0", "3"), ("80", "81"), ("159", "160")]
