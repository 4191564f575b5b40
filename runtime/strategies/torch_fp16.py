"""Eager PyTorch, in half precision unless the entry says fp32: the simple baseline (label ``pytorch_fp16``).

The door of torch: it is imported when a runtime is made, and nowhere else in the core.
"""

from __future__ import annotations

import gc
import inspect
import io
import re
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from runtime.architectures import Architecture, ArchitectureRegistry, default_registry
from runtime.config import RuntimeConfig
from runtime.data import (
    BuildConfig,
    EngineCacheEntry,
    EngineDescription,
    EngineHandle,
    EngineLayer,
    TensorSpec,
    ThermalState,
    describe_shape,
)
from runtime.errors import (
    ConfigError,
    DeviceLostError,
    EngineBuildError,
    EngineDeserializeError,
    EngineHashMismatchError,
    InferenceError,
    OutOfMemoryError,
    RuntimeCoreError,
    RuntimeNotAvailableError,
)
from runtime.files import DISK, FileSystem, open_regular, sha256_hex
from runtime.libraries import unavailable
from runtime.logs import EventLog, Kind
from runtime.platform import HostTuple, detect_host
from runtime.protocol import Array
from runtime.strategies.common import (
    InputChecker,
    ResidentHandles,
    check_out,
    declared_specs,
    fill,
    model_name,
    owned,
    reported,
    zeros,
)
from runtime.thermal import ThermalStatePublisher
from runtime.threads import usable_cores

__all__ = ["PytorchFp16Runtime"]

_LABEL = "pytorch_fp16"
_PRECISIONS = {"torch.float32": "fp32", "torch.float16": "fp16"}
_NAMED_KEYS = 5
_LOST = re.compile(
    r"driver shutting down|uncorrectable (?:ECC|NVLink)|peer GPU memory over nvlink|illegal memory access|launch timed out|"
    r"context is destroyed|device-side assert|hardware stack error|illegal instruction|misaligned address|"
    r"not supported on global/shared address space|invalid program counter|unspecified launch failure|"
    r"Tensor Memory not completely freed|CUDA error: unknown error",
    re.IGNORECASE,
)
"""CUDA's words for the errors after which, it says, the process must be started again. What a library on top of CUDA or a
wrong argument ends in costs one call."""


