"""jtop for description and for a check against sysfs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.install import installed
from harness.fakes.jtop import make_jtop
from harness.instruments.jtop import JtopInstrument, cross_check
from harness.trace import Frame

pytestmark = pytest.mark.covers("T2-04")


def test_an_orin_is_told_in_our_units() -> None:
    device = SimulatedDevice()
    with installed(device, cuda=False, jtop=True):
        instrument = JtopInstrument()
        reading = instrument.read()
        instrument.close()
    assert reading.values["gpu_clock_mhz"] == reading.values["gpu_cap_mhz"] == 918.0
    assert reading.values["tj_temp_c"] == pytest.approx(device.thermal.temperature_c)
    assert reading.values["power_w"] == pytest.approx(device.thermal.power_w, abs=0.001)
    assert reading.missing == {"temp_c.cv0": "jtop says offline"}
    assert instrument.about() == {"governor": "nvhost_podgov", "power_w": "VDD_IN"}


def test_a_service_that_fails_is_closed_and_asked_anew() -> None:
    module = make_jtop(SimulatedDevice(faults=FaultPlan([Fault("jtop.ok", error="Lost connection with jtop server")])))
    instrument = JtopInstrument(load=lambda: module.jtop)
    with pytest.raises(module.JtopException, match="Lost connection"):
        instrument.read()
    assert "gpu_temp_c" in instrument.read().values
    instrument.close()


def test_parts_of_an_unknown_shape_cost_their_own_figures() -> None:
    client = SimpleNamespace(
        start=lambda: None, ok=lambda: True, close=lambda: None, temperature={"cpu": 3}, gpu=None, memory={"RAM": {}},
        power={"tot": {"power": 7000, "name": "VIN"}, "rail": {"VDD_GPU": {"power": 2000, "online": True}}},
        board={"hardware": {"Module": "NVIDIA Jetson AGX Thor"}}, nvpmodel=SimpleNamespace(name="MAXN"),
    )  # fmt: skip
    instrument = JtopInstrument(load=lambda: lambda interval: client)
    reading = instrument.read()
    assert reading.values == {"power_w": 7.0, "power_w.VDD_GPU": 2.0}
    assert list(reading.missing) == ["jtop temperature"]
    assert instrument.about() == {"power_w": "VIN", "power_mode": "MAXN", "module": "NVIDIA Jetson AGX Thor"}


@pytest.mark.parametrize(
    ("here", "there", "words"),
    [
        ({"gpu_temp_c": 50.0}, {"gpu_temp_c": 54.9}, None),
        ({"gpu_temp_c": 50.0}, {"gpu_temp_c": 55.1}, "gpu_temp_c: sysfs says 50 °C and jtop 55.1 °C"),
        ({"gpu_clock_mhz": 918.0}, {"gpu_clock_mhz": 306.0}, None),
        ({"gpu_clock_mhz": 918.0}, {"gpu_clock_mhz": 0.918}, "mistakes the unit"),
        ({"gpu_cap_mhz": 918.0}, {"gpu_cap_mhz": 612.0}, "the power mode may have changed"),
        ({"power_w": 10.0}, {"power_w": 12.0}, None),
        ({"power_w": 10.0}, {"power_w": 20.0}, "a second old"),
        ({"power_w": 10.0}, {"gpu_temp_c": 20.0}, None),
    ],
)
def test_two_sources_are_held_against_each_other(here: Any, there: Any, words: str | None) -> None:
    found = cross_check(Frame(0, here), Frame(0, there))
    assert len(found) == (words is not None)
    assert all(words in text for text in found if words is not None)
