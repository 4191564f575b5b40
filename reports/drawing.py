"""What a notebook and the command line ask of this package: read a run folder, and write what people and machines read."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from harness.records import Run
from reports import combine, html, junit, markdown, run_folder, tables

__all__ = ["FORMATS", "USUAL", "Report", "doubts_of", "load", "load_together", "texts", "write", "write_reports"]

FORMATS: Mapping[str, str] = {
    "html": "report.html",
    "md": "report.md",
    "csv": "tables/*.csv",
    "json": "tables.json",
    "junit": "junit.xml",
}
"""What a report is written as, and the file that it goes to."""

USUAL = ("html", "md", "csv", "junit")


@dataclass(frozen=True)
class Report:
    """A run with its tables, for a notebook. ``tables``: by name, as ``reports.tables.make`` makes them.

    Of several runs together: ``run`` is of all, ``parts`` are the runs by label, ``sources`` has the label of each case id,
    ``folders`` the run folder of each label, and ``folder`` is above them all.
    """

    folder: Path
    run: Run
    tables: Mapping[str, pd.DataFrame]
    parts: Mapping[str, Run] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)

    def samples(self, case_id: str) -> pd.DataFrame:
        """The raw calls of one row. Raises ``KeyError`` for a row without samples, ``RecordError`` for a damaged file."""
        files = {row.case.id: row.summary.measurement.samples_file for row in self.run.verdicts}
        if not files[case_id]:
            raise KeyError(f"{case_id} has no samples")
        return pd.DataFrame(run_folder.read_samples(self.folder, files[case_id]).to_pandas())


def load(folder: Path) -> Report:
    """Read a run folder, finished or not. Raises ``harness.records.RecordError`` for what is none."""
    run = run_folder.read_run(folder)
    return Report(folder, run, tables.make(run))


def load_together(
    run: Run, parts: Mapping[str, Run], folders: Mapping[str, Path], sources: Mapping[str, str]
) -> Report:
    """Several runs as one: ``run`` is of all of them, ``parts`` and ``folders`` are by label, ``sources`` by case id."""
    above, anchored = combine.anchored(run, folders, sources)
    return Report(above, anchored, tables.make(anchored, parts, sources), parts, sources, folders)


def texts(report: Report, formats: Collection[str] = USUAL, names: Collection[str] = ()) -> dict[str, str]:
    """The files of a report by their names. ``names``: of the tables, these alone in ``csv`` and ``json``; by default all."""
    run, chosen = report.run, {name: report.tables[name] for name in names or report.tables}
    doubts = doubts_of(report)
    made: dict[str, str] = {}
    if "html" in formats:
        made["report.html"] = html.render(
            report.folder, run, report.tables, doubts, parts=report.parts, sources=report.sources
        )
    if "md" in formats:
        made["report.md"] = markdown.render(run, doubts, report.parts, report.sources)
    if "junit" in formats:
        made["junit.xml"] = junit.render(run, report.parts, report.sources)
    if "csv" in formats:
        made |= {f"tables/{name}.csv": tables.to_csv(table) for name, table in chosen.items()}
    if "json" in formats:
        made["tables.json"] = tables.to_json(run, chosen)
    if report.parts:
        made[combine.FILE] = combine.to_json(run, report.parts, report.folders, report.sources)
    return made


def write(report: Report, out: Path, formats: Collection[str] = USUAL, names: Collection[str] = ()) -> list[Path]:
    """Write the files of a report into a folder, each put in place whole; returns their paths. Raises ``OSError``."""
    made = texts(report, formats, names)
    for folder in {(out / name).parent for name in made}:
        folder.mkdir(parents=True, exist_ok=True)
    if not report.parts:  # of several, drawn here before
        (out / combine.FILE).unlink(missing_ok=True)
    return [_write(out / name, text) for name, text in made.items()]


def write_reports(folder: Path) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``junit.xml`` and ``tables/*.csv`` into a run folder; returns their paths.

    Each file is put in place whole. Raises ``RecordError`` for what is no run folder, ``OSError`` where it cannot be written.
    """
    return write(load(folder), folder)


def doubts_of(report: Report) -> tuple[str, ...]:
    """What the records say against themselves or their folders, in sentences."""
    if not report.parts:
        return run_folder.doubts(report.run, report.folder)
    return tuple(
        f"{label}: {doubt}"
        for label, run in report.parts.items()
        for doubt in run_folder.doubts(run, report.folders.get(label))
    )


def _write(path: Path, text: str) -> Path:
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        half.write_bytes(text.encode("utf-8"))
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path
