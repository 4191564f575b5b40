"""Traces in files: recorded by hand (``trigate telemetry record``), read back, summed up, and replayed in place of a board.

JSON lines. The first is the header, ``{"trace": 2, "origin": "...", "about": {...}}``; every other line is a frame:
``at_ns``, ``values``, ``alerts``, and ``missing`` where it differs from the line before. Also read: the flight's traces
(``runtime.thermal_sources.trace``, ``{"trace": 1, ...}``), lines of tegrastats, and the Parquet files of a run folder.
"""

from __future__ import annotations

import json
import math
import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, TypeGuard

import numpy as np

from harness.errors import UsageError, did_you_mean
from harness.instruments import tegrastats
from harness.instruments.telemetry import Instruments, next_tick
from harness.instruments.trace import Frame, Trace
from harness.tier2.align import STALE_PERIODS, energy, throttling
from harness.tier2.samples import places
from harness.words import counted
from runtime.protocol import Array
from runtime.thermal import SourceReading
from runtime.thermal_sources.nvml import LIMIT_BITS
from runtime.thermal_sources.trace import TRACE_VERSION as FLIGHT_VERSION

__all__ = [
    "TRACE_COLUMNS", "TRACE_VERSION", "Recording", "load_trace", "read_recording", "record", "replay_summary", "run_record",
    "run_replay", "save_trace", "summary_text", "trace_table", "traces_from_table",
]  # fmt: skip

TRACE_COLUMNS = ("launch", "at_ns", "alerts", "missing")
"""Of ``trace_table``, beside one for each value."""

TRACE_VERSION = 2
"""Of the header. 1: the flight's form, of ``SourceReading``'s figures at ``t_s``. 2: frames."""

KNOWN = frozenset((
    "alert_sensors", "available_bytes", "cpu_clock_mhz", "cpu_load_percent", "cpu_temp_c", "cpus_online", "emc_cap_mhz",
    "emc_clock_mhz", "emc_load_percent", "energy_j", "engine_mhz", "fan_pwm", "fan_rpm", "gpu_cap_mhz", "gpu_clock_mhz",
    "gpu_least_clock_mhz", "gpu_load_percent", "gpu_temp_c", "gpu_used_bytes", "iram_total_bytes", "iram_used_bytes",
    "lfb_blocks", "lfb_bytes", "limit", "memory_clock_mhz", "nvmap_bytes", "oc_events", "power_mean_w", "power_w",
    "pss_bytes", "ram_total_bytes", "ram_used_bytes", "rss_bytes", "soc_temp_c", "swap_total_bytes", "swap_used_bytes",
    "temp_c", "tj_temp_c",
))  # fmt: skip
"""Names of values, up to a first dot; ``ocN_events`` too. A header's ``names`` may declare others."""

_COUNTER = re.compile(r"oc\d+_events")
_LINE = ("at_ns", "values", "alerts", "missing")
_FLIGHT_NAMES = {
    "cpu_temp_c": "cpu_temp_c", "gpu_temp_c": "gpu_temp_c", "clock_mhz": "gpu_clock_mhz", "clock_cap_mhz": "gpu_cap_mhz",
    "load_percent": "gpu_load_percent", "over_current_events": "oc_events",
}  # fmt: skip
_LEAST_HZ, _MOST_HZ = 0.001, 1000.0
_MOST_NS = 2**62
_MOST_S = 366 * 86_400.0
_START_S = 10.0


@dataclass(frozen=True)
class Recording:
    """A trace that was read. ``origin``: how it came about; ``about``: what is no number; ``notes``: what was wrong with it."""

    trace: Trace
    origin: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# --- recording ---------------------------------------------------------------------------------------------------


