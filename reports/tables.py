"""Every table of a run, made once, as a pandas DataFrame: the HTML, the Markdown and the CSV files all show these.

A table is a mapping of column to function; columns end in their unit. A figure that is not there is NaN or None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd

from harness.records import (
    BoardState,
    Check,
    Divergence,
    Figure,
    Judgement,
    LatencyFigures,
    LaunchFigures,
    LayerFinding,
    Measurement,
    Outcome,
    ParityFigures,
    Quantile,
    Run,
    Verdict,
)
from reports import words

__all__ = ["SCHEMA", "figure_of", "make", "share_of_tolerance", "to_csv", "to_json"]

SCHEMA = 1
"""Of ``tables.json``. A table or column that is added leaves it; one that is renamed, removed or of another unit raises it."""

T = TypeVar("T")
Columns = Mapping[str, Callable[[T], object]]

_ROW: Columns[Verdict] = {
    "case": lambda row: row.case.id,
    "tier": lambda row: row.case.tier,
    "kind": lambda row: row.case.kind,
    "model": lambda row: row.case.model,
    "runtime": lambda row: row.case.runtime,
    "against": lambda row: row.case.against,
    "precision": lambda row: row.case.precision,
    "lane": lambda row: words.lane(row.case, _of(row).lane_name),
    "placement": lambda row: _of(row).placement,
    "simulated": lambda row: _of(row).simulated,
    "outcome": lambda row: row.outcome.value,
}

_VERDICTS: Columns[Verdict] = {
    **_ROW,
    "required": lambda row: row.case.required,
    "reason": lambda row: row.reason,
    "remedy": lambda row: row.remedy,
    "precision_ran": lambda row: _of(row).precision_ran,
    "witness": lambda row: _of(row).witness,
    "evidence": words.is_evidence,
    "size": lambda row: row.case.size,
    "batch": lambda row: row.case.batch,
    "point": lambda row: words.pairs(row.case.point),
    "covers": lambda row: " ".join(row.case.covers),
    "model_sha256": lambda row: _of(row).model_sha256,
    "inputs": lambda row: len(_of(row).input_sha256),
    "seed": lambda row: _of(row).seed,
    "started_at": lambda row: _of(row).started_at,
    "duration_s": lambda row: _of(row).duration_ns / 1e9,
    "error": lambda row: _of(row).error,
    "warnings": lambda row: words.as_one(_of(row).warnings),
    "notes": lambda row: words.as_one(_of(row).notes),
}

_PLACEMENT: Columns[Verdict] = {
    **_ROW,
    "provider": lambda row: _of(row).provider,
    "precision_ran": lambda row: _of(row).precision_ran,
    "witness": lambda row: _of(row).witness,
    "nodes_by_provider": lambda row: words.pairs(_of(row).nodes_by_provider),
    "nodes_by_precision": lambda row: words.pairs(_of(row).nodes_by_precision),
    "threads": lambda row: words.pairs(_of(row).threads),
    "notes": lambda row: words.as_one((*_of(row).warnings, *_of(row).notes)),
}

_NOT_RUN: Columns[Verdict] = {
    **_ROW,
    "required": lambda row: row.case.required,
    "reason": lambda row: row.reason,
    "remedy": lambda row: row.remedy,
}

_CHECK: Columns[tuple[Verdict, Check]] = {
    "case": lambda item: item[0].case.id,
    "check": lambda item: item[1].name,
    "outcome": lambda item: item[1].outcome.value,
    "reason": lambda item: item[1].reason,
    "means": lambda item: item[1].means,
}

_TASK: Columns[tuple[Verdict, str, float]] = {
    "case": lambda item: item[0].case.id,
    "model": lambda item: item[0].case.model,
    "lane": lambda item: words.lane(item[0].case, _of(item[0]).lane_name),
    "metric": lambda item: item[1],
    "value": lambda item: item[2],
}

_FIGURE: Columns[tuple[Verdict, Figure]] = {
    "case": lambda item: item[0].case.id,
    "kind": lambda item: item[0].case.kind,
    "model": lambda item: item[0].case.model,
    "lane": lambda item: words.lane(item[0].case, _of(item[0]).lane_name),
    "simulated": lambda item: _of(item[0]).simulated,
    "name": lambda item: item[1].name,
    "value": lambda item: item[1].value,
    "unit": lambda item: item[1].unit,
    "low": lambda item: item[1].low,
    "high": lambda item: item[1].high,
    "source": lambda item: item[1].source,
    "why": lambda item: item[1].why,
}

_JUDGEMENT: Columns[tuple[Verdict, Judgement]] = {
    "case": lambda item: item[0].case.id,
    "kind": lambda item: item[0].case.kind,
    "model": lambda item: item[0].case.model,
    "lane": lambda item: words.lane(item[0].case, _of(item[0]).lane_name),
    "simulated": lambda item: _of(item[0]).simulated,
    "outcome": lambda item: item[0].outcome.value,
    "rule": lambda item: item[1].rule,
    "budget_ns": lambda item: item[1].budget_ns,
    "bound_ns": lambda item: item[1].bound_ns,
    "alpha": lambda item: item[1].alpha,
    "effect": lambda item: item[1].effect,
    "floor": lambda item: item[1].floor,
    "floor_source": lambda item: item[1].floor_source,
    "drift": lambda item: item[1].drift,
    "needed": lambda item: item[1].needed,
    "rate_hz": lambda item: _of(item[0]).rate_hz,
    "launches": lambda item: len(item[1].launches),
    "cause": lambda item: item[1].cause,
    "blind_spot": lambda item: item[1].blind_spot,
}

_LAUNCH: Columns[tuple[Verdict, LaunchFigures]] = {
    "case": lambda item: item[0].case.id,
    "model": lambda item: item[0].case.model,
    "lane": lambda item: words.lane(item[0].case, _of(item[0]).lane_name),
    "simulated": lambda item: _of(item[0]).simulated,
    "launch": lambda item: item[1].launch,
    "count": lambda item: item[1].count,
    "failed": lambda item: item[1].failed,
    "p50_ns": lambda item: item[1].p50_ns,
    "p95_ns": lambda item: item[1].p95_ns,
    "exceedances": lambda item: item[1].exceedances,
    "throttled": lambda item: item[1].throttled,
    "effect": lambda item: item[1].effect,
    "log_pass": lambda item: item[1].log_pass,
    "log_fail": lambda item: item[1].log_fail,
    "outcome": lambda item: item[1].outcome.value,
    "reason": lambda item: item[1].reason,
}


def make(
    run: Run, parts: Mapping[str, Run] | None = None, sources: Mapping[str, str] | None = None
) -> dict[str, pd.DataFrame]:
    """All tables of a run by name; those without rows keep their columns.

    Of several runs together ``parts`` has each by its label, and ``sources`` the label of each case id: tables of rows get
    the column ``run``, and the environment a column per run.
    """
    made = _make(run, words.rows_of(run), parts or {})
    if sources is not None:
        for frame in made.values():
            if "case" in frame:
                frame.insert(1, "run", pd.Series([sources.get(case, "") for case in frame["case"]], dtype=object))
    return made


def _make(run: Run, rows: Sequence[Verdict], parts: Mapping[str, Run]) -> dict[str, pd.DataFrame]:
    latency = [(row, row.summary.latency) for row in rows if row.summary.latency is not None]
    judged = [(row, row.summary.judgement) for row in rows if row.summary.judgement is not None]
    parity = [(row, figures) for row in rows if row.case.kind != "pair" for figures in row.summary.parity]
    return {
        "verdicts": _frame(_VERDICTS, rows),
        "checks": _frame(_CHECK, [(row, check) for row in rows for check in row.checks]),
        "parity": _frame(_parity_columns(), parity),
        "pairs": _frame(_pair_columns(rows), _pair_items(rows)),
        "latency": _frame(_latency_columns(), latency),
        "judgements": _frame(_JUDGEMENT, judged),
        "launches": _frame(_LAUNCH, [(row, launch) for row, judgement in judged for launch in judgement.launches]),
        "figures": _frame(_FIGURE, [(row, figure) for row in rows for figure in row.summary.figures]),
        "placement": _frame(_PLACEMENT, [row for row in rows if _of(row).placement]),
        "board": _frame(_board_columns(), [row for row in rows if _of(row).placement]),
        "not_run": _frame(_NOT_RUN, [row for row in rows if row.outcome is Outcome.NOT_RUN]),
        "task": _frame(_TASK, [(row, name, value) for row in rows for name, value in row.summary.task.items()]),
        "divergence": _frame(_divergence_columns(), _divergence_items(rows)),
        "coverage": _coverage(rows),
        "environment": _environment(run, parts),
    }


def share_of_tolerance(figures: ParityFigures) -> float | None:
    """The largest part that the error takes of a tolerance (1: at the limit); ``None`` where none applies."""
    limits = figures.tolerance
    if limits is None:
        return None
    asked = ((figures.rel_l2_max, limits.rel_l2_max), (figures.rel_l2_median, limits.rel_l2_median))
    shares = [
        error / limit if limit else float("inf") if error else 0.0
        for error, limit in asked
        if error is not None and limit is not None
    ]
    return max(shares, default=None)


def figure_of(row: Verdict, *names: str) -> float | None:
    """The value of the first figure of the row that has one of these names; ``None`` where none has a value."""
    return next((figure.value for figure in row.summary.figures if figure.name in names), None)


_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""How a formula begins for a spreadsheet, for a Japanese one with full-width signs too."""


