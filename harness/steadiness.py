"""Is a board warm enough to measure, and did it stay the same while it was measured? (methods A4)

Temperature first, statistics second: on an edge GPU the slow variable can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau, theilslopes

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
    """``change``: of the median over the whole window, as a share of it. ``p``: of Kendall's test for a trend.

    ``is_flagged``: significant and over 1 %, so that the window says nothing of one steady state.
    """

    change: float
    p: float
    is_flagged: bool


def drift(latencies_ns: Array, *, blocks: int = 20, alpha: float = 0.01, least_change: float = 0.01) -> Drift | None:
    """The trend of block medians, int64 [n] in order of time; ``None`` with under five samples a block.

    Kendall's test says whether there is one, Theil and Sen's slope how large it is: in simulation at most 3 % false flags
    at an autocorrelation of 0.98, and 94 % power for a drift of 3 % in ten minutes at 0.9.
    """
    latencies = np.asarray(latencies_ns, np.float64)
    if latencies.size < 5 * blocks:
        return None
    medians = np.array([np.median(block) for block in np.array_split(latencies, blocks)])
    at = np.arange(blocks)
    p = float(kendalltau(at, medians).pvalue)
    slope = float(theilslopes(medians, at).slope)
    middle = float(np.median(medians))
    change = slope * (blocks - 1) / middle if middle else 0.0  # calls that take no time, in virtual time
    # medians that are all alike have no rank correlation: p is NaN, and there is no trend
    return Drift(change, 1.0 if np.isnan(p) else p, bool(p < alpha and abs(change) > least_change))
