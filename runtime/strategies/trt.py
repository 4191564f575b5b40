"""TensorRT itself (label ``tensorrt``): engines that were compiled before take-off, loaded at take-off, called per frame.

``python -m runtime.strategies.trt compile MODEL.onnx BUILD_CONFIG.json`` compiles an engine without holding a runtime.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.config import RuntimeConfig
from runtime.cuda import Cuda, CudaDriver, CudaError, MemoryInfo
from runtime.data import BuildConfig, EngineCacheEntry, EngineDescription, EngineHandle, ThermalState
from runtime.errors import (
    DeviceLostError,
    EngineDeserializeError,
    EngineSchemaMismatchError,
    InferenceError,
    OutOfMemoryError,
    RuntimeCoreError,
    RuntimeNotAvailableError,
)
from runtime.files import DISK, FileSystem
from runtime.gate import EngineGate, VerifiedEngine
from runtime.logs import EventLog, Kind, Level
from runtime.plan import read_plan_header
from runtime.platform import HostTuple, detect_host
from runtime.protocol import Array
from runtime.strategies.common import ResidentHandles, check_out, let_go, model_name, owned, reported
from runtime.strategies.trt_engine import STEPS, Device, Engine, describe_engine
from runtime.strategies.trt_lane import Lane, LibraryRefusedError
from runtime.strategies.trt_library import Library, Witness, explain, kind_of, load_library
from runtime.strategies.trt_memory import Budget

if TYPE_CHECKING:
    from runtime.strategies.trt_job import Launch
    from runtime.thermal import ThermalStatePublisher

__all__ = ["TensorrtRuntime"]

_LABEL = "tensorrt"
_BUFFERS_UNKNOWN_BYTES = 256 << 20
"""What is counted for buffers where the manifest does not say (TT-06)."""
_RESTART = "Restart the process."
_ROOM = "Release an engine, or raise the budget."


class TensorrtRuntime:
    """Runs TensorRT plans of one device (TT-01 to TT-08).

    Nothing of TensorRT or CUDA is imported or called before an engine has passed the engine gate and the budget. All
    memory is made when an engine is loaded; a call copies in, enqueues, copies out and waits, on a stream of the
    engine's own. A handle may be shared between threads: its calls then run one after the other. Engines with several
    optimization profiles run with the first.

    ``cuda``: by default the driver's, opened for the first engine. ``load``: gives the library. ``launch``: carries out
    a build, by default in a child process. ``fs``: through which files are read and written.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        *,
        thermal_publisher: ThermalStatePublisher | None = None,
        log: EventLog | None = None,
        clock: Callable[[], int] | None = None,
        host: HostTuple | None = None,
        cuda: Cuda | None = None,
        load: Callable[[], Library] = load_library,
        launch: Launch | None = None,
        fs: FileSystem = DISK,
    ) -> None:
        self._config = config
        self._thermal_publisher = thermal_publisher
        self._log = log if log is not None else EventLog()
        self._clock = clock if clock is not None else time.monotonic_ns
        self._host = host
        self._cuda = cuda
        self._load_library = load
        self._launch = launch
        self._fs = fs
        self._library: Library | None = None
        self._device: Device | None = None
        self._lost = ""
        self._budget = Budget(config.gpu_memory_budget_bytes)
        self._handles = ResidentHandles()
        self._lock = threading.RLock()
        self._loading = threading.RLock()
        self._is_prediction_said = False

    @property
    def resident_bytes(self) -> int:
        """Device memory of all live handles, as allocated: TensorRT's and ours."""
        return self._budget.resident_bytes

    def memory_info(self) -> MemoryInfo | None:
        """What the driver says of the device's memory now; ``None`` before the first engine, or of a device that is lost."""
        device = self._device
        if device is None or device.lost:
            return None
        try:
            device.cuda.make_current()
            return device.cuda.memory_info()
        except CudaError:
            return None

    @property
    def simulated(self) -> bool:
        """True where the device is a simulated one, whose rows are no evidence."""
        return self._device is not None and self._device.is_simulated

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
        """Build an engine for this host, in a process of its own; it needs no device here where the library needs none."""
        from runtime.strategies.trt_build import build_engine

        path = Path(model_path)
        with reported(self._log, Kind.BUILD_FAILED, backbone=path.stem):
            self._refuse_if_lost()
            return build_engine(
                path,
                build_config,
                config=self._config,
                host=self._host_tuple(),
                launch=self._launch,
                log=self._log,
                fs=self._fs,
            )

    def deserialize_engine(self, entry: EngineCacheEntry) -> EngineHandle:
        """Engine gate, budget, library, context, buffers, warm-up; a step that fails undoes those before it (TT-05)."""
        started_ns = self._clock()
        name = model_name(entry)
        with reported(self._log, Kind.DESERIALIZE_FAILED, backbone=name):
            self._refuse_if_lost()
            verified = EngineGate(self._host_tuple(), log=self._log, fs=self._fs).validate(entry)
            with self._loading:
                engine = self._load(entry.engine_path.name, name, verified)
        handle = EngineHandle(self, entry, engine)
        self._handles.add(handle, engine.memory.live_bytes)
        weakref.finalize(handle, _free_dropped, engine, self._log).atexit = False
        self._log.info(
            Kind.ENGINE_LOADED,
            backbone=name,
            precision=entry.precision,
            provider=engine.provider,
            device=engine.device.facts.name,
            predicted_bytes=engine.predicted_bytes,
            device_bytes=engine.memory.live_bytes,
            host_bytes=engine.host_bytes,
            resident_bytes=self.resident_bytes,
            took_ms=(self._clock() - started_ns) / 1e6,
        )
        if not engine.memory.library_calls:
            self._say_prediction_only(engine, "TensorRT did not ask our allocator for any memory")
        return handle

    def infer(
        self, handle: EngineHandle, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """One call. The arrays that are returned are all that it allocates; see the protocol for the rest."""
        engine: Engine = owned(handle, self)
        engine.calls += 1
        if self._config.per_frame_debug_log:
            return self._timed(engine, inputs, out)
        return self._infer(engine, inputs, out)

    def time_calls(self, handle: EngineHandle) -> bool:
        """See ``runtime.protocol.Splits``."""
        engine: Engine = owned(handle, self)
        with engine.lock:
            lane = self._open_lane(engine)
            self._guarded(
                engine, lane.time_calls, self._clock, engine.undo, engine.later, doing="timing", failure=InferenceError
            )
        return True

    def split_ns(self, handle: EngineHandle) -> tuple[int, int, int, int] | None:
        """See ``runtime.protocol.Splits``."""
        engine: Engine = owned(handle, self)
        with engine.lock:
            lane = self._open_lane(engine)
            split: tuple[int, int, int, int] | None = self._guarded(
                engine, lane.split_ns, doing="timing", failure=InferenceError
            )
        return split

    def release_engine(self, handle: EngineHandle) -> None:
        """Free context, engine and buffers, in this order; a call that runs in another thread is waited for."""
        if not isinstance(handle, EngineHandle) or handle.owner is not self:
            return
        with self._lock:
            engine, handle.resources = handle.resources, None
        if engine is None:
            return
        self._handles.remove(handle)
        _close(engine, self._log)
        self._log.info(Kind.ENGINE_RELEASED, backbone=engine.name, resident_bytes=self.resident_bytes)

    def describe(self, handle: EngineHandle) -> EngineDescription:
        """Read back from TensorRT's own inspector, and from what was allocated; cached."""
        engine: Engine = owned(handle, self)
        with engine.lock:
            if engine.is_closed:
                raise InferenceError(f"{handle!r} was released.")
            if engine.description is None:
                self._refuse_if_lost()
                engine.description = self._guarded(
                    engine, describe_engine, engine, doing="describing", failure=InferenceError
                )
            return engine.description

    def _host_tuple(self) -> HostTuple:
        if self._host is None:
            self._host = detect_host()
        return self._host

    def _refuse_if_lost(self) -> None:
        lost = self._device.lost if self._device is not None else self._lost
        if lost:
            raise DeviceLostError(f"an earlier call failed for good: {lost}", remedy=_RESTART)

    # Loading

    def _load(self, file_name: str, name: str, verified: VerifiedEngine) -> Engine:
        predicted = self._predict(file_name, verified)
        if self._library is None:
            self._library = self._load_library()
        device = self._open_device(file_name)
        if device.facts.sm != verified.manifest.sm:
            raise EngineSchemaMismatchError(
                f"{file_name} was built for SM {verified.manifest.sm}; {device.facts.name} is SM {device.facts.sm}.",
                remedy="Build it for this GPU with `trigate compile`, or name the other GPU in device.",
            )
        engine = Engine(
            name=name,
            file_name=file_name,
            built_with=_built_with(verified),
            predicted_bytes=predicted,
            device=device,
            library=self._library,
            memory=self._budget.open(device.cuda),
            witness=Witness(self._library.module),
        )
        with ExitStack() as guard:
            guard.callback(_close, engine, self._log)
            for step, doing in STEPS:
                self._guarded(engine, step, engine, verified, doing=doing, failure=EngineDeserializeError)
            guard.pop_all()
        engine.memory.seal()
        return engine

    def _predict(self, file_name: str, verified: VerifiedEngine) -> int:
        """Bytes of device memory that the engine will need; refused here if they are not left (TT-06)."""
        manifest, plan = verified.manifest, len(verified.data)
        buffers = manifest.opt_buffer_bytes if manifest.opt_buffer_bytes is not None else _BUFFERS_UNKNOWN_BYTES
        predicted = plan + (manifest.device_memory_bytes or 0) + buffers
        resident, limit = self._budget.resident_bytes, self._budget.limit_bytes
        if predicted > limit - resident:
            raise OutOfMemoryError(
                f"{file_name} is predicted to need {predicted} bytes of device memory (plan {plan}, contexts "
                f"{manifest.device_memory_bytes or 0}, buffers {buffers}); {resident} are resident, and "
                f"gpu_memory_budget_bytes is {limit}.",
                remedy=_ROOM,
            )
        return predicted

    def _open_device(self, file_name: str) -> Device:
        if self._device is None:
            if self._config.device == "cpu":
                raise RuntimeNotAvailableError(
                    "device is cpu, and TensorRT computes on a GPU alone.", remedy="Configure device auto or cuda:N."
                )
            ordinal = int(self._config.device.partition(":")[2] or 0)
            try:
                cuda = self._cuda if self._cuda is not None else CudaDriver(ordinal)
                self._device = Device(cuda, is_ours=self._cuda is None)
            except CudaError as error:
                told = f"{file_name} cannot be loaded: {error}."
                if error.is_sticky:
                    self._lost = told
                    raise DeviceLostError(told, remedy=_RESTART) from error
                raise (OutOfMemoryError if error.is_out_of_memory else EngineDeserializeError)(told) from error
        return self._device

    # Running

    def _infer(self, engine: Engine, inputs: Mapping[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        try:
            if engine.device.lost:
                self._refuse_if_lost()
            assert engine.checker is not None
            assert engine.signature is not None
            engine.checker.check(inputs)
            if out:
                check_out(engine.signature.output_specs, out, inputs)
            with engine.lock:
                lane = self._open_lane(engine)
                results: dict[str, Array] = self._guarded(
                    engine, lane.run, inputs, out, doing="running", failure=InferenceError
                )
            if engine.memory.late_calls:
                self._say_prediction_only(engine, "TensorRT asked our allocator for memory in a call")
            return results
        except RuntimeCoreError as error:
            kind = Kind.OUT_OF_MEMORY if isinstance(error, OutOfMemoryError) else Kind.INFERENCE_FAILED
            name = type(error).__name__
            self._log.error(kind, backbone=engine.name, frame=engine.calls, error=name, message=str(error))
            raise

    def _open_lane(self, engine: Engine) -> Lane:
        """Where the engine runs; its lock is held."""
        if engine.is_closed or engine.lane is None:
            raise InferenceError(f"{engine.name} was released while this call waited for it.")
        return engine.lane

    def _timed(self, engine: Engine, inputs: Mapping[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        started_ns = self._clock()
        results = self._infer(engine, inputs, out)
        took_ms = (self._clock() - started_ns) / 1e6
        self._log.debug(Kind.FRAME, backbone=engine.name, frame=engine.calls, took_ms=took_ms)
        return results

    def _say_prediction_only(self, engine: Engine, reason: str) -> None:
        with self._lock:
            is_said, self._is_prediction_said = self._is_prediction_said, True
        if not is_said:
            reason = f"cap by prediction only: {reason}"
            self._log.alert(Level.WARN, Kind.BUDGET_BY_PREDICTION, backbone=engine.name, reason=reason)

    # Failing

    def _guarded(
        self, engine: Engine, call: Callable[..., Any], *arguments: Any, doing: str, failure: type[RuntimeCoreError]
    ) -> Any:
        engine.witness.listen()
        try:
            return call(*arguments)
        except Exception as error:
            ours = self._failure(engine, error, doing, failure)
            let_go(error)  # whoever keeps the error would keep TensorRT's objects alive through its frames
            if ours is error:
                raise
            raise ours from error

    def _failure(
        self, engine: Engine, error: Exception, doing: str, failure: type[RuntimeCoreError]
    ) -> RuntimeCoreError:
        """The one place where what CUDA, TensorRT or numpy raised becomes one of ours (RT-07).

        What a failed call left on the stream is waited for, so that the next one finds its buffers free; an error of the
        device that shows only then belongs to this call.
        """
        drained = engine.lane.settle() if engine.lane is not None else None
        refusal, engine.memory.refusal = engine.memory.refusal, None
        lines, codes = engine.witness.take()
        faults = [fault for fault in (error, refusal, drained) if isinstance(fault, CudaError)]
        kind = kind_of(lines, codes)
        told = self._told(engine, error, f"{doing} {engine.file_name}", lines, codes)
        told += "".join(f" {fault}." for fault in faults if fault is not error)
        if kind == "lost" or any(fault.is_sticky for fault in faults):
            engine.device.lost = told
            return DeviceLostError(told, remedy=_RESTART)
        if isinstance(refusal, OutOfMemoryError):
            return OutOfMemoryError(f"{doing} {engine.file_name}: {refusal.message}", remedy=_ROOM)
        if isinstance(error, RuntimeCoreError):
            return error
        # TensorRT takes every refusal of an allocator for a lack of memory, whatever it was
        is_memory = kind == "memory" and not isinstance(refusal, CudaError)
        if is_memory or isinstance(error, MemoryError) or any(fault.is_out_of_memory for fault in faults):
            return OutOfMemoryError(f"{told} {_free_memory(engine.device.cuda)}".rstrip(), remedy=_ROOM)
        return failure(told)

    def _told(
        self, engine: Engine, error: Exception, doing: str, lines: list[tuple[str, str]], codes: list[str]
    ) -> str:
        if not lines and not isinstance(error, LibraryRefusedError):
            return f"{doing} failed: {error}."
        here = engine.library.capabilities.trt
        return explain(
            lines, codes, doing=f"{doing}: {error}", host=here, built_with=engine.built_with, hints=[str(error)]
        )


def _built_with(verified: VerifiedEngine) -> str:
    """TensorRT's version as the plan itself says, else as its manifest does."""
    try:
        return read_plan_header(verified.data).trt
    except EngineSchemaMismatchError:
        return verified.manifest.trt


def _free_memory(cuda: Cuda) -> str:
    """What the device says is free, for the message of a failed allocation; nothing where it does not answer."""
    try:
        memory = cuda.memory_info()
    except CudaError:
        return ""
    system = f", the system {memory.available_bytes}" if memory.available_bytes is not None else ""
    return f"The device says that {memory.free_bytes} of {memory.total_bytes} bytes are free{system}."


def _close(engine: Engine, log: EventLog) -> None:
    """Free what an engine holds; what goes wrong is logged once and stops nothing (RT-10)."""
    if faults := engine.close():
        log.error(Kind.RELEASE_FAILED, backbone=engine.name, message="; ".join(faults))


def _free_dropped(engine: Engine, log: EventLog) -> None:
    if not engine.is_closed:
        _close(engine, log)
        log.info(Kind.ENGINE_RELEASED, backbone=engine.name, reason="its handle was dropped without a release")


if __name__ == "__main__":
    from runtime.strategies.trt_command import main

    sys.exit(main())