def to_csv(frame: pd.DataFrame) -> str:
    """A table as CSV. Text that a spreadsheet would run as a formula gets an apostrophe in front; NUL is left out."""

    def plain(value: object) -> object:
        if not isinstance(value, str):
            return value
        text = value.replace("\0", "")  # Python 3.10's csv cannot write one
        return f"'{text}" if text.startswith(_FORMULA) else text

    safe = frame.rename(columns=plain)
    for name in safe.columns:
        safe[name] = pd.Series([plain(value) for value in safe[name]], index=safe.index)
    return safe.to_csv(index=False, lineterminator="\n")


def to_json(run: Run, frames: Mapping[str, pd.DataFrame]) -> str:
    """Tables for a machine: ``{"schema", "run", "tables": {name: [{column: value}]}}``, a line per object.

    Columns end in their unit (``_ms``, ``_ns``, ``_s``, ``_c``, ``_mhz``, ``_bytes``, ``_hz``, ``_percent``); one with none is
    text, a count, a share or a truth value, and the table ``figures`` has a column ``unit``. A missing figure is ``null``,
    an endless one is text, ``"inf"``.
    """
    told = {
        name: getattr(run, name) for name in ("id", "exit_code", "last_line", "complete", "started_at", "finished_at")
    }
    lines = {name: [_plain(line) for line in frame.to_dict("records")] for name, frame in frames.items()}
    whole = {"schema": SCHEMA, "run": {**told, "schema": run.schema}, "tables": lines}
    return json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(line: Mapping[Any, object]) -> dict[str, object]:
    return {str(name): _value(value) for name, value in line.items()}


