"""``report.html``: one self-contained page without scripts. What it shows is text made here; how, is in ``templates/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from harness.records import ABOUT_A_FLIGHT, ABOUT_RUNTIMES, Outcome, Run, Verdict
from reports import figures, sheets, tier2, words
from reports.ranking import matters

__all__ = ["render"]


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


def render(folder: Path, run: Run, tables: Mapping[str, pd.DataFrame]) -> str:
    """The page. A file of samples or errors that cannot be read is said in its place, and stops nothing."""
    rows = words.rows_of(run)
    anchors = {row.case.id: f"row-{at}" for at, row in enumerate(rows)}
    of_models = [row for row in rows if row.case.kind not in (*ABOUT_RUNTIMES, *ABOUT_A_FLIGHT)]
    models = {model: f"model-{at}" for at, model in enumerate(dict.fromkeys(row.case.model for row in of_models))}
    about = {kind: [row for row in rows if row.case.kind == kind] for kind in ABOUT_RUNTIMES}
    facts, board = tier2.board(tables["board"])
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            run=run,
            version=run.trigate_version,
            title=words.title(run),
            headline=words.headline(run),
            last_line=words.last_line(run),
            tally=words.tally(rows),
            meanings=_MEANINGS,
            settled=len(run.verdicts),
            rows=len(rows),
            simulated=sum(row.summary.measurement.simulated for row in rows),
            matters=[(matter, anchors[matter.row.case.id]) for matter in matters(rows)],
            glance=sheets.glance(rows, models, anchors),
            models=[
                _model(folder, name, anchor, rows=of_models, tables=tables, anchors=anchors)
                for name, anchor in models.items()
            ],
            about=[sheets.about_runtimes(kind, own, anchors) for kind, own in about.items() if own],
            not_run=sheets.not_run(tables["not_run"]),
            coverage=sheets.coverage(tables["coverage"]),
            tier2=tier2.lead(rows, anchors),
            flights=tier2.about_flights(folder, rows, anchors),
            story_key=figures.STORY_KEY,
            board=board,
            board_facts=facts,
            facts={section: sheets.facts(tables["environment"], section) for section in ("run", "settings", "host")},
        )
    )


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else words.plain(str(value)),
    )
    environment.globals.update(badge=sheets.badge, lane=sheets.lane_and_kind, DASH=words.DASH)
    return environment


def _model(
    folder: Path,
    name: str,
    anchor: str,
    *,
    rows: Sequence[Verdict],
    tables: Mapping[str, pd.DataFrame],
    anchors: Mapping[str, str],
) -> ModelPage:
    own = [row for row in rows if row.case.model == name]
    told = {row.case.id for row in own if row.case.kind == "latency" and row.summary.measurement.samples_file}
    times, stories = figures.timed(folder, own, stories=told)
    of = {table: frame[frame["model"] == name] for table, frame in tables.items() if "model" in frame}
    return ModelPage(
        name=name,
        anchor=anchor,
        tally=words.tally(own),
        findings=sheets.findings(of["divergence"]),
        lanes=sheets.lanes((row for row in own if row.case.kind not in ("pair", "latency", "load")), anchors),
        parity=sheets.parity(of["parity"]),
        errors=figures.errors(folder, own),
        pairs=sheets.pairs(of["pairs"]),
        task=sheets.task(of["task"]),
        latency=tier2.latency((row for row in own if row.case.kind == "latency"), of["latency"], anchors),
        times=times,
        stories=stories,
        speed=tier2.of_model(own, anchors),
    )