def record(
    instruments: Instruments,
    path: Path,
    seconds: float,
    hz: float,
    *,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] | None = None,
) -> Recording:
    """Read the instruments ``hz`` times a second for ``seconds``, into a new file, each frame as it comes.

    Ctrl-C ends it early, with what there is. Raises ``UsageError`` for a file that exists or cannot be written (a full disk
    keeps what was written), and for a time or a rate that makes no sense.
    """
    _check_span(seconds, hz)
    period_ns = max(1, round(1e9 / hz))
    notes: list[str] = []
    with _writing(path, f"trigate telemetry record, {'+'.join(instruments.labels)} at {hz:g} Hz") as writer:
        instruments.read(0)  # opens everything, so that the first frame is on time and ``about`` is known
        writer.header(instruments.about())
        told_ns = begun_ns = clock()
        end_ns = begun_ns + round(seconds * 1e9)
        try:
            while (now_ns := clock()) < end_ns:
                writer.add(instruments.read(now_ns - begun_ns))
                if say is not None and now_ns - told_ns >= 10_000_000_000:
                    told_ns = now_ns
                    say(f"{(now_ns - begun_ns) / 1e9:.0f} of {seconds:g} s, {counted(len(writer.trace), 'frame')}")
                sleep(max(0.0, (next_tick(begun_ns, period_ns, clock()) - clock()) / 1e9))
        except KeyboardInterrupt:
            notes.append(f"interrupted after {(clock() - begun_ns) / 1e9:.1f} of {seconds:g} s; what there was is kept")
    return Recording(writer.trace, writer.origin, instruments.about(), (*instruments.notes, *notes))


