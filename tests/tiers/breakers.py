"""Third-party runtimes that wrap one of ours and break one clause each: what the contract must find."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from runtime import (
    BuildConfig,
    EngineCacheEntry,
    EngineDescription,
    EngineHandle,
    InferenceError,
    InferenceRuntime,
    RuntimeConfig,
    RuntimeCoreError,
    ThermalState,
)
from runtime.protocol import Array
from tests.tiers.plain import PlainRuntime

BREAKERS: list[type[Wrapper]] = []
LET_GO = threading.Event()
"""Set when the tests are over: what hangs ends."""

Feed = Mapping[str, Array]


def ours(config: RuntimeConfig) -> Any:
    """The ORT runtime; the plain one where there is no ONNX Runtime."""
    if find_spec("onnxruntime") is None:
        return PlainRuntime(config)
    from runtime.strategies.ort import OnnxTrtEpRuntime

    return OnnxTrtEpRuntime(config)


class Wrapper:
    """Hands everything on, and breaks nothing."""

    breaks: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        BREAKERS.append(cls)

    def __init__(self, config: RuntimeConfig, base: Any = ours) -> None:
        self.config = config
        self.base = base
        self.inner = base(config)

    @property
    def resident_bytes(self) -> int:
        return int(self.inner.resident_bytes)

    def current_runtime_label(self) -> str:
        return str(self.inner.current_runtime_label())

    def thermal_state(self) -> ThermalState:
        state: ThermalState = self.inner.thermal_state()
        return state

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        entry: EngineCacheEntry = self.inner.compile_engine(model_path, build_config)
        return entry

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        handle: EngineHandle = self.inner.deserialize_engine(entry)
        return handle

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        outputs: dict[str, Array] = self.inner.infer(handle, inputs, out=out)
        return outputs

    def release_engine(self, handle: EngineHandle) -> None:
        self.inner.release_engine(handle)

    def describe(self, handle: EngineHandle) -> EngineDescription:
        description: EngineDescription = self.inner.describe(handle)
        return description


class ChangesItsLabel(Wrapper):
    breaks = "C-01"

    def current_runtime_label(self) -> str:
        return f"{super().current_runtime_label()}[cpu]"


class LacksAMethod(Wrapper):
    breaks = "C-01"
    thermal_state = None  # type: ignore[assignment] # that is the break


class NotesAnotherHash(Wrapper):
    breaks = "C-02"

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        entry = super().compile_engine(model_path, build_config)
        return replace(entry, sha256="a" * 64, extras={**entry.extras, "real": entry.sha256})

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        return super().deserialize_engine(replace(entry, sha256=entry.extras["real"]))


class KnowsOnlyItsOwnEntries(Wrapper):
    breaks = "C-03"

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        self.mine = super().compile_engine(model_path, build_config)
        return self.mine

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        if entry is not getattr(self, "mine", None):
            raise InferenceError("this entry was not compiled here.")
        return super().deserialize_engine(entry)


class MarksTheModel(Wrapper):
    breaks = "C-04"

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        entry = super().compile_engine(model_path, build_config)
        copy = model_path.with_name(f"copy{len(list(model_path.parent.iterdir()))}{model_path.suffix}")
        copy.write_bytes(model_path.read_bytes())
        extras = {**entry.extras, "model_name": entry.engine_path.stem}
        return replace(entry, engine_path=copy, extras=extras)


class GivesDoubles(Wrapper):
    breaks = "C-05"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        return {name: array.astype(np.float64) for name, array in super().infer(handle, inputs, out=out).items()}


class RenamesAnOutput(Wrapper):
    breaks = "C-05"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        outputs = super().infer(handle, inputs, out=out)
        outputs["Code:0"] = outputs.pop("code")
        return outputs


class IsOneFrameLate(Wrapper):
    breaks = "C-06"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        late, self.late = getattr(self, "late", None), {name: np.array(array) for name, array in inputs.items()}
        same = late is not None and all(late[name].shape == inputs[name].shape for name in inputs)
        return super().infer(handle, late if late is not None and same else inputs, out=out)


class IsNoisy(Wrapper):
    breaks = "C-07"
    noise = 0.0

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        outputs = super().infer(handle, inputs, out=out)
        self.noise += 1e-6
        outputs["scores"] += np.float32(self.noise)
        return outputs


class ChangesItsInputs(Wrapper):
    breaks = "C-08"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        outputs = super().infer(handle, inputs, out=out)
        np.negative(inputs["points"], out=inputs["points"])
        return outputs


class ReturnsItsBuffers(Wrapper):
    breaks = "C-09"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        outputs = super().infer(handle, inputs, out=out)
        if out:
            return outputs
        self.buffers: dict[str, Array] = getattr(self, "buffers", {})
        for name, array in outputs.items():
            buffer = self.buffers.setdefault(name, np.zeros(64, array.dtype))
            buffer[: array.size] = array.reshape(-1)
        return {name: self.buffers[name][: array.size].reshape(array.shape) for name, array in outputs.items()}


class PoisonsResultsOnRelease(Wrapper):
    breaks = "C-10"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        self.given = super().infer(handle, inputs, out=out)
        return self.given

    def release_engine(self, handle: EngineHandle) -> None:
        super().release_engine(handle)
        for array in getattr(self, "given", {}).values():
            array.fill(-1)


class KeepsItsResults(Wrapper):
    breaks = "C-11"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        outputs = super().infer(handle, inputs, out=out)
        outputs["scores"].flags.writeable = False
        return outputs


class IgnoresOut(Wrapper):
    breaks = "C-12"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        return super().infer(handle, inputs)


class TakesAnyOut(Wrapper):
    breaks = "C-13"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        outputs = super().infer(handle, inputs)
        for name, array in (out or {}).items():
            array[...] = outputs[name]
            outputs[name] = array
        return outputs


class RaisesValueErrors(Wrapper):
    breaks = "C-14"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        try:
            return super().infer(handle, inputs, out=out)
        except InferenceError as error:
            raise ValueError(str(error)) from error


class NamesNoInput(Wrapper):
    breaks = "C-14"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        try:
            return super().infer(handle, inputs, out=out)
        except InferenceError as error:
            raise InferenceError("the call failed.") from error


class IsBrokenByAFailure(Wrapper):
    breaks = "C-15"
    broken = False

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        if self.broken:
            raise InferenceError("an earlier call failed.")
        try:
            return super().infer(handle, inputs, out=out)
        except RuntimeCoreError:
            self.broken = True
            raise


class LetsLibraryErrorsOut(Wrapper):
    breaks = "C-16"

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        model_path.read_bytes()
        return super().compile_engine(model_path, build_config)


class QuantisesWithoutData(Wrapper):
    breaks = "C-17"

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        return super().compile_engine(model_path, replace(build_config, precision="fp32", calibration_dataset=None))


class TrustsTheFile(Wrapper):
    breaks = "C-18"

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        try:
            return super().deserialize_engine(entry)
        except RuntimeCoreError:
            from fixtures import conformance

            model = conformance.write_onnx(self.config.engine_cache_dir)
            build = BuildConfig(precision="fp32", optimization_profiles=conformance.PROFILES)
            return super().deserialize_engine(super().compile_engine(model, build))


class LeavesFilesBehind(Wrapper):
    breaks = "C-19"

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        notes = self.config.engine_cache_dir / f"loading{time.monotonic_ns()}"
        notes.write_text(entry.to_json())
        handle = super().deserialize_engine(entry)
        notes.unlink()
        return handle


class HasNoBudget(Wrapper):
    breaks = "C-20"

    def __init__(self, config: RuntimeConfig, base: Any = ours) -> None:
        super().__init__(replace(config, host_memory_budget_bytes=1 << 30), base)


class RunsForeignHandles(Wrapper):
    breaks = "C-21"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        owner: Any = getattr(handle, "owner", self.inner)
        outputs: dict[str, Array] = owner.infer(handle, inputs, out=out)
        return outputs


class ReleasesForeignHandles(Wrapper):
    breaks = "C-21"

    def release_engine(self, handle: EngineHandle) -> None:
        owner: Any = getattr(handle, "owner", self.inner)
        owner.release_engine(handle)


class ReleasesOnlyOnce(Wrapper):
    breaks = "C-22"

    def release_engine(self, handle: EngineHandle) -> None:
        if getattr(handle, "released", False):
            raise InferenceError("it was released before.")
        super().release_engine(handle)


class RunsWhatIsReleased(Wrapper):
    breaks = "C-22"

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        self.entry = entry
        return super().deserialize_engine(entry)

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        if getattr(handle, "released", False):
            spare = super().deserialize_engine(self.entry)
            try:
                return super().infer(spare, inputs, out=out)
            finally:
                super().release_engine(spare)
        return super().infer(handle, inputs, out=out)


class Leaks(Wrapper):
    breaks = "C-23"
    leaked = 0

    @property
    def resident_bytes(self) -> int:
        return super().resident_bytes + self.leaked

    def release_engine(self, handle: EngineHandle) -> None:
        self.leaked += 64 * (not getattr(handle, "released", True))
        super().release_engine(handle)


class ReleasesThemAll(Wrapper):
    breaks = "C-24"

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        handle = super().deserialize_engine(entry)
        self.handles = [*getattr(self, "handles", []), handle]
        return handle

    def release_engine(self, handle: EngineHandle) -> None:
        if handle in getattr(self, "handles", []):
            for one in self.handles:
                super().release_engine(one)


class BelongsToItsThread(Wrapper):
    breaks = "C-25"

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        self.thread = threading.get_ident()
        return super().deserialize_engine(entry)

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        if threading.get_ident() != self.thread:
            raise InferenceError("CUDA_ERROR_INVALID_CONTEXT.")
        return super().infer(handle, inputs, out=out)


class SharesAResultPerHandle(Wrapper):
    breaks = "C-26"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        self.last: dict[int, Any] = getattr(self, "last", {})
        self.last[id(handle)] = super().infer(handle, inputs, out=out)
        time.sleep(0.002)  # as long as a copy from the device may take
        return dict(self.last[id(handle)])


class SharesAResult(Wrapper):
    breaks = "C-27"

    def infer(self, handle: EngineHandle, inputs: Feed, *, out: Feed | None = None) -> dict[str, Array]:
        self.last = super().infer(handle, inputs, out=out)
        time.sleep(0.002)
        return dict(self.last)


class HangsWhenAsked(Wrapper):
    breaks = "C-28"

    def thermal_state(self) -> ThermalState:
        LET_GO.wait()
        return super().thermal_state()


class FeelsHeat(Wrapper):
    breaks = "C-28"

    def thermal_state(self) -> ThermalState:
        return replace(super().thermal_state(), gpu_temp_c=0.0)


class DescribesAnotherEngine(Wrapper):
    breaks = "C-29"

    def describe(self, handle: EngineHandle) -> EngineDescription:
        told = super().describe(handle)
        return replace(told, outputs=tuple(replace(spec, dtype="float16") for spec in told.outputs))


class Prints(Wrapper):
    breaks = "C-30"

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        sys.stdout.write("[TRT] Loaded engine size: 0 MiB\n")
        return super().deserialize_engine(entry)


class CountsTheYoungestAlone(Wrapper):
    """Right as long as handles go in the reverse of the order in which they came."""

    breaks = "C-32"
    missed = 0

    @property
    def resident_bytes(self) -> int:
        return super().resident_bytes + self.missed

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        handle = super().deserialize_engine(entry)
        self.youngest = handle
        return handle

    def release_engine(self, handle: EngineHandle) -> None:
        before = super().resident_bytes
        super().release_engine(handle)
        if handle is not getattr(self, "youngest", None):
            self.missed += before - super().resident_bytes


UNBROKEN: type[InferenceRuntime] = Wrapper
