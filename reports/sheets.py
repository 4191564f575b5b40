"""The tables of the page: which columns of which DataFrame a person sees, and in which words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from harness.records import Outcome, Verdict
from reports import words
from reports.ranking import nearest

__all__ = [
    "Finding",
    "Table",
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

Cell = str | Markup
Anchors = Mapping[str, str]

_DASHES = (words.DASH,)


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


def lane_and_kind(row: Verdict) -> str:
    """A row's lane, with its kind where that is not parity."""
    name = words.lane(row.case, row.summary.measurement.lane_name)
    return name if row.case.kind == "parity" else f"{name} ({row.case.kind})"


def glance(rows: Sequence[Verdict], models: Anchors, anchors: Anchors) -> Table:
    """Model by lane, each verdict a link to its row. ``models``: model to the anchor of its section."""
    cells: dict[tuple[str, str], list[Markup]] = {}
    for row in rows:
        if row.case.kind in ("parity", "latency"):
            link = Markup('<a href="#{}">{}</a>').format(anchors[row.case.id], badge(row.outcome)) + _doubt(row)
            cells.setdefault((row.case.model, _column(row)), []).append(link)
    headings = list(dict.fromkeys(heading for _, heading in cells))
    return Table(
        "Parity and latency at a glance. Every verdict leads to its row.",
        ("Model", *headings),
        [
            (
                Markup('<a href="#{}"><bdi>{}</bdi></a>').format(anchor, words.plain(model)),
                *(Markup(" ").join(cells.get((model, heading), _DASHES)) for heading in headings),
            )
            for model, anchor in models.items()
        ],
    )


def lanes(rows: Iterable[Verdict], anchors: Anchors) -> Table:
    """The rows that are judged by what they compute."""
    return Table(
        "Lanes: where each row ran, what it computed in, and its verdict",
        ("Lane", "Verdict", "Ran on", "Precision", "Witness", "Of its tolerance", "Why"),
        [
            (
                _isolated(lane_and_kind(row)),
                _marked(row, anchors),
                row.summary.measurement.placement or words.DASH,
                _precision(row),
                _witness(row),
                _nearest(row),
                _why(row),
            )
            for row in rows
        ],
        frozenset({"Of its tolerance"}),
    )


def parity(frame: pd.DataFrame) -> Table:
    """Every output against the reference, with its tolerance and where that comes from."""
    rows = _records(frame)
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["tolerance_why"]:
            reasons.setdefault(f"{row['tolerance_source']}: {row['tolerance_why']}", {})[row["output"]] = None
    return Table(
        "Error by output, against the reference (semantic rows: against the other artifact)",
        (
            "Output",
            "Lane",
            "Verdict",
            "Worst rel. L2",
            "Median rel. L2",
            "Max abs, at",
            "Max rel",
            "Cosine",
            "SQNR",
            "NaN, Inf",
        ),
        [
            (
                Markup("<bdi>{}</bdi> <small>{} {}</small>").format(
                    words.plain(row["output"]), row["dtype"], row["shape"]
                ),
                _isolated(row["lane"] if row["kind"] == "parity" else f"{row['lane']} ({row['kind']})"),
                badge(Outcome(row["output_outcome"])) if row["output_outcome"] else words.DASH,
                _against_limit(row["rel_l2_max"], row["tolerance_max"], row["tolerance_source"]),
                _against_limit(row["rel_l2_median"], row["tolerance_median"], row["tolerance_source"]),
                f"{words.figure(row['max_abs'])}, {row['max_abs_at']}"
                if row["max_abs_at"]
                else words.figure(row["max_abs"]),
                words.figure(row["max_rel"]),
                words.DASH if _absent(row["cosine_min"]) else f"{row['cosine_min']:.7g}",
                words.DASH if _absent(row["sqnr_db"]) else f"{words.figure(row['sqnr_db'])} dB",
                f"{row['nan']}, {row['inf']}",
            )
            for row in rows
        ],
        frozenset({"Max rel", "Cosine", "SQNR", "NaN, Inf"}),
        notes=[f"Tolerance of {', '.join(outputs)}, {reason}" for reason, outputs in reasons.items()],
    )


