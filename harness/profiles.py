"""How long a latency row measures, how often it is launched, and how sure its verdict must be (methods A5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.statistics.steadiness import SoakRule

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True)
class Profile:
    """``alpha``: the error of a verdict, each way. ``launches``: fresh processes; 1: one, which speaks for itself alone.

    ``least_s``, ``most_s``: measuring time before the first look and after the last; ``least_calls`` as well, and
    ``most_calls`` where no rate says how many there can be.
    ``soak``: before measuring; ``None``: a warm-up alone. ``warmup_calls``: never judged. ``needs_floor``: nothing passes
    without a design effect from history. ``precision``: where no budget applies, enough once the interval of p95 is no
    wider than this share of it. ``sustained_s``: of the row about heat. ``load_rounds``: fresh processes of the row about
    loading: 59 without one over show that p95 is under a limit. ``decides``: whether a verdict is more than indicative.
    """

    name: str
    alpha: float
    launches: int
    least_s: float
    most_s: float
    least_calls: int
    most_calls: int
    soak: SoakRule | None
    warmup_calls: int
    needs_floor: bool
    precision: float
    sustained_s: float
    load_rounds: int
    decides: bool
    telemetry_hz: float = 10.0

    def least(self, rate_hz: float) -> int:
        """How many samples there are before the first look."""
        return max(self.least_calls, math.ceil(self.least_s * rate_hz))

    def most(self, rate_hz: float) -> int:
        """How many there are after the last."""
        return max(self.least(rate_hz), math.ceil(self.most_s * rate_hz))


PROFILES: Mapping[str, Profile] = {
    "quick": Profile(
        "quick", alpha=0.05, launches=1, least_s=0.0, most_s=45.0, least_calls=120, most_calls=5_000, soak=None, warmup_calls=10,
        needs_floor=False, precision=0.1, sustained_s=30.0, load_rounds=3, decides=False,
    ),
    "pr": Profile(
        "pr", alpha=0.05, launches=1, least_s=120.0, most_s=1200.0, least_calls=300, most_calls=200_000, soak=SoakRule(),
        warmup_calls=50, needs_floor=False, precision=0.05, sustained_s=600.0, load_rounds=5, decides=True,
    ),
    "signoff": Profile(
        "signoff", alpha=0.01, launches=5, least_s=600.0, most_s=3600.0, least_calls=600, most_calls=1_000_000, soak=SoakRule(),
        warmup_calls=50, needs_floor=True, precision=0.02, sustained_s=1800.0, load_rounds=60, decides=True,
    ),
    "floor": Profile(
        "floor", alpha=0.01, launches=6, least_s=3600.0, most_s=3600.0, least_calls=600, most_calls=1_000_000, soak=SoakRule(),
        warmup_calls=50, needs_floor=False, precision=0.0, sustained_s=0.0, load_rounds=0, decides=False,
    ),
}  # fmt: skip
"""``quick``: at most a minute a row, indicative. ``pr``: a change. ``signoff``: a release. ``floor``: learns how strongly
calls hang together on this board, overnight: six sessions of an hour in the flight mix."""
