"""Why calls exceeded their budget: heat, current, the cap, the governor, more work, or a queue (T2-03).

A call is looked at in cycles as well as in time (as nvbench confirms its verdicts): what would have kept its budget at the
full clock was slowed by the clock, and what would not is more work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.instruments.trace import Trace
from harness.records import Figure
from harness.tier2.align import Episode, align
from harness.tier2.load import latencies_ns, missed, select, waits_ns
from harness.tier2.samples import Status
from runtime.protocol import Array
from runtime.thermal import ThrottleDetector

__all__ = ["Cause", "cause", "cause_of_episode", "full_clock_mhz"]

_NAMES = ("thermal", "over-current", "cap", "governor", "failed calls", "queueing", "unknown", "more work")
_CAPPED, _GOVERNED, _FAILED, _QUEUED, _UNKNOWN, _WORK = range(2, 8)
_NOTHING = len(_NAMES)
"""What holds a board down comes first, the gravest before what it explains; calls carry the number, since a million names are
slow."""

_SLOW = ThrottleDetector.SLOW_BELOW
_LIKELIER = 2.0
_WAITED_NS = 1_000_000


@dataclass(frozen=True)
class Cause:
    """``name``: ``thermal``, ``over-current``, ``cap``, ``governor``, ``more work``, ``queueing``, ``failed calls``,
    ``none`` (nothing exceeded) or ``unknown``. ``figures``: cycles and clocks of the calls that exceeded and of the others.
    """

    name: str
    words: str
    figures: tuple[Figure, ...] = ()


def cause(
    columns: Mapping[str, Array],
    trace: Trace,
    budget_ns: int,
    is_open: bool,
    *,
    stream: int | None = None,
    declared_mhz: float | None = None,
) -> Cause:
    """What explains most of the judged calls that exceeded.

    ``columns``: as ``SampleLog.columns``, of all streams, since they queue for one device; ``stream``: the one that is judged
    (``None``: all); ``declared_mhz``: the cap that the board should have, where it is known. Host time does not scale with the
    GPU's clock, so that "slowed by the clock" is told a little too gladly of calls that mostly wait for the host.
    """
    rows = select(columns)
    order = np.argsort(rows["scheduled_ns"], kind="stable")
    rows = {name: values[order] for name, values in rows.items()}
    judged = np.ones(order.size, bool) if stream is None else rows["stream"] == stream
    exceeds = judged & (missed(rows) | (latencies_ns(rows, is_open) > budget_ns))
    if not exceeds.any():
        return Cause("none", "nothing exceeded the budget")
    look = _Look(rows, judged, exceeds, trace, full_clock_mhz(trace, declared_mhz))
    counts = np.bincount(look.kinds(budget_ns), minlength=_NOTHING)
    name = _NAMES[int(np.argmax(counts))]
    share = f"{100 * counts.max() / counts.sum():.0f} % of {counts.sum()} exceedances"
    return Cause(name, look.words(name, share), look.figures())


def cause_of_episode(episode: Episode) -> str:
    """The cause that explains the others: heat lowers a cap, and a cap a clock."""
    return min(episode.causes, key=_NAMES.index)


def full_clock_mhz(trace: Trace, declared_mhz: float | None = None) -> float | None:
    """What the clock could be: the highest of the declared cap, the caps and the clocks that were seen."""
    seen = [values.max() for name in ("gpu_cap_mhz", "gpu_clock_mhz") if (values := trace.series(name)[1]).size]
    return max((float(value) for value in [*seen, declared_mhz] if value is not None), default=None)


class _Look:
    """One comparison of the judged calls that exceeded with the others; every array is over all [n] calls of all streams."""

    def __init__(
        self, rows: Mapping[str, Array], judged: Array, exceeds: Array, trace: Trace, full_mhz: float | None
    ) -> None:
        self.judged, self.exceeds, self.status = judged, exceeds, rows["status"]
        self.full_mhz, self.found = full_mhz, align(rows, trace)
        found = self.found
        self.service_ns = rows["done_ns"] - rows["started_ns"]
        self.clock_mhz = np.where(self.status == Status.DROPPED, np.nan, found.clock_mhz)
        self.cycles = self.service_ns * self.clock_mhz * 1e-3
        self.is_slow = self.clock_mhz < _SLOW * (full_mhz or 0.0)  # False where the clock is not known
        is_capped = self.is_slow & (self.clock_mhz >= _SLOW * _last(trace, "gpu_cap_mhz", rows["started_ns"]))
        self.hindrance = self._hindrance(is_capped)
        self.behind = self._behind((waits_ns(rows) > _WAITED_NS) | (self.status == Status.DROPPED))

    def _hindrance(self, is_capped: Array) -> Array:
        """What held the board down during each call, a number of ``_NAMES``. A spell has one cause, and an over-current counter
        rises only where it begins: the gravest that was seen in it stands for all of it.
        """
        of_episode = [_NAMES.index(cause_of_episode(one)) for one in self.found.throttling.episodes]
        met = np.where(self.found.throttled, np.array([*of_episode, _NOTHING])[self.found.episode], _NOTHING)
        alone = np.where(is_capped, _CAPPED, np.where(self.is_slow, _GOVERNED, _NOTHING))
        down = np.minimum(met, alone)
        is_down = down < _NOTHING
        begins = np.flatnonzero(np.diff(is_down, prepend=not is_down[0]))
        gravest = np.minimum.reduceat(down, begins)
        return np.repeat(gravest, np.diff([*begins, is_down.size]))

    def kinds(self, budget_ns: int) -> Array:
        """For each call that exceeded the number of its cause, int64."""
        hindered, in_time = self.hindrance < _NOTHING, self.service_ns <= budget_ns
        at_full_ns = self.service_ns * np.where(self.is_slow, self.clock_mhz / (self.full_mhz or 1.0), 1.0)
        by_clock = self.is_slow & ~in_time & (at_full_ns <= budget_ns)
        # a clock that skips pulses reads as full: there only how often calls are late can tell
        by_count = self._is_likelier(hindered) & hindered & ~self.is_slow & ~in_time
        filled = self.behind < _NOTHING
        by_queue = self._is_likelier(filled) & filled & in_time
        kinds = np.select(
            [
                self.status == Status.FAILED,
                by_clock | by_count,
                by_queue,
                in_time,
                np.isnan(self.clock_mhz),
            ],
            [_FAILED, self.hindrance, self.behind, _QUEUED, _UNKNOWN],
            _WORK,
        )
        return np.asarray(kinds[self.exceeds])

    def _behind(self, waited: Array) -> Array:
        """What held down this call or, of those that it waited for, the last one: a queue outlives what filled it."""
        at = np.arange(waited.size)
        queue_began = np.maximum.accumulate(np.where(waited, 0, at))
        last = np.maximum.accumulate(np.where(self.hindrance < _NOTHING, at, -1))
        return np.where((last >= queue_began) & (last >= 0), self.hindrance[np.maximum(last, 0)], _NOTHING)

    def _is_likelier(self, hindered: Array) -> bool:
        """Whether judged calls exceed at least twice as often where the board is held down."""
        inside, outside = self.exceeds[hindered & self.judged], self.exceeds[~hindered & self.judged]
        return bool(inside.size) and (not outside.size or float(inside.mean()) >= _LIKELIER * float(outside.mean()))

    def words(self, name: str, share: str) -> str:
        """One sentence, with the figures that decided."""
        low, middle = (_quantile(self.clock_mhz[self.exceeds], p) for p in (0.05, 0.5))
        clocks = "" if low is None else f", at {low:.0f} of {self.full_mhz:.0f} MHz"
        at = "" if middle is None else f", at {middle:.0f} of {self.full_mhz:.0f} MHz"
        seen = self._evidence(name)
        return {
            "thermal": f"heat: {share} met a board that throttled, or waited for calls that did{clocks}{seen}",
            "over-current": f"over-current: {share} met a board that drew too much, or waited for calls that did{clocks}{seen}",
            "cap": f"a lower cap: {share} met a clock whose cap had come down{clocks}{seen}",
            "governor": f"the governor: {share} met a clock under its cap without an alert{clocks}{seen}; "
            "pin the clocks (sudo jetson_clocks) to see the difference",
            "more work": f"more work: {share} would have exceeded at the full clock too{self._work()}{at}",
            "queueing": f"queueing: {share} waited for the calls before them, and were fast enough once they began",
            "failed calls": f"calls failed: {share} gave no result",
            "unknown": f"unknown: {share} were made while no clock was read and no throttling was seen"
            + (f" ({self.found.why})" if self.found.why else ""),
        }[name]

    def _evidence(self, name: str) -> str:
        episodes = [one for one in self.found.throttling.episodes if cause_of_episode(one) == name]
        seen = ", ".join(dict.fromkeys(text for one in episodes[:3] for text in one.evidence[:1]))
        return f" ({seen})" if seen else ""

    def _work(self) -> str:
        known = self.cycles[self.judged & np.isfinite(self.cycles)]
        if known.size < 100:
            return ""
        first, last = (float(np.median(part)) for part in (known[: known.size // 10], known[-(known.size // 10) :]))
        middle = float(np.median(known)) / 1e6
        return f" (p50 {middle:.1f} million cycles, {100 * (last / first - 1):+.0f} % from the first tenth to the last)"

    def figures(self) -> tuple[Figure, ...]:
        late = {"exceeding": self.exceeds, "other": self.judged & ~self.exceeds}
        unread = "" if np.isfinite(self.clock_mhz).any() else "the GPU's clock was not read"
        figures = []
        for name, unit, values, source in (
            ("cycles", "count", self.cycles, "time of the call × the GPU's clock then"),
            ("clock_mhz", "MHz", self.clock_mhz, "the GPU's clock during the call"),
        ):
            for who, of in late.items():
                for label, p in (("p50", 0.50), ("p95", 0.95)):
                    value = _quantile(values[of], p)
                    why = "" if value is not None else unread or f"no call is among the {who} ones"
                    figures.append(Figure(f"{who}_{label}_{name}", value, unit, source, why=why))
        known = self.found.known[self.exceeds]
        share = 100.0 * float(self.found.throttled[self.exceeds].sum() / known.sum()) if known.any() else None
        why = "" if share is not None else self.found.why or "the telemetry has a gap there"
        figures.append(Figure("exceeding_throttled_percent", share, "%", "the flight's throttle detector", why=why))
        return tuple(figures)


def _last(trace: Trace, name: str, at_ns: Array) -> Array:
    """The last value at or before each of [n] times, float64 [n]; NaN before the first."""
    times, values = trace.series(name)
    return np.concatenate([[np.nan], values])[np.searchsorted(times, at_ns, side="right")]


def _quantile(values: Array, p: float) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, p, method="inverted_cdf")) if known.size else None
