"""The plots of a model: how far every element is from the reference, how long every call took, and what happened when."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from harness.records import ABOUT_A_FLIGHT, LatencyFigures, ParityFigures, Quantile, RecordError, Verdict
from reports import plots, timeline, words
from reports.run_folder import Calls, Errors, Vector, calls, models, read_errors, read_samples, read_trace, traced
from reports.sheets import lane_and_kind
from reports.tables import share_of_tolerance

__all__ = ["LATENCY_KEY", "PLOTTED_ROWS", "STORY_KEY", "Figure", "Story", "Strip", "errors", "mixed", "timed"]

PLOTTED_OUTPUTS = 12
"""Per model. Of more, those nearest to their tolerance are plotted, and the page says so."""

PLOTTED_ROWS = 64
"""Of a page, over time and with errors; every row has its tables. Of more, the gravest are plotted, and the page says so."""

LATENCY_KEY = (
    f"Bars: every measured call, none left out, in {plots.BINS} classes of a logarithmic axis; height is the logarithm of the "
    "count, the lowest bar is one call. "
    "Under them ● p50, ■ p95, ▲ p99, each with its interval; dashed: too few calls for that bound. "
    "Bars that hang under the line: those of the calls that met a throttled board. The heavy line ┃ is the budget of p95."
)
_ERROR_KEY = (
    "Bars: |error| of single elements over the reference's rms, no unit, on a logarithmic axis (at most 5,000 per output, drawn "
    "evenly at random, the largest error always among them; the figures are of all of them); height is the logarithm of the "
    "count. Under them the relative L2 error, which is what is judged: ● the median sample, ◆ the worst sample; the heavy line "
    "┃ beside them is the tolerance of the worst sample."
)


@dataclass(frozen=True)
class Drawn:
    """A band, and what stands above it."""

    label: str
    words: str
    svg: Markup


@dataclass(frozen=True)
class Figure:
    """Bands on one axis. Without bands, ``notes`` say why."""

    title: str
    key: str = ""
    bands: Sequence[Drawn] = ()
    axis: Markup | None = None
    notes: Sequence[str] = ()


def timed(folder: Path, rows: Sequence[Verdict], *, stories: Collection[str]) -> tuple[Figure | None, list[Story]]:
    """A band per row that has latency figures, and what happened when, each file of samples being read once.

    ``stories``: the ids of the rows whose time is drawn. No figure where no row has figures.
    """
    bands: list[tuple[str, plots.Band]] = []
    told, notes = [], []
    for row in rows:
        if row.summary.latency is None and row.case.id not in stories:
            continue
        seen = _seen(folder, row)
        if isinstance(seen, RecordError):
            notes.append(f"{_label(row)} is not drawn: {seen}")
            continue
        if row.summary.latency is not None:
            every = seen[""]
            notes += [f"{_label(row)}: {note}" for note in _doubts(every, row.summary.latency)]
            bands.append((_placed(_label(row), row), _band(row, row.summary.latency, every)))
        if row.case.id in stories:
            told.append(_story(folder, row, seen))
    return _figure(Figure("Latency of every call", LATENCY_KEY, notes=notes), bands, _milliseconds), told


def mixed(folder: Path, row: Verdict) -> tuple[Figure | None, Story | None]:
    """Of a row that mixes models: a band for each of them, and what happened when. Neither for a row without samples."""
    if not row.summary.measurement.samples_file:
        return None, None
    seen = _seen(folder, row)
    if isinstance(seen, RecordError):
        return Figure("Latency by model", notes=[f"Not drawn: {seen}"]), None
    bands = []
    for model, own in seen.items():
        if model and len(own.latency_ms):
            of = {p: _estimated(shape, own.latency_ms, p, own.failed) for shape, p in _MARKS}
            told = ", ".join(
                f"p{100 * p:g} {words.interval(mark.value, mark.low, mark.high)}" for p, mark in of.items()
            )
            limit_ms = _limit_ms(row, model)
            told += f"; budget of p95 {words.milliseconds(limit_ms)}" if limit_ms is not None else ""
            text = f"{told}; {_counts(own)}"
            band = plots.Band(
                f"Latency of {model}", own.latency_ms, tuple(of.values()), limit_ms, text, own.throttled_ms
            )
            bands.append((model + (", SIMULATED" if row.summary.measurement.simulated else ""), band))
    return _figure(Figure("Latency by model", LATENCY_KEY), bands, _milliseconds), _story(folder, row, seen)


_MARKS = (("circle", 0.5), ("square", 0.95), ("triangle", 0.99))
_BATCHES = 64


def _estimated(shape: str, values_ms: Vector, p: float, failed: int) -> plots.Mark:
    """A quantile of calls in their order, for information, with its 95 % interval by order statistics.

    What failed is slower than all. Ranks are those of the normal limit of the binomial (David and Nagaraja, Order Statistics,
    7.1), and as far apart as calls that resemble their neighbours make them: by the variance of the means of batches.
    """
    count, ordered = len(values_ms) + failed, np.sort(values_ms)
    at = ordered[min(math.ceil(p * count), len(ordered)) - 1]
    share, each, effect = p * (1 - p), len(values_ms) // _BATCHES, 1.0
    if each:
        over = (values_ms[: each * _BATCHES] >= at).reshape(_BATCHES, each).mean(axis=1)
        effect = max(effect, each * float(over.var(ddof=1)) / share)
    reach = 1.96 * math.sqrt(count * share * effect)
    low, high = math.floor(count * p - reach), math.ceil(count * p + reach) + 1
    return plots.Mark(
        shape,
        float(at),
        float(ordered[min(low, len(ordered)) - 1]) if low >= 1 else None,
        float(ordered[high - 1]) if high <= len(ordered) else None,
    )


def _seen(folder: Path, row: Verdict) -> dict[str, Calls] | RecordError:
    """The requests of a row: all of them under "", and those of each model where it mixes several; or why not."""
    name = row.summary.measurement.samples_file
    try:
        samples = read_samples(folder, name, for_calls=True)
        several = models(samples)
        asked = ("", *several) if len(several) > 1 or row.case.kind in ABOUT_A_FLIGHT else ("",)
        return {model: calls(samples, is_open=_is_open(row), model=model) for model in asked}
    except RecordError as error:
        return error if name in str(error) else RecordError(f"{name}: {error}")


def _band(row: Verdict, figures: LatencyFigures, seen: Calls) -> plots.Band:
    marks = (_quantile("circle", figures.p50), _quantile("square", figures.p95), _quantile("triangle", figures.p99))
    told = ", ".join(
        f"{name} {words.interval(mark.value, mark.low, mark.high)}"
        for name, mark in zip(("p50", "p95", "p99"), marks, strict=True)
    )
    budget_ms = _budget_ms(row)
    told += f"; budget of p95 {words.milliseconds(budget_ms)}" if budget_ms is not None else ""
    text = f"{told}; {_counts(seen)}"
    return plots.Band(f"Latency of {_label(row)}", seen.latency_ms, marks, budget_ms, text, seen.throttled_ms)


def _label(row: Verdict) -> str:
    return words.lane(row.case, row.summary.measurement.lane_name)


def _milliseconds(value: float) -> str:
    return f"{value:,.5g} ms"


@dataclass(frozen=True)
class Strip:
    """One lane of a story: its name, its figures in words, the ends of its axis, and the picture."""

    label: str
    words: str
    top: str
    bottom: str
    svg: Markup


@dataclass(frozen=True)
class Story:
    """What happened when during one row. Without strips, ``notes`` say why."""

    title: str
    strips: Sequence[Strip] = ()
    axis: Markup | None = None
    notes: Sequence[str] = ()


STORY_KEY = (
    f"Thinned by this rule: time is cut into {timeline.BINS} pieces; of all samples of a piece the smallest and the largest "
    "bound the filled area and the median is the line, so that no peak is lost. Warm-up and soak are drawn too; “measured” "
    "marks what is judged, “throttled” when the board was slowed by heat or current. "
    "The heavy line ━ is the budget. The axis of latency is logarithmic."
)

_TRACED = (
    ("GPU clock", ("gpu_clock_mhz",), "MHz"),
    ("CPU clock", ("cpu_clock_mhz",), "MHz"),
    ("Temperature", ("tj_temp_c", "gpu_temp_c", "cpu_temp_c", "soc_temp_c"), "°C"),
    ("Power", ("power_w",), "W"),
    ("Memory of the process", ("pss_bytes", "rss_bytes"), "bytes"),
    ("Memory of the GPU", ("nvmap_bytes", "gpu_used_bytes"), "bytes"),
    ("Memory available", ("available_bytes",), "bytes"),
)
"""Strips from telemetry, each of the first of its values that was read. The CPU's clock only where there is no GPU's."""

_OF = {
    "tj_temp_c": "junction", "gpu_temp_c": "GPU", "cpu_temp_c": "CPU", "soc_temp_c": "SoC",
    "pss_bytes": "PSS", "rss_bytes": "RSS", "nvmap_bytes": "NvMap", "gpu_used_bytes": "the driver",
}  # fmt: skip
"""Where a value of several is from, in words."""


def _story(folder: Path, row: Verdict, seen: Mapping[str, Calls]) -> Story:
    measurement, notes = row.summary.measurement, []
    title = _placed(_label(row), row)
    trace: dict[str, np.ndarray] = {}
    try:
        if measurement.trace_file:
            trace = traced(read_trace(folder, measurement.trace_file))
        else:
            notes.append("No telemetry was recorded beside it.")
    except RecordError as error:
        name = "" if measurement.trace_file in str(error) else f"{measurement.trace_file}: "
        notes.append(f"Its telemetry is not drawn: {name}{error}")
    clock = _clock([seen[""]], trace)
    if clock is None:
        return Story(title, notes=["Not drawn: it has no samples."])
    each = {model: own for model, own in seen.items() if model} if len(seen) > 2 else {"": seen[""]}
    strips = [strip for model, own in each.items() if (strip := _latency_strip(model, own, clock, row))]
    strips += _rugs([seen[""]], clock)
    if trace:
        drawn, untold = _trace_strips(trace, clock)
        strips, notes = [*strips, *drawn], [*notes, *untold]
    if len(clock.spans_ns) > 1:
        notes.append(
            f"{len(clock.spans_ns)} launches, one after the other; a heavy tick on the axis is where one begins."
        )
    return Story(title, strips, timeline.draw_axis(clock, words.duration), notes)


def _clock(seen: Sequence[Calls], trace: Mapping[str, np.ndarray]) -> timeline.Clock | None:
    launches = np.concatenate([*(one.launch for one in seen), trace.get("launch", np.zeros(0, np.int64))])
    moments = np.concatenate([*(one.begun_ns for one in seen), trace.get("at_ns", np.zeros(0, np.int64))])
    spans = {
        int(launch): (int(moments[launches == launch].min()), int(moments[launches == launch].max()))
        for launch in np.unique(launches)
    }
    return timeline.Clock(spans) if spans else None


def _latency_strip(model: str, seen: Calls, clock: timeline.Clock, row: Verdict) -> Strip | None:
    at_s, values = clock.at_s(seen.launch[seen.is_ok], seen.begun_ns[seen.is_ok]), seen.every_ms[seen.is_ok]
    if not len(values):
        return None
    name = f"Latency of {model}" if model else "Latency"
    return _strip(name, at_s, values, "ms", clock, limit=_limit_ms(row, model), is_log=True)


def _limit_ms(row: Verdict, model: str) -> float | None:
    """What the p95 of a row, or of one model of a mix, is held against."""
    streams = row.summary.measurement.streams
    if not model:
        return _budget_ms(row) if len(streams) < 2 else None
    return next((one.deadline_ns / 1e6 for one in streams if one.model == model and one.deadline_ns), None)


def _trace_strips(trace: Mapping[str, np.ndarray], clock: timeline.Clock) -> tuple[list[Strip], list[str]]:
    """A strip per value that was read, and which were not."""
    at_s, strips, untold = clock.at_s(trace["launch"], trace["at_ns"]), [], []
    for label, names, unit in _TRACED:
        name = next((name for name in names if name in trace and np.isfinite(trace[name]).any()), None)
        if label == "CPU clock" and "gpu_clock_mhz" in trace:
            continue
        if name is None:
            untold.append(label)
            continue
        told = f"{label} ({_OF[name]})" if len(names) > 1 else label
        strips.append(_strip(told, at_s, trace[name].astype(np.float64), unit, clock))
    return strips, [f"No instrument of its telemetry told: {', '.join(untold)}."] if untold else []


def _strip(
    name: str,
    at_s: Vector,
    values: Vector,
    unit: str,
    clock: timeline.Clock,
    *,
    limit: float | None = None,
    is_log: bool = False,
) -> Strip:
    def told(value: float) -> str:
        return words.milliseconds(value) if unit == "ms" else words.quantity(value, unit)

    known = values[np.isfinite(values)]
    if limit is None and known.min() == known.max():
        return Strip(name, f"{told(float(known.min()))} all along", "", "", Markup())
    text = f"{told(float(known.min()))} to {told(float(known.max()))}, median {told(float(np.median(known)))}"
    text += f"; budget {told(limit)}" if limit is not None else ""
    scale = 1024.0 ** max(0, math.floor(math.log(max(abs(known.max()), 1.0), 1024))) if unit == "bytes" else 1.0
    bins = timeline.into_bins(at_s, values / scale, clock.length_s)
    lane = timeline.Lane(words.plain(f"{name} over time"), bins, words.plain(text), limit, is_log)
    bottom, top = timeline.ends(lane)
    return Strip(name, text, told(top * scale), told(bottom * scale), timeline.draw_lane(lane))


def _rugs(seen: Sequence[Calls], clock: timeline.Clock) -> list[Strip]:
    """When requests were judged, when they met a throttled board, and when they failed; what never was has no strip."""
    at_s = np.concatenate([clock.at_s(one.launch, one.begun_ns) for one in seen])
    asked = (
        ("measured", "were judged", [one.is_measured for one in seen]),
        ("throttled", "met a throttled board", [one.throttled == 1 for one in seen]),
        ("failed", "failed or were dropped", [~one.is_ok for one in seen]),
    )
    strips = []
    for name, what, parts in asked:
        which = np.concatenate(parts)
        if which.any():
            told = f"{np.count_nonzero(which):,} of {len(which):,} requests {what}"
            filled = timeline.when(at_s[which], clock.length_s)
            svg = timeline.draw_rug(
                timeline.Rug(f"When requests were {name}", filled, told, is_loud=name != "measured")
            )
            strips.append(Strip(name, told, "", "", svg))
    return strips


def _is_open(row: Verdict) -> bool:
    """Whether the row's requests had a time at which they were due (an open loop)."""
    return row.summary.measurement.rate_hz is not None


