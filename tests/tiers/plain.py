"""A third party's runtime, as one would write it: it knows one model, and computes it with numpy."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

from fixtures import conformance
from runtime import (
    BuildConfig,
    EngineBuildError,
    EngineCacheEntry,
    EngineDescription,
    EngineDeserializeError,
    EngineHandle,
    EngineHashMismatchError,
    OutOfMemoryError,
    RuntimeConfig,
    ThermalState,
)
from runtime.protocol import Array
from runtime.strategies.common import InputChecker, ResidentHandles, check_out, fill, owned

KNOWN = hashlib.sha256((Path(conformance.__file__).parent / "model.onnx").read_bytes()).hexdigest()


class PlainRuntime:
    """Built as ``Class(config)``, like every third party's runtime."""

    def __init__(self, config: RuntimeConfig) -> None:
        self._budget = config.host_memory_budget_bytes
        self._handles = ResidentHandles()

    @property
    def resident_bytes(self) -> int:
        return self._handles.resident_bytes

    def current_runtime_label(self) -> str:
        return "pytorch_fp16"

    def thermal_state(self) -> ThermalState:
        return ThermalState.unknown(time.monotonic_ns())

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        if build_config.precision == "int8":
            raise EngineBuildError("there is no int8 here.")
        try:
            found = hashlib.sha256(model_path.read_bytes()).hexdigest()
        except OSError as error:
            raise EngineBuildError(f"{model_path} cannot be read: {error.strerror}.") from error
        if found != KNOWN:
            raise EngineBuildError(f"{model_path.name} is not the one model that this runtime knows.")
        return EngineCacheEntry(model_path, found, "none", "none", "none", build_config.precision)

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        try:
            data = entry.engine_path.read_bytes()
        except OSError as error:
            raise EngineDeserializeError(f"{entry.engine_path} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(data).hexdigest() != entry.sha256 or entry.sha256 != KNOWN:
            raise EngineHashMismatchError(f"{entry.engine_path.name} is not what its entry says.")
        if self.resident_bytes + len(data) > self._budget:
            raise OutOfMemoryError(f"{len(data)} bytes are over the budget of {self._budget}.")
        handle = EngineHandle(self, entry, InputChecker(conformance.INPUTS, conformance.PROFILES))
        self._handles.add(handle, len(data))
        return handle

    def infer(
        self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        owned(handle, self).check(inputs)
        check_out(conformance.OUTPUTS, out or {}, inputs)
        return fill(out or {}, conformance.expected(dict(inputs)))

    def release_engine(self, handle: EngineHandle) -> None:
        if isinstance(handle, EngineHandle) and handle.owner is self:
            handle.resources = None
            self._handles.remove(handle)

    def describe(self, handle: EngineHandle) -> EngineDescription:
        owned(handle, self)
        resident = self.resident_bytes
        return EngineDescription(conformance.INPUTS, conformance.OUTPUTS, "cpu", {}, "fp32", {}, 0, resident)
