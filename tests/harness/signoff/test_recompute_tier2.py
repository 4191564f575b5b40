"""Verdicts of Tier-2 out of a run folder: the same again, or what differs in words."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.limits import LIMITS_FILE
from harness.records import BoardState, Case, Check, Figure, Measurement, Outcome, Run, Summary, Verdict
from harness.run_folder import RunFolder
from harness.signoff.recompute import recompute, recompute_run
from harness.signoff.recompute_record import of_record
from harness.signoff.recompute_tier2 import recompute_tier2
from harness.signoff.recomputed import Recomputed
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


def of_case(run: Run, **changes: Any) -> Run:
    """The row about latency, with its case changed in the plan as well."""

    def changed(case: Case) -> Case:
        return replace(case, **changes) if case.id == LATENCY else case

    def verdict(one: Verdict) -> Verdict:
        measurement = one.summary.measurement
        return replace(one, summary=replace(one.summary, measurement=replace(measurement, case=changed(one.case))))

    return replace(run, planned=tuple(map(changed, run.planned)), verdicts=tuple(map(verdict, run.verdicts)))


def of_measurement(run: Run, **changes: Any) -> Run:
    return summarized(run, lambda one: replace(one, measurement=replace(one.measurement, **changes)))


def of_judgement(run: Run, **changes: Any) -> Run:
    def changed(one: Summary) -> Summary:
        assert one.judgement is not None
        return replace(one, judgement=replace(one.judgement, **changes))

    return summarized(run, changed)


def of_checks(run: Run, change: Callable[[Check], Check | None]) -> Run:
    verdict, *others = run.verdicts
    kept = tuple(found for check in verdict.checks if (found := change(check)) is not None)
    return replace(run, verdicts=(replace(verdict, checks=kept), *others))


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("timed") / "run"
    return folder, replace(timed_alone(folder), trigate_version=importlib.metadata.version("trigate"))


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda run: of_measurement(run, samples_file=""), "its samples are kept, and what run.json says of it"),
        (lambda run: of_case(run, kind="memory"), r"says of it \(a row of kind memory\) does not let them be judged"),
        (lambda run: of_case(run, kind="flight"), r"says of it \(a row of kind flight\) does not let them be judged"),
        (lambda run: of_measurement(run, samples_file="../good/samples/x.parquet"), "names '../good/samples/x.parquet' as"),
        (lambda run: of_measurement(run, samples_file="/tmp/x.parquet"), "names '/tmp/x.parquet' as its samples"),
        (lambda run: of_measurement(run, samples_file="samples/other.parquet"), "its own are samples/"),
        (lambda run: of_measurement(run, trace_file="traces/other.parquet"), "its own is traces/"),
    ],
)  # fmt: skip
def test_a_row_is_judged_by_its_own_samples_or_not_at_all(
    lie: Callable[[Run], Run], words: str, timed: tuple[Path, Run]
) -> None:
    folder, run = timed
    row = again(folder, lie(run))
    assert (row.now, row.source, row.agrees) == (None, "none", False)
    assert re.search(words, row.words), row.words


@pytest.mark.covers("RE-03")
def test_a_row_that_passes_without_samples_or_rounds_shows_nothing(tmp_path: Path) -> None:
    run = timed_alone(tmp_path / "run")
    (tmp_path / f"run/samples/{LATENCY}.parquet").unlink()
    bare = of_measurement(run, samples_file="")
    assert again(tmp_path / "run", bare).words == "run.json names no samples that would show it"
    assert again(tmp_path / "run", replace(bare, schema=1)).now is None
    loaded = again(tmp_path / "run", of_case(bare, kind="load"))
    assert (loaded.now, loaded.words) == (None, "run.json has none of the rounds that would show it")


@pytest.mark.covers("RE-03")
def test_a_trace_that_the_record_forgets_is_told(tmp_path: Path) -> None:
    run = timed_alone(tmp_path / "run")
    (tmp_path / "run/traces").mkdir(exist_ok=True)
    (tmp_path / f"run/traces/{LATENCY}.parquet").write_bytes(b"PAR1")
    assert again(tmp_path / "run", run).words == f"traces/{LATENCY}.parquet is kept, and run.json names no trace"


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda run: of_judgement(run, budget_ns=200_000_000), "budget_ns is 200000000 in run.json, and 20000000 by"),
        (lambda run: of_judgement(run, bound_ns=1), "bound_ns is 1 in run.json"),
        (lambda run: of_judgement(run, launches=()), "0 launches are in run.json, and 1 in the samples"),
        (lambda run: summarized(run, lambda one: replace(one, judgement=None)), "how it was judged is in what its"),
        (lambda run: of_checks(run, lambda one: None if one.name == "p95" else one), "the check p95: PASS, .* samples alone"),
        (lambda run: of_checks(run, lambda one: replace(one, reason="p95 is 1 ms")), "p95 is 1 ms is in run.json alone"),
        (lambda run: replace(run, verdicts=(replace(run.verdicts[0], reason="fast"),)), "the reason is 'fast' in run.json"),
        (lambda run: summarized(run, lambda one: replace(one, figures=())), "is not in run.json, and .* by the samples"),
        (
            lambda run: summarized(run, lambda one: replace(one, figures=(*one.figures, Figure("mean_power_w", 1.0, "W")))),
            "mean_power_w is 1.0 in run.json, and no sample shows it",
        ),
    ],
)  # fmt: skip
def test_whatever_the_record_says_of_a_judgement_must_come_of_the_samples(
    lie: Callable[[Run], Run], words: str, timed: tuple[Path, Run]
) -> None:
    folder, run = timed
    row = again(folder, lie(run))
    assert row.now is Outcome.PASS
    assert re.search(words, "; ".join(row.differs)), row.differs
    assert again(folder, run).agrees


def test_words_differ_by_no_last_digit_that_another_machine_rounds_otherwise(timed: tuple[Path, Run]) -> None:
    folder, run = timed
    verdict, *others = run.verdicts
    assert "13.06 ms" in verdict.reason
    for figure, agrees in (("13.07 ms", True), ("12.06 ms", False)):
        told = replace(verdict, reason=verdict.reason.replace("13.06 ms", figure))
        assert again(folder, replace(run, verdicts=(told, *others))).agrees is agrees


def board(**changes: Any) -> Callable[[Run], Run]:
    return lambda run: of_measurement(run, board_start=BoardState(**changes))


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda run: replace(run, verdicts=run.verdicts[1:], planned=run.planned[1:]), "samples/.* is of no row of run.json"),
        (lambda run: of_case(run, required=False), "is not required in run.json, and its runtime onnx_trt_ep was"),
        (lambda run: of_measurement(run, profile="quick"), "was judged by the profile quick, and its run by pr"),
        (board(source="the simulated board steady, 7.2"), "told as measured on a real device, and was simulated"),
        (board(boot_id="simulated-steady-0"), "told as measured on a real device, and was simulated"),
        (lambda run: replace(run, settings={**run.settings, "simulated": "steady"}), "was simulated .its run says so"),
        (
            lambda run: replace(run, settings={**run.settings, "require": "tensorrt"}),
            "tensorrt was required by its command line, and not by limits.json",
        ),
    ],
)  # fmt: skip
def test_what_a_run_says_of_its_rows_must_fit_what_it_keeps(
    lie: Callable[[Run], Run], words: str, timed: tuple[Path, Run]
) -> None:
    folder, run = timed
    told = lie(run)
    assert re.search(words, "\n".join(recompute_run(folder, told, recompute(folder, told))))
    assert recompute_run(folder, run, recompute(folder, run)) == ()


@pytest.mark.covers("RE-03")
def test_a_run_without_its_limits_is_told(tmp_path: Path) -> None:
    run = timed_alone(tmp_path / "run")
    (tmp_path / "run" / LIMITS_FILE).unlink()
    (words,) = recompute_run(tmp_path / "run", run, recompute(tmp_path / "run", run))
    assert words.startswith("it has no limits.json, which would say what it had to show")


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
