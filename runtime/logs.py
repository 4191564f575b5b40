"""Structured events (LO-01, LO-02): one JSON line each on standard error, and typed records for a flight recorder.

Standard output is for results; inputs and outputs of a model are never logged.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, TextIO

from runtime.errors import ConfigError

__all__ = ["SCHEMA_VERSION", "EventLog", "Kind", "Level", "Record"]

SCHEMA_VERSION = 1
"""Of ``Record``. 1: kind, level, time_ns, fields."""


class Level(str, Enum):
    """ERROR and WARN go to the flight recorder too."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class Kind(str, Enum):
    """Every kind of event that the core can report."""

    READY = "c7.ready"
    ENGINE_BUILT = "c7.engine_built"
    ENGINE_LOADED = "c7.engine_loaded"
    ENGINE_RELEASED = "c7.engine_released"
    ENGINE_REFUSED = "c7.engine_refused"
    PROVIDER_ACTIVE = "c7.provider_active"
    CALIBRATION_REBUILT = "c7.calibration_rebuilt"
    FRAME = "c7.frame"
    BUILD_FAILED = "c7.build_failed"
    BUILD_REMARK = "c7.build_remark"
    PRECISION_DIFFERS = "c7.precision_differs"
    DESERIALIZE_FAILED = "c7.deserialize_failed"
    INFERENCE_FAILED = "c7.inference_failed"
    OUT_OF_MEMORY = "c7.out_of_memory"
    CALIBRATION_FAILED = "c7.calibration_failed"
    RELEASE_FAILED = "c7.release_failed"
    CPU_FALLBACK = "c7.cpu_fallback"
    FALLBACK_TO_ONNX_TRT_EP = "c7.fallback_to_onnx_trt_ep"
    PLATFORM_UNKNOWN = "c7.platform_unknown"
    BUDGET_BY_PREDICTION = "c7.budget_by_prediction"
    THROTTLE_ENTERED = "c7.throttle_entered"
    THROTTLE_LEFT = "c7.throttle_left"
    TELEMETRY_LOST = "c7.telemetry_lost"
    TELEMETRY_BACK = "c7.telemetry_back"
    CALLBACK_FAILED = "c7.callback_failed"


@dataclass(frozen=True)
class Record:
    """One event as the flight recorder gets it. ``time_ns``: wall clock. Round-trips through JSON."""

    kind: Kind
    level: Level
    time_ns: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    def to_json(self) -> str:
        values = {"schema": self.schema, "kind": self.kind.value, "level": self.level.value, "time_ns": self.time_ns}
        return json.dumps({**values, "fields": dict(self.fields)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The inverse of ``to_json``. Raises ``ConfigError`` for a newer schema or a malformed record."""
        try:
            values = json.loads(text)
            schema = values["schema"]
            if schema != SCHEMA_VERSION:
                raise ConfigError(f"the record has schema {schema}; this core reads {SCHEMA_VERSION}.")
            return cls(Kind(values["kind"]), Level(values["level"]), int(values["time_ns"]), dict(values["fields"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a flight-recorder record: {error!r}.") from error


class EventLog:
    """Writes events. ``on_record`` gets ERROR, WARN and thermal transitions; ``on_alert`` gets alerts by kind.

    A callback that raises is reported once on the stream and never stops the caller.
    """

    _THERMAL = frozenset({Kind.THROTTLE_ENTERED, Kind.THROTTLE_LEFT, Kind.TELEMETRY_LOST, Kind.TELEMETRY_BACK})

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        on_record: Callable[[Record], None] | None = None,
        on_alert: Callable[[Record], None] | None = None,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._stream = stream
        self._on_record = on_record
        self._on_alert = on_alert
        self._wall_clock_ns = wall_clock_ns
        self._callback_failed = False

    def emit(self, level: Level, kind: Kind, **values: Any) -> Record:
        """Write one line, and hand the record on where it is due. ``values`` must be JSON values."""
        record = Record(kind, level, self._wall_clock_ns(), values)
        self._write({"kind": kind.value, "level": level.value, "time_ns": record.time_ns, **values})
        if level in (Level.ERROR, Level.WARN) or kind in self._THERMAL:
            self._call(self._on_record, record)
        return record

    def alert(self, level: Level, kind: Kind, **values: Any) -> Record:
        """``emit``, and tell the operator: for what a person must see before or in flight."""
        record = self.emit(level, kind, **values)
        self._call(self._on_alert, record)
        return record

    def debug(self, kind: Kind, **values: Any) -> None:
        self.emit(Level.DEBUG, kind, **values)

    def info(self, kind: Kind, **values: Any) -> None:
        self.emit(Level.INFO, kind, **values)

    def warn(self, kind: Kind, **values: Any) -> None:
        self.emit(Level.WARN, kind, **values)

    def error(self, kind: Kind, **values: Any) -> None:
        self.emit(Level.ERROR, kind, **values)

    def _write(self, line: Mapping[str, Any]) -> None:
        stream = self._stream if self._stream is not None else sys.stderr
        try:
            stream.write(json.dumps(line, default=str) + "\n")
        except (OSError, ValueError):
            return  # a closed or full log must not stop a flight

    def _call(self, callback: Callable[[Record], None] | None, record: Record) -> None:
        if callback is None:
            return
        try:
            callback(record)
        except Exception as error:
            if not self._callback_failed:
                self._callback_failed = True
                self._write({"kind": Kind.CALLBACK_FAILED.value, "level": Level.WARN.value, "error": repr(error)})
