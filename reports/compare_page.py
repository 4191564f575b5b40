"""The bump on one page: ``compare.html`` and ``compare.md``, drawn from a written ``compare.json`` and nothing else."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from harness.records.comparison import Change, Comparison, Decision, Difference, Foremost, RowChange, Standing
from reports import words
from reports.compare_glance import COLUMNS, GRAVITY, QUIET, Cell, Line, glance
from reports.comparison import as_percent, read
from reports.shift_plot import KEY, DrawnShift, draw_shift

__all__ = ["read", "render_html", "render_markdown", "write"]

_SYMBOLS: Mapping[Standing, tuple[str, str]] = {
    Standing.BROKE: ("✗", "fail"),
    Standing.WORSE: ("✗", "fail"),
    Standing.MISSING: ("○", "not_run"),
    Standing.OPEN: ("?", "inconclusive"),
    Standing.STARTED: ("✓", "pass"),
    Standing.CHANGED: ("≠", "measured"),
    Standing.UNKNOWN: ("○", "not_run"),
    Standing.BETTER: ("✓", "pass"),
    Standing.NOT_WORSE: ("✓", "pass"),
    Standing.SAME: ("=", "pass"),
}
"""Beside the word, so that nothing is told by colour alone; and the class of its badge."""

_MEANINGS: Mapping[Standing, str] = {
    Standing.BROKE: "It ran, or kept its limit, on the base's side, and does not now.",
    Standing.WORSE: "More than the base: the interval excludes no change (Holm, over all rows), and what was found exceeds the "
    "margin.",
    Standing.MISSING: "The base has a row that the new side does not: not installed, not run, not reached, or not planned.",
    Standing.OPEN: "The sessions do not decide on the margin; what would, stands beside it.",
    Standing.STARTED: "It broke, or was not installed, on the base's side, and works now.",
    Standing.CHANGED: "It is not what it was, and nothing says that this is worse: for who decides to look at.",
    Standing.UNKNOWN: "The run folders do not hold it on both sides.",
    Standing.BETTER: "Less than the base: the interval excludes no change, and what was found is beyond the margin.",
    Standing.NOT_WORSE: "Not more than the base by the margin; how much less is open.",
    Standing.SAME: "Within the margin on both sides, by its whole interval; or what is counted, and equal.",
}

_ESTIMATOR = (
    "Base and New: the geometric mean over boot sessions, in each over its launches, of each launch's own figure (interleaved "
    "pairs: over the pairs that were judged). Shift: the ratio of the two, less one, with its interval."
)
_POOLED = "The report of a run pools the calls of all launches instead, so that its percentiles may be others."

_LIMIT = 60_000
_MOST_ROWS = 300
"""Rows that are told in full on the page; the rest are counted, and are in ``compare.json``."""

_MOST_FACTS = 40
_MOST_PLOTS = 60
"""Percentile shifts that are drawn; the rest are in ``compare.json``."""

_MOST_LINES = 60
_MOST_LAYERS = 20
"""Layers of a row that are named on the page."""

_CHANGED = ("", "Row", "Figure", "Base", "New", "Shift", "Cause")
_FIRST = (Standing.BROKE, Standing.MISSING, Standing.STARTED)
_HEADERS = {Decision.ADOPT: "pass", Decision.HOLD: "fail"}
_WIDTH, _HEIGHT = 150, 14


def write(folder: Path) -> list[Path]:
    """Draw ``compare.html`` and ``compare.md`` beside ``compare.json``; returns their paths, each put in place whole.

    Raises ``RecordError`` for what is no comparison, ``OSError`` where the folder cannot be written.
    """
    comparison = read(folder / "compare.json")
    texts = {"compare.html": render_html(comparison), "compare.md": render_markdown(comparison)}
    paths = []
    for name, text in texts.items():
        half = folder / f".{name}.{os.getpid()}.tmp"
        try:
            half.write_bytes(text.encode("utf-8", errors="replace"))
            half.replace(folder / name)
        finally:
            half.unlink(missing_ok=True)
        paths.append(folder / name)
    return paths


# --- what both forms show ---------------------------------------------------------------------------------------------


def shifted(change: Change) -> str:
    """``+19.7 % [+18.8, +20.6]``, or that nothing gives its interval."""
    if change.ratio is None:
        return words.DASH
    shift = f"{as_percent(change.ratio)} %"
    if change.margin is None:
        return shift
    if change.low is None or change.high is None:
        return f"{shift} (interval not known)"
    return f"{shift} [{as_percent(change.low)}, {as_percent(change.high)}]"


def figure(change: Change, value: float | None) -> str:
    """A side's figure with its unit."""
    return words.quantity(value, change.unit) if change.unit else words.DASH


