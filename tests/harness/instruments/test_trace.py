"""A trace out of columns is the trace out of frames."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.instruments.recording import trace_table, traces_from_table
from harness.instruments.trace import Frame, Trace

FRAMES = (
    Frame(0, {"power_w": 20.0, "gpu_clock_mhz": 900.0}, (), {"fan_rpm": "no fan"}),
    Frame(5, {"power_w": 21.0}, ("thermal",)),
    Frame(5, {"gpu_clock_mhz": 800.0}),
    Frame(9, {}, (), {"power_w": "the rail is off"}),
)


def stored() -> Trace:
    return traces_from_table(trace_table({3: Trace(FRAMES)}))[3]


def test_columns_and_frames_say_the_same() -> None:
    one, other = Trace(FRAMES), stored()
    assert len(other) == len(one)
    assert other.names() == one.names() == ["gpu_clock_mhz", "power_w"]
    for name in (*one.names(), "absent"):
        np.testing.assert_array_equal(one.column(name), other.column(name))
        for mine, theirs in zip(one.series(name), other.series(name), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(one.times(), other.times())
    assert one.alerted().tolist() == other.alerted().tolist() == [False, True, False, False]
    assert [one.why_missing(name) for name in ("fan_rpm", "power_w", "x")] == ["no fan", "the rail is off", None]
    assert [other.why_missing(name) for name in ("fan_rpm", "power_w", "x")] == ["no fan", "the rail is off", None]
    assert [other.frame(at) for at in range(4)] == list(FRAMES)
    assert list(other) == list(FRAMES)
    assert stored().at(6) == one.at(6) == FRAMES[2]


def test_a_trace_out_of_columns_goes_on() -> None:
    trace = stored()
    trace.add(Frame(12, {"power_w": 22.0}))
    assert len(trace) == 5
    assert trace.column("power_w").tolist()[-1] == 22.0
    assert math.isnan(trace.column("gpu_clock_mhz")[-1])
    with pytest.raises(ValueError, match="comes after one at 12 ns"):
        trace.add(Frame(3))


def test_time_that_goes_back_and_columns_of_unlike_lengths_are_refused() -> None:
    table = trace_table(Trace(FRAMES))
    with pytest.raises(ValueError, match="a frame at 2 ns comes after one at 5 ns"):
        traces_from_table({**table, "at_ns": np.array([0, 5, 2, 9])})
    with pytest.raises(ValueError, match="unlike lengths"):
        traces_from_table({**table, "power_w": np.zeros(3)})
