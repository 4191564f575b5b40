"""What a run will cost before it is started: rows, hours and disk, from its profile alone.

``least``: every engine is in the cache, and every row decides at its first look. ``most``: every engine is built by the row
that needs it first, in the time that it may take at most, and no row decides before its profile's time is over. A
build that takes longer than its limit fails its row; it may then take longer than is said here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.config import LoadLimits, ModelConfig
from harness.plan import flight_models
from harness.profiles import Profile
from harness.records import ABOUT_A_FLIGHT, Case
from harness.statistics.paired import LOOKS
from harness.statistics.stopping import MOST_ROWS
from harness.words import counted

__all__ = ["Cost", "cost_of"]

_START_S = 1.0, 5.0
"""Of one process with one engine from the cache: imports and loading. Each of these pairs is (least, most)."""
_OPEN_S = 0.1, 5.0
"""Of one more engine in a process, or of loading one again; 5 s are the limit of the flight (T2-02)."""
_CALL_S = 0.001, 0.1
"""Of one call of a model that nobody gave a rate; a whole second in ``_SLOW_CALL_S``, where few are made."""
_SLOW_CALL_S = 1.0
_OTHER_ROW_S = 1.0, 20.0
"""Of a row of Tier-0 or Tier-1."""
_VIRTUAL = 1000.0, 100.0
"""So many seconds of a simulated board pass in one of ours."""
_SAMPLE_BYTES = 40
"""Of one request in Parquet, and ``_FRAME_BYTES`` of one frame of telemetry; measured on runs of this project."""
_FRAME_BYTES = 120
_JOURNAL_BYTES = 96
"""Of one request in the journal, which is there while its row is measured."""

# what Tier2 asks of the rows that are about all models
_COLD_LOADS = {"onnx_trt_ep": (1, 1), "tensorrt": (0, 1)}  # (a profile that decides nothing, one that decides)
_CYCLES, _LOOKS, _CALLS, _MEMORY_LAUNCHES = 20, 20, 100, 5
_COOL_S = 600.0
_TAKEOFF_PROCESSES = 4
_IDLE_S = 2.0
_LATER_SOAK_S = 60.0


@dataclass(frozen=True)
class Cost:
    """``least_s``, ``most_s``: see the module. ``disk_bytes``: at most. ``requests``: of one row, at most."""

    rows: int
    least_s: float
    most_s: float
    disk_bytes: int = 0
    requests: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.rows + other.rows,
            self.least_s + other.least_s,
            self.most_s + other.most_s,
            self.disk_bytes + other.disk_bytes,
            max(self.requests, other.requests),
        )

    def to_text(self) -> str:
        """As ``12 rows, 1.5 to 14 hours, at most 240 MB on disk``."""
        size = _size(self.disk_bytes + self.requests * _JOURNAL_BYTES)
        return f"{counted(self.rows, 'row')}, {_span(self.least_s, self.most_s)}, at most {size} on disk"


def cost_of(cases: Sequence[Case], profile: Profile, models: Mapping[str, ModelConfig]) -> Cost:
    """Of all rows that can run, in the order in which they run."""
    total, run = Cost(0, 0.0, 0.0), _Run(profile, models)
    for case in cases:
        if not case.not_run:
            total += run.row(case)
    return total


@dataclass
class _Run:
    """What earlier rows left behind: ``built`` engines, and a board that ``is_warm``."""

    profile: Profile
    models: Mapping[str, ModelConfig]
    built: set[tuple[str, str, str]] = field(default_factory=set)
    is_warm: bool = False

    def row(self, case: Case) -> Cost:
        if case.tier != 2:
            return Cost(1, _OTHER_ROW_S[0], _OTHER_ROW_S[1] + (_build_s(case) if case.kind == "build" else 0.0))
        engines = self._engines(case)
        build_s = 0.0 if case.simulated else self._builds(case, engines)
        if case.kind == "load":
            cost = self._load(case)
        elif case.kind == "memory":
            cost = self._memory(len(engines))
        elif case.kind == "takeoff":
            least, most = (_TAKEOFF_PROCESSES * (start + (len(engines) - 1) * more) for start, more in _starts())
            cost = Cost(1, least, most)
        elif case.kind == "harness":
            cost = self._harness()
        else:
            cost = self._measured(case, engines)
        if case.simulated:
            return Cost(1, cost.least_s / _VIRTUAL[0], cost.most_s / _VIRTUAL[1], cost.disk_bytes, cost.requests)
        return Cost(1, cost.least_s, cost.most_s + build_s, cost.disk_bytes, cost.requests)

    def _engines(self, case: Case) -> list[ModelConfig]:
        if case.kind == "harness":
            return []
        if case.kind in ABOUT_A_FLIGHT:
            flying = flight_models(list(self.models.values()), case.runtime)
            rated = [model for model in flying if model.load is not None]
            return rated if rated and case.kind in ("flight", "heat") else flying
        return [self.models[case.model]]

    def _builds(self, case: Case, engines: Sequence[ModelConfig]) -> float:
        """At most, of the engines that no earlier row has built."""
        precisions = {m.name: case.precision if case.precision in m.precision else m.precision[0] for m in engines}
        wanted = {(name, case.runtime, precision) for name, precision in precisions.items()} - self.built
        self.built |= wanted
        return len(wanted) * _build_s(case)

    def _load(self, case: Case) -> Cost:
        """A process that fills the caches, those that find them empty, and those that find them full."""
        cold = _COLD_LOADS.get(case.runtime, (0, 0))[self.profile.decides]
        least, most = (start * (1 + cold + self.profile.load_rounds) for start in _START_S)
        return Cost(1, least, most + cold * _build_s(case))

    def _memory(self, count: int) -> Cost:
        """A process for each engine, which looks for leaks where the profile decides, and launches with all of them."""
        decides = self.profile.decides
        launches = max(_MEMORY_LAUNCHES, self.profile.launches) if decides else 1
        seconds = []
        for (start, more), call in zip(_starts(), _CALL_S, strict=True):
            leaks = _CYCLES * more + _LOOKS * _CALLS * call if decides else 0.0
            seconds.append(count * (start + leaks) + launches * (start + (count - 1) * more))
        return Cost(1, seconds[0], seconds[1])

    def _harness(self) -> Cost:
        """The idle board, the cost of a sample, and blocks of calls in pairs at up to four rates of telemetry."""
        decides = self.profile.decides
        own_s, block_s, looks = (5.0, 1.0, LOOKS) if decides else (2.0, 0.25, LOOKS[:1])
        rates = len([hz for hz in (10.0, 5.0, 2.0, 1.0) if hz <= self.profile.telemetry_hz])
        most = _IDLE_S + own_s + _START_S[1] + rates * 2 * looks[-1] * max(block_s, _CALL_S[1])
        return Cost(1, own_s, most)

    def _measured(self, case: Case, engines: Sequence[ModelConfig]) -> Cost:
        """A row of launches: a start, a warm-up, a soak (whole once in a run), and the measuring; heat watches the cooling."""
        profile, is_heat = self.profile, case.kind == "heat"
        rates = [model.load.rate_hz if model.load is not None else 0.0 for model in engines]
        launches = 1 if is_heat else profile.launches
        most_s = profile.sustained_s if is_heat else profile.most_s
        least_s = most_s if is_heat else _first_look_s(profile, min(rates, default=0.0))
        soak_least, soak_most = (0.0, 0.0) if profile.soak is None else (profile.soak.least_s, profile.soak.most_s)
        first_s = min(soak_least, _LATER_SOAK_S) if self.is_warm else soak_least
        later_s = min(soak_least, _LATER_SOAK_S)
        self.is_warm = self.is_warm or (profile.soak is not None and not case.simulated)
        (start_least, more_least), (start_most, more_most) = _starts()
        warm_most = min(
            most_s / 4, profile.warmup_calls * sum(1.0 / rate if rate > 1.0 else _SLOW_CALL_S for rate in rates)
        )
        least = (
            launches * (start_least + (len(engines) - 1) * more_least + least_s) + first_s + (launches - 1) * later_s
        )
        most = launches * (start_most + (len(engines) - 1) * more_most + warm_most + soak_most + most_s)
        seconds = launches * (soak_most + most_s)
        requests = round(sum(rates) * seconds) if any(rates) else launches * self._closed_loop(soak_most, is_heat)
        if is_heat:
            cooling_s = max(most_s / 2, _COOL_S if profile.decides else 0.0)
            most, seconds = most + cooling_s, seconds + cooling_s
        frames = seconds * profile.telemetry_hz
        return Cost(1, least, most, int(requests * _SAMPLE_BYTES + frames * _FRAME_BYTES), requests)

    def _closed_loop(self, soak_s: float, is_heat: bool) -> int:
        """Requests of one launch at most: nobody knows the rate, so it is that of a small model."""
        hz, profile = 1.0 / _CALL_S[0], self.profile
        least_s = profile.sustained_s if is_heat else profile.least_s
        most_s = profile.sustained_s if is_heat else profile.most_s
        is_timed = is_heat or profile.precision == 0.0
        count = hz * most_s if is_timed else min(hz * most_s, max(profile.most_calls, hz * least_s))
        return round(min(MOST_ROWS, count) + hz * soak_s)


def _starts() -> tuple[tuple[float, float], tuple[float, float]]:
    """(of a process with one engine, of each further one): least, then most."""
    return (_START_S[0], _OPEN_S[0]), (_START_S[1], _OPEN_S[1])


def _first_look_s(profile: Profile, rate_hz: float) -> float:
    """How long a launch measures at least: the slowest stream has to have samples enough, and no longer than it may."""
    calls_s = profile.least_calls / rate_hz if rate_hz else profile.least_calls * _CALL_S[0]
    return min(profile.most_s, max(profile.least_s, calls_s))


def _build_s(case: Case) -> float:
    """At most, of an engine that is in no cache: what it may take (TT-09, OR-07)."""
    limits = LoadLimits()
    first = {"tensorrt": limits.build_s, "tensorrt_rtx": limits.build_s, "onnx_trt_ep": limits.first_session_s}
    return first.get(case.runtime, 0.0)


def _span(least_s: float, most_s: float) -> str:
    if most_s < 5400:
        least, most = (max(1, round(seconds / 60)) for seconds in (least_s, most_s))
        return counted(most, "minute") if least == most else f"{least} to {most} minutes"
    return f"{least_s / 3600:.1f} to {most_s / 3600:.1f} hours"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
