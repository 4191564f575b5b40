"""Tier-2 on the page: how fast, how hot, how much memory, and what each verdict of that rests on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from harness.records import ABOUT_A_FLIGHT, Check, Figure, Judgement, LaunchFigures, Outcome, Verdict
from reports import figures, sheets, words
from reports.sheets import Anchors, Cell, Columns, Line, Table
from reports.tables import figure_of

__all__ = ["About", "Lead", "about_flights", "board", "latency", "lead", "load", "of_model", "unlike"]

_SPLIT: Mapping[str, Sequence[str]] = {
    "To the device": ["h2d_p50_ns"],
    "Compute": ["compute_p50_ns"],
    "From the device": ["d2h_p50_ns"],
    "Wait": ["wait_p50_ns"],
    "In the queue": ["queue_wait_p50_ns"],
    "Harness late, p99": ["harness_late_p99_ns"],
    "Utilisation": ["utilisation"],
    "Dropped": ["dropped"],
    "Late or lost": ["deadline_misses"],
}
_AROUND: Mapping[str, Sequence[str]] = {
    "Requests throttled": ["throttled_requests_share"],
    "Time throttled": ["throttled_share"],
    "p95 throttled": ["p95_throttled_ns"],
    "p95 otherwise": ["p95_unthrottled_ns"],
    "Over-current": ["oc_events"],
    "GPU clock": ["gpu_clock_min_mhz", "gpu_clock_max_mhz"],
    "Junction": ["tj_temp_start_c", "tj_temp_max_c"],
    "GPU": ["gpu_temp_start_c", "gpu_temp_max_c"],
    "CPU": ["cpu_temp_start_c", "cpu_temp_max_c"],
    "Soak": ["soak_s"],
    "Power": ["mean_power_w"],
    "Per call": ["energy_per_call_j"],
    "Above idle": ["dynamic_energy_per_call_j"],
}
_MEMORY: Mapping[str, Sequence[str]] = {
    "Process": ["process_bytes"],
    "Process, peak": ["process_peak_bytes"],
    "Runtime's ledger": ["ledger_bytes"],
    "Process, by the driver": ["driver_process_bytes"],
    "NvMap": ["nvmap_bytes"],
    "Driver, free": ["driver_free_bytes"],
    "System, available": ["system_available_bytes"],
    "Largest free block": ["largest_block_bytes"],
}
_CYCLES: Mapping[str, Sequence[str]] = {
    "Cycles over the budget, p50": ["exceeding_p50_cycles"],
    "of the others": ["other_p50_cycles"],
    "Clock over the budget, p50": ["exceeding_p50_clock_mhz"],
    "of the others, p50": ["other_p50_clock_mhz"],
    "Throttled, of those over": ["exceeding_throttled_percent"],
}
"""Columns of the tables that lay rows side by side: a heading, and the figures whose range it holds."""

_AROUND_CAPTION = "The board meanwhile: clock from lowest to highest, temperatures from the start to the hottest"
_CYCLES_CAPTION = "More work, or a slower clock? The calls over the budget beside the others"
_MEMORY_CAPTION = "Memory at the end of the row. Its sources overlap: they are no sum."
_EFFECT_KEY = (
    "Design effect: how many of these calls, which resemble their neighbours, tell as much as one independent call. "
    "Drift: of the level from the first calls to the last, as a share of it."
)
_LOADED = ("load", "session", "compile", "first_call", "import", "start", "ready")


_LONG = 40
"""Characters of a cell that is not said again in every line."""


@dataclass(frozen=True)
class Lead:
    """What Tier-2 says of the whole run. ``words``: sentences, the gravest first. ``sheets``: every row, then its figures."""

    words: Sequence[str]
    sheets: Sequence[Table]


@dataclass(frozen=True)
class About:
    """All models of one runtime together: a part for each kind of row."""

    title: str
    anchor: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Part:
    """One row about all models of a runtime."""

    title: str
    intro: str
    badge: Markup
    reason: str
    remedy: str
    sheets: Sequence[Table]
    plot: figures.Figure | None = None
    story: figures.Story | None = None


def lead(rows: Sequence[Verdict], anchors: Anchors) -> Lead | None:
    """The verdict on Tier-2 in words, and its rows in a line each. ``None`` for a run without such rows.

    A row that ``anchors`` does not have is counted, and has no line.
    """
    every = [row for row in rows if row.case.kind in ("latency", "load", *ABOUT_A_FLIGHT)]
    own = [row for row in every if row.case.id in anchors]
    if not own:
        return None
    columns: Columns[Verdict] = {
        "Row": lambda row: (
            Markup('<a href="#{}">{}</a>').format(anchors[row.case.id], sheets.isolated(_subject(row))) + _under(row)
        ),
        "Verdict": lambda row: sheets.badge(row.outcome) + sheets.doubt(row),
        "Budget of p95": lambda row: words.milliseconds(_budget_ms(row)),
        "p95": lambda row: words.quantile(row.summary.latency.p95) if row.summary.latency else words.DASH,
        "Throttled": _held,
        "Why": lambda row: words.as_one((row.reason, row.remedy)),
    }
    timed = [row for row in own if row.case.kind == "latency"]
    own.sort(key=lambda row: list(words.SYMBOLS).index(row.outcome))
    made = [
        _slim(
            sheets.table(
                "Every row of Tier-2, gravest first", columns, own, numeric={"Budget of p95", "p95", "Throttled"}
            )
        ),
        _across("Where the time of a call goes: medians, unless the name says otherwise", timed, _SPLIT),
        _across(_AROUND_CAPTION, timed, _AROUND),
        _across(_MEMORY_CAPTION, timed, _MEMORY),
    ]
    return Lead(_sentences(every), [sheet for sheet in made if sheet.rows or sheet.notes])


def _sentences(rows: Sequence[Verdict]) -> list[str]:
    by: dict[Outcome, list[Verdict]] = {
        outcome: [row for row in rows if row.outcome is outcome] for outcome in words.SYMBOLS
    }
    told = {
        Outcome.FAIL: "over a limit, or broken",
        Outcome.INCONCLUSIVE: "not decided",
        Outcome.NOT_RUN: "without evidence",
        Outcome.MEASURED: "measured, with no budget that applies",
        Outcome.PASS: "within every limit that applies",
    }
    return [
        f"{len(own)} of {len(rows)} rows {'is' if len(own) == 1 else 'are'} {told[outcome]}: "
        f"{sheets.listed(list(dict.fromkeys(_subject(row) for row in own)))}."
        for outcome, own in by.items()
        if own
    ]


def latency(rows: Iterable[Verdict], frame: pd.DataFrame, anchors: Anchors) -> Table:
    """Quantiles with their intervals beside the budget; a row without figures is a line of dashes with its reason."""
    known = {row["case"]: row for row in sheets.records(frame)}
    levels = ", ".join(dict.fromkeys(f"{100 * row['confidence']:g} %" for row in known.values()))
    boundaries = dict.fromkeys(row["timing_boundary"] for row in known.values() if row["timing_boundary"])
    dashed = f"In brackets: the {levels} interval by order statistics; {words.DASH}: too few calls for that bound."

    def time(column: Callable[[Line], Cell]) -> Callable[[Verdict], Cell]:
        return lambda row: column(known[row.case.id]) if row.case.id in known else words.DASH

    times: Columns[Line] = {
        name: lambda row, name=name: words.interval(row[f"{name}_ms"], row[f"{name}_low_ms"], row[f"{name}_high_ms"])  # type: ignore[misc] # bound default
        for name in ("p50", "p95", "p99")
    }
    columns: Columns[Verdict] = {
        "Lane": _placed,
        "Verdict": lambda row: sheets.marked(row, anchors),
        "Budget of p95": lambda row: words.milliseconds(_budget_ms(row)),
        **{heading: time(column) for heading, column in times.items()},
        "Calls": time(_calls),
        "Throttled": _held,
        "Why": lambda row: words.as_one((row.reason, row.remedy)),
    }
    rows = list(rows)
    notes = [dashed] * bool(levels) + [f"Timed: {boundary}." for boundary in boundaries] + sheets.asides(rows)
    return _slim(
        sheets.table(
            "Latency of one call", columns, rows, numeric={"Budget of p95", *times, "Calls", "Throttled"}, notes=notes
        )
    )


def of_model(rows: Sequence[Verdict], anchors: Anchors) -> list[Table]:
    """What the latencies and loads of one model rest on, table by table; those without lines are left out."""
    timed = [row for row in rows if row.case.kind == "latency"]
    loaded = [row for row in rows if row.case.kind == "load"]
    judged = [(row, row.summary.judgement) for row in timed if row.summary.judgement is not None]
    telling = [(row, check) for row in timed for check in row.checks if check.outcome is not Outcome.PASS]
    made = [
        *load(loaded, anchors),
        _judged(judged),
        _launches([(row, launch) for row, judgement in judged for launch in judgement.launches]),
        _checks(telling, "What was asked of these rows, and did not simply pass"),
        _across(_CYCLES_CAPTION, timed, _CYCLES),
        _times(timed),
    ]
    return [sheet for sheet in made if sheet.rows or sheet.notes]


def _judged(items: Sequence[tuple[Verdict, Judgement]]) -> Table:
    columns: Columns[tuple[Verdict, Judgement]] = {
        "Lane": lambda item: sheets.isolated(_lane(item[0])),
        "Verdict": lambda item: sheets.badge(item[0].outcome) + sheets.doubt(item[0]),
        "Budget": lambda item: words.quantity(item[1].budget_ns, "ns"),
        "True p95 is under": lambda item: _bound(item[1]),
        "Design effect": lambda item: _effect(item[1]),
        "Drift": lambda item: f"{item[1].drift:+.1%}" if item[1].drift is not None else words.DASH,
        "What would decide": lambda item: words.undecided(item[1].needed, _rate_hz(item[0])) or words.DASH,
        "Cause": lambda item: item[1].cause or words.DASH,
    }
    notes = [
        *_by_lane("Rule", [(row, judgement.rule) for row, judgement in items]),
        *_by_lane("Blind spot", [(row, judgement.blind_spot) for row, judgement in items]),
        _EFFECT_KEY,
    ]
    numeric = {"True p95 is under", "Budget", "Design effect", "Drift"}
    return _slim(sheets.table("How each latency verdict was reached", columns, items, numeric=numeric, notes=notes))


def _by_lane(heading: str, told: Sequence[tuple[Verdict, str]]) -> list[str]:
    """Each text once; with its lanes, where there are several."""
    lanes: dict[str, list[str]] = {}
    for row, text in told:
        lanes.setdefault(text, []).append(_lane(row))
    return [
        f"{heading} of {', '.join(own)}: {text}." if len(lanes) > 1 else f"{heading}: {text}."
        for text, own in lanes.items()
        if text
    ]


def _launches(items: Sequence[tuple[Verdict, LaunchFigures]]) -> Table:
    """Without a budget, and with one launch to a row, there is nothing here that the row does not say."""
    if all(launch.exceedances is None and launch.launch == 0 for _, launch in items):
        items = []
    columns: Columns[tuple[Verdict, LaunchFigures]] = {
        "Lane": lambda item: sheets.isolated(_lane(item[0])),
        "Launch": lambda item: str(item[1].launch),
        "Verdict": lambda item: sheets.badge(item[1].outcome),
        "p50": lambda item: words.quantity(item[1].p50_ns, "ns"),
        "p95": lambda item: words.quantity(item[1].p95_ns, "ns"),
        "Over the budget": lambda item: _of_count(item[1].exceedances, item[1].count),
        "Throttled": lambda item: _of_count(item[1].throttled, item[1].count),
        "Failed": lambda item: f"{item[1].failed:,}",
        "Design effect": lambda item: words.figure(item[1].effect),
        "Evidence for PASS": lambda item: words.figure(item[1].log_pass),
        "Evidence for FAIL": lambda item: words.figure(item[1].log_fail),
        "Why": lambda item: item[1].reason,
    }
    numeric = set(columns) - {"Lane", "Verdict", "Why"}
    weighed = any(launch.log_pass is not None for _, launch in items)
    notes = ["Evidence: natural logarithm; from 3.0 on it decides with an error of 5 %, from 4.6 on of 1 %."] * weighed
    return _slim(sheets.table("Launch by launch", columns, items, numeric=numeric, notes=notes))


def _checks(items: Sequence[tuple[Verdict, Check]], caption: str) -> Table:
    """The gravest answers first."""
    items = sorted(items, key=lambda item: list(words.SYMBOLS).index(item[1].outcome))
    columns: Columns[tuple[Verdict, Check]] = {
        "Question": lambda item: sheets.isolated(item[1].name),
        "Lane": lambda item: sheets.isolated(_lane(item[0])),
        "Answer": lambda item: sheets.badge(item[1].outcome),
        "Why": lambda item: words.as_one((item[1].reason, item[1].means)),
    }
    if len({row.case.id for row, _ in items}) == 1:
        columns = {heading: cell for heading, cell in columns.items() if heading != "Lane"}
    return sheets.table(caption, columns, items)


def load(rows: Sequence[Verdict], anchors: Anchors) -> list[Table]:
    """Fresh processes: the verdicts, and each step of coming up, warm and with nothing cached where that was measured."""
    verdicts: Columns[Verdict] = {
        "Lane": _placed,
        "Verdict": lambda row: sheets.marked(row, anchors),
        "Why": sheets.why,
    }

    def times(pattern: str) -> Callable[[tuple[Verdict, str]], Cell]:
        return lambda item: _told(_named(item[0], pattern.format(item[1])))

    steps = [
        (row, step)
        for row in rows
        for step in _LOADED
        if _named(row, f"{step}_p50_ns") or _named(row, f"first_{step}_p50_ns")
    ]
    columns: Columns[tuple[Verdict, str]] = {
        "Step": lambda item: words.figure_name(item[1])[0],
        "Lane": lambda item: sheets.isolated(_lane(item[0])),
        "p50": times("{}_p50_ns"),
        "p95": times("{}_p95_ns"),
        "Largest": times("{}_max_ns"),
        "Nothing cached, largest": times("first_{}_max_ns"),
    }
    numeric = set(columns) - {"Step", "Lane"}
    return [
        sheets.table("Coming up in fresh processes", verdicts, rows),
        _slim(sheets.table("Step by step, from the start of the process", columns, steps, numeric=numeric)),
    ]


def _times(rows: Sequence[Verdict]) -> Table:
    known = [row for row in rows if row.summary.measurement.load_ns is not None]
    columns: Columns[Verdict] = {
        "Lane": lambda row: sheets.isolated(_lane(row)),
        "Load": lambda row: words.quantity(row.summary.measurement.load_ns, "ns"),
        "First call": lambda row: words.quantity(row.summary.measurement.first_call_ns, "ns"),
        "Profile": lambda row: row.summary.measurement.profile or words.DASH,
        "Launches": lambda row: str(row.summary.measurement.launches or words.DASH),
        "Took": lambda row: words.quantity(row.summary.measurement.duration_ns, "ns"),
    }
    return _slim(
        sheets.table("Load and first call of these rows, once each", columns, known, numeric={"Load", "First call"})
    )


def about_flights(folder: Path, rows: Sequence[Verdict], anchors: Anchors) -> list[About]:
    """A section per lane with its rows about all models together, in the order of ``words.ABOUT_A_FLIGHT``."""
    by_lane: dict[str, list[Verdict]] = {}
    for row in rows:
        if row.case.kind in ABOUT_A_FLIGHT:
            by_lane.setdefault(words.lane(row.case), []).append(row)
    order = list(words.ABOUT_A_FLIGHT)
    return [
        About(
            words.ABOUT_A_FLIGHT["harness"][0]
            if {row.case.kind for row in own} == {"harness"}
            else f"All models together: {lane}",
            f"flight-{at}",
            [_part(folder, row, anchors) for row in sorted(own, key=lambda row: order.index(row.case.kind))],
        )
        for at, (lane, own) in enumerate(sorted(by_lane.items(), key=lambda item: item[1][0].case.kind == "harness"))
    ]


def _part(folder: Path, row: Verdict, anchors: Anchors) -> Part:
    title, intro = words.ABOUT_A_FLIGHT[row.case.kind]
    make = {"flight": _flight, "memory": _memory, "takeoff": _takeoff}.get(row.case.kind, _plain)
    plot, story = figures.mixed(folder, row) if row.case.kind in ("flight", "heat") else (None, None)
    return Part(
        title,
        intro,
        sheets.marked(row, anchors),
        sheets.why(row),
        row.remedy,
        [sheet for sheet in make(row) if sheet.rows or sheet.notes],
        plot,
        story,
    )


def _flight(row: Verdict) -> list[Table]:
    """Each stream with its verdict, then what is about all of them."""
    abouts = list(dict.fromkeys(filter(None, (words.figure_name(figure.name)[1] for figure in row.summary.figures))))
    checks = {check.name: check for check in row.checks}

    def of(name: str, about: str) -> str:
        found = next((figure for figure in row.summary.figures if _is(figure, name, about)), None)
        return words.DASH if found is None else words.quantity(found.value, found.unit)

    columns: Columns[str] = {
        "Model": sheets.isolated,
        "Verdict": lambda name: sheets.badge(checks[name].outcome) if name in checks else words.DASH,
        "Later than the deadline": lambda name: _misses(row, name),
        "Waited in the queue, median": lambda name: of("queue_wait_p50_ns", name),
        "To the device": lambda name: of("h2d_p50_ns", name),
        "Compute": lambda name: of("compute_p50_ns", name),
        "From the device": lambda name: of("d2h_p50_ns", name),
        "Wait": lambda name: of("wait_p50_ns", name),
        "Dropped": lambda name: of("dropped", name),
        "Why": lambda name: checks[name].reason if name in checks else words.DASH,
    }
    load_of_all = next((figure for figure in row.summary.figures if figure.name.startswith("utilisation")), None)
    notes = (
        []
        if load_of_all is None
        else [f"Utilisation of the device by all of them: {_told(load_of_all)} ({load_of_all.source})."]
    )
    notes += _unknown(replace(f, name=f.name.partition("[")[0]) for f in row.summary.figures if "[" in f.name)
    if row.summary.measurement.deadline_ns and not row.summary.measurement.streams:
        notes.append(
            f"Deadline of the stream that decides: {words.quantity(row.summary.measurement.deadline_ns, 'ns')}."
        )
    own = [(row, check) for check in row.checks if check.name.partition(":")[0] not in abouts]
    judgement = row.summary.judgement
    return [
        _slim(sheets.table("Model by model, in the mix", columns, abouts, notes=notes)),
        _checks(own, "What was asked of the whole"),
        _judged([] if judgement is None else [(row, judgement)]),
        _launches([] if judgement is None else [(row, launch) for launch in judgement.launches]),
        *_around(row),
    ]


def _memory(row: Verdict) -> list[Table]:
    """Engine by engine and all resident, a bar under each figure; then leaks, and what else was asked."""
    named = {(words.figure_name(f.name)): f for f in row.summary.figures}
    kinds = ("host_bytes", "gpu_bytes", "total_bytes", "system_taken_bytes")
    stems = {words.figure_name(kind)[0]: kind for kind in kinds}
    abouts = list(dict.fromkeys(about for stem, about in named if stem in stems))
    shown = [named[stem, about] for stem in stems for about in abouts if (stem, about) in named]
    largest = max((figure.value or 0.0 for figure in shown), default=0.0)

    def bar(stem: str) -> Callable[[str], Cell]:
        return lambda about: _bar(named.get((stem, about)), largest)

    headings = {
        "Host": "host_bytes",
        "GPU": "gpu_bytes",
        "Together": "total_bytes",
        "Taken from the system": "system_taken_bytes",
    }
    columns: Columns[str] = {
        "Engine": lambda about: sheets.isolated(about or "all resident"),
        **{heading: bar(words.figure_name(kind)[0]) for heading, kind in headings.items()},
    }
    notes = [
        f"{heading}: {'; '.join(sources)}."
        for heading, kind in headings.items()
        if (sources := dict.fromkeys(_instrument(f) for f in shown if f.value is not None and _stem(f) == kind))
    ]
    notes += _unknown([replace(figure, name=_stem(figure)) for figure in shown])
    leaks = [(row, check) for check in row.checks if check.name.startswith("leak")]
    others = [(row, check) for check in row.checks if not check.name.startswith("leak")]
    rest = [f for f in row.summary.figures if f not in shown and not f.name.startswith("leak")]
    return [
        _checks(others, "Against the budgets"),
        sheets.table("High-water marks, on one scale", columns, abouts, notes=notes),
        _checks(leaks, "Growth from load to load and from call to call"),
        *_by_engine("What else was read", rest),
    ]


def _by_engine(caption: str, items: Sequence[Figure]) -> list[Table]:
    """Engines down, figures across; those that are of no engine are of all resident."""
    found = {(_stem(figure), words.figure_name(figure.name)[1]): figure for figure in items if figure.value is not None}
    columns: dict[str, Callable[[str], Cell]] = {"Engine": lambda about: sheets.isolated(about or "all resident")}
    for stem in dict.fromkeys(stem for stem, _ in found):
        columns[words.figure_name(stem)[0]] = lambda about, stem=stem: _range([found.get((stem, about))])  # type: ignore[misc] # bound default
    abouts = dict.fromkeys(about for _, about in found)
    notes = [
        f"{words.figure_name(stem)[0]}: {source}"
        for stem, source in dict.fromkeys((stem, _instrument(figure)) for (stem, _), figure in found.items())
        if source
    ]
    told = ["; ".join(notes) + "."] * bool(notes) + _unknown([replace(figure, name=_stem(figure)) for figure in items])
    return [sheets.table(caption, columns, abouts, numeric=set(columns) - {"Engine"}, notes=told)]


def _takeoff(row: Verdict) -> list[Table]:
    """The take-off and the restart after a kill, side by side."""
    stems: dict[str, dict[str, Figure]] = {}
    others = []
    for figure in row.summary.figures:
        start, _, stem = figure.name.partition("_")
        if start in ("takeoff", "restart"):
            stems.setdefault(stem, {})[start] = figure
        else:
            others.append(figure)
    known = [stem for stem, both in stems.items() if any(figure.value is not None for figure in both.values())]
    unknown = [
        replace(figure, name=stem) for stem, both in stems.items() if stem not in known for figure in both.values()
    ]
    columns: Columns[str] = {
        "Figure": lambda stem: words.figure_name(stem)[0],
        "Take-off": lambda stem: _told(stems[stem].get("takeoff")),
        "After SIGKILL": lambda stem: _told(stems[stem].get("restart")),
        "Source": lambda stem: next(iter(stems[stem].values())).source or words.DASH,
    }
    return [
        _checks([(row, check) for check in row.checks], "What was asked"),
        sheets.table("Take-off and restart", columns, known, notes=_unknown(unknown)),
        _listed("Of both", others),
    ]


def _plain(row: Verdict) -> list[Table]:
    judgement = row.summary.judgement
    seen = [figure for figure in row.summary.figures if not figure.name.startswith(("exceeding", "other_"))]
    return [
        _checks([(row, check) for check in row.checks], "What was asked"),
        _listed("What was seen", seen),
        _across(_CYCLES_CAPTION, [row], _CYCLES),
        _judged([] if judgement is None else [(row, judgement)]),
    ]


def _around(row: Verdict) -> list[Table]:
    """The board and its memory during a row, and what no table of ours has a column for."""
    tables = {_AROUND_CAPTION: _AROUND, _MEMORY_CAPTION: _MEMORY}
    shown = ("exceeding", "other_", "soak_", "utilisation", "gpu_temp", "tj_temp", "cpu_temp", "gpu_clock", "system_free", "swap",
             "driver_total", "free_blocks")  # fmt: skip
    known = {stem for headings in (*tables.values(), _SPLIT) for stems in headings.values() for stem in stems}
    rest = [
        f for f in row.summary.figures if "[" not in f.name and f.name not in known and not f.name.startswith(shown)
    ]
    return [
        *(_across(caption, [row], headings) for caption, headings in tables.items()),
        _across("The harness in this row", [row], {"Harness late, p99": ["harness_late_p99_ns"]}),
        _listed("What else was seen", rest),
    ]


def _across(caption: str, rows: Sequence[Verdict], headings: Mapping[str, Sequence[str]]) -> Table:
    """A line per row, a column per figure; the sources, and why a figure is nowhere, stand under the table."""
    columns: dict[str, Callable[[Verdict], Cell]] = {
        "Row": lambda row: sheets.isolated(_subject(row)) + _under(row) + sheets.doubt(row),
    }
    notes: dict[str, list[str]] = {}
    for heading, stems in headings.items():
        found = [figure for row in rows for stem in stems if (figure := _named(row, stem)) is not None]
        known = [figure for figure in found if figure.value is not None]
        if known:
            columns[heading] = lambda row, stems=stems: _range([_named(row, stem) for stem in stems])  # type: ignore[misc] # bound default
        told = dict.fromkeys(figure.source for figure in known if figure.source) or dict.fromkeys(
            f"not known, {figure.why}" for figure in found if figure.why
        )
        if len(told) == 1:
            notes.setdefault(next(iter(told)), []).append(heading)
    lines = [row for row in rows if any(cell(row) != words.DASH for cell in list(columns.values())[1:])]
    sources = [f"{', '.join(names)}: {source}" for source, names in notes.items()]
    return sheets.table(
        caption,
        columns,
        lines,
        numeric=set(columns) - {"Row"},
        notes=["; ".join(sources) + "."] * bool(sources),
    )


def _range(found: Sequence[Figure | None]) -> str:
    """From the first of some figures to the last; one where they are alike, with its interval where it has one."""
    if len(found) == 1 and found[0] is not None:
        return words.spread(found[0].value, found[0].low, found[0].high, found[0].unit)
    told = list(dict.fromkeys(words.quantity(figure.value, figure.unit) for figure in found if figure is not None))
    units = {text.rpartition(" ")[2] for text in told}
    if len(told) > 1 and len(units) == 1:
        told[:-1] = [text.rpartition(" ")[0] for text in told[:-1]]
    return " to ".join(told) or words.DASH


def _listed(caption: str, items: Sequence[Figure]) -> Table:
    columns: Columns[Figure] = {
        "Figure": lambda figure: " ".join(filter(None, words.figure_name(figure.name))),
        "Value": _told,
        "Source": lambda figure: figure.source or words.DASH,
    }
    known = [figure for figure in items if figure.value is not None]
    return sheets.table(caption, columns, known, notes=_unknown(items))


def _unknown(items: Iterable[Figure]) -> list[str]:
    """What is not known, by reason, in one line."""
    reasons: dict[str, dict[str, None]] = {}
    for figure in items:
        if figure.value is None:
            reasons.setdefault(figure.why, {})[" ".join(filter(None, words.figure_name(figure.name)))] = None
    told = [f"{', '.join(names)} ({why})" if why else ", ".join(names) for why, names in reasons.items()]
    return [f"Not known: {'; '.join(told)}."] * bool(told)


def _told(figure: Figure | None) -> Cell:
    """A figure with unit and interval; where there is none, a dash with its reason."""
    if figure is None:
        return words.DASH
    if figure.value is None:
        return f"{words.DASH} ({figure.why})" if figure.why else words.DASH
    return words.spread(figure.value, figure.low, figure.high, figure.unit)


def _bar(figure: Figure | None, largest: float) -> Cell:
    text = _range([figure])
    if figure is None or not figure.value or largest <= 0:
        return text
    share = max(0.0, 100 * figure.value / largest)
    return Markup(
        '{} <svg class="meter" aria-hidden="true" width="100%" height="8"><line class="base" x1="0" x2="100%" y1="7.5" y2="7.5"/>'
        '<rect class="bars" x="0" y="0" width="{:.1f}%" height="7"/></svg>'
    ).format(text, share)


def _slim(sheet: Table) -> Table:
    """Without columns that are dashes all the way down; what every line of several says alike, at length, becomes a note."""
    if not sheet.rows:
        return replace(sheet, notes=())
    kept, notes = [0], []
    for at, heading in enumerate(sheet.headings[1:], start=1):
        cells = [line[at] for line in sheet.rows]
        if all(cell == words.DASH for cell in cells):
            continue
        if len(cells) > 1 and len(set(cells)) == 1 and len(cells[0]) > _LONG and not isinstance(cells[0], Markup):
            notes.append(f"{heading}, in every line: {cells[0]}")
        else:
            kept.append(at)
    return Table(
        sheet.caption,
        [sheet.headings[at] for at in kept],
        [[line[at] for at in kept] for line in sheet.rows],
        sheet.numeric,
        [*notes, *sheet.notes],
    )


def board(frame: pd.DataFrame) -> tuple[list[tuple[str, str]], Table]:
    """The board around each row: what is one and the same for all of them, and a table of the rest, changes marked."""
    rows = sheets.records(frame)
    names = [name.removesuffix("_start") for name in map(str, frame) if name.endswith("_start")]
    told = {
        name: [(_state(name, row[f"{name}_start"]), _state(name, row[f"{name}_end"])) for row in rows] for name in names
    }
    same = {
        name: cells[0][0]
        for name, cells in told.items()
        if cells and {end for both in cells for end in both} == {cells[0][0]}
    }
    throttled = {_state("throttled", row["throttled"]) for row in rows}
    facts = [(_BOARD_NAMES.get(name, name), value) for name, value in same.items() if value != words.DASH]
    if len(rows) > 1 and len(throttled) == 1 and throttled != {words.DASH}:
        facts.append(("Throttled", throttled.pop()))
        throttled = set()
    columns: dict[str, Callable[[int], Cell]] = {"Row": lambda at: rows[at]["case"]}
    for name in names:
        if name not in same:
            columns[_BOARD_NAMES.get(name, name)] = lambda at, name=name: _change(name, *told[name][at])  # type: ignore[misc] # bound default
    if throttled - {words.DASH}:
        columns["Throttled"] = lambda at: _state("throttled", rows[at]["throttled"])
    shown = range(len(rows)) if len(columns) > 1 else range(0)
    return facts, sheets.table(
        "State of the board at the start → at the end of each row",
        columns,
        shown,
        notes=["≠ marks what ought to stay the same from the start of a row to its end, and did not."] if shown else (),
    )


def unlike(frame: pd.DataFrame) -> Table:
    """What ought to be one and the same from the first row to the last, and was not; and in which rows it was which."""
    rows = sheets.records(frame)
    found: dict[str, dict[str, dict[str, None]]] = {}
    for name in (name for name in _BOARD_NAMES if name in _OUGHT_TO_STAY):
        for row in rows:
            for end in ("start", "end"):
                found.setdefault(name, {}).setdefault(_state(name, row[f"{name}_{end}"]), {})[str(row["case"])] = None
    known = {
        name: {value: cases for value, cases in seen.items() if value != words.DASH} for name, seen in found.items()
    }
    lines = [
        (_BOARD_NAMES[name], value, list(cases))
        for name, seen in known.items()
        if len(seen) > 1
        for value, cases in seen.items()
    ]
    columns: Columns[tuple[str, str, list[str]]] = {
        "What": lambda line: line[0],
        "Value": lambda line: sheets.isolated(line[1]),
        "In rows": lambda line: str(len(line[2])),
        "Which": lambda line: sheets.listed(line[2], 6),
    }
    alike = [_BOARD_NAMES[name] for name, seen in known.items() if len(seen) == 1]
    untold = [_BOARD_NAMES[name] for name, seen in known.items() if not seen]
    notes = [f"One and the same from the first row to the last: {', '.join(alike)}."] * bool(alike)
    notes += [f"No instrument told: {', '.join(untold)}."] * bool(untold and rows)
    caption = "What ought to be the same for all rows" + (", and was not" if lines else "")
    return sheets.table(caption, columns, lines, numeric={"In rows"}, notes=notes)


_BOARD_NAMES: Mapping[str, str] = {
    "cpu_temp_c": "CPU °C", "gpu_temp_c": "GPU °C", "clock_mhz": "Clock MHz", "load_1min": "Load", "power_mode": "Power mode",
    "power_mode_id": "Power mode id", "caps": "Caps", "is_pinned": "Clocks pinned", "governor": "Governor",
    "fan_rpm": "Fan rpm", "fan_pwm": "Fan PWM", "temperatures_c": "Zones °C", "gpu_load_percent": "GPU load %",
    "gpu_processes": "Others on the GPU", "oc_events": "Over-current events", "available_bytes": "Memory available",
    "uptime_s": "Uptime", "boot_id": "Boot", "module": "Module", "source": "Read from", "notes": "Notes",
}  # fmt: skip
_OUGHT_TO_STAY = frozenset(
    (
        "power_mode",
        "power_mode_id",
        "caps",
        "is_pinned",
        "governor",
        "gpu_processes",
        "oc_events",
        "boot_id",
        "module",
        "source",
    )
)


def _state(name: str, value: object) -> str:
    if sheets.absent(value) or value == "":
        return words.DASH
    if name == "temperatures_c":
        return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.1f}", str(value))
    if name in ("is_pinned", "throttled"):
        return "yes" if value else "no"
    if name in ("power_mode_id", "oc_events") and isinstance(value, int | float):
        return f"{value:.0f}"
    if name == "clock_mhz" and isinstance(value, int | float):
        return f"{value:,.0f}"
    if name == "available_bytes" and isinstance(value, int | float):
        return words.quantity(float(value), "bytes")
    if name == "uptime_s" and isinstance(value, int | float):
        return words.duration(float(value))
    return words.figure(value) if isinstance(value, int | float) else str(value)


def _change(name: str, start: str, end: str) -> Cell:
    if start == end:
        return start
    text = f"{start} → {end}"
    if name not in _OUGHT_TO_STAY or words.DASH in (start, end):
        return text
    return Markup('<strong><span aria-hidden="true">≠</span><span class="sr">changed:</span> {}</strong>').format(
        words.plain(text)
    )


def _subject(row: Verdict) -> str:
    """What a row of Tier-2 is about, in few words."""
    if row.case.kind in words.ABOUT_A_FLIGHT:
        return words.ABOUT_A_FLIGHT[row.case.kind][0]
    return row.case.model if row.case.kind == "latency" else f"{row.case.model} ({row.case.kind})"


def _lane(row: Verdict) -> str:
    return words.lane(row.case, row.summary.measurement.lane_name)


def _placed(row: Verdict) -> Markup:
    """The lane, and under it where it really ran."""
    placement = words.plain(row.summary.measurement.placement)
    return sheets.isolated(_lane(row)) + (Markup(" <small>{}</small>").format(placement) if placement else Markup())


def _under(row: Verdict) -> Markup:
    """A row's lane, in small letters under what stands before."""
    return Markup("<br><small>{}</small>").format(sheets.isolated(_lane(row)))


