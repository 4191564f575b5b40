"""Steps of a series: how often noise makes one (it is counted), how often a real one is found, and where."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from harness.history.steps import FEWEST, LEAST, SHORTEST, WINDOW, find_steps
from runtime.protocol import Array

REPETITIONS = 100
STEP = 1.08


def normal(chance: np.random.Generator, count: int) -> Array:
    return chance.standard_normal(count)


def heavy(chance: np.random.Generator, count: int) -> Array:
    return chance.standard_t(3, count) / 1.3


def outliers(chance: np.random.Generator, count: int) -> Array:
    """One run in fifty stands out by twelve spreads."""
    return np.where(chance.random(count) < 1 / 50, 12.0, 0.0) + chance.standard_normal(count)


def alike(chance: np.random.Generator, count: int) -> Array:
    """Neighbours resemble each other: an autoregression of 0.5."""
    noise = chance.standard_normal(count + 20) * math.sqrt(0.75)
    for at in range(1, noise.size):
        noise[at] += 0.5 * noise[at - 1]
    return noise[20:]


@pytest.mark.parametrize(
    ("noise", "most"),
    [(normal, 0.03), (heavy, 0.03), (outliers, 0.03), (alike, 0.15)],
    ids=["normal", "heavy tails", "outliers", "neighbours alike"],
)
@pytest.mark.parametrize("count", [10, 20, 60, 200])
def test_noise_alone_is_silent(noise: Callable[[np.random.Generator, int], Array], most: float, count: int) -> None:
    chance = np.random.default_rng([count, 1])
    told = sum(bool(find_steps(1e7 * np.exp(0.03 * noise(chance, count)))) for _ in range(REPETITIONS))
    assert told / REPETITIONS <= most


@pytest.mark.parametrize(
    ("spread", "before", "after", "least"),
    [(0.01, 4, 4, 0.9), (0.01, 20, 3, 0.95), (0.02, 10, 10, 0.9), (0.02, 60, 6, 0.95), (0.03, 50, 50, 0.9)],
)
def test_a_step_of_eight_percent_is_found_where_it_is(spread: float, before: int, after: int, least: float) -> None:
    chance = np.random.default_rng([before, after])
    found = 0
    for _ in range(REPETITIONS):
        level = np.repeat([1.0, STEP], [before, after])
        steps = find_steps(1e7 * level * np.exp(spread * chance.standard_normal(before + after)))
        found += len(steps) == 1 and abs(steps[0].at - before) <= 2
    assert found / REPETITIONS >= least


def test_a_step_says_its_factor_by_the_medians_before_and_after() -> None:
    (step,) = find_steps([10.0, 10.1, 9.9, 10.0, 10.0, 20.0, 20.2, 19.8, 20.0, 20.0])
    assert (step.at, step.before, step.after, step.factor) == (5, 10.0, 20.0, 2.0)


def test_there_and_back_are_two_steps() -> None:
    steps = find_steps([10.0] * 6 + [11.0] * 5 + [10.0] * 6)
    assert [(step.at, round(step.factor or 0.0, 3)) for step in steps] == [(6, 1.1), (11, 0.909)]


def test_a_single_run_that_stands_out_is_no_step_and_hides_none() -> None:
    quiet = [10.0, 10.1, 9.9, 10.05, 9.95] * 4
    spiked = [*quiet[:7], 50.0, *quiet[8:]]
    assert find_steps(spiked) == ()
    assert [step.at for step in find_steps([*spiked, *(1.2 * value for value in quiet)])] == [20]


def test_what_never_moved_is_silent_and_a_change_under_two_percent_is_no_news() -> None:
    assert find_steps([4e8] * 30) == ()
    assert find_steps([4e8] * 15 + [4e8 * (1 + 0.9 * LEAST)] * 15) == ()
    assert [step.at for step in find_steps([4e8] * 15 + [4e8 * (1 + 1.1 * LEAST)] * 15)] == [15]


def test_figures_that_are_zero_or_negative_step_without_a_factor() -> None:
    (step,) = find_steps([0.0] * 10 + [5.0] * 10)
    assert (step.at, step.before, step.after, step.factor) == (10, 0.0, 5.0, None)
    (below,) = find_steps([-3.0, -3.1, -2.9, -3.0] * 3 + [-6.0, -6.1, -5.9, -6.0] * 3)
    assert (below.at, below.factor) == (12, None)
    assert find_steps([0.0] * 20) == ()


def test_of_few_runs_nothing_is_said() -> None:
    assert find_steps([1.0] * (FEWEST - SHORTEST) + [2.0] * (SHORTEST - 1)) == ()
    assert find_steps([]) == ()


def test_a_step_of_the_last_two_runs_is_left_to_compare() -> None:
    assert find_steps([10.0, 10.1, 9.9, 10.0] * 4 + [20.0, 20.0]) == ()


@pytest.mark.parametrize("at", [40, 700, 1249, 1250, 2600, 3490])
def test_a_long_series_is_searched_in_windows_and_each_step_is_told_once(at: int) -> None:
    chance = np.random.default_rng(at)
    values = 1e7 * np.exp(0.02 * chance.standard_normal(int(3.5 * WINDOW)))
    values[at:] *= STEP
    (step,) = find_steps(values)
    assert abs(step.at - at) <= 3
    assert step.factor == pytest.approx(STEP, rel=0.03)


def test_a_long_series_of_noise_is_silent() -> None:
    assert find_steps(1e7 * np.exp(0.02 * np.random.default_rng(5).standard_normal(10 * WINDOW))) == ()


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="leave out what was not measured"):
        find_steps([1.0] * 9 + [math.nan])
