"""From a run folder to what people and machines read. Sees ``harness.records`` and the run folder, nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.records import Run
from reports import html, junit, markdown, run_folder, tables

__all__ = ["Report", "load", "write_reports"]


@dataclass(frozen=True)
class Report:
    """A run with its tables, for a notebook. ``tables``: by name, as ``reports.tables.make`` makes them."""

    folder: Path
    run: Run
    tables: Mapping[str, pd.DataFrame]

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


def write_reports(folder: Path) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``junit.xml`` and ``tables/*.csv`` into a run folder; returns their paths.

    Each file is put in place whole. Raises ``RecordError`` for what is no run folder, ``OSError`` where it cannot be written.
    """
    report = load(folder)
    texts = {
        "report.html": html.render(folder, report.run, report.tables),
        "report.md": markdown.render(report.run),
        "junit.xml": junit.render(report.run),
        **{f"tables/{name}.csv": tables.to_csv(table) for name, table in report.tables.items()},
    }
    (folder / "tables").mkdir(exist_ok=True)
    return [_write(folder / name, text) for name, text in texts.items()]


def _write(path: Path, text: str) -> Path:
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        half.write_bytes(text.encode("utf-8"))
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path
