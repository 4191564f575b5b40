"""The percentile shift as inline SVG: by how much each percentile of the latency moved, with its interval.

As ``reports.plots``: positions are percentages or stretched, colours are the page's classes, and ``<desc>`` says the figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.records.comparison import Shift
from reports import words
from reports.comparison import as_percent

__all__ = ["KEY", "DrawnShift", "draw_shift"]

KEY = (
    "Across: the percentiles of the latency, from the fastest calls to the slowest. Line: new over base, less one; ● p50, ■ p95. "
    "Over the middle line the new side is slower. Filled: the interval of that percentile alone, between boot sessions; none "
    "where the base has a single one. Grey: the margin of p95. Drawn are the 1st to the 99th percentile of each launch, of all "
    "its measured requests; launches of a session are averaged."
)
_HEIGHT = 120
_LABELLED = (1, 25, 50, 75, 95)
_TOLD = (5, 25, 50, 75, 95, 99)
_MARKS = {50: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", 95: "M-3.5-3.5h7v7h-7z"}


@dataclass(frozen=True)
class DrawnShift:
    """A picture with what stands around it. ``top``, ``bottom``: the ends of its axis."""

    row: str
    model: str
    words: str
    svg: Markup
    axis: Markup
    top: str
    bottom: str


def draw_shift(row: str, shift: Shift) -> DrawnShift | None:
    """``None`` where no percentile has a value on both sides."""
    known = [value for value in shift.ratio if value is not None and 0 < value < math.inf]
    if not known:
        return None
    limit = math.log1p(max(shift.margin, 0.0)) or 1e-6
    bounds = [abs(math.log(value)) for value in (*shift.low, *shift.high) if value is not None and 0 < value < math.inf]
    most = max(abs(math.log(value)) for value in known)
    reach = max(2 * limit, 1.15 * most, min(1.05 * max(bounds, default=0.0), max(6 * limit, 2 * most)))
    told = f"{_in_words(shift)}. {_figures(shift)}"
    svg = Markup(
        '<svg class="shift" role="img" width="100%" height="{h}"><title>Percentile shift of {model} in {row}</title>'
        '<desc>{told}</desc><rect x="0" y="{y0:.1f}" width="100%" height="{across:.1f}" fill="var(--grid)"/>'
        '<svg viewBox="0 0 980 {h}0" preserveAspectRatio="none" width="100%" height="{h}"><path class="bars" d="{band}"/></svg>'
        '<line class="base" x1="0" x2="100%" y1="{mid}" y2="{mid}"/>'
        '<svg viewBox="0 0 980 {h}0" preserveAspectRatio="none" width="100%" height="{h}"><path class="median" d="{line}"/></svg>'
        "{marks}</svg>"
    ).format(
        h=_HEIGHT,
        model=shift.model,
        row=row,
        told=told,
        y0=_y(limit, reach) / 10,
        across=(_y(-limit, reach) - _y(limit, reach)) / 10,
        mid=_HEIGHT // 2,
        band=_band(shift, reach),
        line=_line(shift.percents, shift.ratio, reach),
        marks=Markup().join(_marks(shift, reach)),
    )
    ends = [f"{100 * math.expm1(end):+.2g} %" for end in (reach, -reach)]
    return DrawnShift(row, shift.model, f"{_in_words(shift)}; {_counts(shift)}", svg, _axis(shift), *ends)


def _x(percent: int) -> int:
    return 10 * (percent - 1)


def _y(log_ratio: float, reach: float) -> int:
    part = max(-1.0, min(1.0, log_ratio / reach))
    return round(10 * _HEIGHT * (0.5 - 0.5 * part))


def _runs(known: Sequence[bool]) -> Iterable[tuple[int, int]]:
    """First and last index of each unbroken stretch."""
    first = None
    for at, is_known in enumerate([*known, False]):
        if is_known and first is None:
            first = at
        elif not is_known and first is not None:
            yield first, at - 1
            first = None


def _line(percents: Sequence[int], ratios: Sequence[float | None], reach: float) -> str:
    points = [
        (percent, _y(math.log(value), reach)) if value else None
        for percent, value in zip(percents, ratios, strict=True)
    ]
    path = []
    for first, last in _runs([point is not None for point in points]):
        path += [
            f"{'M' if at == first else 'L'}{_x(point[0])} {point[1]}"
            for at, point in enumerate(points)
            if point is not None and first <= at <= last
        ]
    return "".join(path)


def _band(shift: Shift, reach: float) -> str:
    both = [
        (percent, _y(math.log(high), reach), _y(math.log(low), reach)) if low and high else None
        for percent, low, high in zip(shift.percents, shift.low, shift.high, strict=True)
    ]
    path = []
    for first, last in _runs([one is not None for one in both]):
        inside = [one for one in both[first : last + 1] if one is not None]
        there = "L".join(f"{_x(percent)} {top}" for percent, top, _ in inside)
        back = "L".join(f"{_x(percent)} {bottom}" for percent, _, bottom in reversed(inside))
        path.append(f"M{there}L{back}z")
    return "".join(path)


def _marks(shift: Shift, reach: float) -> Iterable[Markup]:
    for percent, value in zip(shift.percents, shift.ratio, strict=True):
        if percent in _MARKS and value:
            yield Markup('<svg class="mark" x="{:.2f}%" y="{:.1f}"><path d="{}"/></svg>').format(
                _x(percent) / 9.8, _y(math.log(value), reach) / 10, _MARKS[percent]
            )


def _axis(shift: Shift) -> Markup:
    texts = Markup()
    for percent in (one for one in _LABELLED if one in shift.percents):
        anchor = "start" if percent == 1 else "middle"
        texts += Markup('<text x="{:.2f}%" y="13" text-anchor="{}">{}</text>').format(
            _x(percent) / 9.8, anchor, f"p{percent}"
        )
    return Markup('<svg class="axis" aria-hidden="true" width="100%" height="18">{}</svg>').format(texts)


def _in_words(shift: Shift) -> str:
    """What a look at the picture tells."""
    logs = {p: math.log(value) for p, value in zip(shift.percents, shift.ratio, strict=True) if value}
    limit = math.log1p(max(shift.margin, 0.0))
    beyond = [p for p, value in logs.items() if abs(value) > limit]
    if not beyond:
        return "no percentile moved beyond the margin"
    body = [value for p, value in logs.items() if 10 <= p <= 75] or list(logs.values())
    tail = [value for p, value in logs.items() if p >= 95] or body
    middle, end = sum(body) / len(body), sum(tail) / len(tail)
    way = "slower" if max(logs.values(), key=abs) > 0 else "faster"
    if abs(middle) <= limit < abs(end):
        return f"the slow calls alone are {way} by more than the margin: p{min(beyond)} to p{max(beyond)}"
    if abs(end - middle) <= 0.5 * abs(middle):
        return f"all calls are {way}, by about as much"
    return f"calls are {way}, {'the slow ones more' if abs(end) > abs(middle) else 'the fast ones more'}"


def _figures(shift: Shift) -> str:
    told = []
    for percent, base, ratio, low, high in zip(
        shift.percents, shift.base_ns, shift.ratio, shift.low, shift.high, strict=True
    ):
        if percent in _TOLD and ratio:
            ends = "" if low is None or high is None else f" [{as_percent(low)}, {as_percent(high)}]"
            told.append(f"p{percent} {words.quantity(base, 'ns')} {as_percent(ratio)} %{ends}")
    return "; ".join(told)


def _counts(shift: Shift) -> str:
    sides = (("base", shift.base_requests, shift.base_sessions), ("new", shift.new_requests, shift.new_sessions))
    return ", ".join(
        f"{name} {requests:,} requests of {sessions} session{'' if sessions == 1 else 's'}"
        for name, requests, sessions in sides
    )
