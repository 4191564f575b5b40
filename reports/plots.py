"""Plots as inline SVG, made by hand (docs/adr/0007-plots.md): one kind, a histogram band on a shared log axis.

Positions along the axis are percentages, so a plot is as wide as the page and its text keeps its size on a phone; all
colours are the page's own (CSS classes), so both colour schemes and paper hold. No text from a run enters the SVG
unescaped, and nothing is told by colour alone: marks differ in shape, and each band says its figures in ``<desc>``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

__all__ = ["Axis", "Band", "Mark", "axis_for", "draw_axis", "draw_band", "histogram"]

BINS = 160
"""Of a band. Every value is counted in one of them; nothing is thinned."""

_HEIGHT = 30
_HANGING = 18
_LINE = 11


@dataclass(frozen=True)
class Mark:
    """A value on a line of its own under the bars, with its interval (dashed to the edge where a bound is not known).

    ``shape``: circle, square, triangle, diamond.
    """

    shape: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Band:
    """One distribution. ``limit``: where a tolerance or a budget stands. ``words``: the band's figures, for who cannot see it.

    ``apart``: those of the values that are drawn once more, hanging under the line (calls on a throttled board).
    ``is_of_marks``: the limit is one of the marks, and no value is held against it: it is drawn beside them alone.
    """

    title: str
    values: npt.NDArray[np.float64]
    marks: tuple[Mark, ...] = ()
    limit: float | None = None
    words: str = ""
    apart: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    is_of_marks: bool = False


@dataclass(frozen=True)
class Axis:
    """A log axis from ``low`` to ``high``, both above zero."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value stands, in percent of the width."""
        span = math.log10(self.high) - math.log10(self.low)
        return min(100.0, max(0.0, 100 * (math.log10(value) - math.log10(self.low)) / span)) if value > 0 else 0.0

    def ticks(self) -> list[float]:
        """Three to seven round values inside the axis."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        choices = [[10.0**d for d in decades if d % step == 0] for step in (20, 10, 5, 4, 3, 2, 1)]
        choices += [[m * 10.0**d for d in decades for m in multiples] for multiples in ((1, 3), (1, 2, 5))]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 2))
        choices += [
            [step * part * n for n in range(math.ceil(self.low / step / part), math.floor(self.high / step / part) + 1)]
            for part in (5, 2, 1, 0.5)
        ]
        inside = [[value for value in choice if self.low <= value <= self.high] for choice in choices]
        return next((choice for choice in inside if 3 <= len(choice) <= 7), max(inside[-3:], key=len)[:7])


def axis_for(bands: Sequence[Band]) -> Axis | None:
    """One axis for bands that are to be read together; ``None`` where there is nothing above zero to place."""
    placed = [band.values[np.isfinite(band.values) & (band.values > 0)] for band in bands]
    ends = [float(end) for values in placed if values.size for end in (values.min(), values.max())]
    for band in bands:
        marked = [value for mark in band.marks for value in (mark.value, mark.low, mark.high)]
        ends += [value for value in (*marked, band.limit) if value is not None and 0 < value < math.inf]
    if not ends:
        return None
    low, high = min(ends), max(ends)
    margin = max((high / low) ** 0.03, 1.02)
    return Axis(max(low / margin, 1e-300), min(high * margin, 1e300))


def histogram(values: npt.NDArray[np.float64], axis: Axis) -> npt.NDArray[np.int64]:
    """Counts per bin of the axis, of the values above zero."""
    kept = values[np.isfinite(values) & (values > 0)]
    edges = np.linspace(math.log10(axis.low), math.log10(axis.high), BINS + 1)
    return np.histogram(np.clip(np.log10(kept), edges[0], edges[-1]), edges)[0]


def draw_band(band: Band, axis: Axis) -> Markup:
    """One band. The bars' height is the logarithm of their count, so that a single value is seen."""
    counts, apart = histogram(band.values, axis), histogram(band.apart, axis)
    under = _HEIGHT + (_HANGING if apart.any() else 0)
    height = under + _LINE * len(band.marks) + 2
    parts = [_grid(axis, height), _bars(counts)]
    if apart.any():
        parts.append(_hanging(apart, int(counts.max())))
    parts += [_mark(mark, axis, under + _LINE * at + _LINE // 2 + 1) for at, mark in enumerate(band.marks)]
    if band.limit is not None and band.limit > 0:
        x = axis.at(band.limit)
        line = Markup('<line class="limit" x1="{0:.2f}%" x2="{0:.2f}%" y1="{1}" y2="{2}"/>')
        parts.append(line.format(x, under if band.is_of_marks else 0, height))
    return Markup(
        '<svg class="band" role="img" width="100%" height="{}"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(height, band.title, band.words, Markup().join(parts))


def draw_axis(axis: Axis, label: Callable[[float], str]) -> Markup:
    """The tick labels under the bands. Those of screen readers are in each band's words."""
    texts = Markup()
    for value in axis.ticks():
        x = axis.at(value)
        anchor = "start" if x < 4 else "end" if x > 96 else "middle"
        texts += Markup('<text x="{:.2f}%" y="13" text-anchor="{}">{}</text>').format(x, anchor, label(value))
    return Markup('<svg class="axis" aria-hidden="true" width="100%" height="18">{}</svg>').format(texts)


def _grid(axis: Axis, height: int) -> Markup:
    lines = (
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="{1}"/>').format(axis.at(value), height)
        for value in axis.ticks()
    )
    return Markup().join(lines)


def _bars(counts: npt.NDArray[np.int64]) -> Markup:
    """One outline for all bars, stretched to the width: a run of filled bins is one closed shape, without seams."""
    most = max(int(counts.max()), 1)
    path, open_ = [], False
    for at, count in enumerate(counts.tolist()):
        if count:
            top = _HEIGHT * (1 - (1 + math.log10(count)) / (1 + math.log10(most)))
            path.append(f"{'V' if open_ else f'M{at} {_HEIGHT}V'}{top:.1f}H{at + 1}")
        elif open_:
            path.append(f"V{_HEIGHT}z")
        open_ = bool(count)
    path.append(f"V{_HEIGHT}z" if open_ else "")
    return Markup(
        '<svg viewBox="0 0 {0} {1}" preserveAspectRatio="none" width="100%" height="{1}"><path class="bars" d="{2}"/></svg>'
        '<line class="base" x1="0" x2="100%" y1="{1}" y2="{1}"/>'
    ).format(BINS, _HEIGHT, "".join(path))


def _hanging(counts: npt.NDArray[np.int64], most: int) -> Markup:
    """Bars that hang from the line, on the scale of those that stand on it."""
    path = [
        f"M{at} 0V{_HANGING * (1 + math.log10(count)) / (1 + math.log10(max(most, 1))):.1f}h1V0z"
        for at, count in enumerate(counts.tolist())
        if count
    ]
    return Markup(
        '<svg y="{2}" viewBox="0 0 {0} {1}" preserveAspectRatio="none" width="100%" height="{1}">'
        '<path class="apart" d="{3}"/></svg>'
    ).format(BINS, _HANGING, _HEIGHT, "".join(path))


_SHAPES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.5-3.5h7v7h-7z",
    "triangle": "M0-4.5L4.5 3.5H-4.5z",
    "diamond": "M0-5L5 0L0 5L-5 0z",
}


def _mark(mark: Mark, axis: Axis, y: int) -> Markup:
    x = axis.at(mark.value)
    lines = Markup()
    if (mark.low, mark.high) != (None, None):
        for bound, edge in ((mark.low, 0.0), (mark.high, 100.0)):
            style, end = ("unbounded", edge) if bound is None else ("interval", axis.at(bound))
            lines += Markup('<line class="{0}" x1="{1:.2f}%" x2="{2:.2f}%" y1="{3}" y2="{3}"/>').format(
                style, x, end, y
            )
    return lines + Markup('<svg class="mark" x="{:.2f}%" y="{}"><path d="{}"/></svg>').format(x, y, _SHAPES[mark.shape])
