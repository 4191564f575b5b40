"""Energy and load, read along with virtual time."""

from __future__ import annotations

import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.meters import Meters

pytestmark = pytest.mark.covers("T0-02")

SECOND = 1_000_000_000


def test_energy_is_power_times_time() -> None:
    device = SimulatedDevice()
    meters = Meters(device)
    device.clock.advance(10 * SECOND)
    assert meters.energy_mj == pytest.approx(10_000 * device.thermal.board.idle_w)


def test_load_follows_work_and_forgets_it() -> None:
    device = SimulatedDevice()
    meters = Meters(device)
    stream = device.create_stream()
    device.enqueue(stream, "work", lambda: None, busy_ns=2 * SECOND)
    device.synchronize(stream)
    assert meters.load > 0.99
    device.clock.advance(1000)
    assert meters.load > 0.99
    device.clock.advance(2 * SECOND)
    assert meters.load < 0.01
