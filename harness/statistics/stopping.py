"""When a latency row may stop, and what it then says of its budget (methods A5).

A rule is fed with samples and measures nothing: the same object decides in a run, in a simulation, and over a stored run
that is judged again under another budget. Rules count samples; in a closed loop, whose rate nobody knows beforehand, the
seconds of the profile (``least_s``, ``most_s``) are kept by who measures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from harness.profiles import PROFILES, Profile
from harness.records import Outcome
from harness.statistics.quantiles import design_effect, quantile_ranks
from harness.statistics.sequential import BOUNDARY, Evidence, evidence, log_evidence, samples_needed
from harness.statistics.steadiness import Drift, drift
from runtime.protocol import Array

__all__ = ["MOST_ROWS", "NO_FLOOR", "BudgetRule", "PrecisionRule", "Ruling", "StopRule", "TimeRule", "rule_of"]

MOST_ROWS = 5_000_000
"""Of one launch in a closed loop, whatever its seconds: they are kept in memory, 96 bytes each."""

NO_FLOOR = "no history of this board gives a floor of the design effect"
"""In the reason of what would pass but for that."""

_GROWTH = 1.35


class StopRule(Protocol):
    """``latencies_ns``: int64 [n], in the order of the schedule. ``missed``: bool [n], what failed or was skipped."""

    def looks(self) -> Iterator[int]:
        """After how many samples it is looked, rising; after the last of them the launch is over."""
        ...

    def is_enough(self, latencies_ns: Array, missed: Array) -> bool:
        """Whether the launch may end here; asked at the looks alone."""
        ...

    def open_words(self, latencies_ns: Array, missed: Array) -> str:
        """How far it is, for a progress line: costs a count, and no statistics."""
        ...


def rule_of(profile: Profile, rate_hz: float, budget_ns: int | None, floor: float | None = None) -> StopRule:
    """The rule of one launch: of its budget; without one, of the interval of p95; all of the time where none is asked.

    ``rate_hz`` 0: closed loop; it looks by count, up to ``profile.most_calls`` samples; where all of the time is wanted, the
    seconds alone end it, and ``MOST_ROWS``. ``floor``: the design effect from history. Raises ``ValueError`` for a budget that
    is not above 0, or a negative rate.
    """
    least = profile.least(rate_hz)
    most = profile.most(rate_hz) if rate_hz else max(least, profile.most_calls)
    if rate_hz < 0 or (budget_ns is not None and budget_ns <= 0):
        raise ValueError(f"budget {budget_ns} ns at {rate_hz} Hz; expected a budget above 0, and no negative rate.")
    if profile.precision == 0.0:
        return TimeRule(most if rate_hz else max(least, MOST_ROWS))
    if budget_ns is None:
        return PrecisionRule(profile.precision, least, most, floor)
    return BudgetRule(budget_ns, rate_hz, profile.alpha, least, most, floor, profile.needs_floor)


@dataclass(frozen=True)
class TimeRule:
    """``most`` samples, whatever they say: a session that teaches a floor is as long as it is."""

    most: int

    def looks(self) -> Iterator[int]:
        """Once, at the end."""
        yield self.most

    def is_enough(self, latencies_ns: Array, missed: Array) -> bool:
        """With the last sample."""
        del missed
        return int(np.size(latencies_ns)) >= self.most

    def open_words(self, latencies_ns: Array, missed: Array) -> str:
        """The count."""
        del missed
        return f"{np.size(latencies_ns)} of {self.most} samples"


@dataclass(frozen=True)
class PrecisionRule:
    """Enough once the 95 % interval of p95 is no wider than ``precision`` of it; distribution-free, design effect included.

    It decides nothing, and so needs no correction for looking often.
    """

    precision: float
    least: int
    most: int
    floor: float | None = None

    def __post_init__(self) -> None:
        if not self.precision > 0 or not 0 < self.least <= self.most:
            raise ValueError(
                f"precision {self.precision}, {self.least} to {self.most} samples; "
                "expected a precision above 0, and 0 < least <= most."
            )

    def looks(self) -> Iterator[int]:
        """``least``, each time 1.35 times as many, ``most``."""
        return _looks(self.least, self.most, _GROWTH)

    def is_enough(self, latencies_ns: Array, missed: Array) -> bool:
        """Whether both bounds exist, are of calls that came back, and are near enough."""
        width = self.width(latencies_ns, missed)
        return width is not None and width <= self.precision

    def width(self, latencies_ns: Array, missed: Array) -> float | None:
        """Of the interval of p95, as a share of p95; ``None`` with too few samples, or too many that never came back."""
        ranked = _ranked(latencies_ns, missed)
        if ranked.size == 0:
            return None
        ordered = np.sort(ranked)
        value = ordered[math.ceil(0.95 * ranked.size * (1.0 - 1e-12)) - 1]
        effect = max(self.floor or 1.0, design_effect(ranked >= value))
        low, high = quantile_ranks(ranked.size, 0.95, effect=effect)
        if low is None or high is None or ordered[high - 1] == _NEVER or value <= 0:
            return None
        return float(ordered[high - 1] - ordered[low - 1]) / float(value)

    def open_words(self, latencies_ns: Array, missed: Array) -> str:
        """The count, and when it is looked again."""
        del missed
        return f"{np.size(latencies_ns)} samples; p95 is looked at after {_next_look(self, np.size(latencies_ns))}"


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

    ``rate_hz``: how many requests come in a second; 0 where it is not known. ``least``, ``most``: how many samples there
    are before the first look and after the last. ``floor``: the design effect from history. ``needs_floor``: without one
    nothing passes (sign-off).
    """

    budget_ns: int
    rate_hz: float
    alpha: float = 0.05
    least: int = 300
    most: int = 46_800
    floor: float | None = None
    needs_floor: bool = False
    growth: float = _GROWTH

    def __post_init__(self) -> None:
        if self.budget_ns <= 0 or not self.rate_hz >= 0 or not 0 < self.alpha < 0.5 or not 0 < self.least <= self.most:
            raise ValueError(
                f"budget {self.budget_ns} ns, {self.rate_hz} Hz, alpha {self.alpha}, {self.least} to {self.most} samples; "
                "expected a budget above 0, no negative rate, alpha under 0.5, and 0 < least <= most."
            )

    @classmethod
    def of_profile(cls, budget_ns: int, rate_hz: float, *, is_signoff: bool, floor: float | None = None) -> BudgetRule:
        """By the profile ``signoff`` or ``pr``: 10 to 60 minutes at alpha 0.01, or 2 to 20 at 0.05. ``rate_hz`` above 0."""
        profile = PROFILES["signoff" if is_signoff else "pr"]
        least, most = profile.least(rate_hz), profile.most(rate_hz)
        return cls(budget_ns, rate_hz, profile.alpha, least, most, floor, profile.needs_floor)

    def looks(self) -> Iterator[int]:
        """After how many samples it is looked: ``least``, each time 1.35 times as many, ``most``."""
        return _looks(self.least, self.most, self.growth)

    def is_enough(self, latencies_ns: Array, missed: Array) -> bool:
        """Whether the evidence decides. A window that drifts, or a floor that is missing, goes on to ``most``."""
        return self.judge(latencies_ns, missed).outcome is not Outcome.INCONCLUSIVE

    def open_words(self, latencies_ns: Array, missed: Array) -> str:
        """How many are over the budget, and when it is looked again."""
        count = int(np.size(latencies_ns))
        over = int(np.count_nonzero((np.asarray(latencies_ns) > self.budget_ns) | np.asarray(missed, bool)))
        return f"{over} of {count} over {self.budget_ns / 1e6:g} ms; looked at after {_next_look(self, count)}"

    def judge(self, latencies_ns: Array, missed: Array, ordered_ns: Array | None = None) -> Ruling:
        """What the samples so far say. ``latencies_ns``: int64 [n], in the order of the schedule. ``missed``: bool [n], the
        requests that failed or were skipped: they exceed whatever they took. ``ordered_ns``: of the others, sorted, where
        somebody has them.

        A window that drifts passes nothing. It fails where its second half does by itself (a board that throttled), if
        the counts of all of it do too; one that was slow at first and settled is open.
        """
        latencies, lost = np.asarray(latencies_ns, np.int64), np.asarray(missed, bool)
        ranked = _ranked(latencies, lost)
        ordered = np.sort(ranked) if ordered_ns is None else _padded(ordered_ns, ranked.size)
        seen = evidence(ranked, ranked > self.budget_ns, floor=self.floor, ordered=ordered)
        moved = drift(latencies[~lost] if lost.any() else latencies)
        outcome = seen.outcome(alpha_pass=self.alpha, alpha_fail=self.alpha)
        share = f"{seen.exceedances} of {seen.count} over the budget"
        needed = None
        if moved is not None and moved.is_flagged:
            words = f"p50 moved by {100 * moved.change:+.1f} % in the window"
            if self._ends_over(ranked):
                outcome, reason = Outcome.FAIL, f"{share}, and in the second half alone; {words}"
            else:
                outcome, reason = Outcome.INCONCLUSIVE, f"not stationary: {words}"
        elif outcome is Outcome.PASS and self.needs_floor and self.floor is None:
            outcome = Outcome.INCONCLUSIVE
            reason = f"{share}; that would pass, but {NO_FLOOR}: `trigate run --profile floor` learns it"
        elif outcome is not Outcome.INCONCLUSIVE:
            reason = share
        else:
            needed = self._needed(seen)
            reason = f"{share}: {self.wanted_words(needed)}"
        return Ruling(outcome, reason, seen, moved, self._bound(ordered, seen.effect), needed)

    def wanted_words(self, needed: int | None) -> str:
        """``needed`` more samples in words, with the time where the rate is known."""
        if needed is None:
            return "too near to 5 % for any number of samples"
        time = f", {needed / self.rate_hz:.0f} s at {self.rate_hz:g} Hz" if self.rate_hz else ""
        return f"about {needed} more samples would decide{time}"

    def blind_spot(self, count: int) -> str:
        """What a run of ``count`` samples cannot see, in words: ten clusters are wanted to say anything about their kind."""
        rare = f"{count / self.rate_hz / 10:.3g} s" if self.rate_hz else f"{count // 10} calls"
        return f"clusters of slow calls rarer than about one in {rare} are not bounded"

    def _ends_over(self, ranked: Array) -> bool:
        # a step is one long cluster to the design effect of the whole window: the half after it says what is within a state
        later = ranked[ranked.size // 2 :]
        seen, over = evidence(later, later > self.budget_ns, floor=self.floor), int((ranked > self.budget_ns).sum())
        whole = log_evidence(ranked.size / seen.effect, over / seen.effect, passes=False)
        return min(seen.log_fail, whole) >= -math.log(self.alpha)

    def _needed(self, seen: Evidence) -> int | None:
        total = samples_needed(seen.exceedances / max(1, seen.count), seen.effect, alpha=self.alpha)
        return None if total is None else max(1, total - seen.count)

    def _bound(self, ordered: Array, effect: float) -> int | None:
        _, high = quantile_ranks(ordered.size, 1.0 - BOUNDARY, confidence=1.0 - 2.0 * self.alpha, effect=effect)
        value = _NEVER if high is None else int(ordered[high - 1])
        return None if value == _NEVER else value


_NEVER = int(np.iinfo(np.int64).max)


def _ranked(latencies_ns: Array, missed: Array) -> Array:
    """What never came back is slower than all else."""
    return np.where(np.asarray(missed, bool), _NEVER, np.asarray(latencies_ns, np.int64))


def _padded(ordered: Array, count: int) -> Array:
    """With what never came back behind it, of ``count`` in all."""
    lost = count - ordered.size
    return np.append(ordered, np.full(lost, _NEVER)) if lost else ordered


def _looks(least: int, most: int, growth: float) -> Iterator[int]:
    count = least
    while count < most:
        yield count
        count = math.ceil(count * growth)
    yield most


def _next_look(rule: StopRule, count: int) -> int:
    look = 0
    for look in rule.looks():
        if look > count:
            break
    return look
