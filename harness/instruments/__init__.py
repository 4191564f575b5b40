"""Where the harness's figures of a board come from: wider than what the flight reads, and one module per kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Instrument", "Reading", "plausible"]

_PLAUSIBLE = {
    "temp_c": (-55.0, 150.0),
    "clock_mhz": (10.0, 10_000.0),
    "cap_mhz": (10.0, 10_000.0),
    "load_percent": (0.0, 100.0),
    "power_w": (0.0, 5_000.0),
}
"""By the end of a name: what a working sensor can say, as in ``runtime.thermal``."""


@dataclass
class Reading:
    """What one instrument adds to a frame; names and units as in ``harness.instruments.trace.Frame``."""

    values: dict[str, float] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: float) -> None:
        """The value, or why it is none: an offline zone's -256, Kelvin, kHz for Hz, the clock 0 of a gated GPU."""
        if plausible(name, value):
            self.values[name] = value
        else:
            self.missing[name] = f"{value!r} is not plausible"


def plausible(name: str, value: float) -> bool:
    """Whether a working sensor can say so. Names that no rule knows are believed if the value is finite."""
    kind = next((ending for ending in _PLAUSIBLE if name.partition(".")[0].endswith(ending)), None)
    if kind is None:
        return abs(value) < float("inf")
    low, high = _PLAUSIBLE[kind]
    # a dead sensor says 0, and 45 degrees divided by a thousand once too often is 0.045
    return low <= value <= high and (kind != "temp_c" or abs(value) >= 1.0)


class Instrument(Protocol):
    """One source of figures; used by one thread at a time, and opened by its first ``read``."""

    label: str

    def read(self) -> Reading:
        """One reading, now. May raise anything: that costs this instrument's figures only."""
        ...

    def about(self) -> dict[str, str]:
        """What does not change or is no number, after a reading: the governor, how a total is made up."""
        ...

    def close(self) -> None:
        """Let go of everything; a later ``read`` opens it again."""
        ...
