"""What a board's instruments said while something ran: frames in order of time. Pure data; ``harness.telemetry`` reads boards.

A value that no instrument gives is absent, with its reason in ``missing``, and never zero.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from runtime.protocol import Array

__all__ = ["Frame", "Trace"]


@dataclass(frozen=True)
class Frame:
    """One reading of all instruments. ``at_ns``: on the clock of the samples, from the origin of the launch.

    ``values``: by name, each ending in its unit: ``gpu_temp_c``, ``cpu_temp_c``, ``tj_temp_c``, ``soc_temp_c``;
    ``gpu_clock_mhz``, ``gpu_cap_mhz``, ``gpu_load_percent``; ``cpu_clock_mhz``; ``emc_clock_mhz``, ``emc_cap_mhz``;
    ``fan_rpm``, ``fan_pwm``; ``power_w`` (the module's total) and ``power_w.<RAIL>``; ``energy_j`` (a counter);
    ``oc_events`` (a counter; also ``oc1_events`` ...); ``available_bytes`` (MemAvailable), ``nvmap_bytes``,
    ``gpu_used_bytes``, ``pss_bytes``; any other as ``temp_c.<zone>``.
    ``alerts``: throttle alerts that are raised now. ``missing``: name to reason.
    """

    at_ns: int
    values: Mapping[str, float] = field(default_factory=dict)
    alerts: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


class Trace:
    """Frames in order of time. ``add`` refuses one that goes back: ``ValueError``."""

    def __init__(self, frames: Sequence[Frame] = ()) -> None:
        self.frames: list[Frame] = []
        for frame in frames:
            self.add(frame)

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def add(self, frame: Frame) -> None:
        if self.frames and frame.at_ns < self.frames[-1].at_ns:
            raise ValueError(f"a frame at {frame.at_ns} ns comes after one at {self.frames[-1].at_ns} ns")
        self.frames.append(frame)

    def names(self) -> list[str]:
        """Of the values that any frame has, sorted."""
        return sorted({name for frame in self.frames for name in frame.values})

    def series(self, name: str) -> tuple[Array, Array]:
        """(times in ns, int64 [n]; values, float64 [n]) of the frames that have the value."""
        having = [frame for frame in self.frames if name in frame.values]
        times = np.array([frame.at_ns for frame in having], np.int64)
        return times, np.array([frame.values[name] for frame in having], np.float64)

    def at(self, ns: int) -> Frame | None:
        """The last frame at or before ``ns``."""
        place = bisect_right(self.frames, ns, key=lambda frame: frame.at_ns)
        return self.frames[place - 1] if place else None
