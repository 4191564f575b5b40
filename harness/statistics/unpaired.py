"""Old against new in runs that are apart in time: another day, another boot, a stored baseline (methods A6, A7).

Nothing pairs such runs, so what a boot session brings with it (temperature, memory layout, clocks) does not cancel. Launches
are nested in boot sessions, and the session is what is replicated: repeating at a lower level than the one where the
variance arises gives an interval that is too narrow (Kalibera and Jones, Rigorous benchmarking in reasonable time, 2013).
Welch's t on session means decides. Of a single base session the spread between sessions is not known, whatever the number
of its launches: then nothing is decided.

A builder chooses by timing, so two engines of one version differ. Where a side built several (``--builds``), the build is a
level of its own, nested in the session or, where an engine was kept over sessions, beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from harness.records import Outcome
from harness.statistics.paired import MARGINS, Change, decide, hodges_lehmann, p_slower
from runtime.protocol import Array

__all__ = ["Apart", "compare_sessions"]


@dataclass(frozen=True)
class Apart(Change):
    """A change between runs apart in time; ``pairs`` is 0. ``between``, ``within``: the standard deviations of the figure's
    logarithm between boot sessions and between launches of one session; ``None`` where there is only one of them.
    ``builds``: the same between engines of one session, as their launches' means are; ``base_builds``, ``new_builds``: how many
    engines there are, 0: not known. ``level``: whose spread the interval is made of, ``session``, ``build`` or ``both``.
    """

    base_sessions: int
    new_sessions: int
    between: float | None
    within: float | None
    builds: float | None = None
    base_builds: int = 0
    new_builds: int = 0
    level: str = "session"


Engines = Sequence[Sequence[str]]


def compare_sessions(
    base: Sequence[Sequence[float]],
    new: Sequence[Sequence[float]],
    *,
    margin: float = MARGINS["p95"],
    alpha: float = 0.05,
    both_sides: bool = True,
    figure: str = "p95",
    base_builds: Engines | None = None,
    new_builds: Engines | None = None,
) -> Apart:
    """``base``, ``new``: for each boot session the figure of each of its launches, above 0, in any unit. ``base_builds``,
    ``new_builds``: of the same shape, the engine that each launch ran on, by any name; empty where that is not known.

    PASS: the interval, 1 - 2 alpha with equal tails, is inside the margin (``both_sides``: below it too, as two one-sided
    tests). FAIL: it excludes "no change", and the change found is beyond the margin. It is looked at once: append no
    session because a verdict displeased. A single new session is held against the spread of the base's sessions.
    Engines of one version that lie further apart than sessions do widen the interval. Raises ``ValueError`` for no session, a
    session without launch, a figure that is not above 0, or engines that are not told launch by launch.
    """
    old_means, new_means = _means(base, "base"), _means(new, "new")
    within = _within([*base, *new])
    between = _between(old_means, new_means)
    change = float(new_means.mean() - old_means.mean())
    built = _Builds.of(base, base_builds, "base"), _Builds.of(new, new_builds, "new")
    builds = _between_builds(built)
    level, error, freedom = _with_builds(
        _error(old_means, new_means, within, sum(map(len, base)), sum(map(len, new))), built, builds, alpha
    )
    limit = math.log1p(margin)
    reach = _reach(error, freedom, alpha)
    low, high = change - reach, change + reach
    outcome, reason = decide(change, low, high, limit, is_last=False, both_sides=both_sides)
    p_regression = p_slower(change, error, freedom) if math.isfinite(error) else 1.0
    if old_means.size < 2:
        outcome = Outcome.INCONCLUSIVE
        p_regression = 1.0
        reason = "a single base session does not tell how far sessions lie apart; measure the base in two more boots"
    elif outcome is Outcome.INCONCLUSIVE:
        spread = "builds" if level == "build" else "sessions"
        reason = f"the {spread} do not decide on the margin of {100 * margin:g} %; " + (
            "more builds of each would (--builds)"
            if level == "build"
            else _needed(old_means.size, new_means.size, between, limit, alpha)
        )
    else:
        reason += f" of {100 * margin:g} %"
    shown = [math.exp(value) if value < 700 else math.inf for value in (change, low, high)]
    return Apart(
        pairs=0,
        ratio=shown[0],
        low=shown[1],
        high=shown[2],
        robust=math.exp(hodges_lehmann(new_means) - hodges_lehmann(old_means)),
        outcome=outcome,
        reason=f"{_interval(figure, shown)}, {_sessions(base, 'base')}, {_sessions(new, 'new')}{_told(built, builds)}: "
        f"{outcome.value}: {reason}",
        p_regression=p_regression,
        base_sessions=old_means.size,
        new_sessions=new_means.size,
        between=between,
        within=within,
        builds=None if builds is None else builds[0],
        base_builds=built[0].count,
        new_builds=built[1].count,
        level=level,
    )


def _means(sessions: Sequence[Sequence[float]], side: str) -> Array:
    values = [np.asarray(session, np.float64) for session in sessions]
    if not values or any(one.size == 0 or not np.isfinite(one).all() or (one <= 0).any() for one in values):
        raise ValueError(
            f"the {side} has {len(values)} sessions with {[one.size for one in values]} launches; expected at least one "
            "session, a launch in each, and figures above 0."
        )
    return np.array([np.log(one).mean() for one in values])


def _within(sessions: Sequence[Sequence[float]]) -> float | None:
    logs = [np.log(np.asarray(session, np.float64)) for session in sessions]
    freedom = sum(one.size - 1 for one in logs)
    return math.sqrt(sum(float(((one - one.mean()) ** 2).sum()) for one in logs) / freedom) if freedom else None


def _between(old_means: Array, new_means: Array) -> float | None:
    """Pooled, of session means as they are: what the launches of a session leave of their own spread is in it."""
    freedom = old_means.size + new_means.size - 2
    squares = float(((old_means - old_means.mean()) ** 2).sum() + ((new_means - new_means.mean()) ** 2).sum())
    return math.sqrt(squares / freedom) if freedom else None


def _error(
    old_means: Array, new_means: Array, within: float | None, old_launches: int, new_launches: int
) -> tuple[float, float]:
    """The standard error of the difference, and its degrees of freedom (Welch and Satterthwaite)."""
    if old_means.size < 2:  # shown, and never decided on: the launches' spread alone, which is too narrow
        if within is None:
            return math.inf, 1.0
        return within * math.sqrt(1 / old_launches + 1 / new_launches), float(old_launches + new_launches - 2)
    old_share = float(old_means.var(ddof=1)) / old_means.size
    if new_means.size < 2:  # one more draw from sessions that spread as the base's do
        return math.sqrt(old_share * (1 + old_means.size)), float(old_means.size - 1)
    new_share = float(new_means.var(ddof=1)) / new_means.size
    total = old_share + new_share
    if total == 0.0:
        return 0.0, float(old_means.size + new_means.size - 2)
    parts = old_share**2 / (old_means.size - 1) + new_share**2 / (new_means.size - 1)
    return math.sqrt(total), total**2 / parts


@dataclass(frozen=True)
class _Builds:
    """The engines of one side. ``count``: 0 where they are not known. ``is_nested``: none ran in two sessions."""

    count: int
    is_nested: bool
    squares: float
    freedom: int

    @classmethod
    def of(cls, sessions: Sequence[Sequence[float]], engines: Engines | None, side: str) -> _Builds:
        if engines is None:
            return cls(0, True, 0.0, 0)
        if [len(one) for one in engines] != [len(one) for one in sessions]:
            told = [len(one) for one in engines], [len(one) for one in sessions]
            raise ValueError(f"the {side} names engines of {told[0]} launches by session; expected {told[1]}.")
        effects: dict[str, list[float]] = {}
        groups: list[set[str]] = []  # of engines that sessions have in common: each has one mean of its own
        count = 0
        for values, of_session in zip(sessions, engines, strict=True):
            known = sorted({name for name in of_session if name})
            logs = np.log(np.asarray(values, np.float64))
            means = np.array([logs[[name == own for own in of_session]].mean() for name in known])
            for name, mean in zip(known, means, strict=True):
                effects.setdefault(name, []).append(float(mean - means.mean()))
            joined = set(known).union(*(group for group in groups if group & set(known)))
            groups = [group for group in groups if not group & joined] + ([joined] if joined else [])
            count += len(known)
        squares = sum(float(np.mean(each)) ** 2 for each in effects.values())
        return cls(len(effects), len(effects) == count, squares, len(effects) - len(groups))


def _between_builds(sides: tuple[_Builds, _Builds]) -> tuple[float, int] | None:
    """(standard deviation of engines of one session, its degrees of freedom), pooled; ``None`` where none has two."""
    freedom = sum(side.freedom for side in sides)
    return (math.sqrt(sum(side.squares for side in sides) / freedom), freedom) if freedom else None


def _with_builds(
    by_session: tuple[float, float],
    sides: tuple[_Builds, _Builds],
    builds: tuple[float, int] | None,
    alpha: float,
) -> tuple[str, float, float]:
    """(level, standard error, degrees of freedom). A side of unknown engines counts as one engine.

    Sessions that each built anew have their engines' spread in them already: then the wider of the two intervals holds. Of
    engines that ran in several sessions they have not, and both add up (Satterthwaite).
    """
    error, freedom = by_session
    if builds is None:
        return "session", error, freedom
    deviation, of_builds = builds
    own = deviation * math.sqrt(sum(1.0 / max(1, side.count) for side in sides))
    if all(side.is_nested for side in sides) or not math.isfinite(error):
        if _reach(own, of_builds, alpha) > _reach(error, freedom, alpha):
            return "build", own, float(of_builds)
        return "session", error, freedom
    total = error**2 + own**2
    if total == 0.0:
        return "both", 0.0, freedom
    return "both", math.sqrt(total), total**2 / (error**4 / freedom + own**4 / of_builds)


def _reach(error: float, freedom: float, alpha: float) -> float:
    return float(stdtrit(freedom, 1.0 - alpha)) * error if math.isfinite(error) else math.inf


def _told(sides: tuple[_Builds, _Builds], builds: tuple[float, int] | None) -> str:
    if builds is None:
        return ""
    counts = " and ".join(str(side.count) if side.count else "unknown" for side in sides)
    return f", {counts} builds that differ by {100 * math.expm1(math.sqrt(2) * builds[0]):.1f} %"


def _needed(base: int, new: int, between: float | None, limit: float, alpha: float) -> str:
    """What would decide, in words: sessions on each side until the interval of an unchanged figure fits into the margin."""
    if between is not None:
        for each in range(max(2, base, new), 101):
            if float(stdtrit(2 * each - 2, 1.0 - alpha)) * between * math.sqrt(2.0 / each) <= 0.7 * limit:
                return f"about {each} boot sessions of each would (there are {base} and {new}), or interleaved pairs"
    return "interleaved pairs in one session would"


def _interval(figure: str, shown: Sequence[float]) -> str:
    shift = f"{figure} {100 * (shown[0] - 1):+.1f} %"
    if not all(0.0 < value < math.inf for value in shown[1:]):
        return f"{shift} (interval not known)"
    low, high = (f"{100 * (value - 1):+.1f}" for value in shown[1:])
    return f"{shift} [{low}, {high}]"


def _sessions(sessions: Sequence[Sequence[float]], side: str) -> str:
    fewest, most = min(map(len, sessions)), max(map(len, sessions))
    launches = f"{most} launch{'es' if most > 1 else ''}" if fewest == most else f"{fewest} to {most} launches"
    return f"{len(sessions)} {side} session{'s' if len(sessions) > 1 else ''} of {launches}"