def _budget_ms(row: Verdict) -> float | None:
    judgement = row.summary.judgement
    return None if judgement is None or judgement.budget_ns is None else judgement.budget_ns / 1e6


def _counts(seen: Calls) -> str:
    throttled = len(seen.throttled_ms)
    met = f"{throttled:,} of them met a throttled board, " if throttled else ""
    return (
        f"{len(seen.latency_ms):,} calls, {met}{seen.failed:,} failed or dropped, "
        f"{seen.warmup:,} before the measurement began not drawn."
    )


def errors(folder: Path, rows: Sequence[Verdict]) -> list[Figure]:
    """A figure per output with a band per row that has errors on disk; what cannot be drawn is said in one more."""
    by_output: dict[str, list[tuple[Verdict, ParityFigures, Errors]]] = {}
    notes = []
    for row in rows:
        try:
            name = row.summary.measurement.errors_file
            drawn = read_errors(folder, name) if name else {}
        except RecordError as error:
            notes.append(f"The errors of {lane_and_kind(row)} are not drawn: {error}")
            continue
        for figures in row.summary.parity:
            if figures.output in drawn:
                by_output.setdefault(figures.output, []).append((row, figures, drawn[figures.output]))
    urgency = {
        output: max(share_of_tolerance(figures) or 0.0 for _, figures, _ in items)
        for output, items in by_output.items()
    }
    chosen = set(sorted(urgency, key=lambda output: -urgency[output])[:PLOTTED_OUTPUTS])
    if len(chosen) < len(by_output):
        notes.append(
            f"Of {len(by_output)} outputs the {len(chosen)} nearest to their tolerance are plotted; the table has all."
        )
    made = [_error_figure(output, items) for output, items in by_output.items() if output in chosen]
    unmade = [Figure("Errors that are not drawn", notes=notes)] if notes else []
    return [figure for figure in made if figure is not None] + unmade


