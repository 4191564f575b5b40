"""Warm enough to measure, and steady while measured."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import kendalltau, theilslopes, ttest_ind

from harness.statistics.steadiness import SoakRule, drift, slope_c_per_min
from runtime.protocol import Array


@pytest.mark.parametrize("tau_s", [120.0, 300.0])
def test_a_soak_ends_when_little_of_the_rise_is_left(tau_s: float) -> None:
    """Methods A4: with a rise of 35 degrees it waits 500 to 850 s and leaves 2 to 6 % of it."""
    times = np.arange(0.0, 3000.0, 1.0)
    warm = 40.0 + 35.0 * (1.0 - np.exp(-times / tau_s))
    rule = SoakRule()
    ended = next(n for n in range(1, times.size) if rule.is_steady(times[:n], warm[:n]))
    assert 450 <= ended <= 900
    assert 0.01 <= (75.0 - warm[ended]) / 35.0 <= 0.07


def test_a_soak_never_ends_early_nor_on_readings_that_do_not_span_its_window() -> None:
    rule = SoakRule()
    assert not rule.is_steady([], [])
    flat = [50.0] * 170
    assert not rule.is_steady(list(range(170)), flat)
    assert rule.is_steady(list(range(190)), [50.0] * 190)
    gap = [0.0, 1.0, 190.0, 191.0]
    assert slope_c_per_min(gap, [50.0] * 4, 120.0) is None
    assert not rule.is_steady(gap, [50.0] * 4)


def test_a_rise_of_a_degree_a_minute_is_told_in_its_unit() -> None:
    times = np.arange(0.0, 200.0, 2.0)
    assert slope_c_per_min(times, 40.0 + times / 60.0, 120.0) == pytest.approx(1.0)


def flags(make: Callable[[np.random.Generator], Array], repetitions: int = 100) -> float:
    chance = np.random.default_rng(4)
    found = [drift(50e6 * make(chance)) for _ in range(repetitions)]
    return float(np.mean([one is not None and one.is_flagged for one in found]))


def noise(chance: np.random.Generator, count: int = 4680, rho: float = 0.0) -> Array:
    steps = math.sqrt(1 - rho**2) * chance.standard_normal(count)
    steps[0] = chance.standard_normal()
    return np.asarray(np.exp(0.06 * lfilter([1.0], [1.0, -rho], steps)))


def spiked(chance: np.random.Generator) -> Array:
    return np.asarray(noise(chance) * np.where(chance.random(4680) < 0.06, 1.5, 1.0))


def in_bursts(chance: np.random.Generator) -> Array:
    slow = np.repeat(chance.random(240) < 0.03, 20)[:4680]
    return np.asarray(noise(chance) * np.where(slow, 1.2, 1.0))


@pytest.mark.parametrize(
    "make",
    [noise, lambda chance: noise(chance, rho=0.9), lambda chance: noise(chance, rho=0.98), spiked, in_bursts],
    ids=["independent", "AR 0.9", "AR 0.98", "spikes", "bursts"],
)
def test_a_steady_board_is_hardly_ever_taken_for_one_that_drifts(make: Callable[[np.random.Generator], Array]) -> None:
    """Methods A4: at most 3 % false flags."""
    assert flags(make) <= 0.03 + 3 * math.sqrt(0.03 * 0.97 / 100)


def test_a_drift_of_three_percent_is_flagged_with_its_size() -> None:
    assert flags(lambda chance: noise(chance) * np.linspace(1.0, 1.03, 4680)) >= 0.97
    assert flags(lambda chance: noise(chance, 23_400, 0.9) * np.linspace(1.0, 1.03, 23_400), 40) >= 0.85
    found = drift(50e6 * noise(np.random.default_rng(5)) * np.linspace(1.0, 1.03, 4680))
    assert found is not None
    assert 0.02 < found.change < 0.04
    faster = drift(50e6 * noise(np.random.default_rng(5)) * np.linspace(1.03, 1.0, 4680))
    assert faster is not None
    assert -0.04 < faster.change < -0.02


@pytest.mark.parametrize("at", [0.3, 0.5, 0.7])
def test_a_step_is_seen_wherever_it_is(at: float) -> None:
    step = np.where(np.arange(4680) < at * 4680, 1.0, 1.03)
    assert flags(lambda chance: noise(chance) * step, 50) >= 0.9


def test_a_board_that_warms_and_settles_drifted_although_most_of_its_window_was_steady() -> None:
    times = np.arange(23_400) / 39.0
    assert flags(lambda chance: noise(chance, 23_400) * (1.0 - 0.02 * np.exp(-times / 100.0)), 30) >= 0.9


def test_a_series_without_change_has_no_drift_and_a_short_one_no_answer() -> None:
    flat = drift(np.full(200, 7))
    assert flat is not None
    assert (flat.change, flat.p, flat.is_flagged) == (0.0, 1.0, False)
    assert drift(np.arange(99)) is None


@pytest.mark.parametrize("coarse_ns", [1, 2_000_000])
def test_the_trend_is_that_of_theil_and_sen_and_its_p_that_of_kendall_or_student(coarse_ns: int) -> None:
    """As scipy has them. Levels of coarse values are alike here and there, and Kendall's p is an approximation then."""
    chance, decided = np.random.default_rng(6), set()
    for rise in (0.0, 0.001, 0.002, -0.004) * 3:
        latencies = (50e6 * noise(chance, 210) * np.linspace(1.0, 1.0 + rise, 210)).astype(np.int64)
        latencies = latencies // coarse_ns * coarse_ns
        levels = [np.sort(block)[2:-2].mean() for block in np.array_split(latencies, 20)]
        ends = np.mean(levels[-5:]) - np.mean(levels[:5])
        change = max(19 * theilslopes(levels, np.arange(20)).slope, ends / 0.75, key=abs) / np.median(levels)
        of_tests = (kendalltau(np.arange(20), levels).pvalue, ttest_ind(levels[:5], levels[-5:]).pvalue)
        decided.add(int(np.argmin(of_tests)))
        found = drift(latencies)
        assert found is not None
        assert found.change == pytest.approx(change, rel=1e-12)
        assert found.p == pytest.approx(min(of_tests))
    assert decided == {0, 1}
