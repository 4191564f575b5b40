"""NVML's figures: one call failing costs its own figure, and reasons become alerts or limits."""

from __future__ import annotations

from typing import Any

import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.install import installed
from harness.fakes.nvml import make_nvml
from harness.instruments.nvml import NvmlInstrument
from runtime.errors import TelemetryUnavailableError

pytestmark = pytest.mark.covers("T2-01", "TH-04")


def card(*faults: Fault, **of: Any) -> NvmlInstrument:
    settings = {"sm": "89", "is_integrated": False, "name": "Simulated card", **of}
    module = make_nvml(SimulatedDevice(faults=FaultPlan(faults), **settings))
    return NvmlInstrument(load=lambda: module)


def test_a_card_tells_heat_clocks_power_energy_load_memory_and_limits() -> None:
    with installed(SimulatedDevice(sm="89", is_integrated=False), cuda=False, nvml=True):
        instrument = NvmlInstrument()
        reading = instrument.read()
        assert reading.values.keys() >= {
            "gpu_temp_c", "gpu_clock_mhz", "gpu_cap_mhz", "memory_clock_mhz", "power_w", "energy_j", "gpu_load_percent",
            "gpu_used_bytes", "limit.sw-power-cap",
        }  # fmt: skip
        assert not reading.missing
        assert instrument.about()["driver"] == "540.4.0"
        instrument.close()
        assert instrument.read().values.keys() == reading.values.keys()
        instrument.close()


def test_an_orin_supports_nothing_and_each_figure_says_so() -> None:
    reading = card(sm="87", is_integrated=True).read()
    assert not reading.values
    assert not reading.alerts
    assert reading.missing["power_w"] == "nvmlDeviceGetPowerUsage: Not Supported"
    assert len(reading.missing) == 9


def test_a_call_that_fails_costs_its_own_figure_only() -> None:
    reading = card(Fault("nvmlDeviceGetPowerUsage", error="NVML_ERROR_NO_PERMISSION")).read()
    assert reading.missing == {"power_w": "nvmlDeviceGetPowerUsage: Insufficient Permissions"}
    assert "gpu_temp_c" in reading.values


def test_a_gpu_that_was_lost_is_opened_again() -> None:
    module = make_nvml(SimulatedDevice(sm="89", is_integrated=False))
    initialise, opened = module.nvmlInit, []

    def opening() -> None:
        opened.append(1)
        initialise()

    module.nvmlInit = opening  # type: ignore[attr-defined]
    instrument = NvmlInstrument(load=lambda: module)
    assert instrument.read().values
    lost = dict(vars(module))

    def gone(*_: object) -> None:
        raise module.NVMLError(15)

    for name in lost:
        if name.startswith("nvmlDeviceGet") and name != "nvmlDeviceGetHandleByIndex":
            setattr(module, name, gone)
    reading = instrument.read()
    assert not reading.values
    assert "GPU is lost" in reading.missing["gpu_temp_c"]
    vars(module).update(lost)
    assert instrument.read().values
    assert len(opened) == 2


def test_a_host_without_the_library_says_so() -> None:
    def load() -> Any:
        raise TelemetryUnavailableError("pynvml cannot be imported.")

    with pytest.raises(TelemetryUnavailableError, match="cannot be imported"):
        NvmlInstrument(load=load).read()


@pytest.mark.parametrize(
    ("reasons", "alerts", "limits"),
    [
        (0x0, [], []),
        (0x1 | 0x2 | 0x10, [], []),
        (0x04, [], ["limit.sw-power-cap"]),
        (0x08, ["hw-slowdown"], []),
        (0x20, ["sw-thermal-slowdown"], []),
        (0x08 | 0x40, ["hw-thermal-slowdown"], []),
        (0x08 | 0x80 | 0x200, ["hw-power-brake"], ["limit.board-limit"]),
    ],
)
def test_reasons_are_alerts_or_limits(reasons: int, alerts: list[str], limits: list[str]) -> None:
    module = make_nvml(SimulatedDevice(sm="89", is_integrated=False))
    module.nvmlDeviceGetCurrentClocksEventReasons = lambda _: reasons  # type: ignore[attr-defined]
    reading = NvmlInstrument(load=lambda: module).read()
    assert reading.alerts == alerts
    assert [name for name, value in reading.values.items() if name.startswith("limit.") and value] == limits
