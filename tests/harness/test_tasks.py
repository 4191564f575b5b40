from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.config import TaskRule
from harness.errors import UsageError
from harness.records import Outcome
from harness.tasks import check_task, non_inferiority, score

GENERATOR = np.random.default_rng(5)
SCORES = 0.8 + 0.1 * GENERATOR.standard_normal(200)


def test_equal_within_noise_passes_and_says_the_figures() -> None:
    check = non_inferiority(
        SCORES, SCORES + 0.001 * GENERATOR.standard_normal(200), direction="higher", may_lose=0.005, metric="recall"
    )
    assert check.outcome is Outcome.PASS
    assert "recall 0." in check.reason
    assert "200 samples" in check.reason


def test_worse_than_may_be_lost_fails_in_either_direction() -> None:
    worse = SCORES - 0.02 + 0.001 * GENERATOR.standard_normal(200)
    assert non_inferiority(SCORES, worse, direction="higher", may_lose=0.005).outcome is Outcome.FAIL
    assert non_inferiority(worse, SCORES, direction="lower", may_lose=0.005).outcome is Outcome.FAIL
    assert non_inferiority(worse, SCORES, direction="higher", may_lose=0.005).outcome is Outcome.PASS


def test_too_noisy_to_decide_is_inconclusive_and_says_how_many_samples_would_do() -> None:
    check = non_inferiority(
        SCORES[:20], SCORES[:20] + 0.05 * GENERATOR.standard_normal(20), direction="higher", may_lose=0.005
    )
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "samples would decide it" in check.reason or "too close" in check.reason


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_handful_of_samples_is_inconclusive(count: int) -> None:
    check = non_inferiority([0.5] * count, [0.5] * count, direction="higher", may_lose=0.5)
    assert check.outcome is Outcome.INCONCLUSIVE


def test_no_loss_seen_in_few_hits_and_misses_is_no_proof() -> None:
    hits = [1.0, 0.0] * 25
    assert non_inferiority(hits, hits, direction="higher", may_lose=0.005).outcome is Outcome.INCONCLUSIVE
    assert non_inferiority(hits * 40, hits * 40, direction="higher", may_lose=0.005).outcome is Outcome.PASS


@pytest.mark.parametrize("count", [100, 600, 2000])
def test_a_hit_rate_just_below_the_limit_passes_no_more_often_than_promised(count: int) -> None:
    generator = np.random.default_rng(count)
    reference = np.tile([1.0, 1.0, 1.0, 0.0], count // 4)
    passes = 0
    for _ in range(400):
        lost = (generator.random(count) < 0.0055 * 4 / 3) & (reference == 1.0)
        check = non_inferiority(reference, reference - lost, direction="higher", may_lose=0.005)
        passes += check.outcome is Outcome.PASS
    assert passes / 400 <= 0.05 + 0.02


def test_a_continuous_loss_at_the_limit_passes_in_one_of_twenty() -> None:
    generator = np.random.default_rng(6)
    passes = sum(
        non_inferiority(
            SCORES, SCORES - 0.005 + 0.02 * generator.standard_normal(200), direction="higher", may_lose=0.005
        ).outcome
        is Outcome.PASS
        for _ in range(400)
    )
    assert 0.01 <= passes / 400 <= 0.09


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="nan for sample 1"):
        score(lambda outputs, feed: float(outputs["y"]), [{"y": np.array(1.0)}, {"y": np.array(np.nan)}], [{}, {}])


def test_scores_that_are_not_pairs_and_unknown_directions_are_errors() -> None:
    with pytest.raises(ValueError, match="pairs"):
        non_inferiority([1.0] * 9, [1.0] * 8, direction="higher", may_lose=0.1)
    with pytest.raises(ValueError, match="direction"):
        non_inferiority([1.0] * 9, [1.0] * 9, direction="up", may_lose=0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task_hooks_of_a_user.py").write_text(
        "def mean(outputs, feed):\n    return float(outputs['y'].mean() - feed['x'].mean())\n\n\n"
        "def picky(outputs, feed):\n    if outputs['y'].max() > 50:\n        raise KeyError('too large')\n    return 1.0\n"
    )
    return tmp_path


def outputs_of(scale: float) -> list[dict[str, np.ndarray]]:
    return [{"y": scale * np.array([1.0, 2.0 + at])} for at in range(12)]


FEEDS = [{"x": np.array([float(at)])} for at in range(12)]


@pytest.mark.covers("T1-01")
def test_a_users_metric_is_found_and_judged(folder: Path) -> None:
    rule = TaskRule("task_hooks_of_a_user:mean", "higher", may_lose=0.01)
    assert check_task(rule, outputs_of(1.0), outputs_of(1.0001), FEEDS, (folder,)).outcome is Outcome.PASS
    assert check_task(rule, outputs_of(1.0), outputs_of(0.9), FEEDS, (folder,)).outcome is Outcome.FAIL


def test_a_metric_that_breaks_says_on_whose_outputs(folder: Path) -> None:
    rule = TaskRule("task_hooks_of_a_user:picky", "higher", may_lose=0.01)
    broken = check_task(rule, outputs_of(1.0), outputs_of(100.0), FEEDS, (folder,))
    assert (broken.outcome, "this runtime's outputs: KeyError" in broken.reason) == (Outcome.FAIL, True)
    broken = check_task(rule, outputs_of(100.0), outputs_of(1.0), FEEDS, (folder,))
    assert (broken.outcome, "reference's outputs: KeyError" in broken.reason) == (Outcome.INCONCLUSIVE, True)


def test_a_metric_that_is_not_there_is_a_wrong_call(folder: Path) -> None:
    with pytest.raises(UsageError, match="cannot be loaded"):
        check_task(TaskRule("task_hooks_of_a_user:absent"), [], [], [], (folder,))
