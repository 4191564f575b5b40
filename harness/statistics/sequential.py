"""An always-valid test of "p95 is under the budget" (methods A3): it may be looked at after every sample.

The gate is stated on exceedances: a sample exceeds when it is over the budget, failed, or was skipped, and
"p95 <= budget" is exactly "at most 5 % exceed". The evidence for either side is a mixture of likelihood ratios, truncated
at the boundary, which is a supermartingale under the other side; by Ville's inequality it ever reaches 1/alpha with
probability alpha at most, however often it is looked at (Howard and Ramdas 2022; Ramdas, Grünwald, Vovk, Shafer 2023).
Evidence of independent sessions adds. Counts are divided by the design effect, which is a heuristic that simulation
verifies (``nox -s truth``), and no theorem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, betaincc, betaln

from harness.records import Outcome
from harness.statistics.quantiles import design_effect, ranked
from runtime.protocol import Array

__all__ = [
    "BOUNDARY",
    "Evidence",
    "evidence",
    "log_evidence",
    "quantile_effect",
    "samples_needed",
    "session_effect",
    "weigh",
]

BOUNDARY = 0.05
"""The share of samples that may exceed: "p95 is under the budget"."""

_A, _B = 2.0, 38.0
"""The mixture's prior, Beta(2, 38): its mean is the boundary; best or near it on both sides in simulation (A3)."""

_QUANTILES = (0.95, 0.90)
"""Where the run's own design effect is looked for beside the budget. At the boundary the budget is p95; the larger effect that
p90 often has is a reserve for runs without a floor, where it halves the false passes and costs a third more time."""


@dataclass(frozen=True)
class Evidence:
    """What a run says about a budget. ``log_pass``, ``log_fail``: natural logarithms of the evidence for each side.

    ``count``, ``exceedances``: as counted. ``effect``: the design effect that they were divided by, never under ``floor``.
    """

    count: int
    exceedances: int
    effect: float
    floor: float | None
    log_pass: float
    log_fail: float

    def outcome(self, *, alpha_pass: float, alpha_fail: float) -> Outcome:
        """PASS or FAIL once the evidence for it reaches 1/alpha, else INCONCLUSIVE."""
        if self.log_pass >= -math.log(alpha_pass):
            return Outcome.PASS
        if self.log_fail >= -math.log(alpha_fail):
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE


def evidence(
    latencies_ns: Array,
    exceeds: Array,
    *,
    floor: float | None = None,
    boundary: float = BOUNDARY,
    ordered: Array | None = None,
) -> Evidence:
    """Of one session.

    ``latencies_ns``: int64 [n], in the order of the schedule, what failed or was skipped as the largest value.
    ``exceeds``: bool [n]. ``floor``: the design effect learned from history for this board, model and rate; without one
    the run's own estimate stands alone, which is smallest exactly when the run was lucky (A4). ``ordered``: the latencies
    sorted, where somebody has them.
    Raises ``ValueError`` for series of unlike length.
    """
    latencies, exceeded = np.asarray(latencies_ns), np.asarray(exceeds, dtype=bool)
    if latencies.shape != exceeded.shape or latencies.ndim != 1:
        raise ValueError(f"latencies are {latencies.shape} and exceedances {exceeded.shape}; expected one row each.")
    effect = session_effect(latencies, exceeded, ordered)
    if floor is None:
        effect = max(effect, quantile_effect(latencies, _QUANTILES[1], ordered))
    return weigh(int(exceeded.size), int(exceeded.sum()), effect, floor=floor, boundary=boundary)


def session_effect(latencies_ns: Array, exceeds: Array, ordered: Array | None = None) -> float:
    """The design effect of a session, of which a floor is the largest of several: of the budget, and of the session's own
    p95, which still tells how calls hang together where few or none exceed. Arrays as in ``evidence``.
    """
    return max(design_effect(exceeds), quantile_effect(latencies_ns, ordered=ordered))


def quantile_effect(latencies_ns: Array, p: float = _QUANTILES[0], ordered: Array | None = None) -> float:
    """The design effect of "is over the run's own ``p`` quantile"; 1 without samples."""
    latencies = np.asarray(latencies_ns)
    return design_effect(latencies > ranked(latencies, p, ordered)) if latencies.size else 1.0


def weigh(
    count: int, exceedances: int, effect: float, *, floor: float | None = None, boundary: float = BOUNDARY
) -> Evidence:
    """The evidence of ``exceedances`` in ``count`` samples whose design effect was found to be ``effect``."""
    effect = max(1.0, floor or 1.0, effect)
    return Evidence(
        count=count,
        exceedances=exceedances,
        effect=effect,
        floor=floor,
        log_pass=log_evidence(count / effect, exceedances / effect, boundary, passes=True),
        log_fail=log_evidence(count / effect, exceedances / effect, boundary, passes=False),
    )


def log_evidence(count: float, hits: float, boundary: float = BOUNDARY, *, passes: bool) -> float:
    """Ln E for "fewer than ``boundary`` exceed" (``passes``) or for "more do", after ``hits`` of ``count`` (real numbers).

    A tail that underflows is no evidence: its logarithm is minus infinity. Clipped to a small number instead, it made the
    evidence explode where 30 % exceed (A3).
    """
    tail = betainc if passes else betaincc
    above, below = _A + hits, _B + count - hits
    mixture = betaln(above, below) + _log(tail(above, below, boundary))
    prior = betaln(_A, _B) + _log(tail(_A, _B, boundary))
    return float(mixture - prior - hits * math.log(boundary) - (count - hits) * math.log1p(-boundary))


def samples_needed(share: float, effect: float, *, alpha: float, boundary: float = BOUNDARY) -> int | None:
    """About how many samples in all decide, if ``share`` of them goes on to exceed; ``None``: none that can be waited for."""
    passes = share < boundary
    wanted = -math.log(alpha)
    low, high = 1.0, 1e7
    if share == boundary or log_evidence(high, share * high, boundary, passes=passes) < wanted:
        return None
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        enough = log_evidence(middle, share * middle, boundary, passes=passes) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return math.ceil(high * effect)


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else -math.inf