def _value(value: object) -> object:
    """What JSON can hold of a cell of a table."""
    if value is pd.NA:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else repr(float(value))
    return value


def _of(row: Verdict) -> Measurement:
    return row.summary.measurement


def _frame(columns: Columns[T], items: Iterable[T]) -> pd.DataFrame:
    kept = list(items)
    values = {name: [value(item) for item in kept] for name, value in columns.items()}
    return pd.DataFrame({name: pd.Series(column, dtype=_dtype(column)) for name, column in values.items()})


def _dtype(column: Sequence[object]) -> type | str | None:
    """What pandas cannot tell: a column in which every figure is missing, one of whole figures with gaps, or without lines."""
    if not column:
        return object
    kinds = {type(value) for value in column if value is not None}
    is_whole = kinds == {int} and all(abs(value) < 2**63 for value in column if isinstance(value, int))
    return "Int64" if is_whole and None in column else None if kinds else float


def _parity_columns() -> Columns[tuple[Verdict, ParityFigures]]:
    return {
        **_from_row(_ROW),
        "output": lambda item: item[1].output,
        "output_outcome": lambda item: _outcome_of(item[0], item[1].output),
        "shape": lambda item: "×".join(map(str, item[1].shape)) or "scalar",
        "dtype": lambda item: item[1].dtype,
        "samples": lambda item: item[1].samples,
        "rel_l2_max": lambda item: item[1].rel_l2_max,
        "rel_l2_median": lambda item: item[1].rel_l2_median,
        "tolerance_max": lambda item: item[1].tolerance and item[1].tolerance.rel_l2_max,
        "tolerance_median": lambda item: item[1].tolerance and item[1].tolerance.rel_l2_median,
        "share_of_tolerance": lambda item: share_of_tolerance(item[1]),
        "tolerance_source": lambda item: item[1].tolerance.source if item[1].tolerance else "",
        "tolerance_why": lambda item: item[1].tolerance.why if item[1].tolerance else "",
        "amplification": lambda item: item[1].tolerance and item[1].tolerance.amplification,
        "max_abs": lambda item: item[1].max_abs,
        "max_abs_at": lambda item: item[1].max_abs_at,
        "max_rel": lambda item: item[1].max_rel,
        "cosine_min": lambda item: item[1].cosine_min,
        "sqnr_db": lambda item: item[1].sqnr_db,
        "nan": lambda item: item[1].nan,
        "inf": lambda item: item[1].inf,
    }


