from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.records import Outcome
from reports import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0"),
        (12.345, "12.3"),
        (0.00123, "0.00123"),
        (1.234e-5, "1.23e-5"),
        (9.999, "10.0"),
        (999.9, "1,000"),
        (12_345.0, "12,300"),
        (2.5e9, "2.50e9"),
        (-0.5, "-0.500"),
        (150.0, "150"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
    ],
)
def test_a_figure_has_three_digits_and_is_never_a_zero_when_it_is_missing(value: float | None, text: str) -> None:
    assert words.figure(value) == text


def test_an_interval_has_its_unit_and_a_dash_for_a_bound_that_is_not_known() -> None:
    assert words.interval(12.34, 12.1, None) == "12.3 ms [12.1, –]"
    assert words.interval(None, 1.0, 2.0) == "–"


@pytest.mark.parametrize(
    ("share", "text"), [(None, "–"), (0.0, "0 %"), (0.004, "<1 %"), (0.42, "42 %"), (11.2, "1,120 %"), (math.inf, "∞")]
)
def test_a_share_is_told_in_percent(share: float | None, text: str) -> None:
    assert words.percent(share) == text


def test_plain_text_keeps_every_script_and_loses_what_steers_a_terminal_or_the_direction() -> None:
    assert words.plain("名前 عربي ñ 🛩\t\n") == "名前 عربي ñ 🛩\t\n"
    assert words.plain("a\x00b\x1b[31m\u202ec\u2067d\ud800\ufffe\x85") == "a�b�[31m�c�d���"


@pytest.mark.covers("T1-03")
def test_a_planned_row_without_a_verdict_is_not_run_and_keeps_its_place(small: Path) -> None:
    from reports.run_folder import read_run

    run = read_run(small)
    cut = replace(run, verdicts=run.verdicts[:3] + run.verdicts[5:], complete=False, interrupted=True)
    rows = words.rows_of(cut)
    assert [row.case.id for row in rows] == [case.id for case in run.planned]
    assert [row.outcome for row in rows[3:5]] == [Outcome.NOT_RUN] * 2
    assert rows[3].reason == "not reached: the run is interrupted"


@pytest.mark.covers("RE-04", "T1-01")
def test_a_pass_that_is_simulated_or_no_witness_is_no_evidence_and_leaves_a_requirement_open(small: Path) -> None:
    from reports.run_folder import read_run

    row = next(
        v for v in read_run(small).verdicts if v.outcome is Outcome.PASS and v.case.required and words.is_evidence(v)
    )
    for change in ({"simulated": True}, {"witness": False}):
        measurement = replace(row.summary.measurement, **change)  # type: ignore[arg-type]  # fields by name
        doubtful = replace(row, summary=replace(row.summary, measurement=measurement))
        assert not words.is_evidence(doubtful)
        assert words.is_open(doubtful)
    assert words.is_evidence(row)
    assert not words.is_open(row)


@pytest.mark.covers("RE-04")
@pytest.mark.parametrize(
    ("code", "word"),
    [(0, "PASS"), (1, "FAIL"), (3, "OPEN"), (4, "INTERNAL ERROR"), (130, "INTERRUPTED"), (None, "NOT FINISHED")],
)
def test_every_exit_code_has_its_words(small: Path, code: int | None, word: str) -> None:
    from reports.run_folder import read_run

    run = replace(read_run(small), exit_code=code)
    assert words.title(run) == word
    assert words.headline(run).endswith(".")


def test_a_run_without_a_last_line_says_the_counts_so_far(small: Path) -> None:
    from reports.run_folder import read_run

    run = read_run(small)
    line = words.last_line(replace(run, last_line="", exit_code=None))
    assert line.startswith("FAIL 1, INCONCLUSIVE 1,")
    assert line.endswith("so far.")
    assert words.last_line(replace(run, last_line="", verdicts=())) == "No row has a verdict so far."
