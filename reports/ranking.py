"""Which rows a person should read first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Outcome, Verdict
from reports import words
from reports.tables import share_of_tolerance

__all__ = ["Matter", "gravest", "matters", "nearest", "of_budget"]


_AS_ASKED = 99
"""A row that asked for the simulated device, and passes there, tells least of all."""


@dataclass(frozen=True)
class Matter:
    """A row that matters, and how many more rows say the same."""

    row: Verdict
    others: int
    why: str


def matters(rows: Sequence[Verdict], limit: int = 3) -> tuple[Matter, ...]:
    """The rows that matter most, gravest first; rows that say the same are one.

    Order: FAIL, what is required and open, INCONCLUSIVE, NOT RUN, a PASS that is no witness, then the PASS nearest to
    its tolerance or its budget, then the slowest. Within one grade the required first, then the nearer to its tolerance.
    """
    grouped: dict[tuple[int, str], list[Verdict]] = {}
    for row in sorted(rows, key=_order):
        if row.case.kind != "pair" or row.outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
            grouped.setdefault((_grade(row), _same(row)), []).append(row)
    return tuple(Matter(group[0], len(group) - 1, _why(group[0])) for group in list(grouped.values())[:limit])


def gravest(rows: Sequence[Verdict], limit: int) -> list[Verdict]:
    """At most ``limit`` of the rows in the order in which they were given: those that ``matters`` would name first."""
    if len(rows) <= limit:
        return list(rows)
    chosen = {id(row) for row in sorted(rows, key=_order)[:limit]}
    chosen |= {id(matter.row) for matter in matters(rows)}
    return [row for row in rows if id(row) in chosen]


def nearest(row: Verdict) -> tuple[float, str] | None:
    """The largest part of a tolerance that an output of the row takes, and the output's name."""
    shares = [(share_of_tolerance(figures), figures.output) for figures in row.summary.parity]
    known = [(share, output) for share, output in shares if share is not None and not math.isnan(share)]
    return max(known, default=None)


def of_budget(row: Verdict) -> float | None:
    """The part of its budget that the p95 of a row takes (1: at the limit); ``None`` where none applies."""
    latency, judgement = row.summary.latency, row.summary.judgement
    if latency is None or judgement is None or not judgement.budget_ns:
        return None
    return latency.p95.value_ns / judgement.budget_ns


def _grade(row: Verdict) -> int:
    if row.outcome is Outcome.FAIL:
        return 0
    if row.case.simulated and row.outcome is Outcome.PASS:
        return _AS_ASKED
    if words.is_open(row) and row.case.required:
        return 1
    order = (Outcome.INCONCLUSIVE, Outcome.NOT_RUN, Outcome.PASS, Outcome.MEASURED)
    witness = words.is_evidence(row) or row.outcome is not Outcome.PASS
    return 2 + 2 * order.index(row.outcome) - (0 if witness else 1)


def _order(row: Verdict) -> tuple[int, bool, int, float]:
    near, latency, part = nearest(row), row.summary.latency, of_budget(row)
    gravity = list(words.SYMBOLS).index(row.outcome)
    return (
        _grade(row),
        not row.case.required,
        gravity,
        -(near[0] if near else part if part is not None else latency.p95.value_ns if latency else 0.0),
    )


def _same(row: Verdict) -> str:
    """Rows of one grade with one text here are one matter: a missing library is one, a failed row is its own."""
    if row.outcome is Outcome.NOT_RUN:
        return row.reason
    if words.no_evidence(row):
        return f"{words.no_evidence(row)} {row.case.runtime}"
    return row.case.id


def _why(row: Verdict) -> str:
    near, latency, part = nearest(row), row.summary.latency, of_budget(row)
    if row.outcome is Outcome.PASS and words.is_evidence(row) and part is not None:
        return f"of the rows that pass, the nearest to its budget: p95 takes {words.percent(part)} of it; {row.reason}"
    if row.outcome is Outcome.PASS and words.is_evidence(row) and near:
        return (
            f"of the rows that pass, the nearest to its tolerance: {words.percent(near[0])} of it, at output {near[1]}"
        )
    if words.no_evidence(row):
        return f"{words.no_evidence(row)}, so it is no evidence: {row.reason}"
    if row.outcome is Outcome.MEASURED and latency and not words.is_open(row):
        return f"the slowest: {row.reason}"
    return f"required: {row.reason}" if words.is_open(row) and row.case.required else row.reason
