"""What heat did to a launch: throttling, cold against hot, clocks, cool-down, and the run in blocks of time for a plot. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from harness.instruments.trace import Trace
from harness.records import Figure
from harness.statistics.quantiles import quantile
from harness.tier2.align import Alignment, Episode, align, throttling
from harness.tier2.load import latencies_ns, missed, select
from harness.tier2.samples import Phase
from harness.tier2.soak import temperatures
from runtime.protocol import Array

__all__ = ["NOT_APPLICABLE", "absent", "blocks", "cool_down", "episodes", "figures", "means"]

_MINUTE_NS = 60_000_000_000

NOT_APPLICABLE = (
    "not applicable: no temperature sensor on this host reads, so that a run's heat cannot be told from its load"
)


def episodes(trace: Trace) -> tuple[Episode, ...]:
    """Spells of throttling, by the flight's own detector (``harness.tier2.align``)."""
    return throttling(trace).episodes


def cool_down(trace: Trace, load_ended_ns: int, *, to_c: float | None = None, fraction: float = 0.5) -> Figure:
    """How long after the load the board was down at ``to_c``, in s; by default, where ``fraction`` of its rise was left.

    The rise counts from the first temperature of the trace. ``None`` where the trace ends before that.
    """
    times, values, source = temperatures(trace)
    after = times >= load_ended_ns
    if not after.any() or after.all():
        return absent("cool_down_s", "s", "the trace does not reach beyond the load" if times.size else NOT_APPLICABLE)
    hot = float(values[~after][-1])
    limit = to_c if to_c is not None else float(values[0]) + fraction * (hot - float(values[0]))
    words = f"{source}, from {hot:.1f} to {limit:.1f} °C"
    cool = np.flatnonzero(after & (values <= limit))
    if hot <= limit or not cool.size:
        why = "the board was no warmer when the load ended" if hot <= limit else "it was not reached in the trace"
        return Figure("cool_down_s", None, "s", words, why=why)
    return Figure("cool_down_s", (int(times[cool[0]]) - load_ended_ns) / 1e9, "s", words)


def blocks(columns: Mapping[str, Array], trace: Trace, n: int = 60, *, is_open: bool = True) -> dict[str, Array]:
    """The run in ``n`` spans of equal time, soak and all but warm-up calls; float64 [n] each, for a plot.

    ``t_s`` (the middle, from the first call), ``p50_ms``, ``p95_ms`` (infinite where as many gave no result), ``clock_mhz``
    and ``temp_c`` (means), ``throttled`` (share of the calls), ``calls``, ``measured`` (share of the calls that are judged).
    NaN where a span has no call or no reading.
    """
    rows = select(columns, phase=None)
    kept = np.flatnonzero(rows["phase"] != Phase.WARMUP)
    kept = kept[np.argsort(rows["scheduled_ns"][kept], kind="stable")]
    rows = {name: values[kept] for name, values in rows.items()}
    names = ("t_s", "p50_ms", "p95_ms", "clock_mhz", "temp_c", "throttled", "calls", "measured")
    if not rows["done_ns"].size:
        return {name: np.zeros(0) for name in names}
    begin, end = int(rows["scheduled_ns"].min()), int(rows["done_ns"].max()) + 1
    edges = np.linspace(begin, end, n + 1)
    latency = np.where(missed(rows), np.inf, latencies_ns(rows, is_open) / 1e6)
    found = align(rows, trace)
    of_call = np.clip(np.searchsorted(edges, rows["scheduled_ns"], side="right") - 1, 0, n - 1)
    times, temps, _ = temperatures(trace)
    clock_times, clocks = trace.series("gpu_clock_mhz")
    calls = np.bincount(of_call, minlength=n).astype(np.float64)
    of_block = np.split(latency, np.searchsorted(of_call, np.arange(1, n)))
    quantiles = [
        [float(np.quantile(one, p, method="inverted_cdf")) if one.size else math.nan for one in of_block]
        for p in (0.5, 0.95)
    ]
    return {
        "t_s": (edges[:-1] + edges[1:] - 2 * begin) / 2e9,
        "p50_ms": np.array(quantiles[0]),
        "p95_ms": np.array(quantiles[1]),
        "clock_mhz": means(clock_times, clocks, edges),
        "temp_c": means(times, temps, edges),
        "throttled": _share(of_call, found.throttled, found.known, n),
        "calls": calls,
        "measured": _share(of_call, rows["phase"] == Phase.MEASURE, np.ones(len(of_call), bool), n),
    }


