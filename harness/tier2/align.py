"""Which requests met a throttled board, at which clock, and what a span of time cost in energy: samples beside a trace.

Pure. The rule is the flight's own (``runtime.thermal.ThrottleDetector``, TH-04), so that a gate calls throttled what a
flight would report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from harness.instruments.sysfs import TOTAL_RAILS
from harness.instruments.trace import Frame, Trace
from harness.records import Figure
from harness.statistics.quantiles import median
from harness.tier2.samples import together
from runtime.protocol import Array
from runtime.thermal import PLAUSIBLE, SourceReading, ThrottleCause, ThrottleDetector, Transition

__all__ = [
    "STALE_PERIODS",
    "Alignment",
    "Episode",
    "Throttling",
    "align",
    "energy",
    "reads",
    "throttling",
    "to_reading",
]

STALE_PERIODS = 3
"""After so many periods without a frame the board's state is unknown (as in the flight)."""

_SUDDEN = {ThrottleCause.THERMAL, ThrottleCause.OVER_CURRENT}
"""Causes that one reading shows; the others are called after several."""

_FROM_TO = (
    ("gpu_temp_c", "°C", ("start", "end", "max")),
    ("cpu_temp_c", "°C", ("start", "end", "max")),
    ("tj_temp_c", "°C", ("start", "end", "max")),
    ("gpu_clock_mhz", "MHz", ("start", "end", "min", "max")),
)

_DECISIVE = ("gpu_clock_mhz", "gpu_cap_mhz", "gpu_load_percent", "oc_events")
_READ = frozenset((*_DECISIVE, "alert_sensors", "energy_j", "power_w", *(name for name, _, _ in _FROM_TO)))
_MOST_EVENTS = float(PLAUSIBLE["over_current_events"][1])

NO_SENSOR = "no instrument tells whether the board is throttled"


@dataclass(frozen=True)
class Episode:
    """One spell of throttling, from the first frame that shows it to the one that shows it gone (``is_over``)."""

    start_ns: int
    end_ns: int
    causes: tuple[str, ...]
    evidence: tuple[str, ...]
    is_over: bool = True


@dataclass(frozen=True)
class Throttling:
    """What the frames of a trace say, n of them: ``times_ns`` int64, ``state`` bool, ``episode`` int64 (-1: none), all [n].

    Only frames that can tell are here. ``gaps``: spans without one, each longer than ``stale_ns``.
    """

    times_ns: Array
    state: Array
    episode: Array
    episodes: tuple[Episode, ...]
    gaps: tuple[tuple[int, int], ...]
    stale_ns: int

    def seconds(self, start_ns: int, end_ns: int) -> tuple[float, float]:
        """(throttled, known) seconds within a span."""
        if not len(self.times_ns):
            return 0.0, 0.0
        if not self.gaps and not self.episodes:
            ends = np.clip([self.times_ns[0] - self.stale_ns, self.times_ns[-1] + self.stale_ns], start_ns, end_ns)
            return 0.0, float((ends[1] - ends[0]) / 1e9)
        edges = np.concatenate([
            [self.times_ns[0] - self.stale_ns], self.times_ns, [self.times_ns[-1] + self.stale_ns]
        ])  # fmt: skip
        padded = np.concatenate([self.state[:1], self.state, self.state[-1:]])
        spans = np.clip(edges[1:], start_ns, end_ns) - np.clip(edges[:-1], start_ns, end_ns)
        known = np.diff(edges) <= self.stale_ns
        throttled = padded[1:] | padded[:-1]
        return float(spans[known & throttled].sum() / 1e9), float(spans[known].sum() / 1e9)


_Clocked = tuple[Array, Array, Trace, "float | None"]
"""When requests began and ended, int64 [n] each, the trace, and ``stale_s``."""


