"""When a latency row may stop, and what it then says of its budget (methods A5).

A rule is fed with samples and measures nothing: the same object decides in a run, in a simulation, and over a stored run
that is judged again under another budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.records import Outcome
from harness.sequential import BOUNDARY, Evidence, evidence, samples_needed
from harness.statistics import quantile_ranks
from harness.steadiness import Drift, drift
from runtime.protocol import Array

__all__ = ["BudgetRule", "Ruling"]


@dataclass(frozen=True)
class Ruling:
    """``bound_ns``: over the true p95 with confidence 1 - alpha, by order statistics; ``None`` with too few samples.

    ``needed``: about how many more samples would decide; ``None`` where it is decided or cannot be.
    """

    outcome: Outcome
    reason: str
    evidence: Evidence
    drift: Drift | None
    bound_ns: int | None
    needed: int | None = None


@dataclass(frozen=True)
class BudgetRule:
    """At most 5 % of the requests take longer than ``budget_ns``: each way with error ``alpha``.

    ``rate_hz``: how many requests come in a second. ``least``, ``most``: how many samples there are before the first look
    and after the last. ``floor``: the design effect from history. ``needs_floor``: without one nothing passes (sign-off).
    """

    budget_ns: int
    rate_hz: float
    alpha: float = 0.05
    least: int = 300
    most: int = 46_800
    floor: float | None = None
    needs_floor: bool = False
    growth: float = 1.35

    def __post_init__(self) -> None:
        if self.budget_ns <= 0 or not self.rate_hz > 0 or not 0 < self.alpha < 0.5 or not 0 < self.least <= self.most:
            raise ValueError(
                f"budget {self.budget_ns} ns, {self.rate_hz} Hz, alpha {self.alpha}, {self.least} to {self.most} samples; "
                "expected a budget and a rate above 0, alpha under 0.5, and 0 < least <= most."
            )

    @classmethod
    def of_profile(cls, budget_ns: int, rate_hz: float, *, is_signoff: bool, floor: float | None = None) -> BudgetRule:
        """The defaults of methods A5: 2 to 20 minutes at alpha 0.05 for a change, 10 to 60 at 0.01 for a sign-off."""
        if is_signoff:
            least, most = max(600, math.ceil(600 * rate_hz)), math.ceil(3600 * rate_hz)
            return cls(budget_ns, rate_hz, 0.01, least, max(least, most), floor, needs_floor=True)
        least, most = max(300, math.ceil(120 * rate_hz)), math.ceil(1200 * rate_hz)
        return cls(budget_ns, rate_hz, 0.05, least, max(least, most), floor)

    def looks(self) -> Iterator[int]:
        """After how many samples it is looked: ``least``, each time 1.35 times as many, ``most``."""
        count = self.least
        while count < self.most:
            yield count
            count = math.ceil(count * self.growth)
        yield self.most

    def judge(self, latencies_ns: Array, missed: Array) -> Ruling:
        """What the samples so far say. ``latencies_ns``: int64 [n], in the order of the schedule. ``missed``: bool [n], the
        requests that failed or were skipped: they exceed whatever they took.
        """
        latencies, lost = np.asarray(latencies_ns, np.int64), np.asarray(missed, bool)
        ranked = np.where(lost, np.iinfo(np.int64).max, latencies)
        seen = evidence(ranked, ranked > self.budget_ns, floor=self.floor)
        moved = drift(latencies[~lost])
        outcome = seen.outcome(alpha_pass=self.alpha, alpha_fail=self.alpha)
        share = f"{seen.exceedances} of {seen.count} over the budget"
        needed = None
        if moved is not None and moved.is_flagged:
            outcome, reason = (
                Outcome.INCONCLUSIVE,
                f"not stationary: p50 moved by {100 * moved.change:+.1f} % in the window",
            )
        elif outcome is Outcome.PASS and self.needs_floor and self.floor is None:
            outcome = Outcome.INCONCLUSIVE
            reason = f"{share}; that would pass, but no history of this board gives a floor of the design effect"
        elif outcome is not Outcome.INCONCLUSIVE:
            reason = share
        else:
            needed = self._needed(seen)
            reason = f"{share}: " + (
                f"about {needed} more samples would decide, {needed / self.rate_hz:.0f} s at {self.rate_hz:g} Hz"
                if needed
                else "too near to 5 % for any number of samples"
            )
        return Ruling(outcome, reason, seen, moved, self._bound(ranked, seen.effect), needed)

    def blind_spot(self, count: int) -> str:
        """What a run of ``count`` samples cannot see, in words: ten clusters are wanted to say anything about their kind."""
        return f"clusters of slow calls rarer than about one in {count / self.rate_hz / 10:.0f} s are not bounded"

    def _needed(self, seen: Evidence) -> int | None:
        total = samples_needed(seen.exceedances / max(1, seen.count), seen.effect, alpha=self.alpha)
        return None if total is None else max(1, total - seen.count)

    def _bound(self, ranked: Array, effect: float) -> int | None:
        _, high = quantile_ranks(ranked.size, 1.0 - BOUNDARY, confidence=1.0 - 2.0 * self.alpha, effect=effect)
        if high is None:
            return None
        value = int(np.partition(ranked, high - 1)[high - 1])
        return None if value == np.iinfo(np.int64).max else value
