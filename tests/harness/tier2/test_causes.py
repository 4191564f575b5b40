"""Why calls were late, on made-up boards whose reason is known because it was built in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from harness.tier2.causes import Cause, cause, full_clock_mhz
from harness.tier2.samples import Status
from runtime.protocol import Array
from tests.harness.heat_boards import MS, Board, always, run

BUDGET_NS = 60 * MS


def saw(t: Array) -> Array:
    """Twelve seconds of each minute."""
    return np.asarray(t % 60.0 < 12.0)


def slow(t: Array) -> Array:
    return np.where(saw(t), 700.0, 1000.0)


def why(board: Board, *, is_open: bool = False, declared_mhz: float | None = None) -> Cause:
    return cause(*run(board), BUDGET_NS, is_open, declared_mhz=declared_mhz)


BOARDS = {
    "a throttle saw with an alert": (Board(clock_mhz=slow, is_alert=saw), "thermal"),
    "bursts of over-current that no clock shows": (
        Board(work=lambda t: np.where(saw(t), 80.0, 50.0), oc_events=lambda t: np.cumsum(saw(t)).astype(float)),
        "over-current",
    ),
    "bursts of over-current that the clock shows": (
        Board(clock_mhz=slow, oc_events=lambda t: np.cumsum(saw(t)).astype(float)),
        "over-current",
    ),
    "over-current that is counted once, where the clock begins to fall": (
        Board(clock_mhz=slow, load_percent=always(60.0), oc_events=lambda t: np.floor((t + 59.0) / 60.0)),
        "over-current",
    ),
    "the same at full load, where a low clock alone would be a governor's": (
        Board(clock_mhz=slow, oc_events=lambda t: np.floor((t + 59.0) / 60.0)),
        "over-current",
    ),
    "a governor that clocks a part-loaded GPU down": (Board(clock_mhz=slow, load_percent=always(60.0)), "governor"),
    "a clock under its cap at full load": (Board(clock_mhz=slow), "governor"),
    "a cap that comes down with the clock": (Board(clock_mhz=slow, cap_mhz=slow), "cap"),
    "a cap that comes down while the alert is raised": (Board(clock_mhz=slow, cap_mhz=slow, is_alert=saw), "thermal"),
    "calls that need more cycles": (Board(work=lambda t: np.where(saw(t), 80.0, 50.0)), "more work"),
    "calls that need more cycles just when the clock is low": (
        Board(clock_mhz=slow, is_alert=saw, work=lambda t: np.where(saw(t), 70.0, 50.0)),
        "more work",
    ),
    "too much work from the start": (Board(work=always(75.0)), "more work"),
    "too much work, while an alert is raised now and then": (Board(work=always(75.0), is_alert=saw), "more work"),
    "calls that fail": (Board(fails=always(0.2)), "failed calls"),
    "nothing": (Board(noise=0.01), "none"),
    "no telemetry": (
        Board(work=always(75.0), lacks=("gpu_clock_mhz", "gpu_cap_mhz", "oc_events", "gpu_load_percent")),
        "unknown",
    ),
}


@pytest.mark.covers("T2-03", "TH-04")
@pytest.mark.parametrize("name", BOARDS)
def test_the_cause_is_the_one_that_was_built_in(name: str) -> None:
    board, built_in = BOARDS[name]
    found = why(board)
    assert found.name == built_in
    if built_in != "none":
        assert "% of " in found.words


def test_a_cap_under_the_declared_one_is_told_where_the_declared_one_is_known() -> None:
    low = Board(clock_mhz=always(700.0), cap_mhz=always(700.0))
    assert why(low).name == "more work"
    assert why(low, declared_mhz=1000.0).name == "cap"
    assert "at 700 of 1000 MHz" in why(low, declared_mhz=1000.0).words


def test_a_queue_is_told_from_slow_calls() -> None:
    """One call of 0.7 s each half minute, at 18 Hz: those behind it are fast once they begin."""
    stalls = Board(rate_hz=18.0, work=lambda t: np.where(t % 30.0 < 0.05, 700.0, 48.0))
    assert why(stalls, is_open=True).name == "queueing"
    assert why(stalls, is_open=False).name == "more work"


def test_a_queue_that_a_throttled_clock_filled_is_heat() -> None:
    """At 700 MHz each call is in time by itself, and 18 of them a second are more than it can serve."""
    board = Board(rate_hz=18.0, work=always(41.0), clock_mhz=slow, is_alert=saw)
    assert why(board, is_open=True).name == "thermal"


def test_a_queue_outlives_what_filled_it_and_is_put_down_to_that() -> None:
    """Two seconds at a third of the clock, each half minute: the queue they leave lasts three times as long."""

    def is_low(t: Array) -> Array:
        return np.asarray(t % 30.0 < 2.0)

    board = Board(
        rate_hz=18.0, work=always(41.0), clock_mhz=lambda t: np.where(is_low(t), 300.0, 1000.0),
        oc_events=lambda t: np.cumsum(is_low(t)).astype(float),
    )  # fmt: skip
    found = why(board, is_open=True)
    assert found.name == "over-current"
    share = {figure.name: figure.value for figure in found.figures}["exceeding_throttled_percent"]
    assert share is not None
    assert share < 80.0


def test_the_streams_of_a_mix_queue_for_one_device() -> None:
    """The judged stream is never slow itself: what it waits for is the other one, at a clock that heat has lowered."""
    columns, trace = run(Board(rate_hz=18.0, work=always(41.0), clock_mhz=slow, is_alert=saw))
    columns["stream"][::2] = 1
    found = cause(columns, trace, BUDGET_NS, True, stream=1)
    assert found.name == "thermal"
    assert cause(columns, trace, 10**12, True, stream=0).name == "none"


def test_what_was_dropped_behind_throttled_calls_is_put_down_to_the_throttling() -> None:
    columns, trace = run(Board(rate_hz=18.0, work=always(41.0), clock_mhz=slow, is_alert=saw))
    late = columns["started_ns"] - columns["scheduled_ns"] > 50 * MS
    columns["status"][late] = Status.DROPPED
    for name in ("started_ns", "done_ns"):
        columns[name][late] = columns["scheduled_ns"][late]
    assert late.sum() > 1000
    assert cause(columns, trace, BUDGET_NS, True).name == "thermal"


def test_the_figures_are_in_cycles_and_tell_the_two_kinds_apart() -> None:
    figures = {figure.name: figure.value for figure in why(Board(clock_mhz=slow, is_alert=saw)).figures}
    assert figures["exceeding_p50_cycles"] == pytest.approx(50e6, rel=0.03)
    assert figures["other_p50_cycles"] == pytest.approx(50e6, rel=0.03)
    assert (figures["exceeding_p50_clock_mhz"], figures["other_p50_clock_mhz"]) == (700.0, 1000.0)
    share = figures["exceeding_throttled_percent"]
    assert share is not None
    assert share > 95.0
    grown = {figure.name: figure for figure in why(Board(work=lambda t: np.where(saw(t), 80.0, 50.0))).figures}
    assert grown["exceeding_p50_cycles"].value == pytest.approx(80e6, rel=0.03)
    blind = {figure.name: figure for figure in why(BOARDS["no telemetry"][0]).figures}
    assert blind["exceeding_p50_cycles"].value is None
    assert blind["exceeding_p50_cycles"].why == "the GPU's clock was not read"
    assert blind["exceeding_throttled_percent"].value is None


def test_work_that_grows_is_said_to_grow() -> None:
    found = why(Board(work=lambda t: 55.0 * (1.0 + 0.2 * t / 1200.0)))
    assert found.name == "more work"
    assert "+8 % from the first tenth to the last" in found.words


def test_the_full_clock_is_the_highest_of_what_is_known() -> None:
    _, trace = run(Board(measure_s=10.0, soak_s=0.0, cap_mhz=always(900.0), clock_mhz=always(850.0)))
    assert full_clock_mhz(trace) == 900.0
    assert full_clock_mhz(trace, 1300.0) == 1300.0


@settings(max_examples=15, deadline=None)
@given(low_mhz=some.floats(300.0, 750.0), duty=some.floats(0.1, 1.0), has_alert=some.booleans())
def test_a_clock_that_explains_the_late_calls_is_never_called_more_work(
    low_mhz: float, duty: float, has_alert: bool
) -> None:
    def is_low(t: Array) -> Array:
        return np.asarray(t % 60.0 < 60.0 * duty)

    board = Board(
        clock_mhz=lambda t: np.where(is_low(t), low_mhz, 1000.0), soak_s=60.0, measure_s=240.0, noise=0.03,
        is_alert=is_low if has_alert else always(0.0),
    )  # fmt: skip
    assert why(board).name == ("thermal" if has_alert else "governor")
