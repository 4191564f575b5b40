"""jtop for description."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.install import installed
from harness.fakes.jtop import make_jtop
from harness.instruments.jtop import JtopInstrument

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
