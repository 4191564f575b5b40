"""What happened when: lanes over one time axis, as inline SVG in the page's own colours.

Time is cut into ``BINS`` equal pieces, and of each the smallest, the median and the largest value are drawn, so that no
peak is lost however many samples there are. Positions are percentages or stretched; text stands beside the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

__all__ = ["BINS", "Bins", "Clock", "Lane", "Rug", "draw_axis", "draw_lane", "draw_rug", "ends", "into_bins", "when"]

BINS = 160
"""Of the time axis."""

_HEIGHT = 56

Vector = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Truth = npt.NDArray[np.bool_]
Tenths = npt.NDArray[np.int64]
"""Of a pixel, from the top: whole numbers, so that a path is short."""


@dataclass(frozen=True)
class Clock:
    """The time of several launches on one axis, one after the other. ``spans_ns``: first and last moment by launch."""

    spans_ns: dict[int, tuple[int, int]]

    @property
    def starts_s(self) -> dict[int, float]:
        """Where each launch begins on the axis."""
        starts, at = {}, 0.0
        for launch, (first, last) in self.spans_ns.items():
            starts[launch], at = at, at + (last - first) / 1e9
        return starts

    @property
    def length_s(self) -> float:
        """Of the whole axis."""
        return max(sum(last - first for first, last in self.spans_ns.values()) / 1e9, 1e-9)

    def at_s(self, launch: Whole, at_ns: Whole) -> Vector:
        """Where moments of launches stand on the axis, in seconds."""
        at = np.zeros(len(at_ns))
        for number, start_s in self.starts_s.items():
            own = launch == number
            at[own] = start_s + (at_ns[own] - self.spans_ns[number][0]) / 1e9
        return at


@dataclass(frozen=True)
class Bins:
    """The smallest, the median and the largest value of each piece of time, NaN where there is none. float64 [BINS]."""

    low: Vector
    middle: Vector
    high: Vector


@dataclass(frozen=True)
class Lane:
    """One value over time. ``limit``: a line across, as a budget. ``is_log``: of the vertical axis. ``words``: for all."""

    title: str
    bins: Bins
    words: str
    limit: float | None = None
    is_log: bool = False


@dataclass(frozen=True)
class Rug:
    """When something was so: a bool per piece of time. ``is_loud``: it is nothing good."""

    title: str
    bins: Truth
    words: str
    is_loud: bool = False


def into_bins(at_s: Vector, values: Vector, length_s: float) -> Bins:
    """Thin values over time; what is not finite is left out."""
    kept = np.isfinite(values)
    ordered, place = values[kept], _pieces(at_s[kept], length_s)
    by_value = np.argsort(ordered)
    order = by_value[
        np.argsort(place[by_value], kind="stable")
    ]  # 16 bits are sorted in one pass: twice as fast as lexsort
    ordered, place = ordered[order], place[order]
    firsts, ends = np.searchsorted(place, np.arange(BINS)), np.searchsorted(place, np.arange(BINS), "right")
    filled = ends > firsts
    low, middle, high = (np.full(BINS, math.nan) for _ in range(3))
    low[filled], high[filled] = ordered[firsts[filled]], ordered[ends[filled] - 1]
    middle[filled] = (ordered[(firsts + ends - 1)[filled] // 2] + ordered[(firsts + ends)[filled] // 2]) / 2
    return Bins(low, middle, high)


def when(at_s: Vector, length_s: float) -> Truth:
    """The pieces of time in which one of these moments lies. bool [BINS]."""
    filled: Truth = np.bincount(_pieces(at_s, length_s), minlength=BINS) > 0
    return filled


def _pieces(at_s: Vector, length_s: float) -> npt.NDArray[np.int16]:
    return np.clip(at_s / length_s * BINS, 0, BINS - 1).astype(np.int16)


def ends(lane: Lane) -> tuple[float, float]:
    """Round ends of a lane's vertical axis, which hold every value and the limit."""
    low, high = float(np.nanmin(lane.bins.low)), float(np.nanmax(lane.bins.high))
    if lane.limit is not None:
        low, high = min(low, lane.limit), max(high, lane.limit)
    if lane.is_log and low > 0:
        return _round_log(low, up=False), _round_log(high, up=True)
    room = max(high - low, 0.05 * abs(high), 1e-12)
    step = 10.0 ** math.floor(math.log10(room))
    step *= next(part for part in (0.2, 0.5, 1.0, 2.0) if room / (step * part) <= 6)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return (low, high) if high > low else (low - step, high + step)


