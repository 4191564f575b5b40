"""The tables of the page: which columns of which DataFrame a person sees, and in which words."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd
from markupsafe import Markup

from harness.records import Check, Outcome, Verdict
from reports import words
from reports.ranking import nearest

__all__ = [
    "About",
    "Finding",
    "Table",
    "about_runtimes",
    "badge",
    "board",
    "coverage",
    "facts",
    "findings",
    "glance",
    "lane_and_kind",
    "lanes",
    "latency",
    "not_run",
    "pairs",
    "parity",
    "task",
]

T = TypeVar("T")
Cell = str | Markup
Anchors = Mapping[str, str]
Columns = Mapping[str, Callable[[T], Cell]]
Line = Mapping[str, Any]
"""A line of a DataFrame."""


@dataclass(frozen=True)
class Table:
    """One HTML table. ``numeric``: the headings whose columns are set flush right. ``notes``: lines under it."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[str] = frozenset()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Finding:
    """What T1-02 found for one row."""

    lane: str
    layers: Table
    smallest_input: str
    reproduce: str
    keep_fp32: str
    notes: str


def badge(outcome: Outcome) -> Markup:
    """A verdict as symbol and word."""
    return Markup('<span class="badge {}"><span aria-hidden="true">{}</span>&nbsp;{}</span>').format(
        outcome.name.lower(), words.SYMBOLS[outcome], outcome.value
    )


def _symbol(outcome: Outcome) -> Markup:
    """A verdict as its symbol, where a column of words would be too wide; the word is there for who cannot see it."""
    return Markup(
        '<span class="badge {}" title="{}"><span aria-hidden="true">{}</span><span class="sr">{}</span></span>'
    ).format(outcome.name.lower(), outcome.value, words.SYMBOLS[outcome], outcome.value)


def lane_and_kind(row: Verdict) -> str:
    """A row's lane, with its kind where that is not parity."""
    name = words.lane(row.case, row.summary.measurement.lane_name)
    return name if row.case.kind == "parity" else f"{name} ({row.case.kind})"


def glance(rows: Sequence[Verdict], models: Anchors, anchors: Anchors) -> Table:
    """Model by lane, each verdict a link to its row. ``models``: model to the anchor of its section."""
    cells: dict[tuple[str, str], list[Markup]] = {}
    for row in rows:
        if row.case.kind in ("build", "parity", "latency"):
            link = Markup('<a href="#{}">{}</a>').format(anchors[row.case.id], badge(row.outcome)) + _doubt(row)
            heading = words.lane(row.case) + ("" if row.case.kind == "parity" else f", {row.case.kind}")
            cells.setdefault((row.case.model, heading), []).append(link)
    columns: dict[str, Callable[[str], Cell]] = {
        "Model": lambda model: Markup('<a href="#{}"><bdi>{}</bdi></a>').format(models[model], words.plain(model))
    }
    for name in dict.fromkeys(heading for _, heading in cells):
        columns[name] = lambda model, name=name: Markup(" ").join(cells.get((model, name), ())) or words.DASH  # type: ignore[misc] # bound default
    return _table("Builds, parity and latency at a glance. Every verdict leads to its row.", columns, models)


def lanes(rows: Iterable[Verdict], anchors: Anchors) -> Table:
    """The rows that are judged by what they compute."""
    columns: Columns[Verdict] = {
        "Lane": lambda row: _isolated(lane_and_kind(row)),
        "Verdict": lambda row: _marked(row, anchors),
        "Ran on": lambda row: row.summary.measurement.placement or words.DASH,
        "Precision": _precision,
        "Witness": _witness,
        "Of its tolerance": _nearest,
        "Why": _why,
    }
    return _table(
        "Lanes: where each row ran, what it computed in, and its verdict", columns, rows, numeric={"Of its tolerance"}
    )


@dataclass(frozen=True)
class About:
    """The section of one kind of row about runtimes: the rows, every check of every runtime, and what was seen."""

    title: str
    intro: str
    anchor: str
    rows: Table
    checks: Table
    seen: Table


