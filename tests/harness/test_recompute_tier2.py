"""Verdicts of Tier-2 out of a run folder: the same again, or what differs in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.limits import LIMITS_FILE
from harness.recompute_record import of_record
from harness.recompute_tier2 import recompute_tier2
from harness.recomputed import Recomputed
from harness.records import Case, Check, Figure, Measurement, Outcome, Run, Summary, Verdict
from harness.run_folder import RunFolder
from tests.harness.released_runs import LATENCY, samples, timed_alone


def again(folder: Path, run: Run) -> Recomputed:
    return recompute_tier2(folder, run)[LATENCY]


def summarized(run: Run, change: Callable[[Summary], Summary]) -> Run:
    verdict, *others = run.verdicts
    return replace(run, verdicts=(replace(verdict, summary=change(verdict.summary)), *others))


@pytest.mark.covers("RE-03", "T2-03")
@pytest.mark.parametrize(("took_ms", "outcome"), [(12.0, Outcome.PASS), (25.0, Outcome.FAIL)])
def test_an_honest_row_is_judged_to_the_same_words(took_ms: float, outcome: Outcome, tmp_path: Path) -> None:
    run = timed_alone(tmp_path / "run", took_ms)
    row = again(tmp_path / "run", run)
    assert row.agrees
    assert (row.was, row.now, row.source, row.words) == (outcome, outcome, "samples", run.verdicts[0].reason)


@pytest.mark.covers("RE-03")
def test_other_samples_are_told_by_the_figures_that_they_make(tmp_path: Path) -> None:
    run = timed_alone(tmp_path / "run")
    with RunFolder(tmp_path / "run", resume=True) as folder:
        folder.write_samples(f"samples/{LATENCY}.parquet", samples(12.1, 4_999))
    row = again(tmp_path / "run", run)
    assert not row.agrees
    assert row.now is Outcome.PASS
    assert any(words.startswith("p95 is 13.") and words.endswith("ms by the samples") for words in row.differs)
    assert "sample_count is 5000 in run.json, and 4999 in the samples" in row.differs


def test_a_figure_that_only_the_record_has_is_not_held_against_samples(tmp_path: Path) -> None:
    run = timed_alone(tmp_path / "run")
    memory = Figure("gpu_peak_bytes", 7.0, "bytes")
    kept = summarized(run, lambda one: replace(one, figures=(*one.figures, memory)))
    assert again(tmp_path / "run", kept).agrees
    forged = summarized(run, lambda one: replace(one, figures=tuple(replace(each, value=1.0) for each in one.figures)))
    assert any("utilisation is 1.0 in run.json" in words for words in again(tmp_path / "run", forged).differs)
    without = summarized(run, lambda one: replace(one, latency=None))
    assert again(tmp_path / "run", without).differs == (
        "latency figures are not in run.json, and by the samples they are",
    )


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder, run: (folder / LIMITS_FILE).unlink(), "has no limits.json"),
        (lambda folder, run: (folder / LIMITS_FILE).write_text("{"), "limits.json is damaged"),
        (lambda folder, run: (folder / f"samples/{LATENCY}.parquet").unlink(), "cannot be read"),
        (lambda folder, run: (folder / f"samples/{LATENCY}.parquet").write_bytes(b"PAR1"), "cannot be read"),
    ],
)
def test_what_cannot_be_judged_is_told_and_never_raises(
    spoil: Callable[[Path, Run], Any], words: str, tmp_path: Path
) -> None:
    run = timed_alone(tmp_path / "run")
    spoil(tmp_path / "run", run)
    row = again(tmp_path / "run", run)
    assert (row.now, row.source, row.agrees) == (None, "none", False)
    assert words in row.words


def test_limits_of_another_configuration_are_not_believed(tmp_path: Path) -> None:
    run = timed_alone(tmp_path / "run")
    row = again(tmp_path / "run", replace(run, configuration_sha256="d1" * 32))
    assert row.now is None
    assert "limits.json is of another configuration than run.json names" in row.words


def clause(*outcomes: Outcome, outcome: Outcome, tier: int = 0) -> Verdict:
    case = Case("row", tier, "conformance", "", "null", "", "", "")
    return Verdict(Summary(Measurement(case)), outcome, "so", tuple(Check("c", each, "so") for each in outcomes))


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("verdict", "now"),
    [
        (clause(Outcome.PASS, Outcome.NOT_RUN, outcome=Outcome.PASS), Outcome.PASS),
        (clause(Outcome.PASS, Outcome.FAIL, outcome=Outcome.PASS), Outcome.FAIL),
        (clause(Outcome.PASS, outcome=Outcome.FAIL), Outcome.PASS),
        (clause(Outcome.INCONCLUSIVE, outcome=Outcome.PASS), Outcome.INCONCLUSIVE),
        (clause(outcome=Outcome.PASS), Outcome.NOT_RUN),
        (clause(outcome=Outcome.FAIL), Outcome.NOT_RUN),
        (clause(outcome=Outcome.NOT_RUN), Outcome.NOT_RUN),
        (clause(Outcome.FAIL, Outcome.INCONCLUSIVE, outcome=Outcome.INCONCLUSIVE, tier=2), Outcome.INCONCLUSIVE),
        (clause(Outcome.FAIL, outcome=Outcome.PASS, tier=2), Outcome.FAIL),
    ],
)
def test_of_a_row_without_samples_the_outcome_must_follow_from_its_checks(verdict: Verdict, now: Outcome) -> None:
    row = of_record(verdict)
    assert (row.was, row.now, row.source) == (verdict.outcome, now, "record")
