"""Loading in fresh processes: cold and warm rounds, the exact rule for p95, and what would decide."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom

from harness.config import Budget
from harness.records import Measurement, Outcome, Verdict
from harness.tier2.fresh import ChildResult, Failure, ProcessJob
from harness.tier2.load_row import LoadRound, judge_load, measure_load, rounds_for, rounds_of
from harness.tier2.memory import find
from harness.tier2.rounds import Rounds
from tests.harness.children import case_of, ended, in_process, job_in

CASE = replace(case_of("disk", "Quick"), runtime="tensorrt")


@pytest.mark.covers("T2-01", "OR-07")
def test_cold_rounds_find_empty_caches_and_warm_ones_an_engine(tmp_path: Path) -> None:
    ran: list[ProcessJob] = []

    def run(job: ProcessJob, **more: Any) -> ChildResult:
        assert more["poll_s"] is None  # times are what counts
        ran.append(job)
        found.append(sorted(path.name for path in Path(job.job.config["engine_cache_dir"]).glob("*")))
        return in_process(job)

    found: list[list[str]] = []
    job = job_in(tmp_path, "disk")
    home = Path(job.config["engine_cache_dir"])
    home.mkdir(parents=True, exist_ok=True)
    for name in ("disk.cache", "disk.cache.sha256", "disk.engine"):
        (home / name).write_bytes(b"it is there")
    seen = measure_load(case_of("disk", "Quick"), job, rounds=3, cold_rounds=2, environ={}, runner=Rounds(), run=run)
    assert [entry.is_cold for entry in seen.rounds] == [True, True, False, False, False]
    caches = [each.job.config["engine_cache_dir"] for each in ran]
    assert len({*caches[1:3]}) == 2
    assert {caches[0], *caches[3:]} == {job.config["engine_cache_dir"]}
    assert not any(Path(cache).exists() for cache in caches[1:3])
    assert found[1] == ["disk.cache", "disk.cache.sha256"]  # of all caches, what calibration made
    assert [bool(each.entries) for each in ran] == [False, False, False, True, True, True]
    assert all(entry.load_ns > 0 and entry.ready_ns > entry.load_ns for entry in seen.rounds)
    assert (seen.measurement.launches, seen.measurement.failed_count) == (5, 0)
    assert seen.measurement.case == case_of("disk", "Quick")
    assert seen.measurement.placement == "onnx_trt_ep[unknown]"


def test_a_process_that_cannot_fill_the_caches_is_one_failed_round_and_not_many(tmp_path: Path) -> None:
    def run(job: ProcessJob, **_: Any) -> ChildResult:
        return ended(1, failure=Failure("OutOfMemoryError", "no room"), step="loading disk")

    seen = measure_load(CASE, job_in(tmp_path, "disk"), rounds=5, environ={}, runner=Rounds(), run=run)
    verdict = judge_load(seen.measurement, seen.rounds, budget=None)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason == "1 of 1 gave no times: OutOfMemoryError while loading disk: no room"


def rounds(*loads_s: float, cold: bool = False) -> list[LoadRound]:
    return [
        LoadRound(cold, 10**8, 10**9, 10**6, round(load * 1e9), 10**7, round(load * 1e9) + 2 * 10**9)
        for load in loads_s
    ]


def judged(
    found: list[LoadRound], *, load_s: float | None = 5.0, runtime: str = "tensorrt", precision: str = "fp16"
) -> Verdict:
    case = replace(CASE, runtime=runtime, precision=precision)
    return judge_load(Measurement(case), found, budget=Budget(load_s=load_s))


@pytest.mark.covers("TT-09", "T2-02")
def test_fifty_nine_rounds_without_one_over_show_it_and_fewer_say_how_many_more() -> None:
    assert [rounds_for(over) for over in range(3)] == [59, 93, 124]
    passed = judged(rounds(*[1.0] * 59))
    assert (passed.outcome, "p95 is under it with 95 % confidence" in passed.reason) == (Outcome.PASS, True)
    few = judged(rounds(*[1.0] * 20))
    assert few.outcome is Outcome.INCONCLUSIVE
    assert "at least 86 % of loads are under it at 95 %; 39 more rounds without one over would decide" in few.reason
    one = judged(rounds(*[1.0] * 58, 6.0))
    assert (one.outcome, "34 more rounds" in one.reason) == (Outcome.INCONCLUSIVE, True)


@pytest.mark.covers("TT-09", "T2-02")
def test_too_many_rounds_over_fail_and_so_does_one_by_more_than_twice() -> None:
    for count, over in ((3, 2), (5, 2), (20, 4)):
        assert binom.sf(over - 1, count, 0.05) <= 0.05 < binom.sf(over - 2, count, 0.05)
        assert judged(rounds(*[1.0] * (count - over), *[6.0] * over)).outcome is Outcome.FAIL
        assert judged(rounds(*[1.0] * (count - over + 1), *[6.0] * (over - 1))).outcome is Outcome.INCONCLUSIVE
    assert "one by more than twice" in judged(rounds(*[1.0] * 58, 10.1)).reason
    assert judged(rounds(*[1.0] * 58, 9.9)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.covers("T2-02")
@pytest.mark.parametrize("budget", [None, Budget(p95_ms=60)])
def test_without_a_budget_loading_is_measured(budget: Budget | None) -> None:
    verdict = judge_load(Measurement(CASE), rounds(60.0, 61.0), budget=budget)
    assert verdict.outcome is Outcome.MEASURED
    assert verdict.reason.startswith("load up to 61 s, ready up to 63 s after the start, in 2 fresh processes")


@pytest.mark.covers("OR-07")
def test_session_creation_has_limits_of_its_own_on_onnx_runtime() -> None:
    warm = rounds(*[1.0] * 59)
    few_cold = judged([*rounds(20.0, cold=True), *warm], runtime="onnx_trt_ep")
    assert few_cold.outcome is Outcome.PASS
    assert [(check.name, check.outcome) for check in few_cold.checks] == [
        ("load", Outcome.PASS),
        ("session creation", Outcome.PASS),
        ("first session creation", Outcome.MEASURED),
    ]
    assert judged([*rounds(61.0, cold=True), *warm], runtime="onnx_trt_ep").outcome is Outcome.FAIL
    slow = [replace(entry, compile_ns=11 * 10**9) for entry in warm]
    assert judged(slow, runtime="onnx_trt_ep").reason.startswith("session creation up to 12 s of 5 s")
    assert judged(slow).outcome is Outcome.PASS


@pytest.mark.covers("TT-09")
def test_a_build_has_a_limit_and_an_int8_rebuild_another() -> None:
    warm = rounds(*[1.0] * 59)
    slow = [LoadRound(True, 10**8, 10**9, 50 * 10**9, 10**9, 10**7, 60 * 10**9)]
    assert [check.outcome for check in judged([*slow, *warm]).checks] == [Outcome.PASS, Outcome.MEASURED]
    never = [replace(slow[0], compile_ns=61 * 10**9)]
    assert judged([*never, *warm]).reason.startswith("fp16 build up to")
    assert judged([*never, *warm]).outcome is Outcome.FAIL
    verdict = judged([*slow, *warm], precision="int8")
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("INT8 rebuild from a trusted calibration cache up to")


def test_figures_have_their_intervals_and_a_failed_round_is_slower_than_all() -> None:
    found = [*rounds(*[float(at) for at in range(1, 21)]), LoadRound(False, failed="killed")]
    verdict = judged(found, load_s=None)
    assert verdict.outcome is Outcome.FAIL
    p50 = find(verdict.summary.figures, "load_p50_ns")
    assert (p50.value, p50.source) == (11e9, "21 fresh processes")
    assert p50.low is not None
    assert p50.high is not None
    assert p50.low < 11e9 < p50.high
    assert find(verdict.summary.figures, "load_max_ns").value == 20e9
    assert find(verdict.summary.figures, "load_p95_ns").high is None


def test_the_rounds_can_be_read_back_and_judged_under_another_budget() -> None:
    found = [*rounds(20.0, cold=True), *rounds(1.0, 2.0, 6.0), LoadRound(False, failed="killed while loading disk")]
    again = rounds_of(judged(found).summary.figures)
    assert list(again) == found
    assert rounds_of(()) == ()


def test_no_round_at_all_is_inconclusive() -> None:
    assert judged([]).outcome is Outcome.INCONCLUSIVE
