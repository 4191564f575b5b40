from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom, norm, quantile_test

from harness.statistics.quantiles import design_effect, latency_figures, median, quantile, quantile_ranks, ranked
from runtime.protocol import Array


@pytest.mark.parametrize(("count", "p"), [(59, 0.95), (200, 0.5), (1000, 0.95), (5000, 0.99), (20, 0.5)])
def test_the_interval_is_that_of_scipys_quantile_test(count: int, p: float) -> None:
    samples = np.sort(np.random.default_rng(count).permutation(10 * count)[:count])
    low, high = quantile_ranks(count, p)
    theirs = quantile_test(samples, q=0, p=p).confidence_interval(0.95)
    assert (samples[low - 1] if low else math.nan) == pytest.approx(theirs.low, nan_ok=True)
    assert (samples[high - 1] if high else math.nan) == pytest.approx(theirs.high, nan_ok=True)


@pytest.mark.parametrize(("count", "has_upper_bound"), [(71, False), (72, True)])
def test_p95_has_an_upper_bound_from_the_count_where_the_largest_sample_is_one(
    count: int, has_upper_bound: bool
) -> None:
    assert (0.95**count <= 0.025) == has_upper_bound  # 1 - 0.95^n is the chance that the largest is over p95
    assert (quantile_ranks(count, 0.95)[1] is not None) == has_upper_bound


def test_few_samples_have_no_bounds_rather_than_wrong_ones() -> None:
    figures = latency_figures([5, 3, 4], 0, 12)
    assert (figures.p99.value_ns, figures.p99.low_ns, figures.p99.high_ns) == (5, 4, None)
    assert (figures.p50.value_ns, figures.p50.low_ns, figures.p50.high_ns) == (4, None, None)


def test_intervals_of_independent_samples_cover_the_quantile_as_often_as_they_say() -> None:
    generator = np.random.default_rng(11)
    for p, count in ((0.5, 60), (0.95, 400), (0.99, 1500)):
        truth = 1e6 * math.exp(0.1 * norm.ppf(p))
        hits = 0
        for _ in range(400):
            found = quantile((1e6 * np.exp(0.1 * generator.standard_normal(count))).astype(np.int64), p)
            assert found.low_ns is not None
            assert found.high_ns is not None
            hits += found.low_ns <= truth <= found.high_ns
        assert hits / 400 >= 0.95 - 0.02  # two standard errors of the simulation


def test_intervals_of_slow_spells_are_widened_by_the_design_effect() -> None:
    generator = np.random.default_rng(12)
    truth = norm.ppf(0.95)
    naive = corrected = 0
    for _ in range(200):
        noise = generator.standard_normal(4000)
        series = autoregressive(noise, 0.9)
        samples = (1e9 * (series + 10.0)).astype(np.int64)
        ordered = np.sort(samples)
        low, high = quantile_ranks(len(samples), 0.95)
        assert low
        assert high
        naive += ordered[low - 1] <= 1e9 * (truth + 10.0) <= ordered[high - 1]
        found = quantile(samples, 0.95)
        assert found.low_ns is not None
        assert found.high_ns is not None
        corrected += found.low_ns <= 1e9 * (truth + 10.0) <= found.high_ns
    assert naive / 200 < 0.75
    assert corrected / 200 > 0.9


def autoregressive(noise: np.ndarray, rho: float) -> np.ndarray:
    series = lfilter([math.sqrt(1 - rho**2)], [1.0, -rho], noise[1:], zi=[rho * noise[0]])[0]
    return np.asarray(series)


def test_the_design_effect_of_independent_samples_is_near_one_and_of_runs_is_their_length() -> None:
    generator = np.random.default_rng(13)
    assert design_effect(generator.random(5000) < 0.05) < 1.5
    assert design_effect(np.repeat(generator.random(500) < 0.3, 10)) == pytest.approx(10.0, rel=0.35)
    assert design_effect(np.zeros(50, dtype=bool)) == 1.0
    assert design_effect([]) == 1.0


def test_a_quantile_is_a_sample_with_the_share_at_or_under_it() -> None:
    figures = latency_figures(np.arange(1, 21), 0, 210)
    assert (figures.p50.value_ns, figures.p95.value_ns, figures.p99.value_ns) == (10, 19, 20)
    assert (figures.min_ns, figures.max_ns, figures.mean_ns) == (1, 20, 10.5)


@pytest.mark.covers("T2-01")
def test_failed_calls_are_slower_than_every_other() -> None:
    clean = latency_figures(np.arange(1, 101), 0, 10**9)
    failing = latency_figures(np.arange(1, 101), 10, 10**9)
    assert (failing.count, failing.failed) == (110, 10)
    assert failing.p50.value_ns == 55 > clean.p50.value_ns
    assert failing.p95.value_ns == failing.max_ns == 100
    assert failing.p95.high_ns is None
    assert failing.calls_per_s == pytest.approx(100.0)


