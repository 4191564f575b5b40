"""The simulation that holds the gates to what they promise, in a short form."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from harness.records import Outcome
from harness.statistics.sequential import BOUNDARY
from harness.statistics.stopping import BudgetRule
from harness.statistics.truth import (
    Comparison,
    Gate,
    Known,
    Promise,
    Tally,
    _loadgen_count,
    compare_means,
    compare_ranks,
    judge_all,
    learn,
    loadgen,
    main,
    naive,
    promises,
    run_apart,
    run_budgets,
    run_pairs,
    table,
)
from harness.statistics.truth_series import SCENARIOS
from runtime.protocol import Array

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def short() -> list[Tally]:
    """Two scenarios at 3 Hz, twelve repetitions."""
    slow = {"3 Hz AR 0.5": SCENARIOS["3 Hz AR 0.5"], "AR 0.9": replace(SCENARIOS["AR 0.9"], rate_hz=3.0)}
    return run_budgets(slow, shares=(0.02, 0.05, 0.10), repetitions=12, seed=3)


@pytest.mark.covers("T2-03")
def test_our_gate_is_wrong_no_more_often_than_it_promises(short: list[Tally]) -> None:
    most_wrong = int(binom.ppf(0.9999, 12, 0.05))
    ours = [one for one in short if one.rule.startswith("trigate") and "floor" in one.rule]
    assert len(ours) == 2 * (3 + 2)
    for one in ours:
        for wrong in (one.false_pass, one.false_fail):
            assert wrong is None or wrong * 12 <= most_wrong, one


def test_clear_cases_are_decided_rightly_and_in_time(short: list[Tally]) -> None:
    for one in short:
        if one.rule == "trigate pr, floor" and one.share != BOUNDARY and one.scenario == "3 Hz AR 0.5":
            assert (one.passed if one.share < BOUNDARY else one.failed) == 1.0, one
            assert one.p90_s is not None
            assert one.p90_s <= 600.0


def test_the_naive_rule_lies_at_the_boundary_where_ours_does_not(short: list[Tally]) -> None:
    boundary = {(one.scenario, one.rule): one.passed + one.failed for one in short if one.share == BOUNDARY}
    assert boundary["AR 0.9", "p95 <= budget, 200"] == 1.0
    assert boundary["AR 0.9", "trigate pr, floor"] <= 0.25


def test_a_repetition_is_the_same_whatever_else_is_simulated(short: list[Tally]) -> None:
    alone = run_budgets({"3 Hz AR 0.5": SCENARIOS["3 Hz AR 0.5"]}, shares=(0.02, 0.05, 0.10), repetitions=12, seed=3)
    assert alone == [one for one in short if one.scenario == "3 Hz AR 0.5"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_budget_is_where_the_wanted_share_exceeds(name: str) -> None:
    scenario = SCENARIOS[name]
    known = learn(scenario, (BOUNDARY,), 1, hour_s=400.0)
    chance, soak = np.random.default_rng(2), math.ceil(scenario.soak_s() * scenario.rate_hz)
    other = np.concatenate([scenario.series(chance, soak + 40_000, scenario.rate_hz)[0][soak:] for _ in range(5)])
    share = float((other > known.budgets[BOUNDARY] * known.scale / 1e9).mean())
    assert share == pytest.approx(BOUNDARY, abs=0.008)
    assert min(one[BOUNDARY] for one in known.floors) >= 1.0


def plain_walk(latencies: Array, missed: Array, rule: BudgetRule) -> tuple[Outcome, int]:
    for look in rule.looks():
        outcome = rule.judge(latencies[:look], missed[:look]).outcome
        if outcome is not Outcome.INCONCLUSIVE:
            return outcome, look
    return Outcome.INCONCLUSIVE, rule.most


@pytest.mark.parametrize("name", ["AR 0.98", "bursts 0.5 s", "drift"])
def test_what_the_simulation_spares_itself_changes_no_verdict(name: str) -> None:
    scenario = SCENARIOS[name]
    for seed in range(3):
        found, _ = scenario.series(np.random.default_rng(seed), 8_000, 39.0)
        latencies = (found * 1e9).astype(np.int64)
        missed = np.random.default_rng(seed + 10).random(8_000) < 0.01
        gates = [
            Gate("", share, BudgetRule(int(np.quantile(latencies, 1 - share)), 39.0, 0.05, 600, 8_000, floor))
            for share in (0.01, 0.05, 0.1)
            for floor in (None, 12.0)
        ]
        assert judge_all(latencies, missed, gates) == [plain_walk(latencies, missed, gate.rule) for gate in gates]


def test_the_other_rules_do_what_they_are_known_for() -> None:
    slow = np.r_[np.full(194, 10), np.full(6, 90)]
    assert naive(slow, 20, 200) == (Outcome.PASS, 200)
    assert naive(slow, 5, 200) == (Outcome.FAIL, 200)
    assert loadgen(np.full(5000, 10), 20, 5000) == (Outcome.PASS, 300)
    assert loadgen(np.full(5000, 90), 20, 5000) == (Outcome.INCONCLUSIVE, 5000)
    old = 1.0 + 0.01 * np.random.default_rng(1).standard_normal(1000)
    assert compare_means(old, 1.04 * old)[0] is Outcome.PASS
    assert compare_means(old, 1.06 * old)[0] is Outcome.FAIL
    assert compare_ranks(old, old)[0] is Outcome.PASS
    assert compare_ranks(old, 1.005 * old)[0] is Outcome.FAIL


@pytest.mark.parametrize(("over", "queries"), [(0, 90), (1, 130), (5, 259), (20, 656), (100, 2504)])
def test_loadgens_counts_are_those_of_its_documentation(over: int, queries: int) -> None:
    """Methods A1, p95 at 99 %."""
    assert _loadgen_count(over, 0.99) == queries


def test_pairs_raise_no_alarm_and_miss_nothing_large() -> None:
    found = {(one.truth, one.rule): one for one in run_pairs(repetitions=40, seed=1)}
    for warming in ("", ", warming"):
        assert found["no change" + warming, "pairs"].alarms == 0.0
        assert found["+8 %" + warming, "pairs"].alarms >= 0.95
        assert found["tail only (1 to 7 % spikes)" + warming, "pairs"].alarms >= 0.9
    assert found["no change, warming", "Mann-Whitney, pooled"].alarms > 0.5


def test_one_base_session_never_decides_and_launches_are_no_sessions() -> None:
    found = {(one.truth, one.rule): one for one in run_apart(repetitions=100, seed=1)}
    for truth in ("no change", "+5 % (the margin)", "+12 %"):
        single = found[truth, "sessions apart, 1 and 6"]
        assert single.alarms == single.passes == 0.0
    assert found["no change", "sessions apart, 6 and 6"].alarms <= 0.03
    assert found["+5 % (the margin)", "launches as sessions, 5 and 5"].passes > 0.15


def tally(share: float, passed: float, failed: float, median_s: float | None = 120.0, name: str = "iid") -> Tally:
    return Tally(name, share, "trigate pr, floor", passed, failed, median_s, None, 300, 0.05)


def test_a_gate_that_lies_more_often_than_it_promises_is_named() -> None:
    assert [one.is_kept for one in promises([tally(0.05, 0.08, 0.08)])] == [True, True]
    broken = [str(one) for one in promises([tally(0.05, 0.1, 0.0), tally(0.07, 0.2, 0.8), tally(0.035, 0.8, 0.2)])]
    assert [words.startswith("BROKEN") for words in broken] == [True, False, True, True]
    assert broken[0] == "BROKEN  false PASS, iid, 0.05 exceed, trigate pr, floor: 0.1, at most 0.08775"


def test_a_gate_that_takes_too_long_or_never_decides_breaks_a_promise() -> None:
    for median, kept in ((120.0, True), (220.0, False), (None, False)):
        times = [one for one in promises([tally(0.02, 1.0, 0.0, median)]) if "median" in one.words]
        assert [one.is_kept for one in times] == [kept]
    rare = promises([tally(0.02, 0.0, 0.0, None, "bursts 2.5 s")])
    assert [one.is_kept for one in rare] == [True, False]


def test_promises_of_comparisons_are_held() -> None:
    worst = [
        Comparison("no change", "pairs", 0.003, 0.9, 2000),
        Comparison("+8 %", "pairs", 0.98, 0.0, 2000),
        Comparison("+5 % (the margin)", "pairs", 0.9, 0.1, 2000),
        Comparison("no change", "Mann-Whitney, pooled", 0.9, 0.1, 2000),
    ]
    assert [one.is_kept for one in promises([], worst)] == [False, False, False]
    assert not Promise("nothing seen", None, 1.0).is_kept


def test_the_command_prints_a_table_writes_figures_and_ends_red_where_a_promise_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "somebodys_series.py").write_text(
        "def series(rng, n, rate_hz):\n    return 50 * rng.lognormal(0, 0.06, n)\n", encoding="utf-8"
    )
    asked = ["--generator", "somebodys_series:series", "--rate", "3", "--repetitions", "4", "--processes", "1"]
    assert main([*asked, "--json", str(tmp_path / "figures.json")]) == 0
    shown = capsys.readouterr().out
    assert "BROKEN" in shown.splitlines()[-1]
    assert "0 BROKEN" in shown
    assert "LoadGen's loop" in shown
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert {one["scenario"] for one in figures["budgets"]} == {"somebodys_series:series"}
    assert all(one["is_kept"] for one in figures["promises"])
    assert main(["--generator", "somebodys_series:nothing"]) == 2
    assert "cannot be loaded" in capsys.readouterr().err


def test_a_table_says_where_a_verdict_would_be_right() -> None:
    lines = table([tally(0.02, 1.0, 0.0), tally(0.1, 0.0, 1.0, None)]).splitlines()
    assert lines[1].split()[-4:] == ["-", "0.000", "120", "none"]
    assert lines[2].split()[-4:] == ["0.000", "-", "none", "none"]


def test_a_generator_whose_values_are_tied_still_gets_the_wanted_share() -> None:
    from harness.statistics.truth_series import from_outside

    def ticks(rng: np.random.Generator, n: int, rate_hz: float) -> Array:
        return np.asarray(rng.integers(5, 9, n) * (1.0 + 0.0 * rate_hz))

    known: Known = learn(from_outside("ticks", ticks, 3.0), (0.02, BOUNDARY), 1, hour_s=600.0)
    assert known.has_ties
    assert known.budgets[0.02] > known.budgets[BOUNDARY]
    found = run_budgets({"ticks": from_outside("ticks", ticks, 3.0)}, shares=(0.10,), repetitions=4)
    assert next(one for one in found if one.rule == "trigate pr, floor").failed == 1.0
