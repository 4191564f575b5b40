"""What a row ran from, kept with the row: lineage, layers and figures of its engine, and with ``--publish`` the files.

A CI job that uploads the run folder then publishes everything that the run is evidence about (RE-05): engines, sidecars,
manifests, listings of layers and calibration caches, under ``engines/<digest>/`` with an index. Model files are named there
by digest, and copied with ``--publish-models`` alone: the pack has them, and they are large.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.layers import inside, write_layers
from harness.lineage import INDEX, EngineFacts, EngineFile, engine_figures, file_of, lineage_of_all
from harness.records import Verdict
from harness.run_folder import RunFolder

__all__ = ["INDEX_SCHEMA", "PUBLISH", "keep_engines", "published"]

INDEX_SCHEMA = 1
"""Of ``engines/index.json``. 1: schema, files, rows."""

PUBLISH = ("", "engines", "all")
"""How much is published: nothing, what was built, or the model files too."""

_WITH_LAYERS = ("parity", "semantic", "latency", "build")


def keep_engines(
    verdict: Verdict,
    facts: Mapping[str, EngineFacts],
    folder: RunFolder,
    *,
    publish: str = "",
    more: Sequence[EngineFacts] = (),
) -> Verdict:
    """The row with the lineage, layers and figures of its engines, whose files are published where that was asked.

    ``facts``: by model; of a row about one model under the empty name. ``publish``: one of ``PUBLISH``.
    ``more``: other builds of the same engines, which are published too. Raises ``FolderError``.
    """
    if not facts:
        return verdict
    case, measurement = verdict.case, verdict.summary.measurement
    only = facts.get("")
    lineage = lineage_of_all(facts) if only is None else {**only.lineage, **measurement.lineage}
    layers_file = ""
    if only is not None and case.kind in _WITH_LAYERS:
        layers_file = write_layers(folder, case.id, only.layers)
    told = {figure.name for figure in verdict.summary.figures}
    found = (figure for name, each in facts.items() for figure in engine_figures(each, name))
    figures = (*verdict.summary.figures, *(figure for figure in found if figure.name not in told))
    if publish:
        _publish(folder, case.id, (*facts.values(), *more), lineage, everything=publish == "all")
    measurement = replace(measurement, lineage=lineage, layers_file=layers_file)
    return replace(verdict, summary=replace(verdict.summary, measurement=measurement, figures=figures))


def published(folder: Path) -> tuple[dict[str, Any], ...]:
    """The entries of a run folder's index, file by file; none where there is no index that can be read."""
    try:
        files = json.loads((folder / INDEX).read_bytes())["files"]
        return tuple(each for each in files if _is_entry(each))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()


def _is_entry(each: Any) -> bool:
    """What an entry must have to be read: an index may be anybody's."""
    return (
        isinstance(each, dict)
        and all(isinstance(each.get(key), str) for key in ("file", "kind", "sha256"))
        and isinstance(each.get("rows"), list)
        and all(isinstance(row, str) for row in each["rows"])
    )


def _publish(
    folder: RunFolder, row: str, facts: Sequence[EngineFacts], lineage: Mapping[str, str], *, everything: bool
) -> None:
    """Put the files of one row in place, and then the index, which holds no file that is not there."""
    entries = {(str(each["file"]), str(each["sha256"])): dict(each) for each in published(folder.path)}
    rows = _rows(folder.path)
    for each in entries.values():  # of an earlier try of this row
        each["rows"] = [name for name in each["rows"] if name != row]
    for of_engine in facts:
        for file in of_engine.files:
            told = _placed(folder, file, of_engine.lineage.get("engine", file.sha256)[:16], everything=everything)
            entry = entries.setdefault((told["file"], told["sha256"]), told)
            entry.update(told, rows=sorted({*entry.get("rows", ()), row}))
    gone = [key for key, each in entries.items() if not each["rows"]]
    for key in gone:
        del entries[key]
    rows[row] = dict(lineage)
    index = {"schema": INDEX_SCHEMA, "files": [entries[key] for key in sorted(entries)], "rows": rows}
    folder.write(INDEX, (json.dumps(index, indent=1, sort_keys=True) + "\n").encode())
    with folder.explained():
        for name, _ in gone:
            if name.startswith("engines/") and (path := inside(folder.path / "engines", name[8:])) is not None:
                path.unlink(missing_ok=True)


def _placed(folder: RunFolder, file: EngineFile, engine: str, *, everything: bool) -> dict[str, Any]:
    """The file's entry, after it was put in place; one that is not says why."""
    source = Path(file.path)
    told: dict[str, Any] = {"file": source.name, "kind": file.kind, "sha256": file.sha256, "copied": False}
    with suppress(OSError):
        told["size_bytes"] = source.stat().st_size
    if file.kind == "model" and not everything:
        return {**told, "why": "a model file: the pack has it; --publish-models copies it"}
    name = f"engines/{engine}/{source.name}"
    target = folder.path / name
    if (there := file_of(file.kind, target)) is None or there.sha256 != file.sha256:
        if not source.is_file():
            return {**told, "why": "it is gone since the row ran"}
        with folder.explained():
            _put(source.resolve(), target, may_link=file.is_ours)
        there = file_of(file.kind, target)
        if there is None or there.sha256 != file.sha256:
            target.unlink(missing_ok=True)
            return {**told, "why": "it was changed since the row ran"}
    return {**told, "file": name, "copied": True}


def _put(source: Path, target: Path, *, may_link: bool) -> None:
    """A hard link where the file may be linked and the disk has them, else a copy; whole or not at all. Raises ``OSError``.

    Who changes a linked file in place changes the cache's too, which the engine gate then refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    draft.unlink(missing_ok=True)
    try:
        try:
            if not may_link:
                raise OSError("a link to it would not be safe")
            os.link(source, draft)
        except OSError:
            shutil.copyfile(source, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    try:
        rows = json.loads((folder / INDEX).read_bytes())["rows"]
        return {str(name): dict(lineage) for name, lineage in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
