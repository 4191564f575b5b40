"""Schedules in an open loop, and what the columns of a launch say of the load."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.records import Outcome
from harness.tier2.launch import run_launch
from harness.tier2.load import (
    harness_late,
    late,
    latencies_ns,
    lateness_ns,
    missed,
    overload,
    schedule,
    select,
    utilisation,
    waits_ns,
)
from harness.tier2.samples import COLUMNS, Phase, SampleLog, Status
from harness.tier2.station import Stream
from runtime.protocol import Array
from tests.harness.tiny_station import MS, TinyStation, case, order

SECOND = 1_000_000_000


def stream(rate_hz: float, model: str = "m", **given: Any) -> Stream:
    return Stream(case(model), rate_hz, **given)


def columns(*rows: tuple[int, int, int, int, int], phase: int = Phase.MEASURE) -> Mapping[str, Array]:
    """(stream, scheduled, started, done, status) in ms; woken when started."""
    log = SampleLog(["a", "b"])
    for at, scheduled, started, done, status in rows:
        log.add(at, scheduled * MS, started * MS, started * MS, done * MS, phase, status)
    return log.columns()


streams = st.lists(
    st.builds(
        stream,
        st.floats(0.2, 200.0, allow_nan=False),
        burst=st.integers(1, 13),
        offset_ns=st.integers(0, 3 * SECOND),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.covers("T2-01")
@given(streams)
@settings(max_examples=60, deadline=None)
def test_a_schedule_has_every_request_once_and_in_order(asked: list[Stream]) -> None:
    until_ns = 5 * SECOND
    got = list(schedule(asked, until_ns=until_ns))
    expected = sorted(
        (due, at)
        for at, one in enumerate(asked)
        for burst in range(1 + int(until_ns * one.rate_hz / one.burst / 1e9))
        for due in [one.offset_ns + round(burst * (one.burst * 1e9 / one.rate_hz))] * one.burst
        if due < until_ns
    )
    assert [(due, at) for at, due in got] == expected


def test_rounding_does_not_add_up_over_an_hour() -> None:
    last = max(due for _, due in itertools.islice(schedule([stream(39.0)]), 39 * 3600 + 1))
    assert last == 3600 * SECOND


@pytest.mark.covers("T2-01")
def test_a_burst_is_due_at_one_moment() -> None:
    flight = [stream(3.0, "place"), stream(39.0, "match", burst=13)]
    first = list(schedule(flight, until_ns=SECOND))
    assert len(first) == 3 * 14
    assert [due for _, due in first[:14]] == [0] * 14
    assert [at for at, _ in first[:14]] == [0, *[1] * 13]
    assert first[14][1] == round(SECOND / 3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "without streams"),
        ([stream(39.0), stream(0.0)], "some streams of this load have a rate"),
        ([stream(-1.0)], "rate of 0"),
        ([stream(float("nan"))], "rate of 0"),
        ([stream(float("inf"))], "rate of 0"),
        ([stream(1.0, burst=0)], "bursts of 1"),
        ([stream(1.0, late="later")], "queue or drop"),
        ([stream(1.0, offset_ns=-1)], "offset of 0"),
        ([stream(0.0)], "closed loop has no schedule"),
    ],
)
def test_streams_that_make_no_schedule_are_refused(asked: list[Stream], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        next(schedule(asked))


def test_rows_are_chosen_by_phase_stream_and_launch() -> None:
    log = SampleLog(["a", "b"], launch=3)
    for at, phase in ((0, Phase.SOAK), (1, Phase.MEASURE), (0, Phase.MEASURE)):
        log.add(at, 1, 1, 1, 2, phase)
    rows = log.columns()
    assert select(rows)["stream"].tolist() == [1, 0]
    assert select(rows, phase=None, stream=0)["phase"].tolist() == [Phase.SOAK, Phase.MEASURE]
    assert select(rows, launch=2)["stream"].size == 0
    assert set(select(rows)) == set(COLUMNS)


@pytest.mark.covers("T2-01")
def test_latency_counts_from_the_schedule_in_an_open_loop_and_from_the_call_in_a_closed_one() -> None:
    rows = columns((0, 0, 4, 9, Status.OK))
    assert latencies_ns(rows, True).tolist() == [9 * MS]
    assert latencies_ns(rows, False).tolist() == [5 * MS]
    assert waits_ns(rows).tolist() == [4 * MS]


@pytest.mark.covers("T2-03")
def test_what_was_missed_and_what_was_late_are_counted_apart() -> None:
    rows = columns(
        (0, 0, 0, 9, Status.OK), (0, 0, 0, 2, Status.OK), (0, 0, 0, 9, Status.FAILED), (0, 5, 5, 5, Status.DROPPED)
    )
    assert missed(rows).tolist() == [False, False, True, True]
    assert late(rows, 5 * MS).tolist() == [True, False, False, False]
    assert late(rows, 9 * MS).tolist() == [False] * 4
    assert not late(rows, None).any()


def test_utilisation_is_service_time_asked_for_in_a_second_of_schedule() -> None:
    asked = [stream(3.0, "a"), stream(39.0, "b"), stream(1.0, "c")]
    rows = columns(
        (0, 0, 0, 100, Status.OK),
        (1, 0, 100, 110, Status.OK),
        (1, 0, 110, 140, Status.FAILED),
        (1, 1, 1, 1, Status.DROPPED),
    )
    place, match, refine = utilisation(rows, asked)
    assert place == pytest.approx(0.3)
    assert match == pytest.approx(0.78)
    assert refine is None
    assert (
        overload(rows, asked)
        == "a second of this load asks for 1.08 s of service (a 0.30, b 0.78): it cannot be served"
    )
    assert utilisation(rows, [stream(0.0)]) == (None,)
    assert overload(rows, [stream(0.0)]) == ""
    assert overload(columns(), asked) == ""


def served_in_turn(takes_ms: list[int], every_ms: int) -> Mapping[str, Array]:
    rows, free = [], 0
    for at, takes in enumerate(takes_ms):
        started = max(free, at * every_ms)
        free = started + takes
        rows.append((0, at * every_ms, started, free, int(Status.OK)))
    return columns(*rows)


@pytest.mark.covers("T2-03")
def test_a_queue_that_grows_without_end_is_an_overload_and_one_that_empties_is_none() -> None:
    every_100ms = [stream(10.0)]
    assert overload(served_in_turn([99] * 200, 100), every_100ms) == ""
    # a long stall that is caught up with
    assert overload(served_in_turn([50] * 50 + [3000] + [50] * 149, 100), every_100ms) == ""
    assert "asks for 1.01 s" in overload(served_in_turn([101] * 200, 100), every_100ms)
    # the device does its work in time, and something else holds it up ever longer
    rows = served_in_turn([50] * 200, 100)
    behind = np.arange(200) * 10 * MS
    rows = {**rows, "started_ns": rows["started_ns"] + behind, "done_ns": rows["done_ns"] + behind}
    assert "the queue grows without end, at a load of 0.50 (m 0.50): the least wait rose from 0 to 1500 ms" in overload(
        rows, every_100ms
    )


def test_dropping_requests_hides_no_overload() -> None:
    rows = columns((0, 0, 0, 150, Status.OK), (0, 100, 100, 100, Status.DROPPED), (0, 200, 200, 350, Status.OK))
    assert "asks for 1.50 s" in overload(rows, [stream(10.0, late="drop")])


def test_a_request_that_waits_for_the_queue_is_no_lateness_of_the_harness() -> None:
    log = SampleLog(["a"])
    log.add(0, 0, 30_000, 30_000, 9 * MS)  # idle, and woken 30 us late
    log.add(0, 5 * MS, 9 * MS + 2_000, 9 * MS + 2_000, 12 * MS)  # had to wait for the first
    log.add(0, 6 * MS, 6 * MS, 6 * MS, 6 * MS, Phase.MEASURE, Status.DROPPED)
    log.add(0, 20 * MS, 23 * MS, 23 * MS, 24 * MS)  # idle, and woken 3 ms late
    assert lateness_ns(log.columns()).tolist() == [30_000, 2_000, 0, 3 * MS]
    two = {name: np.concatenate([values, values]) for name, values in log.columns().items()}
    two["launch"][4:] = 1
    assert lateness_ns(two).tolist() == [30_000, 2_000, 0, 3 * MS] * 2
    mixed = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # rows of two launches in turn
    assert lateness_ns({name: values[mixed] for name, values in two.items()}).tolist() == [
        late for late in (30_000, 2_000, 0, 3 * MS) for _ in range(2)
    ]
    dropped = {**log.columns(), "status": np.array([Status.DROPPED, Status.OK, Status.OK, Status.OK])}
    assert lateness_ns(dropped)[0] == 0
    assert lateness_ns(SampleLog(["a"]).columns()).size == 0


@pytest.mark.covers("T2-03")
def test_a_harness_that_woke_late_makes_the_row_inconclusive() -> None:
    log = SampleLog(["a"])
    for at in range(300):
        behind = 2 * MS if at in {7, 70, 170} else 0
        log.add(0, at * 20 * MS, at * 20 * MS + behind, at * 20 * MS + behind, at * 20 * MS + 5 * MS)
    assert harness_late(log.columns()) is None  # one in a hundred
    log.add(0, 300 * 20 * MS, 300 * 20 * MS + 9 * MS, 300 * 20 * MS + 9 * MS, 300 * 20 * MS + 15 * MS)
    check = harness_late(log.columns())
    assert check is not None
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "4 of 301 requests (at worst 9.0 ms)" in check.reason
    soaking = {**log.columns(), "phase": np.full(301, int(Phase.SOAK))}
    assert harness_late(soaking) is None


@pytest.mark.covers("T2-01")
def test_an_open_loop_sees_the_queue_behind_a_stall_that_a_closed_loop_leaves_out() -> None:
    """Methods A4: 15 ms of service at 39 Hz, and 300 ms more once in 400 frames; p95 about 16.6 and 107 ms."""
    chance = np.random.default_rng(5)
    service_ns = (15 * MS * chance.lognormal(0.0, 0.06, 40_000)).astype(np.int64)
    service_ns[200::400] += 300 * MS

    def p95_and_late(rate_hz: float) -> tuple[float, float]:
        station = TinyStation(takes=lambda model, call: int(service_ns[call]))
        seen = run_launch(station, order(stream(rate_hz), least_s=600.0, most_s=600.0, telemetry_hz=0.0))
        latencies = latencies_ns(select(seen.log.columns()), rate_hz > 0) / MS
        return float(np.quantile(latencies, 0.95)), float(np.mean(latencies > 25.6))

    closed, closed_late = p95_and_late(0.0)
    opened, open_late = p95_and_late(39.0)
    assert closed == pytest.approx(16.6, abs=0.3)
    assert closed_late == pytest.approx(0.0025, abs=0.0003)
    assert opened == pytest.approx(107.0, abs=8.0)
    assert open_late == pytest.approx(0.07, abs=0.01)
    slow, _ = p95_and_late(3.0)
    assert slow == pytest.approx(closed, abs=0.3)  # at 3 Hz the stall is over before the next frame
