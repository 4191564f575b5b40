"""A loaded engine: what a handle holds, the steps that load it, and how all of it is given back."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from runtime.cuda import Cuda, CudaError
from runtime.data import EngineDescription
from runtime.errors import OutOfMemoryError
from runtime.gate import VerifiedEngine
from runtime.strategies.common import InputChecker
from runtime.strategies.trt_lane import Lane, LibraryRefusedError
from runtime.strategies.trt_layers import INSPECTOR, counted, described, layers_from_inspector
from runtime.strategies.trt_library import Library, Witness, ask_validity, make_allocator
from runtime.strategies.trt_memory import DeviceLedger
from runtime.strategies.trt_signature import Signature, read_signature

__all__ = ["STEPS", "Device", "Engine", "describe_engine"]


class Device:
    """CUDA, and why it is ``lost``, if it is. Lives as long as the last engine on it, and then lets the context go."""

    def __init__(self, cuda: Cuda, *, is_ours: bool) -> None:
        self.cuda = cuda
        self.facts = cuda.facts()
        self.lost = ""
        self.close = weakref.finalize(self, _quietly, cuda.close if is_ours else _nothing)
        self.close.atexit = False

    @property
    def is_simulated(self) -> bool:
        """Whether this is the harness's simulated device, which says so in its name."""
        return self.facts.name.startswith("Simulated")


