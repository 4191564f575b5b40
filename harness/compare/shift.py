"""The percentile shift: by how much each percentile of a row's latency moved, with its interval.

The shift function of Doksum (1974), as Wilcox and Erceg-Hurn draw it (Comparing two groups via quantiles, 2012): p50 and p95
are two points of it, and it shows whether all calls moved, or the slow ones alone. Theirs takes each observation as
independent; here, as everywhere, the boot session is what is replicated (``harness.statistics.unpaired``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from harness.compare.load import PERCENTS, LaunchSeen, Sessions
from harness.records.comparison import Shift
from harness.statistics.unpaired import compare_sessions
from runtime.protocol import Array

__all__ = ["shift_of"]

_DIGITS = 6


def shift_of(
    model: str, base: Sessions[LaunchSeen], new: Sessions[LaunchSeen], *, margin: float, alpha: float
) -> Shift:
    """Every measured request counts, in the percentiles of its launch; launches of a session are averaged (logarithms)."""
    old, now = (_logarithms(side) for side in (base, new))
    of_base = np.array([launch for session in old for launch in session]).mean(axis=0)
    has_builds = any(len(set(session)) > 1 for side in (base, new) for session in side.builds)
    if has_builds or _reuses(base) or _reuses(new):
        change, reach = _with_builds(base, new, alpha)
    else:
        change, reach = _by_session(old, now, alpha)
    return Shift(
        model=model,
        percents=PERCENTS,
        base_ns=_rounded(of_base),
        ratio=_rounded(change),
        low=_rounded(change - reach),
        high=_rounded(change + reach),
        margin=margin,
        base_requests=sum(seen.count for session in base.values for seen in session),
        new_requests=sum(seen.count for session in new.values for seen in session),
        base_sessions=len(base.values),
        new_sessions=len(new.values),
    )


def _logarithms(side: Sessions[LaunchSeen]) -> list[Array]:
    """By session float64 [launches, percentiles]; what failed is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log(np.array([seen.percentiles_ns for seen in session])) for session in side.values]
    return [np.where(np.isfinite(one), one, np.nan) for one in logs]


def _reuses(side: Sessions[LaunchSeen]) -> bool:
    known = [build for session in side.builds for build in set(session) if build]
    return len(known) > len(set(known))


def _by_session(old: Sequence[Array], now: Sequence[Array], alpha: float) -> tuple[Array, Array]:
    """(logarithm of new over base, half its interval) at each percentile: as ``statistics.unpaired`` at p50 and p95, all at once.

    The interval of a single base session would say too much: it is not known.
    """
    base, new = (np.array([session.mean(axis=0) for session in side]) for side in (old, now))
    change = new.mean(axis=0) - base.mean(axis=0)
    if len(base) < 2:
        return change, np.full_like(change, np.nan)
    share = base.var(axis=0, ddof=1) / len(base)
    if len(new) < 2:
        return change, stdtrit(len(base) - 1, 1 - alpha) * np.sqrt(share * (1 + len(base)))
    other = new.var(axis=0, ddof=1) / len(new)
    total = share + other
    with np.errstate(invalid="ignore"):
        freedom = total**2 / (share**2 / (len(base) - 1) + other**2 / (len(new) - 1))
    freedom = np.where(total == 0.0, len(base) + len(new) - 2, freedom)
    return change, stdtrit(freedom, 1 - alpha) * np.sqrt(total)


def _with_builds(base: Sessions[LaunchSeen], new: Sessions[LaunchSeen], alpha: float) -> tuple[Array, Array]:
    """As ``_by_session`` where engines were built several times, or ran in several sessions."""
    points = []
    for at in range(len(PERCENTS)):
        old, now = ([[seen.percentiles_ns[at] for seen in session] for session in side.values] for side in (base, new))
        if not all(0 < value < np.inf for session in (*old, *now) for value in session):
            points.append((np.nan, np.nan))
            continue
        apart = compare_sessions(old, now, alpha=alpha, base_builds=base.builds, new_builds=new.builds)
        is_known = apart.base_sessions > 1 and 0 < apart.high < np.inf
        points.append((np.log(apart.ratio), np.log(apart.high / apart.ratio) if is_known else np.nan))
    change, reach = np.array(points).T
    return change, reach


def _rounded(logarithms: Array) -> tuple[float | None, ...]:
    """For a plot; ``None`` where it is not known, or too large to be a figure."""
    return tuple(
        float(f"{np.exp(value):.{_DIGITS}g}") if np.isfinite(value) and abs(value) < 700 else None
        for value in logarithms.tolist()
    )
