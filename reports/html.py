"""``report.html``: one self-contained page without scripts. What it shows is text made here; how, is in ``templates/``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from harness.records import ABOUT_A_FLIGHT, ABOUT_RUNTIMES, Outcome, Run, Verdict
from reports import figures, sheets, tier2, words
from reports.ranking import gravest, matters

__all__ = ["ROWS_IN_FULL", "render"]


_MEANINGS: Mapping[Outcome, str] = {
    Outcome.PASS: "Judged, and within every limit that applies.",
    Outcome.FAIL: "Judged, and over a limit; or the runtime refused or broke.",
    Outcome.INCONCLUSIVE: "Judged, and the evidence decides neither way; the reason says what would.",
    Outcome.MEASURED: "Not judged: no limit applies here. The figures are for information.",
    Outcome.NOT_RUN: "There is no evidence about this row; the reason says why.",
}


@dataclass(frozen=True)
class ModelPage:
    """The section of one model. ``anchor``: where links to it lead."""

    name: str
    anchor: str
    tally: Mapping[Outcome, int]
    findings: Sequence[sheets.Finding]
    lanes: sheets.Table
    parity: sheets.Table
    errors: Sequence[figures.Figure]
    pairs: sheets.Table
    task: sheets.Table
    latency: sheets.Table
    times: figures.Figure | None
    stories: Sequence[figures.Story]
    speed: Sequence[sheets.Table]
    lineage: sheets.Table


ROWS_IN_FULL = 240
"""Of a page. Of more, the gravest are told in full, and the page says how many are left out and where they are."""


_TOLD_ABOVE = ("command", "last_line")


def render(
    folder: Path,
    run: Run,
    tables: Mapping[str, pd.DataFrame],
    doubts: Sequence[str] = (),
    *,
    parts: Mapping[str, Run] | None = None,
    sources: Mapping[str, str] | None = None,
) -> str:
    """The page. A file of samples or errors that cannot be read is said in its place, and stops nothing.

    ``doubts``: what the record says against itself, in sentences, which stand above everything. Of several runs together,
    ``parts`` has each by its label, and ``sources`` the label of each case id.
    """
    rows = words.rows_of(run)
    shown = gravest(rows, ROWS_IN_FULL)
    anchors = {row.case.id: f"row-{at}" for at, row in enumerate(shown)}
    of_models = [row for row in shown if row.case.kind not in (*ABOUT_RUNTIMES, *ABOUT_A_FLIGHT)]
    models = {model: f"model-{at}" for at, model in enumerate(dict.fromkeys(row.case.model for row in of_models))}
    about = {kind: [row for row in shown if row.case.kind == kind] for kind in ABOUT_RUNTIMES}
    of = {name: frame[frame["case"].isin(anchors)] if "case" in frame else frame for name, frame in tables.items()}
    by_model = {name: dict(list(frame.groupby("model", sort=False))) for name, frame in of.items() if "model" in frame}
    plotted, unplotted = _plotted(shown)
    facts, board = tier2.board(of["board"])
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            run=run,
            version=run.trigate_version,
            title=words.title(run),
            span=words.span(run),
            tone=_tone(run),
            headline=words.headline(run),
            last_line=words.last_line(run),
            doubts=doubts,
            left_out=_left_out(rows, anchors),
            unplotted=unplotted,
            tally=words.tally(rows),
            meanings=_MEANINGS,
            settled=len(run.verdicts),
            rows=len(rows),
            simulated=sum(row.summary.measurement.simulated for row in rows),
            matters=[(matter, anchors[matter.row.case.id]) for matter in matters(rows)],
            runs=sheets.runs(parts or {}, sources or {}),
            glance=sheets.glance(shown, models, anchors),
            models=[
                _model(
                    folder,
                    name,
                    anchor,
                    rows=[row for row in of_models if row.case.model == name],
                    tables={table: frames.get(name, of[table][:0]) for table, frames in by_model.items()},
                    anchors=anchors,
                    plotted=plotted,
                )
                for name, anchor in models.items()
            ],
            about=[sheets.about_runtimes(kind, own, anchors) for kind, own in about.items() if own],
            not_run=sheets.not_run(tables["not_run"]),
            coverage=sheets.coverage(tables["coverage"], rows),
            tier2=tier2.lead(rows, anchors),
            flights=tier2.about_flights(folder, shown, anchors),
            story_key=figures.STORY_KEY,
            board=board,
            board_facts=facts,
            unlike=tier2.unlike(tables["board"]),
            facts={
                section: [fact for fact in sheets.facts(tables["environment"], section) if fact[0] not in _TOLD_ABOVE]
                for section in ("run", "settings", "host")
            },
            differences=sheets.differences(tables["environment"]),
        )
    )


def _tone(run: Run) -> str:
    """The colour beside the heading: that of PASS only where something was required, and is shown."""
    if words.title(run) == "PASS":
        return "pass" if any(words.is_evidence(row) and row.case.required for row in run.verdicts) else "open"
    return "fail" if words.title(run) == "FAIL" else "open"


def _left_out(rows: Sequence[Verdict], anchors: Mapping[str, str]) -> str:
    """What of a run is not told in full, in a sentence; empty where all of it is."""
    out = [row for row in rows if row.case.id not in anchors]
    if not out:
        return ""
    counts = ", ".join(f"{outcome.value} {count:,}" for outcome, count in words.tally(out).items() if count)
    return (
        f"Of {len(rows):,} rows the {len(rows) - len(out):,} that matter most are told in full. Not told in full: {counts}. "
        "They count in every sum here; tables/verdicts.csv (trigate report --format csv) has a line for each, "
        "run.json everything."
    )


def _plotted(rows: Sequence[Verdict]) -> tuple[frozenset[str], str]:
    """The ids of the rows that are plotted over time or with their errors, and in a sentence which are not."""
    drawn: set[str] = set()
    untold = []
    for what, files in (
        ("over time", [row for row in rows if row.summary.measurement.samples_file and row.case.kind == "latency"]),
        ("with their errors", [row for row in rows if row.summary.measurement.errors_file]),
    ):
        chosen = gravest(files, figures.PLOTTED_ROWS)
        drawn |= {row.case.id for row in chosen}
        if len(chosen) < len(files):
            untold.append(f"{len(chosen)} of {len(files):,} rows {what}")
    return frozenset(drawn), f"Plotted are those that matter most: {' and '.join(untold)}." if untold else ""


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else words.plain(str(value)),
    )
    environment.globals.update(badge=sheets.badge, lane=sheets.lane_and_kind, counted=words.counted, DASH=words.DASH)
    return environment


def _model(
    folder: Path,
    name: str,
    anchor: str,
    *,
    rows: Sequence[Verdict],
    tables: Mapping[str, pd.DataFrame],
    anchors: Mapping[str, str],
    plotted: Collection[str],
) -> ModelPage:
    told = {row.case.id for row in rows if row.case.kind == "latency" and row.summary.measurement.samples_file}
    times, stories = figures.timed(folder, rows, stories=told & frozenset(plotted))
    return ModelPage(
        name=name,
        anchor=anchor,
        tally=words.tally(rows),
        findings=sheets.findings(tables["divergence"]),
        lanes=sheets.lanes((row for row in rows if row.case.kind not in ("pair", "latency", "load")), anchors),
        parity=sheets.parity(tables["parity"]),
        errors=figures.errors(folder, [row for row in rows if row.case.id in plotted]),
        pairs=sheets.pairs(tables["pairs"]),
        task=sheets.task(tables["task"]),
        latency=tier2.latency((row for row in rows if row.case.kind == "latency"), tables["latency"], anchors),
        times=times,
        stories=stories,
        speed=tier2.of_model(rows, anchors),
        lineage=sheets.lineage(rows),
    )
