"""The two plots of a model: how far every element is from the reference, and how long every call took."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from harness.records import LatencyFigures, ParityFigures, Quantile, RecordError, Verdict
from reports import plots, words
from reports.run_folder import Calls, Errors, Vector, calls, read_errors, read_samples
from reports.sheets import lane_and_kind
from reports.tables import share_of_tolerance

__all__ = ["Figure", "errors", "latency"]

PLOTTED_OUTPUTS = 12
"""Per model. Of more, those nearest to their tolerance are plotted, and the page says so."""

_LATENCY_KEY = (
    "Bars: every measured call, none dropped; height is the logarithm of the count, the lowest bar is one call. "
    "Under them ● p50, ■ p95, ▲ p99, each with its interval; dashed: too few calls for that bound."
)
_ERROR_KEY = (
    "Bars: |error| of the drawn elements over the reference's rms; height is the logarithm of the count. "
    "Under them the relative L2 error, which is what is judged: ● the median sample, ◆ the worst sample. "
    "The heavy line ┃ is the tolerance of the worst sample."
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


def latency(folder: Path, rows: Sequence[Verdict]) -> Figure | None:
    """A band per latency row. ``None`` where no row has figures."""
    bands: list[tuple[str, plots.Band]] = []
    notes = []
    for row in rows:
        measurement, figures = row.summary.measurement, row.summary.latency
        if figures is None:
            continue
        label = words.lane(row.case, measurement.lane_name)
        try:
            seen = calls(read_samples(folder, measurement.samples_file))
        except RecordError as error:
            notes.append(f"{label} is not drawn: {error}")
            continue
        notes += [f"{label}: {note}" for note in _doubts(seen, figures)]
        marks = (_quantile("circle", figures.p50), _quantile("square", figures.p95), _quantile("triangle", figures.p99))
        told = ", ".join(
            f"{name} {words.interval(mark.value, mark.low, mark.high)}"
            for name, mark in zip(("p50", "p95", "p99"), marks, strict=True)
        )
        text = f"{told}; {len(seen.latency_ms):,} calls, {seen.failed:,} failed, {seen.warmup:,} for warm-up not drawn."
        bands.append((_placed(label, row), plots.Band(f"Latency of {label}", seen.latency_ms, marks, words=text)))
    return _figure(Figure("Latency of every call", _LATENCY_KEY, notes=notes), bands, lambda value: f"{value:,.5g} ms")


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
        text = f"worst sample {words.figure(figures.rel_l2_max)}, tolerance {words.figure(limit)}; {len(values):,} elements drawn"
        text += f", {words.percent(exact)} of them exact and so not on this axis" if exact else ""
        text += "." if rms else "; the reference is all zero, so the errors are absolute."
        band = plots.Band(f"Error of {output}, {lane_and_kind(row)}", values, tuple(marks), limit, text)
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
    if len(seen.latency_ms) != figures.count:
        doubts.append(f"{len(seen.latency_ms):,} samples are on disk, and the record says {figures.count:,}.")
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
