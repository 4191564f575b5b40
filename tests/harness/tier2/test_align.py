"""Requests beside a trace: throttling by cause, gaps, clocks, and energy."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.instruments.recording import KNOWN
from harness.instruments.trace import Frame, Trace, Values
from harness.records import Figure
from harness.tier2.align import Alignment, align, energy, reads, throttling, to_reading
from runtime.protocol import Array
from runtime.thermal import SourceReading, ThrottleCause, ThrottleDetector, Transition

MS, S = 1_000_000, 1_000_000_000
CALM = {"gpu_clock_mhz": 918.0, "gpu_cap_mhz": 918.0, "gpu_load_percent": 99.0, "oc_events": 4.0}


def trace(
    count: int,
    values: Callable[[int], Mapping[str, float]] = lambda _: {},
    alerts: Callable[[int], Sequence[str]] = lambda _: (),
    without: Sequence[int] = (),
) -> Trace:
    """Frames each 100 ms."""
    return Trace([
        Frame(at * 100 * MS, {**CALM, **values(at)}, tuple(alerts(at))) for at in range(count) if at not in without
    ])  # fmt: skip


def calls(*spans_ms: tuple[float, float]) -> dict[str, Array]:
    spans = np.array([[round(begin * MS), round(end * MS)] for begin, end in spans_ms], np.int64).reshape(-1, 2)
    return {"scheduled_ns": spans[:, 0], "started_ns": spans[:, 0], "done_ns": spans[:, 1]}


def figure(figures: Sequence[Figure], name: str) -> Figure:
    return next(entry for entry in figures if entry.name == name)


@pytest.mark.covers("TH-04", "T2-03")
def test_a_request_is_throttled_from_the_last_calm_frame_to_the_first_calm_one_after() -> None:
    hot = trace(20, alerts=lambda at: ["gpu-throttle-alert"] if at == 5 else [])
    seen = align(calls((350, 399), (350, 410), (450, 460), (510, 690), (810, 820), (1500, 1510)), hot)
    # frames 6 and 7 are the detector's hysteresis: three calm readings end an episode, the third one of them is calm
    assert seen.throttled.tolist() == [False, True, True, True, False, False]
    assert seen.known.all()
    assert seen.causes == {"thermal": 3}
    assert seen.episode.tolist() == [-1, 0, 0, 0, -1, -1]
    assert [(spell.start_ns, spell.end_ns, spell.is_over) for spell in seen.throttling.episodes] == [
        (500 * MS, 800 * MS, True)
    ]
    assert seen.share == 0.5


@pytest.mark.covers("TH-04")
def test_a_low_clock_counts_from_its_first_reading_although_the_third_one_calls_it() -> None:
    slow = trace(20, lambda at: {"gpu_clock_mhz": 612.0} if 5 <= at < 8 else {})
    seen = align(calls((350, 360), (410, 420), (550, 560), (1300, 1310)), slow, governor="nvhost_podgov")
    assert seen.throttled.tolist() == [False, True, True, False]
    assert seen.causes == {"governor": 2}
    assert "governor nvhost_podgov" in seen.throttling.episodes[0].evidence[0]


@pytest.mark.covers("TH-04")
@pytest.mark.parametrize("count", [1, 2])
def test_a_low_clock_of_one_or_two_readings_is_none(count: int) -> None:
    assert not align(
        calls((550, 560)), trace(20, lambda at: {"gpu_clock_mhz": 612.0} if 5 <= at < 5 + count else {})
    ).causes


@pytest.mark.covers("TH-04")
def test_a_low_clock_at_a_low_load_is_no_throttling() -> None:
    idle = trace(20, lambda _: {"gpu_clock_mhz": 306.0, "gpu_load_percent": 40.0})
    assert not throttling(idle).state.any()


@pytest.mark.covers("TH-04")
def test_a_rising_counter_marks_the_requests_between_its_two_readings() -> None:
    risen = trace(20, lambda at: {"oc_events": 5.0 if at >= 10 else 4.0})
    seen = align(calls((880, 890), (910, 920), (980, 1010)), risen)
    assert seen.throttled.tolist() == [False, True, True]
    assert seen.causes == {"over-current": 2}


@pytest.mark.covers("TH-04")
def test_a_cap_that_comes_down_is_a_cause_of_its_own_and_several_causes_are_all_counted() -> None:
    capped = trace(20, lambda at: {"gpu_clock_mhz": 612.0, "gpu_cap_mhz": 612.0} if at >= 5 else {})
    assert align(calls((900, 910)), capped).causes == {"cap": 1}
    both = trace(
        20, lambda at: {"oc_events": 9.0 if at >= 6 else 4.0}, lambda at: ["hot-surface-alert"] if at == 5 else []
    )
    assert align(calls((550, 560)), both).causes == {"thermal": 1, "over-current": 1}


@pytest.mark.covers("TH-04")
def test_an_episode_that_the_trace_does_not_end_is_kept_with_its_causes() -> None:
    late = trace(20, alerts=lambda at: ["gpu-throttle-alert"] if at >= 18 else [])
    (spell,) = throttling(late).episodes
    assert (spell.start_ns, spell.end_ns, spell.causes, spell.is_over) == (1800 * MS, 1900 * MS, ("thermal",), False)


@pytest.mark.covers("T2-03")
def test_requests_in_a_gap_or_far_outside_the_trace_are_unknown_and_not_calm() -> None:
    holed = trace(30, alerts=lambda at: ["gpu-throttle-alert"] if at == 10 else [], without=range(11, 16))
    seen = align(calls((950, 960), (1010, 1020), (1400, 1410), (990, 1650), (2900, 3150), (3300, 3310)), holed)
    assert seen.known.tolist() == [True, False, False, False, True, False]
    assert seen.throttled.tolist() == [True, False, False, False, False, False]
    assert seen.throttling.gaps == ((1000 * MS, 1600 * MS),)
    assert align(calls((1400, 1410)), holed, stale_s=1.0).known.all()


@pytest.mark.covers("T2-03")
def test_a_host_without_the_sensors_knows_nothing_and_says_so() -> None:
    memory = Trace([Frame(at * 100 * MS, {"available_bytes": 1e9, "cpu_temp_c": 50.0}) for at in range(20)])
    seen = align(calls((100, 110)), memory)
    assert not seen.known.any()
    assert not seen.throttled.any()
    assert seen.why == "no instrument tells whether the board is throttled"
    assert seen.share is None
    assert math.isnan(seen.clock_mhz[0])
    assert align(calls(), memory).share is None
    with_alerts = Trace([Frame(at * 100 * MS, {"alert_sensors": 9.0}) for at in range(20)])
    assert align(calls((100, 110)), with_alerts).known.all()


def test_the_clock_of_a_request_is_the_nearest_readings() -> None:
    stepped = trace(10, lambda at: {"gpu_clock_mhz": 918.0 if at < 5 else 612.0})
    seen = align(calls((400, 420), (440, 470), (3000, 3010)), stepped)
    assert seen.clock_mhz[:2].tolist() == [918.0, 612.0]
    assert math.isnan(seen.clock_mhz[2])
    assert math.isnan(align(calls((10, 11)), trace(1)).clock_mhz[0])  # one frame has no period
    assert align(calls((10, 11)), trace(1), stale_s=1.0).clock_mhz.tolist() == [918.0]


def test_a_dropped_request_lies_where_it_was_due() -> None:
    hot = trace(20, alerts=lambda at: ["gpu-throttle-alert"] if at == 5 else [])
    columns = {"scheduled_ns": np.array([450 * MS]), "started_ns": np.array([-1]), "done_ns": np.array([-1])}
    assert align(columns, hot).throttled.tolist() == [True]


def naive(columns: Mapping[str, Array], board: Trace) -> list[tuple[bool, bool]]:
    """(known, throttled) of each request, frame by frame."""
    seen = throttling(board)
    found = []
    for begin, end in zip(columns["started_ns"], columns["done_ns"], strict=True):
        spans = [(seen.times_ns[0] - seen.stale_ns, seen.times_ns[0]), *pairwise(seen.times_ns),
                 (seen.times_ns[-1], seen.times_ns[-1] + seen.stale_ns)]  # fmt: skip
        met = [
            (a, b)
            for a, b in spans
            if (a < end and b > begin) or (begin == end == a) or (begin == end == b) or a == begin
        ]
        covered = begin >= spans[0][0] and end <= spans[-1][1]
        known = bool(covered and all(b - a <= seen.stale_ns for a, b in met))
        hit = any(seen.state[list(seen.times_ns).index(at)] for span in met for at in span if at in seen.times_ns)
        found.append((known, known and hit))
    return found


@settings(max_examples=60, deadline=None)
@given(
    raised=st.lists(st.booleans(), min_size=4, max_size=25),
    gone=st.sets(st.integers(1, 20), max_size=8),
    spans=st.lists(st.tuples(st.integers(-200, 2600), st.integers(1, 700)), min_size=1, max_size=20),
)
def test_it_agrees_with_looking_at_each_frame(raised: list[bool], gone: set[int], spans: list[tuple[int, int]]) -> None:
    board = trace(len(raised), alerts=lambda at: ["hot-surface-alert"] if raised[at] else [], without=sorted(gone))
    if len(board) < 2:
        return
    # no request begins or ends at a frame's very time, where both answers are right
    columns = calls(*((begin + 0.5, begin + 0.5 + length) for begin, length in spans if begin + 0.5 + length >= 0))
    columns["started_ns"] = np.maximum(columns["started_ns"], 1)
    columns["done_ns"] = np.maximum(columns["done_ns"], columns["started_ns"])
    seen: Alignment = align(columns, board)
    assert list(zip(seen.known.tolist(), seen.throttled.tolist(), strict=True)) == naive(columns, board)
    assert ((seen.episode >= 0) == seen.throttled).all()


def test_a_driver_that_names_no_limit_is_believed_and_one_that_does_is_quoted() -> None:
    reading = to_reading(Frame(0, {"limit.sw-power-cap": 0.0, "limit.board-limit": 0.0, "oc_events": 3.0}))
    assert (reading.clock_limits, reading.over_current_events) == ((), 3)
    assert to_reading(Frame(0, {"limit.sw-power-cap": 1.0})).clock_limits == ("sw-power-cap",)
    assert to_reading(Frame(0, {})).clock_limits is None


# --- energy ------------------------------------------------------------------------------------------------------


@pytest.mark.covers("T2-01")
def test_power_is_integrated_between_the_very_ends_of_the_span() -> None:
    ramp = trace(101, lambda at: {"power_w": 5.0 + at / 10, "power_w.VDD_IN": 5.0 + at / 10})
    told = energy(ramp, 2 * S + 50 * MS, 8 * S + 50 * MS, 60, idle_w=4.0)
    assert figure(told, "mean_power_w").value == pytest.approx(5.0 + 5.05)
    assert figure(told, "mean_power_w").source == "the rail VDD_IN, integrated over its readings"
    assert figure(told, "energy_per_call_j").value == pytest.approx(10.05 * 6 / 60)
    assert figure(told, "dynamic_energy_per_call_j").value == pytest.approx(6.05 * 6 / 60)


@pytest.mark.covers("T2-01")
def test_a_counter_is_better_than_readings_and_does_not_mind_a_gap() -> None:
    counted = trace(101, lambda at: {"power_w": 1.0, "energy_j": 1e6 + at}, without=range(40, 60))
    told = energy(counted, 2 * S, 8 * S, 30)
    assert figure(told, "mean_power_w").value == pytest.approx(10.0)
    assert figure(told, "energy_per_call_j").value == pytest.approx(2.0)
    assert figure(told, "energy_per_call_j").source == "the energy counter"
    again = trace(101, lambda at: {"power_w": 1.0, "energy_j": float(at % 50)})
    assert figure(energy(again, 2 * S, 8 * S, 30), "mean_power_w").value == pytest.approx(1.0)


@pytest.mark.covers("T2-01")
@pytest.mark.parametrize(
    ("board", "words"),
    [
        (trace(101, lambda _: {"power_w": 9.0}, without=range(40, 60)), "a gap of 2.1 s, longer than 3 periods"),
        (trace(51, lambda _: {"power_w": 9.0}), "covers 0.0 to 5.0 s of 2.0 to 8.0 s"),
        (trace(101), "no instrument gives it"),
        (Trace([Frame(0, {}, (), {"power_w": "no INA3221"})]), "no INA3221"),
        (Trace(), "no instrument gives it"),
    ],
)
def test_energy_that_was_not_seen_whole_is_none_with_its_reason(board: Trace, words: str) -> None:
    told = energy(board, 2 * S, 8 * S, 30)
    for name in ("mean_power_w", "energy_per_call_j", "dynamic_energy_per_call_j"):
        assert figure(told, name).value is None
        assert words in figure(told, name).why


@pytest.mark.covers("T2-01")
def test_without_calls_or_an_idle_reading_there_is_no_energy_per_call() -> None:
    board = trace(101, lambda _: {"power_w": 9.0, "power_w.A": 4.0, "power_w.B": 5.0})
    told = energy(board, 2 * S, 8 * S, 0, idle_w=4.0)
    assert figure(told, "mean_power_w").value == 9.0
    assert figure(told, "mean_power_w").source.startswith("the sum of A, B")
    assert figure(told, "energy_per_call_j").why == "no call was made"
    assert "idle board" in figure(energy(board, 2 * S, 8 * S, 5), "dynamic_energy_per_call_j").why
    with pytest.raises(ValueError, match="no length"):
        energy(board, 5, 5, 1)


@pytest.mark.covers("T2-01", "T2-04")
def test_heat_clocks_over_current_and_throttled_time_of_the_span() -> None:
    board = trace(
        101,
        lambda at: {
            "gpu_temp_c": 50.0 + at / 10,
            "gpu_clock_mhz": 612.0 if at == 50 else 918.0,
            "oc_events": float(at // 60),
        },
        lambda at: ["gpu-throttle-alert"] if 30 <= at < 40 else [],
    )
    told = {entry.name: entry.value for entry in energy(board, 2 * S, 8 * S, 30)}
    assert (told["gpu_temp_start_c"], told["gpu_temp_end_c"], told["gpu_temp_max_c"]) == (52.0, 58.0, 58.0)
    assert (told["gpu_clock_min_mhz"], told["gpu_clock_max_mhz"], told["gpu_clock_end_mhz"]) == (612.0, 918.0, 918.0)
    assert told["oc_events"] == 1.0
    assert told["throttled_share"] == pytest.approx(100 * (1.3 + 0.4) / 6)
    assert told["tj_temp_max_c"] is None


@pytest.mark.covers("T2-01")
def test_a_counter_that_starts_again_takes_nothing_back() -> None:
    counts = [5.0, 7.0, 0.0, 2.0, 2.0]
    board = trace(5, lambda at: {"oc_events": counts[at]})
    assert figure(energy(board, 50 * MS, 350 * MS, 1), "oc_events").value == 4.0


@pytest.mark.covers("T2-01")
def test_a_share_of_time_about_which_nothing_is_known_is_none() -> None:
    told = energy(Trace([Frame(at * S, {"available_bytes": 1.0}) for at in range(9)]), S, 8 * S, 1)
    assert figure(told, "throttled_share").value is None
    assert "no instrument" in figure(told, "throttled_share").why
    assert figure(told, "oc_events").value is None


# --- the short way through a trace -------------------------------------------------------------------------------


def walked_frame_by_frame(
    trace: Trace, governor: str
) -> tuple[list[int], list[bool], list[int], list[tuple[Any, ...]]]:
    """What ``throttling`` says of a trace without leaving a frame out: times, state, episode, spells without their end."""
    frames = [
        frame
        for frame in trace
        if frame.alerts
        or "oc_events" in frame.values
        or frame.values.get("alert_sensors", 0) > 0
        or {"gpu_clock_mhz", "gpu_cap_mhz", "gpu_load_percent"} <= frame.values.keys()
        or any(name.startswith("limit.") for name in frame.values)
    ]
    detector, calm_from = ThrottleDetector(), 0
    state, episode = [False] * len(frames), [-1] * len(frames)
    spells: list[tuple[Any, ...]] = []
    for at, frame in enumerate(frames):
        change = detector.update(to_reading(frame, governor=governor))
        begun = at
        if change is not None and change.throttled:
            if not {ThrottleCause.THERMAL, ThrottleCause.OVER_CURRENT} & set(change.causes):
                begun = max(at + 1 - detector.READINGS, calm_from)
            spells.append((frames[begun].at_ns, change.evidence))
        if detector.throttled:
            for each in range(begun, at + 1):
                state[each], episode[each] = True, len(spells) - 1
        elif change is not None:
            calm_from = at
            spells[-1] = (*spells[-1], frame.at_ns, tuple(cause.value for cause in change.causes))
    return [frame.at_ns for frame in frames], state, episode, spells


def some(*values: float) -> st.SearchStrategy[float]:
    return st.sampled_from(values)


READINGS = {
    "gpu_clock_mhz": some(918.0, 918.0, 900.0, 880.0, 872.0, 612.0, 0.0, 1e6),
    "gpu_cap_mhz": some(918.0, 918.0, 918.0, 612.0, 1020.0, 3.0),
    "gpu_load_percent": some(99.0, 99.0, 99.0, 91.0, 85.0, 20.0, 300.0),
    "oc_events": some(4.0, 4.0, 4.0, 4.0, 4.5, 5.0, 7.0, 0.0, -0.5, -1.0, 1e30),
    "alert_sensors": some(0.0, 3.0),
    "limit.sw-power-cap": some(0.0, 0.0, 1.0),
    "power_w": some(15.0),
}


@st.composite
def stretches(draw: st.DrawFn) -> list[tuple[dict[str, float], tuple[str, ...]]]:
    """Spells of like readings, since three in a row are what counts; any value may be absent for a spell."""
    frames = []
    for _ in range(draw(st.integers(0, 8))):
        names = draw(st.lists(st.sampled_from(sorted(READINGS)), unique=True, min_size=3))
        values = {name: draw(READINGS[name]) for name in names}
        alerts = draw(st.sampled_from([(), (), (), ("gpu-throttle-alert",), ("hw-slowdown",)]))
        frames += [(values, alerts)] * draw(st.integers(1, 5))
    return frames


@pytest.mark.covers("TH-04")
@settings(max_examples=150, deadline=None)
@given(stretches(), st.booleans())
def test_what_is_left_out_of_a_walk_changes_nothing(
    frames: list[tuple[dict[str, float], tuple[str, ...]]], is_packed: bool
) -> None:
    places: dict[str, int] = {}
    made = []
    for at, (values, alerts) in enumerate(frames):
        if is_packed and tuple(values) != tuple(places):
            places = {name: place for place, name in enumerate(values)}
        packed = Values(places, array("d", values.values())) if is_packed else values
        made.append(Frame(at * 100 * MS, packed, alerts))
    trace = Trace(made)
    seen = throttling(trace, governor="simple")
    times, state, episode, spells = walked_frame_by_frame(trace, "simple")
    assert (seen.times_ns.tolist(), seen.state.tolist(), seen.episode.tolist()) == (times, state, episode)
    told = [
        (one.start_ns, one.evidence, *((one.end_ns, one.causes) if one.is_over else ())) for one in seen.episodes
    ]  # fmt: skip
    assert told == spells


def test_a_trace_that_grew_is_walked_again() -> None:
    grows = trace(20)
    assert not throttling(grows).episodes
    assert throttling(grows) is throttling(grows)
    grows.add(Frame(2 * S, CALM, ("gpu-throttle-alert",)))
    assert len(throttling(grows).episodes) == 1
    assert grows.series("oc_events")[0].size == 21


def test_calm_frames_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[int] = []
    update = ThrottleDetector.update

    def counted(self: ThrottleDetector, reading: SourceReading) -> Transition | None:
        walked.append(1)
        return update(self, reading)

    monkeypatch.setattr(ThrottleDetector, "update", counted)
    seen = throttling(trace(2_000, alerts=lambda at: ["gpu-throttle-alert"] if 1_000 <= at < 1_010 else []))
    assert len(seen.episodes) == 1
    assert seen.times_ns.size == 2_000
    assert len(walked) < 20


def test_the_values_that_are_read_for_a_row_are_all_that_its_requests_and_their_energy_depend_on() -> None:
    others = {name: 7.0 for name in KNOWN if name not in CALM} | {"temp_c.zone": 50.0, "oc1_events": 3.0}
    rails = {"power_w.VDD_IN": 12.0, "power_w": 12.0, "limit.thermal": 0.0}
    whole = trace(
        60,
        lambda at: {**others, **rails, "gpu_temp_c": 40.0 + at, "limit.thermal": float(at in (20, 21, 22))},
        lambda at: ["gpu-throttle-alert"] if at == 21 else [],
    )
    read = Trace(
        [replace(frame, values={name: frame.values[name] for name in frame.values if reads(name)}) for frame in whole]
    )
    assert 5 < len(read.names()) < len(whole.names())
    rows = calls((350, 399), (1950, 2250), (4500, 4600))
    there, here = (align(rows, one) for one in (whole, read))
    for name in ("throttled", "known", "episode", "clock_mhz"):
        assert np.array_equal(getattr(there, name), getattr(here, name))
    assert there.throttled.any()
    assert there.causes == here.causes
    assert energy(whole, S, 5 * S, 100, idle_w=1.0) == energy(read, S, 5 * S, 100, idle_w=1.0)
