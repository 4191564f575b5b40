from __future__ import annotations

import math
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import plots


@given(st.floats(1e-290, 1e290), st.floats(0, 40))
def test_ticks_are_round_inside_the_axis_and_few(low: float, decades: float) -> None:
    high = min(low * 10**decades, 1e295)
    axis = plots.axis_for([plots.Band("t", np.array([low, high]))])
    assert axis is not None
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 7
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert ticks == sorted(ticks)


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=200))
def test_every_value_above_zero_is_counted_in_a_bin(values: list[float]) -> None:
    array = np.array(values)
    axis = plots.axis_for([plots.Band("t", array)])
    assert axis is not None
    assert plots.histogram(array, axis).sum() == len(array)


def test_zeros_and_what_is_not_finite_have_no_place_on_the_axis() -> None:
    values = np.array([0.0, -1.0, math.nan, math.inf, 2.0])
    axis = plots.axis_for([plots.Band("t", values)])
    assert axis is not None
    assert axis.low < 2.0 < axis.high < 3.0
    assert plots.histogram(values, axis).sum() == 1


def test_without_anything_above_zero_there_is_no_axis() -> None:
    assert plots.axis_for([plots.Band("t", np.zeros(5)), plots.Band("u", np.array([]))]) is None


def test_the_axis_reaches_marks_their_intervals_and_limits() -> None:
    band = plots.Band("t", np.array([1.0]), (plots.Mark("circle", 5.0, 0.1, 80.0),), limit=900.0)
    axis = plots.axis_for([band])
    assert axis is not None
    assert axis.low < 0.1
    assert axis.high > 900


def test_one_value_among_a_million_is_seen() -> None:
    axis = plots.Axis(1.0, 1000.0)
    svg = plots.draw_band(plots.Band("t", np.append(np.full(1_000_000, 2.0), 500.0)), axis)
    tops = [float(top) for top in re.findall(r"V([0-9.]+)H", svg)]
    assert len(tops) == 2
    assert max(tops) <= 30 - 3, "the bar of one call is at least a tenth of the height"


def test_a_band_is_well_formed_names_itself_and_escapes_what_it_is_given() -> None:
    band = plots.Band(
        "<b>&\"'", np.geomspace(1, 9, 50), (plots.Mark("square", 3.0, 2.0, None),), 8.0, "</desc><script>"
    )
    axis = plots.axis_for([band])
    assert axis is not None
    root = ET.fromstring(plots.draw_band(band, axis))
    assert root.get("role") == "img"
    assert root.findtext("title") == "<b>&\"'"
    assert root.findtext("desc") == "</desc><script>"
    assert len(root.findall("line[@class='limit']")) == 1
    assert len(root.findall("line[@class='interval']")) == 1
    unbounded = root.find("line[@class='unbounded']")
    assert unbounded is not None
    assert unbounded.get("x2") == "100.00%"


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e300, math.inf])
def test_positions_stay_inside_the_picture(value: float) -> None:
    assert 0.0 <= plots.Axis(1.0, 10.0).at(value) <= 100.0


def test_values_set_apart_hang_under_the_line_on_the_same_scale() -> None:
    values = np.append(np.full(90, 2.0), np.full(10, 8.0))
    axis = plots.Axis(1.0, 10.0)
    root = ET.fromstring(plots.draw_band(plots.Band("t", values, apart=values[90:]), axis))
    (hanging,) = root.findall(".//path[@class='apart']")
    (depth,) = re.findall(r"V([0-9.]+)h", hanging.get("d", ""))
    assert float(depth) == pytest.approx(18 * (1 + math.log10(10)) / (1 + math.log10(90)), abs=0.06)
    assert float(root.get("height", "0")) > float(
        ET.fromstring(plots.draw_band(plots.Band("t", values), axis)).get("height", "0")
    )


def test_a_limit_of_the_marks_is_beside_them_and_one_of_the_values_is_across() -> None:
    band = plots.Band("Error", np.array([1.0, 2.0, 9.0]), (plots.Mark("circle", 2.0),), limit=3.0)
    axis = plots.axis_for([band])
    assert axis is not None
    tops = [
        re.findall(r'class="limit"[^>]* y1="(\d+)"', plots.draw_band(replace(band, is_of_marks=of), axis))
        for of in (False, True)
    ]
    assert tops == [["0"], ["30"]]