def follow(
    command: Sequence[str],
    path: Path,
    seconds: float,
    *,
    clock: Callable[[], int] = time.monotonic_ns,
    silence_s: float = 10.0,
) -> Recording:
    """As ``record``, from the lines of a running ``tegrastats``, each at the time it came.

    Raises ``UsageError`` for a command that is not there, and for one that said no line of tegrastats.
    """
    _check_span(seconds, 1.0)
    notes: list[str] = []
    try:
        process = subprocess.Popen(
            list(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise UsageError(
            f"{command[0]} cannot be started: {error.strerror}. It comes with JetPack; without it leave out --follow."
        ) from error
    assert process.stdout is not None
    try:
        with _writing(path, f"trigate telemetry record --follow {Path(command[0]).name}") as writer:
            writer.header({})
            begun_ns = clock()
            try:
                for line in _lines(process.stdout, silence_s, lambda: (clock() - begun_ns) / 1e9 < seconds):
                    if tegrastats.looks_like(line):
                        writer.add(tegrastats.parse(line, clock() - begun_ns))
            except TimeoutError:
                notes.append(f"{Path(command[0]).name} was silent for {silence_s:g} s; what there was is kept")
            except KeyboardInterrupt:
                notes.append("interrupted; what there was is kept")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
        process.kill()
        process.stdout.close()
        process.wait()
    if not len(writer.trace):
        path.unlink(missing_ok=True)
        raise UsageError(f"{' '.join(command)} printed no line of tegrastats in {seconds:g} s; try it by hand.")
    return Recording(writer.trace, writer.origin, {}, tuple(notes))


def _lines(pipe: IO[bytes], silence_s: float, goes_on: Callable[[], bool]) -> Iterator[str]:
    """Whole lines, as they come; ``TimeoutError`` after ``silence_s`` without a byte, of which the first may take longer."""
    rest, patience_s = b"", max(silence_s, _START_S)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while goes_on():
            if not selector.select(patience_s):
                raise TimeoutError
            patience_s = silence_s
            data = os.read(pipe.fileno(), 65536)
            if not data:
                return
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")


class _Writer:
    """Lines of one file; ``trace``: what is in it."""

    def __init__(self, file: IO[str], origin: str) -> None:
        self._file = file
        self._missing: Mapping[str, str] = {}
        self.origin = origin
        self.trace = Trace()

    def header(self, about: Mapping[str, str], names: Sequence[str] = ()) -> None:
        head: dict[str, Any] = {"trace": TRACE_VERSION, "origin": self.origin}
        self._line(head | ({"about": dict(about)} if about else {}) | ({"names": list(names)} if names else {}))

    def add(self, frame: Frame) -> None:
        self.trace.add(frame)
        line: dict[str, Any] = {"at_ns": frame.at_ns, "values": dict(frame.values)}
        if frame.alerts:
            line["alerts"] = list(frame.alerts)
        if frame.missing != self._missing:
            line["missing"] = dict(frame.missing)
            self._missing = frame.missing
        self._line(line)

    def _line(self, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._file.flush()


@contextmanager
def _writing(path: Path, origin: str) -> Iterator[_Writer]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            yield _Writer(file, origin)
    except OSError as error:
        if isinstance(error, FileExistsError) and path.exists():
            raise UsageError(f"{path} exists; name a file that does not, so that no trace is lost.") from error
        raise UsageError(f"{path} cannot be written: {error.strerror}. What was written by then is kept.") from error


def save_trace(trace: Trace, path: Path, *, origin: str = "trigate", about: Mapping[str, str] | None = None) -> None:
    """Write a trace to a new file, whose ``load_trace`` is the same. Raises ``UsageError``, as ``record`` does."""
    unknown = [name for name in trace.names() if not _is_known(name)]
    with _writing(path, origin) as writer:
        writer.header(about or {}, unknown)
        for frame in trace:
            writer.add(frame)


# --- reading -----------------------------------------------------------------------------------------------------


def load_trace(path: Path, *, interval_s: float | None = None) -> Trace:
    """The trace of a file, see ``read_recording``."""
    return read_recording(path, interval_s=interval_s).trace


def read_recording(path: Path, *, interval_s: float | None = None) -> Recording:
    """A trace of JSON lines (both versions) or of lines of tegrastats, told apart by its first line; or, by its name, the
    first launch of a run folder's ``.parquet``.

    ``interval_s``: between lines of tegrastats, for those without a date (JetPack 4), or more often than once a second.
    Gaps are kept, and noted; so is a last line that was cut off. Raises ``UsageError`` with the line for time that goes
    back, fields that are not known, and what is no trace.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"the trace {path} cannot be read: {error.strerror}.") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UsageError(f"the trace {path} is empty.")
    is_whole = text.endswith("\n")
    if lines[0][1].lstrip().startswith("{"):
        found = _read_json(path, lines, is_whole)
    elif any(tegrastats.looks_like(line) for _, line in lines):
        found = _read_tegrastats(path, lines, interval_s, is_whole)
    else:
        raise UsageError(f"{path} is no trace: its first line is neither a JSON object nor a line of tegrastats.")
    return Recording(found.trace, found.origin, found.about, (*found.notes, *_gap_notes(found.trace)))


def _read_parquet(path: Path) -> Recording:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path).to_pydict()
        traces = traces_from_table(table)
    except KeyError as error:
        raise UsageError(f"the trace {path} has no column {error}; is it a file of a run folder's traces?") from error
    except (OSError, pyarrow.ArrowException, ValueError, TypeError, OverflowError) as error:
        words = " ".join(str(error).split()).rstrip(".")
        raise UsageError(
            f"the trace {path} cannot be read: {words}. Expected a file of a run folder's traces."
        ) from error
    if not traces:
        raise UsageError(f"the trace {path} holds no frame.")
    launch, trace = next(iter(traces.items()))
    notes = [f"launch {launch} of {len(traces)}"] if len(traces) > 1 else []
    return Recording(trace, "a run", {}, (*notes, *_gap_notes(trace)))


def _read_json(path: Path, lines: Sequence[tuple[int, str]], is_whole: bool) -> Recording:
    reader, notes = _Reader(path), []
    for at, (number, line) in enumerate(lines):
        try:
            values = json.loads(line, parse_constant=_no_constant)
        except ValueError as error:
            if at == len(lines) - 1 and at and not is_whole:
                notes.append(f"line {number}, the last, was cut off; the trace ends before it")
                break
            raise UsageError(f"line {number} of the trace {path} is not JSON: {error}.") from error
        reader.take(number, values)
    if not len(reader.trace):
        raise UsageError(f"the trace {path} holds no frame; expected a header and at least one.")
    return Recording(reader.trace, reader.origin, reader.about, tuple(notes))


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no figure")


class _Reader:
    """The lines of a trace in JSON, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = 0
        self._names: frozenset[str] = frozenset()
        self._missing: Mapping[str, str] = {}
        self.origin = ""
        self.about: dict[str, str] = {}
        self.trace = Trace()

    def take(self, number: int, values: Any) -> None:
        if not isinstance(values, dict):
            raise self._wrong(number, f"{values!r:.60} is no JSON object")
        if not self._version:
            self._header(number, values)
            return
        frame = self._frame(number, values) if self._version == TRACE_VERSION else self._moment(number, values)
        if len(self.trace) and frame.at_ns < self.trace.frames[-1].at_ns:
            before = self.trace.frames[-1].at_ns
            raise self._wrong(
                number, f"time goes back, from {before / 1e9:g} to {frame.at_ns / 1e9:g} s; frames must be in order"
            )
        self.trace.add(frame)

    def _wrong(self, number: int, what: str) -> UsageError:
        return UsageError(f"line {number} of the trace {self._path} is wrong: {what}{'' if what[-1] in '.?' else '.'}")

    def _figure(self, number: int, name: str, value: Any) -> float:
        if not _is_finite(value):
            raise self._wrong(number, f"{name} is {value!r:.60}; expected a number, and a finite one, or nothing")
        return float(value)

    def _header(self, number: int, values: dict[str, Any]) -> None:
        version = values.get("trace")
        if version not in (FLIGHT_VERSION, TRACE_VERSION):
            raise self._wrong(
                number, f"trace is {version!r} in the header; expected {FLIGHT_VERSION} or {TRACE_VERSION}"
            )
        about, names = values.get("about", {}), values.get("names", [])
        if not isinstance(about, dict) or not isinstance(names, list):
            raise self._wrong(number, "'about' must be an object and 'names' a list")
        self._version = version
        self._names = frozenset(str(name) for name in names)
        self.origin = str(values.get("origin", ""))
        self.about = {str(name): str(text) for name, text in about.items()}

    def _frame(self, number: int, line: dict[str, Any]) -> Frame:
        for name in sorted(set(line) - set(_LINE)):
            raise self._wrong(number, f"unknown field {name!r}. {did_you_mean(name, _LINE)}")
        at_ns, values, alerts = line.get("at_ns"), line.get("values", {}), line.get("alerts", [])
        if isinstance(at_ns, bool) or not isinstance(at_ns, int) or abs(at_ns) > _MOST_NS:
            raise self._wrong(number, f"at_ns is {at_ns!r:.60}; expected whole nanoseconds, of 63 bits at most")
        missing = line.get("missing", self._missing)
        if not isinstance(values, dict) or not isinstance(alerts, list) or not isinstance(missing, dict):
            raise self._wrong(number, "'values' and 'missing' must be objects and 'alerts' a list")
        for name, value in values.items():
            if not _is_known(name) and name not in self._names:
                hint = did_you_mean(name, KNOWN) if name else "It has no name."
                raise self._wrong(number, f"unknown value {name!r}. {hint}")
            self._figure(number, name, value)
        self._missing = {str(name): str(why) for name, why in missing.items()}
        return Frame(
            at_ns, {name: float(value) for name, value in values.items()}, tuple(map(str, alerts)), self._missing
        )

    def _moment(self, number: int, line: dict[str, Any]) -> Frame:
        """Of the flight's form."""
        known = {"t_s", "offline", *(entry.name for entry in fields(SourceReading))}
        for name in sorted(set(line) - known):
            raise self._wrong(number, f"unknown field {name!r}. {did_you_mean(name, known)}")
        t_s = line.get("t_s")
        if not _is_finite(t_s) or abs(t_s) * 1e9 > _MOST_NS:
            raise self._wrong(number, f"t_s is {t_s!r:.60}; expected seconds, of 63 bits of nanoseconds at most")
        values: dict[str, float] = {}
        for name, ours in _FLIGHT_NAMES.items():
            value = line.get(name)
            if value is not None:
                values[ours] = self._figure(number, name, value)
        for name in ("clock_limits", "throttle_alerts", "notes"):
            if not isinstance(line.get(name), list | None):
                raise self._wrong(number, f"{name} is {line[name]!r:.60}; expected a list of texts, or nothing")
        if line.get("governor"):
            self.about.setdefault("governor", str(line["governor"]))
        if line.get("clock_limits") is not None:
            limits = set(map(str, line["clock_limits"]))
            values.update({f"limit.{name}": float(name in limits) for name in limits.union(LIMIT_BITS.values())})
        missing = {"telemetry": f"offline: {line['offline']}"} if line.get("offline") else {}
        missing.update({f"note {at}": str(text) for at, text in enumerate(line.get("notes") or ())})
        return Frame(round(t_s * 1e9), values, tuple(map(str, line.get("throttle_alerts") or ())), missing)


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_known(name: str) -> bool:
    base = name.partition(".")[0]
    return base in KNOWN or _COUNTER.fullmatch(base) is not None


def _read_tegrastats(
    path: Path, lines: Sequence[tuple[int, str]], interval_s: float | None, is_whole: bool
) -> Recording:
    good = [(number, line) for number, line in lines if tegrastats.looks_like(line)]
    notes = []
    if len(lines) > len(good):
        notes.append(f"left out, as not tegrastats': {counted(len(lines) - len(good), 'line')}")
    if not is_whole and len(good) > 1 and len(good[-1][1].split()) < len(good[-2][1].split()):
        notes.append(f"line {good[-1][0]}, the last, was cut off; the trace ends before it")
        good = good[:-1]
    trace = Trace()
    for (number, line), at_ns in zip(good, _times(path, good, interval_s), strict=True):
        if len(trace) and at_ns < trace.frames[-1].at_ns:
            raise UsageError(
                f"line {number} of the trace {path} is wrong: time goes back by "
                f"{(trace.frames[-1].at_ns - at_ns) / 1e9:g} s; cut the file there, or pass --interval."
            )
        trace.add(tegrastats.parse(line, at_ns))
    return Recording(trace, "tegrastats", {}, tuple(notes))


def _times(path: Path, lines: Sequence[tuple[int, str]], interval_s: float | None) -> list[int]:
    """From the dates, which are whole seconds: lines of one second are spread over it."""
    if interval_s is not None:
        if not 0 < interval_s <= _MOST_S:
            raise UsageError(f"--interval is {interval_s:g} s; expected seconds above 0, up to a year's.")
        return [round(at * interval_s * 1e9) for at in range(len(lines))]
    found = [tegrastats.wall_ns(line) for _, line in lines]
    if None in found:
        number = lines[found.index(None)][0]
        raise UsageError(
            f"line {number} of the trace {path} has no date; pass --interval with the seconds between lines."
        )
    dates = [date for date in found if date is not None]
    times: list[int] = []
    at = 0
    while at < len(dates):
        same = 1
        while at + same < len(dates) and dates[at + same] == dates[at]:
            same += 1
        times.extend(dates[at] - dates[0] + step * 1_000_000_000 // same for step in range(same))
        at += same
    return times


def _gap_notes(trace: Trace) -> list[str]:
    gaps = _gaps(trace)
    shown = ", ".join(f"{(b - a) / 1e9:.1f} s after {a / 1e9:.1f} s" for a, b in gaps[:5])
    return (
        [f"{counted(len(gaps), 'gap')} longer than {STALE_PERIODS} periods: {shown}{', ...' if len(gaps) > 5 else ''}"]
        if gaps
        else []
    )


def _gaps(trace: Trace) -> list[tuple[int, int]]:
    """Spans without a frame that says anything."""
    times = np.array([frame.at_ns for frame in trace if frame.values or frame.alerts], np.int64)
    steps = np.diff(times)
    if not len(steps):
        return []
    wide = np.flatnonzero(steps > STALE_PERIODS * np.median(steps))
    return [(int(times[at]), int(times[at + 1])) for at in wide]


# --- tables ------------------------------------------------------------------------------------------------------


def trace_table(traces: Trace | Mapping[int, Trace]) -> dict[str, Any]:
    """Columns for Parquet: ``launch``, ``at_ns`` (int64 [n]), one per value (float64 [n], NaN where absent), ``alerts`` and
    ``missing`` (JSON text, empty where there is nothing). ``traces``: one, or several by launch.
    """
    by_launch = {0: traces} if isinstance(traces, Trace) else traces
    rows = [(launch, frame) for launch, trace in by_launch.items() for frame in trace]
    names = sorted({name for trace in by_launch.values() for name in trace.names()})
    table: dict[str, Any] = {
        "launch": np.array([launch for launch, _ in rows], np.int64),
        "at_ns": np.array([frame.at_ns for _, frame in rows], np.int64),
    }
    for name in names:
        table[name] = np.array([frame.values.get(name, math.nan) for _, frame in rows], np.float64)
    table["alerts"] = [json.dumps(list(frame.alerts)) if frame.alerts else "" for _, frame in rows]
    table["missing"] = [json.dumps(dict(frame.missing)) if frame.missing else "" for _, frame in rows]
    return table


def traces_from_table(table: Mapping[str, Any]) -> dict[int, Trace]:
    """The inverse of ``trace_table``, by launch. Raises ``ValueError`` for time that goes back, ``KeyError`` for a column."""
    values = {name: np.asarray(table[name], np.float64) for name in table if name not in TRACE_COLUMNS}
    launches, times = (np.asarray(table[name], np.int64) for name in ("launch", "at_ns"))
    alerts, missing = (np.asarray(table[name], object) for name in ("alerts", "missing"))
    if len({len(times), len(launches), len(alerts), len(missing), *map(len, values.values())}) > 1:
        raise ValueError("its columns are of unlike lengths")
    traces = {}
    for launch, rows in places(launches):
        traces[launch] = Trace.of_columns(
            times[rows],
            {name: column[rows] for name, column in values.items()},
            {at: tuple(found) for at, found in _told(alerts[rows])},
            dict(_told(missing[rows])),
        )
    return traces


def _told(texts: Array) -> Iterator[tuple[int, Any]]:
    """(place, what its JSON text says) of those that say something."""
    said: dict[str, Any] = {"": None}
    same = texts.size and not texts.strides[0]  # one text, said once for all
    for at in () if same and texts[0] == "" else np.flatnonzero(texts != "").tolist():
        text = str(texts[at])
        if text not in said:
            said[text] = json.loads(text)
        yield at, said[text]


# --- summing up --------------------------------------------------------------------------------------------------


def replay_summary(recording: Recording) -> dict[str, Any]:
    """What is in a trace, as JSON values: duration, gaps, each value's range, throttle episodes, energy."""
    trace = recording.trace
    first, last = trace.frames[0].at_ns, trace.frames[-1].at_ns
    seen = throttling(trace, governor=recording.about.get("governor", ""))
    ranges = {}
    for name in trace.names():
        _, values = trace.series(name)
        ranges[name] = {
            "min": float(values.min()), "mean": float(values.mean()), "max": float(values.max()), "frames": len(values)
        }  # fmt: skip
    throttled_s, known_s = seen.seconds(first, last)
    by_cause: dict[str, float] = {}
    for spell in seen.episodes:
        for cause in spell.causes:
            by_cause[cause] = by_cause.get(cause, 0.0) + (spell.end_ns - spell.start_ns) / 1e9
    power = {figure.name: figure for figure in energy(trace, first, last, 1)} if last > first else {}
    mean, joules = power.get("mean_power_w"), power.get("energy_per_call_j")
    return {
        "origin": recording.origin,
        "about": dict(recording.about),
        "notes": list(recording.notes),
        "frames": len(trace),
        "duration_s": (last - first) / 1e9,
        "period_s": float(np.median(np.diff([frame.at_ns for frame in trace]))) / 1e9 if len(trace) > 1 else None,
        "gaps": [{"start_s": a / 1e9, "end_s": b / 1e9} for a, b in _gaps(trace)],
        "values": ranges,
        "missing": dict(trace.frames[-1].missing),
        "throttled_s": throttled_s if known_s else None,
        "throttled_by_cause_s": by_cause,
        "episodes": [
            {
                "start_s": spell.start_ns / 1e9, "end_s": spell.end_ns / 1e9, "is_over": spell.is_over,
                "causes": list(spell.causes), "evidence": list(spell.evidence),
            }
            for spell in seen.episodes
        ],
        "mean_power_w": mean.value if mean else None,
        "energy_j": joules.value if joules else None,
        "energy_why": joules.why if joules else "a single frame",
        "energy_source": joules.source if joules else "",
    }  # fmt: skip


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary as lines for people."""
    period = summary["period_s"]
    lines = [
        f"{summary['frames']} frames in {summary['duration_s']:.1f} s"
        + (f", one each {period:.3g} s" if period else "")
        + (f" ({summary['origin']})" if summary["origin"] else "")
    ]
    lines += [f"{name}: {text}" for name, text in summary["about"].items()]
    lines += [f"note: {text}" for text in summary["notes"]]
    width = max([len(name) for name in summary["values"]] + [5])
    lines.append(f"{'value':<{width}} {'min':>12} {'mean':>12} {'max':>12} {'frames':>7}")
    for name, told in summary["values"].items():
        figures = " ".join(f"{_short(told[kind]):>12}" for kind in ("min", "mean", "max"))
        lines.append(f"{name:<{width}} {figures} {told['frames']:>7}")
    if summary["throttled_s"] is None:
        lines.append("throttling: unknown, no instrument tells it")
    elif not summary["episodes"]:
        lines.append("throttling: none")
    for spell in summary["episodes"]:
        still = "" if spell["is_over"] else ", and it was not over"
        lines.append(
            f"throttled from {spell['start_s']:.1f} to {spell['end_s']:.1f} s{still}: "
            f"{', '.join(spell['causes'])} ({'; '.join(spell['evidence'])})"
        )
    if summary["energy_j"] is not None:
        source = summary["energy_source"]
        lines.append(f"energy: {summary['energy_j']:.1f} J, {summary['mean_power_w']:.2f} W on average ({source})")
    else:
        lines.append(f"energy: not known ({summary['energy_why']})")
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1e5 else f"{value:.5g}"


# --- the commands ------------------------------------------------------------------------------------------------


def run_record(
    instruments: Instruments,
    out: Path,
    *,
    seconds: float,
    hz: float,
    following: Sequence[str] = (),
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] | None = None,
) -> tuple[str, dict[str, Any]]:
    """``trigate telemetry record``: (what to print, the same as JSON values). ``following``: ``("tegrastats",)``, whose
    ``--interval`` is set from ``hz``; the instruments are then left alone. Raises ``UsageError``.
    """
    _check_span(seconds, hz)
    if following:
        command = [*following, "--interval", str(max(1, round(1000 / hz)))]
        found = follow(command, out, seconds, clock=clock, silence_s=max(10.0, 3.0 / hz))
    else:
        found = record(instruments, out, seconds, hz, clock=clock, sleep=sleep, say=say)
    if not len(found.trace):
        raise UsageError(f"no frame was taken in {seconds:g} s.")
    summary = {"file": str(out), **replay_summary(found), "reading_ms": None if following else instruments.reading_ms}
    lines = [summary_text(summary), f"written to {out}"]
    if summary["reading_ms"] is not None:
        lines.insert(1, f"a reading took {summary['reading_ms']:.2f} ms on average")
    return "\n".join(lines), summary


def run_replay(path: Path, *, interval_s: float | None = None) -> tuple[str, dict[str, Any]]:
    """``trigate telemetry replay``: (what to print, the same as JSON values). Raises ``UsageError``."""
    summary = {"file": str(path), **replay_summary(read_recording(path, interval_s=interval_s))}
    return summary_text(summary), summary


def _check_span(seconds: float, hz: float) -> None:
    if not 0 < seconds <= _MOST_S:
        raise UsageError(f"--seconds is {seconds:g}; expected a time above 0, up to a year.")
    if not _LEAST_HZ <= hz <= _MOST_HZ:
        raise UsageError(f"--hz is {hz:g}; expected a rate above 0, from {_LEAST_HZ:g} to {_MOST_HZ:g}.")
