"""Heat of a simulated board, and what takes its clocks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.fakes.thermal_model import ORIN_NX, ThermalModel

pytestmark = pytest.mark.covers("T0-02")


def test_it_settles_at_ambient_plus_watts_times_kelvins_per_watt() -> None:
    model = ThermalModel(ambient_c=20.0)
    model.step(20 * ORIN_NX.seconds_to_settle, 0.5)
    assert model.power_w == 15.0
    assert model.temperature_c == pytest.approx(20.0 + 15.0 * 2.2)


def test_hardware_that_throttles_goes_down_at_once_and_all_the_way_back() -> None:
    board = replace(ORIN_NX, throttled_mhz=408, hysteresis_c=3.0)
    model = ThermalModel(board, ambient_c=50.0, temperature_c=98.9)
    seen = {model.clock_mhz}
    cycles = []
    for _ in range(3000):
        model.step(0.1, 1.0)
        seen.add(model.clock_mhz)
        cycles.append(model.temperature_c)
    assert seen == {408, 918}
    assert max(cycles) == pytest.approx(99.0, abs=0.1)
    assert min(cycles) == pytest.approx(96.0, abs=0.2)


def test_a_power_mode_caps_the_clock_at_the_next_lower_one_it_has() -> None:
    model = ThermalModel()
    model.cap_mhz = 700
    assert (model.clock_mhz, model.cap_mhz, model.is_throttled) == (612, 612, False)
    model.cap_mhz = 5000
    assert model.clock_mhz == 918
    model.cap_mhz = 1
    assert model.clock_mhz == 306


def test_a_clock_that_is_slowed_takes_less_power_and_is_no_heat() -> None:
    model = ThermalModel()
    model.slowed_to = 0.5
    model.step(1.0, 1.0)
    assert (model.clock_mhz, model.is_throttled, model.throttled_s) == (459, False, 0.0)
    assert model.power_w == pytest.approx(5.0 + 20.0 / 8)


def test_every_tick_hears_the_highest_power_since_the_last() -> None:
    model, heard = ThermalModel(), list[float]()
    model.every_tick = heard.append
    for load in (1.0, 0.0, 0.0, 0.5):
        model.step(0.05, load)
    assert heard == [25.0, 15.0]
