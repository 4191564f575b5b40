"""``compare.json``, read and checked for its page."""

from __future__ import annotations

import json
import math
from pathlib import Path

from harness.records import RecordError, from_json
from harness.records.comparison import COMPARE_SCHEMA, Comparison, Shift

__all__ = ["as_percent", "read"]


def read(path: Path) -> Comparison:
    """``compare.json``, whole or refused with a ``RecordError`` that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        schema = value.get("schema") if isinstance(value, dict) else None
        if not isinstance(schema, int):
            raise RecordError("it has no schema number; it is not what `trigate compare` wrote.")
        if schema > COMPARE_SCHEMA:
            raise RecordError(f"it has schema {schema}; this trigate reads up to {COMPARE_SCHEMA}: upgrade trigate.")
        if schema < COMPARE_SCHEMA:
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
