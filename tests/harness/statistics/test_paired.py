"""Old against new: pairs of launches, a margin, and a few looks."""

import math

import numpy as np
import pytest

from harness.records import Outcome
from harness.statistics.paired import LOOKS, block_family, compare_pairs, hodges_lehmann, holm


def experiment(ratio: float, chance: np.random.Generator, spread: float = 0.02) -> Outcome:
    pairs = math.log(ratio) + spread * chance.standard_normal(LOOKS[-1])
    for look in LOOKS:
        outcome = compare_pairs(pairs[:look]).outcome
        if outcome is not Outcome.INCONCLUSIVE:
            return outcome
    return Outcome.INCONCLUSIVE


def test_no_change_gives_no_alarm_and_eight_percent_is_not_missed() -> None:
    chance = np.random.default_rng(5)
    same = [experiment(1.0, chance) for _ in range(1000)]
    assert same.count(Outcome.FAIL) <= 2
    assert same.count(Outcome.PASS) >= 990
    slower = [experiment(1.08, chance) for _ in range(1000)]
    assert slower.count(Outcome.FAIL) >= 990


def test_at_the_margin_it_rarely_passes() -> None:
    chance = np.random.default_rng(6)
    at_the_margin = [experiment(1.05, chance) for _ in range(1000)]
    assert at_the_margin.count(Outcome.PASS) <= 50 + 3 * math.sqrt(1000 * 0.05 * 0.95)


def test_a_gain_beyond_the_margin_breaks_equivalence_and_nothing_else() -> None:
    gain = np.log(0.9) + 0.01 * np.random.default_rng(7).standard_normal(10)
    assert compare_pairs(gain).outcome is Outcome.PASS
    assert compare_pairs(gain, both_sides=True).outcome is Outcome.FAIL
    assert "faster, beyond the margin" in compare_pairs(gain, both_sides=True).reason


def test_few_noisy_pairs_do_not_decide_and_the_last_look_says_so() -> None:
    chance = np.random.default_rng(8)
    assert compare_pairs([-0.2, 0.1, 0.2, -0.1, 0.15, -0.05]).outcome is Outcome.INCONCLUSIVE
    assert "there are no more" in compare_pairs(0.3 * chance.standard_normal(24)).reason


def test_a_small_slowdown_is_named_and_passes() -> None:
    change = compare_pairs(np.log(1.02) + 0.005 * np.random.default_rng(9).standard_normal(10))
    assert change.outcome is Outcome.PASS
    assert change.reason.startswith("slower, within the margin of 5 %: +1.9 %")
    assert 1.0 < change.low < change.ratio < change.high < 1.05


@pytest.mark.parametrize("wrong", [[], [0.1, 0.2], [0.1, 0.2, float("nan")]])
def test_too_few_or_undefined_pairs_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="expected three or more"):
        compare_pairs(wrong)


def test_one_launch_that_is_off_does_not_move_the_robust_figure() -> None:
    assert hodges_lehmann(np.array([0.0, 0.0, 0.0, 0.0, 5.0])) == 0.0


def test_holm_rejects_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.2]) == [False]
    assert holm([]) == []


def test_a_p_value_counts_that_it_was_looked_several_times_and_agrees_with_the_interval() -> None:
    chance = np.random.default_rng(10)
    for _ in range(50):
        change = compare_pairs(0.02 + 0.03 * chance.standard_normal(6))
        assert (change.p_regression <= 0.05) == (change.low >= 1.0)
    assert compare_pairs([0.0] * 6).p_regression == 1.0
    assert compare_pairs([0.125] * 6).p_regression < 1e-9


def test_among_sixty_rows_where_nothing_changed_a_false_block_is_as_rare_as_in_one() -> None:
    """With the margin at nothing, each row alone alarms in about 1 of 80; sixty would in every second release."""
    chance = np.random.default_rng(11)
    alone = together = 0
    for _ in range(100):
        rows = [compare_pairs(pairs, margin=1e-9) for pairs in 0.02 * chance.standard_normal((60, 6))]
        alone += any(row.outcome is Outcome.FAIL for row in rows)
        together += any(row.outcome is Outcome.FAIL for row in block_family(rows))
    assert alone >= 30
    assert together <= 5 + 3 * math.sqrt(100 * 0.05 * 0.95)


def test_a_row_that_regresses_clearly_blocks_among_many_and_one_that_hardly_does_is_left_open() -> None:
    chance = np.random.default_rng(12)
    same = [compare_pairs(0.01 * chance.standard_normal(6)) for _ in range(30)]
    clear = compare_pairs(0.10 + 0.005 * chance.standard_normal(6))
    hardly = compare_pairs([0.02, 0.11, 0.03, 0.12, 0.01, 0.10])
    faster = compare_pairs(-0.1 + 0.01 * chance.standard_normal(6), both_sides=True)
    assert [one.outcome for one in (clear, hardly, faster)] == [Outcome.FAIL] * 3
    *others, first, second, third = block_family([*same, clear, hardly, faster])
    assert others == same
    assert (first, third) == (clear, faster)
    assert second.outcome is Outcome.INCONCLUSIVE
    assert "among 33 rows it may be chance" in second.reason