@dataclass(eq=False)
class Engine:
    """What a handle holds. ``undo`` gives all of it back, the last first; nothing else refers to TensorRT's objects."""

    name: str
    file_name: str
    built_with: str
    predicted_bytes: int
    device: Device
    library: Library
    memory: DeviceLedger
    witness: Witness
    runtime: Any = None
    engine: Any = None
    lane: Lane | None = None
    signature: Signature | None = None
    checker: InputChecker | None = None
    calls: int = 0
    is_closed: bool = False
    description: EngineDescription | None = None
    undo: ExitStack = field(default_factory=ExitStack, repr=False)
    faults: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def provider(self) -> str:
        """What computes: the library, or ``simulated`` on a simulated device."""
        return "simulated" if self.device.is_simulated else self.library.capabilities.product

    @property
    def host_bytes(self) -> int:
        """Page-locked memory."""
        return self.lane.host_bytes if self.lane is not None else 0

    def later(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Undo one step; a fault is kept for the log, and the steps before it are still undone."""
        if self.device.lost:
            return  # nothing can be given back to it
        try:
            call(*arguments)
        except Exception as error:
            self.keep(error)

    def keep(self, fault: Exception) -> None:
        """What went wrong while something was freed."""
        self.faults.append(str(fault))
        if isinstance(fault, CudaError) and fault.is_sticky:
            self.device.lost = f"freeing {self.file_name} failed: {fault}"
            self.memory.abandon()

    def let_context_go(self) -> None:
        if self.lane is not None:
            self.lane.let_context_go()

    def let_engine_go(self) -> None:
        self.engine = None

    def let_runtime_go(self) -> None:
        self.runtime = None

    def close(self) -> list[str]:
        """Free everything, once; what went wrong on the way. Waits for a call that runs in another thread."""
        with self.lock:
            if self.is_closed:
                return []
            self.is_closed = True
            if self.device.lost:
                self.undo.pop_all()  # the memory went with the device, which is not touched again
                self.memory.abandon()
                self.let_context_go()
                self.let_engine_go()
                self.let_runtime_go()
            else:
                self.later(self.device.cuda.make_current)
                self.undo.close()
            self.lane = None
            return self.faults


def _deserialize(engine: Engine, verified: VerifiedEngine) -> None:
    """The bytes that the gate verified become an engine; TensorRT's memory comes from the budget."""
    trt, cuda = engine.library.module, engine.device.cuda
    cuda.make_current()
    engine.undo.callback(engine.later, engine.memory.free_rest)
    engine.undo.callback(engine.let_runtime_go)
    engine.runtime = trt.Runtime(engine.witness.logger)
    engine.runtime.error_recorder = engine.witness.recorder
    engine.runtime.gpu_allocator = make_allocator(trt, engine.memory, on_fault=engine.keep)
    engine.undo.callback(engine.let_engine_go)
    engine.engine = engine.runtime.deserialize_cuda_engine(verified.data)
    if engine.engine is None:
        detail = ask_validity(engine.library, engine.runtime, verified.data)
        raise LibraryRefusedError("Runtime.deserialize_cuda_engine", detail)
    manifest = verified.manifest
    engine.signature = read_signature(trt, engine.engine, inputs=manifest.inputs, outputs=manifest.outputs)
    engine.checker = InputChecker(engine.signature.input_specs, engine.signature.profiles)


def _create_context(engine: Engine, _: VerifiedEngine) -> None:
    """A context whose memory is ours to give, so that it can be refused before any is allocated."""
    strategy = engine.library.module.ExecutionContextAllocationStrategy.USER_MANAGED
    assert engine.signature is not None
    context = engine.engine.create_execution_context(strategy)
    if context is None:
        raise LibraryRefusedError("ICudaEngine.create_execution_context")
    scratch = engine.engine.get_device_memory_size_for_profile_v2(0)
    engine.lane = Lane(engine.device.cuda, engine.memory, context, engine.signature, scratch_bytes=scratch)
    del context
    engine.undo.callback(engine.let_context_go)
    engine.lane.open(engine.undo, engine.later)


def _allocate(engine: Engine, _: VerifiedEngine) -> None:
    """Hold what the engine itself asks for against what is left, and only then make the buffers."""
    lane, memory = engine.lane, engine.memory
    assert lane is not None
    needed = lane.size()
    if needed > memory.budget.left_bytes:
        raise OutOfMemoryError(
            f"{engine.file_name} needs {needed} bytes of device memory for its context and buffers; "
            f"{memory.budget.resident_bytes} are resident (its own weights: {memory.live_bytes}), and "
            f"gpu_memory_budget_bytes is {memory.budget.limit_bytes}.",
            remedy="Release an engine, or raise the budget.",
        )
    lane.allocate(engine.undo, engine.later)
    if engine.witness.has_heard:
        raise LibraryRefusedError("IExecutionContext.set_device_memory")


def _warm_up(engine: Engine, _: VerifiedEngine) -> None:
    """One call with zeros in the largest shapes: what is set up lazily is set up now."""
    assert engine.lane is not None
    engine.lane.run(engine.lane.zeros())


STEPS = (
    (_deserialize, "deserialising"),
    (_create_context, "making a context for"),
    (_allocate, "making the buffers of"),
    (_warm_up, "warming up"),
)
"""How an engine is loaded, in this order. Each step arms its undoing in ``Engine.undo`` before it can fail."""


def describe_engine(engine: Engine) -> EngineDescription:
    trt, capabilities, signature = engine.library.module, engine.library.capabilities, engine.signature
    assert signature is not None
    engine.device.cuda.make_current()
    assert engine.lane is not None
    inspector = engine.engine.create_engine_inspector()
    if inspector is None:
        raise LibraryRefusedError("ICudaEngine.create_engine_inspector")
    inspector.execution_context = engine.lane.context  # without one, sizes that are free hide the types too
    told = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    if not told:
        raise LibraryRefusedError("EngineInspector.get_engine_information")
    layers = layers_from_inspector(told)
    nodes = counted(layers)
    held = engine.memory.live_bytes
    notes = [
        f"{capabilities.product} {capabilities.version} on {engine.device.facts.name}",
        f"predicted {engine.predicted_bytes} bytes, allocated {held}; the CUDA context and the kernels are not counted",
    ]
    if capabilities.has_engine_statistics:
        notes.append(f"weights {engine.engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE)} bytes")
    if engine.device.is_simulated:
        notes.append("SIMULATED: no evidence of what TensorRT does")
    if signature.profile_count > 1:
        notes.append(f"the first of {signature.profile_count} optimization profiles is used")
    if not nodes:
        notes.append("the engine does not tell what its layers compute in")
    return EngineDescription(
        inputs=signature.input_specs,
        outputs=signature.output_specs,
        provider=engine.provider,
        nodes_by_provider={engine.provider: engine.engine.num_layers},
        precision=next(iter(nodes), "unknown") if len(nodes) < 2 else "mixed",
        nodes_by_precision=nodes,
        device_bytes=held,
        host_bytes=engine.host_bytes,
        notes=tuple(notes),
        layers=described(layers, engine.provider),
        layers_source=INSPECTOR if layers else "",
    )


def _quietly(call: Callable[[], None]) -> None:
    try:
        call()
    except CudaError:
        return  # nobody is left who could do anything about it


def _nothing() -> None:
    return None
