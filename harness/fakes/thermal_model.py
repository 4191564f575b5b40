"""Heat of a simulated board: power to temperature to clock, with the trip points of an Orin."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ORIN_NX", "Board", "ThermalModel"]

_STEP_S = 0.1


@dataclass(frozen=True)
class Board:
    """``clocks_mhz`` rise. ``busy_w``: at the highest clock and full load. ``kelvin_per_w``: what one watt ends in.

    At ``passive_c`` the governor takes one clock after another away, and gives them back ``hysteresis_c`` below it; with
    ``throttled_mhz`` the hardware goes down to that at once, and back. At ``critical_c`` the board switches itself off.
    """

    clocks_mhz: tuple[int, ...]
    idle_w: float
    busy_w: float
    kelvin_per_w: float
    seconds_to_settle: float
    passive_c: float
    critical_c: float
    hysteresis_c: float
    throttled_mhz: int | None = None


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

    May be changed at any time: ``ambient_c``; ``kelvin_per_w`` (a fan); ``cap_mhz`` (a power mode), of the board's clocks
    the highest that is not above it; ``slowed_to``, a share of the clock (over-current). ``every_tick`` is called each
    tenth of a second of the board's own time, with the highest power since the last call.
    """

    def __init__(self, board: Board = ORIN_NX, *, ambient_c: float = 25.0, temperature_c: float | None = None) -> None:
        self.board = board
        self.kelvin_per_w = board.kelvin_per_w
        self.slowed_to = 1.0
        self.every_tick: Callable[[float], None] | None = None
        self.ambient_c = ambient_c
        self.temperature_c = ambient_c + board.idle_w * board.kelvin_per_w if temperature_c is None else temperature_c
        self.power_w = board.idle_w
        self.load = 0.0
        self.throttled_s = 0.0
        self.is_shut_down = False
        self._level = self._cap = len(board.clocks_mhz) - 1
        self._until_governor_s = _STEP_S
        self._highest_w = 0.0

    @property
    def clock_mhz(self) -> int:
        """The clock now."""
        clock = self.board.clocks_mhz[min(self._level, self._cap)]
        return clock if self.slowed_to == 1.0 else max(1, round(clock * self.slowed_to))

    @property
    def cap_mhz(self) -> int:
        """The highest clock that the power mode allows."""
        return self.board.clocks_mhz[self._cap]

    @cap_mhz.setter
    def cap_mhz(self, mhz: int) -> None:
        allowed = [at for at, clock in enumerate(self.board.clocks_mhz) if clock <= mhz]
        self._cap = allowed[-1] if allowed else 0

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
        self._highest_w = max(self._highest_w, self.power_w)
        settled_c = self.ambient_c + self.power_w * self.kelvin_per_w
        self.temperature_c += (settled_c - self.temperature_c) * -math.expm1(-seconds / board.seconds_to_settle)
        if self.is_throttled:
            self.throttled_s += seconds
        if self.temperature_c >= board.critical_c:
            self.is_shut_down = True

    def _govern(self) -> None:
        board, top = self.board, len(self.board.clocks_mhz) - 1
        if self.temperature_c >= board.passive_c:
            down = max(0, self._level - 1)
            self._level = down if board.throttled_mhz is None else board.clocks_mhz.index(board.throttled_mhz)
        elif self.temperature_c < board.passive_c - board.hysteresis_c and self.is_throttled:
            self._level = self._level + 1 if board.throttled_mhz is None else top
        if self.every_tick is not None:
            self.every_tick(self._highest_w)
        self._highest_w = 0.0
