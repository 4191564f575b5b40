"""Heat of a simulated board: power to temperature to clock, with the trip points of an Orin."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ORIN_NX", "Board", "ThermalModel"]

_STEP_S = 0.1


@dataclass(frozen=True)
class Board:
    """``clocks_mhz`` rise. ``busy_w``: at the highest clock and full load. ``kelvin_per_w``: what one watt ends in.

    At ``passive_c`` the governor takes one clock after another away, and gives them back ``hysteresis_c`` below it; at
    ``critical_c`` the board switches itself off.
    """

    clocks_mhz: tuple[int, ...]
    idle_w: float
    busy_w: float
    kelvin_per_w: float
    seconds_to_settle: float
    passive_c: float
    critical_c: float
    hysteresis_c: float


ORIN_NX = Board(
    clocks_mhz=(306, 408, 510, 612, 714, 816, 918),
    idle_w=5.0,
    busy_w=25.0,
    kelvin_per_w=2.2,
    seconds_to_settle=60.0,
    passive_c=99.0,
    critical_c=104.5,
    hysteresis_c=1.0,
)
"""Trip points as in the device tree of the Orin family; the other figures are plausible, not measured."""


class ThermalModel:
    """One temperature, one clock. With the default board and 25 °C around it full load settles at 80 °C; with 50 °C
    around it the clock has to give way.
    """

    def __init__(self, board: Board = ORIN_NX, *, ambient_c: float = 25.0, temperature_c: float | None = None) -> None:
        self.board = board
        self.ambient_c = ambient_c
        self.temperature_c = ambient_c + board.idle_w * board.kelvin_per_w if temperature_c is None else temperature_c
        self.power_w = board.idle_w
        self.load = 0.0
        self.throttled_s = 0.0
        self.is_shut_down = False
        self._level = len(board.clocks_mhz) - 1
        self._until_governor_s = _STEP_S

    @property
    def clock_mhz(self) -> int:
        """The clock now."""
        return self.board.clocks_mhz[self._level]

    @property
    def max_clock_mhz(self) -> int:
        """The clock of a cool board."""
        return self.board.clocks_mhz[-1]

    @property
    def is_throttled(self) -> bool:
        """Whether heat has taken clocks away."""
        return self._level < len(self.board.clocks_mhz) - 1

    def step(self, seconds: float, load: float) -> None:
        """Let time pass with the GPU busy for ``load`` (0 to 1) of it."""
        self.load = min(1.0, max(0.0, load))
        while seconds > 0 and not self.is_shut_down:
            slice_s = min(seconds, self._until_governor_s)
            self._warm(slice_s)
            seconds -= slice_s
            self._until_governor_s -= slice_s
            if self._until_governor_s <= 1e-12:
                self._until_governor_s = _STEP_S
                self._govern()

    def _warm(self, seconds: float) -> None:
        board = self.board
        speed = self.clock_mhz / self.max_clock_mhz
        self.power_w = board.idle_w + (board.busy_w - board.idle_w) * self.load * speed**3  # voltage falls with it
        settled_c = self.ambient_c + self.power_w * board.kelvin_per_w
        self.temperature_c += (settled_c - self.temperature_c) * -math.expm1(-seconds / board.seconds_to_settle)
        if self.is_throttled:
            self.throttled_s += seconds
        if self.temperature_c >= board.critical_c:
            self.is_shut_down = True

    def _govern(self) -> None:
        if self.temperature_c >= self.board.passive_c:
            self._level = max(0, self._level - 1)
        elif self.temperature_c < self.board.passive_c - self.board.hysteresis_c and self.is_throttled:
            self._level += 1