def _error_figure(output: str, items: Sequence[tuple[Verdict, ParityFigures, Errors]]) -> Figure | None:
    bands = []
    for row, figures, drawn in items:
        rms = _rms(drawn.reference)
        values = np.abs(drawn.error) / (rms or 1.0)
        limit = figures.tolerance.rel_l2_max if figures.tolerance else None
        marks = [
            plots.Mark(shape, error)
            for shape, error in (("circle", figures.rel_l2_median), ("diamond", figures.rel_l2_max))
            if error
        ]
        exact = float(np.mean(values == 0)) if len(values) else 0.0
        text = f"worst sample {words.figure(figures.rel_l2_max)}, tolerance {words.figure(limit)}; {len(values):,} elements"
        text += f", {words.percent(exact)} of them exact and so not on this axis" if exact else ""
        text += "." if rms else "; the reference is all zero, so the errors are absolute."
        band = plots.Band(
            f"Error of {output}, {lane_and_kind(row)}", values, tuple(marks), limit, text, is_of_marks=True
        )
        bands.append((_placed(lane_and_kind(row), row), band))
    return _figure(Figure(f"Error of {output}", _ERROR_KEY), bands, _tick)


def _tick(value: float) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e4 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _figure(empty: Figure, bands: Sequence[tuple[str, plots.Band]], tick: Callable[[float], str]) -> Figure | None:
    axis = plots.axis_for([band for _, band in bands])
    if axis is None:
        notes = [*empty.notes, *(f"{label}: {band.words}" for label, band in bands)]
        return Figure(empty.title, notes=notes) if notes else None
    drawn = [Drawn(label, band.words, plots.draw_band(_spoken(band), axis)) for label, band in bands]
    return replace(empty, bands=drawn, axis=plots.draw_axis(axis, tick))


