"""The publisher, the detector and the plausibility of readings (TH-01, TH-03 to TH-05)."""

from __future__ import annotations

import functools
import io
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.data import ThermalState
from runtime.errors import ConfigError, TelemetryUnavailableError
from runtime.logs import EventLog, Kind, Level, Record
from runtime.thermal import (
    SourceReading,
    ThermalStatePublisher,
    ThrottleCause,
    ThrottleDetector,
    Transition,
)
from runtime.thermal_sources.trace import TraceSource

TRACES = Path(__file__).parents[2] / "fixtures" / "telemetry"
PERIOD_S = 0.01
FLAT_OUT = SourceReading(gpu_temp_c=60.0, clock_mhz=1020.0, clock_cap_mhz=1020.0, load_percent=99.0)
SLOW = replace(FLAT_OUT, clock_mhz=612.0)
IDLE = replace(FLAT_OUT, clock_mhz=306.0, load_percent=40.0)
HOT = replace(FLAT_OUT, gpu_temp_c=99.0, throttle_alerts=("gpu-throttle-alert",))


# --- what a sensor can say ---------------------------------------------------------------------------------------


@pytest.mark.covers("TH-03", "TH-04")
@pytest.mark.parametrize(
    "celsius",
    [math.nan, math.inf, -math.inf, -256.0, -300.0, 150.1, 318.15, 45_000.0, 0.045, 0.0, -0.2, True, "45", 10**400],
)
def test_an_implausible_temperature_is_unknown_and_never_cool(celsius: float) -> None:
    reading = SourceReading(cpu_temp_c=celsius, gpu_temp_c=celsius, clock_mhz=1020.0)
    assert (reading.cpu_temp_c, reading.gpu_temp_c, reading.clock_mhz) == (None, None, 1020.0)
    assert [note.split(":")[0] for note in reading.notes] == ["cpu_temp_c", "gpu_temp_c"]


@pytest.mark.covers("TH-03")
@pytest.mark.parametrize("celsius", [-55.0, -40.0, -1.0, 1.0, 25, 99.0, 150.0])
def test_a_temperature_that_a_board_can_have_is_kept(celsius: float) -> None:
    assert SourceReading(gpu_temp_c=celsius) == SourceReading(gpu_temp_c=celsius, notes=())
    assert SourceReading(gpu_temp_c=celsius).gpu_temp_c == celsius


@pytest.mark.covers("TH-04")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clock_mhz", 0.0),
        ("clock_mhz", 1.02),  # GHz
        ("clock_mhz", 1_020_000.0),  # kHz
        ("clock_cap_mhz", 1_020_000_000.0),  # Hz
        ("load_percent", 991.0),  # per mille
        ("load_percent", -1.0),
        ("over_current_events", -1),
        ("over_current_events", 3.5),
    ],
)
def test_a_figure_in_a_wrong_unit_is_unknown(name: str, value: Any) -> None:
    reading = SourceReading(**{name: value})
    assert getattr(reading, name) is None
    assert reading.is_empty
    assert name in reading.notes[0]


@pytest.mark.covers("TH-03")
@given(
    value=st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text()),
    name=st.sampled_from(["cpu_temp_c", "gpu_temp_c", "clock_mhz", "clock_cap_mhz", "load_percent"]),
)
def test_no_value_whatsoever_gets_into_a_reading_unless_a_sensor_can_have_it(value: Any, name: str) -> None:
    kept = getattr(SourceReading(**{name: value}), name)
    assert kept is None or (kept == value and -55.0 <= kept <= 10_000.0 and math.isfinite(kept))


# --- throttling, in virtual time ---------------------------------------------------------------------------------


def run(readings: Iterable[SourceReading], detector: ThrottleDetector | None = None) -> list[tuple[int, Transition]]:
    watching = detector or ThrottleDetector()
    moves = [(index, watching.update(reading)) for index, reading in enumerate(readings)]
    return [(index, move) for index, move in moves if move is not None]


@pytest.mark.covers("TH-04")
@pytest.mark.parametrize(
    ("alert", "cause"),
    [
        ("gpu-throttle-alert", ThrottleCause.THERMAL),
        ("hot-surface-alert", ThrottleCause.THERMAL),
        ("hw-thermal-slowdown", ThrottleCause.THERMAL),
        ("hw-power-brake", ThrottleCause.OVER_CURRENT),
        ("hw-slowdown", ThrottleCause.OVER_CURRENT),
    ],
)
def test_an_alert_is_throttling_at_once_and_tells_heat_from_current(alert: str, cause: ThrottleCause) -> None:
    [(index, move)] = run([FLAT_OUT, replace(FLAT_OUT, throttle_alerts=(alert,))])
    assert (index, move.throttled, move.causes, move.evidence) == (1, True, (cause,), (alert,))


