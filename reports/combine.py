"""Several run folders as one report: each row's files are read from the folder of the run that the row is from.

Which rows stand together, and what all of them together amount to, is decided before (``trigate report``); here it is drawn.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.records import Run, Verdict
from reports import words
from reports.run_folder import is_inside

__all__ = ["FILE", "HEADINGS", "SCHEMA", "anchored", "to_json", "told"]

FILE = "combined.json"

SCHEMA = 1
"""Of ``combined.json``. 1: ``runs`` (label, id, what it is of, sha256 of its run.json), ``rows`` (label by case id)."""

HEADINGS = ("Run", "By itself", "Rows taken", "Tiers", "Host", "Begun", "trigate")
_HOST = ("module", "gpu", "cpu", "os", "jetpack", "tensorrt_host", "onnxruntime-gpu", "torch")

_FILES = ("samples_file", "errors_file", "trace_file", "raw_file", "layers_file")


def anchored(run: Run, folders: Mapping[str, Path], rows: Mapping[str, str]) -> tuple[Path, Run]:
    """A folder above all run folders, and the run with every file named relative to it.

    ``folders``: by label. ``rows``: the label of each case id. A name that leads out of its own run folder is left empty.
    """
    above = Path(os.path.commonpath([folder.resolve() for folder in folders.values()]))
    verdicts = tuple(_anchored(verdict, folders[rows[verdict.case.id]], above) for verdict in run.verdicts)
    return above, replace(run, verdicts=verdicts)


def _anchored(verdict: Verdict, folder: Path, above: Path) -> Verdict:
    measurement, whole = verdict.summary.measurement, folder.resolve()
    named = {name: str(getattr(measurement, name)) for name in _FILES}
    files = {
        name: (whole / file).relative_to(above).as_posix() if is_inside(folder, file) else ""
        for name, file in named.items()
        if file
    }
    measured = replace(measurement, **files)  # type: ignore[arg-type] # fields by name
    return replace(verdict, summary=replace(verdict.summary, measurement=measured))


def told(parts: Mapping[str, Run], rows: Mapping[str, str]) -> list[tuple[str, ...]]:
    """A line per run, as ``HEADINGS`` name its cells: what it was by itself, which rows are from it, and where it ran."""
    lines = []
    for label, run in parts.items():
        own = [verdict for verdict in run.verdicts if rows.get(verdict.case.id) == label]
        host = {name: run.environment[name] for name in _HOST if run.environment.get(name, "none") != "none"}
        code = "" if run.exit_code is None else f" ({run.exit_code})"
        counts = ", ".join(f"{outcome.value} {count:,}" for outcome, count in words.tally(own).items() if count)
        tiers = ", ".join(str(tier) for tier in sorted({verdict.case.tier for verdict in own}))
        cells = (words.title(run) + code, counts, tiers, words.pairs(host), run.started_at, run.trigate_version)
        lines.append((label, *(cell or words.DASH for cell in cells)))
    return lines


def to_json(run: Run, parts: Mapping[str, Run], folders: Mapping[str, Path], rows: Mapping[str, str]) -> str:
    """``combined.json``: which runs were drawn together, and which row is from which of them."""
    counts = Counter(rows.values())
    runs = [
        {
            "label": label,
            "id": part.id,
            "run_json_sha256": hashlib.sha256((folders[label] / "run.json").read_bytes()).hexdigest(),
            "schema": part.schema,
            "trigate_version": part.trigate_version,
            "started_at": part.started_at,
            "finished_at": part.finished_at,
            "exit_code": part.exit_code,
            "rows": counts[label],
        }
        for label, part in parts.items()
    ]
    found = {
        "schema": SCHEMA,
        "pack_sha256": run.pack_sha256,
        "exit_code": run.exit_code,
        "last_line": run.last_line,
        "runs": runs,
        "rows": dict(rows),
        "notes": list(run.notes),
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
