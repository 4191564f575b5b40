"""The class that runs: ``IExecutionContext``.

A run is two pieces of work on its stream: one reads the inputs and begins to write scratch memory and outputs, the other
computes and writes the outputs. Between them other streams may run, so scratch memory that two contexts share, and
inputs that change while they are in use, give wrong values and are written down.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.fakes.bindings import Face
from harness.fakes.device import DeviceError
from harness.fakes.ledger import edges
from harness.fakes.onnx_model import Array, ModelError, OnnxModel, Shape, Tensor, volume
from harness.fakes.tensorrt_library import GpuMemory, Library, Voice
from harness.fakes.tensorrt_properties import recorder_setting, setting

__all__ = ["FACES", "Context"]

_SIGNATURE_BYTES = 16
_ALIGNMENT = 256
_BYTES_PER_US = 50_000
"""What a simulated GPU reads and writes while it runs a model, at its highest clock."""
_RUN_NS = 50_000


@dataclass(eq=False)
class Context:
    """``memory``: (address, bytes) of what the user gave; ``own``: what was allocated for it. ``pending``: runs enqueued."""

    engine: Any
    voice: Voice
    strategy: str
    profile: int
    memory: tuple[int, int] | None = None
    own: int | None = None
    own_bytes: int = 0
    allocator: GpuMemory | None = None
    shapes: dict[str, Shape] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    output_allocators: dict[str, Any] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    runs: int = 0


@dataclass(frozen=True)
class _Run:
    """One call of ``execute_async_v3``, as it was when it was enqueued."""

    label: str
    model: OnnxModel
    weights: int
    scratch: tuple[int, int]
    inputs: tuple[tuple[Tensor, int, Shape], ...]
    outputs: tuple[tuple[Tensor, int, int], ...]
    on_host: Mapping[str, Array]
    allocators: Mapping[str, Any]
    stream: int

    @property
    def signature(self) -> bytes:
        return self.label.encode()[-_SIGNATURE_BYTES:].rjust(_SIGNATURE_BYTES, b"-")


class IExecutionContext(Face):
    __slots__ = ()
    error_recorder = recorder_setting()
    name = setting("name", "")
    profiler = setting("profiler", None)
    debug_sync = setting("debug_sync", False)
    enqueue_emits_profile = setting("enqueue_emits_profile", True)
    persistent_cache_limit = setting("persistent_cache_limit", 0)
    temporary_allocator = setting("temporary_allocator", None)
    engine = property(lambda self: self._state.engine)
    active_optimization_profile = property(lambda self: self._state.profile)

    def __del__(self) -> None:
        context = getattr(self, "_state", None)
        if context is None:
            return
        if context.pending and not self._library.device.lost_to:
            self._library.device.violations.append(
                f"an execution context was destroyed with {len(context.pending)} of its runs pending: {context.pending[0]}"
            )
        if context.own is not None:
            context.allocator.free(context.own)

    @property
    def all_binding_shapes_specified(self) -> bool:
        return not self._unspecified()

    @property
    def all_shape_inputs_specified(self) -> bool:
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        if not isinstance(name, str) or not isinstance(shape, (tuple, list, self._library.module.Dims)):
            raise TypeError(
                "set_input_shape(): incompatible function arguments. The following argument types are supported:\n"
                "    1. (self: IExecutionContext, name: str, shape: tuple) -> bool\n"
                "    2. (self: IExecutionContext, name: str, shape: list) -> bool\n"
                f"    3. (self: IExecutionContext, name: str, shape: Dims) -> bool\n\nInvoked with: {name!r}, {shape!r}"
            )
        wanted = tuple(int(size) for size in shape)
        if not self._entered("set_input_shape", "setInputShape", needs_device=False):
            return False
        engine = self._state.engine._state
        tensor = engine.find(name)
        if tensor is None or not engine.is_input(name):
            return self._invalid("setInputShape", f"inputIndex >= 0. Tensor {name} is not an input of this engine.")
        fixed = [-1 if size == -1 else got for size, got in zip(tensor.shape, wanted, strict=False)]
        if len(wanted) != len(tensor.shape) or fixed != list(tensor.shape):
            return self._invalid(
                "setInputShape",
                f"engineDims.d[i] == dims.d[i]. Static dimension mismatch while setting input shape for {name}. Set "
                f"dimensions are {_brackets(wanted)}. Expected dimensions are {_brackets(tensor.shape)}.",
            )
        if tensor.is_dynamic:
            least, _, most = engine.plan.profiles[self._state.profile][name]
            if not all(low <= size <= high for low, size, high in zip(least, wanted, most, strict=True)):
                return self._invalid(
                    "setInputShape",
                    f"satisfyProfile. Set dimension {_brackets(wanted)} for tensor {name} does not satisfy any "
                    f"optimization profiles. Valid range for profile {self._state.profile}: {_brackets(least)}.."
                    f"{_brackets(most)}.",
                )
        self._state.shapes[name] = wanted
        return True

    def get_tensor_shape(self, name: str) -> Any:
        context = self._state
        engine = context.engine._state
        tensor = engine.find(name)
        if tensor is None:
            self._invalid("getTensorShape", f"tensorNameExists. Tensor {name} does not exist in this engine.")
            return self._library.dims(())
        if engine.is_input(name):
            return self._library.dims(context.shapes.get(name, tensor.shape))
        types = None if self._unspecified() else self._types("getTensorShape")
        return self._library.dims(tensor.shape if types is None else types[name].shape)

    def get_tensor_strides(self, name: str) -> Any:
        shape = tuple(self.get_tensor_shape(name))
        return self._library.dims(tuple(volume(shape[place + 1 :]) for place in range(len(shape))))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if not self._entered("set_tensor_address", "setTensorAddress", needs_device=False):
            return False
        if self._state.engine._state.find(name) is None:
            return self._invalid("setTensorAddress", f"tensorNameExists. Tensor {name} does not exist in this engine.")
        if memory % _ALIGNMENT and name not in self._state.engine._state.model.shape_inputs:
            self._library.device.violations.append(
                f"the address {memory:#x} for tensor {name} is not aligned to {_ALIGNMENT} bytes"
            )
        self._state.addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        return int(self._state.addresses.get(name, 0))

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._state.output_allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        return self._state.output_allocators.get(name)

    def get_max_output_size(self, name: str) -> int:
        types = None if self._unspecified() else self._types("getMaxOutputSize")
        if types is None:
            return -1
        most = max(volume(tensor.shape) for tensor in types.values() if not tensor.is_dynamic)
        shape = types[name].shape
        return int(volume(shape, unknown=most)) * types[name].dtype.itemsize

    def infer_shapes(self) -> list[str]:
        if not self._entered("infer_shapes", "inferShapes", needs_device=False):
            raise RuntimeError("IExecutionContext::inferShapes failed")
        missing = self._unspecified()
        if not missing and self._types("inferShapes") is None:
            raise RuntimeError("IExecutionContext::inferShapes failed")
        return missing

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not self._entered("set_optimization_profile_async", "setOptimizationProfileAsync"):
            return False
        context = self._state
        if not context.engine._has_profile(profile_index, "setOptimizationProfileAsync"):
            return False
        if profile_index == context.profile:
            return True
        context.profile = int(profile_index)
        for tensor in context.engine._state.model.inputs:
            if tensor.is_dynamic:
                context.shapes.pop(tensor.name, None)
        return context.strategy != "ON_PROFILE_CHANGE" or self._own_for_profile()

    def _own_for_profile(self) -> bool:
        context = self._state
        size = context.engine._state.plan.scratch_bytes[context.profile]
        context.allocator.free(context.own)
        context.own = context.allocator.allocate(size, context.voice, "scratch", "[executionContext.cpp::resize]")
        context.own_bytes = size
        return context.own is not None

    def set_device_memory(self, memory: int, size: int) -> None:
        if self._entered("set_device_memory", "setDeviceMemoryV2", needs_device=False):
            self._give_memory(int(memory), int(size))

    def _put_device_memory(self, memory: int) -> None:
        if self._entered("set_device_memory", "setDeviceMemory", needs_device=False):
            self._give_memory(int(memory), max(self._state.engine._state.plan.scratch_bytes))

    device_memory = property(None, _put_device_memory)

    def _give_memory(self, memory: int, size: int) -> None:
        if self._state.strategy != "USER_MANAGED":
            self._invalid(
                "setDeviceMemory", "mAllocationStrategy == kUSER_MANAGED. The context manages its own memory."
            )
            return
        if memory % _ALIGNMENT:
            self._library.device.violations.append(f"device memory {memory:#x} is not aligned to {_ALIGNMENT} bytes")
        self._state.memory = (memory, size)

    def update_device_memory_size_for_shapes(self) -> int:
        if not self._entered(
            "update_device_memory_size_for_shapes", "updateDeviceMemorySizeForShapes", needs_device=False
        ):
            return 0
        if self._unspecified():
            self._not_specified("updateDeviceMemorySizeForShapes")
            return 0
        if self._types("updateDeviceMemorySizeForShapes") is None:
            return 0
        return self._scratch_bytes()

    def execute_async_v3(self, stream_handle: int) -> bool:
        if not self._entered("execute_async_v3", "enqueueV3"):
            return False
        run = self._prepared(int(stream_handle))
        if run is None:
            return False
        if not stream_handle:
            self._library.say(
                self._state.voice.logger,
                "WARNING",
                "Using default stream in enqueueV3() may lead to performance issues due to additional calls to "
                "cudaStreamSynchronize() by TensorRT to ensure correct synchronization. Please use non-default stream "
                "instead.",
            )
        begin, end = _work(self._library, run, self._state.pending)
        moved = sum(tensor.dtype.itemsize * volume(shape) for tensor, _, shape in run.inputs)
        busy_ns = _RUN_NS + (self._state.engine._state.plan.weights_bytes + moved) * 1000 // _BYTES_PER_US
        self._state.pending.append(run.label)
        try:
            self._library.device.enqueue(int(stream_handle), f"{run.label}: begin", begin)
            self._library.device.enqueue(int(stream_handle), f"{run.label}: end", end, busy_ns=busy_ns)
        except DeviceError as error:
            self._state.pending.remove(run.label)
            self._library.cuda_failed(self._state.voice, "IExecutionContext::enqueueV3", error.name)
            return False
        return True

    def execute_v2(self, bindings: Any) -> bool:
        for tensor, address in zip(self._state.engine._state.tensors, bindings, strict=True):
            self._state.addresses[tensor.name] = int(address)
        if not self.execute_async_v3(0):
            return False
        try:
            self._library.device.synchronize(0)
        except DeviceError as error:
            self._library.cuda_failed(self._state.voice, "IExecutionContext::executeV2", error.name)
            return False
        return True

    def report_to_profiler(self) -> bool:
        profiler = self.profiler
        if profiler is None:
            return False
        for layer in self._state.engine._state.plan.layers:
            profiler.report_layer_time(layer["Name"], 0.001)
        return True

    def _prepared(self, stream: int) -> _Run | None:
        """What a run needs, or None when something of it is missing, which then has been said."""
        context = self._state
        engine = context.engine._state
        if self._unspecified():
            self._not_specified("enqueueV3")
            return None
        types = self._types("enqueueV3")
        if types is None:
            return None
        for tensor in engine.tensors:
            if context.addresses.get(tensor.name) or context.output_allocators.get(tensor.name) is not None:
                continue
            if engine.is_input(tensor.name):
                if volume(context.shapes[tensor.name]):
                    self._invalid(
                        "enqueueV3",
                        "mContext.profileObliviousBindings.at(profileObliviousIndex) != nullptr. Address is not set for "
                        f"input tensor {tensor.name}. Call setInputTensorAddress or setTensorAddress before enqueue/execute.",
                    )
                    return None
            else:
                self._invalid(
                    "enqueueV3",
                    "mContext.profileObliviousBindings.at(profileObliviousIndex) || getPtrOrNull(mOutputAllocators, "
                    f"profileObliviousIndex). Neither address or allocator is set for output tensor {tensor.name}. Call "
                    "setOutputTensorAddress, setTensorAddress or setOutputAllocator before enqueue/execute.",
                )
                return None
        scratch = self._scratch()
        if scratch is None:
            return None
        context.runs += 1
        return _Run(
            f"run {context.runs} of a context of {engine.plan.name} at {id(context):x}",
            engine.model,
            engine.weights if engine.plan.weights_bytes else 0,
            scratch,
            tuple(
                (tensor, context.addresses.get(tensor.name, 0), context.shapes[tensor.name])
                for tensor in engine.model.inputs
                if tensor.name not in engine.model.shape_inputs
            ),
            tuple(
                (
                    tensor,
                    context.addresses.get(tensor.name, 0),
                    volume(types[tensor.name].shape) * tensor.dtype.itemsize,
                )
                for tensor in engine.model.outputs
            ),
            self._shape_values(),
            dict(context.output_allocators),
            stream,
        )

    def _scratch(self) -> tuple[int, int] | None:
        context = self._state
        needed = self._scratch_bytes()
        address, size = (context.own, context.own_bytes) if context.own is not None else (context.memory or (0, 0))
        if needed and (not address or size < needed):
            self._invalid(
                "enqueueV3",
                f"mDeviceMemory != nullptr && mDeviceMemorySize >= {needed}. The device memory of this context is "
                f"{'not set' if not address else f'{size} bytes'}; {needed} bytes are required.",
            )
            return None
        return (address or 0, needed)

    def _scratch_bytes(self) -> int:
        context = self._state
        engine = context.engine._state
        if not engine.model.shape_inputs and not any(tensor.is_dynamic for tensor in engine.model.inputs):
            return int(engine.plan.scratch_bytes[context.profile])
        most = int(engine.plan.scratch_bytes[context.profile])
        return min(int(engine.model.scratch_bytes(context.shapes, self._shape_values())), most)

    def _unspecified(self) -> list[str]:
        context = self._state
        model = context.engine._state.model
        without_values = {name for name in model.shape_inputs if not context.addresses.get(name)}
        return [t.name for t in model.inputs if t.name not in context.shapes or t.name in without_values]

    def _shape_values(self) -> dict[str, Array]:
        """The shape inputs, read from the host now."""
        context = self._state
        model = context.engine._state.model
        return {
            tensor.name: _on_host(self._library, context.addresses[tensor.name], tensor, context.shapes[tensor.name])
            for tensor in model.inputs
            if tensor.name in model.shape_inputs
        }

    def _types(self, method: str) -> dict[str, Tensor] | None:
        context = self._state
        try:
            return context.engine._state.model.types(context.shapes, self._shape_values())  # type: ignore[no-any-return]
        except ModelError as error:
            text = f"IExecutionContext::{method}: Error Code 7: Internal Error ({error})"
            self._library.fail(context.voice, "FAILED_EXECUTION", text)
            return None

    def _not_specified(self, method: str) -> None:
        self._invalid(
            method,
            "inputDimensionSpecified && inputShapesSpecified. Not all shapes are specified. Following input tensors' "
            f"dimensions are not specified: {', '.join(self._unspecified())}.",
        )

    def _entered(self, method: str, real: str, *, needs_device: bool = True) -> bool:
        return self._library.entered(  # type: ignore[no-any-return]
            f"IExecutionContext.{method}", self._state.voice, f"IExecutionContext::{real}", needs_device=needs_device
        )

    def _invalid(self, method: str, condition: str) -> bool:
        text = f"IExecutionContext::{method}: Error Code 3: API Usage Error (Parameter check failed, condition: {condition})"
        self._library.fail(self._state.voice, "INVALID_ARGUMENT", text)
        return False


def _work(library: Library, run: _Run, pending: list[str]) -> tuple[Callable[[], None], Callable[[], None]]:
    """The two pieces of work of a run. They hold nothing of the context, so that it can be destroyed too early."""
    device = library.device
    scratch, needed = run.scratch
    kept: dict[str, bytes] = {}
    begun: list[bool] = []

    def begin() -> None:
        if run.weights:
            device.view(run.weights, 1, writes=False, doing=f"{run.label}: its weights")
        kept.update({tensor.name: _read(library, address, tensor, shape) for tensor, address, shape in run.inputs})
        if needed:
            for part in edges(device.view(scratch, needed, writes=True, doing=f"{run.label}: its scratch memory")):
                part[:] = 0x5A
            device.write(scratch, run.signature[: min(needed, _SIGNATURE_BYTES)])
        for tensor, address, size in run.outputs:
            if size > 0 and address:
                device.view(address, size, writes=True, doing=f"{run.label}: output {tensor.name}")[:] = 0xA5
        begun.append(True)

    def end() -> None:
        if run.label in pending:
            pending.remove(run.label)
        if begun:
            compute()

    def compute() -> None:
        is_spoiled = False
        if needed:
            size = min(needed, _SIGNATURE_BYTES)
            found = device.view(scratch, size, writes=False, doing=f"{run.label}: its scratch memory").tobytes()
            is_spoiled = found != run.signature[:size]
            if is_spoiled:
                device.violations.append(f"the scratch memory of {run.label} was written to by another while it ran")
        feed = dict(run.on_host)
        for tensor, address, shape in run.inputs:
            data = _read(library, address, tensor, shape)
            if data != kept.get(tensor.name, data):
                device.violations.append(f"input {tensor.name} was changed while {run.label} was running")
            feed[tensor.name] = np.frombuffer(data, tensor.dtype).reshape(shape)
        try:
            values = run.model.run(feed)
        except ModelError as error:
            device.violations.append(f"{run.label}: {error}")
            raise DeviceError("CUDA_ERROR_LAUNCH_FAILED") from error
        for (tensor, address, _), exact in zip(run.outputs, values, strict=True):
            value = _as_exact_as(device.kernel_error, exact)
            data = np.ascontiguousarray(value).tobytes()
            _write(library, run, (tensor, address), bytes(len(data)) if is_spoiled else data, value.shape)

    return begin, end


def _as_exact_as(kernel_error: float, exact: Array) -> Array:
    """What kernels of this relative error (standard deviation) give, the same each time."""
    if not kernel_error or exact.dtype.kind != "f":
        return exact
    noise = np.random.default_rng(exact.size).standard_normal(exact.shape)
    return np.asarray(exact * (1.0 + kernel_error * noise), exact.dtype)


def _on_host(library: Library, address: int, tensor: Tensor, shape: Shape) -> Array:
    """The values of a shape input. ``ModelError`` for one whose address is the device's."""
    if library.device._device.knows(address):
        library.device.violations.append(f"shape input {tensor.name} is on the device, and is read from the host")
        raise ModelError(f"shape input {tensor.name} is not in host memory")
    data = ctypes.string_at(address, volume(shape) * tensor.dtype.itemsize)
    return np.frombuffer(data, tensor.dtype).reshape(shape)


def _read(library: Library, address: int, tensor: Tensor, shape: Shape) -> bytes:
    size = volume(shape) * tensor.dtype.itemsize
    if not size:
        return b""
    return library.device.view(address, size, writes=False, doing=f"input {tensor.name}").tobytes()


def _write(library: Library, run: _Run, output: tuple[Tensor, int], data: bytes, shape: Shape) -> None:
    tensor, address = output
    allocator = run.allocators.get(tensor.name)
    if allocator is not None:
        address = int(allocator.reallocate_output_async(tensor.name, address, len(data), _ALIGNMENT, run.stream) or 0)
        allocator.notify_shape(tensor.name, library.dims(shape))
    if data:
        library.device.view(address, len(data), writes=True, doing=f"{run.label}: output {tensor.name}")[:] = (
            np.frombuffer(data, np.uint8)
        )


def _brackets(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


FACES: tuple[type[Face], ...] = (IExecutionContext,)
