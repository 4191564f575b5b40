"""What a board's instruments said while something ran: frames in order of time. Pure data; ``harness.telemetry`` reads boards.

A value that no instrument gives is absent, with its reason in ``missing``, and never zero.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from runtime.protocol import Array

__all__ = ["Frame", "Trace", "Values"]


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


class Values(Mapping[str, float]):
    """Figures by name in eight bytes each: an hour at 10 Hz is in the memory of the process that is measured.

    ``places``: shared by all frames that have the same names.
    """

    __slots__ = ("_numbers", "_places")

    def __init__(self, places: Mapping[str, int], numbers: array[float]) -> None:
        self._places = places
        self._numbers = numbers

    def __getitem__(self, name: str) -> float:
        return self._numbers[self._places[name]]

    def get(self, name: str, default: Any = None) -> Any:  # the mixin's, without an exception for what is absent
        at = self._places.get(name)
        return default if at is None else self._numbers[at]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return repr(dict(self))

    @staticmethod
    def table(frames: Sequence[Frame]) -> tuple[Mapping[str, int], Array] | None:
        """(column by name, float64 [n, columns]) where all frames have the same names, and share them."""
        places = getattr(frames[0].values, "_places", None) if frames else None
        if places is None or any(getattr(frame.values, "_places", None) is not places for frame in frames):
            return None
        numbers = b"".join([frame.values._numbers for frame in frames])  # type: ignore[attr-defined]
        return places, np.frombuffer(numbers, np.float64).reshape(len(frames), -1)


class Trace:
    """Frames in order of time. ``add`` refuses one that goes back: ``ValueError``.

    What is asked of all frames at once is kept until another is added. Arrays are not to be written to.
    """

    def __init__(self, frames: Sequence[Frame] = ()) -> None:
        self.frames: list[Frame] = []
        self._kept = _Kept([])
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
        return sorted(self._now().names)

    def times(self) -> Array:
        """In ns, int64 [n], of all frames."""
        return self._now().times

    def column(self, name: str) -> Array:
        """The value in each frame, float64 [n]; NaN where it is absent."""
        return self._now().column(name)

    def series(self, name: str) -> tuple[Array, Array]:
        """(times in ns, int64 [n]; values, float64 [n]) of the frames that have the value."""
        kept = self._now()
        values = kept.column(name)
        having = ~np.isnan(values)
        return (kept.times, values) if having.all() else (kept.times[having], values[having])

    def at(self, ns: int) -> Frame | None:
        """The last frame at or before ``ns``."""
        place = bisect_right(self.frames, ns, key=lambda frame: frame.at_ns)
        return self.frames[place - 1] if place else None

    def _now(self) -> _Kept:
        if len(self._kept.frames) != len(self.frames):
            self._kept = _Kept(self.frames[:])  # another thread may add meanwhile
        return self._kept


class _Kept:
    """Columns of the frames that there were, made when they are first asked for."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self._columns: dict[str, Array] = {}

    @cached_property
    def times(self) -> Array:
        return np.array([frame.at_ns for frame in self.frames], np.int64)

    @cached_property
    def names(self) -> set[str]:
        return set(self._table[0]) if self._table else set(chain.from_iterable(frame.values for frame in self.frames))

    @cached_property
    def _table(self) -> tuple[Mapping[str, int], Array] | None:
        return Values.table(self.frames)

    def column(self, name: str) -> Array:
        values = self._columns.get(name)
        if values is None:
            if self._table is not None and name in self._table[0]:
                values = self._table[1][:, self._table[0][name]]
            else:
                values = np.array([frame.values.get(name, math.nan) for frame in self.frames], np.float64)
            self._columns[name] = values
        return values