def about_runtimes(kind: str, rows: Sequence[Verdict], anchors: Anchors) -> About:
    """``rows``: those of the kind."""
    title, intro = words.ABOUT.get(kind, (kind.capitalize(), ""))
    columns: Columns[Verdict] = {
        "Runtime": lambda row: _isolated(words.lane(row.case)),
        "Verdict": lambda row: _marked(row, anchors),
        "Ran on": lambda row: row.summary.measurement.placement or words.DASH,
        "Why": _why,
    }
    known = {check.name: check.means for row in rows for check in row.checks}
    found = {(row.case.id, check.name): check for row in rows for check in row.checks}
    judged = [row for row in rows if row.checks]
    matrix: dict[str, Callable[[str], Cell]] = {
        "Clause": _isolated,
        "When it is broken": lambda name: known[name] or words.DASH,
    }
    for row in judged:
        matrix[words.subject(row.case)] = lambda name, row=row: (  # type: ignore[misc] # bound default
            _symbol(found[row.case.id, name].outcome) if (row.case.id, name) in found else words.DASH
        )
    telling = [(row, check) for row in judged for check in row.checks if check.outcome is not Outcome.PASS]
    told: Columns[tuple[Verdict, Check]] = {
        "Clause": lambda item: _isolated(item[1].name),
        "Runtime": lambda item: _isolated(words.subject(item[0].case)),
        "Verdict": lambda item: badge(item[1].outcome),
        "What was seen": lambda item: item[1].reason,
    }
    return About(
        title,
        intro,
        f"about-{kind}",
        _table("Runtimes", columns, rows),
        _table("Every clause, and who keeps it", matrix, known),
        _table("Clauses that do not hold, or were not run", told, telling),
    )


_PARITY: Columns[Line] = {
    "Output": lambda row: (
        _isolated(row["output"]) + Markup(" <small>{} {}</small>").format(words.plain(row["dtype"]), row["shape"])
    ),
    "Lane": lambda row: _isolated(row["lane"] if row["kind"] == "parity" else f"{row['lane']} ({row['kind']})"),
    "Verdict": lambda row: badge(Outcome(row["output_outcome"])) if row["output_outcome"] else words.DASH,
    "Worst rel. L2": lambda row: _against_limit(row["rel_l2_max"], row["tolerance_max"], row["tolerance_source"]),
    "Median rel. L2": lambda row: _against_limit(
        row["rel_l2_median"], row["tolerance_median"], row["tolerance_source"]
    ),
    "Max abs, at": lambda row: ", ".join(filter(None, (words.figure(row["max_abs"]), row["max_abs_at"]))),
    "Max rel": lambda row: words.figure(row["max_rel"]),
    "Cosine": lambda row: words.similarity(row["cosine_min"]),
    "SQNR": lambda row: words.DASH if _absent(row["sqnr_db"]) else f"{words.figure(row['sqnr_db'])} dB",
    "NaN, Inf": lambda row: f"{row['nan']}, {row['inf']}",
}


def parity(frame: pd.DataFrame) -> Table:
    """Every output against the reference, with its tolerance and where that comes from."""
    rows = _records(frame)
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["tolerance_why"]:
            reasons.setdefault(f"{row['tolerance_source']}: {row['tolerance_why']}", {})[row["output"]] = None
    return _table(
        "Error by output, against the reference (semantic rows: against the other artifact)",
        _PARITY,
        rows,
        numeric={"Max rel", "Cosine", "SQNR", "NaN, Inf"},
        notes=[f"Tolerance of {', '.join(outputs)}, {reason}" for reason, outputs in reasons.items()],
    )


_PAIRS: Columns[Line] = {
    "Pair": lambda row: _isolated(row["lane"]),
    "Output": lambda row: _isolated(row["output"]) if row["output"] else row["reason"],
    "Verdict": lambda row: badge(Outcome(row["outcome"])),
    "Between the two": lambda row: words.figure(row["rel_l2_max"]),
    "First, from reference": lambda row: words.figure(row["runtime_from_reference"]),
    "Second, from reference": lambda row: words.figure(row["against_from_reference"]),
    "Max abs": lambda row: words.figure(row["max_abs"]),
    "Cosine": lambda row: words.similarity(row["cosine_min"]),
}


def pairs(frame: pd.DataFrame) -> Table:
    """Every runtime against ``pytorch_fp16`` and the others, beside the reference (PT-01)."""
    return _table(
        "Runtimes against each other, beside the reference. For information: neither is the truth.",
        _PAIRS,
        _records(frame),
        numeric=set(_PAIRS) - {"Pair", "Output", "Verdict"},
        notes=["Differences are relative L2, of the worst sample; no unit."],
    )


