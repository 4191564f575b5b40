"""jtop on the simulated device, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.jtop import make_jtop
from runtime.errors import TelemetryUnavailableError
from runtime.thermal_sources.jtop import JtopSource

pytestmark = pytest.mark.covers("T0-02", "T0-04")


def board(*faults: Fault, **of: Any) -> tuple[SimulatedDevice, Any]:
    device = SimulatedDevice(faults=FaultPlan(faults), **of)
    return device, make_jtop(device)


def test_names_are_those_of_jetson_stats() -> None:
    real = pytest.importorskip("jtop", reason="jetson-stats: not installed")
    _, fake = board()
    assert {name for name in dir(fake.jtop) if not name.startswith("_")} <= set(dir(real.jtop))
    assert issubclass(real.JtopException, Exception)


def test_a_reading_takes_a_second_and_tells_heat_clock_and_load() -> None:
    device, jtop = board()
    source = JtopSource(load=lambda: jtop.jtop)
    before = device.clock.now_ns()
    reading = source.read()
    assert device.clock.now_ns() - before >= 1_000_000_000
    assert reading.gpu_temp_c == pytest.approx(device.thermal.temperature_c - 0.5)
    assert (reading.clock_mhz, reading.clock_cap_mhz, reading.governor) == (918, 918, "nvhost_podgov")
    assert reading.load_percent == 0
    source.close()


def test_a_zone_that_is_powered_off_is_offline() -> None:
    _, jtop = board()
    with jtop.jtop(interval=0.5) as client:
        assert client.temperature["cv0"] == {"temp": -256.0, "online": False}
        assert client.interval == 0.5
        assert client.power["tot"]["name"] == "VDD_IN"
        assert client.ok()
    assert not client.ok()


def test_memory_is_in_kilobytes_and_the_gpus_share_is_told() -> None:
    device, jtop = board(memory_bytes=1 << 30)
    device.allocate(4096)
    ram = jtop.jtop().memory["RAM"]
    assert (ram["tot"], ram["used"], ram["free"], ram["shared"]) == (1 << 20, 4, (1 << 20) - 4, 4)


def test_observers_are_called_with_each_sample() -> None:
    _, jtop = board()
    client = jtop.jtop()
    told: list[Any] = []
    client.attach(told.append)
    client.start()
    assert client.ok(spin=True)
    client.detach(told.append)
    client.ok(spin=True)
    assert told == [client]


def test_without_a_jetson_there_is_no_service() -> None:
    _, jtop = board(is_integrated=False, sm="89")
    with pytest.raises(TelemetryUnavailableError, match=r"The jtop\.service is not active"):
        JtopSource(load=lambda: jtop.jtop).read()


@pytest.mark.parametrize("call", ["jtop.start", "jtop.ok"])
def test_a_planned_fault_is_jtops_own_exception(call: str) -> None:
    _, jtop = board(Fault(call, "Lost connection with jtop server"))
    source = JtopSource(load=lambda: jtop.jtop)
    with pytest.raises(TelemetryUnavailableError, match="Lost connection with jtop server"):
        source.read()
    assert source.read().gpu_temp_c is not None
