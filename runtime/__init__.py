"""The core that flies: one ``InferenceRuntime`` protocol, three strategies, trust in files, memory, heat.

``__all__`` is the public API (FA-01). Importing it loads numpy at most; what a consumer may never need (the factory,
the engine gate, telemetry) is imported on the first use of its name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runtime.config import BUILD_FLAGS, RuntimeConfig
from runtime.data import (
    BuildConfig,
    EngineCacheEntry,
    EngineDescription,
    EngineHandle,
    EngineLayer,
    Profile,
    TensorSpec,
    ThermalState,
)
from runtime.errors import (
    BackPressureError,
    BootstrapError,
    CalibrationCacheError,
    ConfigError,
    DeviceLostError,
    EngineBuildError,
    EngineDeserializeError,
    EngineHashMismatchError,
    EngineSchemaMismatchError,
    EngineSidecarMissingError,
    EngineSignatureError,
    InferenceError,
    OutOfMemoryError,
    RuntimeCoreError,
    RuntimeNotAvailableError,
    TelemetryUnavailableError,
)
from runtime.protocol import LABELS, Array, Describes, InferenceRuntime, Splits

if TYPE_CHECKING:
    from runtime.architectures import (
        ArchitectureFactory,
        ArchitectureRegistry,
        default_registry,
        register_architecture,
    )
    from runtime.bootstrap import Consumer, FlightConfig, bootstrap_airborne
    from runtime.factory import build_inference_runtime
    from runtime.gate import EngineGate, VerifiedEngine
    from runtime.logs import Kind, Level, Record
    from runtime.model_file import model_sha256
    from runtime.platform import HostTuple, detect_host
    from runtime.requests import InferenceRequest, InferenceResponse, serve
    from runtime.sidecar import (
        Manifest,
        publish_engine,
        read_manifest,
        read_sidecar,
        write_manifest,
        write_sidecar,
    )
    from runtime.thermal import SourceReading, ThermalSource, ThermalStatePublisher
    from runtime.thermal_sources import JtopSource, NvmlSource, SysfsSource, TraceSource, choose_source

__all__ = [
    "BUILD_FLAGS",
    "LABELS",
    "ArchitectureFactory",
    "ArchitectureRegistry",
    "Array",
    "BackPressureError",
    "BootstrapError",
    "BuildConfig",
    "CalibrationCacheError",
    "ConfigError",
    "Consumer",
    "Describes",
    "DeviceLostError",
    "EngineBuildError",
    "EngineCacheEntry",
    "EngineDescription",
    "EngineDeserializeError",
    "EngineGate",
    "EngineHandle",
    "EngineHashMismatchError",
    "EngineLayer",
    "EngineSchemaMismatchError",
    "EngineSidecarMissingError",
    "EngineSignatureError",
    "FlightConfig",
    "HostTuple",
    "InferenceError",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceRuntime",
    "JtopSource",
    "Kind",
    "Level",
    "Manifest",
    "NvmlSource",
    "OutOfMemoryError",
    "Profile",
    "Record",
    "RuntimeConfig",
    "RuntimeCoreError",
    "RuntimeNotAvailableError",
    "SourceReading",
    "Splits",
    "SysfsSource",
    "TelemetryUnavailableError",
    "TensorSpec",
    "ThermalSource",
    "ThermalState",
    "ThermalStatePublisher",
    "TraceSource",
    "VerifiedEngine",
    "bootstrap_airborne",
    "build_inference_runtime",
    "choose_source",
    "default_registry",
    "detect_host",
    "model_sha256",
    "publish_engine",
    "read_manifest",
    "read_sidecar",
    "register_architecture",
    "serve",
    "write_manifest",
    "write_sidecar",
]

_ON_FIRST_USE = {
    "architectures": ("ArchitectureFactory", "ArchitectureRegistry", "default_registry", "register_architecture"),
    "bootstrap": ("Consumer", "FlightConfig", "bootstrap_airborne"),
    "factory": ("build_inference_runtime",),
    "gate": ("EngineGate", "VerifiedEngine"),
    "logs": ("Kind", "Level", "Record"),
    "model_file": ("model_sha256",),
    "platform": ("HostTuple", "detect_host"),
    "requests": ("InferenceRequest", "InferenceResponse", "serve"),
    "sidecar": ("Manifest", "publish_engine", "read_manifest", "read_sidecar", "write_manifest", "write_sidecar"),
    "thermal": ("SourceReading", "ThermalSource", "ThermalStatePublisher"),
    "thermal_sources": ("JtopSource", "NvmlSource", "SysfsSource", "TraceSource", "choose_source"),
}
_MODULE_OF = {name: f"runtime.{module}" for module, names in _ON_FIRST_USE.items() for name in names}


def __getattr__(name: str) -> Any:
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
