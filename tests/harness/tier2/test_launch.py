"""One launch in virtual time: what is measured when, what becomes of each request, and what is kept when it breaks."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.records import INTERRUPTED, BoardState, Outcome
from harness.statistics.steadiness import SoakRule
from harness.tier2 import launch as launching
from harness.tier2.launch import run_launch
from harness.tier2.load import harness_late, latencies_ns, lateness_ns, overload, schedule, select
from harness.tier2.samples import COLUMNS, Phase, Status
from harness.tier2.station import Order, Seen, Stream
from runtime.errors import DeviceLostError, InferenceError
from runtime.protocol import Array
from tests.harness.tiny_station import MS, TinyStation, case, order, profile

SECOND = 1_000_000_000


def stream(rate_hz: float = 20.0, model: str = "m", **given: Any) -> Stream:
    return Stream(case(model), rate_hz, **given)


def measured(seen: Seen) -> dict[str, Array]:
    return select(seen.log.columns())


def failing(error: Callable[[], BaseException], when: Callable[[int], bool]) -> Callable[[str, int], None]:
    def fails(model: str, call: int) -> None:
        if when(call):
            raise error()

    return fails


@pytest.mark.covers("T2-01")
def test_a_launch_is_a_first_call_a_warm_up_a_soak_and_what_is_measured() -> None:
    station = TinyStation(takes=lambda model, call: 40 * MS if call == 0 else 5 * MS, gives_split=(1, 2, 3, 4))
    soak = SoakRule(window_s=2.0, least_s=3.0, most_s=9.0)
    seen = run_launch(station, order(stream(deadline_ns=60 * MS), soak=soak))
    rows = seen.log.columns()
    phases = [int(phase) for phase in rows["phase"]]
    assert phases == sorted(phases)
    # the first call and three to warm up; three seconds to soak, asked each second; two to measure
    assert [phases.count(phase) for phase in Phase] == [4, 61, 40]
    assert (seen.first_call_ns, seen.load_ns) == ({"m": 40 * MS}, {"m": 7})
    assert {rows[name][9] for name in COLUMNS[-4:]} == {1, 2, 3, 4}
    assert seen.soak["is_over"]
    assert "steady after 3 s" in seen.soak["words"]
    told = seen.measurement
    assert (told.sample_count, told.failed_count, told.first_call_ns, told.incomplete) == (40, 0, 40 * MS, "")
    assert (told.rate_hz, told.deadline_ns, told.launches, told.simulated) == (20.0, 60 * MS, 1, True)
    assert told.board_start.power_mode == told.board_end.power_mode == "MAXN"
    assert told.duration_ns == station.clock() - 0
    assert [engine.is_closed for engine in station.engines] == [True]
    assert [figure.name for figure in seen.memory] == ["process_bytes"]


@pytest.mark.covers("T2-04")
def test_frames_span_the_launch_from_before_the_soak_until_after_it() -> None:
    station = TinyStation(reads=lambda at_ns: {"gpu_temp_c": 40.0 + at_ns / 1e9, "power_w": 9.5})
    seen = run_launch(station, order(stream()))
    times, temperatures = seen.trace.series("gpu_temp_c")
    assert times[0] == 0
    assert times[-1] == station.clock()
    assert np.diff(times).max() <= 100 * MS
    assert temperatures == pytest.approx(40.0 + times / 1e9)
    assert seen.trace.frames[3].values == {"gpu_temp_c": pytest.approx(40.3), "power_w": 9.5}
    assert "power_w" in repr(seen.trace.frames[3].values)
    with pytest.raises(KeyError):
        seen.trace.frames[3].values["fan_rpm"]


def test_later_launches_of_a_session_soak_only_until_it_is_steady_again() -> None:
    rule = SoakRule(window_s=120.0, least_s=180.0, most_s=900.0)
    soaks = [
        run_launch(TinyStation(), Order(profile(soak=rule), (stream(1.0),), is_first=is_first)).soak["waited_s"]
        for is_first in (True, False)
    ]
    assert 180 <= soaks[0] < 185
    assert 60 <= soaks[1] < 65


flights = st.lists(
    st.tuples(st.floats(2.0, 60.0), st.integers(1, 5), st.sampled_from(["queue", "drop"]), st.integers(1, 60)),
    min_size=1,
    max_size=3,
)


@pytest.mark.covers("T2-01", "T2-03")
@given(flights, st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_every_scheduled_request_is_one_row_served_in_order_or_dropped_by_its_rule(
    asked: list[tuple[float, int, str, int]], seed: int
) -> None:
    chance = random.Random(seed)
    streams = [stream(rate, f"m{at}", burst=burst, late=late) for at, (rate, burst, late, _) in enumerate(asked)]
    service = {f"m{at}": takes * MS for at, (*_, takes) in enumerate(asked)}
    station = TinyStation(takes=lambda model, call: chance.randint(1, 2 * service[model]))
    rows = measured(run_launch(station, order(*streams, telemetry_hz=0.0)))
    count = rows["status"].size
    begun = int(rows["scheduled_ns"][0])
    got = list(zip(rows["stream"].tolist(), (rows["scheduled_ns"] - begun).tolist(), strict=True))
    assert got == list(itertools.islice(schedule(streams), count))
    assert (rows["stream"] == 0).sum() >= int(2 * streams[0].rate_hz)
    free_ns = begun
    waiting: dict[int, list[tuple[int, int]]] = {at: [] for at in range(len(streams))}
    for row in range(count):
        at, due, started, done = (int(rows[name][row]) for name in ("stream", "scheduled_ns", "started_ns", "done_ns"))
        is_behind = any(earlier < due < ended for earlier, ended in waiting[at])
        if streams[at].late == "drop" and is_behind:
            assert rows["status"][row] == Status.DROPPED
            assert (started, done) == (due, due)
            continue
        assert rows["status"][row] == Status.OK
        assert started == max(due, free_ns)
        waiting[at].append((due, done))
        free_ns = done


@pytest.mark.covers("T2-03")
def test_a_burst_is_dropped_whole_or_served_whole() -> None:
    station = TinyStation(takes=lambda model, call: 600 * MS if call == 10 else 10 * MS)
    rows = measured(run_launch(station, order(stream(15.0, burst=5, late="drop"))))
    statuses = rows["status"].reshape(-1, 5)
    assert (statuses == statuses[:, :1]).all()
    assert statuses[:, 0].tolist() == [0, 0, 2, 0, 0, 0]  # the long call is the seventh of what is measured


def test_engines_are_loaded_once_for_each_case_and_closed_when_another_cannot_be() -> None:
    station = TinyStation()
    run_launch(station, order(stream(5.0, "a"), stream(7.0, "b"), stream(9.0, "a", offset_ns=MS)))
    assert [engine.case.model for engine in station.engines] == ["a", "b"]

    class Refusing(TinyStation):
        def open(self, case: Any) -> Any:
            if case.model == "b":
                raise InferenceError("no room for b")
            return super().open(case)

    refusing = Refusing()
    with pytest.raises(InferenceError, match="no room for b"):
        run_launch(refusing, order(stream(5.0, "a"), stream(7.0, "b")))
    assert [engine.is_closed for engine in refusing.engines] == [True]


def test_an_order_that_judges_no_stream_is_refused() -> None:
    with pytest.raises(UsageError, match="judged is stream 2"):
        run_launch(TinyStation(), Order(profile(), (stream(),), judged=2))


def test_a_closed_loop_calls_streams_in_turn_and_ends_by_time() -> None:
    station = TinyStation(takes=lambda model, call: 5 * MS if model == "a" else 20 * MS)
    seen = run_launch(station, order(stream(0.0, "a"), stream(0.0, "b")))
    rows = measured(seen)
    assert rows["stream"].tolist() == [0, 1] * 80
    assert (rows["scheduled_ns"] == rows["started_ns"]).all()
    assert (rows["started_ns"][1:] == rows["done_ns"][:-1]).all()
    assert seen.measurement.rate_hz is None


def test_a_closed_loop_that_wants_all_of_its_time_is_not_ended_by_a_count_of_calls_but_by_what_memory_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = order(stream(0.0), most_calls=100)
    whole = run_launch(TinyStation(), asked)
    assert (whole.measurement.sample_count, whole.notes) == (400, ())
    monkeypatch.setattr(launching, "MOST_ROWS", 100)
    cut = run_launch(TinyStation(), asked)
    assert (cut.measurement.sample_count, cut.incomplete) == (100, "")
    (note,) = cut.notes
    assert note.startswith("measuring ended after 0 s of 2 s, with 100 rows: more are not kept in memory")


@pytest.mark.covers("T2-03")
@pytest.mark.parametrize("rate_hz", [39.0, 0.0])
def test_measuring_ends_at_the_first_look_that_decides(rate_hz: float) -> None:
    plan = profile(precision=0.1, least_calls=120, least_s=2.0, most_s=600.0)
    seen = run_launch(TinyStation(), Order(plan, (stream(rate_hz),), budget_ns=60 * MS))
    looks = [120, 162, 219, 296, 400]
    assert seen.measurement.sample_count in (looks if rate_hz else [400])  # the first two seconds are more than a look
    assert seen.incomplete == ""


class Looking:
    """A rule that looks at 20 and 30 samples, and takes 70 ms to do so."""

    def __init__(self, station: TinyStation) -> None:
        self.station = station

    def looks(self) -> Iterator[int]:
        return iter((20, 30, 40))

    def is_enough(self, latencies: Array, missed: Array) -> bool:
        assert latencies.size == missed.size
        self.station.pass_to(self.station.clock() + 70 * MS)
        return False


@pytest.mark.covers("T2-01")
def test_a_look_costs_no_latency_the_schedule_stands_still_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    station = TinyStation()
    monkeypatch.setattr(launching, "rule_of", lambda *given: Looking(station))
    rows = measured(run_launch(station, order(stream(20.0), most_s=60.0)))
    assert set(latencies_ns(rows, True).tolist()) == {5 * MS}
    steps = np.diff(rows["scheduled_ns"]) / MS
    assert steps.size == 39
    # the call ended 45 ms before the next was due: 25 of the 70 ms are left
    assert {at: step for at, step in enumerate(steps.tolist()) if step != 50} == {19: 75.0, 29: 75.0}
    assert not lateness_ns(rows).any()


@pytest.mark.covers("T2-01")
def test_a_look_while_requests_wait_moves_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    station = TinyStation(takes=lambda model, call: 60 * MS)
    monkeypatch.setattr(launching, "rule_of", lambda *given: Looking(station))
    rows = measured(run_launch(station, order(stream(20.0), most_s=60.0)))
    assert set((np.diff(rows["scheduled_ns"]) / MS).tolist()) == {50.0}
    assert rows["started_ns"][-1] - rows["scheduled_ns"][-1] >= 10 * MS * (rows["status"].size - 1)


@pytest.mark.covers("T2-03")
def test_a_call_that_fails_is_a_row_and_the_launch_goes_on() -> None:
    station = TinyStation(fails=failing(lambda: InferenceError("bad shape"), lambda call: call % 10 == 7))
    seen = run_launch(station, order(stream()))
    rows = measured(seen)
    assert rows["status"].size == 40
    assert (rows["status"] == Status.FAILED).sum() == seen.measurement.failed_count == 4
    assert seen.notes == ("4 calls failed: m: InferenceError: bad shape",)
    assert seen.incomplete == ""


def test_a_first_call_that_fails_has_no_time() -> None:
    station = TinyStation(fails=failing(lambda: InferenceError("cold"), lambda call: call == 0))
    seen = run_launch(station, order(stream()))
    assert seen.first_call_ns == {}
    assert seen.measurement.first_call_ns is None
    assert seen.measurement.failed_count == 0


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_what_a_third_partys_class_raises_is_a_failed_call(error: type[BaseException]) -> None:
    theirs = Stream(case("m", "their.module:Class"), 20.0)
    fails = failing(lambda: error("odd"), lambda call: call == 20)
    assert run_launch(TinyStation(fails=fails), order(theirs)).measurement.failed_count == 1
    ours = TinyStation(fails=fails)
    with pytest.raises(error):
        run_launch(ours, order(stream()))
    assert ours.engines[0].is_closed


@pytest.mark.covers("T2-03")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyboardInterrupt(), f"{INTERRUPTED} after 25 requests"),
        (DeviceLostError("Xid 79"), "the device was lost after 25 requests: Xid 79"),
        (MemoryError(), "the harness ran out of memory after 25 requests"),
    ],
)
def test_what_ends_a_launch_keeps_every_row(error: BaseException, words: str) -> None:
    station = TinyStation(fails=failing(lambda: error, lambda call: call == 24))
    journal = io.BytesIO()
    seen = run_launch(station, order(stream(), most_s=600.0, least_s=600.0), journal=journal)
    assert seen.incomplete == seen.measurement.incomplete == words
    rows = seen.log.columns()
    assert rows["status"].tolist() == [Status.OK] * 24 + [Status.FAILED]
    assert len(journal.getvalue()) == 25 * 8 * len(COLUMNS)
    assert [engine.is_closed for engine in station.engines] == [True]
    assert seen.measurement.board_end.power_mode == "MAXN"


def test_an_end_before_the_first_call_is_done_keeps_its_row() -> None:
    station = TinyStation(fails=failing(KeyboardInterrupt, lambda call: call == 0))
    seen = run_launch(station, order(stream()))
    assert (len(seen.log), seen.measurement.sample_count, seen.measurement.simulated) == (1, 0, True)
    assert seen.incomplete == f"{INTERRUPTED} after 1 request"


class FullDisk(io.RawIOBase):
    """Takes ``room`` bytes, the last of them in half a row, and then no more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.room == 0:
            raise OSError(28, "No space left on device")
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.data += taken
        return len(taken)


