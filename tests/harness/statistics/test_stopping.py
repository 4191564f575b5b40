"""The rule of a latency budget: when it looks, what it says, and what would decide it."""

import itertools

import numpy as np
import pytest

from harness.profiles import PROFILES
from harness.records import Outcome
from harness.statistics.stopping import MOST_ROWS, BudgetRule, PrecisionRule, TimeRule, rule_of
from runtime.protocol import Array

RULE = BudgetRule(budget_ns=60_000_000, rate_hz=39.0)


def calls(count: int, share: float, seed: int = 11) -> Array:
    chance = np.random.default_rng(seed)
    return np.where(chance.random(count) < share, 70_000_000, 50_000_000) + chance.integers(0, 10_000, count)


def none(latencies: Array) -> Array:
    return np.zeros(latencies.size, bool)


def test_looks_grow_by_a_third_and_end_at_the_most() -> None:
    looks = list(BudgetRule(1, 39.0, least=300, most=1000).looks())
    assert looks == [300, 405, 547, 739, 998, 1000]
    assert list(BudgetRule(1, 1.0, least=5, most=5).looks()) == [5]


@pytest.mark.parametrize(("share", "expected"), [(0.01, Outcome.PASS), (0.2, Outcome.FAIL)])
def test_a_clear_case_is_decided_at_the_first_looks(share: float, expected: Outcome) -> None:
    latencies = calls(2000, share)
    rulings = (RULE.judge(latencies[:look], none(latencies[:look])) for look in itertools.islice(RULE.looks(), 4))
    assert next(one for one in rulings if one.outcome is not Outcome.INCONCLUSIVE).outcome is expected


@pytest.mark.covers("T2-03")
def test_failed_and_skipped_calls_count_as_over_the_budget() -> None:
    latencies = calls(400, 0.0)
    missed = np.arange(400) % 5 == 0
    assert RULE.judge(latencies, none(latencies)).outcome is Outcome.PASS
    ruling = RULE.judge(latencies, missed)
    assert ruling.outcome is Outcome.FAIL
    assert ruling.reason == "80 of 400 over the budget"
    assert ruling.bound_ns is None


def test_an_open_case_says_what_would_decide_it() -> None:
    latencies = calls(300, 0.035, seed=12)
    ruling = RULE.judge(latencies, none(latencies))
    assert ruling.outcome is Outcome.INCONCLUSIVE
    assert ruling.needed is not None
    assert f"about {ruling.needed} more samples would decide" in ruling.reason
    assert "s at 39 Hz" in ruling.reason


def test_a_window_that_drifts_decides_nothing() -> None:
    latencies = (calls(2000, 0.0) * np.linspace(1.0, 1.05, 2000)).astype(np.int64)
    ruling = RULE.judge(latencies, none(latencies))
    assert ruling.outcome is Outcome.INCONCLUSIVE
    assert ruling.reason.startswith("not stationary: p50 moved by +")


def test_without_a_floor_a_sign_off_never_passes() -> None:
    latencies = calls(24_000, 0.001)
    signoff = BudgetRule.of_profile(60_000_000, 39.0, is_signoff=True)
    assert (signoff.alpha, signoff.least) == (0.01, 23_400)
    ruling = signoff.judge(latencies, none(latencies))
    assert ruling.outcome is Outcome.INCONCLUSIVE
    assert "no history of this board" in ruling.reason
    floored = BudgetRule.of_profile(60_000_000, 39.0, is_signoff=True, floor=3.0)
    assert floored.judge(latencies, none(latencies)).outcome is Outcome.PASS


def test_the_bound_is_over_the_true_p95_as_often_as_it_claims() -> None:
    chance = np.random.default_rng(13)
    true_p95 = 0.95e9
    over = 0
    for _ in range(300):
        sample = (chance.random(400) * 1e9).astype(np.int64)
        bound = BudgetRule(2_000_000_000, 39.0).judge(sample, none(sample)).bound_ns
        assert bound is not None
        over += bound >= true_p95
    assert over / 300 >= 0.93


def test_what_a_run_cannot_see_is_said() -> None:
    assert RULE.blind_spot(4680) == "clusters of slow calls rarer than about one in 12 s are not bounded"


@pytest.mark.parametrize("wrong", [{"budget_ns": 0}, {"rate_hz": -1.0}, {"alpha": 0.6}, {"least": 10, "most": 5}])
def test_a_rule_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a budget above 0"):
        BudgetRule(**{"budget_ns": 1, "rate_hz": 1.0, **wrong})  # type: ignore[arg-type] # wrong on purpose


