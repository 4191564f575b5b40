"""Rows over time on one page without scripts, drawn from what `trigate history show --json` prints and from nothing else.

Every run is a mark while there are few; of many, time is cut into pieces and each drawn from its smallest to its largest, with
the median a line, so that no peak is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from harness.records import RecordError, from_json
from harness.records.history import HISTORY_SCHEMA, Series, Told
from reports import words
from reports.timeline import BINS, Lane, ends, into_bins

__all__ = [
    "about", "draw", "read", "render_html", "shift", "short", "steps_in_words", "summary", "title", "too_few",
    "write",
]  # fmt: skip

_HEIGHT = 150
_MOST_MARKS = 240
_MOST_ROWS = 60
_SHAPES: Mapping[str, str] = {
    "PASS": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "MEASURED": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "FAIL": "M-5-3.5L-3.5-5L0-1.5L3.5-5L5-3.5L1.5 0L5 3.5L3.5 5L0 1.5L-3.5 5L-5 3.5L-1.5 0z",
    "INCONCLUSIVE": "M0-5L5 0L0 5L-5 0z",
}
_FOREIGN = "M-4-4h8v8h-8z"


def read(value: Any) -> Told:
    """What the history says, whole or refused with a ``RecordError``."""
    schema = value.get("schema") if isinstance(value, Mapping) else None
    if not isinstance(schema, int):
        raise RecordError("this is not what `trigate history show --json` prints: it has no schema number.")
    if schema > HISTORY_SCHEMA:
        raise RecordError(
            f"this history has schema {schema}; this trigate draws up to {HISTORY_SCHEMA}: upgrade trigate."
        )
    return from_json(Told, dict(value))


def write(value: Any, out: Path) -> None:
    """Draw the page, put in place whole. Raises ``RecordError`` for what is no history, ``OSError`` for where it cannot be."""
    text = render_html(read(value))
    half = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        half.write_bytes(text.encode("utf-8", errors="replace"))
        half.replace(out)
    finally:
        half.unlink(missing_ok=True)


def render_html(told: Told) -> str:
    """One self-contained page without scripts."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else words.plain(str(value)),
    )
    environment.globals.update(
        about=about, draw=draw, failed=failed, most=_MOST_ROWS, pieces=BINS, scale=scale, short=short, spread=words.spread,
        steps_in_words=steps_in_words, thinned=is_thinned, title=title, too_few=too_few,
        version=told.trigate_version, DASH=words.DASH,
    )  # fmt: skip
    rows: dict[str, list[Series]] = {}
    for series in told.series:
        rows.setdefault(series.row, []).append(series)
    text: str = environment.get_template("history.html.j2").render(
        it=told,
        rows=rows,
        summary=summary(told.series),
        simulated=sum(bool(series.simulated) for series in told.series),
    )
    return text


# --- in words ------------------------------------------------------------------------------------------------------------


def title(figure: str) -> str:
    """A figure's name for people."""
    name, subject = words.figure_name(figure)
    return f"{name} ({subject})" if subject else name


def about(series: Series) -> str:
    """What all points of a series share."""
    return ", ".join(
        filter(
            None,
            [
                f"SIMULATED {series.simulated}" if series.simulated else "",
                f"measured by {series.source}" if series.source != "trigate" else "",
                series.machine,
                series.setting,
                series.boundary,
            ],
        )
    )


def short(run: str) -> str:
    """As much of a run's id as tells it from others: ours are random, an import's begins with where it is from."""
    return run if run.startswith("import-") else run[:12]


def shift(before: float, after: float) -> str:
    """``+8.1 %``, from twice on ``x 2.4``; a dash where there is no ratio."""
    if before <= 0 or after <= 0:
        return words.DASH
    ratio = after / before
    return f"{100 * (ratio - 1):+.1f} %" if 0.5 < ratio < 2 else f"x {words.figure(ratio)}"


def too_few(series: Series) -> str:
    """Why no step is told, where a series is too short to seek one; else empty."""
    count = len(series.points)
    if count >= series.sought_from:
        return ""
    return f"Too few runs to tell a step: {count}, and {series.sought_from} are needed."


def summary(some: Sequence[Series]) -> str:
    """What became of all series together, in a sentence."""
    short_ones = [one for one in some if too_few(one)]
    stepped = sum(bool(one.steps) for one in some)
    if some and len(short_ones) == len(some):
        most = max(len(one.points) for one in some)
        needed = min(one.sought_from for one in some)
        return f"Too few runs to tell a step: {most} at most, and {needed} are needed."
    have = "has" if len(short_ones) == 1 else "have"
    rest = f" {len(short_ones)} of them {have} too few runs to tell." if short_ones else ""
    return (f"{stepped} of {len(some)} series stepped." if stepped else "No series stepped.") + rest


