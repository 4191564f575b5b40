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
from scipy.special import bdtr, bdtrik, chdtri

from harness.records import LatencyFigures, Quantile
from runtime.protocol import Array

__all__ = ["design_effect", "latency_figures", "median", "quantile", "quantile_ranks", "ranked"]


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
    ordered = np.sort(samples)
    return LatencyFigures(
        count=int(samples.size) + failed,
        failed=failed,
        p50=quantile(samples, 0.50, failed=failed, ordered=ordered),
        p95=quantile(samples, 0.95, failed=failed, ordered=ordered),
        p99=quantile(samples, 0.99, failed=failed, ordered=ordered),
        mean_ns=float(samples.mean()),
        min_ns=int(ordered[0]),
        max_ns=int(ordered[-1]),
        calls_per_s=samples.size / (wall_ns * 1e-9),
    )


def quantile(
    samples_ns: Sequence[int] | Array,
    p: float,
    *,
    failed: int = 0,
    confidence: float = 0.95,
    ordered: Array | None = None,
) -> Quantile:
    """The ``p`` quantile (the smallest sample with a share of at least ``p`` at or under it) with its interval.

    A value among the ``failed`` calls is given as the largest sample, and has no upper bound. A bound for which there
    are too few samples is ``None``. ``ordered``: the samples sorted, where somebody has them.
    """
    samples = np.asarray(samples_ns, dtype=np.int64)
    ordered = np.sort(samples) if ordered is None else ordered
    count = len(samples) + failed
    value = ordered[min(_rank(p, count), len(samples)) - 1]
    low, high = quantile_ranks(count, p, confidence=confidence, effect=design_effect(samples >= value))
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
    low, high = _least_hits(tail, independent, p), _least_hits(1.0 - tail, independent, p) + 1
    stretch = count / independent
    return (
        math.floor(low * stretch) if low >= 1 else None,
        min(count, math.ceil(high * stretch)) if high <= independent else None,
    )


def _least_hits(share: float, count: int, p: float) -> int:
    """The binomial quantile: the least number of hits in ``count`` whose cumulative probability reaches ``share``. That of
    ``scipy.stats``, which takes a hundred times as long to look at its arguments.
    """
    hits = min(count, max(0, math.ceil(bdtrik(share, count, p))))
    while hits > 0 and bdtr(hits - 1, count, p) >= share:
        hits -= 1
    while hits < count and bdtr(hits, count, p) < share:
        hits += 1
    return int(hits)


def ranked(values: Array, p: float, ordered: Array | None = None) -> int:
    """The smallest of [n] values with a share of at least ``p`` at or under it. ``ordered``: as in ``quantile``."""
    at = max(0, math.ceil(values.size * p) - 1)
    return int(np.partition(values, at)[at] if ordered is None else ordered[at])


def median(values: Array) -> float:
    """Of [n] values, n above 0: that of numpy, by one partition in place of its three."""
    middle = values.size // 2
    parted = np.partition(values, middle)
    upper = float(parted[middle])
    return upper if values.size % 2 else (float(parted[:middle].max()) + upper) / 2.0


def design_effect(exceedances: Sequence[bool] | Array) -> float:
    """The integrated autocorrelation time of a 0/1 series, at least 1: how many samples say as much as one would.

    Sokal's estimator: the sum of autocorrelations over a window that ends at the first lag of 5 times the sum. That window
    closes before a weak but slow component is seen, so the variance of the means of 16, 64 and 256 batches is held against
    it: where one is larger than chance explains (0.1 %), it stands. Simulated: of a correlation of 0.1 that lasts 50 s,
    whose effect is 78, the window alone saw 1.4. A series without change says nothing of its correlation, and gives 1.
    """
    series = np.asarray(exceedances, dtype=bool)
    ones = int(np.count_nonzero(series))
    if ones in (0, series.size):
        return 1.0
    counted = _counted(series, ones) if series.size >= _LONG else None
    if counted is not None and not _may_be_slow(series, ones, counted):
        return counted
    centred = series - ones / series.size
    power = float(np.dot(centred, centred))
    window = _window(centred, power) if counted is None else counted
    return max(window, *(slow for slow, excess in _by_batches(centred, power) if slow > window * excess), 1.0)


_FIRST_LAGS = 1024
_LONG = 4 * _FIRST_LAGS
"""From so many on a series is looked at in blocks, and its pairs are counted first."""


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


_COUNTED_LAGS = 128


def _counted(series: Array, ones: int) -> float | None:
    """Sokal's sum where its window closes within a hundred lags, as it mostly does: how often two ones are so far apart is
    counted, lag after lag, in a tenth of the time of a transform. ``None`` where it stays open.
    """
    count, share = series.size, ones / series.size
    power = ones * (1.0 - share)
    first, last = series[:_COUNTED_LAGS].tolist(), series[: -_COUNTED_LAGS - 1 : -1].tolist()
    paired, total = 2 * ones, 1.0
    for lag in range(1, _COUNTED_LAGS):
        paired -= first[lag - 1] + last[lag - 1]  # ones that have a place to be compared with, on either side
        both = int(np.count_nonzero(series[lag:] & series[: count - lag]))
        total += 2.0 * (both - share * paired + (count - lag) * share * share) / power
        if lag >= 5.0 * total:
            return float(max(1.0, total))
        if 5.0 * total > _COUNTED_LAGS:
            break
    return None


_BATCHES = tuple((number, float(chdtri(number - 1, 0.001)) / (number - 1)) for number in (16, 64, 256))
"""How many batches, and by which factor the variance of so many means exceeds its expectation by chance alone."""

_LEAST_BATCH = 10


def _by_batches(centred: Array, power: float) -> Iterator[tuple[float, float]]:
    for number, excess in _BATCHES:
        each = centred.size // number
        if each >= _LEAST_BATCH:
            means = centred[: each * number].reshape(number, each).mean(axis=1)
            yield float(each * means.var(ddof=1) * centred.size / power), excess


def _may_be_slow(series: Array, ones: int, window: float) -> bool:
    """Whether batches may show more than the window did, by how many ones each has."""
    power = ones * (1.0 - ones / series.size)
    for number, excess in _BATCHES:
        each = series.size // number
        begins = each * np.arange(number)
        hits = np.add.reduceat(series[: each * number].view(np.int8), begins, dtype=np.float64)
        variance = (float(np.dot(hits, hits)) - float(hits.sum()) ** 2 / number) / (number - 1)
        if variance / each * series.size / power > 0.999 * window * excess:
            return True
    return False


def _rank(p: float, count: int) -> int:
    """From 1. The nudge keeps 0.95 · 20 from being 19.000000000000004."""
    return max(1, math.ceil(p * count * (1.0 - 1e-12)))
