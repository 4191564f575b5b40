"""Old against new by interleaved pairs of fresh launches (methods A6).

The launch is what is replicated, and not the frame: pooled frames gave 41 to 96 % false alarms where nothing had changed.
Each pair gives the logarithm of the ratio of one figure (p95, p50, energy); Student's t on these decides, at a few fixed
looks, whether the change is inside the margin (two one-sided tests) or a regression (Kalibera and Jones 2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import stdtr, stdtrit

from harness.records import Outcome
from runtime.protocol import Array

__all__ = [
    "LOOKS",
    "MARGINS",
    "Change",
    "block_family",
    "compare_pairs",
    "decide",
    "hodges_lehmann",
    "holm",
    "p_slower",
]

LOOKS = (6, 10, 16, 24)
"""After how many pairs it is looked; after the last there is none."""

MARGINS = {"p95": 0.05, "p50": 0.03, "memory": 0.02, "energy": 0.05}
"""What counts as no change, as a share."""

_SPENT = 4.0
"""Alpha is divided by this at each look; simulated with ``LOOKS`` it keeps 5 % at the margin, and 0.1 % where nothing changed."""


@dataclass(frozen=True)
class Change:
    """``ratio``: new over old, with its interval; ``robust``: the same by Hodges and Lehmann, for display.

    ``outcome``: PASS (within the margin), FAIL (a regression), INCONCLUSIVE (more pairs, or no decision after the last).
    """

    pairs: int
    ratio: float
    low: float
    high: float
    robust: float
    outcome: Outcome
    reason: str
    p_regression: float
    """Of "not slower", one-sided, with what looking several times costs: for ``block_family``, where many rows may block."""


def compare_pairs(
    log_ratios: Sequence[float] | Array,
    *,
    margin: float = MARGINS["p95"],
    alpha: float = 0.05,
    both_sides: bool = False,
) -> Change:
    """``log_ratios``: ln(new) - ln(old) of each pair, in order. ``both_sides``: faster by more than the margin is a change
    too (a version bump asks for equivalence). Call it after ``LOOKS`` pairs. Raises ``ValueError`` for under three pairs.
    """
    differences = np.asarray(log_ratios, np.float64)
    pairs = differences.size
    if pairs < 3 or not np.isfinite(differences).all():
        raise ValueError(f"{pairs} pairs, {np.isfinite(differences).sum()} of them finite; expected three or more.")
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(pairs)
    reach = _t(1.0 - alpha / _SPENT, pairs - 1) * error
    low, high = mean - reach, mean + reach
    limit = math.log1p(margin)
    outcome, reason = decide(mean, low, high, limit, is_last=pairs >= LOOKS[-1], both_sides=both_sides)
    shown = math.exp(mean), math.exp(low), math.exp(high)
    words = f"{100 * (shown[0] - 1):+.1f} % [{100 * (shown[1] - 1):+.1f}, {100 * (shown[2] - 1):+.1f}], {pairs} pairs"
    return Change(
        pairs=pairs,
        ratio=shown[0],
        low=shown[1],
        high=shown[2],
        robust=math.exp(hodges_lehmann(differences)),
        outcome=outcome,
        reason=f"{reason.replace('the margin', f'the margin of {100 * margin:g} %', 1)}: {words}",
        p_regression=min(1.0, _SPENT * p_slower(mean, error, pairs - 1)),
    )


def p_slower(mean: float, error: float, freedom: float) -> float:
    """Of "the mean is 0 or under it", by Student's t; without any spread the sign decides."""
    if error == 0.0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(freedom, -mean / error))


@lru_cache
def _t(confidence: float, freedom: int) -> float:
    return float(stdtrit(freedom, confidence))


def decide(
    mean: float, low: float, high: float, limit: float, *, is_last: bool, both_sides: bool
) -> tuple[Outcome, str]:
    """The verdict on a change with its interval, all as logarithms, and the words for it. ``limit``: the margin, above 0."""
    if high <= limit and (not both_sides or low >= -limit):
        return Outcome.PASS, "slower, within the margin" if low > 0 else "within the margin"
    if low > 0 and (mean >= limit or is_last):
        return (
            Outcome.FAIL,
            "slower, beyond the margin" if mean >= limit else "slower, not shown to be within the margin",
        )
    if both_sides and high < 0 and (mean <= -limit or is_last):
        return (
            Outcome.FAIL,
            "faster, beyond the margin" if mean <= -limit else "faster, not shown to be within the margin",
        )
    return Outcome.INCONCLUSIVE, "the pairs do not decide on the margin" + (
        ", and there are no more" if is_last else ""
    )


def hodges_lehmann(values: Array) -> float:
    """The median of all pairwise means: robust where one launch is off."""
    first, second = np.triu_indices(len(values))
    return float(np.median((values[first] + values[second]) / 2.0))


def holm(p_values: Sequence[float], *, alpha: float = 0.05) -> list[bool]:
    """Which of several hypotheses are rejected with a family-wise error of at most ``alpha`` (Holm 1979)."""
    rejected = [False] * len(p_values)
    for done, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[at] > alpha / (len(p_values) - done):
            break
        rejected[at] = True
    return rejected


def block_family(changes: Sequence[Change], *, alpha: float = 0.05) -> list[Change]:
    """Of many rows that may each block a release: those whose regression does not hold against the number of rows (Holm)
    are INCONCLUSIVE, so that with nothing changed the chance of any false block is at most ``alpha``.

    Only FAIL is touched: signing off asks that every row passes, which needs no correction (methods A7).
    """
    held = holm([change.p_regression for change in changes], alpha=alpha)
    return [
        replace(
            change,
            outcome=Outcome.INCONCLUSIVE,
            reason=f"{change.reason}; alone it would be a regression (p {change.p_regression:.2g}), among "
            f"{len(changes)} rows it may be chance",
        )
        if change.outcome is Outcome.FAIL and change.ratio > 1.0 and not stands
        else change
        for change, stands in zip(changes, held, strict=True)
    ]