def draw_lane(lane: Lane) -> Markup:
    """The picture of a lane: between smallest and largest filled, the median a line. Empty where it has no value."""
    if not np.isfinite(lane.bins.middle).any():
        return Markup()
    low, high = ends(lane)
    use_log = lane.is_log and low > 0

    def y(values: Vector) -> Tenths:
        scaled, end = (
            (np.log(np.maximum(values, low) / low), math.log(high / low)) if use_log else (values - low, high - low)
        )
        part = scaled / end
        return np.rint(10 * _HEIGHT * (1 - part)).astype(np.int64)

    envelope, line = [], []
    for first, last in _runs(np.isfinite(lane.bins.middle)):
        tops, middles, bottoms = (y(side[first:last]) for side in (lane.bins.high, lane.bins.middle, lane.bins.low))
        tops = np.minimum(tops, bottoms - 8)
        envelope.append(f"M{first} {tops[0]}{_steps(tops)}V{bottoms[-1]}{_steps(bottoms, back=True)}z")
        line.append(f"M{first} {middles[0]}{_steps(middles)}")
    limit = ""
    if lane.limit is not None:
        limit = Markup('<line class="limit" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(
            f"{y(np.array([lane.limit]))[0] / 10:g}"
        )
    return Markup(
        '<svg class="lane" role="img" width="100%" height="{1}"><title>{2}</title><desc>{3}</desc>'
        '<line class="grid" x1="0" x2="100%" y1="0" y2="0"/><line class="base" x1="0" x2="100%" y1="{1}" y2="{1}"/>'
        '<svg viewBox="0 0 {0} {1}0" preserveAspectRatio="none" width="100%" height="{1}">'
        '<path class="bars" d="{4}"/><path class="median" d="{5}"/></svg>{6}</svg>'
    ).format(BINS, _HEIGHT, lane.title, lane.words, "".join(envelope), "".join(line), limit)


def draw_rug(rug: Rug) -> Markup:
    """A strip with a block wherever it was so."""
    path = "".join(f"M{first} 0H{last}V1H{first}z" for first, last in _runs(rug.bins))
    return Markup(
        '<svg class="rug" role="img" width="100%" height="10"><title>{}</title><desc>{}</desc>'
        '<line class="base" x1="0" x2="100%" y1="10" y2="10"/>'
        '<svg viewBox="0 0 {} 1" preserveAspectRatio="none" width="100%" height="9"><path class="{}" d="{}"/></svg></svg>'
    ).format(rug.title, rug.words, BINS, "apart" if rug.is_loud else "bars", path)


def draw_axis(clock: Clock, label: Callable[[float], str]) -> Markup:
    """Round times under the lanes, and a tick where each further launch begins."""
    length, marks = clock.length_s, Markup()
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
    step = next((step for step in steps if length / step <= 5), length)
    for at in np.arange(0.0, length, step):
        x = 100 * at / length
        anchor = "start" if x < 4 else "end" if x > 94 else "middle"
        marks += Markup('<text x="{:.2f}%" y="15" text-anchor="{}">{}</text>').format(x, anchor, label(float(at)))
        marks += Markup('<line class="base" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="3"/>').format(x)
    for start in list(clock.starts_s.values())[1:]:
        x = 100 * start / length
        marks += Markup('<line class="limit" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="6"/>').format(x)
    return Markup('<svg class="axis" aria-hidden="true" width="100%" height="20">{}</svg>').format(marks)


def _steps(heights: Tenths, *, back: bool = False) -> str:
    """From piece to piece along heights, each stretch and each step said by how far it goes: a third of the text."""
    ordered = heights[::-1] if back else heights
    turns = np.flatnonzero(np.diff(ordered)) + 1
    lengths = np.diff(np.concatenate(([0], turns, [len(ordered)]))) * (-1 if back else 1)
    rises = np.diff(ordered)[turns - 1]
    steps = (f"h{length}v{rise}" for length, rise in zip(lengths.tolist(), rises.tolist(), strict=False))
    return f"{''.join(steps)}h{lengths[-1]}"


def _runs(filled: Truth) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], filled, [False])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _round_log(value: float, *, up: bool) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    choices = [decade * part for part in (1, 2, 5, 10)]
    return min(c for c in choices if c >= value * 0.999) if up else max(c for c in choices if c <= value * 1.001)
