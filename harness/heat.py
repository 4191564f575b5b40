"""What heat does to a sustained run: episodes of throttling, why a run is slow, and the verdict of a row about heat."""

from __future__ import annotations

from harness.soak import Soak, SoakState
from harness.trace import Frame
from runtime.thermal import SourceReading

__all__ = ["Soak", "SoakState", "to_reading"]


def to_reading(frame: Frame) -> SourceReading:
    """A frame as the core's throttle detector takes it. What the frame lacks is ``None``.

    ``over_current_events``: the counter ``oc_events``, else the sum of ``oc1_events``, ``oc2_events`` ...
    """
    values = frame.values
    counters = [value for name, value in values.items() if name.startswith("oc") and name.endswith("_events")]
    events = values.get("oc_events", sum(counters) if counters else None)
    return SourceReading(
        cpu_temp_c=values.get("cpu_temp_c"),
        gpu_temp_c=values.get("gpu_temp_c", values.get("tj_temp_c")),
        clock_mhz=values.get("gpu_clock_mhz"),
        clock_cap_mhz=values.get("gpu_cap_mhz"),
        load_percent=values.get("gpu_load_percent"),
        throttle_alerts=frame.alerts,
        over_current_events=None if events is None else int(events),
    )