def test_the_order_of_samples_changes_no_quantile() -> None:
    samples = np.random.default_rng(14).integers(1, 10**6, 500)
    assert latency_figures(samples, 0, 10**9).p95.value_ns == latency_figures(np.sort(samples), 0, 10**9).p95.value_ns


def test_nanoseconds_stay_whole_numbers() -> None:
    figures = latency_figures([2**60 + 1] * 3, 0, 2**62)
    assert figures.p50.value_ns == 2**60 + 1
    assert all(isinstance(value, int) for value in (figures.p50.value_ns, figures.min_ns, figures.max_ns))


@pytest.mark.parametrize(("samples", "wall_ns"), [([], 10), ([1], 0)])
def test_no_sample_or_no_time_is_an_error_and_not_a_zero(samples: list[int], wall_ns: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        latency_figures(samples, 0, wall_ns)


@pytest.mark.covers("T2-03")
def test_a_weak_correlation_that_lasts_long_is_not_taken_for_none() -> None:
    """A tenth of the variance remembers for 2,000 calls: the effect is about 78, and the window alone saw under 2."""
    generator = np.random.default_rng(15)
    seen = []
    for _ in range(4):
        slow = autoregressive(generator.standard_normal(46_801), 0.9995)
        body = math.sqrt(0.9) * generator.standard_normal(46_800) + math.sqrt(0.1) * slow
        seen.append(design_effect(body > norm.ppf(0.95)))
    assert np.mean(seen) > 20


def test_independent_samples_are_hardly_ever_taken_for_correlated() -> None:
    generator = np.random.default_rng(16)
    assert sum(design_effect(generator.random(4680) < 0.05) > 1.3 for _ in range(200)) <= 2


def test_order_statistics_cover_where_the_bootstrap_of_a_percentile_does_not() -> None:
    """Methods A2: of 60 independent samples a nominal 95 % upper bound of p95 by bootstrap covers 81 %."""
    generator = np.random.default_rng(17)
    truth = norm.ppf(0.95)
    ours = bootstrap = 0
    for _ in range(300):
        samples = np.sort(generator.standard_normal(60))
        high = quantile_ranks(60, 0.95, confidence=0.9)[1]
        assert high is not None
        ours += samples[high - 1] >= truth
        resampled = np.quantile(samples[generator.integers(0, 60, (200, 60))], 0.95, axis=1)
        bootstrap += np.quantile(resampled, 0.95) >= truth
    assert ours / 300 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300)
    assert bootstrap / 300 < 0.88


def plainly(series: Array) -> float:
    """Sokal's sum and the batches by their definitions, lag by lag."""
    centred = series - series.mean()
    power, total = float(centred @ centred), -1.0
    for lag in range(series.size):
        total += 2.0 * float(centred[: series.size - lag] @ centred[lag:]) / power
        if lag >= 5.0 * total:
            break
    window, found = max(1.0, total), [max(1.0, total)]
    for number, excess in ((16, 37.697 / 15), (64, 103.442 / 63), (256, 330.52 / 255)):  # chi2.ppf(0.999, number - 1)
        each = series.size // number
        means = np.array([series[at * each : (at + 1) * each].mean() for at in range(number)])
        if each >= 10 and (slow := each * means.var(ddof=1) * series.size / power) > window * excess:
            found.append(slow)
    return max(found)


@pytest.mark.parametrize("count", [1200, 4096, 9001])
@pytest.mark.parametrize(("rho", "share"), [(0.0, 0.05), (0.5, 0.5), (0.9, 0.01), (0.97, 0.1), (0.995, 0.5)])
def test_the_design_effect_is_that_of_its_definition_however_it_is_computed(
    count: int, rho: float, share: float
) -> None:
    chance = np.random.default_rng(count)
    for weak in (0.0, 0.7):
        fast = lfilter([1.0], [1.0, -rho], chance.standard_normal(count))
        slow = np.repeat(chance.standard_normal(count // 300 + 1), 300)[:count]
        body = fast / fast.std() + weak * slow
        series = body > np.quantile(body, 1.0 - share)
        assert design_effect(series) == pytest.approx(plainly(series), rel=1e-9)


def test_one_partition_gives_numpys_median_and_its_quantile() -> None:
    chance = np.random.default_rng(8)
    for count in range(1, 60):
        values = chance.integers(0, 40, count)
        assert median(values) == np.median(values)
        for p in (0.5, 0.9, 0.95, 0.99):
            theirs = np.quantile(values, p, method="inverted_cdf")
            assert ranked(values, p) == ranked(values, p, np.sort(values)) == theirs
        assert quantile(values, 0.95, ordered=np.sort(values)) == quantile(values, 0.95)


def test_ranks_are_those_of_scipys_binomial() -> None:
    for count in (1, 2, 30, 71, 72, 999, 23_400):
        for p in (0.05, 0.5, 0.95, 0.99):
            low, high = quantile_ranks(count, p, confidence=0.98)
            assert low == (int(binom.ppf(0.01, count, p)) or None)
            above = int(binom.ppf(0.99, count, p)) + 1
            assert high == (above if above <= count else None)
