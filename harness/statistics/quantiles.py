"""Quantiles with intervals that assume no distribution, and the figures of a latency row (methods A2, A4).

Nothing is dropped: a failed call is slower than every other. Calls that follow each other are not independent; counts
are divided by the design effect, the autocorrelation time of "is over this quantile", so that slow spells widen an
interval instead of narrowing it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.stats import binom, chi2

from harness.records import LatencyFigures, Quantile
from runtime.protocol import Array

__all__ = ["design_effect", "latency_figures", "quantile", "quantile_ranks"]


def latency_figures(samples_ns: Sequence[int] | Array, failed: int, wall_ns: int) -> LatencyFigures:
    """The figures of one row.

    ``samples_ns``: of the calls that succeeded, in the order in which they were made. ``failed``: calls that did not;
    they count as infinitely slow. ``wall_ns``: from the first start to the last end, of all calls.
    ``count`` is of all calls, mean, minimum and maximum of those that succeeded; ``calls_per_s`` counts these alone.
    Raises ``ValueError`` without a single sample or without wall time.
    """
    samples = np.asarray(samples_ns, dtype=np.int64)
    if samples.size == 0 or wall_ns <= 0:
        raise ValueError(f"{samples.size} samples in {wall_ns} ns; latency figures need at least one, and time.")
    return LatencyFigures(
        count=int(samples.size) + failed,
        failed=failed,
        p50=quantile(samples, 0.50, failed=failed),
        p95=quantile(samples, 0.95, failed=failed),
        p99=quantile(samples, 0.99, failed=failed),
        mean_ns=float(samples.mean()),
        min_ns=int(samples.min()),
        max_ns=int(samples.max()),
        calls_per_s=samples.size / (wall_ns * 1e-9),
    )


def quantile(samples_ns: Sequence[int] | Array, p: float, *, failed: int = 0, confidence: float = 0.95) -> Quantile:
    """The ``p`` quantile (the smallest sample with a share of at least ``p`` at or under it) with its interval.

    A value among the ``failed`` calls is given as the largest sample, and has no upper bound. A bound for which there
    are too few samples is ``None``.
    """
    samples = np.asarray(samples_ns, dtype=np.int64)
    count = len(samples) + failed
    at = min(_rank(p, count), len(samples)) - 1
    value = np.partition(samples, at)[at]
    low, high = quantile_ranks(count, p, confidence=confidence, effect=design_effect(samples >= value))
    bounds = [min(rank, len(samples)) - 1 for rank in (low, high) if rank is not None]
    ordered = np.partition(samples, bounds) if bounds else samples
    return Quantile(
        p=p,
        value_ns=int(value),
        low_ns=int(ordered[min(low, len(samples)) - 1]) if low is not None else None,
        high_ns=int(ordered[high - 1]) if high is not None and high <= len(samples) else None,
        confidence=confidence,
    )


def quantile_ranks(
    count: int, p: float, *, confidence: float = 0.95, effect: float = 1.0
) -> tuple[int | None, int | None]:
    """The ranks (from 1) of the samples between which the ``p`` quantile lies, with equal tails; ``None`` if too few.

    The number of samples at or under a quantile is binomial whatever the distribution, so the interval is exact and
    its coverage at least ``confidence`` (David and Nagaraja, Order Statistics, 7.1). ``effect``: the design effect;
    ranks are then taken in a sample of ``count / effect`` and scaled back outwards.
    """
    independent = max(1, math.floor(count / effect))
    tail = (1.0 - confidence) / 2.0
    low, high = int(binom.ppf(tail, independent, p)), int(binom.ppf(1.0 - tail, independent, p)) + 1
    stretch = count / independent
    return (
        math.floor(low * stretch) if low >= 1 else None,
        min(count, math.ceil(high * stretch)) if high <= independent else None,
    )


def design_effect(exceedances: Sequence[bool] | Array) -> float:
    """The integrated autocorrelation time of a 0/1 series, at least 1: how many samples say as much as one would.

    Sokal's estimator: the sum of autocorrelations over a window that ends at the first lag of 5 times the sum. That window
    closes before a weak but slow component is seen, so the variance of the means of 16, 64 and 256 batches is held against
    it: where one is larger than chance explains (0.1 %), it stands. Simulated: of a correlation of 0.1 that lasts 50 s,
    whose effect is 78, the window alone saw 1.4. A series without change says nothing of its correlation, and gives 1.
    """
    series = np.asarray(exceedances, dtype=np.float64)
    series = series - series.mean() if series.size else series
    power = float(np.dot(series, series))
    if power == 0.0:
        return 1.0
    window = _window(series, power)
    return max(window, *(slow for slow, excess in _by_batches(series, power) if slow > window * excess), 1.0)


_FIRST_LAGS = 1024


def _window(centred: Array, power: float) -> float:
    """Sokal's sum; more lags are looked at where the window does not close within the first ones."""
    count, lags = centred.size, _FIRST_LAGS
    while True:
        if 4 * lags > count:
            lags = next_fast_len(count, real=True)
        times = 2.0 * np.cumsum(_products(centred, lags)[:count]) / power - 1.0
        ends = np.flatnonzero(np.arange(times.size) >= 5.0 * times)
        if ends.size or lags >= count:
            return float(max(1.0, times[ends[0]] if ends.size else times.max()))
        lags *= 16


def _products(centred: Array, lags: int) -> Array:
    """Sums of ``centred[i] * centred[i + lag]``, float64 [lags]: blocks of ``lags``, each against itself and the next.

    A million samples whose memory is short cost a fraction of one transform of them all.
    """
    blocks = np.zeros((math.ceil(centred.size / lags) + 1, lags))
    blocks.ravel()[: centred.size] = centred
    here = rfft(blocks, 2 * lags, axis=1)
    after = here[1:].copy()
    after[:, 1::2] *= -1.0  # a block that comes ``lags`` later, in a transform of twice as many
    return np.asarray(irfft((np.conj(here[:-1]) * (here[:-1] + after)).sum(axis=0), 2 * lags)[:lags])


_BATCHES = tuple((number, float(chi2.ppf(0.999, number - 1)) / (number - 1)) for number in (16, 64, 256))
"""How many batches, and by which factor the variance of so many means exceeds its expectation by chance alone."""

_LEAST_BATCH = 10


def _by_batches(centred: Array, power: float) -> Iterator[tuple[float, float]]:
    for number, excess in _BATCHES:
        each = centred.size // number
        if each >= _LEAST_BATCH:
            means = centred[: each * number].reshape(number, each).mean(axis=1)
            yield float(each * means.var(ddof=1) * centred.size / power), excess


def _rank(p: float, count: int) -> int:
    """From 1. The nudge keeps 0.95 · 20 from being 19.000000000000004."""
    return max(1, math.ceil(p * count * (1.0 - 1e-12)))
