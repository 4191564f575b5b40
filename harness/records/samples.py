"""How ``samples/<case id>.parquet`` counts what a request was sent for and what became of it."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Phase", "Status"]


class Phase(IntEnum):
    """What a request was sent for. Only ``MEASURE`` is judged; all are stored."""

    WARMUP = 0
    SOAK = 1
    MEASURE = 2


class Status(IntEnum):
    """What became of it. All but ``OK`` exceed any budget."""

    OK = 0
    FAILED = 1
    DROPPED = 2