@pytest.mark.covers("T2-03")
@pytest.mark.parametrize("soak", [None, SoakRule(window_s=60.0, least_s=300.0, most_s=600.0)])
def test_a_disk_that_is_full_ends_the_launch_with_every_row_in_memory(soak: SoakRule | None) -> None:
    disk = FullDisk(30 * 96 + 40)
    seen = run_launch(TinyStation(), order(stream(), soak=soak, most_s=60.0), journal=disk)  # type: ignore[arg-type]
    assert "the samples could not be written: No space left on device, after" in seen.incomplete
    assert 24 <= len(seen.log) < 100
    whole = np.stack([seen.log.columns()[name] for name in COLUMNS], axis=1).tobytes()
    assert disk.data == whole[: 30 * 96 + 40]


def test_a_disk_that_is_full_at_the_very_end_is_told() -> None:
    seen = run_launch(TinyStation(), order(stream(), most_s=0.2), journal=FullDisk(96))  # type: ignore[arg-type]
    assert seen.incomplete == "the samples could not be written: No space left on device"
    assert seen.measurement.sample_count == 4


@pytest.mark.covers("T2-03")
def test_a_journal_gets_what_came_at_least_once_a_second() -> None:
    sizes = []

    class Journal(io.BytesIO):
        def write(self, data: Any) -> int:
            sizes.append(len(data) // 96)
            return super().write(data)

    journal = Journal()
    seen = run_launch(TinyStation(), order(stream(20.0), most_s=10.0), journal=journal)
    assert sum(sizes) == len(seen.log) == 204
    assert max(sizes) <= 21 + 3


def test_telemetry_that_breaks_ends_the_launch() -> None:
    def reads(at_ns: int) -> dict[str, float]:
        if at_ns > SECOND:
            raise OSError(28, "No space left on device")
        return {}

    seen = run_launch(TinyStation(reads=reads), order(stream(), most_s=60.0))
    assert "the telemetry broke" in seen.incomplete
    assert 15 < len(seen.log) < 60


def test_a_launch_can_be_stopped_and_tells_how_far_it_is_once_a_second() -> None:
    said: list[tuple[int, str]] = []
    station = TinyStation()
    soak = SoakRule(window_s=2.0, least_s=3.0, most_s=9.0)
    seen = run_launch(
        station,
        order(stream(), most_s=60.0, soak=soak),
        say=lambda words: said.append((station.clock(), words)),
        stop=lambda: station.clock() > 8 * SECOND,
    )
    assert seen.incomplete.startswith("stopped after")
    times = [at for at, words in said if words.startswith(("soak", "measuring"))]
    assert np.diff(times).min() >= SECOND
    assert [words.split(":")[0] for _, words in said[:3]] == ["m", "warm-up", "soak"]
    assert said[-1][1].startswith("measuring m: ")
    assert "looked at after 1200; 5" in said[-1][1]


@pytest.mark.covers("T2-04")
def test_a_board_that_changes_while_a_launch_runs_has_two_states() -> None:
    class Drifting(TinyStation):
        def board_state(self) -> BoardState:
            return replace(super().board_state(), governor="performance" if self.clock() < SECOND else "userspace")

    told = run_launch(Drifting(), order(stream())).measurement
    assert (told.board_start.governor, told.board_end.governor) == ("performance", "userspace")


@pytest.mark.covers("T2-04")
def test_a_machine_that_was_suspended_or_whose_clock_was_stepped_is_noted() -> None:
    seen = run_launch(TinyStation(lost=(0, 3_500 * MS)), order(stream()))
    assert seen.lost_ns == 3_500 * MS
    assert any("suspended, or its wall clock stepped, by 3.500 s" in note for note in seen.notes)
    assert run_launch(TinyStation(), order(stream())).notes == ()


@pytest.mark.covers("T2-03")
def test_a_load_that_cannot_be_served_ends_early_and_each_request_that_was_due_is_a_row() -> None:
    station = TinyStation(takes=lambda model, call: 150 * MS)
    asked = [stream(20.0)]
    seen = run_launch(station, order(*asked, least_s=600.0, most_s=600.0))
    rows = measured(seen)
    span_ns = int(rows["scheduled_ns"][-1] - rows["scheduled_ns"][0])
    assert rows["status"].size == round(20 * span_ns / 1e9) + 1
    assert 0 <= rows["done_ns"].max() - rows["scheduled_ns"][-1] <= 200 * MS
    assert 600 <= (rows["status"] == Status.DROPPED).sum() <= 610
    assert "overload: measuring ended when a request had waited for 30 s" in seen.notes[-1]
    assert "asks for 3.00 s of service" in overload(rows, asked)


def test_a_single_stall_of_a_minute_is_no_overload() -> None:
    station = TinyStation(takes=lambda model, call: 60 * SECOND if call == 4000 else 5 * MS)
    seen = run_launch(station, order(stream(20.0), least_s=400.0, most_s=400.0))
    rows = measured(seen)
    assert rows["status"].tolist() == [Status.OK] * 8000
    assert seen.notes == ()
    assert overload(rows, [stream(20.0)]) == ""


def test_what_waits_when_a_soak_ends_is_not_measured() -> None:
    # four times what can be served while it soaks, half of it later: the board was throttled
    station = TinyStation()
    station.takes = lambda model, call: 200 * MS if station.clock() < 20 * SECOND else 25 * MS
    seen = run_launch(station, order(stream(), soak=SoakRule(window_s=5.0, least_s=20.0, most_s=40.0)))
    rows = seen.log.columns()
    soaking = select(rows, phase=Phase.SOAK)
    assert (soaking["status"] == Status.DROPPED).any()
    assert set(select(rows)["status"].tolist()) == {Status.OK}
    assert latencies_ns(select(rows), True).max() < 1.5 * SECOND
    assert (np.diff(rows["scheduled_ns"][4:]) == 50 * MS).all()


@pytest.mark.covers("T2-03")
def test_a_station_that_wakes_late_is_told_apart_from_a_slow_runtime() -> None:
    seen = run_launch(TinyStation(wakes_late_ns=3 * MS), order(stream()))
    rows = seen.log.columns()
    assert set(latencies_ns(select(rows), True).tolist()[1:]) == {8 * MS}
    check = harness_late(rows)
    assert check is not None
    assert check.outcome is Outcome.INCONCLUSIVE


def test_a_stream_slower_than_a_second_is_called_when_it_is_due() -> None:
    said: list[str] = []
    seen = run_launch(TinyStation(), order(stream(0.2), least_s=60.0, most_s=60.0), say=said.append)
    rows = measured(seen)
    assert (np.diff(rows["scheduled_ns"]) == 5 * SECOND).all()
    assert not lateness_ns(rows).any()
    assert len([words for words in said if words.startswith("measuring")]) >= 55
