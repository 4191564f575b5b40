"""Is a board warm enough to measure, and did it stay the same while it was measured? (methods A4)

Temperature first, statistics second: on an edge GPU the slow variable can be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtr

from harness.statistics.quantiles import median
from runtime.protocol import Array

__all__ = ["Drift", "SoakRule", "drift", "slope_c_per_min"]


@dataclass(frozen=True)
class SoakRule:
    """Measuring may start once the temperature has all but stopped to rise.

    ``slope_c_per_min``: over the last ``window_s``. ``least_s``, ``most_s``: never before, and given up after.
    """

    slope_c_per_min: float = 0.5
    window_s: float = 120.0
    least_s: float = 180.0
    most_s: float = 1800.0

    def is_steady(self, times_s: Sequence[float] | Array, temperatures_c: Sequence[float] | Array) -> bool:
        """Fed with all readings since the load began, in order of time."""
        if len(times_s) == 0 or times_s[-1] - times_s[0] < self.least_s:
            return False
        slope = slope_c_per_min(times_s, temperatures_c, self.window_s)
        return slope is not None and abs(slope) < self.slope_c_per_min


def slope_c_per_min(
    times_s: Sequence[float] | Array, temperatures_c: Sequence[float] | Array, window_s: float
) -> float | None:
    """The least-squares slope over the last ``window_s``; ``None`` where the readings do not span most of it.

    A window of whole fan cycles is the caller's to choose: within one cycle the temperature has no single slope.
    """
    times, values = np.asarray(times_s, np.float64), np.asarray(temperatures_c, np.float64)
    recent = times >= times[-1] - window_s if times.size else np.zeros(0, bool)
    times, values = times[recent], values[recent]
    if times.size < 3 or times[-1] - times[0] < 0.8 * window_s:
        return None
    centred = times - times.mean()
    return float(60.0 * np.dot(centred, values) / np.dot(centred, centred))


@dataclass(frozen=True)
class Drift:
    """``change``: of the level over the whole window, as a share of it. ``p``: of a trend or a step.

    ``is_flagged``: significant and over half a percent, so that the window says nothing of one steady state.
    """

    change: float
    p: float
    is_flagged: bool


_TRIMMED = 0.2


def drift(latencies_ns: Array, *, blocks: int = 20, alpha: float = 0.01, least_change: float = 0.005) -> Drift | None:
    """The trend of block levels, int64 [n] in order of time; ``None`` with under five samples a block.

    A level is the mean of a block's middle three fifths: as blind to a tail as the median, and less noisy. Kendall's test
    sees a trend, Student's t between the first and the last quarter a step. How large it is: Theil and Sen's slope, or what
    lies between those quarters where that is more, for a board that warms and settles has most pairs of its blocks where it
    has settled. Simulated: at most 3 % false flags at any autocorrelation; a rise of 3 % in ten minutes is seen in nine of
    ten after 220 s at 39 Hz (with medians, and Kendall's test alone, in half of them), and in one of six after 120 s.
    """
    latencies = np.asarray(latencies_ns)
    if latencies.size < 5 * blocks:
        return None
    levels = _levels(latencies, blocks)
    quarter = blocks // 4
    first, last = levels[:quarter], levels[-quarter:]
    ends = float(last.mean() - first.mean())
    earlier, later = _pairs(blocks)
    rises = levels[later] - levels[earlier]
    slope = median(rises / (later - earlier)) * (blocks - 1)
    change = max(slope, ends / (1.0 - quarter / blocks), key=abs) / median(levels)
    error = math.sqrt(float(first.var(ddof=1) + last.var(ddof=1)) / quarter)
    p_step = 2.0 * float(stdtr(2 * quarter - 2, -abs(ends) / error)) if error > 0.0 else float(ends == 0.0)
    p = min(p_step, _p_of_ranks(levels, rises))
    return Drift(change, p, p < alpha and abs(change) > least_change)


@lru_cache(maxsize=8)
def _pairs(count: int) -> tuple[Array, Array]:
    """(the earlier, the later) of all pairs of ``count`` places."""
    return np.triu_indices(count, 1)


def _levels(latencies: Array, blocks: int) -> Array:
    """Of blocks whose lengths differ by one at most, the longer ones first: float64 [blocks]."""
    size, longer = divmod(latencies.size, blocks)
    edge = longer * (size + 1)
    parts = ((latencies[:edge], longer, size + 1), (latencies[edge:], blocks - longer, size))
    return np.concatenate([_middles(part.reshape(count, each)) for part, count, each in parts])


def _middles(blocks: Array) -> Array:
    cut = int(_TRIMMED * blocks.shape[1])
    return np.asarray(np.sort(blocks, axis=1)[:, cut : blocks.shape[1] - cut].mean(axis=1, dtype=np.float64))


def _p_of_ranks(levels: Array, rises: Array) -> float:
    """Kendall's test of [n] levels against their order, of two sides. ``rises``: of all pairs, the later less the earlier.

    Exact, by the number of permutations with so few inversions; where levels are alike by the normal approximation with its
    correction for ties (Kendall, Rank Correlation Methods, 4th edition, 4.2 and 5.8), as ``scipy.stats.kendalltau`` does. Levels
    that are all alike have no rank correlation, and no trend.
    """
    count, falling = levels.size, int(np.count_nonzero(rises < 0))
    if not np.count_nonzero(rises == 0):
        few = _permutations(count)[: min(falling, rises.size - falling) + 1]
        return min(1.0, 2.0 * sum(few) / math.factorial(count))
    _, alike = np.unique(levels, return_counts=True)
    if alike.size == 1:
        return 1.0
    score = int(np.count_nonzero(rises > 0)) - falling
    of_ties = int((alike * (alike - 1) * (2 * alike + 5)).sum())
    variance = (count * (count - 1) * (2 * count + 5) - of_ties) / 18.0
    return math.erfc(abs(score) / math.sqrt(2.0 * variance))


@lru_cache(maxsize=8)
def _permutations(count: int) -> tuple[int, ...]:
    """How many permutations of ``count`` things have 0, 1, 2 ... inversions: the n-th thing adds none to n - 1 of them."""
    known = [1]
    for more in range(1, count):
        known = [sum(known[max(0, at - more) : at + 1]) for at in range(len(known) + more)]
    return tuple(known)
