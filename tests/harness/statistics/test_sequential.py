"""The always-valid test: what it decides, that looking often costs nothing, and its numerical trap."""

import math

import numpy as np
import pytest

from harness.records import Outcome
from harness.statistics.sequential import evidence, log_evidence, samples_needed
from runtime.protocol import Array

ALPHA = 0.05


def decided(exceeds: Array, looks: range) -> Outcome:
    for count in looks:
        hits = float(exceeds[:count].sum())
        if log_evidence(count, hits, passes=True) >= -math.log(ALPHA):
            return Outcome.PASS
        if log_evidence(count, hits, passes=False) >= -math.log(ALPHA):
            return Outcome.FAIL
    return Outcome.INCONCLUSIVE


def test_it_decides_in_about_as_many_samples_as_the_published_table() -> None:
    """Methods A3: no exceedance decides after 100 (alpha 0.05) and 140 (0.01); 20 % fails after about 50."""
    first = [next(n for n in range(1, 500) if log_evidence(n, 0, passes=True) >= -math.log(a)) for a in (0.05, 0.01)]
    assert 90 < first[0] <= 100
    assert 130 < first[1] <= 140
    chance = np.random.default_rng(1)
    counts = []
    for _ in range(200):
        exceeds = chance.random(400) < 0.2
        sums = np.cumsum(exceeds)
        counts.append(next(n for n in range(10, 400, 10) if log_evidence(n, sums[n - 1], passes=False) >= math.log(20)))
    assert 30 <= np.median(counts) <= 60


def test_at_the_boundary_looking_after_every_ten_samples_keeps_both_errors_under_alpha() -> None:
    chance = np.random.default_rng(2)
    outcomes = [decided(chance.random(3000) < 0.05, range(50, 3000, 10)) for _ in range(400)]
    for side in (Outcome.PASS, Outcome.FAIL):
        assert outcomes.count(side) / 400 <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 400)


@pytest.mark.covers("T2-03")
def test_a_tail_that_underflows_is_no_evidence() -> None:
    assert log_evidence(20_000, 6_000, passes=True) == -math.inf
    assert log_evidence(20_000, 6_000, passes=False) > 1_000
    assert log_evidence(20_000, 0, passes=False) == -math.inf


def test_evidence_counts_correlated_samples_for_less_and_never_under_the_floor() -> None:
    chance = np.random.default_rng(3)
    spell = np.repeat(chance.random(100) < 0.02, 20)
    latencies = np.where(spell, 70_000_000, 50_000_000) + chance.integers(0, 1000, spell.size)
    own = evidence(latencies, spell)
    assert own.effect > 5
    assert own.outcome(alpha_pass=0.05, alpha_fail=0.05) is Outcome.INCONCLUSIVE
    shuffled = chance.permutation(latencies)
    alone = evidence(shuffled, shuffled > 60_000_000)
    assert alone.effect < 1.5
    assert alone.outcome(alpha_pass=0.05, alpha_fail=0.05) is Outcome.PASS
    floored = evidence(shuffled, shuffled > 60_000_000, floor=30.0)
    assert floored.effect == 30.0
    assert floored.outcome(alpha_pass=0.05, alpha_fail=0.05) is Outcome.INCONCLUSIVE


def test_evidence_of_two_sessions_adds() -> None:
    assert 2 * log_evidence(70, 0, passes=True) > math.log(20) > log_evidence(70, 0, passes=True)


@pytest.mark.parametrize(("share", "passes"), [(0.0, True), (0.02, True), (0.1, False)])
def test_what_is_said_to_be_needed_decides(share: float, passes: bool) -> None:
    count = samples_needed(share, 1.0, alpha=ALPHA)
    assert count is not None
    assert log_evidence(count, share * count, passes=passes) >= -math.log(ALPHA)
    assert log_evidence(0.9 * count, 0.9 * share * count, passes=passes) < -math.log(ALPHA)
    twice = samples_needed(share, 2.0, alpha=ALPHA)
    assert twice is not None
    assert abs(twice - 2 * count) <= 2


def test_nothing_decides_on_the_boundary() -> None:
    assert samples_needed(0.05, 1.0, alpha=ALPHA) is None


def test_series_of_unlike_length_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one row each"):
        evidence(np.zeros(3), np.zeros(2, bool))