def _calls(row: Line) -> Markup:
    """How many there were and failed, and at which rate of that at which they were due."""
    rate = f"{words.figure(row['calls_per_s'])} /s"
    asked = "closed loop" if sheets.absent(row["rate_hz"]) else f"due at {row['rate_hz']:g} /s"
    failed = f", {row['failed']:,} failed" if row["failed"] else ""
    return Markup("{}<br><small>{}</small><br><small>{}</small>").format(f"{row['calls']:,}{failed}", rate, asked)


def _rate_hz(row: Verdict) -> float | None:
    latency = row.summary.latency
    return row.summary.measurement.rate_hz or (latency.calls_per_s if latency else None)


def _held(row: Verdict) -> str:
    share = figure_of(row, "throttled_requests_share", "held_while_throttled_percent")
    return words.DASH if share is None else words.percent(share / 100)


def _budget_ms(row: Verdict) -> float | None:
    judgement = row.summary.judgement
    return None if judgement is None or judgement.budget_ns is None else judgement.budget_ns / 1e6


def _bound(judgement: Judgement) -> str:
    told = words.quantity(judgement.bound_ns, "ns")
    return told if told == words.DASH else f"{told} ({100 * (1 - judgement.alpha):g} % sure)"


def _effect(judgement: Judgement) -> str:
    told = words.figure(judgement.effect)
    if judgement.floor is None:
        return told
    source = f", {judgement.floor_source}" if judgement.floor_source else ""
    return f"{told} (floor {words.figure(judgement.floor)}{source})"


def _of_count(part: int | None, count: int) -> str:
    if part is None:
        return words.DASH
    return f"{part:,} of {count:,}" + (f" ({words.percent(part / count)})" if part and count else "")


def _misses(row: Verdict, model: str) -> str:
    figure = next(
        (f for f in row.summary.figures if f.name.startswith("deadline_misses") and f.name.endswith(f"[{model}]")), None
    )
    if figure is None or figure.value is None:
        return words.DASH
    return f"{figure.value:,.0f} {figure.source}"


def _stem(figure: Figure) -> str:
    return figure.name.partition("[")[0]


def _instrument(figure: Figure) -> str:
    """Where a figure comes from, without how often it was looked at."""
    return re.sub(r"(, worst of \d+ looks?)+$", "", figure.source)


def _is(figure: Figure, stem: str, about: str) -> bool:
    return figure.name == f"{stem}[{about}]"


def _named(row: Verdict, stem: str) -> Figure | None:
    """The figure of a name; a name that goes on after a dot says of which model."""
    return next((figure for figure in row.summary.figures if figure.name.partition(".")[0] == stem), None)
