"""Where a figure that many runs measured stepped: one change of level after another, each with its factor.

PELT (Killick, Fearnhead and Eckley, JASA 107, 2012) on the logarithm of the figure, as ``ruptures`` does it in C. What is a
step is decided by three numbers, chosen by simulation (docs/adr/0017-history.md):

* the noise is the largest of the robust spreads of differences between runs one, two and three apart, so that runs of one
  week that resemble each other do not make their week a step;
* a run may stand out alone: it is pulled to two spreads of the median of its five neighbours before anything is sought;
* a step costs ``PENALTY`` times log(n) spreads squared. Schwarz's criterion is 2 of these; the rest pays for a spread that is
  itself estimated, and for tails. Then it must change the median by ``LEAST`` at least: what is less is no news.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from runtime.protocol import Array

__all__ = ["FEWEST", "LEAST", "METHOD", "PENALTY", "SHORTEST", "WINDOW", "Step", "find_steps"]

METHOD = 1
"""Changed whenever other steps may be found in the same series: those that were found are kept in the index."""

FEWEST = 8
"""Runs, under which nothing is sought."""

SHORTEST = 3
"""Runs on either side of a step: of two at the end, one may be a slow day. `trigate compare` judges these."""

WINDOW = 1000
"""Runs that are searched together: PELT takes time by the square of them. Of more, each such window decides about its middle."""

PENALTY = 5.0
LEAST = 0.02
_QUIETEST = LEAST / 10


@dataclass(frozen=True)
class Step:
    """From ``at`` on (an index into the series) the figure has another level. ``factor``: new median over old; ``None`` where a
    median is not above 0.
    """

    at: int
    before: float
    after: float
    factor: float | None


def find_steps(values: Sequence[float] | Array) -> tuple[Step, ...]:
    """The steps of a series in the order of its runs; none where there are fewer than ``FEWEST``. Raises ``ValueError`` for a
    value that is not finite.
    """
    series = np.asarray(values, np.float64)
    if not np.isfinite(series).all():
        raise ValueError("a series with a value that is not finite; leave out what was not measured.")
    if series.size < FEWEST:
        return ()
    levels, least = _levels(series)
    ends = _placed(levels, _all_ends(levels))
    while ends:  # the smallest goes first, and its neighbours are looked at again
        sizes = [abs(after - before) for before, after in _medians(levels, ends)]
        smallest = int(np.argmin(sizes))
        if sizes[smallest] >= least:
            break
        ends.pop(smallest)
    return tuple(
        Step(at, before, after, after / before if before > 0 and after > 0 else None)
        for at, (before, after) in zip(ends, _medians(series, ends), strict=True)
    )


def _levels(series: Array) -> tuple[Array, float]:
    """The series on the scale on which it is searched, and how large a step must be there."""
    if (series > 0).all():
        return np.log(series), math.log1p(LEAST)
    scale = float(np.median(np.abs(series))) or float(np.abs(series).max()) or 1.0
    return series / scale, LEAST


def _all_ends(levels: Array) -> list[int]:
    """Where segments after the first begin."""
    half, count = WINDOW // 2, levels.size
    if count <= WINDOW:
        return _segment(levels)
    found: list[int] = []
    for begin in range(0, count - half, half):
        first = 0 if begin == 0 else begin + half // 2
        last = count if begin + WINDOW >= count else begin + half + half // 2
        found += [begin + at for at in _segment(levels[begin : begin + WINDOW]) if first <= begin + at < last]
    return [at for at, before in zip(found, [-SHORTEST, *found], strict=False) if at - before >= SHORTEST]


def _placed(levels: Array, ends: Sequence[int]) -> list[int]:
    """Each step at the place near it that splits best, by the distances from the medians; none that leaves fewer than
    ``SHORTEST`` runs on a side, which is where the shortest segment allowed had to reach over a step to hold two runs.
    """
    placed: list[int] = []
    for at, end in enumerate(ends):
        first, last = placed[-1] if placed else 0, ends[at + 1] if at + 1 < len(ends) else levels.size
        near = range(max(first + 1, end - SHORTEST + 1), min(last, end + SHORTEST))
        best = min(near, key=lambda place: _distance(levels[first:place]) + _distance(levels[place:last]))
        if min(best - first, last - best) >= SHORTEST:
            placed.append(best)
    return placed


def _distance(part: Array) -> float:
    return float(np.abs(part - np.median(part)).sum())


def _segment(levels: Array) -> list[int]:
    """Of one window."""
    from ruptures import KernelCPD

    spread = max(_spread(levels), _QUIETEST)
    calm = _calmed(levels, spread) / spread
    search = KernelCPD(kernel="linear", min_size=SHORTEST).fit(calm.reshape(-1, 1))
    return [int(end) for end in search.predict(pen=PENALTY * math.log(levels.size))[:-1]]


def _spread(levels: Array) -> float:
    """The standard deviation of what lies between runs, by the medians of their differences."""
    count = levels.size
    lags = 1 if count < 10 else 2 if count < 20 else 3  # of a few runs, most that are far apart straddle a step
    spreads = [
        1.4826 * float(np.median(np.abs(levels[lag:] - levels[:-lag]))) / math.sqrt(2) for lag in range(1, lags + 1)
    ]
    return max(spreads) * (1.0 + 2.0 / count)


def _calmed(levels: Array, spread: float) -> Array:
    around = np.lib.stride_tricks.sliding_window_view(np.pad(levels, 2, mode="reflect"), 5)
    middle = np.median(around, axis=1)
    return np.asarray(middle + np.clip(levels - middle, -2.0 * spread, 2.0 * spread), np.float64)


def _medians(series: Array, ends: Sequence[int]) -> list[tuple[float, float]]:
    """Of the segments before and after each step."""
    medians = [float(np.median(part)) for part in np.split(series, list(ends))]
    return list(pairwise(medians))