def _pair_columns(rows: Sequence[Verdict]) -> Columns[tuple[Verdict, ParityFigures | None]]:
    """Two runtimes against each other, beside what each of them is from the reference (PT-01)."""
    reference = {
        (row.case.model, row.case.runtime, row.case.precision, figures.output): figures.rel_l2_max
        for row in rows
        if row.case.kind == "parity"
        for figures in row.summary.parity
    }

    def from_reference(row: Verdict, runtime: str, figures: ParityFigures | None) -> float | None:
        key = (row.case.model, runtime, row.case.precision, figures.output if figures else "")
        return reference.get(key)

    return {
        **_from_row(_ROW),
        "reason": lambda item: item[0].reason,
        "output": lambda item: item[1].output if item[1] else "",
        "rel_l2_max": lambda item: item[1] and item[1].rel_l2_max,
        "max_abs": lambda item: item[1] and item[1].max_abs,
        "cosine_min": lambda item: item[1] and item[1].cosine_min,
        "runtime_from_reference": lambda item: from_reference(item[0], item[0].case.runtime, item[1]),
        "against_from_reference": lambda item: from_reference(item[0], item[0].case.against, item[1]),
    }


def _pair_items(rows: Sequence[Verdict]) -> list[tuple[Verdict, ParityFigures | None]]:
    """Pairs with ``pytorch_fp16`` first, the simple baseline; one that did not run is a line too."""
    chosen = [row for row in rows if row.case.kind == "pair"]
    chosen.sort(key=lambda row: "pytorch_fp16" not in (row.case.runtime, row.case.against))
    return [(row, figures) for row in chosen for figures in row.summary.parity or (None,)]


