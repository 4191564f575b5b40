"""What a board's own instruments make of a simulated device: energy that adds up, load over the last moments."""

from __future__ import annotations

import math

from harness.fakes.device import SimulatedDevice

__all__ = ["Meters"]

_WINDOW_NS = 250_000_000


class Meters:
    """Reads along as time passes. ``energy_mj``: since it was made. ``load`` (0 to 1), ``power_w``: over a quarter second."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.energy_mj = 0.0
        self.load = 0.0
        self.power_w = device.thermal.power_w
        self._thermal = device.thermal
        device.clock.listen(self._passed)

    def _passed(self, from_ns: int, to_ns: int) -> None:
        self.energy_mj += self._thermal.power_w * (to_ns - from_ns) / 1e6
        recent = -math.expm1((from_ns - to_ns) / _WINDOW_NS)
        self.load += (self._thermal.load - self.load) * recent
        self.power_w += (self._thermal.power_w - self.power_w) * recent
