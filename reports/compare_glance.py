"""The bump at a glance: of each model, runtime and precision what became of it, from every row that tells of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.records.comparison import Change, RowChange, Standing
from reports import words
from reports.comparison import as_percent

__all__ = ["COLUMNS", "GRAVITY", "QUIET", "Cell", "Line", "glance"]

COLUMNS: Mapping[str, str] = {
    "drift": "Error against the reference",
    "outputs": "Old against new",
    "p50": "p50",
    "p95": "p95",
    "energy": "Energy",
    "memory": "Memory",
    "load": "Load",
    "build": "Build",
    "engine": "Engine size",
    "precision": "Precision",
    "placement": "Placement",
    "warnings": "New warnings",
}
"""What is told of each, by what a change is about."""

_OF_A_MODEL = ("artifact", "build", "latency", "load", "pair", "parity", "semantic")

GRAVITY = tuple(sorted(Standing, key=lambda one: one is Standing.UNKNOWN))
"""Gravest first; here what is not known says least."""

QUIET = (Standing.SAME, Standing.UNKNOWN)


@dataclass(frozen=True)
class Cell:
    """The gravest change of one kind, with its name where there are several; ``others``: how many more stand as it does."""

    standing: Standing
    text: str
    others: int = 0


@dataclass(frozen=True)
class Line:
    """A model in one runtime and precision. ``row``: the gravest of its rows. ``cells``: by the names of ``COLUMNS``."""

    name: str
    standing: Standing
    row: str
    cells: Mapping[str, Cell]
    simulated: bool


def glance(rows: Sequence[RowChange]) -> list[Line]:
    """Gravest first. What a row about all models says of one of them (``GPU memory of disk``) is told there where no row of the
    model itself has a figure of that kind: of two numbers of one name, which are of two rows, the model's own row has it.
    """
    groups: dict[tuple[str, str, str], list[RowChange]] = {}
    for row in rows:
        groups.setdefault((row.model, row.runtime, row.precision), []).append(row)
    models = {row.model for row in rows if row.kind in _OF_A_MODEL}
    of_all: dict[tuple[str, str, str], list[Change]] = {}
    for row in rows:
        if row.model not in models:
            for change in row.changes:
                model = change.name.rpartition(" of ")[2]
                of_all.setdefault((model, row.runtime, row.precision), []).append(change)
    lines = []
    for (model, runtime, precision), own in groups.items():
        changes = [change for row in own for change in row.changes]
        told = {change.about for change in changes}
        more = of_all.get((model, runtime, precision), []) if model in models else []
        changes += [change for change in more if change.about not in told]
        gravest = min(own, key=lambda row: GRAVITY.index(row.standing))
        cells = {name: cell for name in COLUMNS if (cell := _cell(name, [one for one in changes if one.about == name]))}
        name = " · ".join(filter(None, (model, runtime, precision)))
        lines.append(Line(name, gravest.standing, gravest.id, cells, any(row.simulated for row in own)))
    return sorted(lines, key=lambda line: GRAVITY.index(line.standing))


def _cell(about: str, changes: Sequence[Change]) -> Cell | None:
    if not changes:
        return None
    gravest = min(changes, key=lambda one: (GRAVITY.index(one.standing), -_size(one)))
    same = sum(one.standing == gravest.standing for one in changes) - 1
    is_loud = gravest.standing not in (*QUIET, Standing.NOT_WORSE)
    is_one_of_several = gravest.ratio is not None and len({one.name for one in changes}) > 1
    name = f"{gravest.name}: " if is_loud and is_one_of_several else ""
    return Cell(gravest.standing, f"{name}{_text(about, gravest)}", same if is_loud else 0)


def _size(change: Change) -> float:
    return abs(math.log(change.ratio)) if change.ratio and 0 < change.ratio < math.inf else 0.0


def _text(about: str, change: Change) -> str:
    """Few words: all of them stand row by row."""
    if about == "drift" and change.base is not None and change.new is not None:
        return f"{words.figure(change.base)} → {words.figure(change.new)}"
    if change.ratio is not None:
        return f"{as_percent(change.ratio)}\u00a0%"
    if change.standing in QUIET:
        is_told = about == "outputs" and not change.words.startswith("not known")
        return change.words.partition(",")[0] if is_told else change.standing.value
    brief = change.words if len(change.words) <= 40 else change.words.partition(":")[0]
    return brief if len(brief) <= 60 else f"{brief[:59]}…"
