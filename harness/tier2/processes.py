"""What the rows about memory and take-off were judged from: what their processes took, ``raw/<case id>.json`` (RE-03).

A row is judged from this and its board's limits, when it is measured and whenever it is judged again. Of outputs that were not
the same bytes after a kill the checks are kept, and not the outputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from harness.config import BoardConfig, Budget
from harness.errors import UsageError
from harness.records import (
    Case,
    Check,
    Figure,
    Measurement,
    Outcome,
    RecordError,
    Tolerance,
    Verdict,
    from_json,
    to_json,
)
from harness.run_folder import RunFolder
from harness.tier2.fresh import ChildResult
from harness.tier2.gate import KERNEL
from harness.tier2.memory import bytes_in_words, judge_memory
from harness.tier2.takeoff import TakeoffSeen, judge_takeoff
from harness.words import counted
from runtime.files import read_small

__all__ = [
    "FileSizes",
    "MemoryLooks",
    "Starts",
    "as_seen",
    "is_own",
    "judge_looks",
    "judge_starts",
    "keep",
    "read_kept",
]

ABOUT_PROCESSES = ("memory", "takeoff")
"""Kinds of rows that are judged from what processes took."""

R = TypeVar("R", ChildResult, "ChildResult | None")
_SCHEMA = 1
_MOST_BYTES = 256 << 20
_OWN = {
    "memory": ("host memory", "GPU memory", KERNEL, "processes"),
    "takeoff": (
        "filling the caches", "take-off", "restart", "killed process", "outputs", "leftovers", "host memory", "GPU memory",
        "engine files", "calibration caches",
    ),
}  # fmt: skip
_OWN_OF_MODELS = {"memory": ("leak of ",), "takeoff": ("outputs of ", "load of ")}


@dataclass(frozen=True)
class MemoryLooks:
    """Of the row ``row``, as ``memory.judge_memory`` takes them: bytes by engine, by launch, after cycles and after calls."""

    row: str
    engines: Mapping[str, tuple[Figure, ...]] = field(default_factory=dict)
    resident: tuple[tuple[Figure, ...], ...] = ()
    cycles: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    calls: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    calls_per_look: int = 100
    killed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    schema: int = _SCHEMA


@dataclass(frozen=True)
class FileSizes:
    """Files of a kind on disk: how many, and their bytes."""

    count: int
    size: int


@dataclass(frozen=True)
class Starts:
    """Of the row ``row``: its four processes and what the killed one left, as ``takeoff.TakeoffSeen``. ``files``: by kind.

    ``outputs``: the checks of outputs that were not the same bytes after the kill.
    """

    row: str
    cases: tuple[Case, ...]
    filling: ChildResult
    first: ChildResult | None = None
    killed: ChildResult | None = None
    again: ChildResult | None = None
    left: tuple[str, ...] = ()
    files: Mapping[str, FileSizes] = field(default_factory=dict)
    outputs: tuple[Check, ...] = ()
    is_unified: bool | None = None
    card_is_ours: bool = False
    schema: int = _SCHEMA


def is_own(kind: str, check: str) -> bool:
    """Whether a check of such a row is made from what is kept; others are of the board and of who measured."""
    return check in _OWN[kind] or check.startswith(_OWN_OF_MODELS[kind])


def judge_looks(measurement: Measurement, kept: MemoryLooks, *, board: BoardConfig | None) -> Verdict:
    """See ``memory.judge_memory``."""
    return judge_memory(
        measurement,
        kept.engines,
        kept.resident,
        kept.cycles,
        board=board,
        killed=kept.killed,
        failed=kept.failed,
        calls=kept.calls,
        calls_per_look=kept.calls_per_look,
    )


def judge_starts(
    seen: TakeoffSeen,
    kept: Starts,
    *,
    board: BoardConfig | None,
    budgets: Mapping[str, Budget],
    tolerances: Mapping[str, Mapping[str, Tolerance]],
) -> Verdict:
    """See ``takeoff.judge_takeoff``; and what the engines' files take on disk, and the calibration caches beside them (T2-02)."""
    verdict = judge_takeoff(
        seen,
        kept.cases,
        board=board,
        budgets=budgets,
        tolerances=tolerances,
        outputs=kept.outputs,
        is_unified=kept.is_unified,
        card_is_ours=kept.card_is_ours,
    )
    limits = {
        "engine files": board.engines_bytes if board else None,
        "calibration caches": board.caches_bytes if board else None,
    }
    figures, checks = list(verdict.summary.figures), list(verdict.checks)
    for what, files in kept.files.items():
        source, limit = counted(files.count, "file"), limits.get(what)
        figures.append(Figure(f"{what.replace(' ', '_')}_bytes", float(files.size), "bytes", source))
        if limit is not None:
            outcome = Outcome.FAIL if files.size > limit else Outcome.PASS
            words = f"{what} take {bytes_in_words(files.size)} of {bytes_in_words(limit)}"
            checks.append(Check(what, outcome, words))
    verdict = replace(verdict, checks=tuple(checks), summary=replace(verdict.summary, figures=tuple(figures)))
    failed = next((check for check in checks if check.outcome is Outcome.FAIL), None)
    if failed is not None and verdict.outcome is not Outcome.FAIL:
        return replace(verdict, outcome=Outcome.FAIL, reason=f"{failed.name}: {failed.reason}")
    return verdict


