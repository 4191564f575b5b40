"""The classes that load: ``Runtime``, ``ICudaEngine``, ``EngineInspector``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.fakes.bindings import Face
from harness.fakes.device import DeviceError
from harness.fakes.onnx_model import OnnxModel, Tensor, open_model
from harness.fakes.tensorrt_context import FACES as CONTEXT_FACES
from harness.fakes.tensorrt_context import Context
from harness.fakes.tensorrt_library import DTYPES, GpuMemory, Library, Voice
from harness.fakes.tensorrt_plan import HEADER_BYTES, RTX_CAPABILITIES, Plan, PlanRefusedError, read_plan
from harness.fakes.tensorrt_properties import expect, recorder_setting, setting

__all__ = ["FACES"]

_STAMP_BYTES = 16
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
            library.device.write(weights, bytes(min(_STAMP_BYTES, plan.weights_bytes)))
        except DeviceError as error:
            library.cuda_failed(voice, where, error.name)
            return None
    return engine


class Runtime(Face):
    __slots__ = ()
    error_recorder = recorder_setting()
    max_threads = setting("max_threads", 1)
    engine_host_code_allowed = setting("engine_host_code_allowed", False)
    DLA_core = setting("DLA_core", -1)
    temporary_directory = setting("temporary_directory", None)
    tempfile_control_flags = setting("tempfile_control_flags", 3)
    num_DLA_cores = property(lambda self: 0)  # noqa: N815  # the library's name
    logger = property(lambda self: self._state.voice.logger)

    def __init__(self, logger: Any) -> None:
        voice = Voice(logger)
        if not self._library.entered("Runtime.__init__", voice, "createInferRuntime", needs_device=False):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._state = _Runtime(voice)
        self._library.register(self, logger, "createInferRuntime")

    def _put_allocator(self, value: Any) -> None:
        expect(self, value, "IGpuAllocator")
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
    error_recorder = recorder_setting()
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
        return self._library.enum("TensorLocation", "HOST" if self.is_shape_inference_io(name) else "DEVICE")

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
        return name in self._state.model.shape_inputs

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
        """The library has the names of its two parameters the wrong way round."""
        index, tensor = name, profile_index
        values = self._state.plan.shape_values
        return [list(row) for row in values[index].get(tensor, ())] if 0 <= index < len(values) else []

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
        context = Context(self, engine.voice.child(), strategy, 0)
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


@dataclass(eq=False)
class _Inspector:
    engine: Any
    voice: Voice
    context: Any = None


class EngineInspector(Face):
    """An engine whose shapes are dynamic tells formats and sizes only with an execution context."""

    __slots__ = ()
    error_recorder = recorder_setting()

    @property
    def execution_context(self) -> Any:
        return self._state.context

    @execution_context.setter
    def execution_context(self, value: Any) -> None:
        expect(self, value, "IExecutionContext")
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


FACES: tuple[type[Face], ...] = (Runtime, ICudaEngine, *CONTEXT_FACES, EngineInspector)