def pairs(frame: pd.DataFrame) -> Table:
    """Every runtime against ``pytorch_fp16`` and the others, beside the reference (PT-01)."""
    return Table(
        "Runtimes against each other, beside the reference. For information: neither is the truth.",
        (
            "Pair",
            "Output",
            "Verdict",
            "Between the two",
            "First, from reference",
            "Second, from reference",
            "Max abs",
            "Cosine",
        ),
        [
            (
                _isolated(row["lane"]),
                _isolated(row["output"]) if row["output"] else row["reason"],
                badge(Outcome(row["outcome"])),
                words.figure(row["rel_l2_max"]),
                words.figure(row["runtime_from_reference"]),
                words.figure(row["against_from_reference"]),
                words.figure(row["max_abs"]),
                words.DASH if _absent(row["cosine_min"]) else f"{row['cosine_min']:.7g}",
            )
            for row in _records(frame)
        ],
        frozenset({"Between the two", "First, from reference", "Second, from reference", "Max abs", "Cosine"}),
        notes=["Differences are relative L2, of the worst sample; no unit."],
    )


def latency(rows: Iterable[Verdict], frame: pd.DataFrame, anchors: Anchors) -> Table:
    """Quantiles with their intervals; a row without figures is a line of dashes with its reason."""
    figures = {row["case"]: row for row in _records(frame)}
    levels = ", ".join(dict.fromkeys(f"{100 * row['confidence']:g} %" for row in figures.values()))
    boundaries = dict.fromkeys(row["timing_boundary"] for row in figures.values() if row["timing_boundary"])
    return Table(
        "Latency of one call",
        ("Lane", "Verdict", "p50", "p95", "p99", "Calls", "Rate", "Load", "First call", "Ran on", "Why"),
        [
            (
                _isolated(words.lane(row.case, row.summary.measurement.lane_name)),
                _marked(row, anchors),
                *_times(figures.get(row.case.id)),
                row.summary.measurement.placement or words.DASH,
                _why(row),
            )
            for row in rows
        ],
        frozenset({"p50", "p95", "p99", "Calls", "Rate", "Load", "First call"}),
        notes=[
            *(
                [f"In brackets: the {levels} interval by order statistics; {words.DASH}: too few calls for that bound."]
                * bool(levels)
            ),
            *(f"Timed: {boundary}." for boundary in boundaries),
        ],
    )


def task(frame: pd.DataFrame) -> Table:
    """What the model is for, in its own metric."""
    return Table(
        "Task metrics, in the metric's own unit",
        ("Lane", "Metric", "Value"),
        [(_isolated(row["lane"]), row["metric"], words.figure(row["value"])) for row in _records(frame)],
        frozenset({"Value"}),
    )


def findings(frame: pd.DataFrame) -> list[Finding]:
    """What T1-02 found, row by row."""
    found: dict[str, list[dict[str, Any]]] = {}
    for layer in _records(frame):
        found.setdefault(layer["case"], []).append(layer)
    return [
        Finding(
            lane=layers[0]["lane"],
            layers=_layers([layer for layer in layers if layer["layer"]]),
            smallest_input=" ".join(filter(None, (layers[0]["smallest_input"], layers[0]["smallest_input_file"]))),
            reproduce=layers[0]["reproduce"],
            keep_fp32=layers[0]["keep_fp32"],
            notes=layers[0]["notes"],
        )
        for layers in found.values()
    ]