def _spoken(band: plots.Band) -> plots.Band:
    return replace(band, title=words.plain(band.title), words=words.plain(band.words))


def _placed(label: str, row: Verdict) -> str:
    measurement = row.summary.measurement
    return f"{label}, {measurement.placement or 'placement not known'}" + (
        ", SIMULATED" if measurement.simulated else ""
    )


def _quantile(shape: str, quantile: Quantile) -> plots.Mark:
    low, high = (None if bound is None else bound / 1e6 for bound in (quantile.low_ns, quantile.high_ns))
    return plots.Mark(shape, quantile.value_ns / 1e6, low, high)


def _doubts(seen: Calls, figures: LatencyFigures) -> list[str]:
    """What on disk does not fit the record."""
    doubts = []
    if len(seen.latency_ms) + seen.failed != figures.count:
        doubts.append(
            f"{len(seen.latency_ms) + seen.failed:,} samples are on disk, and the record says {figures.count:,}."
        )
    backward = int(np.count_nonzero(seen.latency_ms <= 0))
    if backward:
        doubts.append(
            f"{backward:,} calls took no time or less (the clock ran backward) and cannot stand on a log axis."
        )
    return doubts


def _rms(values: Vector) -> float:
    """Root mean square, scaled so that neither 1e200 nor 1e-200 spoils it; 0 where there is none to speak of."""
    largest = float(np.max(np.abs(values), initial=0.0))
    return largest * math.sqrt(float(np.mean((values / largest) ** 2))) if 0 < largest < math.inf else 0.0
