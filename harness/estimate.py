"""What a run will cost before it is started: rows, hours and disk, from its profile alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.config import ModelConfig
from harness.profiles import Profile
from harness.records import ABOUT_A_FLIGHT, Case

__all__ = ["Cost", "cost_of", "cost_of_row"]

_START_S = 5.0
"""Of one process: imports and loading, on a workstation with small models. A board's engines take longer."""
_SAMPLE_BYTES = 40
"""Of one request in Parquet, and ``_FRAME_BYTES`` of one frame of telemetry; measured on runs of this project."""
_FRAME_BYTES = 120
_CLOSED_LOOP_HZ = 50.0
"""Taken for models that nobody gave a rate."""
_OTHER_ROW_S = 20.0
"""Of a row of Tier-0 or Tier-1."""


@dataclass(frozen=True)
class Cost:
    """``least_s``: if every row decides at its first look; ``most_s``: if none does. ``disk_bytes``: at most."""

    rows: int
    least_s: float
    most_s: float
    disk_bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.rows + other.rows,
            self.least_s + other.least_s,
            self.most_s + other.most_s,
            self.disk_bytes + other.disk_bytes,
        )

    def to_text(self) -> str:
        """As ``12 rows, 1.5 to 14 hours, at most 240 MB``."""
        return f"{self.rows} rows, {_span(self.least_s, self.most_s)}, at most {_size(self.disk_bytes)} on disk"


def cost_of(cases: Sequence[Case], profile: Profile, models: Mapping[str, ModelConfig]) -> Cost:
    """Of all rows that can run."""
    total = Cost(0, 0.0, 0.0, 0)
    for case in cases:
        if not case.not_run:
            total += cost_of_row(case, profile, models)
    return total


def cost_of_row(case: Case, profile: Profile, models: Mapping[str, ModelConfig]) -> Cost:
    """Of one row."""
    if case.tier != 2:
        return Cost(1, 1.0, _OTHER_ROW_S, 0)
    if case.kind == "load":
        return Cost(1, profile.load_rounds * 1.0, profile.load_rounds * _START_S, 0)
    if case.kind in ("memory", "takeoff"):
        return Cost(1, _START_S, 12 * _START_S, 0)
    if case.kind == "harness":
        return Cost(1, _START_S, 4 * _START_S, 0)
    soak = profile.soak
    soak_least, soak_most = (soak.least_s, soak.most_s) if soak else (0.0, 0.0)
    if case.kind == "heat":
        least, most = profile.sustained_s + soak_least, profile.sustained_s + soak_most
        return Cost(1, least, most, _disk(_rate(case, models), most, profile))
    least = profile.launches * (_START_S + profile.least_s) + soak_least
    most = profile.launches * (_START_S + profile.most_s + (soak.window_s if soak else 0.0)) + soak_most
    return Cost(1, least, most, _disk(_rate(case, models), most, profile))


def _rate(case: Case, models: Mapping[str, ModelConfig]) -> float:
    asked = models.values() if case.kind in ABOUT_A_FLIGHT else [models[case.model]]
    rates = [model.load.rate_hz for model in asked if model.load]
    return sum(rates) or _CLOSED_LOOP_HZ


def _disk(rate_hz: float, seconds: float, profile: Profile) -> int:
    return int(seconds * (rate_hz * _SAMPLE_BYTES + profile.telemetry_hz * _FRAME_BYTES))


def _span(least_s: float, most_s: float) -> str:
    if most_s < 5400:
        return f"{max(1.0, least_s / 60):.0f} to {max(1.0, most_s / 60):.0f} minutes"
    return f"{least_s / 3600:.1f} to {most_s / 3600:.1f} hours"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