@pytest.mark.covers("TH-04")
def test_an_over_current_counter_is_throttling_when_it_rises_and_not_when_it_is_high() -> None:
    counts = [27_390, 27_390, None, 27_390, 27_391]
    [(index, move)] = run(replace(IDLE, over_current_events=count) for count in counts)
    assert (index, move.causes) == (4, (ThrottleCause.OVER_CURRENT,))
    assert move.evidence == ("over-current events 27390 -> 27391",)


@pytest.mark.covers("TH-04")
def test_a_counter_that_starts_again_is_a_new_baseline() -> None:
    assert run(replace(IDLE, over_current_events=count) for count in [500, 0, 0]) == []
    moves = run(replace(IDLE, over_current_events=count) for count in [500, 0, 1])
    assert [index for index, _ in moves] == [2]


@pytest.mark.covers("TH-04")
def test_a_low_clock_under_full_load_is_throttling_at_the_third_reading_in_a_row() -> None:
    assert run([FLAT_OUT, SLOW, SLOW, FLAT_OUT, SLOW, SLOW, IDLE, SLOW, SLOW]) == []
    [(index, move)] = run([FLAT_OUT, SLOW, SLOW, SLOW, SLOW])
    assert (index, move.causes) == (3, (ThrottleCause.GOVERNOR,))


@pytest.mark.covers("TH-04")
@pytest.mark.parametrize("load", [None, 0.0, 40.0, 90.0])
def test_a_governor_that_clocks_a_part_loaded_gpu_down_is_not_throttling(load: float | None) -> None:
    assert run([FLAT_OUT, *[replace(SLOW, load_percent=load)] * 20]) == []


@pytest.mark.covers("TH-04")
def test_a_clock_a_hair_under_its_cap_is_not_throttling() -> None:
    assert run([replace(FLAT_OUT, clock_mhz=0.95 * 1020.0)] * 10) == []
    assert len(run([replace(FLAT_OUT, clock_mhz=0.949 * 1020.0)] * 10)) == 1


@pytest.mark.covers("TH-04")
@pytest.mark.parametrize("missing", ["clock_mhz", "clock_cap_mhz", "load_percent"])
def test_an_unknown_figure_is_no_evidence(missing: str) -> None:
    nothing: dict[str, Any] = {missing: None}
    assert run([replace(SLOW, **nothing)] * 10) == []


@pytest.mark.covers("TH-04")
def test_a_cap_that_comes_down_is_told_from_a_governor_under_a_standing_cap() -> None:
    lowered = replace(FLAT_OUT, clock_mhz=612.0, clock_cap_mhz=612.0)
    [(_, move)] = run([FLAT_OUT, *[lowered] * 3])
    assert move.causes == (ThrottleCause.CAP,)
    assert "the cap came down to 612.0 MHz" in move.evidence[0]
    assert run([lowered] * 10) == [], "a low power mode from the start is no throttling"


@pytest.mark.covers("TH-04")
def test_a_driver_that_gives_its_reasons_is_believed() -> None:
    assert run([replace(SLOW, clock_limits=())] * 10) == []
    [(index, move)] = run([replace(SLOW, clock_limits=("sw-power-cap",))] * 10)
    assert (index, move.causes) == (2, (ThrottleCause.CAP,))
    assert move.evidence[0].endswith("sw-power-cap")


@pytest.mark.covers("TH-04")
def test_heat_explains_a_low_clock_and_no_second_cause_is_made_up() -> None:
    cut = replace(HOT, clock_mhz=612.0)
    moves = run([FLAT_OUT, *[cut] * 6, *[FLAT_OUT] * 3])
    assert [(index, move.throttled, move.causes) for index, move in moves] == [
        (1, True, (ThrottleCause.THERMAL,)),
        (9, False, (ThrottleCause.THERMAL,)),
    ]


@pytest.mark.covers("TH-04")
def test_an_alert_that_flickers_is_one_episode() -> None:
    moves = run([HOT, FLAT_OUT, FLAT_OUT] * 20)
    assert [index for index, _ in moves] == [0]
    assert [index for index, _ in run([HOT, *[FLAT_OUT] * 10])] == [0, 3]