def telling(row: RowChange) -> list[Change]:
    """What a row has to say: all but what is the same or not known."""
    return [change for change in row.changes if change.standing not in QUIET]


def _changed(rows: Iterable[RowChange]) -> list[RowChange]:
    return [row for row in rows if row.standing not in _FIRST and (row.standing not in QUIET or telling(row))]


def _because(row: RowChange) -> str:
    """The class of cause, and what tells it."""
    why = next(
        (one.why for one in row.changes if one.cause == row.cause and one.why and one.standing == row.standing), ""
    )
    return f"{row.cause}: {why}" if row.cause and why else row.cause


# --- HTML --------------------------------------------------------------------------------------------------------------


def render_html(comparison: Comparison) -> str:
    """One self-contained page without scripts."""
    first = [row for row in comparison.rows if row.standing in _FIRST]
    changed = _changed(comparison.rows)
    loud = {row.id for row in (*first, *changed)}
    quiet = [row for row in comparison.rows if row.id not in loud]
    told = [*first, *changed][:_MOST_ROWS]
    lines, (shifts, shifts_left_out) = glance(comparison.rows), _shifts(comparison.rows)
    detailed = [row for row in [*told, *quiet[: _MOST_ROWS - len(told)]] if row.changes]
    text: str = (
        _templates()
        .get_template("compare.html.j2")
        .render(
            it=comparison,
            told=comparison.words.removeprefix(f"{comparison.decision}: "),
            header=_HEADERS.get(comparison.decision, "open"),
            first=told[: len(first)],
            changed=told[len(first) :],
            left_out=max(0, len(first) + len(changed) - len(told)),
            quiet=quiet[:_MOST_ROWS],
            quiet_left_out=max(0, len(quiet) - _MOST_ROWS),
            lines=lines[:_MOST_ROWS],
            lines_left_out=max(0, len(lines) - _MOST_ROWS),
            columns=[(name, title) for name, title in COLUMNS.items() if any(name in line.cells for line in lines)],
            shifts=shifts,
            shifts_left_out=shifts_left_out,
            shift_key=KEY,
            layered=[row for row in told if row.layers is not None and _has_layers_to_tell(row)],
            version=comparison.trigate_version,
            detailed=detailed,
            anchors={row.id: f"row-{at}" for at, row in enumerate(detailed, 1)},
            simulated=sum(row.simulated for row in comparison.rows),
            tally=_tally(comparison.rows),
            meanings=_MEANINGS,
            estimator=f"{_ESTIMATOR} {_POOLED}",
        )
    )
    return text


def _shifts(rows: Sequence[RowChange]) -> tuple[list[DrawnShift], int]:
    """The percentile shifts, the furthest first, and how many are not drawn."""
    told = [(row, shift) for row in rows for shift in row.shifts]
    told.sort(key=lambda one: -max((abs(math.log(value)) for value in one[1].ratio if value), default=0.0))
    drawn = (draw_shift(row.id, shift) for row, shift in told[:_MOST_PLOTS])
    return [one for one in drawn if one is not None], max(0, len(told) - _MOST_PLOTS)


def _has_layers_to_tell(row: RowChange) -> bool:
    layers = row.layers
    return layers is not None and bool(
        layers.changed_count or layers.moved_count or layers.base != layers.new or layers.unmatched
    )


