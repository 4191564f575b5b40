"""NVML on the simulated device: names held against nvidia-ml-py, values driven by the thermal model."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.nvml import make_nvml
from harness.fakes.thermal_model import ThermalModel
from runtime.errors import TelemetryUnavailableError
from runtime.thermal_sources.nvml import NvmlSource

pytestmark = pytest.mark.covers("T0-02", "T0-04")

SECOND = 1_000_000_000


def card(*faults: Fault, **of: Any) -> tuple[SimulatedDevice, Any]:
    settings = {"sm": "89", "is_integrated": False, "name": "Simulated card", **of}
    device = SimulatedDevice(faults=FaultPlan(faults), **settings)
    return device, make_nvml(device)


def warm(device: SimulatedDevice, seconds: int = 600) -> None:
    """Full load for so long, and a moment of it just now."""
    stream = device.create_stream()
    for _ in range(seconds):
        device.enqueue(stream, "work", lambda: None, busy_ns=SECOND)
        device.synchronize(stream)


def test_names_parameters_and_numbers_are_those_of_the_real_library() -> None:
    real = pytest.importorskip("pynvml", reason="nvidia-ml-py: not installed")
    _, fake = card()
    for name in sorted(vars(fake)):
        if name.startswith(("nvml", "NVML")):
            theirs, ours = getattr(real, name), getattr(fake, name)
            if callable(ours) and not isinstance(ours, type):
                assert inspect.signature(ours).parameters.keys() == inspect.signature(theirs).parameters.keys(), name
            elif not isinstance(ours, type):
                assert ours == theirs, name
    for number in (1, 2, 3, 9, 12, 13, 15, 999):
        kinds = [type(module.NVMLError(number)) for module in (real, fake)]
        assert (kinds[0].__name__, kinds[0].__mro__[1].__name__) == (kinds[1].__name__, kinds[1].__mro__[1].__name__)
        assert str(real.NVMLError(number)) == str(fake.NVMLError(number))
        assert fake.NVMLError(number).value == number


def test_a_reading_follows_the_thermal_model() -> None:
    device, nvml = card(thermal=ThermalModel(ambient_c=25.0))
    source = NvmlSource(load=lambda: nvml)
    cold = source.read()
    assert (cold.gpu_temp_c, cold.clock_mhz, cold.clock_cap_mhz, cold.load_percent) == (36, 918, 918, 0)
    warm(device)
    hot = source.read()
    assert hot.gpu_temp_c == round(device.thermal.temperature_c) > 70
    assert (hot.load_percent, hot.throttle_alerts) == (100, ())
    source.close()
    with pytest.raises(nvml.NVMLError, match="Uninitialized"):
        nvml.nvmlDeviceGetCount()


def test_a_hot_board_says_that_heat_holds_its_clock() -> None:
    device, nvml = card(thermal=ThermalModel(ambient_c=50.0))
    warm(device)
    reading = NvmlSource(load=lambda: nvml).read()
    assert reading.throttle_alerts == ("sw-thermal-slowdown",)
    assert reading.clock_mhz is not None
    assert reading.clock_mhz < 918


def test_energy_is_power_over_virtual_time() -> None:
    device, nvml = card()
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    before = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    device.clock.advance(10 * SECOND)
    spent_mj = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before
    assert spent_mj == pytest.approx(10 * nvml.nvmlDeviceGetPowerUsage(handle), rel=0.01)


def test_memory_and_names_are_the_devices() -> None:
    device, nvml = card(memory_bytes=1 << 30)
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    device.allocate(1 << 20)
    told = nvml.nvmlDeviceGetMemoryInfo(handle)
    assert (told.total, told.used, told.free) == (1 << 30, 1 << 20, (1 << 30) - (1 << 20))
    assert (nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetCudaComputeCapability(handle)) == (
        "Simulated card",
        (8, 9),
    )
    assert [nvml.nvmlDeviceGetTemperatureThreshold(handle, which) for which in (0, 1)] == [104, 99]
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        nvml.nvmlDeviceGetHandleByIndex(1)
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        nvml.nvmlDeviceGetPowerUsage(object())


def test_an_orin_supports_nearly_nothing_and_a_thor_answers() -> None:
    _, orin = card(sm="87", is_integrated=True)
    with pytest.raises(TelemetryUnavailableError, match="Not Supported"):
        NvmlSource(load=lambda: orin).read()
    _, thor = card(sm="110", is_integrated=True)
    assert NvmlSource(load=lambda: thor).read().gpu_temp_c is not None


@pytest.mark.parametrize("error", ["NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_NO_PERMISSION", "CUDA_ERROR_UNKNOWN"])
def test_a_planned_fault_is_nvmls_own_exception(error: str) -> None:
    _, nvml = card(Fault("nvmlDeviceGetPowerUsage", error))
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    with pytest.raises(nvml.NVMLError) as caught:
        nvml.nvmlDeviceGetPowerUsage(handle)
    assert caught.value.value == getattr(nvml, error if error.startswith("NVML") else "NVML_ERROR_UNKNOWN")
    assert nvml.nvmlDeviceGetPowerUsage(handle) > 0
    assert nvml.nvmlErrorString(15) == "GPU is lost"