def steps_in_words(series: Series) -> list[str]:
    """A sentence for each step."""
    told = []
    for step in series.steps:
        change = shift(step.before, step.after)
        medians = (
            f"median {words.quantity(step.before, series.unit)} before, {words.quantity(step.after, series.unit)} after"
        )
        began = step.started_at[:16].replace("T", " ")
        changed = f"; with it changed: {', '.join(step.changed)}" if step.changed else "; no fact changed near it"
        told.append(f"From run {short(step.run)} ({began}) on {change}: {medians}{changed}.")
    return told


# --- the picture -----------------------------------------------------------------------------------------------------------


def scale(series: Series) -> tuple[str, str]:
    """What stands at the upper and the lower end of the picture."""
    low, high = _ends(series)
    return words.quantity(high, series.unit), words.quantity(low, series.unit)


def draw(series: Series) -> Markup:
    """The picture of a series: runs from left to right in their order, the level of each stretch a line, each step marked."""
    low, high = _ends(series)
    count = len(series.points)

    def x(at: float) -> float:
        return round(100 * (at + 0.5) / count, 3)

    def y(value: float) -> float:
        return round(_HEIGHT * (1 - (value - low) / (high - low)), 1)

    drawn = _envelope(series, y) if is_thinned(series) else _marks(series, x, y)
    edges = [0, *(step.at for step in series.steps), count]
    for begin, end in pairwise(edges) if series.steps else ():
        level = y(float(np.median([one.value for one in series.points[begin:end]])))
        drawn += Markup('<line class="level" x1="{0}%" x2="{1}%" y1="{2}" y2="{2}"/>').format(
            x(begin - 0.5), x(end - 0.5), level
        )
    for number, step in enumerate(series.steps, 1):
        place = x(step.at - 0.5)
        side = "end" if place > 85 else "middle" if place > 15 else "start"
        drawn += Markup(
            '<line class="step" x1="{0}%" x2="{0}%" y1="0" y2="{1}"/>'
            '<text class="step" x="{0}%" y="-4" text-anchor="{2}">{3}</text>'
        ).format(place, _HEIGHT, side, number if len(series.steps) > 1 else shift(step.before, step.after))
    values = [one.value for one in series.points]
    middle = words.quantity(float(np.median(values)), series.unit)
    told = f"{count} run{'' if count == 1 else 's'}, {words.quantity(min(values), series.unit)} to "
    told += f"{words.quantity(max(values), series.unit)}, median {middle}. "
    told += " ".join(steps_in_words(series)) or too_few(series) or "No step."
    return Markup(
        '<svg class="lane history" role="img" width="100%" height="{}"><title>{}</title><desc>{}</desc>'
        '<line class="grid" x1="0" x2="100%" y1="0" y2="0"/><line class="base" x1="0" x2="100%" y1="{}" y2="{}"/>{}</svg>'
    ).format(
        _HEIGHT, words.plain(f"{title(series.figure)} of {series.row}"), words.plain(told), _HEIGHT, _HEIGHT, drawn
    )


def _ends(series: Series) -> tuple[float, float]:
    values = np.array([one.value for one in series.points])
    return ends(Lane("", into_bins(np.arange(values.size, dtype=np.float64), values, max(values.size, 1.0)), ""))


def _marks(series: Series, x: Callable[[float], float], y: Callable[[float], float]) -> Markup:
    marks = Markup()
    for at, point in enumerate(series.points):
        shape = _FOREIGN if point.mark else _SHAPES.get(point.outcome, _SHAPES["MEASURED"])
        kind = "hollow" if point.mark or point.incomplete else "full"
        marks += Markup('<svg class="mark {}" x="{}%" y="{}"><path d="{}"/></svg>').format(
            kind, x(at), y(point.value), shape
        )
    return marks


def _envelope(series: Series, y: Callable[[float], float]) -> Markup:
    """Of many runs: each piece from its smallest to its largest, and the median."""
    values = np.array([one.value for one in series.points])
    bins = into_bins(np.arange(values.size, dtype=np.float64), values, float(values.size))
    bars, line = list[str](), list[str]()
    for at in range(BINS):
        if np.isfinite(bins.middle[at]):
            top, bottom = y(bins.high[at]), y(bins.low[at])
            bars.append(f"M{at} {min(top, bottom - 0.8):g}H{at + 1}V{bottom:g}H{at}z")
            line.append(f"{'L' if line else 'M'}{at + 0.5} {y(bins.middle[at]):g}")
    return Markup(
        '<svg viewBox="0 0 {0} {1}" preserveAspectRatio="none" width="100%" height="{1}"><path class="bars" d="{2}"/>'
        '<path class="median" d="{3}"/></svg>'
    ).format(BINS, _HEIGHT, "".join(bars), "".join(line))


def failed(series: Series) -> int:
    """How many of its rows did: where runs are drawn in pieces, no mark tells."""
    return sum(point.outcome == "FAIL" for point in series.points)


def is_thinned(series: Series) -> bool:
    """Whether its runs are drawn in pieces."""
    return len(series.points) > _MOST_MARKS
