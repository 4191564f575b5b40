"""What the harness itself costs, measured with a runtime that does nothing (as MLPerf's LoadGen measures its own)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness.profiles import PROFILES, Profile
from harness.records import INTERRUPTED, Case, Figure, Measurement
from harness.tier2.launch import run_launch
from harness.tier2.load import lateness_ns, select
from harness.tier2.samples import SampleLog
from harness.tier2.station import Engine, Order, Seen, Station, Stream
from runtime.data import BuildConfig, EngineCacheEntry, EngineDescription, EngineHandle, ThermalState
from runtime.protocol import Array

__all__ = ["NullEngine", "NullRuntime", "harness_cost"]

_RATE_HZ = 39.0
_CHUNK = 1000


class NullRuntime:
    """An ``InferenceRuntime`` that returns at once. ``outputs``: what each call gives."""

    def __init__(self, config: object = None, *, outputs: Mapping[str, Array] | None = None) -> None:
        del config  # third parties' runtimes are made from one
        self._outputs = dict(outputs or {})

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        return EngineCacheEntry(model_path, "0" * 64, "none", "none", "none", build_config.precision, {})

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        return EngineHandle(self, entry, object())

    def infer(
        self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        del handle, inputs, out
        return self._outputs

    def release_engine(self, handle: EngineHandle) -> None:
        handle.resources = None

    def describe(self, handle: EngineHandle) -> EngineDescription:
        precision = handle.entry.precision
        return EngineDescription((), (), "none", {}, precision, {}, 0, 0, notes=("it computes nothing",))

    def thermal_state(self) -> ThermalState:
        return ThermalState.unknown(time.monotonic_ns())

    def current_runtime_label(self) -> str:
        return "pytorch_fp16"


@dataclass
class NullEngine:
    """An engine of it for a station: no feed, no outputs."""

    case: Case
    load_ns: int = 0
    outputs: dict[str, Array] = field(default_factory=dict)

    def infer(self, at: int) -> dict[str, Array]:
        del at
        return self.outputs

    def split(self) -> tuple[int, int, int, int] | None:
        return None

    def measurement(self, *, first_call_ns: int | None = None) -> Measurement:
        return Measurement(self.case, placement="null", provider="none", first_call_ns=first_call_ns)

    def close(self) -> None:
        """Nothing is held."""


class _Null:
    """The station with its clock, its instruments and its waiting, and engines that do nothing."""

    def __init__(self, station: Station) -> None:
        self._station = station

    def __getattr__(self, name: str) -> object:
        return getattr(self._station, name)

    def open(self, case: Case) -> Engine:
        return NullEngine(case)


def harness_cost(
    station: Station,
    *,
    seconds: float = 5.0,
    rate_hz: float = _RATE_HZ,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[Figure, ...]:
    """What the harness adds to a latency on this station, in ns: medians unless the name says otherwise.

    ``seconds``: of a launch in an open loop at ``rate_hz``, and of one with no telemetry; a closed loop has a tenth of them.
    ``clock``: of the cost of storing a sample. In virtual time nothing costs anything: one figure says so.
    """
    if station.simulated:
        return (Figure("sample_cost_ns", None, "ns", why="in virtual time the harness costs nothing"),)
    closed = _launch(station, 0.0, seconds / 10)
    loud = _launch(station, rate_hz, seconds)
    quiet = _launch(station, rate_hz, seconds, telemetry_hz=0.0)
    at = f"open loop at {rate_hz:g} Hz"
    loud_late, quiet_late = (lateness_ns(select(seen.log.columns())) for seen in (loud, quiet))
    with_it, without = f"{at}, with telemetry", f"{at}, without telemetry"
    return (
        Figure("sample_cost_ns", _cost_of_a_sample(clock), "ns", "storing one row: the best of many rounds"),
        _figure("closed_call_ns", np.diff(_column(closed, "done_ns")), 50, "closed loop: from call to call"),
        _figure(
            "open_call_ns",
            _column(loud, "done_ns") - _column(loud, "woke_ns"),
            50,
            f"{at}: from waking to the call's end",
        ),
        _figure("wake_p50_ns", loud_late, 50, f"{with_it}: how late the harness woke"),
        _figure("wake_p95_ns", loud_late, 95, f"{with_it}: how late the harness woke"),
        _figure("wake_p50_quiet_ns", quiet_late, 50, f"{without}: how late the harness woke"),
        _figure("wake_p95_quiet_ns", quiet_late, 95, f"{without}: how late the harness woke"),
    )


def _figure(name: str, values: Array, percent: int, source: str) -> Figure:
    if values.size == 0:
        return Figure(name, None, "ns", why="the launch was over before a call was measured")
    return Figure(name, float(np.percentile(values, percent)), "ns", source)


def _column(seen: Seen, name: str) -> Array:
    return select(seen.log.columns())[name]


def _launch(station: Station, rate_hz: float, seconds: float, *, telemetry_hz: float | None = None) -> Seen:
    case = Case("harness-null", 2, "harness", "harness", "pytorch_fp16", "fp32", "fp32", "small")
    whole: Profile = replace(
        PROFILES["quick"], least_s=seconds, most_s=seconds, least_calls=1, precision=0.0, soak=None
    )
    if telemetry_hz is not None:
        whole = replace(whole, telemetry_hz=telemetry_hz)
    null: Station = _Null(station)  # type: ignore[assignment] # all but open is the station's own
    seen = run_launch(null, Order(whole, (Stream(case, rate_hz),)))
    if seen.incomplete.startswith(INTERRUPTED):  # a launch keeps its rows instead, and these are nobody's
        raise KeyboardInterrupt
    return seen


def _cost_of_a_sample(clock: Callable[[], int]) -> float:
    """Of ``SampleLog.add``: the best round's mean, since what disturbs a round can only add to it."""
    at = clock()
    best: float | None = None
    for _ in range(20):
        log = SampleLog(["null"])
        add = log.add
        begun = clock()
        for _ in range(_CHUNK):
            add(0, at, at, at, at)
        took = (clock() - begun) / _CHUNK
        best = took if best is None else min(best, took)
    assert best is not None
    return best
