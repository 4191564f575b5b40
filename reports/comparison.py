"""``compare.json`` as its page reads it. What is read is declared here, and no code of the harness is asked.

``harness.records.from_json`` names what a damaged file lacks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.records import RecordError, from_json

__all__ = [
    "SCHEMA",
    "Change",
    "Comparison",
    "Difference",
    "Foremost",
    "LayerChange",
    "LayersChange",
    "Row",
    "Shift",
    "Side",
    "as_percent",
    "read",
]

SCHEMA = 2
"""Of ``compare.json``: what this draws."""


@dataclass(frozen=True)
class Side:
    """One run of a side."""

    name: str
    id: str
    started_at: str
    complete: bool
    trigate_version: str
    sessions: tuple[str, ...]
    took_s: float


@dataclass(frozen=True)
class Difference:
    """A fact that is not the same on both sides."""

    name: str
    base: str
    new: str


@dataclass(frozen=True)
class Change:
    """A figure or fact of a row, old against new; ``ratio`` with its interval where there is one."""

    name: str
    unit: str
    standing: str
    words: str
    cause: str = ""
    why: str = ""
    base: float | None = None
    new: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    is_judged: bool = False
    may_block: bool = False
    about: str = ""


@dataclass(frozen=True)
class Shift:
    """Percentile by percentile, new over old with its interval; ``None`` where there is no value or no bound."""

    model: str
    percents: tuple[int, ...]
    base_ns: tuple[float | None, ...]
    ratio: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    margin: float
    base_requests: int
    new_requests: int
    base_sessions: int
    new_sessions: int


@dataclass(frozen=True)
class LayerChange:
    """An operator that runs in another precision, or elsewhere, now."""

    name: str
    base: str
    new: str


@dataclass(frozen=True)
class LayersChange:
    """The layers of an engine on both sides, matched by name as far as names survive."""

    base: Mapping[str, int]
    new: Mapping[str, int]
    changed: tuple[LayerChange, ...]
    changed_count: int
    moved: tuple[LayerChange, ...]
    moved_count: int
    matched: int
    base_only: int
    new_only: int
    unmatched: tuple[str, ...]
    base_source: str
    new_source: str


@dataclass(frozen=True)
class Foremost:
    """One of the changes that matter most. ``others``: how many more rows say the same."""

    row: str
    standing: str
    words: str
    cause: str
    why: str
    others: int


@dataclass(frozen=True)
class Row:
    """A row of both sides, or of one."""

    id: str
    kind: str
    model: str
    runtime: str
    precision: str
    base_state: str
    new_state: str
    base_placement: str
    new_placement: str
    standing: str
    cause: str
    words: str
    simulated: bool = False
    may_block: bool = False
    changes: tuple[Change, ...] = ()
    layers: LayersChange | None = None
    shifts: tuple[Shift, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The whole of it, as ``harness.compare`` wrote it."""

    decision: str
    words: str
    exit_code: int
    base: tuple[Side, ...]
    new: tuple[Side, ...]
    rows: tuple[Row, ...]
    versions: tuple[Difference, ...]
    environment: tuple[Difference, ...]
    caveats: tuple[str, ...]
    to_do: tuple[str, ...]
    margins: Mapping[str, float]
    alpha: float
    family: int
    trigate_version: str
    foremost: tuple[Foremost, ...]
    schema: int


def read(path: Path) -> Comparison:
    """``compare.json``, whole or refused with a ``RecordError`` that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        schema = value.get("schema") if isinstance(value, dict) else None
        if not isinstance(schema, int):
            raise RecordError("it has no schema number; it is not what `trigate compare` wrote.")
        if schema > SCHEMA:
            raise RecordError(f"it has schema {schema}; this trigate reads up to {SCHEMA}: upgrade trigate.")
        if schema < SCHEMA:
            raise RecordError(f"it has schema {schema}, of an older trigate: compare the runs again.")
        found = from_json(Comparison, value)
        for row in found.rows:
            for shift in row.shifts:
                _check(shift, row.id)
        return found
    except FileNotFoundError:
        raise RecordError(f"{path.parent} has no compare.json. Give the folder that `trigate compare` wrote.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error


def _check(shift: Shift, row: str) -> None:
    columns = (shift.base_ns, shift.ratio, shift.low, shift.high)
    if {len(column) for column in columns} != {len(shift.percents)}:
        raise RecordError(f"the percentile shift of {shift.model} in {row} has columns of unlike lengths.")
    if not all(value is None or 0 < value < math.inf for column in columns for value in column):
        raise RecordError(f"the percentile shift of {shift.model} in {row} has a value that is no figure above 0.")


def as_percent(ratio: float) -> str:
    """New over old, less one: ``+19.7``; nothing is ``0.0``, and never ``-0.0``."""
    told = f"{100 * (ratio - 1):+.1f}"
    return "0.0" if told in ("+0.0", "-0.0") else told
