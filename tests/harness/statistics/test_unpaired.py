"""Runs apart in time: the boot session is what is replicated, and its number decides what can be said."""

import math

import numpy as np
import pytest

from harness.records import Outcome
from harness.statistics.unpaired import Apart, compare_sessions

pytestmark = pytest.mark.long


def sessions(
    chance: np.random.Generator, count: int, *, ratio: float = 1.0, between: float = 0.02, within: float = 0.01
) -> list[list[float]]:
    levels = between * chance.standard_normal(count)
    return [list(50.0 * ratio * np.exp(level + within * chance.standard_normal(5))) for level in levels]


def share(outcome: Outcome, ratio: float, seed: int, old: int = 6, new: int = 6, repetitions: int = 300) -> float:
    chance = np.random.default_rng(seed)
    return float(
        np.mean(
            [
                compare_sessions(sessions(chance, old), sessions(chance, new, ratio=ratio)).outcome is outcome
                for _ in range(repetitions)
            ]
        )
    )


def limit(alpha: float, repetitions: int = 300) -> float:
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / repetitions)


@pytest.mark.parametrize(("old", "new"), [(6, 6), (4, 2), (5, 1)])
def test_at_the_margin_it_passes_as_rarely_as_it_promises(old: int, new: int) -> None:
    assert share(Outcome.PASS, 1.05, 1, old, new) <= limit(0.05)


def test_where_nothing_changed_it_raises_no_alarm_and_a_clear_change_is_found() -> None:
    assert share(Outcome.FAIL, 1.0, 2) <= 0.01
    assert share(Outcome.PASS, 1.0, 3) >= 0.9
    assert share(Outcome.FAIL, 1.12, 4) >= 0.95
    assert share(Outcome.FAIL, 0.88, 5) >= 0.95


def test_the_interval_covers_the_true_change_as_often_as_it_says() -> None:
    chance = np.random.default_rng(6)
    changes = [compare_sessions(sessions(chance, 4), sessions(chance, 3, ratio=1.03)) for _ in range(400)]
    covered = float(np.mean([change.low <= 1.03 <= change.high for change in changes]))
    assert covered >= 0.90 - 3 * math.sqrt(0.09 / 400)


def test_launches_taken_for_sessions_would_lie_which_is_why_one_base_session_decides_nothing() -> None:
    """Forty launches of one boot look like certainty; what the boot brought with it is in all of them."""
    chance = np.random.default_rng(7)
    naive = 0
    for _ in range(200):
        base, new = sessions(chance, 1), sessions(chance, 1)
        change = compare_sessions(base, new)
        assert change.outcome is Outcome.INCONCLUSIVE
        assert change.p_regression == 1.0
        naive += not change.low <= 1.0 <= change.high
    assert naive > 40
    far = compare_sessions([[50.0] * 5], [[90.0] * 5, [91.0] * 5])
    assert far.outcome is Outcome.INCONCLUSIVE
    assert "a single base session does not tell how far sessions lie apart" in far.reason


def test_the_reason_says_the_change_its_interval_and_how_many_sessions_stand_behind_it() -> None:
    base = [[50.0, 50.5, 49.5], [51.0, 51.5, 50.5]]
    change = compare_sessions(base, [[52.0, 52.5, 51.5]])
    assert change.reason.startswith(
        "p95 +3.0 % [-7.6, +14.8], 2 base sessions of 3 launches, 1 new session of 3 launches: INCONCLUSIVE: "
    )
    assert "boot sessions of each would (there are 2 and 1), or interleaved pairs" in change.reason
    uneven = compare_sessions([[50.0], [51.0, 50.0]], [[50.0]], figure="p50")
    assert uneven.reason.startswith("p50 ")
    assert "2 base sessions of 1 to 2 launches, 1 new session of 1 launch" in uneven.reason


def test_a_gain_breaks_equivalence_and_not_a_one_sided_gate() -> None:
    chance = np.random.default_rng(8)
    base, new = sessions(chance, 5, between=0.005), sessions(chance, 5, ratio=0.9, between=0.005)
    both = compare_sessions(base, new)
    assert both.outcome is Outcome.FAIL
    assert both.reason.endswith("faster, beyond the margin of 5 %")
    assert compare_sessions(base, new, both_sides=False).outcome is Outcome.PASS


def test_what_was_seen_of_the_spread_is_told_and_what_was_not_is_none() -> None:
    one = compare_sessions([[50.0]], [[50.0]])
    assert (one.between, one.within) == (None, None)
    assert "0.0 % (interval not known)" in one.reason
    many = compare_sessions(
        sessions(np.random.default_rng(9), 200), sessions(np.random.default_rng(10), 200), margin=0.1
    )
    assert many.within == pytest.approx(0.01, rel=0.1)
    assert many.between == pytest.approx(math.hypot(0.02, 0.01 / math.sqrt(5)), rel=0.1)