def starts_of(
    seen: TakeoffSeen,
    cases: Sequence[Case],
    files: Mapping[str, FileSizes],
    *,
    is_unified: bool | None,
    card_is_ours: bool,
) -> Starts:
    """What was seen of a take-off, as it is judged and kept; ``keep`` adds what came of outputs."""
    return Starts(
        seen.measurement.case.id,
        tuple(cases),
        _bare(seen.filling),
        _bare(seen.first),
        _bare(seen.killed),
        _bare(seen.again),
        seen.left,
        files,
        is_unified=is_unified,
        card_is_ours=card_is_ours,
    )


def as_seen(measurement: Measurement, kept: Starts) -> TakeoffSeen:
    """What was seen, without the outputs."""
    return TakeoffSeen(measurement, kept.filling, kept.first, kept.killed, kept.again, left=kept.left)


def keep(folder: RunFolder, verdict: Verdict, kept: MemoryLooks | Starts) -> Verdict:
    """Write what a row was judged from; the row names it."""
    if isinstance(kept, Starts):
        kept = replace(kept, outputs=tuple(check for check in verdict.checks if check.name.startswith("outputs of ")))
    name = folder.write(f"raw/{kept.row}.json", json.dumps(to_json(kept), allow_nan=False).encode())
    summary = verdict.summary
    return replace(verdict, summary=replace(summary, measurement=replace(summary.measurement, raw_file=name)))


def read_kept(path: Path, case: Case) -> MemoryLooks | Starts:
    """What the row ``case`` was judged from. Raises ``UsageError`` for what is missing, damaged, newer or of another row."""
    kinds: Mapping[str, type[MemoryLooks | Starts]] = {"memory": MemoryLooks, "takeoff": Starts}
    try:
        value = json.loads(read_small(path, limit=_MOST_BYTES))
        schema = value.get("schema") if isinstance(value, dict) else None
        if isinstance(schema, int) and schema > _SCHEMA:
            raise UsageError(f"{path.name} has schema {schema}; this trigate reads up to {_SCHEMA}: upgrade trigate.")
        kept = from_json(kinds[case.kind], value)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (RecordError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {error}.") from error
    if kept.row != case.id:
        raise UsageError(f"{path} is of the row {kept.row!r}, and {case.id} is judged by it.")
    return kept


def _bare(result: R) -> R:
    """Without what no judgement needs and no bundle should hand on: paths, words of libraries, facts that the row has."""
    if result is None or result.seen is None:
        return result
    engines = tuple(
        replace(
            engine,
            measurement=Measurement(engine.measurement.case, provider=engine.measurement.provider),
            entry="",
            facts=None,
        )
        for engine in result.seen.engines
    )
    return replace(result, seen=replace(result.seen, engines=engines), stderr_tail="")
