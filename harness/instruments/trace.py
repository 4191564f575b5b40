"""What a board's instruments said while something ran: frames in order of time. Pure data; ``telemetry`` reads boards.

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
        self._frames: list[Frame] = []
        self._stored: _Stored | None = None
        self._kept: _Kept | _Stored = _Kept([])
        for frame in frames:
            self.add(frame)

    def __len__(self) -> int:
        return len(self._stored.times) if self._stored is not None else len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def add(self, frame: Frame) -> None:
        if self.frames and frame.at_ns < self.frames[-1].at_ns:
            raise ValueError(f"a frame at {frame.at_ns} ns comes after one at {self.frames[-1].at_ns} ns")
        self.frames.append(frame)

    @classmethod
    def of_columns(
        cls,
        times_ns: Array,
        values: Mapping[str, Array],
        alerts: Mapping[int, tuple[str, ...]],
        missing: Mapping[int, Mapping[str, str]],
    ) -> Trace:
        """A trace out of a file: int64 [n], float64 [n] by name (NaN: absent), and by place where there are any. Its frames are
        made when one is asked for. Raises ``ValueError`` for time that goes back.
        """
        back = np.flatnonzero(np.diff(times_ns) < 0)
        if back.size:
            at = int(back[0])
            raise ValueError(f"a frame at {times_ns[at + 1]} ns comes after one at {times_ns[at]} ns")
        trace = cls()
        trace._stored = _Stored(times_ns, values, alerts, missing)
        trace._kept = trace._stored
        return trace

    @property
    def frames(self) -> list[Frame]:
        if self._stored is not None:
            self._frames, self._stored = list(self._stored.rows()), None
        return self._frames

    def alerted(self) -> Array:
        """Whether an alert is raised in each frame: bool [n]."""
        if self._stored is not None:
            return self._stored.alerted()
        return np.array([bool(frame.alerts) for frame in self.frames], bool)

    def frame(self, at: int) -> Frame:
        """One of them, by its place."""
        return self._stored.frame(at) if self._stored is not None else self.frames[at]

    def why_missing(self, name: str) -> str | None:
        """The first reason that a frame gives for the absence of a value."""
        if self._stored is not None:
            absences: Iterator[Mapping[str, str]] = iter(self._stored.missing.values())
        else:
            absences = (frame.missing for frame in self.frames)
        return next((absent[name] for absent in absences if name in absent), None)

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

    def _now(self) -> _Kept | _Stored:
        if self._stored is not None:
            return self._stored
        if len(self._kept) != len(self.frames):
            self._kept = _Kept(self.frames[:])  # another thread may add meanwhile
        return self._kept


class _Kept:
    """Columns of the frames that there were, made when they are first asked for."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self._columns: dict[str, Array] = {}

    def __len__(self) -> int:
        return len(self.frames)

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


class _Stored:
    """Frames that lie in columns, as ``Trace.of_columns`` takes them."""

    def __init__(
        self,
        times: Array,
        values: Mapping[str, Array],
        alerts: Mapping[int, tuple[str, ...]],
        missing: Mapping[int, Mapping[str, str]],
    ) -> None:
        self.times, self.alerts, self.missing = times, alerts, missing
        self._columns = {
            name: column
            for name, column in values.items()
            if not (np.isnan(column[:1]).all() and np.isnan(column).all())
        }
        self.names = set(self._columns)

    def __len__(self) -> int:
        return len(self.times)

    def column(self, name: str) -> Array:
        return self._columns[name] if name in self._columns else np.full(len(self.times), np.nan)

    def alerted(self) -> Array:
        raised = np.zeros(len(self.times), bool)
        raised[[at for at, alerts in self.alerts.items() if alerts]] = True
        return raised

    def frame(self, at: int) -> Frame:
        values = {name: float(column[at]) for name, column in self._columns.items() if not np.isnan(column[at])}
        return Frame(int(self.times[at]), values, self.alerts.get(at, ()), self.missing.get(at, {}))

    def rows(self) -> Iterator[Frame]:
        columns = {name: column.tolist() for name, column in self._columns.items()}
        for at, at_ns in enumerate(self.times.tolist()):
            values = {name: column[at] for name, column in columns.items() if not math.isnan(column[at])}
            yield Frame(at_ns, values, self.alerts.get(at, ()), self.missing.get(at, {}))