def cell(of: Cell) -> Markup:
    """A cell of the table at a glance: symbol and few words, so that nothing is told by colour alone."""
    symbol, kind = _SYMBOLS[of.standing]
    return Markup(
        '<span class="standing {}"><span aria-hidden="true">{}</span><span class="sr">{}: </span>&nbsp;{}</span>'
    ).format(kind, symbol, words.plain(of.standing), words.plain(_with_others(of)))


def _with_others(of: Cell) -> str:
    return f"{of.text}, and {of.others} more" if of.others else of.text


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else words.plain(str(value)),
    )
    environment.globals.update(
        badge=badge, bar=bar, cell=cell, because=_because, duration=words.duration, figure=figure, shifted=shifted,
        telling=telling, DASH=words.DASH, most_layers=_MOST_LAYERS,
    )  # fmt: skip
    return environment


def badge(standing: Standing) -> Markup:
    """How something stands, as symbol and word."""
    symbol, kind = _SYMBOLS[standing]
    return Markup('<span class="badge {}"><span aria-hidden="true">{}</span>&nbsp;{}</span>').format(
        kind, symbol, words.plain(standing)
    )


def bar(change: Change) -> Markup:
    """The shift with its interval beside the margin; in logarithms, so that twice and half lie equally far from no change."""
    if change.ratio is None or change.margin is None or not change.is_judged or change.ratio <= 0:
        return Markup("")
    limit = math.log1p(change.margin)
    known = [math.log(value) for value in (change.ratio, change.low, change.high) if value is not None and value > 0]
    reach = max(2 * limit, 1.15 * max(map(abs, known)))

    def x(value: float) -> float:
        return round(_WIDTH * (0.5 + 0.5 * max(-1.0, min(1.0, value / reach))), 1)

    low, high = (
        None if bound is None or bound <= 0 else math.log(bound) for bound in (change.low, change.high)
    )  # fmt: skip
    is_bounded = low is not None and high is not None
    begin, end = x(-reach if low is None else low), x(reach if high is None else high)
    return Markup(
        '<svg width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">'
        '<rect x="{left}" y="0" width="{across}" height="{h}" fill="var(--grid)"/>'
        '<line class="base" x1="{zero}" y1="0" x2="{zero}" y2="{h}"/>'
        '<line class="{kind}" x1="{begin}" y1="{mid}" x2="{end}" y2="{mid}"/>'
        '<g class="mark"><path d="M{at} {top}l4 4l-4 4l-4 -4z"/></g></svg>'
    ).format(
        w=_WIDTH,
        h=_HEIGHT,
        label=f"{shifted(change)}; the margin is {100 * change.margin:g} % either way",
        left=x(-limit),
        across=round(x(limit) - x(-limit), 1),
        zero=x(0.0),
        kind="interval" if is_bounded else "unbounded",
        begin=begin,
        end=end,
        mid=_HEIGHT // 2,
        at=x(math.log(change.ratio)),
        top=_HEIGHT // 2 - 4,
    )


def _tally(rows: Sequence[RowChange]) -> dict[Standing, int]:
    counts = Counter(row.standing for row in rows)
    return {standing: counts[standing] for standing in GRAVITY if counts[standing]}


# --- Markdown ------------------------------------------------------------------------------------------------------------


def render_markdown(comparison: Comparison) -> str:
    """A comment on a pull request: the decision, what changed, and why. The gravest rows are the last to be left out."""
    most, lines = 1024, glance(comparison.rows)
    text = _draw(comparison, lines, most)
    while len(text) > _LIMIT and most > 1:
        most //= 2
        text = _draw(comparison, lines, most)
    if len(text) <= _LIMIT:
        return text
    whole = text[:_LIMIT].rpartition("\n")[0]
    return f"{whole}\n\n**Cut here, at what a pull request takes; all of it is in `compare.html`.**\n"


