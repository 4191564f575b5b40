"""Where thermal figures come from (TH-02), and which of these places a host has."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.errors import ConfigError, TelemetryUnavailableError
from runtime.thermal import ThermalSource
from runtime.thermal_sources.jtop import JtopSource, load_jtop
from runtime.thermal_sources.nvml import NvmlSource, load_nvml
from runtime.thermal_sources.sysfs import SysfsSource
from runtime.thermal_sources.trace import TraceSource

__all__ = ["SOURCES", "JtopSource", "NvmlSource", "SysfsSource", "TraceSource", "choose_source"]

SOURCES = ("auto", "sysfs", "nvml", "jtop", "trace")
"""What a configuration may name."""


def choose_source(
    root: Path = Path("/"),
    *,
    name: str = "auto",
    trace: Path | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
    jtop: Callable[[], Any] = load_jtop,
    nvml: Callable[[], Any] = load_nvml,
) -> ThermalSource:
    """The source that ``name`` asks for, unasked whether it answers; for ``auto`` the first that gives a reading.

    ``auto`` goes by what needs least: sysfs (no library), NVML (a driver's library), jtop (a service). ``trace``: the
    file of the source ``trace``, which ``auto`` never takes. Raises ``TelemetryUnavailableError`` with what each said,
    and ``ConfigError`` for a name or a trace that is wrong.
    """
    if name not in SOURCES:
        raise ConfigError(f"the telemetry source is {name!r}; expected one of {', '.join(SOURCES)}.")
    if name == "trace":
        if trace is None:
            raise ConfigError("the telemetry source is 'trace', and no trace was named.", remedy="Name its file.")
        return TraceSource(trace, clock=clock)
    live: dict[str, ThermalSource] = {
        "sysfs": SysfsSource(root),
        "nvml": NvmlSource(load=nvml),
        "jtop": JtopSource(load=jtop),
    }
    if name != "auto":
        return live[name]
    reasons = []
    for label, source in live.items():
        try:
            source.read()
        except TelemetryUnavailableError as error:
            reasons.append(f"{label}: {error.message}")
        else:
            return source
    raise TelemetryUnavailableError(f"no telemetry source answers. {' '.join(reasons)}")
