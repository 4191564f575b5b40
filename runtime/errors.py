"""The one family of errors that leaves the core (RT-07).

    RuntimeCoreError
    ├── ConfigError                     a value that was given is wrong; nothing was started
    ├── RuntimeNotAvailableError        a build flag is off, or a library is missing
    ├── BootstrapError                  the flight binary cannot be composed
    ├── EngineBuildError                compile_engine failed
    │   └── CalibrationCacheError       an INT8 cache or its sidecars cannot be trusted
    ├── EngineDeserializeError          an engine was refused or could not be loaded
    │   ├── EngineSchemaMismatchError   its name, header or manifest is for another host
    │   ├── EngineHashMismatchError     its bytes are not those of its sidecar
    │   ├── EngineSidecarMissingError   it has no sidecar or no manifest
    │   └── EngineSignatureError        it is not signed by the trust root
    ├── InferenceError                  one call failed; the runtime is as it was
    │   └── DeviceLostError             a sticky device error: restart the process
    ├── OutOfMemoryError                a budget or the device refused
    ├── BackPressureError               a full queue
    └── TelemetryUnavailableError       a sensor is not there (stays inside the telemetry)

A third party's exception is re-raised as one of these, with ``__cause__`` kept.
"""

from __future__ import annotations

__all__ = [
    "BackPressureError",
    "BootstrapError",
    "CalibrationCacheError",
    "ConfigError",
    "DeviceLostError",
    "EngineBuildError",
    "EngineDeserializeError",
    "EngineHashMismatchError",
    "EngineSchemaMismatchError",
    "EngineSidecarMissingError",
    "EngineSignatureError",
    "InferenceError",
    "OutOfMemoryError",
    "RuntimeCoreError",
    "RuntimeNotAvailableError",
    "TelemetryUnavailableError",
]


class RuntimeCoreError(Exception):
    """What happened, and in ``remedy`` what to do next (may be empty)."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class ConfigError(RuntimeCoreError):
    """A value that was given is wrong; nothing was started."""


class RuntimeNotAvailableError(RuntimeCoreError):
    """The strategy's build flag is off, or its library is missing."""


class BootstrapError(RuntimeCoreError):
    """The flight binary cannot be composed from this configuration."""


class EngineBuildError(RuntimeCoreError):
    """``compile_engine`` failed; no file was left behind."""


class CalibrationCacheError(EngineBuildError):
    """An INT8 calibration cache or one of its sidecars cannot be trusted; nothing was overwritten."""


class EngineDeserializeError(RuntimeCoreError):
    """An engine was refused, or could not be loaded; nothing is resident."""


class EngineSchemaMismatchError(EngineDeserializeError):
    """The engine's name, header or manifest is for another host or another runtime."""


class EngineHashMismatchError(EngineDeserializeError):
    """The engine's bytes are not those that its sidecar was written for."""


class EngineSidecarMissingError(EngineDeserializeError):
    """The engine has no ``.sha256`` sidecar, or no manifest."""


class EngineSignatureError(EngineDeserializeError):
    """The engine is unsigned, or signed by a key outside the trust root."""


class InferenceError(RuntimeCoreError):
    """One call failed; the runtime is as it was before the call."""


class DeviceLostError(InferenceError):
    """A sticky device error: every later call fails too. Restart the process."""


class OutOfMemoryError(RuntimeCoreError):
    """A memory budget, the device or the library refused an allocation."""


class BackPressureError(RuntimeCoreError):
    """The queue is full; the request was not accepted."""


class TelemetryUnavailableError(RuntimeCoreError):
    """A telemetry source cannot be read. Raised by sources; never leaves ``thermal_state()``."""
