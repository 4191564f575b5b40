"""Warm enough to measure, and steady while measured."""

import numpy as np
import pytest

from harness.steadiness import SoakRule, drift, slope_c_per_min


@pytest.mark.parametrize("tau_s", [120.0, 300.0])
def test_a_soak_ends_when_little_of_the_rise_is_left(tau_s: float) -> None:
    """Methods A4: with a rise of 35 degrees it waits 500 to 850 s and leaves 2 to 6 % of it."""
    times = np.arange(0.0, 3000.0, 1.0)
    warm = 40.0 + 35.0 * (1.0 - np.exp(-times / tau_s))
    rule = SoakRule()
    ended = next(n for n in range(1, times.size) if rule.is_steady(times[:n], warm[:n]))
    assert 450 <= ended <= 900
    assert 0.01 <= (75.0 - warm[ended]) / 35.0 <= 0.07


def test_a_soak_never_ends_early_nor_on_readings_that_do_not_span_its_window() -> None:
    rule = SoakRule()
    assert not rule.is_steady([], [])
    flat = [50.0] * 170
    assert not rule.is_steady(list(range(170)), flat)
    assert rule.is_steady(list(range(190)), [50.0] * 190)
    gap = [0.0, 1.0, 190.0, 191.0]
    assert slope_c_per_min(gap, [50.0] * 4, 120.0) is None
    assert not rule.is_steady(gap, [50.0] * 4)


def test_a_rise_of_a_degree_a_minute_is_told_in_its_unit() -> None:
    times = np.arange(0.0, 200.0, 2.0)
    assert slope_c_per_min(times, 40.0 + times / 60.0, 120.0) == pytest.approx(1.0)


def test_a_drift_of_three_percent_is_flagged_and_noise_is_not() -> None:
    chance = np.random.default_rng(4)
    flags = 0
    for _ in range(200):
        noise = 50e6 * (1 + 0.06 * chance.standard_normal(4000))
        found = drift(noise)
        assert found is not None
        flags += found.is_flagged
    assert flags <= 6
    ramp = 50e6 * (1 + 0.06 * chance.standard_normal(4000)) * np.linspace(1.0, 1.03, 4000)
    found = drift(ramp)
    assert found is not None
    assert found.is_flagged
    assert 0.02 < found.change < 0.04


def test_a_series_without_change_has_no_drift_and_a_short_one_no_answer() -> None:
    flat = drift(np.full(200, 7))
    assert flat is not None
    assert (flat.change, flat.p, flat.is_flagged) == (0.0, 1.0, False)
    assert drift(np.arange(99)) is None
