from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.records import Outcome
from reports import words
from reports.ranking import gravest, matters
from reports.run_folder import read_run


def test_the_gravest_rows_come_first(full: Path) -> None:
    rows = words.rows_of(read_run(full))
    first, second, third = matters(rows)
    assert first.row.outcome is Outcome.FAIL
    assert second.row.outcome is Outcome.INCONCLUSIVE
    assert second.row.case.required
    assert third.row.summary.measurement.simulated
    assert third.why.startswith("SIMULATED, so it is no evidence")


def test_rows_that_say_the_same_are_one(full: Path) -> None:
    rows = [row for row in words.rows_of(read_run(full)) if row.outcome is Outcome.NOT_RUN and row.case.kind != "pair"]
    (only,) = matters(rows)
    assert only.others == len(rows) - 1
    assert only.why == "tensorrt: not installed"


def test_when_all_passes_the_row_nearest_to_its_tolerance_is_shown(full: Path) -> None:
    rows = [row for row in words.rows_of(read_run(full)) if words.is_evidence(row)]
    first = matters(rows)[0]
    assert first.why.startswith("of the rows that pass, the nearest to its tolerance: 28 % of it, at output scores")


@pytest.mark.covers("T2-02")
def test_a_latency_row_near_its_budget_comes_before_one_that_is_far_from_it(flown: Path) -> None:
    row = next(row for row in read_run(flown).verdicts if row.case.kind == "latency" and row.outcome is Outcome.PASS)
    judgement = row.summary.judgement
    assert judgement is not None
    real = replace(row.summary.measurement, case=replace(row.case, simulated=""), simulated=False, witness=True)
    rows = [
        replace(row, summary=replace(row.summary, measurement=real, judgement=replace(judgement, budget_ns=budget_ns)))
        for budget_ns in (60_000_000, 25_000_000)
    ]
    first = matters(rows)[0]
    assert first.why.startswith("of the rows that pass, the nearest to its budget: p95 takes 87 % of it")


def test_a_required_row_that_did_not_run_comes_before_one_that_is_not_required(full: Path) -> None:
    rows = [
        row for row in words.rows_of(read_run(full)) if row.outcome is Outcome.NOT_RUN and row.case.kind == "parity"
    ]
    required = replace(
        rows[3],
        summary=replace(
            rows[3].summary, measurement=replace(rows[3].summary.measurement, case=replace(rows[3].case, required=True))
        ),
    )
    first = matters([*rows, required])[0]
    assert first.row.case.required
    assert first.why == "required: tensorrt: not installed"


def test_of_no_rows_none_matters() -> None:
    assert matters([]) == ()


def test_of_more_rows_than_fit_the_gravest_are_kept_in_their_order(full: Path) -> None:
    rows = words.rows_of(read_run(full))
    kept = gravest(rows, 10)
    assert 10 <= len(kept) <= 12, "what matters most is always among them"
    assert [row for row in rows if row in kept] == kept
    assert {matter.row.case.id for matter in matters(rows)} <= {row.case.id for row in kept}
    assert all(row in kept for row in rows if row.outcome is Outcome.FAIL)
    assert gravest(rows, len(rows)) == list(rows)