_TIMES: Columns[Line] = {
    "p50": lambda row: words.interval(row["p50_ms"], row["p50_low_ms"], row["p50_high_ms"]),
    "p95": lambda row: words.interval(row["p95_ms"], row["p95_low_ms"], row["p95_high_ms"]),
    "p99": lambda row: words.interval(row["p99_ms"], row["p99_low_ms"], row["p99_high_ms"]),
    "Calls": lambda row: f"{row['calls']:,}" + (f", {row['failed']:,} failed" if row["failed"] else ""),
    "Rate": lambda row: f"{words.figure(row['calls_per_s'])} /s",
    "Load": lambda row: words.milliseconds(row["load_ms"]),
    "First call": lambda row: words.milliseconds(row["first_call_ms"]),
}


def latency(rows: Iterable[Verdict], frame: pd.DataFrame, anchors: Anchors) -> Table:
    """Quantiles with their intervals; a row without figures is a line of dashes with its reason."""
    figures = {row["case"]: row for row in _records(frame)}
    levels = ", ".join(dict.fromkeys(f"{100 * row['confidence']:g} %" for row in figures.values()))
    boundaries = dict.fromkeys(row["timing_boundary"] for row in figures.values() if row["timing_boundary"])
    dashed = f"In brackets: the {levels} interval by order statistics; {words.DASH}: too few calls for that bound."

    def time(column: Callable[[Line], Cell]) -> Callable[[Verdict], Cell]:
        return lambda row: column(figures[row.case.id]) if row.case.id in figures else words.DASH

    columns: Columns[Verdict] = {
        "Lane": lambda row: _isolated(words.lane(row.case, row.summary.measurement.lane_name)),
        "Verdict": lambda row: _marked(row, anchors),
        **{heading: time(column) for heading, column in _TIMES.items()},
        "Ran on": lambda row: row.summary.measurement.placement or words.DASH,
        "Why": _why,
    }
    notes = [dashed] * bool(levels) + [f"Timed: {boundary}." for boundary in boundaries]
    return _table("Latency of one call", columns, rows, numeric=set(_TIMES), notes=notes)


_TASK: Columns[Line] = {
    "Lane": lambda row: _isolated(row["lane"]),
    "Metric": lambda row: row["metric"],
    "Value": lambda row: words.figure(row["value"]),
}


def task(frame: pd.DataFrame) -> Table:
    """What the model is for, in its own metric."""
    return _table("Task metrics, in the metric's own unit", _TASK, _records(frame), numeric={"Value"})


_LAYERS: Columns[Line] = {
    "Layer": lambda row: _isolated(row["layer"]),
    "Operator": lambda row: row["operator"],
    "Module": lambda row: row["module"] or words.DASH,
    "Local error": lambda row: words.figure(row["local_error"]),
    "Accumulated": lambda row: words.figure(row["accumulated_error"]),
    "Rounding noise": lambda row: words.figure(row["noise"]),
    "In words": lambda row: row["words"],
}


def findings(frame: pd.DataFrame) -> list[Finding]:
    """What T1-02 found, row by row."""
    found: dict[str, list[Line]] = {}
    for layer in _records(frame):
        found.setdefault(layer["case"], []).append(layer)
    return [
        Finding(
            lane=layers[0]["lane"],
            layers=_table(
                "The first layer that diverges, then the other suspects; errors have no unit",
                _LAYERS,
                [layer for layer in layers if layer["layer"]],
                numeric={"Local error", "Accumulated", "Rounding noise"},
            ),
            smallest_input=" ".join(filter(None, (layers[0]["smallest_input"], layers[0]["smallest_input_file"]))),
            reproduce=layers[0]["reproduce"],
            keep_fp32=layers[0]["keep_fp32"],
            notes=layers[0]["notes"],
        )
        for layers in found.values()
    ]


_NOT_RUN: Columns[tuple[str, str, pd.DataFrame]] = {
    "Reason": lambda group: group[0],
    "Rows": lambda group: str(len(group[2])),
    "Required": lambda group: str(int(group[2]["required"].sum())),
    "What to do": lambda group: group[1] or words.DASH,
    "Which": lambda group: ", ".join(group[2]["case"]),
}


def not_run(frame: pd.DataFrame) -> Table:
    """What did not run, by reason (T1-03)."""
    grouped = frame.groupby(["reason", "remedy"], sort=False)
    groups = [(str(reason), str(remedy), group) for (reason, remedy), group in grouped]
    return _table("Rows that did not run, by reason", _NOT_RUN, groups, numeric={"Rows", "Required"})


