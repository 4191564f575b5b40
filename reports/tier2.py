"""Tier-2 on the page: how fast, how hot, how much memory, and what each verdict of that rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from harness.records import ABOUT_A_FLIGHT, Check, Figure, Judgement, LaunchFigures, Outcome, Verdict
from reports import figures, sheets, words
from reports.sheets import Anchors, Cell, Columns, Line, Table
from reports.tables import figure_of

__all__ = ["About", "Lead", "about_flights", "board", "latency", "lead", "load", "of_model"]

_SPLIT: Mapping[str, str] = {
    "h2d_p50_ns": "To the device", "compute_p50_ns": "Compute", "d2h_p50_ns": "From the device", "wait_p50_ns": "Wait",
    "queue_wait_p50_ns": "In the queue", "harness_late_p99_ns": "Harness late, p99", "utilisation": "Utilisation",
    "dropped": "Dropped", "deadline_misses": "Late or lost",
}  # fmt: skip
_AROUND: Mapping[str, str] = {
    "throttled_requests_share": "Requests throttled", "throttled_share": "Time throttled", "p95_throttled_ns": "p95 throttled",
    "p95_unthrottled_ns": "p95 otherwise", "oc_events": "Over-current", "gpu_clock_min_mhz": "GPU clock, lowest",
    "gpu_clock_max_mhz": "highest", "tj_temp_max_c": "Junction, hottest", "gpu_temp_max_c": "GPU, hottest",
    "cpu_temp_max_c": "CPU, hottest", "soak_s": "Soak", "mean_power_w": "Mean power", "energy_per_call_j": "Energy per call",
    "dynamic_energy_per_call_j": "of it above idle",
}  # fmt: skip
_MEMORY: Mapping[str, str] = {
    "process_bytes": "Process", "process_peak_bytes": "Process, peak", "ledger_bytes": "Runtime's ledger",
    "driver_process_bytes": "Process, by the driver", "nvmap_bytes": "NvMap", "driver_free_bytes": "Driver, free",
    "system_available_bytes": "System, available", "largest_block_bytes": "Largest free block",
}  # fmt: skip
_LOADED = ("load", "session", "compile", "first_call", "import", "start", "ready")


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
    """The verdict on Tier-2 in words, and every one of its rows in a line. ``None`` for a run without such rows."""
    own = [row for row in rows if row.case.kind in ("latency", "load", *ABOUT_A_FLIGHT)]
    if not own:
        return None
    columns: Columns[Verdict] = {
        "Row": lambda row: Markup('<a href="#{}">{}</a>').format(anchors[row.case.id], sheets.isolated(_subject(row))),
        "Lane": lambda row: sheets.isolated(words.lane(row.case, row.summary.measurement.lane_name)),
        "Verdict": lambda row: sheets.badge(row.outcome) + sheets.doubt(row),
        "Budget of p95": lambda row: words.milliseconds(_budget_ms(row)),
        "p95": lambda row: words.quantile(row.summary.latency.p95) if row.summary.latency else words.DASH,
        "Throttled": _held,
        "Why": lambda row: words.as_one((row.reason, row.remedy)),
    }
    timed = [row for row in own if row.case.kind == "latency"]
    made = [
        _slim(sheets.table("Every row of Tier-2", columns, own, numeric={"Budget of p95", "p95"})),
        _across("Where the time of a call goes: medians, unless the name says otherwise", timed, _SPLIT),
        _across("The board while that was measured", timed, _AROUND),
        _across(
            "Memory at the end of each of these rows. Its sources overlap: they are no sum.",
            timed,
            _MEMORY,
        ),
    ]
    return Lead(_sentences(own), [sheet for sheet in made if sheet.rows])


def _sentences(rows: Sequence[Verdict]) -> list[str]:
    by: dict[Outcome, list[Verdict]] = {
        outcome: [row for row in rows if row.outcome is outcome] for outcome in words.SYMBOLS
    }
    told = {
        Outcome.FAIL: "over a limit",
        Outcome.INCONCLUSIVE: "not decided",
        Outcome.NOT_RUN: "without evidence",
        Outcome.MEASURED: "measured, with no budget that applies",
        Outcome.PASS: "within every limit that applies",
    }
    return [
        f"{len(own)} of {len(rows)} {'row is' if len(own) == 1 else 'rows are'} {told[outcome]}: "
        f"{', '.join(dict.fromkeys(_subject(row) for row in own))}."
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
        "Calls": time(lambda row: f"{row['calls']:,}" + (f", {row['failed']:,} failed" if row["failed"] else "")),
        "Rate": time(_rate),
        "Throttled": _held,
        "Why": sheets.why,
    }
    notes = [dashed] * bool(levels) + [f"Timed: {boundary}." for boundary in boundaries]
    return _slim(
        sheets.table(
            "Latency of one call", columns, rows, numeric={"Budget of p95", *times, "Calls", "Rate"}, notes=notes
        )
    )


def of_model(rows: Sequence[Verdict], anchors: Anchors) -> list[Table]:
    """What the latencies and loads of one model rest on, table by table; those without lines are left out."""
    timed = [row for row in rows if row.case.kind == "latency"]
    loaded = [row for row in rows if row.case.kind == "load"]
    judged = [(row, row.summary.judgement) for row in timed if row.summary.judgement is not None]
    made = [
        load(loaded, anchors),
        _judged(judged),
        _launches([(row, launch) for row, judgement in judged for launch in judgement.launches]),
        _checks([(row, check) for row in timed for check in row.checks if check.outcome is not Outcome.PASS]),
        _times(timed),
    ]
    return [sheet for sheet in made if sheet.rows]


def _judged(items: Sequence[tuple[Verdict, Judgement]]) -> Table:
    columns: Columns[tuple[Verdict, Judgement]] = {
        "Lane": lambda item: sheets.isolated(_lane(item[0])),
        "Verdict": lambda item: sheets.badge(item[0].outcome) + sheets.doubt(item[0]),
        "True p95 is under": lambda item: _bound(item[1]),
        "Budget": lambda item: words.quantity(item[1].budget_ns, "ns"),
        "Design effect": lambda item: _effect(item[1]),
        "Drift": lambda item: f"{item[1].drift:+.1%}" if item[1].drift is not None else words.DASH,
        "What would decide": lambda item: words.undecided(item[1].needed, _rate_hz(item[0])) or words.DASH,
        "Cause": lambda item: item[1].cause or words.DASH,
        "Blind spot": lambda item: item[1].blind_spot or words.DASH,
        "Rule": lambda item: item[1].rule,
    }
    return _slim(
        sheets.table(
            "How each latency verdict was reached",
            columns,
            items,
            numeric={"True p95 is under", "Budget", "Design effect", "Drift"},
            notes=[
                "Design effect: how many of these calls, which resemble their neighbours, tell as much as one independent call."
            ],
        )
    )


def _launches(items: Sequence[tuple[Verdict, LaunchFigures]]) -> Table:
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
        "Evidence for PASS, FAIL": lambda item: f"{words.figure(item[1].log_pass)}, {words.figure(item[1].log_fail)}",
        "Why": lambda item: item[1].reason,
    }
    numeric = set(columns) - {"Lane", "Verdict", "Why"}
    notes = ["Evidence: logarithm of the odds gathered for each side; at 3.0 and more it decides at 5 %."]
    return _slim(sheets.table("Launch by launch", columns, items, numeric=numeric, notes=notes))


def _checks(
    items: Sequence[tuple[Verdict, Check]], caption: str = "What was asked of these rows and did not simply pass"
) -> Table:
    columns: Columns[tuple[Verdict, Check]] = {
        "Question": lambda item: sheets.isolated(item[1].name),
        "Lane": lambda item: sheets.isolated(_lane(item[0])),
        "Answer": lambda item: sheets.badge(item[1].outcome),
        "Why": lambda item: words.as_one((item[1].reason, item[1].means)),
    }
    return _slim(sheets.table(caption, columns, items))


def load(rows: Sequence[Verdict], anchors: Anchors) -> Table:
    """Fresh processes: each step of coming up, warm, and with nothing cached where that was measured."""
    items: list[tuple[Verdict, str]] = []
    for row in rows:
        steps = [step for step in _LOADED if _named(row, f"{step}_p50_ns") or _named(row, f"first_{step}_p50_ns")]
        items += [(row, step) for step in steps] or [(row, "")]

    def times(pattern: str) -> Callable[[tuple[Verdict, str]], Cell]:
        return lambda item: _told(_named(item[0], pattern.format(item[1])))

    columns: Columns[tuple[Verdict, str]] = {
        "Step": lambda item: words.figure_name(item[1])[0] or "none was timed",
        "Lane": lambda item: sheets.isolated(_lane(item[0])),
        "Verdict": lambda item: sheets.marked(item[0], anchors) if _is_first(item, items) else words.DASH,
        "p50": times("{}_p50_ns"),
        "p95": times("{}_p95_ns"),
        "Largest": times("{}_max_ns"),
        "Nothing cached": times("first_{}_max_ns"),
        "Why": lambda item: sheets.why(item[0]) if _is_first(item, items) else words.DASH,
    }
    numeric = {"p50", "p95", "Largest", "Nothing cached"}
    return _slim(sheets.table("Coming up in fresh processes", columns, items, numeric=numeric))


def _is_first(item: tuple[Verdict, str], items: Sequence[tuple[Verdict, str]]) -> bool:
    return next(other for other in items if other[0] is item[0]) is item


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
            f"All models together: {lane}",
            f"flight-{at}",
            [_part(folder, row, anchors) for row in sorted(own, key=lambda row: order.index(row.case.kind))],
        )
        for at, (lane, own) in enumerate(by_lane.items())
    ]


def _part(folder: Path, row: Verdict, anchors: Anchors) -> Part:
    title, intro = words.ABOUT_A_FLIGHT[row.case.kind]
    make = {"flight": _flight, "memory": _memory, "takeoff": _takeoff}.get(row.case.kind, _plain)
    mixed = row.case.kind in ("flight", "heat")
    told = [row] if mixed and row.summary.measurement.samples_file else []
    return Part(
        title,
        intro,
        sheets.marked(row, anchors),
        sheets.why(row),
        row.remedy,
        [sheet for sheet in make(row) if sheet.rows],
        figures.streams(folder, row) if told else None,
        next(iter(figures.stories(folder, told)), None),
    )


def _flight(row: Verdict) -> list[Table]:
    """Each stream with its verdict, then what is about all of them."""
    abouts = list(dict.fromkeys(filter(None, (words.figure_name(figure.name)[1] for figure in row.summary.figures))))
    checks = {check.name: check for check in row.checks}

    def of(name: str, about: str) -> Cell:
        return _told(next((figure for figure in row.summary.figures if _is(figure, name, about)), None))

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
    if row.summary.measurement.deadline_ns:
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
        _listed("Of all of them together", [f for f in row.summary.figures if not words.figure_name(f.name)[1]]),
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
        f"{heading}: {', '.join(sources)}."
        for heading, kind in headings.items()
        if (sources := dict.fromkeys(f.source for f in shown if f.name.partition("[")[0] == kind and f.source))
    ]
    leaks = [(row, check) for check in row.checks if check.name.startswith("leak")]
    others = [(row, check) for check in row.checks if not check.name.startswith("leak")]
    rest = [f for f in row.summary.figures if f not in shown and not f.name.startswith("leak")]
    return [
        _checks(others, "Against the budgets"),
        sheets.table("High-water marks, on one scale", columns, abouts, notes=notes),
        _checks(leaks, "Growth from load to load and from call to call"),
        _listed("What else was read", rest),
    ]


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
    columns: Columns[str] = {
        "Figure": lambda stem: words.figure_name(stem)[0],
        "Take-off": lambda stem: _told(stems[stem].get("takeoff")),
        "After SIGKILL": lambda stem: _told(stems[stem].get("restart")),
        "Source": lambda stem: next(iter(stems[stem].values())).source or words.DASH,
    }
    return [
        _checks([(row, check) for check in row.checks], "What was asked"),
        sheets.table("Take-off and restart", columns, stems, numeric={"Take-off", "After SIGKILL"}),
        _listed("Of both", others),
    ]


def _plain(row: Verdict) -> list[Table]:
    judgement = row.summary.judgement
    return [
        _checks([(row, check) for check in row.checks], "What was asked"),
        _listed("What was seen", row.summary.figures),
        _judged([] if judgement is None else [(row, judgement)]),
    ]


def _across(caption: str, rows: Sequence[Verdict], headings: Mapping[str, str]) -> Table:
    """A line per row, a column per figure; the sources, and why a figure is nowhere, stand under the table."""
    columns: dict[str, Callable[[Verdict], Cell]] = {
        "Model": lambda row: sheets.isolated(row.case.model),
        "Lane": lambda row: sheets.isolated(_lane(row)) + sheets.doubt(row),
    }
    notes: dict[str, list[str]] = {}
    for stem, heading in headings.items():
        found = [figure for row in rows if (figure := _named(row, stem)) is not None]
        known = [figure for figure in found if figure.value is not None]
        if known:
            columns[heading] = lambda row, stem=stem: _value(_named(row, stem))  # type: ignore[misc] # bound default
        told = dict.fromkeys(figure.source for figure in known if figure.source) or dict.fromkeys(
            f"not known: {figure.why}" for figure in found if figure.why
        )
        if len(told) == 1:
            notes.setdefault(next(iter(told)), []).append(heading)
    lines = rows if len(columns) > 2 else []
    told_all = [f"{', '.join(names)}: {source}." for source, names in notes.items()]
    return sheets.table(
        caption, columns, lines, numeric=set(columns) - {"Model", "Lane"}, notes=told_all if lines else ()
    )


def _value(figure: Figure | None) -> str:
    return words.DASH if figure is None else words.quantity(figure.value, figure.unit)


def _listed(caption: str, items: Iterable[Figure]) -> Table:
    columns: Columns[Figure] = {
        "Figure": lambda figure: " ".join(filter(None, words.figure_name(figure.name))),
        "Value": _told,
        "Source": lambda figure: figure.source or words.DASH,
    }
    return sheets.table(caption, columns, items)


def _told(figure: Figure | None) -> Cell:
    """A figure with unit and interval; where there is none, a dash with its reason."""
    if figure is None:
        return words.DASH
    if figure.value is None:
        return f"{words.DASH} ({figure.why})" if figure.why else words.DASH
    return words.spread(figure.value, figure.low, figure.high, figure.unit)


def _bar(figure: Figure | None, largest: float) -> Cell:
    text = _told(figure)
    if figure is None or not figure.value or largest <= 0:
        return text
    share = max(0.0, 100 * figure.value / largest)
    return Markup(
        '{} <svg class="meter" aria-hidden="true" width="100%" height="8"><line class="base" x1="0" x2="100%" y1="7.5" y2="7.5"/>'
        '<rect class="bars" x="0" y="0" width="{:.1f}%" height="7"/></svg>'
    ).format(words.plain(str(text)), share)


def _slim(sheet: Table) -> Table:
    """Without columns that are dashes all the way down; what every line of several says alike, at length, becomes a note."""
    if not sheet.rows:
        return sheet
    kept, notes = [0], []
    for at, heading in enumerate(sheet.headings[1:], start=1):
        cells = [line[at] for line in sheet.rows]
        if all(cell == words.DASH for cell in cells):
            continue
        if (
            len(cells) > 1
            and len(set(cells)) == 1
            and not isinstance(cells[0], Markup)
            and heading not in sheet.numeric
        ):
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
    if name in ("is_pinned", "throttled"):
        return "yes" if value else "no"
    if name in ("power_mode_id", "oc_events") and isinstance(value, int | float):
        return f"{value:.0f}"
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


def _rate(row: Line) -> str:
    done = f"{words.figure(row['calls_per_s'])} /s"
    return f"{done}, closed loop" if sheets.absent(row["rate_hz"]) else f"{done} of {row['rate_hz']:g} /s"


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


def _is(figure: Figure, stem: str, about: str) -> bool:
    return figure.name == f"{stem}[{about}]"


def _named(row: Verdict, stem: str) -> Figure | None:
    """The figure of a name; a name that goes on after a dot says of which model."""
    return next((figure for figure in row.summary.figures if figure.name.partition(".")[0] == stem), None)