@pytest.mark.covers("T2-03")
def test_a_board_that_throttled_half_way_fails_and_one_that_settled_is_open() -> None:
    slow_later = np.concatenate([calls(1500, 0.0), calls(2500, 0.0) + 15_000_000])
    ruling = RULE.judge(slow_later, none(slow_later))
    assert ruling.outcome is Outcome.FAIL
    assert "in the second half alone; p50 moved by +" in ruling.reason
    settled = slow_later[::-1]
    assert RULE.judge(settled, none(settled)).outcome is Outcome.INCONCLUSIVE


def test_a_window_that_drifts_does_not_fail_on_its_second_half_alone() -> None:
    """4 % of all exceed, 8 % of the second half."""
    latencies = np.concatenate([calls(2500, 0.0), calls(2500, 0.08, seed=15) + 2_000_000])
    ruling = RULE.judge(latencies, none(latencies))
    assert RULE.judge(latencies[2500:], none(latencies[2500:])).outcome is Outcome.FAIL
    assert ruling.outcome is Outcome.INCONCLUSIVE
    assert ruling.reason.startswith("not stationary")


def test_the_profile_and_the_budget_choose_the_rule() -> None:
    signoff = rule_of(PROFILES["signoff"], 39.0, 60_000_000, 3.0)
    assert signoff == BudgetRule(60_000_000, 39.0, 0.01, 23_400, 140_400, 3.0, needs_floor=True)
    assert rule_of(PROFILES["pr"], 39.0, None) == PrecisionRule(0.05, 4680, 46_800)
    assert rule_of(PROFILES["floor"], 3.0, 60_000_000) == TimeRule(10_800)
    assert rule_of(PROFILES["floor"], 0.0, 60_000_000) == TimeRule(
        MOST_ROWS
    )  # its seconds end it, not a count of calls


def test_a_closed_loop_looks_by_count() -> None:
    rule = rule_of(PROFILES["quick"], 0.0, 60_000_000)
    looks = list(rule.looks())
    assert (looks[0], looks[-1]) == (120, PROFILES["quick"].most_calls)
    assert isinstance(rule, BudgetRule)
    latencies = calls(150, 0.035, seed=12)
    assert rule.judge(latencies, none(latencies)).reason.endswith("more samples would decide")
    assert rule.blind_spot(4680) == "clusters of slow calls rarer than about one in 468 calls are not bounded"


@pytest.mark.parametrize(("rate_hz", "budget_ns"), [(39.0, 0), (39.0, -5), (-1.0, None)])
def test_no_rule_is_made_of_a_budget_that_is_none(rate_hz: float, budget_ns: int | None) -> None:
    with pytest.raises(ValueError, match="expected a budget above 0, and no negative rate"):
        rule_of(PROFILES["quick"], rate_hz, budget_ns)


def test_precision_is_reached_with_samples_and_not_with_failures_or_with_slow_spells() -> None:
    chance = np.random.default_rng(14)
    latencies = np.round(50e6 * chance.lognormal(0.0, 0.06, 3000)).astype(np.int64)
    rule = PrecisionRule(0.02, 100, 3000)
    assert not rule.is_enough(latencies[:100], none(latencies[:100]))
    assert rule.is_enough(latencies, none(latencies))
    assert not rule.is_enough(latencies, np.arange(3000) % 10 == 0)
    spells = np.sort(latencies.reshape(6, 500), axis=1).ravel()
    assert not rule.is_enough(spells, none(spells))
    assert not PrecisionRule(0.02, 100, 3000, floor=200.0).is_enough(latencies, none(latencies))


def test_a_session_of_a_given_length_ends_with_its_last_sample() -> None:
    rule = TimeRule(300)
    assert list(rule.looks()) == [300]
    assert not rule.is_enough(calls(299, 0.0), none(calls(299, 0.0)))
    assert rule.is_enough(calls(300, 0.0), none(calls(300, 0.0)))


def test_progress_is_said_without_statistics() -> None:
    latencies = np.full(310, 50_000_000)
    missed = np.arange(310) < 2
    latencies[-1] = 61_000_000
    assert RULE.open_words(latencies, missed) == "3 of 310 over 60 ms; looked at after 405"
    assert PrecisionRule(0.05, 100, 200).open_words(latencies, missed) == "310 samples; p95 is looked at after 200"
    assert TimeRule(400).open_words(latencies, missed) == "310 of 400 samples"
