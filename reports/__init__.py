"""From a run folder to what people and machines read. Sees ``harness.records`` and the run folder, nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.drawing import (
        FORMATS,
        USUAL,
        Report,
        doubts_of,
        load,
        load_together,
        texts,
        write,
        write_reports,
    )

__all__ = ["FORMATS", "USUAL", "Report", "doubts_of", "load", "load_together", "texts", "write", "write_reports"]


def __getattr__(name: str) -> Any:
    """Tables are imported when they are asked for: a page of the history needs none, and pandas takes half a second."""
    if name in __all__:
        return getattr(import_module("reports.drawing"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