@dataclass
class _Engine:
    """What a handle holds. ``outputs`` is empty where nobody declared them; ``seen`` is what the warm-up gave. ``at``: the
    call that a run is in, for the message should it fail. ``marks``: where calls are timed.
    """

    name: str
    module: Any
    parts: tuple[Any, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    checker: InputChecker | _NameChecker
    float_type: Any
    weight_bytes: int
    seen: tuple[TensorSpec, ...] = ()
    calls: int = 0
    at: str = ""
    marks: _Marks | None = None


class _Marks:
    """Timing events of CUDA on torch's current stream, around the parts of a call."""

    def __init__(self, torch: Any, clock: Callable[[], int]) -> None:
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
        self._clock = clock
        self._began_ns = self._took_ns = 0

    def begin(self) -> None:
        """A call starts on the host."""
        self._took_ns, self._began_ns = 0, self._clock()

    def mark(self, at: int) -> None:
        """Part ``at`` starts, or for 3 the last has ended."""
        self._events[at].record()

    def end(self) -> None:
        """The host has the outputs."""
        self._took_ns = self._clock() - self._began_ns

    def split_ns(self) -> tuple[int, int, int, int] | None:
        """Of the last whole call."""
        if not self._took_ns:
            return None
        first, second, third, fourth = self._events
        fourth.synchronize()
        pairs = ((first, second), (second, third), (third, fourth))
        copied_in, computed, copied_out = (round(1e6 * a.elapsed_time(b)) for a, b in pairs)
        return copied_in, computed, copied_out, max(0, self._took_ns - copied_in - computed - copied_out)


class _NameChecker:
    """Stands for ``InputChecker`` where a model is registered without inputs: only their names are known."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def check(self, inputs: Mapping[str, Array]) -> None:
        if not isinstance(inputs, Mapping):
            raise InferenceError(f"inputs are a {type(inputs).__name__}; expected a mapping of names to arrays.")
        expected = f"expected {', '.join(self.names)}."
        for name in inputs:
            if name not in self.names:
                raise InferenceError(f"input {name!r} came, and this engine has none of that name; {expected}")
        for name in self.names:
            if not isinstance(inputs.get(name), np.ndarray):
                came = f"is a {type(inputs[name]).__name__}, not a numpy array" if name in inputs else "is missing"
                raise InferenceError(f"input {name!r} {came}; {expected}")


def _import_torch() -> Any:
    try:
        return import_module("torch")
    except (ImportError, OSError) as error:
        raise unavailable(_LABEL, error) from error


class PytorchFp16Runtime:
    """Runs registered architectures with the weights of a checkpoint (PT-01 to PT-06).

    fp16 and ``mixed`` halve the module; fp32 leaves it, with TF32 off on CUDA. Floating inputs are cast to the module's
    type inside; integers stay. A floating output has its declared dtype, and float32 where none is declared (float64
    stays): half precision is not seen from outside unless it was asked for. One thread at a time per handle.

    ``load``: gives the library. ``fs``: through which checkpoints are read.
    Raises ``RuntimeNotAvailableError`` where torch, or the device that was asked for, is not there.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        *,
        thermal_publisher: ThermalStatePublisher | None = None,
        log: EventLog | None = None,
        architecture_registry: ArchitectureRegistry | None = None,
        clock: Callable[[], int] | None = None,
        host: HostTuple | None = None,
        load: Callable[[], Any] = _import_torch,
        fs: FileSystem = DISK,
    ) -> None:
        self._torch = load()
        self._fs = fs
        self._device = _choose_device(self._torch, config.device)
        self._config = config
        self._thermal_publisher = thermal_publisher
        self._log = log if log is not None else EventLog()
        self._registry = architecture_registry if architecture_registry is not None else default_registry
        self._clock = clock if clock is not None else time.monotonic_ns
        self._host = host
        self._handles = ResidentHandles()
        self._lost = ""
        if self._device.type == "cpu":
            self._torch.set_num_threads(config.intra_op_threads or usable_cores())
        self._log.info(Kind.PROVIDER_ACTIVE, runtime=_LABEL, provider=self._device.type, device=str(self._device))

    @property
    def resident_bytes(self) -> int:
        """Bytes of the weights of all live handles, on the runtime's device."""
        return self._handles.resident_bytes

    def resident_engines(self) -> list[str]:
        """``model@precision`` of each live handle."""
        return self._handles.names()

    def current_runtime_label(self) -> str:
        return _LABEL

    def thermal_state(self) -> ThermalState:
        if self._thermal_publisher is None:
            return ThermalState.unknown(self._clock())
        return self._thermal_publisher.read()

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """Compile nothing: the entry points at the checkpoint, and names the architecture by the file's stem (PT-03)."""
        path = Path(model_path)
        with reported(self._log, Kind.BUILD_FAILED, model=path.name):
            self._refuse_if_lost()
            if build_config.precision == "int8" or build_config.calibration_dataset is not None:
                raise EngineBuildError(
                    f"precision {build_config.precision} with a calibration_dataset asks for int8, and {_LABEL} has none.",
                    remedy="Ask for fp16 or fp32 here, or for int8 from tensorrt.",
                )
            sha256 = sha256_hex(_read(path, EngineBuildError, self._fs))
        host = self._host if self._host is not None else detect_host()
        trt = ".".join(host.trt.split(".")[:2])
        extras = {"model_name": path.stem}
        return EngineCacheEntry(path, sha256, host.sm, host.jetpack, trt, build_config.precision, extras)

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        started_ns = self._clock()
        with reported(self._log, Kind.DESERIALIZE_FAILED, engine=entry.engine_path.name):
            self._refuse_if_lost()
            try:
                engine = self._load(entry)
            except RuntimeCoreError as error:
                _let_go(error)
                self._give_back()
                raise
        handle = EngineHandle(self, entry, engine)
        self._handles.add(handle, engine.weight_bytes)
        self._log.info(
            Kind.ENGINE_LOADED,
            backbone=engine.name,
            precision=entry.precision,
            device=str(self._device),
            resident_bytes=self.resident_bytes,
            took_ms=(self._clock() - started_ns) / 1e6,
        )
        return handle

    def infer(
        self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        self._refuse_if_lost()
        engine: _Engine = owned(handle, self)
        started_ns = self._clock()
        engine.calls += 1
        with reported(self._log, Kind.INFERENCE_FAILED, backbone=engine.name, frame=engine.calls):
            engine.checker.check(inputs)
            if out:
                check_out(engine.outputs or _specs_of(out), out, inputs)
            outputs = self._run(engine, inputs)
            if out:
                outputs = fill(out, outputs)
        if self._config.per_frame_debug_log:
            took_ms = (self._clock() - started_ns) / 1e6
            self._log.debug(Kind.FRAME, backbone=engine.name, frame=engine.calls, took_ms=took_ms)
        return outputs

    def time_calls(self, handle: EngineHandle) -> bool:
        """See ``runtime.protocol.Splits``. False on the CPU, where copying and computing are the host's own time."""
        self._refuse_if_lost()
        engine: _Engine = owned(handle, self)
        if self._device.type == "cpu":
            return False
        if engine.marks is None:
            with self._faults("torch.cuda.Event", InferenceError):
                engine.marks = _Marks(self._torch, self._clock)
        return True

    def split_ns(self, handle: EngineHandle) -> tuple[int, int, int, int] | None:
        """See ``runtime.protocol.Splits``."""
        self._refuse_if_lost()
        engine: _Engine = owned(handle, self)
        if engine.marks is None:
            return None
        with self._faults("torch.cuda.Event", InferenceError):
            return engine.marks.split_ns()

    def release_engine(self, handle: EngineHandle) -> None:
        if not isinstance(handle, EngineHandle) or handle.owner is not self or handle.released:
            return
        engine: _Engine = handle.resources
        handle.resources, name = None, engine.name
        engine.module, engine.parts, engine.marks = None, (), None  # who keeps an error of this engine keeps no weights
        self._handles.remove(handle)
        if fault := self._give_back():  # it never stops the caller (RT-10)
            self._log.error(Kind.RELEASE_FAILED, backbone=name, message=fault)
            return
        self._log.info(Kind.ENGINE_RELEASED, backbone=name, resident_bytes=self.resident_bytes)

    def describe(self, handle: EngineHandle) -> EngineDescription:
        """Read off the module's own tensors. Nodes are the submodules that hold weights or buffers of their own."""
        self._refuse_if_lost()
        engine: _Engine = owned(handle, self)
        devices: Counter[str] = Counter()
        precisions: Counter[str] = Counter()
        layers: list[EngineLayer] = []
        for name, part in engine.module.named_modules():
            tensors = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
            where = sorted({tensor.device.type for tensor in tensors})
            types = {str(tensor.dtype) for tensor in tensors if tensor.is_floating_point()}
            devices.update(where)
            precisions.update(types)
            if tensors:
                own = sorted(_PRECISIONS.get(dtype, dtype.removeprefix("torch.")) for dtype in types)
                precision = own[0] if len(own) == 1 else "mixed" if own else ""
                layers.append(EngineLayer(name or "(root)", type(part).__name__, precision, "+".join(where)))
        nodes = {_PRECISIONS.get(dtype, dtype.removeprefix("torch.")): count for dtype, count in precisions.items()}
        on_cpu = self._device.type == "cpu"
        notes = ["bytes are those of the weights; activations come and go with each call"]
        if not engine.inputs:
            notes.append(f"registered without inputs: only their names are checked ({', '.join(_names(engine))})")
        if not on_cpu:
            tf32 = self._torch.backends.cuda.matmul.allow_tf32 or self._torch.backends.cudnn.allow_tf32
            notes.append(f"TF32 is {'on' if tf32 else 'off'}")
        return EngineDescription(
            inputs=engine.inputs,
            outputs=engine.outputs or engine.seen,
            provider="+".join(sorted(devices)) or self._device.type,
            nodes_by_provider=dict(devices),
            precision=_precision_of(nodes),
            nodes_by_precision=nodes,
            device_bytes=0 if on_cpu else engine.weight_bytes,
            host_bytes=engine.weight_bytes if on_cpu else 0,
            notes=tuple(notes),
            layers=tuple(layers),
            layers_source="modules",
        )

    def _load(self, entry: EngineCacheEntry) -> _Engine:
        """Read, verify, build, fill, halve, weigh, move, warm up. Whatever fails, only locals hold anything."""
        path = entry.engine_path
        if entry.precision == "int8":
            raise EngineDeserializeError(f"{path.name} is an int8 entry, and {_LABEL} computes in fp32 or fp16 only.")
        data = _read(path, EngineDeserializeError, self._fs)
        found = sha256_hex(data)
        if found != entry.sha256:
            raise EngineHashMismatchError(
                f"{path.name} has SHA-256 {found}; the entry was made for {entry.sha256}.",
                remedy="Find out who changed the file; if it was you, compile it again.",
            )
        architecture = self._architecture(entry)
        inputs = _signature(entry, "inputs", architecture.inputs)
        outputs = _signature(entry, "outputs", architecture.outputs)
        with self._faults(f"torch.load of {path.name}", EngineDeserializeError):
            state = _read_state(self._torch, data, path)
        del data
        with self._faults(f"building architecture {architecture.name!r}", EngineDeserializeError):
            module = architecture.factory()
        if not isinstance(module, self._torch.nn.Module):
            raise EngineDeserializeError(
                f"the factory of architecture {architecture.name!r} made a {type(module).__name__}; "
                "expected a torch.nn.Module."
            )
        with self._faults(f"Module.load_state_dict of {path.name}", EngineDeserializeError):
            _fill_module(self._torch, module, state, f"{path.name} does not fit architecture {architecture.name!r}")
        del state
        half = entry.precision != "fp32"
        with self._faults(f"Module.eval of {path.name}", EngineDeserializeError):
            module.eval()
        if half:
            with self._faults(f"Module.half of {path.name}", EngineDeserializeError):
                module.half()
        with self._faults(f"torch.isfinite of {path.name}", EngineDeserializeError):
            _refuse_non_finite(self._torch, module, path)
        with self._faults(f"Module.to of {path.name}", EngineDeserializeError):
            weight_bytes = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
            self._refuse_over_budget(path, weight_bytes)
            module.to(self._device)
            if not half and self._device.type == "cuda":
                # On by default for convolutions from SM 80 on, and then fp32 has the mantissa of fp16.
                self._torch.backends.cuda.matmul.allow_tf32 = False
                self._torch.backends.cudnn.allow_tf32 = False
        engine = _Engine(
            name=architecture.name,
            module=module,
            parts=tuple(module.modules()),
            inputs=inputs,
            outputs=outputs,
            checker=InputChecker(inputs) if inputs else _NameChecker(_parameter_names(module, architecture.name)),
            float_type=self._torch.float16 if half else self._torch.float32,
            weight_bytes=weight_bytes,
        )
        feed = zeros(inputs) if inputs else None
        if feed is not None:
            self._warm_up(engine, feed)
        return engine

    def _architecture(self, entry: EngineCacheEntry) -> Architecture:
        try:
            return self._registry.get(model_name(entry))
        except ConfigError as error:
            raise EngineDeserializeError(
                f"{entry.engine_path.name} cannot be built: {error.message}", remedy=error.remedy
            ) from error

    def _warm_up(self, engine: _Engine, feed: Mapping[str, Array]) -> None:
        try:
            outputs = self._run(engine, feed)
        except DeviceLostError:
            raise
        except InferenceError as error:
            raise EngineDeserializeError(f"the warm-up of {engine.name} with zeros failed: {error}") from error
        engine.seen = _specs_of(outputs)

    def _refuse_over_budget(self, path: Path, weight_bytes: int) -> None:
        kind = "host" if self._device.type == "cpu" else "gpu"
        budget = getattr(self._config, f"{kind}_memory_budget_bytes")
        if self.resident_bytes + weight_bytes > budget:
            raise OutOfMemoryError(
                f"{path.name} needs {weight_bytes} bytes for its weights; {self.resident_bytes} are resident, "
                f"and {kind}_memory_budget_bytes is {budget}.",
                remedy="Release an engine, or raise the budget.",
            )

    def _run(self, engine: _Engine, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return self._forward(engine, inputs)
        except RuntimeCoreError:
            raise
        except Exception as error:
            raise self._failure(f"running {engine.name} ({engine.at})", error, InferenceError) from error

    def _forward(self, engine: _Engine, inputs: Mapping[str, Array]) -> dict[str, Array]:
        torch, marks = self._torch, engine.marks
        if marks:
            marks.begin()
            marks.mark(0)
        with torch.inference_mode():
            if any(part.training for part in engine.parts):
                engine.module.eval()
            engine.at = (
                "torch.tensor"  # which copies, so that a model that works in place changes nothing of the caller's
            )
            tensors = [
                torch.tensor(
                    inputs[name],
                    dtype=engine.float_type if inputs[name].dtype.kind == "f" else None,
                    device=self._device,
                )
                for name in _names(engine)
            ]
            if marks:
                marks.mark(1)
            engine.at = "Module.forward"
            produced = _by_name(engine.module(*tensors), engine.outputs)
            if marks:
                marks.mark(2)
            engine.at = "Tensor.copy_"
            outputs = {name: _to_numpy(torch, name, tensor, spec) for name, (tensor, spec) in produced.items()}
            if marks:
                marks.mark(3)
                marks.end()
            return outputs

    @contextmanager
    def _faults(self, doing: str, failure: type[RuntimeCoreError]) -> Iterator[None]:
        try:
            yield
        except RuntimeCoreError:
            raise
        except Exception as error:
            raise self._failure(doing, error, failure) from error

    def _failure(self, doing: str, error: Exception, failure: type[RuntimeCoreError]) -> RuntimeCoreError:
        """The one place where what torch or the model raises becomes one of ours (RT-07, PT-06)."""
        text = f"{type(error).__name__}: {error}"
        _let_go(error)
        if _is_out_of_memory(self._torch, error):
            self._give_back()
            return OutOfMemoryError(f"no memory on {self._device} while {doing}: {text}", remedy="Release an engine.")
        if _is_lost(error):
            self._lost = f"{self._device} was lost while {doing}: {text}"
            return DeviceLostError(self._lost, remedy="Restart the process.")
        return failure(f"{doing} failed: {text}")

    def _refuse_if_lost(self) -> None:
        if self._lost:
            raise DeviceLostError(f"an earlier call failed for good: {self._lost}", remedy="Restart the process.")

    def _give_back(self) -> str:
        """Return what torch caches to the device, for the runtimes beside us; what went wrong then, which is not raised."""
        if self._device.type != "cuda" or self._lost:
            return ""
        gc.collect()
        try:
            self._torch.cuda.empty_cache()
        except Exception as error:
            told = f"torch.cuda.empty_cache failed: {type(error).__name__}: {error}"
            if _is_lost(error):
                self._lost = f"{self._device} was lost: {told}"
            return told
        return ""


def _let_go(error: BaseException | None) -> None:
    """Drop the locals of the failed frames: through the traceback they would keep tensors and modules alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__


def _choose_device(torch: Any, wanted: str) -> Any:
    """``auto`` is the first GPU, else the CPU; a GPU that was named and is not there is an error, never the CPU."""
    if wanted == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return torch.device("cuda:0" if count else "cpu")
    if torch.device(wanted).index >= count:
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise RuntimeNotAvailableError(
            f"device is {wanted}, and torch {torch.__version__} ({build}) sees {count} CUDA devices.",
            remedy="Pass --device cpu to run there on purpose.",
        )
    return torch.device(wanted)


def _read(path: Path, failure: type[RuntimeCoreError], fs: FileSystem) -> bytes:
    """The bytes of a checkpoint. What is no file, is empty, or is a Git LFS pointer, raises ``failure``."""
    try:
        with open_regular(path, follow=True, fs=fs) as file:
            data = file.readall()
    except OSError as error:
        raise failure(f"the checkpoint {path} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise failure(f"the checkpoint {path} is empty.")
    if data.startswith(b"version https://git-lfs"):
        raise failure(f"the checkpoint {path} is a Git LFS pointer.", remedy="Fetch the file with `git lfs pull`.")
    return data


def _read_state(torch: Any, data: bytes, path: Path) -> Mapping[str, Any]:
    """The state dict in ``data``. Nothing is tried less safely after a refusal (TR-07)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol; what matters is raised
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        if _is_out_of_memory(torch, error) or _is_lost(error):
            raise
        code = _code_in(str(error))
        if code:
            raise EngineDeserializeError(
                f"the checkpoint {path.name} holds {code}, which could run code when it is loaded; refused.",
                remedy="If you trust its origin, convert it once, on a machine that may be lost:\n"
                f"    model = torch.load({path.name!r}, weights_only=False)\n"
                f"    torch.save(model.state_dict(), {path.name!r})",
            ) from error
        raise EngineDeserializeError(
            f"{path.name} is no torch checkpoint, or is damaged ({type(error).__name__}).",
            remedy="Save it again with torch.save(model.state_dict(), path).",
        ) from error
    strange = not isinstance(state, Mapping) or [key for key, value in state.items() if not torch.is_tensor(value)]
    if strange:
        held = ", ".join(map(repr, list(state)[:_NAMED_KEYS])) if isinstance(state, Mapping) else type(state).__name__
        raise EngineDeserializeError(
            f"{path.name} holds {held}; expected a state dict, which maps names to tensors alone.",
            remedy="Save it with torch.save(model.state_dict(), path).",
        )
    return state  # type: ignore[no-any-return]  # torch.load is Any


def _code_in(message: str) -> str:
    """What torch's safe loader refused to run; empty where the file is just no checkpoint."""
    if "TorchScript" in message:
        return "a TorchScript program"
    match = re.search(r"GLOBAL (\S+)", message)
    return f"the Python object {match[1]}" if match else ""


def _fill_module(torch: Any, module: Any, state: Mapping[str, Any], misfit: str) -> None:
    own = module.state_dict()
    try:
        module.load_state_dict(state, strict=True)
    except Exception as error:
        if _is_out_of_memory(torch, error) or _is_lost(error):
            raise
        reasons = {
            "missing": [name for name in own if name not in state],
            "unexpected": [name for name in state if name not in own],
            "of another shape": [
                f"{name} ({describe_shape(state[name].shape)}, expected {describe_shape(tensor.shape)})"
                for name, tensor in own.items()
                if name in state and state[name].shape != tensor.shape
            ],
        }
        listed = "; ".join(f"{reason}: {_first_of(names)}" for reason, names in reasons.items() if names)
        raise EngineDeserializeError(f"{misfit}: {listed or error}.") from error


def _first_of(names: list[str]) -> str:
    more = len(names) - _NAMED_KEYS
    return ", ".join(names[:_NAMED_KEYS]) + (f" and {more} more" if more > 0 else "")


def _refuse_non_finite(torch: Any, module: Any, path: Path) -> None:
    # Buffers may hold infinities on purpose (masks); weights that do were broken, or left the range of half.
    bad = [name for name, weight in module.named_parameters() if not bool(torch.isfinite(weight).all())]
    if bad:
        raise EngineDeserializeError(
            f"{path.name} has weights that are NaN or infinite in this precision: {_first_of(bad)}."
        )


def _signature(entry: EngineCacheEntry, key: str, registered: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The entry's concrete shapes where it has some, with the ranges that the registration declares."""
    declared = declared_specs(entry, key)
    if declared is None:
        return registered
    ranges = {spec.name: (spec.low, spec.high) for spec in registered}
    return tuple(
        replace(spec, low=low, high=high) for spec in declared for low, high in [ranges.get(spec.name, (None, None))]
    )


def _parameter_names(module: Any, name: str) -> tuple[str, ...]:
    """What ``forward`` must be given, by name."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.KEYWORD_ONLY) for parameter in parameters):
        raise EngineDeserializeError(
            f"architecture {name!r} is registered without inputs, and its forward does not name them.",
            remedy=f"Register it with register_architecture({name!r}, factory, inputs=...).",
        )
    return tuple(parameter.name for parameter in parameters if parameter.default is parameter.empty)


def _names(engine: _Engine) -> tuple[str, ...]:
    if isinstance(engine.checker, _NameChecker):
        return engine.checker.names
    return tuple(spec.name for spec in engine.inputs)


def _by_name(produced: Any, declared: tuple[TensorSpec, ...]) -> dict[str, tuple[Any, TensorSpec | None]]:
    """What ``forward`` returned, by output name: a tensor, a tuple or list in the declared order, or a mapping."""
    if not isinstance(produced, Mapping):
        items = produced if isinstance(produced, (tuple, list)) else (produced,)
        names = [spec.name for spec in declared] or [f"output_{index}" for index in range(len(items))]
        if len(items) != len(names):
            raise InferenceError(f"the model returned {len(items)} outputs; expected {len(names)}: {', '.join(names)}.")
        produced = dict(zip(names, items, strict=True))
    if not declared:
        return {str(name): (tensor, None) for name, tensor in produced.items()}
    for spec in declared:
        if spec.name not in produced:
            raise InferenceError(
                f"the model returned {', '.join(map(str, produced))}; expected {spec.name!r} among them."
            )
    return {spec.name: (produced[spec.name], spec) for spec in declared}


def _to_numpy(torch: Any, name: str, tensor: Any, spec: TensorSpec | None) -> Array:
    """A fresh array with the tensor's values, in the declared dtype; it shares nothing with torch."""
    if not torch.is_tensor(tensor):
        raise InferenceError(f"output {name!r} of the model is a {type(tensor).__name__}; expected a tensor.")
    shape, native = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    given = np.dtype("float32" if native in ("float16", "bfloat16") else native)
    dtype = given if spec is None else np.dtype(spec.dtype)
    fits = spec is None or (
        len(shape) == len(spec.shape)
        and all(isinstance(want, str) or want == size for want, size in zip(spec.shape, shape, strict=True))
    )
    if spec is not None and not (fits and np.can_cast(given, dtype, "same_kind")):
        raise InferenceError(
            f"output {name!r} of the model is {native} {describe_shape(shape)}; "
            f"expected {spec.dtype} {describe_shape(spec.shape)}."
        )
    array = np.empty(shape, dtype)
    torch.from_numpy(array).copy_(tensor)  # waits for the device, casts, and copies even where it need not
    return array


def _specs_of(arrays: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, array.shape, array.dtype.name) for name, array in arrays.items())


def _precision_of(nodes: Mapping[str, int]) -> str:
    if len(nodes) > 1:
        return "mixed"
    found = next(iter(nodes), "unknown")
    return found if found in _PRECISIONS.values() else "unknown"


def _is_out_of_memory(torch: Any, error: Exception) -> bool:
    """On a Jetson the allocator's own report fails in NVML first, and all that is left is a RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text
        or "can't allocate memory" in text
        or "STATUS_ALLOC_FAILED" in text  # cuBLAS and cuDNN
        or ("NVML_SUCCESS" in text and "INTERNAL ASSERT" in text)
    )


def _is_lost(error: Exception) -> bool:
    """Whether CUDA says that the process has lost the device: torch has one class for that and for harmless errors."""
    first_line = str(error).partition("\n")[0]  # torch's advice below it speaks of device-side assertions
    return isinstance(error, RuntimeError) and _LOST.search(first_line) is not None