@pytest.mark.covers("TH-04")
def test_a_clock_that_dips_again_keeps_an_episode_open() -> None:
    assert [index for index, _ in run([HOT, *[SLOW, FLAT_OUT, FLAT_OUT] * 10])] == [0]


@pytest.mark.covers("TH-04")
def test_a_clock_between_the_two_thresholds_neither_enters_nor_leaves() -> None:
    between = replace(FLAT_OUT, clock_mhz=0.965 * 1020.0)
    assert run([between] * 10) == []
    assert [index for index, _ in run([SLOW] * 3 + [between] * 10)] == [2]
    assert [index for index, _ in run([SLOW] * 3 + [FLAT_OUT] * 10)] == [2, 5]
    part_loaded = replace(SLOW, load_percent=85.0)
    assert [index for index, _ in run([SLOW] * 3 + [part_loaded] * 10)] == [2]
    assert [index for index, _ in run([SLOW] * 3 + [IDLE] * 10)] == [2, 5]


@pytest.mark.covers("TH-04")
def test_leaving_names_every_cause_of_the_episode() -> None:
    moves = run([*[SLOW] * 3, HOT, replace(FLAT_OUT, over_current_events=1), *[FLAT_OUT] * 3])
    assert moves[0][1].causes == (ThrottleCause.GOVERNOR,)
    assert moves[1][1].causes == (ThrottleCause.GOVERNOR, ThrottleCause.THERMAL)


@pytest.mark.covers("TH-04")
@settings(max_examples=60)
@given(st.lists(st.sampled_from([FLAT_OUT, SLOW, IDLE, HOT, SourceReading()]), max_size=80))
def test_transitions_alternate_and_a_state_lasts_three_readings_at_least(readings: list[SourceReading]) -> None:
    detector = ThrottleDetector()
    moves = run(readings, detector)
    assert [move.throttled for _, move in moves] == [index % 2 == 0 for index in range(len(moves))]
    assert detector.throttled == (len(moves) % 2 == 1)
    for (entered, _), (left, _) in zip(moves[::2], moves[1::2], strict=False):
        assert left - entered >= ThrottleDetector.READINGS


@pytest.mark.covers("TH-02", "TH-04")
def test_the_orin_trace_throttles_once_for_heat_and_recovers() -> None:
    now_ns = [0]
    source, detector = TraceSource(TRACES / "orin_nx_heat.jsonl", clock=lambda: now_ns[0]), ThrottleDetector()
    moves = []
    for second in range(int(source.duration_s)):
        now_ns[0] = second * 10**9
        if move := detector.update(source.read()):
            moves.append((second, move.throttled, move.causes, move.reading.clock_mhz))
    assert moves == [(20, True, (ThrottleCause.THERMAL,), 816.0), (32, False, (ThrottleCause.THERMAL,), 306.0)]


# --- the publisher -----------------------------------------------------------------------------------------------


class Scripted:
    """A source that does what its script says: gives a reading, raises, or calls."""

    def __init__(self, act: Callable[[], SourceReading]) -> None:
        self.act = act
        self.reads = 0
        self.closed = 0
        self.inside = 0
        self.most_inside = 0

    def has_been_read(self, times: int) -> bool:
        return self.reads > times

    def clock(self) -> int:
        """A time in which every read takes one period, so that a busy test machine makes nothing stale."""
        return self.reads * int(PERIOD_S * 1e9)

    def read(self) -> SourceReading:
        self.reads += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            return self.act()
        finally:
            self.inside -= 1

    def close(self) -> None:
        self.closed += 1


