"""The tables of the page: which columns of which DataFrame a person sees, and in which words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, TypeVar

import pandas as pd
from markupsafe import Markup

from harness.records import Check, Outcome, Run, Verdict
from reports import combine, words
from reports.ranking import nearest

__all__ = [
    "About",
    "Cell",
    "Columns",
    "Finding",
    "Line",
    "Table",
    "about_runtimes",
    "absent",
    "asides",
    "badge",
    "coverage",
    "differences",
    "doubt",
    "facts",
    "findings",
    "glance",
    "isolated",
    "lane_and_kind",
    "lanes",
    "lineage",
    "listed",
    "marked",
    "not_run",
    "pairs",
    "parity",
    "records",
    "runs",
    "symbol",
    "table",
    "task",
    "why",
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


def symbol(outcome: Outcome) -> Markup:
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
        if row.case.kind in ("build", "parity", "latency", "load"):
            link = Markup('<a href="#{}">{}</a>').format(anchors[row.case.id], badge(row.outcome)) + doubt(row)
            heading = words.lane(row.case) + ("" if row.case.kind == "parity" else f", {row.case.kind}")
            cells.setdefault((row.case.model, heading), []).append(link)
    columns: dict[str, Callable[[str], Cell]] = {
        "Model": lambda model: Markup('<a href="#{}"><bdi>{}</bdi></a>').format(models[model], words.plain(model))
    }
    for name in dict.fromkeys(heading for _, heading in cells):
        columns[name] = lambda model, name=name: Markup(" ").join(cells.get((model, name), ())) or words.DASH  # type: ignore[misc] # bound default
    return table("Builds, parity and latency at a glance. Every verdict leads to its row.", columns, models)


def lanes(rows: Iterable[Verdict], anchors: Anchors) -> Table:
    """The rows that are judged by what they compute."""
    columns: Columns[Verdict] = {
        "Lane": lambda row: isolated(lane_and_kind(row)),
        "Verdict": lambda row: marked(row, anchors),
        "Ran on": lambda row: row.summary.measurement.placement or words.DASH,
        "Precision": _precision,
        "Witness": _witness,
        "Of its tolerance": _nearest,
        "Why": lambda row: words.as_one((row.reason, row.remedy)),
    }
    shown = list(rows)
    return table(
        "Lanes: where each row ran, what it computed in, and its verdict",
        columns,
        shown,
        numeric={"Of its tolerance"},
        notes=asides(shown),
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
        "Runtime": lambda row: isolated(words.lane(row.case)),
        "Verdict": lambda row: marked(row, anchors),
        "Ran on": lambda row: row.summary.measurement.placement or words.DASH,
        "Why": why,
    }
    known = {check.name: check.means for row in rows for check in row.checks}
    found = {(row.case.id, check.name): check for row in rows for check in row.checks}
    judged = [row for row in rows if row.checks]
    matrix: dict[str, Callable[[str], Cell]] = {
        "Clause": isolated,
        "When it is broken": lambda name: known[name] or words.DASH,
    }
    for row in judged:
        matrix[words.subject(row.case)] = lambda name, row=row: (  # type: ignore[misc] # bound default
            symbol(found[row.case.id, name].outcome) if (row.case.id, name) in found else words.DASH
        )
    telling = [(row, check) for row in judged for check in row.checks if check.outcome is not Outcome.PASS]
    told: Columns[tuple[Verdict, Check]] = {
        "Clause": lambda item: isolated(item[1].name),
        "Runtime": lambda item: isolated(words.subject(item[0].case)),
        "Verdict": lambda item: badge(item[1].outcome),
        "What was seen": lambda item: item[1].reason,
    }
    return About(
        title,
        intro,
        f"about-{kind}",
        table("Runtimes", columns, rows),
        table("Every clause, and who keeps it", matrix, known),
        table("Clauses that do not hold, or were not run", told, telling),
    )


_PARITY: Columns[Line] = {
    "Output": lambda row: (
        isolated(row["output"])
        + Markup(" <small>{} {}, {} samples</small>").format(words.plain(row["dtype"]), row["shape"], row["samples"])
    ),
    "Lane": lambda row: isolated(row["lane"] if row["kind"] == "parity" else f"{row['lane']} ({row['kind']})"),
    "Verdict": lambda row: badge(Outcome(row["output_outcome"])) if row["output_outcome"] else words.DASH,
    "Worst rel. L2": lambda row: _against_limit(row["rel_l2_max"], row["tolerance_max"], row["tolerance_source"]),
    "Median rel. L2": lambda row: _against_limit(
        row["rel_l2_median"], row["tolerance_median"], row["tolerance_source"]
    ),
    "Max abs, at": lambda row: ", ".join(filter(None, (words.figure(row["max_abs"]), row["max_abs_at"]))),
    "Max rel": lambda row: words.figure(row["max_rel"]),
    "Cosine": lambda row: words.similarity(row["cosine_min"]),
    "SQNR": lambda row: words.DASH if absent(row["sqnr_db"]) else f"{words.figure(row['sqnr_db'])} dB",
    "NaN, Inf": lambda row: f"{row['nan']}, {row['inf']}",
}


def parity(frame: pd.DataFrame) -> Table:
    """Every output against the reference, with its tolerance and where that comes from."""
    rows = records(frame)
    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for row in rows:
        if row["tolerance_why"]:
            why = f"{row['tolerance_source']}: {row['tolerance_why']}"
            outputs, lanes = reasons.setdefault(why, ({}, {}))
            outputs[row["output"]] = lanes[row["lane"]] = None
    notes = []
    for reason, (outputs, lanes) in reasons.items():
        where = f" in {', '.join(lanes)}" if len(reasons) > 1 else ""
        notes.append(f"Tolerance of {', '.join(outputs)}{where}, {reason}")
    return table(
        "Error by output, against the reference (semantic rows: against the other artifact)",
        _PARITY,
        rows,
        numeric={"Max rel", "Cosine", "SQNR", "NaN, Inf"},
        notes=[*notes, "Max abs is in the output's own unit, SQNR in dB; the others have no unit."] if rows else (),
    )


_PAIRS: Columns[Line] = {
    "Pair": lambda row: isolated(row["lane"]),
    "Output": lambda row: isolated(row["output"]) if row["output"] else row["reason"],
    "Verdict": lambda row: badge(Outcome(row["outcome"])),
    "Between the two": lambda row: words.figure(row["rel_l2_max"]),
    "First, from reference": lambda row: words.figure(row["runtime_from_reference"]),
    "Second, from reference": lambda row: words.figure(row["against_from_reference"]),
    "Max abs": lambda row: words.figure(row["max_abs"]),
    "Cosine": lambda row: words.similarity(row["cosine_min"]),
}


def pairs(frame: pd.DataFrame) -> Table:
    """Every runtime against ``pytorch_fp16`` and the others, beside the reference (PT-01)."""
    return table(
        "Runtimes against each other, beside the reference. For information: neither is the truth.",
        _PAIRS,
        records(frame),
        numeric=set(_PAIRS) - {"Pair", "Output", "Verdict"},
        notes=["Differences are relative L2, of the worst sample; no unit."] if len(frame) else (),
    )


_TASK: Columns[Line] = {
    "Lane": lambda row: isolated(row["lane"]),
    "Metric": lambda row: row["metric"],
    "Value": lambda row: words.figure(row["value"]),
}


def task(frame: pd.DataFrame) -> Table:
    """What the model is for, in its own metric."""
    return table("Task metrics, in the metric's own unit", _TASK, records(frame), numeric={"Value"})


_LAYERS: Columns[Line] = {
    "Layer": lambda row: isolated(row["layer"]),
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
    for layer in records(frame):
        found.setdefault(layer["case"], []).append(layer)
    return [
        Finding(
            lane=layers[0]["lane"],
            layers=table(
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
    "Rows": lambda group: _counted(len(group[2])),
    "Required": lambda group: _counted(int(group[2]["required"].sum())),
    "What to do": lambda group: group[1] or words.DASH,
    "Which": lambda group: listed(list(group[2]["case"])),
}


def not_run(frame: pd.DataFrame) -> Table:
    """What did not run, by reason (T1-03)."""
    grouped = frame.groupby(["reason", "remedy"], sort=False)
    groups = [(str(reason), str(remedy), group) for (reason, remedy), group in grouped]
    return table("Rows that did not run, by reason", _NOT_RUN, groups, numeric={"Rows", "Required"})


_LISTED = 12
"""Names in one cell; of more, the rest are counted."""


def listed(names: Sequence[str], most: int = _LISTED) -> str:
    """``a, b and 7 more``."""
    more = len(names) - most
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:most])} and {more:,} more"


def _counted(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


_DIGITS = 12


def lineage(rows: Iterable[Verdict]) -> Table:
    """What each row ran, and what that descends from: digests, and words."""
    known = [row for row in rows if row.summary.measurement.lineage or row.summary.measurement.layers_file]
    columns: dict[str, Callable[[Verdict], Cell]] = {
        "Lane": lambda row: isolated(lane_and_kind(row)),
        "Descends from": lambda row: (
            Markup(", ").join(starmap(_link, row.summary.measurement.lineage.items())) or words.DASH
        ),
    }
    further: Columns[Verdict] = {
        "Size": lambda row: _quantity(row, "engine_bytes"),
        "Built in": lambda row: _quantity(row, "build_ns"),
        "Layers by precision": lambda row: words.pairs(row.summary.measurement.nodes_by_precision) or words.DASH,
    }
    columns |= {heading: cell for heading, cell in further.items() if any(cell(row) != words.DASH for row in known)}
    notes = [f"Of each sha256 the first {_DIGITS} digits; run.json has them whole, and layers/ every layer."] * bool(
        known
    )
    notes += ["Size and time to build are single readings."] * bool({"Size", "Built in"} & set(columns))
    return table("What each row ran, and descends from", columns, known, numeric={"Size", "Built in"}, notes=notes)


def _link(name: str, text: str) -> Markup:
    """A digest by its first digits; anything else as it is."""
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return Markup('{} <code title="{}">{}</code>').format(words.plain(name), text, text[:_DIGITS])
    return Markup("{} {}").format(words.plain(name), words.plain(text))


def _quantity(row: Verdict, name: str) -> str:
    figure = next((figure for figure in row.summary.figures if figure.name == name), None)
    return words.DASH if figure is None else words.quantity(figure.value, figure.unit)


def coverage(frame: pd.DataFrame, rows: Sequence[Verdict]) -> Table:
    """Requirement ids with the outcomes of their rows, and which rows keep one open."""
    holding: dict[str, list[str]] = {}
    for row in rows:
        if not words.is_evidence(row):
            for name in row.case.covers:
                holding.setdefault(name, []).append(row.case.id)
    headings = {"Rows": "rows", "Evidence": "evidence"}
    headings |= {outcome.value: outcome.value.lower().replace(" ", "_") for outcome in words.SYMBOLS}
    columns: dict[str, Callable[[Line], Cell]] = {
        "Requirement": lambda row: isolated(row["requirement"]) + Markup(" <small>{}</small>").format(row["about"])
    }
    for heading, column in headings.items():
        columns[heading] = lambda row, column=column: _counted(row[column])  # type: ignore[misc] # bound default
    columns["No evidence yet"] = lambda row: listed(holding.get(row["requirement"], []), 4) or words.DASH
    return table(
        "Requirement ids and the rows that bear on them. Evidence: PASS, on a real device, and what it claims to be.",
        columns,
        records(frame),
        numeric=set(headings),
    )


def facts(frame: pd.DataFrame, section: str) -> list[tuple[str, str]]:
    """Name and value of one section of the environment; of several runs together, what is the same in all of them."""
    labels = _labels(frame)
    return [
        (row["name"], words.fact(row["name"], row["value"]))
        for row in records(frame)
        if row["section"] == section and (not labels or len({row[label] for label in labels}) == 1)
    ]


def runs(parts: Mapping[str, Run], sources: Mapping[str, str]) -> Table:
    """Of several runs drawn together: each of them, and how many rows are from it."""
    lines = [(isolated(label), *cells) for label, *cells in combine.told(parts, sources)]
    return Table("The runs that were drawn together", combine.HEADINGS, lines)


def differences(frame: pd.DataFrame) -> Table:
    """Of several runs drawn together: the facts that are not the same in all of them, a column per run."""
    labels = _labels(frame)
    columns: dict[str, Callable[[Line], Cell]] = {"Fact": lambda row: isolated(f"{row['section']}: {row['name']}")}
    for label in labels:
        columns[label] = lambda row, label=label: words.fact(row["name"], row[label])  # type: ignore[misc] # bound default
    unlike = [row for row in records(frame) if len({row[label] for label in labels}) > 1]
    return table("What differs from run to run", columns, unlike)


def _labels(frame: pd.DataFrame) -> list[str]:
    """The columns of the environment that stand for one run of several."""
    return [str(name) for name in frame.columns if name not in ("section", "name", "value")]


def table(
    caption: str,
    columns: Columns[T],
    items: Iterable[T],
    *,
    numeric: Collection[str] = (),
    notes: Sequence[str] = (),
) -> Table:
    lines = [tuple(cell(item) for cell in columns.values()) for item in items]
    return Table(caption, tuple(columns), lines, frozenset(numeric), notes)


def records(frame: pd.DataFrame) -> list[Line]:
    rows = frame.to_dict("records")
    return [{str(name): None if value is pd.NA else value for name, value in row.items()} for row in rows]


def isolated(text: str) -> Markup:
    """Text whose direction of writing does not reach beyond it."""
    return Markup("<bdi>{}</bdi>").format(words.plain(text))


def marked(row: Verdict, anchors: Anchors) -> Markup:
    """A row's badge, to which the links to the row lead."""
    text = Markup('<span id="{}">{}</span>').format(anchors[row.case.id], badge(row.outcome))
    text += Markup(' <span class="tag">required</span>') if row.case.required else ""
    return text + doubt(row)


def doubt(row: Verdict) -> Markup:
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


def why(row: Verdict) -> str:
    """A row's reason, what to do, and what else was said of it."""
    return words.as_one((row.reason, row.remedy, *_said(row)))


def asides(rows: Sequence[Verdict]) -> list[str]:
    """What was said of rows beside their reasons, each once, with the lanes that it was said of where these are not all."""
    lanes: dict[str, dict[str, None]] = {}
    for row in rows:
        for text in _said(row):
            lanes.setdefault(text, {})[lane_and_kind(row)] = None
    every = {lane_and_kind(row) for row in rows}
    return [words.as_one([text if every == {*own} else f"{listed(list(own))}: {text}"]) for text, own in lanes.items()]


def _said(row: Verdict) -> list[str]:
    measurement = row.summary.measurement
    return [text for text in (*measurement.warnings, *measurement.notes) if text.rstrip(".") not in row.reason]


def _against_limit(error: float | None, limit: float | None, source: str) -> str:
    text = words.figure(error)
    if absent(limit):
        return f"{text}, ignored" if source == "ignore" else f"{text}, no limit"
    return f"{text} of {words.figure(limit)} {source}"


def absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
