"""The simulation that holds the gates to what they promise, in a short form."""

import numpy as np
import pytest

from harness.records import Outcome
from harness.truth import SCENARIOS, Tally, _budget, _one_scenario, loadgen, missed_targets, naive


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_budget_is_where_the_wanted_share_exceeds(name: str) -> None:
    series = SCENARIOS[name]
    budget = _budget(series, 0.07, 39.0, 1)
    other = series(np.random.default_rng(2), 400_000, 39.0)
    assert (other > budget).mean() == pytest.approx(0.07, abs=0.01)


def test_a_clear_case_is_judged_rightly_by_our_gate() -> None:
    for share, right in ((0.02, "passed"), (0.10, "failed")):
        ours = [one for one in _one_scenario(("iid", SCENARIOS["iid"], share, 3, 5)) if one.rule.startswith("trigate")]
        assert [getattr(one, right) for one in ours] == [1.0, 1.0]
        assert all(one.wrong == 0.0 for one in ours)


def test_the_naive_rules_do_what_they_are_known_for() -> None:
    slow = np.r_[np.full(194, 1.0), np.full(6, 9.0)]
    assert naive(slow, 2.0, 200) == (Outcome.PASS, 200)
    assert loadgen(np.full(5000, 1.0), 2.0, 5000) == (Outcome.PASS, 300)
    assert loadgen(np.full(5000, 9.0), 2.0, 5000) == (Outcome.FAIL, 5000)


def test_a_gate_that_lies_more_often_than_it_promises_is_named() -> None:
    honest = Tally("iid", 0.05, "trigate, floor", 0.05, 0.03, 0.92, 120.0, 300)
    lying = Tally("AR 0.9", 0.07, "trigate, floor", 0.2, 0.0, 0.8, 120.0, 300)
    assert missed_targets([honest]) == []
    assert missed_targets([honest, lying]) == ["AR 0.9, 0.07 exceed: wrong in 0.200, promised 0.088"]