class Hangs:
    """Blocks inside ``read`` until told to go on; then gives its reading."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> SourceReading:
        self.entered.set()
        assert self.go_on.wait(20.0)
        return HOT


class Recorder:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.log = EventLog(stream=io.StringIO(), on_record=self.records.append)

    def kinds(self) -> list[Kind]:
        return [record.kind for record in self.records]


def wait_for(condition: Callable[[], object], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


@contextmanager
def running(
    source: Scripted,
    recorder: Recorder | None = None,
    *,
    period_s: float = PERIOD_S,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Iterator[ThermalStatePublisher]:
    log = (recorder or Recorder()).log
    publisher = ThermalStatePublisher(source, period_s=period_s, log=log, clock=clock)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


def fails(reason: str = "no zone answers.") -> SourceReading:
    raise TelemetryUnavailableError(reason)


@pytest.mark.covers("TH-01", "TH-03")
def test_a_publisher_that_was_never_started_gives_the_safe_default() -> None:
    publisher = ThermalStatePublisher(Scripted(lambda: FLAT_OUT), clock=lambda: 7)
    assert publisher.read() == ThermalState(None, None, False, None, 7, False)


@pytest.mark.covers("TH-01")
def test_the_last_reading_is_published_with_the_time_before_the_source_was_asked() -> None:
    now_ns = [1_000]

    def slowly() -> SourceReading:
        now_ns[0] += 500
        return replace(HOT, cpu_temp_c=51.5)

    source = Scripted(slowly)
    with running(source, clock=lambda: now_ns[0], period_s=30.0) as publisher:
        wait_for(lambda: publisher.read().is_telemetry_available)
        assert publisher.read() == ThermalState(51.5, 99.0, True, 1020.0, 1_000, True)
        assert publisher.read() is publisher.read()


@pytest.mark.covers("TH-01")
def test_the_source_is_polled_once_a_period_however_many_read() -> None:
    source = Scripted(lambda: FLAT_OUT)
    with running(source, period_s=0.1) as publisher:
        until = time.monotonic() + 0.55
        while time.monotonic() < until:
            publisher.read()
    assert 2 <= source.reads <= 7


@pytest.mark.covers("TH-01")
def test_the_period_is_a_second_unless_told_otherwise() -> None:
    source = Scripted(lambda: FLAT_OUT)
    publisher = ThermalStatePublisher(source, log=Recorder().log)
    publisher.start()
    time.sleep(0.4)
    publisher.stop()
    assert source.reads == 1


@pytest.mark.covers("TH-01")
@pytest.mark.parametrize("period_s", [0.0, -1.0, math.nan, math.inf])
def test_a_period_that_is_no_time_is_refused(period_s: float) -> None:
    with pytest.raises(ConfigError, match="period_s"):
        ThermalStatePublisher(Scripted(lambda: FLAT_OUT), period_s=period_s)


@pytest.mark.covers("TH-03")
def test_a_reading_is_good_for_three_periods_and_not_a_nanosecond_longer() -> None:
    now_ns = [0]
    hang = Hangs()
    source = Scripted(lambda: FLAT_OUT if source.reads == 1 else hang())
    with running(source, clock=lambda: now_ns[0]) as publisher:
        assert hang.entered.wait(5.0)
        limit_ns = int(3 * PERIOD_S * 1e9)
        now_ns[0] = limit_ns
        assert publisher.read().is_telemetry_available
        now_ns[0] = limit_ns + 1
        assert publisher.read() == ThermalState.unknown(limit_ns + 1)
        hang.go_on.set()


@pytest.mark.covers("TH-01", "TH-03")
def test_a_hung_source_neither_blocks_a_reader_nor_goes_unreported() -> None:
    hang, recorder = Hangs(), Recorder()
    with running(Scripted(hang), recorder) as publisher:
        assert hang.entered.wait(5.0)
        took_s = []
        for _ in range(1000):
            began = time.perf_counter()
            assert publisher.read().is_telemetry_available is False
            took_s.append(time.perf_counter() - began)
        assert max(took_s) < 2.0  # a reader that waited for the source would wait for ever
        wait_for(recorder.kinds)
        [lost] = recorder.records
        assert (lost.kind, lost.level) == (Kind.TELEMETRY_LOST, Level.WARN)
        assert lost.fields["reason"] == "the source does not answer."
        hang.go_on.set()


@pytest.mark.covers("TH-03")
@pytest.mark.parametrize(
    "fault",
    [
        fails,
        lambda: 1 // 0,
        lambda: None,
        SourceReading,
        lambda: SourceReading(gpu_temp_c=-256.0),
    ],
    ids=["unavailable", "defect", "no reading", "empty", "offline value"],
)
def test_lost_telemetry_is_one_warning_and_its_return_one_information(fault: Callable[[], SourceReading]) -> None:
    recorder = Recorder()
    source = Scripted(lambda: FLAT_OUT)
    stream = io.StringIO()
    recorder.log = EventLog(stream=stream, on_record=recorder.records.append)
    with running(source, recorder, clock=source.clock) as publisher:
        wait_for(lambda: publisher.read().is_telemetry_available)
        source.act = fault
        wait_for(recorder.kinds)
        assert publisher.read().is_telemetry_available is False
        asked = source.reads
        wait_for(lambda: source.reads > asked + 20)
        assert recorder.kinds() == [Kind.TELEMETRY_LOST]
        source.act = lambda: FLAT_OUT
        wait_for(lambda: len(recorder.records) > 1)
        assert publisher.read().is_telemetry_available
        asked = source.reads
        wait_for(lambda: source.reads > asked + 20)
    assert [(record.kind, record.level) for record in recorder.records] == [
        (Kind.TELEMETRY_LOST, Level.WARN),
        (Kind.TELEMETRY_BACK, Level.INFO),
    ]
    assert stream.getvalue().count("\n") == 2


@pytest.mark.covers("TH-03")
def test_the_reason_of_a_loss_is_in_the_log_even_when_nothing_was_ever_read() -> None:
    recorder = Recorder()
    with running(Scripted(fails), recorder, period_s=0.2):
        wait_for(recorder.kinds)
    assert recorder.records[0].fields["reason"] == "no zone answers."


@pytest.mark.covers("TH-03")
def test_one_failed_reading_between_good_ones_is_no_loss() -> None:
    recorder = Recorder()
    source = Scripted(lambda: FLAT_OUT if source.reads % 2 else fails())
    with running(source, recorder, clock=source.clock) as publisher:
        for enough in range(2, 30):
            wait_for(functools.partial(source.has_been_read, enough))
            assert publisher.read().is_telemetry_available
    assert recorder.kinds() == []


@pytest.mark.covers("TH-03")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_polling_thread_that_dies_leaves_the_safe_default_and_not_the_last_good_value() -> None:
    recorder = Recorder()

    def die() -> SourceReading:
        raise SystemExit

    source = Scripted(lambda: FLAT_OUT if source.reads == 1 else die())
    with running(source, recorder) as publisher:
        wait_for(lambda: source.reads == 2 and not publisher.read().is_telemetry_available)
        wait_for(recorder.kinds)
        assert source.closed == 1
    assert recorder.kinds() == [Kind.TELEMETRY_LOST]


@pytest.mark.covers("TH-04")
def test_each_transition_is_logged_once_with_temperature_and_clock() -> None:
    recorder = Recorder()
    source = Scripted(lambda: HOT)
    with running(source, recorder, clock=source.clock) as publisher:
        wait_for(lambda: source.reads > 10)
        assert publisher.read().thermal_throttle_active
        source.act = lambda: FLAT_OUT
        wait_for(lambda: len(recorder.records) == 2)
        wait_for(lambda: not publisher.read().thermal_throttle_active)
        asked = source.reads
        wait_for(lambda: source.reads > asked + 10)
    entered, left = recorder.records
    assert (entered.kind, entered.level, entered.fields["causes"]) == (Kind.THROTTLE_ENTERED, Level.WARN, ["thermal"])
    assert (entered.fields["gpu_temp_c"], entered.fields["clock_mhz"]) == (99.0, 1020.0)
    assert (left.kind, left.level) == (Kind.THROTTLE_LEFT, Level.WARN)
    assert (left.fields["gpu_temp_c"], left.fields["clock_mhz"]) == (60.0, 1020.0)
    assert [Record.from_json(record.to_json()) for record in recorder.records] == [entered, left]


# --- start and stop ----------------------------------------------------------------------------------------------


def thermal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("thermal-")]


@pytest.mark.covers("TH-05")
def test_start_and_stop_may_be_repeated_and_leave_no_thread() -> None:
    source = Scripted(lambda: FLAT_OUT)
    publisher = ThermalStatePublisher(source, period_s=PERIOD_S, log=Recorder().log)
    publisher.stop()
    for _ in range(50):
        publisher.start()
        publisher.start()
        assert len(thermal_threads()) == 2
        wait_for(lambda: publisher.read().is_telemetry_available)
        publisher.stop()
        publisher.stop()
        assert publisher.read().is_telemetry_available is False
        assert thermal_threads() == []
    assert (source.closed, source.most_inside) == (50, 1)


@pytest.mark.covers("TH-05")
def test_stop_returns_within_two_seconds_from_a_hung_source_and_nothing_is_published_afterwards() -> None:
    hang, recorder = Hangs(), Recorder()
    source = Scripted(hang)
    publisher = ThermalStatePublisher(source, period_s=PERIOD_S, log=recorder.log)
    publisher.start()
    assert hang.entered.wait(5.0)
    began = time.monotonic()
    publisher.stop()
    assert time.monotonic() - began < 2.0
    before = recorder.kinds()
    source.act = lambda: HOT
    hang.go_on.set()
    wait_for(lambda: not thermal_threads())
    assert publisher.read().is_telemetry_available is False
    assert (source.closed, recorder.kinds()) == (1, before)


@pytest.mark.covers("TH-05")
def test_a_restart_waits_outside_a_source_that_still_hangs_and_takes_over_when_it_answers() -> None:
    hang, recorder = Hangs(), Recorder()
    source = Scripted(hang)
    publisher = ThermalStatePublisher(source, period_s=PERIOD_S, log=recorder.log)
    publisher.start()
    assert hang.entered.wait(5.0)
    publisher.stop()
    recorder.records.clear()
    publisher.start()
    wait_for(recorder.kinds)
    assert recorder.kinds() == [Kind.TELEMETRY_LOST]
    assert source.reads == 1
    source.act = lambda: IDLE
    hang.go_on.set()
    wait_for(lambda: publisher.read().is_telemetry_available)
    assert publisher.read().measured_clock_mhz == IDLE.clock_mhz
    publisher.stop()
    assert source.most_inside == 1
    assert thermal_threads() == []


@pytest.mark.covers("TH-05")
def test_a_log_callback_may_stop_the_publisher() -> None:
    stopped = threading.Event()

    def stop_all(record: Record) -> None:
        publisher.stop()
        stopped.set()

    publisher = ThermalStatePublisher(
        Scripted(lambda: HOT), period_s=PERIOD_S, log=EventLog(stream=io.StringIO(), on_record=stop_all)
    )
    publisher.start()
    assert stopped.wait(5.0)
    wait_for(lambda: not thermal_threads())


@pytest.mark.covers("TH-01", "TH-05")
def test_readers_see_no_torn_pair_and_time_never_goes_back_while_others_start_and_stop() -> None:
    count = [0]

    def next_reading() -> SourceReading:
        count[0] += 1
        celsius = 20.0 + count[0] % 60
        return SourceReading(cpu_temp_c=celsius, gpu_temp_c=celsius + 1.0, clock_mhz=celsius * 10.0)

    # The clock counts the readings: so the time of a reading tells which figures belong to it.
    publisher = ThermalStatePublisher(
        Scripted(next_reading), period_s=0.0001, log=Recorder().log, clock=lambda: count[0]
    )
    over, wrong, seen = threading.Event(), [], set()

    def watch() -> None:
        last_ns = -1
        while not over.is_set():
            state = publisher.read()
            if not state.is_telemetry_available:
                continue
            if state.measured_at_ns < last_ns:
                wrong.append(("back", last_ns, state))
            celsius = 20.0 + (state.measured_at_ns + 1) % 60
            if (state.cpu_temp_c, state.gpu_temp_c, state.measured_clock_mhz) != (celsius, celsius + 1, celsius * 10):
                wrong.append(("torn", last_ns, state))
            last_ns = state.measured_at_ns
            seen.add(last_ns)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    readers = [threading.Thread(target=watch) for _ in range(4)]
    try:
        for reader in readers:
            reader.start()
        for _ in range(20):
            publisher.start()
            time.sleep(0.01)
            publisher.stop()
        publisher.start()
        wait_for(lambda: len(seen) > 50)
    finally:
        over.set()
        for reader in readers:
            reader.join()
        publisher.stop()
        sys.setswitchinterval(interval_s)
    assert wrong == []


@pytest.mark.covers("TH-05")
@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["start", "stop", "read", "fail", "heal"]), max_size=30))
def test_any_order_of_calls_leaves_the_publisher_startable(calls: list[str]) -> None:
    source = Scripted(lambda: FLAT_OUT)
    publisher = ThermalStatePublisher(source, period_s=0.001, log=Recorder().log)
    for call in calls:
        if call in ("fail", "heal"):
            source.act = fails if call == "fail" else (lambda: FLAT_OUT)
        else:
            getattr(publisher, call)()
    source.act = lambda: FLAT_OUT
    publisher.start()
    wait_for(lambda: publisher.read().is_telemetry_available)
    publisher.stop()
    assert thermal_threads() == []
    assert source.most_inside == 1