def _draw(comparison: Comparison, lines: Sequence[Line], most: int) -> str:
    first = [row for row in comparison.rows if row.standing in _FIRST]
    changed = _changed(comparison.rows)
    pairs = [(row, one) for row in changed for one in telling(row)]
    alike = len(comparison.rows) - len(first) - len(changed)
    simulated = sum(row.simulated for row in comparison.rows)
    columns = {name: title for name, title in COLUMNS.items() if any(name in line.cells for line in lines)}
    parts = [
        f"## trigate compare: {_text(comparison.decision)}",
        f"**{_text(comparison.words, 2000)}** (exit code {comparison.exit_code})",
        f"**{simulated} of {len(comparison.rows)} rows are SIMULATED and are no evidence.**" if simulated else "",
        "### What matters most" if comparison.foremost else "",
        "\n".join(_foremost(at, one) for at, one in enumerate(comparison.foremost, 1)),
        "### What would decide" if comparison.to_do else "",
        "\n".join(f"- {_text(words_, 600)}" for words_ in comparison.to_do[:most]),
        _table("What was bumped", ("", "Base", "New"), [_difference(one) for one in comparison.versions]),
        _table(
            "Stopped or started working",
            ("", "Row", "What", "Cause"),
            [(_mark(row.standing), _text(row.id), _text(row.words), _text(_because(row))) for row in first[:most]],
            len(first) - most,
        ),
        _table(
            "Model by model",
            ("", "Model, runtime, precision", *columns.values()),
            [_line(line, columns) for line in lines[: min(most, _MOST_LINES)]],
            len(lines) - min(most, _MOST_LINES),
        ),
        _table("Changed", _CHANGED, [_change(row, one) for row, one in pairs[:most]], len(pairs) - most),
        f"{_ESTIMATOR} {_POOLED}" if pairs else "",
        f"The same, or told by one side alone: {alike} of {len(comparison.rows)} rows; all are in `compare.html`."
        if alike
        else "",
        _table(
            "Environment",
            ("", "Base", "New"),
            [_difference(one) for one in comparison.environment[:_MOST_FACTS]],
            len(comparison.environment) - _MOST_FACTS,
        ),
        "### What this cannot tell" if comparison.caveats else "",
        "\n".join(f"- {_text(words_, 600)}" for words_ in comparison.caveats[:most]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _foremost(at: int, one: Foremost) -> str:
    more = f" and {one.others} more {'rows' if one.others > 1 else 'row'}" if one.others else ""
    cause = f" Cause: {_text(f'{one.cause}: {one.why}' if one.why else one.cause)}." if one.cause else ""
    return f"{at}. **{_mark(one.standing)}** {_text(one.row)}{more}: {_text(one.words, 400).rstrip('.')}.{cause}"


def _line(line: Line, columns: Mapping[str, str]) -> Sequence[str]:
    cells = (line.cells.get(name) for name in columns)
    told = [words.DASH if one is None else f"{_SYMBOLS[one.standing][0]} {_text(_with_others(one))}" for one in cells]
    return _mark(line.standing), _text(line.name), *told


def _change(row: RowChange, one: Change) -> Sequence[str]:
    return (
        _mark(one.standing),
        _text(row.id),
        _text(one.name),
        _text(figure(one, one.base)),
        _text(figure(one, one.new)),
        shifted(one) if one.ratio is not None else _text(one.words),
        _text(f"{one.cause}: {one.why}" if one.why else one.cause),
    )


def _difference(one: Difference) -> Sequence[str]:
    return _text(one.name), _text(one.base), _text(one.new)


def _mark(standing: Standing) -> str:
    return f"{_SYMBOLS[standing][0]} {_text(standing)}"


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], more: int = 0) -> str:
    if not rows:
        return ""
    left_out = f"\n\n{more} more are in `compare.html`." if more > 0 else ""
    lines = (headings, ["---"] * len(headings), *rows)
    return f"### {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + left_out


def _text(text: str, most: int = 240) -> str:
    """Text from a run, so that nothing in it is markup, pings a person or links an issue."""
    shown = " ".join(words.plain(text).split())
    shown = shown if len(shown) <= most else f"{shown[: most - 1]}…"
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", shown)
    return re.sub(r"([@#])(?=\w)", "\\1\u2060", shown)
