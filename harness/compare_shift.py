"""The percentile shift: by how much each percentile of a row's latency moved, with its interval.

The shift function of Doksum (1974), as Wilcox and Erceg-Hurn draw it (Comparing two groups via quantiles, 2012): p50 and p95
are two points of it, and it shows whether all calls moved, or the slow ones alone. Theirs takes each observation as
independent; here, as everywhere, the boot session is what is replicated (``harness.unpaired``).
"""

from __future__ import annotations

import math

from harness.compare_load import PERCENTS, LaunchSeen, Sessions
from harness.compare_records import Shift
from harness.unpaired import compare_sessions

__all__ = ["shift_of"]

_DIGITS = 6


def shift_of(
    model: str, base: Sessions[LaunchSeen], new: Sessions[LaunchSeen], *, margin: float, alpha: float
) -> Shift:
    """Every measured request counts, in the percentiles of its launch; launches of a session are averaged (logarithms)."""
    points = [_point(at, base, new, margin, alpha) for at in range(len(PERCENTS))]
    base_ns, ratio, low, high = zip(*points, strict=True)
    return Shift(
        model=model,
        percents=PERCENTS,
        base_ns=base_ns,
        ratio=ratio,
        low=low,
        high=high,
        margin=margin,
        base_requests=sum(seen.count for session in base.values for seen in session),
        new_requests=sum(seen.count for session in new.values for seen in session),
        base_sessions=len(base.values),
        new_sessions=len(new.values),
    )


def _point(
    at: int, base: Sessions[LaunchSeen], new: Sessions[LaunchSeen], margin: float, alpha: float
) -> tuple[float | None, float | None, float | None, float | None]:
    """(the base's percentile, new over old, its bounds); the bounds of a single base session would say too much."""
    old, now = ([[seen.percentiles_ns[at] for seen in session] for session in side.values] for side in (base, new))
    of_base = [value for session in old for value in session]
    known = [0 < value < math.inf for session in (*old, *now) for value in session]
    mean = math.exp(math.fsum(map(math.log, of_base)) / len(of_base)) if all(known[: len(of_base)]) else None
    if not all(known):
        return _rounded(mean), None, None, None
    apart = compare_sessions(
        old, now, margin=margin, alpha=alpha, base_builds=base.builds, new_builds=new.builds, figure=f"p{PERCENTS[at]}"
    )
    if apart.base_sessions < 2:
        return _rounded(mean), _rounded(apart.ratio), None, None
    return _rounded(mean), _rounded(apart.ratio), _rounded(apart.low), _rounded(apart.high)


def _rounded(value: float | None) -> float | None:
    """For a plot; a bound that is zero or infinite is none."""
    return float(f"{value:.{_DIGITS}g}") if value is not None and 0 < value < math.inf else None