def test_sessions_without_any_spread_decide_by_their_values() -> None:
    same: Apart = compare_sessions([[50.0], [50.0]], [[50.0], [50.0]])
    assert same.outcome is Outcome.PASS
    assert compare_sessions([[50.0], [50.0]], [[60.0], [60.0]]).outcome is Outcome.FAIL


@pytest.mark.parametrize("wrong", [[], [[]], [[50.0], []], [[0.0]], [[math.nan]], [[math.inf]]])
def test_no_session_or_a_figure_that_cannot_be_is_refused(wrong: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="expected at least one session"):
        compare_sessions(wrong, [[50.0]])
    with pytest.raises(ValueError, match="the new has"):
        compare_sessions([[50.0]], wrong)


def built(
    chance: np.random.Generator, count: int, engines: int, *, ratio: float = 1.0, kept: bool = False
) -> tuple[list[list[float]], list[list[str]]]:
    """Sessions of six launches on ``engines`` engines in turn, which differ by 3 %; ``kept``: the same ones in each session."""
    own = 0.03 * chance.standard_normal(engines)
    values, names = [], []
    for at in range(count):
        own = own if kept else 0.03 * chance.standard_normal(engines)
        name = "kept" if kept else str(at)
        values.append([
            50.0 * ratio * math.exp(own[one % engines] + 0.002 * chance.standard_normal()) for one in range(6)
        ])  # fmt: skip
        names.append([f"{name}/{one % engines}" for one in range(6)])
    return values, names


def alarms(seed: int, *, engines: int, is_told: bool) -> float:
    """How often two versions that are one look unlike, where each kept its engines over three sessions."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(200):
        (old, of_old), (now, of_new) = (built(chance, 3, engines, kept=True) for _ in range(2))
        told = {"base_builds": of_old, "new_builds": of_new} if is_told else {}
        found.append(compare_sessions(old, now, margin=0.01, **told).outcome is Outcome.FAIL)  # type: ignore[arg-type]
    return float(np.mean(found))


def test_engines_that_were_kept_over_sessions_look_like_a_change_until_each_side_has_built_several() -> None:
    assert alarms(11, engines=3, is_told=False) > 0.5
    assert alarms(11, engines=3, is_told=True) <= limit(0.10, 200)  # each way 5 %


def test_builds_of_their_own_session_widen_the_interval_only_where_they_lie_further_apart_than_sessions_do() -> None:
    chance = np.random.default_rng(12)
    (old, of_old), (now, of_new) = built(chance, 4, 3), built(chance, 4, 3)
    plain = compare_sessions(old, now)
    change = compare_sessions(old, now, base_builds=of_old, new_builds=of_new)
    assert (change.base_builds, change.new_builds) == (12, 12)
    assert change.builds == pytest.approx(0.03, rel=0.4)
    assert change.high >= plain.high
    near = [[50.0 * factor for factor in (0.96, 1.0, 1.04)]] * 4  # sessions alike to the last digit, engines not
    names = [[f"{at}/{one}" for one in range(3)] for at in range(4)]
    wide = compare_sessions(near, near, base_builds=names, new_builds=names)
    assert wide.level == "build"
    assert wide.high > 1.01 > compare_sessions(near, near).high
    assert "12 and 12 builds" in wide.reason


def test_a_new_version_that_built_once_is_held_against_the_spread_of_the_base_s_builds() -> None:
    old, of_old = built(np.random.default_rng(13), 3, 3)
    now = [[54.0, 54.1]] * 2
    change = compare_sessions(old, now, base_builds=of_old, new_builds=[["x", "x"], ["y", "y"]])
    unknown = compare_sessions(old, now, base_builds=of_old)
    assert (change.new_builds, unknown.new_builds) == (2, 0)
    assert unknown.high >= change.high


def test_one_engine_on_each_side_tells_no_spread_of_builds() -> None:
    change = compare_sessions(
        [[50.0, 51.0]] * 2, [[50.0, 51.0]] * 2, base_builds=[["a", "a"]] * 2, new_builds=[["b"] * 2] * 2
    )
    assert change.builds is None
    assert change.level == "session"


def test_engines_that_are_not_told_launch_by_launch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"names engines of \[1\] launches"):
        compare_sessions([[50.0, 51.0]], [[50.0]], base_builds=[["a"]])
