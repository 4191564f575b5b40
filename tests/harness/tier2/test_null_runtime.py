"""A runtime that does nothing, and what the harness is then seen to cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.tier2.null_runtime import NullRuntime, harness_cost
from runtime import BuildConfig, Describes, InferenceRuntime
from tests.harness.tiny_station import TinyStation


def test_it_is_a_runtime_that_gives_what_it_was_told_to() -> None:
    y = np.ones(3)
    runtime = NullRuntime(object(), outputs={"y": y})
    assert isinstance(runtime, InferenceRuntime)
    assert isinstance(runtime, Describes)
    handle = runtime.deserialize_engine(runtime.compile_engine(Path("m.onnx"), BuildConfig(precision="fp32")))
    assert runtime.infer(handle, {})["y"] is y
    assert runtime.describe(handle).precision == "fp32"
    runtime.release_engine(handle)
    assert handle.resources is None
    assert not runtime.thermal_state().is_telemetry_available
    assert runtime.current_runtime_label() == "pytorch_fp16"


@pytest.mark.covers("T2-01")
def test_its_cost_is_a_sample_a_call_and_how_late_the_station_wakes() -> None:
    station = TinyStation(simulated="", wakes_late_ns=40_000)
    asked: list[int] = []
    now_ns = station.now_ns

    def costly() -> int:
        asked.append(0)
        station.pass_to(station.clock() + 1_000)  # reading the clock is all that takes time here
        return now_ns()

    station.now_ns = costly  # type: ignore[method-assign]
    figures = {
        figure.name: figure for figure in harness_cost(station, seconds=1.0, clock=iter(range(0, 10**9, 7000)).__next__)
    }
    assert all(figure.unit == "ns" and figure.source and figure.name.endswith("_ns") for figure in figures.values())
    assert figures["sample_cost_ns"].value == 7.0
    assert figures["closed_call_ns"].value == 3_000.0
    assert figures["open_call_ns"].value == 2_000.0
    for name in ("wake_p50_ns", "wake_p95_ns", "wake_p50_quiet_ns", "wake_p95_quiet_ns"):
        assert figures[name].value == pytest.approx(41_000, abs=1_000)
    assert len(asked) > 1000


def test_ctrl_c_in_a_launch_of_the_harness_is_not_lost_with_its_rows() -> None:
    station = TinyStation(simulated="")
    now_ns, asked = station.now_ns, iter(range(10**6))

    def interrupted() -> int:
        if next(asked) == 200:
            raise KeyboardInterrupt
        return now_ns()

    station.now_ns = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        harness_cost(station, seconds=1.0)
    assert next(asked) < 1_000


def test_in_virtual_time_it_costs_nothing_and_says_so() -> None:
    (figure,) = harness_cost(TinyStation())
    assert figure.value is None
    assert "virtual time" in figure.why