def coverage(frame: pd.DataFrame) -> Table:
    """Requirement ids with the outcomes of their rows."""
    headings = {"Requirement": "requirement", "Rows": "rows", "Evidence": "evidence"}
    headings |= {outcome.value: outcome.value.lower().replace(" ", "_") for outcome in words.SYMBOLS}
    columns: Columns[Line] = {
        heading: lambda row, column=column: str(row[column])  # type: ignore[misc] # bound default
        for heading, column in headings.items()
    }
    return _table(
        "Requirement ids and the rows that bear on them. Evidence: PASS, on a real device, and what it claims to be.",
        columns,
        _records(frame),
        numeric=set(headings) - {"Requirement"},
    )


_BOARD: Columns[Line] = {
    "CPU °C": lambda row: _span(row["cpu_temp_c_start"], row["cpu_temp_c_end"]),
    "GPU °C": lambda row: _span(row["gpu_temp_c_start"], row["gpu_temp_c_end"]),
    "Clock MHz": lambda row: _span(row["clock_mhz_start"], row["clock_mhz_end"]),
    "Load": lambda row: _span(row["load_1min_start"], row["load_1min_end"]),
    "Throttled": lambda row: words.DASH if _absent(row["throttled"]) else "yes" if row["throttled"] else "no",
    "Power mode": lambda row: words.DASH if _absent(row["power_mode"]) else str(row["power_mode"]),
}


def board(frame: pd.DataFrame) -> Table:
    """The state of the board around each row; what no row knows has no column."""
    rows = _records(frame)
    known = {heading: cell for heading, cell in _BOARD.items() if any(cell(row) != words.DASH for row in rows)}
    columns: Columns[Line] = {"Row": lambda row: row["case"], **known}
    shown = rows if known else []
    return _table("State of the board at the start → at the end of each row", columns, shown)


def facts(frame: pd.DataFrame, section: str) -> list[tuple[str, str]]:
    """Name and value of one section of the environment."""
    return [(row["name"], row["value"] or words.DASH) for row in _records(frame) if row["section"] == section]


def _table(
    caption: str,
    columns: Columns[T],
    items: Iterable[T],
    *,
    numeric: Collection[str] = (),
    notes: Sequence[str] = (),
) -> Table:
    lines = [tuple(cell(item) for cell in columns.values()) for item in items]
    return Table(caption, tuple(columns), lines, frozenset(numeric), notes)


def _records(frame: pd.DataFrame) -> list[Line]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _isolated(text: str) -> Markup:
    """Text whose direction of writing does not reach beyond it."""
    return Markup("<bdi>{}</bdi>").format(words.plain(text))


def _marked(row: Verdict, anchors: Anchors) -> Markup:
    """A row's badge, to which the links to the row lead."""
    text = Markup('<span id="{}">{}</span>').format(anchors[row.case.id], badge(row.outcome))
    text += Markup(' <span class="tag">required</span>') if row.case.required else ""
    return text + _doubt(row)


def _doubt(row: Verdict) -> Markup:
    """Why a verdict is no evidence although it may be PASS; empty if it is some."""
    measurement = row.summary.measurement
    if measurement.simulated:
        return Markup(' <span class="tag loud">SIMULATED</span>')
    return Markup() if measurement.witness else Markup(' <span class="tag">no witness</span>')


def _precision(row: Verdict) -> str:
    ran = row.summary.measurement.precision_ran
    if not ran:
        return f"{row.case.precision} asked"
    return ran if ran == row.case.precision else f"{row.case.precision} asked, {ran} ran"


def _witness(row: Verdict) -> str:
    measurement = row.summary.measurement
    if not measurement.placement:
        return words.DASH
    return "yes" if measurement.witness and not measurement.simulated else "no"


def _nearest(row: Verdict) -> str:
    near = nearest(row)
    return f"{words.percent(near[0])} ({near[1]})" if near else words.DASH


def _why(row: Verdict) -> str:
    measurement = row.summary.measurement
    texts = (row.reason, row.remedy, *measurement.warnings, *measurement.notes)
    return words.as_one(text for at, text in enumerate(texts) if not at or text.rstrip(".") not in row.reason)


def _against_limit(error: float | None, limit: float | None, source: str) -> str:
    text = words.figure(error)
    if _absent(limit):
        return f"{text}, ignored" if source == "ignore" else f"{text}, no limit"
    return f"{text} of {words.figure(limit)} {source}"


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _span(start: float | None, end: float | None) -> str:
    return words.DASH if _absent(start) and _absent(end) else f"{words.figure(start)} → {words.figure(end)}"