def not_run(rows: Iterable[Verdict]) -> Table:
    """What did not run, by reason (T1-03)."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for row in rows:
        if row.outcome is Outcome.NOT_RUN:
            groups.setdefault((row.reason, row.remedy), []).append(row)
    return Table(
        "Rows that did not run, by reason",
        ("Reason", "Rows", "Required", "What to do", "Which"),
        [
            (
                reason,
                str(len(group)),
                str(sum(row.case.required for row in group)),
                remedy or words.DASH,
                ", ".join(row.case.id for row in group),
            )
            for (reason, remedy), group in groups.items()
        ],
        frozenset({"Rows", "Required"}),
    )


def coverage(frame: pd.DataFrame) -> Table:
    """Requirement ids with the outcomes of their rows."""
    outcomes = {outcome.value: outcome.value.lower().replace(" ", "_") for outcome in words.SYMBOLS}
    return Table(
        "Requirement ids and the rows that bear on them. Evidence: PASS, on a real device, and what it claims to be.",
        ("Requirement", "Rows", "Evidence", *outcomes),
        [
            (
                row["requirement"],
                str(row["rows"]),
                str(row["evidence"]),
                *(str(row[column]) for column in outcomes.values()),
            )
            for row in _records(frame)
        ],
        frozenset({"Rows", "Evidence", *outcomes}),
    )


def board(frame: pd.DataFrame) -> Table:
    """The state of the board around each row; what no row knows has no column."""
    rows = _records(frame)
    known = {
        heading: [_span(row[f"{column}_start"], row[f"{column}_end"]) for row in rows]
        for heading, column in (
            ("CPU °C", "cpu_temp_c"),
            ("GPU °C", "gpu_temp_c"),
            ("Clock MHz", "clock_mhz"),
            ("Load", "load_1min"),
        )
    }
    known["Throttled"] = [
        words.DASH if _absent(row["throttled"]) else "yes" if row["throttled"] else "no" for row in rows
    ]
    known["Power mode"] = [words.DASH if _absent(row["power_mode"]) else str(row["power_mode"]) for row in rows]
    shown = {heading: cells for heading, cells in known.items() if set(cells) - set(_DASHES)}
    return Table(
        "State of the board at the start → at the end of each row",
        ("Row", *shown),
        [(row["case"], *(cells[at] for cells in shown.values())) for at, row in enumerate(rows)] if shown else [],
        frozenset(shown) - {"Throttled", "Power mode"},
    )


def facts(frame: pd.DataFrame, section: str) -> list[tuple[str, str]]:
    """Name and value of one section of the environment."""
    return [(row["name"], row["value"] or words.DASH) for row in _records(frame) if row["section"] == section]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _isolated(text: str) -> Markup:
    """Text whose direction of writing does not reach beyond it."""
    return Markup("<bdi>{}</bdi>").format(words.plain(text))


def _column(row: Verdict) -> str:
    return words.lane(row.case) + ("" if row.case.kind == "parity" else ", latency")


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


def _times(row: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The cells from ``p50`` to ``First call``."""
    if row is None:
        return _DASHES * 7
    quantiles = (words.interval(row[f"{p}_ms"], row[f"{p}_low_ms"], row[f"{p}_high_ms"]) for p in ("p50", "p95", "p99"))
    failed = f", {row['failed']:,} failed" if row["failed"] else ""
    rate = f"{words.figure(row['calls_per_s'])} /s"
    return (
        *quantiles,
        f"{row['calls']:,}{failed}",
        rate,
        words.milliseconds(row["load_ms"]),
        words.milliseconds(row["first_call_ms"]),
    )


def _layers(layers: Iterable[Mapping[str, Any]]) -> Table:
    return Table(
        "The first layer that diverges, then the other suspects",
        ("Layer", "Operator", "Module", "Local error", "Accumulated", "Rounding noise", "In words"),
        [
            (
                _isolated(layer["layer"]),
                layer["operator"],
                layer["module"] or words.DASH,
                words.figure(layer["local_error"]),
                words.figure(layer["accumulated_error"]),
                words.figure(layer["noise"]),
                layer["words"],
            )
            for layer in layers
        ],
        frozenset({"Local error", "Accumulated", "Rounding noise"}),
    )


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _span(start: float | None, end: float | None) -> str:
    return words.DASH if _absent(start) and _absent(end) else f"{words.figure(start)} → {words.figure(end)}"