def _latency_columns() -> Columns[tuple[Verdict, LatencyFigures]]:
    quantiles: dict[str, Callable[[tuple[Verdict, LatencyFigures]], object]] = {}
    for name, pick in _QUANTILES.items():
        quantiles[f"{name}_ms"] = lambda item, pick=pick: pick(item[1]).value_ns / 1e6  # type: ignore[misc] # bound default
        quantiles[f"{name}_low_ms"] = lambda item, pick=pick: _ms(pick(item[1]).low_ns)  # type: ignore[misc] # bound default
        quantiles[f"{name}_high_ms"] = lambda item, pick=pick: _ms(pick(item[1]).high_ns)  # type: ignore[misc] # bound default

    def judged(item: tuple[Verdict, LatencyFigures], read: Callable[[Judgement], object]) -> object:
        return None if item[0].summary.judgement is None else read(item[0].summary.judgement)

    return {
        **_from_row(_ROW),
        "reason": lambda item: item[0].reason,
        "calls": lambda item: item[1].count,
        "failed": lambda item: item[1].failed,
        **quantiles,
        "confidence": lambda item: item[1].p50.confidence,
        "mean_ms": lambda item: item[1].mean_ns / 1e6,
        "min_ms": lambda item: item[1].min_ns / 1e6,
        "max_ms": lambda item: item[1].max_ns / 1e6,
        "calls_per_s": lambda item: item[1].calls_per_s,
        "load_ms": lambda item: _ms(_of(item[0]).load_ns),
        "first_call_ms": lambda item: _ms(_of(item[0]).first_call_ns),
        "throttled": lambda item: _throttled(_of(item[0])),
        "throttled_percent": lambda item: figure_of(
            item[0], "throttled_requests_share", "held_while_throttled_percent"
        ),
        "budget_ms": lambda item: judged(item, lambda one: _ms(one.budget_ns)),
        "bound_ms": lambda item: judged(item, lambda one: _ms(one.bound_ns)),
        "needed": lambda item: judged(item, lambda one: one.needed),
        "profile": lambda item: _of(item[0]).profile,
        "rate_hz": lambda item: _of(item[0]).rate_hz,
        "deadline_ms": lambda item: _ms(_of(item[0]).deadline_ns),
        "launches": lambda item: _of(item[0]).launches or None,
        "incomplete": lambda item: _of(item[0]).incomplete,
        "timing_boundary": lambda item: _of(item[0]).timing_boundary,
    }


_QUANTILES: Mapping[str, Callable[[LatencyFigures], Quantile]] = {
    "p50": lambda figures: figures.p50,
    "p95": lambda figures: figures.p95,
    "p99": lambda figures: figures.p99,
}


def _board_columns() -> Columns[Verdict]:
    def at_both_ends(name: str, read: Callable[[BoardState], object]) -> Columns[Verdict]:
        return {
            f"{name}_start": lambda row: read(_of(row).board_start),
            f"{name}_end": lambda row: read(_of(row).board_end),
        }

    named: dict[str, Callable[[BoardState], object]] = {
        "cpu_temp_c": lambda board: board.cpu_temp_c,
        "gpu_temp_c": lambda board: board.gpu_temp_c,
        "clock_mhz": lambda board: board.clock_mhz,
        "load_1min": lambda board: board.load_1min,
        "power_mode": lambda board: board.power_mode,
        "power_mode_id": lambda board: board.power_mode_id,
        "caps": lambda board: words.pairs({name: f"{value:g}" for name, value in board.caps.items()}),
        "is_pinned": lambda board: board.is_pinned,
        "governor": lambda board: board.governor,
        "fan_rpm": lambda board: board.fan_rpm,
        "fan_pwm": lambda board: board.fan_pwm,
        "temperatures_c": lambda board: words.pairs(
            {name: f"{value:g}" for name, value in board.temperatures_c.items()}
        ),
        "gpu_load_percent": lambda board: board.gpu_load_percent,
        "gpu_processes": lambda board: (
            None if board.gpu_processes is None else ", ".join(board.gpu_processes) or "none"
        ),
        "oc_events": lambda board: board.oc_events,
        "available_bytes": lambda board: board.available_bytes,
        "uptime_s": lambda board: board.uptime_s,
        "boot_id": lambda board: board.boot_id,
        "module": lambda board: board.module,
        "source": lambda board: board.source,
        "notes": lambda board: words.as_one(board.notes),
    }
    columns: dict[str, Callable[[Verdict], object]] = {
        "case": lambda row: row.case.id,
        "simulated": lambda row: _of(row).simulated,
        "throttled": lambda row: _throttled(_of(row)),
    }
    for name, read in named.items():
        columns |= at_both_ends(name, read)
    return columns


