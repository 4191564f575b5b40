"""The classes that load and run: ``Runtime``, ``ICudaEngine``, ``IExecutionContext``, ``EngineInspector``.

A run is two pieces of work on its stream: one reads the inputs and begins to write scratch memory and outputs, the other
computes and writes the outputs. Between them other streams may run, so scratch memory that two contexts share, and
inputs that change while they are in use, give wrong values and are written down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.fakes.bindings import Face
from harness.fakes.device import DeviceError
from harness.fakes.ledger import edges
from harness.fakes.onnx_model import ModelError, OnnxModel, Shape, Tensor, open_model, volume
from harness.fakes.tensorrt import DTYPES, GpuMemory, Library, Voice
from harness.fakes.tensorrt_plan import HEADER_BYTES, RTX_CAPABILITIES, Plan, PlanRefusedError, read_plan

__all__ = ["FACES"]

_SIGNATURE_BYTES = 16
_ALIGNMENT = 256
_BYTES_PER_US = 50_000
"""What a simulated GPU reads and writes while it runs a model, at its highest clock."""
_RUN_NS = 50_000
_MALFORMED, _VERSION, _CAPABILITY = "MALFORMED_ENGINE", "VERSION_MISMATCH", "UNSUPPORTED_CC"


@dataclass(eq=False)
class _Runtime:
    voice: Voice
    allocator: Any = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class _Engine:
    """``keep``: the runtime, which an engine holds."""

    plan: Plan
    model: OnnxModel
    voice: Voice
    memory: GpuMemory
    weights: int
    file_bytes: bytes
    keep: Any

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.model.inputs, *self.model.outputs)

    def find(self, name: str) -> Tensor | None:
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    def is_input(self, name: str) -> bool:
        return any(tensor.name == name for tensor in self.model.inputs)


@dataclass(eq=False)
class _Context:
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
    allocators: Mapping[str, Any]
    stream: int

    @property
    def signature(self) -> bytes:
        return self.label.encode()[-_SIGNATURE_BYTES:].rjust(_SIGNATURE_BYTES, b"-")


def _load_engine(library: Library, runtime: Any, data: bytes, plan: Plan) -> Any:
    """An ``ICudaEngine`` with its weights on the device, or None, which then has been said."""
    voice = runtime._state.voice
    memory = GpuMemory(library, runtime._state.allocator)
    where = "[engine.cpp::readEngineFromArchive::1091]"
    weights = memory.allocate(plan.weights_bytes, voice, "weights", where)
    if weights is None:
        return None
    engine = library.make(
        "ICudaEngine", _Engine(plan, open_model(plan.model), voice.child(), memory, weights, data, runtime)
    )
    if weights:
        try:
            library.device.write(weights, bytes(min(_SIGNATURE_BYTES, plan.weights_bytes)))
        except DeviceError as error:
            library.cuda_failed(voice, where, error.name)
            return None
    return engine


def _setting(name: str, default: Any) -> property:
    """A property that keeps what it is set to."""
    return property(
        lambda self: self._state.settings.get(name, default),
        lambda self, value: self._state.settings.__setitem__(name, value),
    )


def _recorder() -> property:
    def put(self: Any, value: Any) -> None:
        _expect(self, value, "IErrorRecorder")
        self._state.voice.recorder = value

    return property(lambda self: self._state.voice.recorder, put)


def _expect(face: Any, value: Any, kind: str) -> None:
    if value is not None and not isinstance(value, getattr(face._library.module, kind)):
        raise TypeError(f"(): incompatible function arguments. Expected {kind}, invoked with: {face!r}, {value!r}")


class Runtime(Face):
    __slots__ = ()
    error_recorder = _recorder()
    max_threads = _setting("max_threads", 1)
    engine_host_code_allowed = _setting("engine_host_code_allowed", False)
    DLA_core = _setting("DLA_core", -1)
    temporary_directory = _setting("temporary_directory", None)
    tempfile_control_flags = _setting("tempfile_control_flags", 3)
    num_DLA_cores = property(lambda self: 0)  # noqa: N815  # the library's name
    logger = property(lambda self: self._state.voice.logger)

    def __init__(self, logger: Any) -> None:
        voice = Voice(logger)
        if not self._library.entered("Runtime.__init__", voice, "createInferRuntime", needs_device=False):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._state = _Runtime(voice)
        self._library.register(self, logger, "createInferRuntime")

    def _put_allocator(self, value: Any) -> None:
        _expect(self, value, "IGpuAllocator")
        self._state.allocator = value

    gpu_allocator = property(None, _put_allocator)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        try:
            data = memoryview(serialized_engine).cast("B")
        except TypeError:
            raise TypeError(
                "deserialize_cuda_engine(): incompatible function arguments. The following argument types are supported:\n"
                f"    1. (self: Runtime, serialized_engine: buffer) -> ICudaEngine\n\nInvoked with: {serialized_engine!r}"
            ) from None
        library, voice = self._library, self._state.voice
        if not library.entered("Runtime.deserialize_cuda_engine", voice, "IRuntime::deserializeCudaEngine"):
            return None
        library.say(voice.logger, "INFO", f"Loaded engine size: {data.nbytes >> 20} MiB")
        try:
            plan = read_plan(
                data, library.flavour, library.device.sm, allows_host_code=bool(self.engine_host_code_allowed)
            )
        except PlanRefusedError as refusal:
            library.fail(voice, refusal.code, refusal.text)
            return None
        return _load_engine(library, self, bytes(data), plan)

    @property
    def engine_header_size(self) -> int:
        return HEADER_BYTES

    def get_engine_validity(self, buffer: Any) -> tuple[Any, int]:
        library = self._library
        voice = self._state.voice
        if not library.entered("Runtime.get_engine_validity", voice, "IRuntime::getEngineValidity"):
            return self._validity("CUDA_ERROR")
        data = memoryview(buffer).cast("B")
        if data.nbytes < HEADER_BYTES or bytes(data[:4]) != b"vtrt" or bytes(data[28:32]) != b"vtrt":
            library.say(
                voice.logger,
                "INFO",
                "The engine header does not conform to the expected format for TensorRT-RTX. Ensure that the engine was "
                "created with the same version of TensorRT-RTX as the current runtime.",
            )
            return self._validity(_MALFORMED)
        wrong = []
        if tuple(data[24:28]) != library.flavour.version:
            wrong.append(_VERSION)
        if not int.from_bytes(data[32:36], "little") & RTX_CAPABILITIES.get(library.device.sm, 0):
            wrong.append(_CAPABILITY)
        return self._validity(*wrong)

    def _validity(self, *wrong: str) -> tuple[Any, int]:
        mask = sum(int(self._library.enum("EngineInvalidityDiagnostics", name)) for name in wrong)
        return self._library.enum("EngineValidity", "INVALID" if wrong else "VALID"), mask


class ICudaEngine(Face):
    __slots__ = ()
    error_recorder = _recorder()
    has_implicit_batch_dimension = property(lambda self: False)
    num_aux_streams = property(lambda self: 0)
    tactic_sources = property(lambda self: 0)
    streamable_weights_size = property(lambda self: 0)
    minimum_weight_streaming_budget = property(lambda self: 0)
    weight_streaming_scratch_memory_size = property(lambda self: 0)
    name = property(lambda self: self._state.plan.name)
    num_io_tensors = property(lambda self: len(self._state.tensors))
    num_layers = property(lambda self: len(self._state.plan.layers))
    num_optimization_profiles = property(lambda self: max(1, len(self._state.plan.profiles)))
    refittable = property(lambda self: self._state.plan.is_refittable)
    device_memory_size_v2 = property(lambda self: max(self._state.plan.scratch_bytes))
    device_memory_size = device_memory_size_v2

    def __del__(self) -> None:
        engine = getattr(self, "_state", None)
        if engine is not None:
            engine.memory.free(engine.weights)

    def __getitem__(self, arg0: int) -> str:
        return str(self._state.tensors[arg0].name)

    @property
    def profiling_verbosity(self) -> Any:
        return self._library.enum("ProfilingVerbosity", self._state.plan.verbosity)

    @property
    def hardware_compatibility_level(self) -> Any:
        return self._library.enum("HardwareCompatibilityLevel", self._state.plan.hardware_level)

    @property
    def engine_capability(self) -> Any:
        return self._library.enum("EngineCapability", "STANDARD")

    def get_tensor_name(self, index: int) -> Any:
        tensors = self._state.tensors
        if 0 <= index < len(tensors):
            return tensors[index].name
        self._invalid("getIOTensorName", f"0 <= index && index < {len(tensors)}")
        return None

    def get_tensor_mode(self, name: str) -> Any:
        if self._find(name, "getTensorIOMode") is None:
            return self._library.enum("TensorIOMode", "NONE")
        return self._library.enum("TensorIOMode", "INPUT" if self._state.is_input(name) else "OUTPUT")

    def get_tensor_dtype(self, name: str) -> Any:
        tensor = self._find(name, "getTensorDataType")
        return self._library.enum("DataType", DTYPES[tensor.element] if tensor else "FLOAT")

    def get_tensor_shape(self, name: str) -> Any:
        tensor = self._find(name, "getTensorShape")
        return self._library.dims(tensor.shape if tensor else ())

    def get_tensor_location(self, name: str) -> Any:
        return self._library.enum("TensorLocation", "DEVICE")

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        return self._library.enum("TensorFormat", "LINEAR")

    def get_tensor_format_desc(self, name: str, profile_index: int = 0) -> str:
        return "Row major linear format (kLINEAR)"

    def get_tensor_bytes_per_component(self, name: str, profile_index: int = 0) -> int:
        tensor = self._find(name, "getTensorBytesPerComponent")
        return tensor.dtype.itemsize if tensor else -1

    def get_tensor_components_per_element(self, name: str, profile_index: int = 0) -> int:
        return 1 if self._find(name, "getTensorComponentsPerElement") else -1

    def get_tensor_vectorized_dim(self, name: str, profile_index: int = 0) -> int:
        return -1

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def is_debug_tensor(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        engine = self._state
        tensor = self._find(name, "getProfileShape")
        if tensor is None or not engine.is_input(name) or not self._has_profile(profile_index, "getProfileShape"):
            return []
        profiles = engine.plan.profiles
        shapes = profiles[profile_index].get(name) if profiles else None
        return [self._library.dims(shape) for shape in (shapes or (tensor.shape,) * 3)]

    def get_tensor_profile_values(self, name: int, profile_index: str) -> list[list[int]]:
        return []

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        if not self._has_profile(profile_index, "getDeviceMemorySizeForProfileV2"):
            return 0
        return int(self._state.plan.scratch_bytes[profile_index])

    def get_device_memory_size_for_profile(self, profile_index: int) -> int:
        return self.get_device_memory_size_for_profile_v2(profile_index)

    def get_engine_stat(self, stat: Any = None) -> int:
        plan = self._state.plan
        if stat is None:
            return int(plan.weights_bytes)
        sizes = {"TOTAL_WEIGHTS_SIZE": plan.weights_bytes, "STRIPPED_WEIGHTS_SIZE": 0}
        return int(sizes.get(stat.name, -1))

    def serialize(self) -> Any:
        engine = self._state
        if not self._library.entered(
            "ICudaEngine.serialize", engine.voice, "ICudaEngine::serialize", needs_device=False
        ):
            return None
        return self._library.host_memory(engine.file_bytes)

    def create_engine_inspector(self) -> Any:
        api, interface = "ICudaEngine.create_engine_inspector", "ICudaEngine::createEngineInspector"
        if not self._library.entered(api, self._state.voice, interface, needs_device=False):
            return None
        return self._library.make("EngineInspector", _Inspector(self, self._state.voice.child()))

    def create_execution_context(self, strategy: Any = None) -> Any:
        return self._context(strategy.name if strategy is not None else "STATIC")

    def create_execution_context_without_device_memory(self) -> Any:
        return self._context("USER_MANAGED")

    def _context(self, strategy: str) -> Any:
        library, engine = self._library, self._state
        api, interface = "ICudaEngine.create_execution_context", "ICudaEngine::createExecutionContext"
        if not library.entered(api, engine.voice, interface):
            return None
        context = _Context(self, engine.voice.child(), strategy, 0)
        plan = engine.plan
        for tensor in engine.model.inputs:
            if not tensor.is_dynamic:
                context.shapes[tensor.name] = tensor.shape
        size = {"STATIC": max(plan.scratch_bytes), "ON_PROFILE_CHANGE": plan.scratch_bytes[0]}.get(strategy)
        if size is not None:
            context.allocator = engine.memory
            where = "[executionContext.cpp::initializeExecutionContext::625]"
            context.own = engine.memory.allocate(size, engine.voice, "scratch", where)
            context.own_bytes = size
            if context.own is None:
                return None
            text = f"TensorRT-managed allocation in IExecutionContext creation: CPU +0, GPU +{size >> 20}"
            library.say(engine.voice.logger, "INFO", f"[MemUsageChange] {text}, now: CPU 0, GPU {size >> 20} (MiB)")
        return library.make("IExecutionContext", context)

    def _find(self, name: str, method: str) -> Tensor | None:
        tensor: Tensor | None = self._state.find(name)
        if tensor is None:
            self._invalid(method, f"tensorNameExists. Tensor {name} does not exist in this engine")
        return tensor

    def _has_profile(self, index: int, method: str) -> bool:
        if 0 <= index < self.num_optimization_profiles:
            return True
        self._invalid(method, f"0 <= profileIndex && profileIndex < {self.num_optimization_profiles}")
        return False

    def _invalid(self, method: str, condition: str) -> None:
        text = f"ICudaEngine::{method}: Error Code 3: API Usage Error (Parameter check failed, condition: {condition}.)"
        self._library.fail(self._state.voice, "INVALID_ARGUMENT", text)


class IExecutionContext(Face):
    __slots__ = ()
    error_recorder = _recorder()
    name = _setting("name", "")
    profiler = _setting("profiler", None)
    debug_sync = _setting("debug_sync", False)
    enqueue_emits_profile = _setting("enqueue_emits_profile", True)
    persistent_cache_limit = _setting("persistent_cache_limit", 0)
    temporary_allocator = _setting("temporary_allocator", None)
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
        if memory % _ALIGNMENT:
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
            ),
            tuple(
                (
                    tensor,
                    context.addresses.get(tensor.name, 0),
                    volume(types[tensor.name].shape) * tensor.dtype.itemsize,
                )
                for tensor in engine.model.outputs
            ),
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
        if not any(tensor.is_dynamic for tensor in engine.model.inputs):
            return int(engine.plan.scratch_bytes[context.profile])
        most = int(engine.plan.scratch_bytes[context.profile])
        return min(int(engine.model.scratch_bytes(context.shapes)), most)

    def _unspecified(self) -> list[str]:
        return [
            tensor.name for tensor in self._state.engine._state.model.inputs if tensor.name not in self._state.shapes
        ]

    def _types(self, method: str) -> dict[str, Tensor] | None:
        context = self._state
        try:
            return context.engine._state.model.types(context.shapes)  # type: ignore[no-any-return]
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
        feed = {}
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
        for (tensor, address, _), value in zip(run.outputs, values, strict=True):
            data = np.ascontiguousarray(value).tobytes()
            _write(library, run, (tensor, address), bytes(len(data)) if is_spoiled else data, value.shape)

    return begin, end


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


@dataclass(eq=False)
class _Inspector:
    engine: Any
    voice: Voice
    context: Any = None


class EngineInspector(Face):
    """An engine whose shapes are dynamic tells formats and sizes only with an execution context."""

    __slots__ = ()
    error_recorder = _recorder()

    @property
    def execution_context(self) -> Any:
        return self._state.context

    @execution_context.setter
    def execution_context(self, value: Any) -> None:
        _expect(self, value, "IExecutionContext")
        self._state.context = value

    def get_engine_information(self, format: Any) -> str:  # noqa: A002  # the library's name
        plan, state = self._state.engine._state.plan, self._state
        if not self._library.entered(
            "EngineInspector.get_engine_information",
            state.voice,
            "IEngineInspector::getEngineInformation",
            needs_device=False,
        ):
            return ""
        layers = [self._told(layer) for layer in plan.layers]
        bindings = [tensor.name for tensor in state.engine._state.tensors]
        if plan.verbosity == "NONE":
            self._library.say(
                state.voice.logger,
                "WARNING",
                "The engine was built with ProfilingVerbosity::kNONE: no layer information.",
            )
            layers = []
        if format.name == "JSON":
            return json.dumps({"Layers": layers, "Bindings": bindings}, indent=1)
        return "\n".join(map(str, layers))

    def get_layer_information(self, layer_index: int, format: Any) -> str:  # noqa: A002
        layers = self._state.engine._state.plan.layers
        told = self._told(layers[layer_index])
        return json.dumps(told, indent=1) if format.name == "JSON" else str(told)

    def _told(self, layer: Mapping[str, Any]) -> Any:
        plan = self._state.engine._state.plan
        if plan.verbosity != "DETAILED":
            return layer["Name"]
        if self._state.context is not None or layer["LayerType"] != "Reformat":
            return dict(layer)
        hidden = {"Format/Datatype": "N/A due to dynamic shapes"}
        is_hidden = any(-1 in tensor["Dimensions"] for tensor in layer["Inputs"])
        sides = ("Inputs", "Outputs") if is_hidden else ()
        return {**layer, **{side: [{**tensor, **hidden} for tensor in layer[side]] for side in sides}}


def _brackets(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


FACES: tuple[type[Face], ...] = (Runtime, ICudaEngine, IExecutionContext, EngineInspector)
