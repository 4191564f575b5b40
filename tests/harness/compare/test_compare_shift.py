"""The percentile shift: the same judgement as that of p50 and p95, at every percentile."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.compare.load import PERCENTS, LaunchSeen, Sessions
from harness.compare.shift import shift_of
from harness.statistics.unpaired import compare_sessions

pytestmark = pytest.mark.covers("RE-02")

ALPHA = 0.05


def launch(chance: np.random.Generator, ms: float, tail: float = 1.0) -> LaunchSeen:
    values = np.sort(ms * 1e6 * np.exp(0.05 * chance.standard_normal(500)))
    values[470:] *= tail
    at = [max(0, math.ceil(percent / 100 * 500) - 1) for percent in PERCENTS]
    return LaunchSeen(0, 500, 0, values[249], values[474], percentiles_ns=tuple(values[at].tolist()))


def sessions(seed: int, boots: int, ms: float = 10.0, tail: float = 1.0, builds: int = 0) -> Sessions[LaunchSeen]:
    chance = np.random.default_rng(seed)
    levels = np.exp(0.01 * chance.standard_normal(boots))
    names = [f"build {at % builds}" if builds else "" for at in range(4)]
    return Sessions([[launch(chance, ms * level, tail) for _ in names] for level in levels], [names for _ in levels])


def at(percent: int, side: Sessions[LaunchSeen]) -> list[list[float]]:
    place = PERCENTS.index(percent)
    return [[seen.percentiles_ns[place] for seen in session] for session in side.values]


@pytest.mark.parametrize(("boots", "builds"), [((3, 3), 0), ((4, 1), 0), ((3, 2), 2)])
def test_every_percentile_is_judged_as_p50_and_p95_are(boots: tuple[int, int], builds: int) -> None:
    base, new = sessions(1, boots[0], builds=builds), sessions(2, boots[1], 10.8, builds=builds)
    shift = shift_of("disk", base, new, margin=0.05, alpha=ALPHA)
    for percent in (1, 50, 95, 99):
        apart = compare_sessions(
            at(percent, base), at(percent, new), alpha=ALPHA, base_builds=base.builds, new_builds=new.builds
        )
        place = PERCENTS.index(percent)
        seen = shift.ratio[place], shift.low[place], shift.high[place]
        assert seen == pytest.approx((apart.ratio, apart.low, apart.high), rel=2e-5)


def test_a_tail_that_grew_alone_is_seen_at_the_high_percentiles_alone() -> None:
    shift = shift_of("disk", sessions(1, 3), sessions(2, 3, tail=1.5), margin=0.05, alpha=ALPHA)
    ratios = dict(zip(shift.percents, shift.ratio, strict=True))
    assert ratios[50] == pytest.approx(1.0, abs=0.03)
    assert ratios[97] == pytest.approx(1.5, abs=0.06)
    assert (shift.base_requests, shift.base_sessions, shift.new_sessions) == (6000, 3, 3)


def test_a_percentile_that_lies_among_the_failed_is_not_known() -> None:
    new = sessions(2, 2)
    lost = LaunchSeen(4, 500, 50, None, None, percentiles_ns=(*new.values[0][0].percentiles_ns[:90], *[math.inf] * 9))
    shift = shift_of("disk", sessions(1, 3), Sessions([[*new.values[0], lost], new.values[1]], [[""] * 5, [""] * 4]),
                     margin=0.05, alpha=ALPHA)  # fmt: skip
    assert [value is None for value in shift.ratio] == [False] * 90 + [True] * 9
    assert None not in shift.base_ns


def test_a_single_base_session_has_no_interval() -> None:
    shift = shift_of("disk", sessions(1, 1), sessions(2, 3), margin=0.05, alpha=ALPHA)
    assert set(shift.low) == set(shift.high) == {None}
    assert None not in shift.ratio