def figures(
    columns: Mapping[str, Array], trace: Trace, is_open: bool, *, aligned: Alignment | None = None
) -> tuple[Figure, ...]:
    """What heat did, budget or not: throttling, cold against hot, clocks, temperatures.

    ``columns``: one launch, soak and all, with one judged call at least; ``aligned``: of the judged ones, where somebody has it.
    """
    rows = select(columns)
    found = align(rows, trace) if aligned is None else aligned
    begin_ns = int(columns["scheduled_ns"].min())
    start_ns, end_ns = int(rows["scheduled_ns"].min()), int(rows["done_ns"].max())
    spells = [one for one in found.throttling.episodes if one.end_ns >= begin_ns and one.start_ns <= end_ns]
    first_s = (max(0, spells[0].start_ns - begin_ns) / 1e9) if spells else None
    quiet = found.why or f"the board did not throttle in {(end_ns - begin_ns) / 1e9:.0f} s"
    detector = "the flight's throttle detector"
    share = found.share
    times, clocks = trace.series("gpu_clock_mhz")
    clocks = clocks[(times >= start_ns) & (times <= end_ns)]
    times, temps, sensor = temperatures(trace)
    temps = temps[(times >= begin_ns) & (times <= end_ns)]
    return (
        Figure("time_to_throttle_s", first_s, "s", detector, why="" if spells else quiet),
        Figure("throttle_episodes", None if found.why else float(len(spells)), "count", detector, why=found.why),
        Figure(
            "held_while_throttled_percent", None if share is None else 100.0 * share, "%", detector,
            why="" if share is not None else found.why or "the telemetry has a gap",
        ),
        *_hot_over_cold(columns, rows, temps, sensor, is_open),
        *(
            Figure(f"gpu_clock_p{p}_mhz", float(np.percentile(clocks, p)), "MHz", "while measured")
            if clocks.size
            else absent(f"gpu_clock_p{p}_mhz", "MHz", "the GPU's clock was not read")
            for p in (5, 50, 95)
        ),
        *(
            Figure(f"temp_{name}_c", float(value), "°C", sensor)
            if value is not None
            else absent(f"temp_{name}_c", "°C", "no temperature was read meanwhile")
            for name, value in zip(
                ("start", "end", "max"), (temps[0], temps[-1], temps.max()) if temps.size else (None,) * 3, strict=True
            )
        ),
        cool_down(trace, end_ns),
    )  # fmt: skip


def _hot_over_cold(
    columns: Mapping[str, Array], rows: Mapping[str, Array], temps: Array, sensor: str, is_open: bool
) -> tuple[Figure, ...]:
    """p50 and p95 of the last quarter of the measured time, a minute at least, over those of the load's first minute.

    Each interval is of both quantiles at 97.5 %, so that the ratio's holds at 95 %.
    """
    names = ("hot_over_cold_p50", "hot_over_cold_p95")
    loaded = {name: values[columns["phase"] != Phase.WARMUP] for name, values in columns.items()}
    begin_ns, end_ns = int(loaded["scheduled_ns"].min()), int(rows["done_ns"].max())
    measured_ns = end_ns - int(rows["scheduled_ns"].min())
    from_ns = end_ns - max(_MINUTE_NS, measured_ns // 4)
    cold, hot = loaded["scheduled_ns"] < begin_ns + _MINUTE_NS, loaded["scheduled_ns"] >= from_ns
    if from_ns < begin_ns + _MINUTE_NS:
        return tuple(absent(name, "ratio", "the run has no two minutes to compare") for name in names)
    source = f"the last {(end_ns - from_ns) / 6e10:.0f} min over the first"
    source += f", at {temps[-1]:.1f} and {temps[0]:.1f} °C ({sensor})" if temps.size else ""
    latency, lost = latencies_ns(loaded, is_open), missed(loaded)
    found = []
    for name, p in zip(names, (0.50, 0.95), strict=True):
        parts = [latency[part & ~lost] for part in (cold, hot)]
        if min(part.size for part in parts) < 20:
            found.append(absent(name, "ratio", "under 20 calls in one of the two"))
            continue
        first, last = (
            quantile(part, p, failed=int((of & lost).sum()), confidence=0.975)
            for part, of in zip(parts, (cold, hot), strict=True)
        )
        found.append(
            Figure(
                name, last.value_ns / first.value_ns, "ratio", source,
                low=_ratio(last.low_ns, first.high_ns), high=_ratio(last.high_ns, first.low_ns),
            )
        )  # fmt: skip
    return tuple(found)


def means(times_ns: Array, values: Array, edges_ns: Array) -> Array:
    """Of the readings between each two of n + 1 edges, float64 [n]; NaN without one."""
    cuts = np.searchsorted(times_ns, edges_ns)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    counts = np.diff(cuts)
    return np.where(counts > 0, np.diff(sums[cuts]) / np.maximum(counts, 1), np.nan)


def _share(of_block: Array, hits: Array, known: Array, n: int) -> Array:
    among = np.bincount(of_block[known], minlength=n)
    return np.where(among > 0, np.bincount(of_block[known & hits], minlength=n) / np.maximum(among, 1), np.nan)


def absent(name: str, unit: str, why: str) -> Figure:
    """A figure that is not known, and why."""
    return Figure(name, None, unit, why=why)


def _ratio(over: int | None, under: int | None) -> float | None:
    return None if over is None or not under else over / under