@dataclass(frozen=True)
class Alignment:
    """Per request, n of them, in the order of the columns.

    ``throttled``: bool [n], the board was throttled at some time between its start and its end; False where not ``known``.
    ``known``: bool [n], False in a gap of the telemetry (a request tagged ``sensor-gap``). ``episode``: int64 [n], which of
    ``throttling.episodes``; -1: none. ``causes``: how many requests by cause. ``clocked``: what ``clock_mhz`` is read off.
    ``why``: where nothing is known at all.
    """

    throttled: Array
    known: Array
    episode: Array
    causes: Mapping[str, int]
    throttling: Throttling
    clocked: _Clocked
    why: str = ""

    @cached_property
    def clock_mhz(self) -> Array:
        """Of the GPU, the reading nearest to the middle of the call: float64 [n]; NaN where there is none."""
        begin, end, trace, stale_s = self.clocked
        times, clocks = trace.series("gpu_clock_mhz")
        return _nearest(times, clocks, begin + (end - begin) // 2, _stale_ns(times, stale_s))

    @property
    def share(self) -> float | None:
        """Of the requests about which it is known, how many met a throttled board; ``None``: none is known."""
        known = int(self.known.sum())
        return float(self.throttled.sum()) / known if known else None


def reads(name: str) -> bool:
    """Whether ``align`` and ``energy`` look at a value of that name: a board has dozens of others."""
    return name in _READ or name.startswith(("limit.", "power_w."))


def align(columns: Mapping[str, Array], trace: Trace, *, stale_s: float | None = None, governor: str = "") -> Alignment:
    """Requests (``harness.tier2.samples.COLUMNS``) of one launch beside its trace; times of both count from one origin.

    A request is throttled if a frame during it is, or the last one before or the first one after: what happened between two
    frames shows in the second. ``stale_s``: a longer time without a frame is a gap; by default three periods.
    """
    seen = throttling(trace, stale_s=stale_s, governor=governor)
    started, scheduled = (np.asarray(columns[name], np.int64) for name in ("started_ns", "scheduled_ns"))
    begin = np.where(started < 0, scheduled, started) if (started < 0).any() else started  # as one that was dropped
    end = np.maximum(np.asarray(columns["done_ns"], np.int64), begin)
    nothing, nowhere = np.zeros(len(begin), bool), np.full(len(begin), -1)
    if not len(seen.times_ns):
        return Alignment(nothing, nothing.copy(), nowhere, {}, seen, (begin, end, trace, stale_s), NO_SENSOR)
    known = (begin >= seen.times_ns[0] - seen.stale_ns) & (end <= seen.times_ns[-1] + seen.stale_ns)
    if not seen.gaps and not seen.episodes:
        return Alignment(nothing, known, nowhere, {}, seen, (begin, end, trace, stale_s))
    return _met(seen, begin, end, known, (begin, end, trace, stale_s))


def _met(seen: Throttling, begin: Array, end: Array, known: Array, clocked: _Clocked) -> Alignment:
    """Beside frames that have gaps or spells of throttling; ``known``: not before or after all frames."""
    count = len(seen.times_ns)
    before = np.searchsorted(seen.times_ns, begin, "right") - 1
    after = np.searchsorted(seen.times_ns, end, "left")
    first, last = np.maximum(before, 0), np.minimum(after, count - 1)
    holes = np.concatenate([[0], np.cumsum(np.diff(seen.times_ns) > seen.stale_ns)])
    known = (holes[last] == holes[first]) & known
    following = np.where(seen.state, np.arange(count), count)
    following = np.minimum.accumulate(following[::-1])[::-1]  # the first throttled frame from here on
    hit = following[first]
    throttled = (hit <= last) & known
    episode = np.where(throttled, seen.episode[np.minimum(hit, count - 1)], -1)
    met = np.bincount(episode[throttled], minlength=len(seen.episodes))
    causes: dict[str, int] = {}
    for at, spell in enumerate(seen.episodes):
        for cause in spell.causes:
            if met[at]:
                causes[cause] = causes.get(cause, 0) + int(met[at])
    return Alignment(throttled, known, episode, causes, seen, clocked)


def throttling(trace: Trace, *, stale_s: float | None = None, governor: str = "") -> Throttling:
    """The frames through the flight's detector. A low clock that is called after three readings is so from the first.

    A trace is walked once, however often it is asked about, and only where something stirs.
    """
    key = (len(trace), stale_s, governor)
    kept = _WALKED.get(trace)
    if kept is None or kept[0] != key:
        kept = _WALKED[trace] = (key, _walked(_Stir(trace), stale_s, governor))
    return kept[1]


_WALKED: WeakKeyDictionary[Trace, tuple[tuple[int, float | None, str], Throttling]] = WeakKeyDictionary()


class _Stir:
    """The frames of a trace that can tell, n of them, and in which of them a calm board may cease to be calm.

    ``stirs``: bool [n], an alert is raised, the over-current counter is above its last value, or the loaded clock is low. A
    detector that is not throttled takes any number of other frames like one reading of the cap and the counter alone.
    """

    def __init__(self, trace: Trace) -> None:
        alerts = trace.alerted()
        clock, cap, load, events = (trace.column(name) for name in _DECISIVE)
        tells = alerts | ~np.isnan(events) | (trace.column("alert_sensors") > 0) | ~np.isnan(clock + cap + load)
        for name in trace.names():
            if name.startswith("limit."):
                tells |= ~np.isnan(trace.column(name))
        self.at, rows = np.flatnonzero(tells), together(tells)
        self.trace = trace
        self.times = trace.times()[rows]
        clock, cap, load, events = (values[rows] for values in (clock, cap, load, events))
        whole = np.trunc(events)
        before = _last_known(np.where((whole >= 0) & (whole <= _MOST_EVENTS), whole, np.nan))
        self.events = before[1:]
        clock, cap = (np.where(_is_clock(values), values, np.nan) for values in (clock, cap))
        self.highest_cap = np.fmax.accumulate(cap)
        is_low = clock < ThrottleDetector.SLOW_BELOW * self.highest_cap
        self.stirs = (
            alerts[rows] | (whole > before[:-1]) | np.isinf(events) | (is_low & (load > ThrottleDetector.LOADED_ABOVE))
        )

    def rest(self, at: int) -> SourceReading:
        """What is left of all calm frames up to ``at``."""
        cap, events = float(self.highest_cap[at]), float(self.events[at])
        return SourceReading(
            clock_cap_mhz=None if math.isnan(cap) else cap,
            over_current_events=None if math.isnan(events) else int(events),
        )


def _last_known(values: Array) -> Array:
    """Before each of [n] values the last one that is no NaN, and after the last too: float64 [n + 1]."""
    padded = np.concatenate([[np.nan], values])
    lacks = np.isnan(padded)
    if not lacks[1:].any():
        return padded
    return np.asarray(padded[np.maximum.accumulate(np.where(lacks, 0, np.arange(padded.size)))])


def _is_clock(values: Array) -> Array:
    low, high = PLAUSIBLE["clock_mhz"]
    return np.asarray((values >= low) & (values <= high))


def _walked(stir: _Stir, stale_s: float | None, governor: str) -> Throttling:
    times, count = stir.times, len(stir.times)
    stale_ns = _stale_ns(times, stale_s)
    state, episode = np.zeros(count, bool), np.full(count, -1, np.int64)
    episodes: list[Episode] = []
    stirring = np.flatnonzero(stir.stirs)
    detector, calm_from, at = ThrottleDetector(), 0, 0
    while at < count:
        if not detector.throttled:
            place = int(np.searchsorted(stirring, at))
            next_at = int(stirring[place]) if place < len(stirring) else count
            if next_at > at:
                detector.update(stir.rest(next_at - 1))
                at = next_at
                continue
        change = detector.update(to_reading(stir.trace.frame(int(stir.at[at])), governor=governor))
        begun = at
        if change is not None and change.throttled:
            if not _SUDDEN & set(change.causes):
                begun = max(at + 1 - detector.READINGS, calm_from)
            causes = tuple(cause.value for cause in change.causes)
            episodes.append(Episode(int(times[begun]), int(times[at]), causes, change.evidence, is_over=False))
        if detector.throttled:
            state[begun : at + 1], episode[begun : at + 1] = True, len(episodes) - 1
        elif change is not None:
            calm_from = at
            episodes[-1] = _ended(episodes[-1], int(times[at]), change, is_over=True)
        at += 1
    if detector.throttled:
        changes = [detector.update(SourceReading()) for _ in range(detector.READINGS)]
        episodes[-1] = _ended(episodes[-1], int(times[-1]), changes[-1], is_over=False)
    wide = np.flatnonzero(np.diff(times) > stale_ns)
    gaps = tuple((int(times[one]), int(times[one + 1])) for one in wide)
    return Throttling(times, state, episode, tuple(episodes), gaps, stale_ns)


def to_reading(frame: Frame, *, governor: str = "") -> SourceReading:
    """A frame as the flight's detector takes it."""
    values = frame.values
    limits = [name for name in values if name.startswith("limit.")]
    return SourceReading(
        cpu_temp_c=values.get("cpu_temp_c"),
        gpu_temp_c=values.get("gpu_temp_c"),
        clock_mhz=values.get("gpu_clock_mhz"),
        clock_cap_mhz=values.get("gpu_cap_mhz"),
        load_percent=values.get("gpu_load_percent"),
        governor=governor or None,
        throttle_alerts=frame.alerts,
        over_current_events=int(values["oc_events"]) if "oc_events" in values else None,
        clock_limits=tuple(name.removeprefix("limit.") for name in limits if values[name]) if limits else None,
    )


def energy(
    trace: Trace,
    start_ns: int,
    end_ns: int,
    calls: int,
    *,
    idle_w: float | None = None,
    stale_s: float | None = None,
    seen: Throttling | None = None,
) -> tuple[Figure, ...]:
    """What ``calls`` requests between two times cost, and how warm and fast the board was meanwhile.

    ``mean_power_w``, ``energy_per_call_j`` (of a counter where there is one, else power integrated by trapezoids), of that
    ``dynamic_energy_per_call_j`` above ``idle_w``; ``gpu_temp_start_c``, ``.._end_c``, ``.._max_c`` and the same of the CPU and
    of Tj; ``gpu_clock_start_mhz``, ``.._end_..``, ``.._min_..``, ``.._max_..``; ``oc_events`` (how many more);
    ``throttled_share`` (of the time about which it is known). What cannot be said is ``None``, and says why.
    ``seen``: of the trace, where somebody has it (``Alignment.throttling``): it costs most of the time.
    Raises ``ValueError`` for a span without length.
    """
    if end_ns <= start_ns:
        raise ValueError(f"a span from {start_ns} to {end_ns} ns has no length.")
    seen = throttling(trace, stale_s=stale_s) if seen is None else seen
    joules, source, why = _joules(trace, start_ns, end_ns, stale_s)
    span_s = (end_ns - start_ns) / 1e9
    mean_w = None if joules is None else joules / span_s
    no_calls = "" if calls > 0 else "no call was made"
    per_call = None if joules is None or no_calls else joules / calls
    dynamic = None if mean_w is None or no_calls or idle_w is None else (mean_w - idle_w) * span_s / calls
    throttled_s, known_s = seen.seconds(start_ns, end_ns)
    return (
        Figure("mean_power_w", mean_w, "W", source, why=why),
        Figure("energy_per_call_j", per_call, "J", source, why=why or no_calls),
        Figure(
            "dynamic_energy_per_call_j", dynamic, "J", source,
            why=why or no_calls or ("" if idle_w is not None else "the power of the idle board was not measured"),
        ),
        *(
            figure
            for name, unit, kinds in _FROM_TO
            for figure in _from_to(trace, name, unit, kinds, span=(start_ns, end_ns))
        ),
        _risen(trace, start_ns, end_ns),
        Figure(
            "throttled_share", 100.0 * throttled_s / known_s if known_s else None, "%",
            "throttle alerts, over-current counters and the clock under load", why="" if known_s else NO_SENSOR,
        ),
    )  # fmt: skip


def _ended(spell: Episode, end_ns: int, change: Transition | None, *, is_over: bool) -> Episode:
    causes = spell.causes if change is None else tuple(cause.value for cause in change.causes)
    return replace(spell, end_ns=end_ns, causes=causes, is_over=is_over)


def _stale_ns(times_ns: Array, stale_s: float | None) -> int:
    if stale_s is not None:
        return int(stale_s * 1e9)
    return STALE_PERIODS * int(median(np.diff(times_ns))) if len(times_ns) > 1 else 0


def _nearest(times_ns: Array, values: Array, at_ns: Array, stale_ns: int) -> Array:
    """The value of the nearest reading, NaN where none is within ``stale_ns``; between readings a clock steps."""
    if not len(times_ns):
        return np.full(len(at_ns), np.nan)
    after = np.clip(np.searchsorted(times_ns, at_ns), 1, max(1, len(times_ns) - 1))
    before = after - 1
    after = np.minimum(after, len(times_ns) - 1)
    nearest = np.where(times_ns[after] - at_ns < at_ns - times_ns[before], after, before)
    return np.where(np.abs(times_ns[nearest] - at_ns) <= stale_ns, values[nearest], np.nan)


def _joules(trace: Trace, start_ns: int, end_ns: int, stale_s: float | None) -> tuple[float | None, str, str]:
    """(joules, where they come from, why there are none)."""
    times, counter = trace.series("energy_j")
    if (
        len(times) > 1
        and (np.diff(counter) >= 0).all()
        and not _uncovered(times, start_ns, end_ns, stale_s, inner=False)
    ):
        begin, end = max(start_ns, int(times[0])), min(end_ns, int(times[-1]))
        if end > begin:
            first, last = np.interp([begin, end], times, counter)
            return float(last - first) * (end_ns - start_ns) / (end - begin), "the energy counter", ""
    times, watts = trace.series("power_w")
    if len(times) < 2:
        return None, "", _why_not(trace, "power_w")
    rails = [name.removeprefix("power_w.") for name in trace.names() if name.startswith("power_w.")]
    total = next((rail for rail in TOTAL_RAILS if rail in rails), None)
    source = f"the rail {total}" if total else f"the sum of {', '.join(rails)}" if rails else "power"
    if why := _uncovered(times, start_ns, end_ns, stale_s, inner=True):
        return None, source, why
    inside = times[int(np.searchsorted(times, start_ns, "right")) : int(np.searchsorted(times, end_ns))]
    at = np.concatenate([[start_ns], inside, [end_ns]])
    height = np.interp(at, times, watts)
    joules = float(((height[1:] + height[:-1]) / 2.0 * np.diff(at)).sum() / 1e9)
    return joules, f"{source}, integrated over its readings", ""


def _uncovered(times: Array, start_ns: int, end_ns: int, stale_s: float | None, *, inner: bool) -> str:
    """Why readings at these times do not cover the span; a counter needs its two ends alone (``inner`` False)."""
    stale_ns = _stale_ns(times, stale_s)
    if times[0] > start_ns + stale_ns or times[-1] < end_ns - stale_ns:
        covered, span = (f"{a / 1e9:.1f} to {b / 1e9:.1f} s" for a, b in ((times[0], times[-1]), (start_ns, end_ns)))
        return f"the telemetry covers {covered} of {span}"
    within = times[max(0, int(np.searchsorted(times, start_ns, "right")) - 1) : int(np.searchsorted(times, end_ns)) + 1]
    longest_ns = int(np.diff(within).max()) if len(within) > 1 else 0
    if longest_ns > stale_ns and inner:
        return f"the telemetry has a gap of {longest_ns / 1e9:.1f} s, longer than {STALE_PERIODS} periods"
    return ""


def _why_not(trace: Trace, name: str) -> str:
    return trace.why_missing(name) or "no instrument gives it"


def _from_to(trace: Trace, name: str, unit: str, kinds: Sequence[str], *, span: tuple[int, int]) -> tuple[Figure, ...]:
    stem, _, ending = name.rpartition("_")
    times, values = trace.series(name)
    values = values[int(np.searchsorted(times, span[0])) : int(np.searchsorted(times, span[1], "right"))]
    if not len(values):
        why = "no reading in this span" if len(times) else _why_not(trace, name)
        return tuple(Figure(f"{stem}_{kind}_{ending}", None, unit, why=why) for kind in kinds)
    found = {"start": values[0], "end": values[-1], "min": values.min(), "max": values.max()}
    return tuple(Figure(f"{stem}_{kind}_{ending}", float(found[kind]), unit, "telemetry") for kind in kinds)


def _risen(trace: Trace, start_ns: int, end_ns: int) -> Figure:
    """By how much the over-current counters rose, from the last reading before the span to the first after it."""
    times, counts = trace.series("oc_events")
    if len(times) < 2 or times[-1] < start_ns or times[0] > end_ns:
        return Figure("oc_events", None, "count", why=_why_not(trace, "oc_events"))
    first = max(0, int(np.searchsorted(times, start_ns, "right")) - 1)
    last = min(len(times) - 1, int(np.searchsorted(times, end_ns)))
    rises = np.diff(counts[first : last + 1])
    return Figure("oc_events", float(rises[rises > 0].sum()), "count", "the counters of soctherm_oc")
