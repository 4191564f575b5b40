"""Traces in files: written, read in every form, wrong in every way, summed up, and replayed."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.fakes.clock import VirtualClock
from harness.instruments import Reading
from harness.instruments.recording import (
    follow,
    load_trace,
    read_recording,
    record,
    replay_summary,
    run_record,
    run_replay,
    save_trace,
    summary_text,
    trace_table,
    traces_from_table,
)
from harness.instruments.telemetry import Instruments, choose_instruments
from harness.instruments.trace import Frame, Trace
from runtime.thermal_sources.trace import TraceSource

pytestmark = pytest.mark.covers("T2-01")

TRACES = Path(__file__).parents[3] / "fixtures" / "telemetry"
MS = 1_000_000
HEADER = '{"trace": 2, "origin": "a test"}\n'
LINE = "RAM 1/2MB (lfb 1x4MB) CPU [1%@729] GR3D_FREQ 99% cpu@{c}C gpu@40C VDD_IN {mw}mW/4000mW"


class Board:
    """Gets warmer by a degree per reading; a power rail; one alert in the middle. ``before``: is called at each."""

    label = "board"

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
        self.count = -1  # the reading that opens everything
        self.before = before

    def read(self) -> Reading:
        at, self.count = self.count, self.count + 1
        self.before(at)
        alerts = ["gpu-throttle-alert"] if 10 <= at < 12 else []
        why = {"fan_rpm": "no tachometer"} if at < 5 else {}
        return Reading({"gpu_temp_c": 50.0 + at, "power_w": 8.0, "alert_sensors": 3.0}, alerts, why)

    def about(self) -> dict[str, str]:
        return {"governor": "nvhost_podgov"}

    def close(self) -> None:
        pass


def recorded(tmp_path: Path, **of: Any) -> tuple[Path, Any]:
    clock = VirtualClock(12_345)
    path = tmp_path / "out" / "trace.jsonl"
    return path, record(Instruments([Board(**of)]), path, 3.0, 10.0, clock=clock, sleep=clock.sleep)


@pytest.mark.covers("TH-02")
def test_a_recording_is_read_back_as_it_was(tmp_path: Path) -> None:
    path, made = recorded(tmp_path)
    assert [frame.at_ns for frame in made.trace] == [at * 100 * MS for at in range(30)]
    back = read_recording(path)
    assert back.trace.frames == made.trace.frames
    assert (back.origin, back.about, back.notes) == (
        "trigate telemetry record, board at 10 Hz", {"governor": "nvhost_podgov"}, ()
    )  # fmt: skip
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines) if '"missing"' in line] == [1, 6]


def test_each_frame_is_in_the_file_before_the_next_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    lines: list[int] = []
    clock = VirtualClock()
    board = Board(lambda at: lines.append(len(path.read_text(encoding="utf-8").splitlines())) if at >= 0 else None)
    record(Instruments([board]), path, 1.0, 10.0, clock=clock, sleep=clock.sleep)
    assert lines == list(range(1, 11))


def test_slow_instruments_miss_frames_and_do_not_drift(tmp_path: Path) -> None:
    clock = VirtualClock()
    board = Board(lambda at: clock.advance(250 * MS) if at == 3 else None)
    said: list[str] = []
    made = record(
        Instruments([board]), tmp_path / "t.jsonl", 21.0, 10.0, clock=clock, sleep=clock.sleep, say=said.append
    )
    assert [frame.at_ns // MS for frame in made.trace][:7] == [0, 100, 200, 300, 600, 700, 800]
    assert len(said) == 2
    assert said[0].startswith("10 of 21 s")


def test_an_interrupted_recording_keeps_what_there_was(tmp_path: Path) -> None:
    def interrupt(at: int) -> None:
        if at == 7:
            raise KeyboardInterrupt

    path, made = recorded(tmp_path, before=interrupt)
    assert len(made.trace) == 7
    assert made.notes == ("interrupted after 0.7 of 3 s; what there was is kept",)
    assert len(load_trace(path)) == 7


def test_nothing_is_written_over_and_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    path, _ = recorded(tmp_path)
    with pytest.raises(UsageError, match="exists; name a file that does not"):
        save_trace(Trace(), path)
    with pytest.raises(UsageError, match="cannot be written: File exists"):
        save_trace(Trace([Frame(0)]), path / "x")
    full, clock = tmp_path / "full.jsonl", VirtualClock()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))  # a full disk, as near as one comes without one
    try:
        with pytest.raises(UsageError, match=r"cannot be written: .*What was written by then is kept"):
            record(Instruments([Board()]), full, 60.0, 10.0, clock=clock, sleep=clock.sleep)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = read_recording(full)
    assert len(kept.trace) > 10
    assert "was cut off" in kept.notes[0]


@pytest.mark.parametrize(
    ("seconds", "hz"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, 1001.0), (math.inf, 1.0), (math.nan, 1.0), (1.0, 1e-9)],
)
def test_spans_and_rates_that_make_no_sense_are_refused(tmp_path: Path, seconds: float, hz: float) -> None:
    with pytest.raises(UsageError, match=r"expected a (time|rate) above 0"):
        run_record(Instruments([]), tmp_path / "x", seconds=seconds, hz=hz)
    assert not (tmp_path / "x").exists()


NAMES = st.sampled_from(["gpu_temp_c", "temp_c.soc0", "power_w", "oc3_events", "of_my_own", "limit.sw-power-cap"])
FRAMES = st.lists(
    st.builds(
        lambda step, values, alerts, missing: (step, values, alerts, missing),
        st.integers(0, 10**12),
        st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), max_size=4),
        st.lists(st.text(max_size=8), max_size=2),
        st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2),
    ),
    min_size=1,
    max_size=6,
)


def built(parts: list[Any]) -> Trace:
    times = np.cumsum([part[0] for part in parts])
    return Trace([
        Frame(int(at), values, tuple(alerts), missing)
        for at, (_, values, alerts, missing) in zip(times, parts, strict=True)
    ])  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(FRAMES)
def test_any_trace_survives_its_file_and_its_table(tmp_path_factory: pytest.TempPathFactory, parts: list[Any]) -> None:
    trace = built(parts)
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    save_trace(trace, path)
    assert load_trace(path).frames == trace.frames
    table = pyarrow.table(trace_table({2: trace, 0: trace})).to_pydict()
    back = traces_from_table(table)
    assert list(back) == [2, 0]
    assert back[2].frames == back[0].frames == trace.frames


def test_a_table_has_a_column_per_value_with_nan_where_it_is_absent(tmp_path: Path) -> None:
    table = trace_table(Trace([Frame(5, {"power_w": 1.0}), Frame(6, {"gpu_temp_c": 50.0}, ("a",), {"power_w": "off"})]))
    assert list(table) == ["launch", "at_ns", "gpu_temp_c", "power_w", "alerts", "missing"]
    assert table["at_ns"].tolist() == [5, 6]
    assert np.isnan(table["power_w"]).tolist() == [False, True]
    assert table["alerts"] == ["", '["a"]']
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    assert load_trace(path).frames[1] == Frame(6, {"gpu_temp_c": 50.0}, ("a",), {"power_w": "off"})
    path.write_bytes(b"PAR1 not")
    with pytest.raises(UsageError, match=r"rows\.parquet cannot be read"):
        load_trace(path)


# --- what others wrote -------------------------------------------------------------------------------------------


@pytest.mark.covers("TH-02")
@pytest.mark.parametrize("path", sorted(TRACES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_flights_traces_are_read_as_the_flight_reads_them(path: Path) -> None:
    clock = VirtualClock()
    source, trace = TraceSource(path, clock=clock), load_trace(path)
    for frame in trace:
        clock.advance_to(frame.at_ns)
        if "telemetry" in frame.missing:
            assert frame.missing["telemetry"].startswith("offline: ")
            assert not frame.values
            continue
        reading = source.read()
        told = (reading.gpu_temp_c, reading.clock_mhz, reading.clock_cap_mhz, reading.over_current_events)
        names = ("gpu_temp_c", "gpu_clock_mhz", "gpu_cap_mhz", "oc_events")
        assert told == tuple(frame.values.get(name) for name in names)
        assert reading.throttle_alerts == frame.alerts


def test_limits_of_the_flights_form_tell_none_from_unknown(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"trace": 1, "origin": "a test"}\n{"t_s": 0, "clock_limits": []}\n{"t_s": 1, "clock_limits": ["sw-power-cap"]}\n'
        '{"t_s": 2, "notes": ["why"]}\n'
    )
    none, one, unknown = load_trace(path).frames
    assert none.values
    assert not any(none.values.values())
    assert [name for name, value in one.values.items() if value] == ["limit.sw-power-cap"]
    assert (unknown.values, unknown.missing) == ({}, {"note 0": "why"})


def test_lines_of_tegrastats_lie_where_their_dates_or_an_interval_put_them(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    dated = ["04-27-2026 14:59:41", "04-27-2026 14:59:41", "04-27-2026 14:59:42", "04-27-2026 15:00:02"]
    path.write_text("".join(f"{date} {LINE.format(c=40 + at, mw=4000)}\n" for at, date in enumerate(dated)))
    found = read_recording(path)
    assert [frame.at_ns // MS for frame in found.trace] == [0, 500, 1000, 21_000]
    assert [frame.values["cpu_temp_c"] for frame in found.trace] == [40.0, 41.0, 42.0, 43.0]
    assert found.notes == ("1 gap longer than 3 periods: 20.0 s after 1.0 s",)
    assert [frame.at_ns // MS for frame in load_trace(path, interval_s=0.1)] == [0, 100, 200, 300]
    path.write_text(f"sudo: a password is required\n{LINE.format(c=40, mw=1)}\n{LINE.format(c=41, mw=2)}\n{LINE[:30]}")
    with pytest.raises(UsageError, match=r"line 2 .* has no date; pass --interval"):
        load_trace(path)
    cut = read_recording(path, interval_s=1.0)
    assert len(cut.trace) == 2
    assert cut.notes == (
        "left out, as not tegrastats': 1 line", "line 4, the last, was cut off; the trace ends before it"
    )  # fmt: skip
    for interval_s in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="expected seconds above 0"):
            load_trace(path, interval_s=interval_s)


# --- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("hello\n", "neither a JSON object nor a line of tegrastats"),
        ('{"trace": 9}\n', "trace is 9 in the header; expected 1 or 2"),
        ('{"at_ns": 0}\n', "trace is None in the header"),
        (HEADER, "holds no frame"),
        (HEADER + '{"at_ns": 5}\n{"at_ns": 4}\n', r"line 3 .* time goes back, from 5e-09 to 4e-09 s"),
        (HEADER + '{"at_ns": 5, "value": {}}\n', r"line 2 .* unknown field 'value'\. Did you mean 'values'"),
        (
            HEADER + '{"at_ns": 5, "values": {"gpu_tmp_c": 1}}\n',
            r"unknown value 'gpu_tmp_c'\. Did you mean 'gpu_temp_c'",
        ),
        (HEADER + '{"at_ns": 5, "values": {"": 1}}\n', "It has no name"),
        (HEADER + '{"at_ns": 5, "values": {"power_w": "1"}}\n', "power_w is '1'; expected a number"),
        (HEADER + '{"at_ns": 5, "values": {"power_w": true}}\n', "power_w is True; expected a number"),
        (HEADER + '{"at_ns": 5, "values": {"power_w": NaN}}\n', "NaN is no figure"),
        (HEADER + '{"at_ns": 5.5}\n', "at_ns is 5.5; expected whole nanoseconds"),
        (HEADER + '{"at_ns": 99999999999999999999}\n', "at_ns is 99999999999999999999; expected whole nanoseconds"),
        (HEADER + '{"at_ns": 5, "values": {"oc_events": 1e999}}\n', "oc_events is inf; expected a number"),
        (HEADER + '{"at_ns": 5, "values": {"power_w": ' + "9" * 400 + "}}\n", r"power_w is 9+; expected a number"),
        (HEADER + '{"at_ns": 5, "alerts": "a"}\n', "'alerts' a list"),
        ('{"trace": 1}\n{"t_s": 1e300}\n', r"t_s is 1e\+300; expected seconds"),
        ('{"trace": 1}\n{"t_s": 1, "clock_limits": 5}\n', "clock_limits is 5; expected a list of texts, or nothing"),
        ('{"trace": 1}\n{"t_s": 1, "throttle_alerts": "a"}\n', "throttle_alerts is 'a'; expected a list"),
        (HEADER + "[1]\n", r"\[1\] is no JSON object"),
        (HEADER + '{"at_ns": 5\n{"at_ns": 6}\n', "line 2 .* is not JSON"),
        ('{"trace": 2, "names": 3}\n', "'names' a list"),
        ('{"trace": 1}\n{"t_s": 0, "gpu_temp": 1}\n', r"unknown field 'gpu_temp'\. Did you mean 'gpu_temp_c'"),
        ('{"trace": 1}\n{"t_s": "0"}\n', "t_s is '0'; expected seconds"),
        ('{"trace": 1}\n{"t_s": 0, "gpu_temp_c": "warm"}\n', "gpu_temp_c is 'warm'; expected a number"),
        ('{"trace": 1}\n{"t_s": 5}\n{"t_s": 1}\n', "time goes back, from 5 to 1 s"),
        (
            f"04-27-2026 14:59:41 {LINE}\n04-27-2026 14:59:31 {LINE}\n",
            "line 2 .* time goes back by 10 s; cut the file there, or pass --interval",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        load_trace(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path / "none.parquet", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            load_trace(path)


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_last_line_that_was_cut_off_is_left_out_and_said(tmp_path: Path, cut: int) -> None:
    path, made = recorded(tmp_path)
    path.write_text(path.read_text(encoding="utf-8")[: -cut - 1])
    found = read_recording(path)
    assert found.trace.frames == made.trace.frames[:-1]
    assert found.notes == ("line 31, the last, was cut off; the trace ends before it",)


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=120).map(lambda text: (HEADER + text).encode())))
def test_any_file_is_a_trace_or_a_usage_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "t.jsonl"
    path.write_bytes(data)
    with suppress(UsageError):
        assert len(load_trace(path))


# --- summing up, and the commands --------------------------------------------------------------------------------


@pytest.mark.covers("TH-04")
def test_a_summary_tells_ranges_gaps_episodes_and_energy(tmp_path: Path) -> None:
    _, made = recorded(tmp_path)
    summary = replay_summary(made)
    assert (summary["frames"], summary["duration_s"], summary["period_s"]) == (30, 2.9, 0.1)
    assert summary["values"]["gpu_temp_c"] == {"min": 50.0, "mean": 64.5, "max": 79.0, "frames": 30}
    (spell,) = summary["episodes"]
    assert (spell["start_s"], spell["end_s"], spell["causes"], spell["is_over"]) == (1.0, 1.4, ["thermal"], True)
    assert summary["throttled_by_cause_s"] == pytest.approx({"thermal": 0.4})
    assert summary["energy_j"] == pytest.approx(8.0 * 2.9)
    assert json.loads(json.dumps(summary)) == summary
    text = summary_text(summary)
    assert text.startswith("30 frames in 2.9 s, one each 0.1 s (trigate telemetry record, board at 10 Hz)\n")
    assert "throttled from 1.0 to 1.4 s: thermal (gpu-throttle-alert)" in text
    assert "energy: 23.2 J, 8.00 W on average" in text


def test_a_summary_of_little_says_what_it_does_not_know() -> None:
    text, summary = run_replay(TRACES / "tegrastats_tx2_jp4.txt", interval_s=1.0)
    assert (summary["frames"], summary["period_s"], summary["energy_j"]) == (1, None, None)
    assert "throttling: unknown, no instrument tells it" in text
    assert "energy: not known (a single frame)" in text
    text, summary = run_replay(TRACES / "thor_gated_over_current.jsonl")
    assert [(gap["start_s"], gap["end_s"]) for gap in summary["gaps"]] == [(7.0, 13.0)]
    assert "note: 1 gap longer than 3 periods: 6.0 s after 7.0 s" in text
    assert summary["episodes"][0]["causes"] == ["over-current"]


def test_the_command_records_and_what_it_wrote_can_be_replayed_as_a_source(tmp_path: Path) -> None:
    clock, path = VirtualClock(), tmp_path / "t.jsonl"
    text, told = run_record(Instruments([Board()]), path, seconds=2.0, hz=5.0, clock=clock, sleep=clock.sleep)
    assert told["file"] == str(path)
    assert text.endswith(f"written to {path}")
    replayed_text, replayed = run_replay(path)
    assert replayed == {name: value for name, value in told.items() if name != "reading_ms"}
    assert told["reading_ms"] > 0
    assert "a reading took " in text
    assert text.startswith(replayed_text)
    source = choose_instruments(name="trace", trace=load_trace(path), clock=clock)
    assert source.read(0).values["gpu_temp_c"] == 50.0
    clock.advance(1_000 * MS)
    assert source.read(0).values["gpu_temp_c"] == 55.0


@pytest.fixture
def printer(tmp_path: Path) -> Callable[[str], list[str]]:
    """Makes a command that runs some Python, and is given the options of tegrastats."""

    def make(code: str) -> list[str]:
        path = tmp_path / "tegrastats"
        path.write_text(f"import sys\n{code}\n")
        return [sys.executable, "-S", str(path)]

    return make


def test_a_running_tegrastats_is_followed_until_it_ends(tmp_path: Path, printer: Callable[[str], list[str]]) -> None:
    lines = "\n".join(["garbage", *(LINE.format(c=40 + at, mw=1000 * at) for at in range(3)), LINE[:20]])
    command = printer(
        f"assert sys.argv[1:] == ['--interval', '500'], sys.argv\nprint('''{lines}''', end='', flush=True)"
    )
    path = tmp_path / "t.jsonl"
    _, summary = run_record(Instruments([]), path, seconds=60.0, hz=2.0, following=command)
    assert summary["frames"] == 3
    assert summary["values"]["power_w"]["max"] == 2.0
    assert [frame.values["cpu_temp_c"] for frame in load_trace(path)] == [40.0, 41.0, 42.0]


def test_one_that_falls_silent_is_ended_and_what_it_said_is_kept(
    tmp_path: Path, printer: Callable[[str], list[str]]
) -> None:
    command = printer(f"print('''{LINE.format(c=40, mw=1)}''', flush=True)\nimport time\ntime.sleep(600)")
    clock = VirtualClock()
    found = follow(command, tmp_path / "t.jsonl", 60.0, clock=clock, silence_s=0.01)
    assert len(found.trace) == 1
    assert "was silent for 0.01 s" in found.notes[0]


def test_one_that_is_not_there_or_says_nothing_of_the_kind_is_told(
    tmp_path: Path, printer: Callable[[str], list[str]]
) -> None:
    with pytest.raises(UsageError, match=r"cannot be started: No such file.*leave out --follow"):
        follow([str(tmp_path / "none")], tmp_path / "t.jsonl", 1.0)
    with pytest.raises(UsageError, match="printed no line of tegrastats"):
        follow(printer("print('hello')"), tmp_path / "t.jsonl", 60.0)
    assert not (tmp_path / "t.jsonl").exists()