def _divergence_columns() -> Columns[tuple[Verdict, Divergence, str, LayerFinding | None]]:
    return {
        "case": lambda item: item[0].case.id,
        "model": lambda item: item[0].case.model,
        "lane": lambda item: words.lane(item[0].case, _of(item[0]).lane_name),
        "role": lambda item: item[2],
        "layer": lambda item: item[3].layer if item[3] else "",
        "operator": lambda item: item[3].operator if item[3] else "",
        "module": lambda item: item[3].module if item[3] else "",
        "output": lambda item: item[3].output if item[3] else "",
        "local_error": lambda item: item[3] and item[3].local_error,
        "accumulated_error": lambda item: item[3] and item[3].accumulated_error,
        "noise": lambda item: item[3] and item[3].noise,
        "words": lambda item: item[3].words if item[3] else "",
        "smallest_input": lambda item: item[1].smallest_input,
        "smallest_input_file": lambda item: item[1].smallest_input_file,
        "reproduce": lambda item: item[1].reproduce,
        "keep_fp32": lambda item: ", ".join(item[1].keep_fp32),
        "notes": lambda item: words.as_one(item[1].notes),
    }


def _divergence_items(rows: Sequence[Verdict]) -> list[tuple[Verdict, Divergence, str, LayerFinding | None]]:
    items: list[tuple[Verdict, Divergence, str, LayerFinding | None]] = []
    for row in rows:
        if row.divergence is not None:
            items.append((row, row.divergence, "first", row.divergence.first))
            items += [(row, row.divergence, "suspect", suspect) for suspect in row.divergence.suspects]
    return items


def _coverage(rows: Sequence[Verdict]) -> pd.DataFrame:
    """Requirement id to the rows that bear on it; ``evidence``: those that count (``words.is_evidence``)."""
    named = sorted({covered for row in rows for covered in row.case.covers})
    outcomes: Columns[tuple[str, list[Verdict]]] = {
        outcome.value.lower().replace(" ", "_"): lambda item, outcome=outcome: words.tally(item[1])[outcome]  # type: ignore[misc] # bound default
        for outcome in words.SYMBOLS
    }
    columns: Columns[tuple[str, list[Verdict]]] = {
        "requirement": lambda item: item[0],
        "about": lambda item: words.REQUIREMENTS.get(item[0], ""),
        "rows": lambda item: len(item[1]),
        "evidence": lambda item: sum(words.is_evidence(row) for row in item[1]),
        **outcomes,
    }
    return _frame(columns, [(name, [row for row in rows if name in row.case.covers]) for name in named])


def _environment(run: Run, parts: Mapping[str, Run]) -> pd.DataFrame:
    """Section, name and value of every fact; of several runs also a column per run, called by its label."""
    each = {label: _facts(part) for label, part in parts.items()}
    names = dict.fromkeys(key for facts in (_facts(run), *each.values()) for key in facts)
    whole = _facts(run)
    columns: dict[str, Callable[[tuple[str, str]], object]] = {
        "section": lambda key: key[0],
        "name": lambda key: key[1],
        "value": lambda key: whole.get(key, ""),
    }
    for label, facts in each.items():
        free = f"{label} (run)" if label in columns else label
        columns[free] = lambda key, facts=facts: facts.get(key, "")  # type: ignore[misc] # bound default
    return _frame(columns, names)


def _facts(run: Run) -> dict[tuple[str, str], str]:
    facts = {
        "id": run.id,
        "command": run.command,
        "seed": str(run.seed),
        "exit_code": "" if run.exit_code is None else str(run.exit_code),
        "last_line": run.last_line,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "trigate_version": run.trigate_version,
        "configuration_sha256": run.configuration_sha256,
        "pack_sha256": run.pack_sha256,
        "schema": str(run.schema),
    }
    sections = {"run": facts, "settings": run.settings, "host": run.environment}
    return {(section, name): value for section, values in sections.items() for name, value in values.items()}


def _from_row(columns: Columns[Verdict]) -> dict[str, Callable[[tuple[Verdict, T]], object]]:
    """The same columns for items that begin with their row."""
    return {name: lambda item, value=value: value(item[0]) for name, value in columns.items()}  # type: ignore[misc] # bound default


def _outcome_of(row: Verdict, output: str) -> str:
    return next((check.outcome.value for check in row.checks if check.name == f"parity {output}"), "")


def _throttled(measurement: Measurement) -> bool | None:
    known = [at.throttled for at in (measurement.board_start, measurement.board_end) if at.throttled is not None]
    return any(known) if known else None


def _ms(value_ns: int | None) -> float | None:
    return None if value_ns is None else value_ns / 1e6
