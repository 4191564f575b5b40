"""The class that builds: ``Builder``, and what one of its builds does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.fakes.bindings import Face
from harness.fakes.device import DeviceError
from harness.fakes.onnx_model import ModelError, OnnxModel, Shape, Tensor, tensor_types, volume
from harness.fakes.tensorrt_config import FACES as CONFIG_FACES
from harness.fakes.tensorrt_config import Config, Profile, new_config
from harness.fakes.tensorrt_library import GpuMemory, Library, Voice, called
from harness.fakes.tensorrt_network import Network, make_network
from harness.fakes.tensorrt_parser import FACES as PARSER_FACES
from harness.fakes.tensorrt_plan import RTX_CAPABILITIES, Plan, write_plan
from harness.fakes.tensorrt_precision import (
    describe_layers,
    layer_lines,
    quantize,
    read_cache,
    tensors_to_calibrate,
    write_cache,
)
from harness.fakes.tensorrt_properties import expect, recorder_setting, setting

if TYPE_CHECKING:
    import onnx

__all__ = ["FACES"]

_HALF = 10
_LAYER_NS = 20_000_000
"""What timing one layer takes in virtual time."""
_ALGORITHMS = {"ENTROPY_CALIBRATION": "EntropyCalibration", "ENTROPY_CALIBRATION_2": "EntropyCalibration2"}
_ALGORITHMS |= {"LEGACY_CALIBRATION": "LegacyCalibration", "MINMAX_CALIBRATION": "MinMaxCalibration"}


class _FailedError(Exception):
    """A build ends here; what there is to say has been said, unless ``code`` and ``text`` say it."""

    def __init__(self, code: str = "", text: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(eq=False)
class _Builder:
    voice: Voice
    allocator: Any = None
    settings: dict[str, Any] = field(default_factory=dict)


class Builder(Face):
    __slots__ = ()
    error_recorder = recorder_setting()
    max_threads = setting("max_threads", 1)
    num_DLA_cores = property(lambda self: 0)  # noqa: N815  # the library's name
    max_DLA_batch_size = property(lambda self: 268435456)  # noqa: N815
    platform_has_fast_fp16 = property(lambda self: True)
    platform_has_fast_int8 = property(lambda self: True)
    platform_has_tf32 = property(lambda self: int(self._library.device.sm) >= 80)
    logger = property(lambda self: self._state.voice.logger)

    def __init__(self, logger: Any) -> None:
        voice = Voice(logger)
        if not self._library.entered("Builder.__init__", voice, "createInferBuilder", needs_device=False):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._state = _Builder(voice)
        self._library.register(self, logger, "createInferBuilder")

    def _put_allocator(self, value: Any) -> None:
        expect(self, value, "IGpuAllocator")
        self._state.allocator = value

    gpu_allocator = property(None, _put_allocator)

    def create_network(self, flags: int = 0) -> Any:
        library, voice = self._library, self._state.voice
        if not library.entered("Builder.create_network", voice, "IBuilder::createNetworkV2", needs_device=False):
            return None
        known = library.module.NetworkDefinitionCreationFlag.__members__
        if int(flags) >> len(known):
            condition = "flagSet.toU32() < (1U << EnumMax<NetworkDefinitionCreationFlag>()). "
            library.fail(
                voice,
                "INVALID_ARGUMENT",
                f"IBuilder::createNetworkV2: Error Code 3: API Usage Error (Parameter check failed, condition: {condition})",
            )
            return None
        is_typed = bool(int(flags) >> int(known["STRONGLY_TYPED"]) & 1) or _is_always_typed(library)
        return make_network(library, self, voice, int(flags), is_strongly_typed=is_typed)

    def create_builder_config(self) -> Any:
        library, voice = self._library, self._state.voice
        api = "Builder.create_builder_config"
        if not library.entered(api, voice, "IBuilder::createBuilderConfig", needs_device=False):
            return None
        return library.make("IBuilderConfig", new_config(library, voice.child()))

    def create_optimization_profile(self) -> Any:
        return self._library.make("IOptimizationProfile", Profile(self._state.voice.child()))

    def is_network_supported(self, network: Any, config: Any) -> bool:
        return network._state.proto is not None

    def reset(self) -> None:
        self._state.settings.clear()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        library, voice = self._library, self._state.voice
        needs_device = not library.flavour.is_rtx
        api, interface = "Builder.build_serialized_network", "IBuilder::buildSerializedNetwork"
        if not library.entered(api, voice, interface, needs_device=needs_device):
            return None
        try:
            data = _Build(library, self._state, network._state, config._state).run()
        except _FailedError as failed:
            if failed.text:
                library.fail(voice, failed.code, f"{interface}: {failed.text}")
            return None
        return library.host_memory(data)

    def build_engine_with_config(self, network: Any, config: Any) -> Any:
        data = self.build_serialized_network(network, config)
        return None if data is None else self._library.module.Runtime(self.logger).deserialize_cuda_engine(data)


class _Build:
    """One build. ``run`` gives the plan, or raises ``_FailedError``."""

    def __init__(self, library: Library, builder: _Builder, network: Network, config: Config) -> None:
        self.library = library
        self.builder = builder
        self.network = network
        self.config = config

    def run(self) -> bytes:
        network = self.network
        if network.proto is None or not network.outputs():
            raise _FailedError(
                "INVALID_CONFIG", "Error Code 4: API Usage Error (Network must have at least one output.)"
            )
        sms = self._targets()
        proto = _with_io_types(network.proto, network.settings.get("io types", {}))
        model = OnnxModel(proto.SerializeToString())
        self._check_profiles(model)
        self._check_types(model)
        monitor = _Progress(self.config.objects.get("progress_monitor"))
        with monitor.phase("Building engine", 3) as step:
            step()
            built = self._in_precision(model)
            step()
            self._time_layers(built, monitor, is_here=sms == (self.library.device.sm,))
            step()
        plan = self._plan(built, sms)
        if plan.verbosity == "DETAILED":
            self._say("VERBOSE", layer_lines([dict(layer) for layer in plan.layers]))
        self._say("INFO", f"Total Activation Memory: {max(plan.scratch_bytes)} bytes")
        self._say("INFO", f"Total Weights Memory: {plan.weights_bytes} bytes")
        return write_plan(plan, self.library.flavour)

    def _say(self, severity: str, text: str) -> None:
        self.library.say(self.builder.voice.logger, severity, text)

    def _targets(self) -> tuple[str, ...]:
        """The compute capabilities to build for."""
        here = self.library.device.sm
        flavour = self.library.flavour
        if not flavour.is_rtx:
            if here in flavour.no_kernels_for:
                self._no_kernels(here)
            return (here,)
        named = [name for name in self.config.capabilities if name != "NONE"]
        if self.config.capabilities and not named:
            raise _FailedError("UNSPECIFIED_ERROR", "Unexpected exception bad optional access")
        sms = tuple(here if name == "CURRENT" else name.removeprefix("SM") for name in named) or tuple(RTX_CAPABILITIES)
        for sm in sms:
            if sm not in RTX_CAPABILITIES:
                self._no_kernels(sm)
        return sms

    def _no_kernels(self, sm: str) -> None:
        raise _FailedError(
            "INVALID_STATE",
            f"Error Code 9: API Usage Error (Target GPU SM {sm} is not supported by this TensorRT release. In "
            "checkCurrentSMEnabled)",
        )

    def _check_profiles(self, model: OnnxModel) -> None:
        profiles = self.config.profiles
        if not profiles and (model.shape_inputs or any(tensor.is_dynamic for tensor in model.inputs)):
            self._refuse("Network has dynamic or shape inputs, but no optimization profile has been defined.")
        for number, profile in enumerate(profiles):
            for tensor in model.inputs:
                self._check_profile(tensor, number, profile.get(tensor.name))
            for name in sorted(model.shape_inputs - self.config.profile_values[number].keys()):
                self._refuse(f"Shape input tensor {name} is missing values in profile {number}.")

    def _check_profile(self, tensor: Tensor, number: int, shapes: tuple[Shape, ...] | None) -> None:
        if shapes is None:
            if tensor.is_dynamic:
                self._refuse(f"Dynamic input tensor {tensor.name} is missing dimensions in profile {number}.")
            return
        if len(shapes[0]) != len(tensor.shape):
            self._refuse(
                f"Dynamic-shaped input tensor {tensor.name} has {len(tensor.shape)} dimensions but profile {number} has "
                f"{len(shapes[0])} dimensions."
            )
        for kind, shape in zip(("MIN", "OPT", "MAX"), shapes, strict=True):
            if not tensor.is_dynamic and shape != tensor.shape:
                self._refuse(
                    f"Input tensor {tensor.name} has static dimensions that don't match k{kind} dimensions in profile index "
                    f"{number}. Input dimensions are {list(tensor.shape)} but profile dimensions are {list(shape)}."
                )
        for axis, size in enumerate(tensor.shape):
            given = [shape[axis] for shape in shapes]
            if size != -1 and given != [size] * 3:
                self._refuse(
                    f"Dimension mismatch for tensor {tensor.name} and profile {number}. At dimension axis {axis}, profile has "
                    f"min={given[0]}, opt={given[1]}, max={given[2]} but tensor has {size}."
                )

    def _check_types(self, model: OnnxModel) -> None:
        config, network = self.config, self.network
        flags = [flag for flag in ("FP16", "INT8", "BF16", "FP8") if config.has(flag)]
        if network.is_strongly_typed:
            if flags:
                self._refuse(f"Strongly typed networks cannot be built with the builder flags {', '.join(flags)}.")
            return
        halves = [tensor for tensor in tensor_types(model.proto).values() if tensor.element == _HALF]
        wanted = set(network.precisions.values())
        if (halves or "HALF" in wanted) and not config.has("FP16"):
            what = "fp16 precision has been set for at least one layer or layer output, but fp16"
            self._refuse(f"{what} is not configured in the builder.")
        if (_has_qdq(model.proto) or "INT8" in wanted) and not config.has("INT8"):
            what = "Int8 precision has been set for at least one layer or layer output, but int8"
            self._refuse(f"{what} is not configured in the builder.")

    def _refuse(self, text: str) -> None:
        raise _FailedError("INVALID_CONFIG", f"Error Code 4: API Usage Error ({text})")

    def _in_precision(self, model: OnnxModel) -> OnnxModel:
        """The model as it will compute. What cannot be narrowed stays in fp32, with a warning, as in the real builder."""
        from runtime.strategies.onnx_fp16 import CastError, cast_model

        config, network = self.config, self.network
        proto = model.proto
        if network.is_strongly_typed:
            return model
        obeys = config.has("OBEY_PRECISION_CONSTRAINTS") or config.has("PREFER_PRECISION_CONSTRAINTS")
        wide = {name for name, kind in network.precisions.items() if obeys and kind == "FLOAT"}
        narrow = {name for name, kind in network.precisions.items() if obeys and kind == "HALF"}
        if config.has("INT8") and not _has_qdq(proto):
            ranges = self._ranges(model)
            if ranges:
                proto, _ = quantize(proto, ranges, wide | narrow)
        elif config.has("INT8") and config.objects.get("int8_calibrator") is not None:
            self._say(
                "WARNING",
                "Calibrator won't be used in explicit quantization mode. Please insert Quantize/Dequantize layers.",
            )
        if config.has("FP16"):
            try:
                proto = cast_model(proto, wide)
            except CastError as error:
                self._say("WARNING", f"Running in FP32 although fp16 is enabled: {error}")
        return OnnxModel(proto.SerializeToString())

    def _ranges(self, model: OnnxModel) -> dict[str, float]:
        """The greatest magnitude of each tensor: set by hand, from the calibrator's cache, or from its batches."""
        calibrator = self.config.objects.get("int8_calibrator")
        if calibrator is None:
            if not self.network.ranges:
                self._say(
                    "WARNING",
                    "Calibrator is not being used. Users must provide dynamic range for all tensors that are not Int32 or Bool.",
                )
            return dict(self.network.ranges)
        algorithm = _ALGORITHMS[calibrator.get_algorithm().name]
        cached = called(calibrator.read_calibration_cache)
        ranges = read_cache(bytes(cached), algorithm) if cached is not None and memoryview(cached).nbytes else None
        if ranges is None:
            ranges = self._calibrate(model, calibrator)
            table = memoryview(write_cache(ranges, self.library.flavour, algorithm))
            called(calibrator.write_calibration_cache, table)
            with suppress(BufferError):  # the memory behind it is TensorRT's, and goes away
                table.release()
        for name in tensors_to_calibrate(model.proto):
            if name not in ranges:
                self._say(
                    "WARNING",
                    f"Missing scale and zero-point for tensor {name}, expect fall back to non-int8 implementation for any layer "
                    "consuming or producing given tensor",
                )
        return ranges

    def _calibrate(self, model: OnnxModel, calibrator: Any) -> dict[str, float]:
        device = self.library.device
        names = tensors_to_calibrate(model.proto)
        shapes = self._calibration_shapes(model)
        ranges: dict[str, float] = {}
        calibrator.get_batch_size()
        batches = 0
        while addresses := called(calibrator.get_batch, [tensor.name for tensor in model.inputs]):
            feed = {}
            for tensor, address in zip(model.inputs, addresses, strict=True):
                shape = shapes[tensor.name]
                size = volume(shape) * tensor.dtype.itemsize
                try:
                    data = device.view(
                        int(address), size, writes=False, doing=f"calibration input {tensor.name}"
                    ).tobytes()
                except DeviceError as error:
                    self.library.cuda_failed(self.builder.voice, "[calibrator.cpp::calibrateEngine::1181]", error.name)
                    raise _FailedError from error
                feed[tensor.name] = np.frombuffer(data, tensor.dtype).reshape(shape)
            try:
                values = model.intermediate(feed, names)
            except ModelError as error:
                raise _FailedError("INTERNAL_ERROR", f"Error Code 2: Internal Error ({error})") from error
            for name, value in values.items():
                ranges[name] = max(ranges.get(name, 0.0), float(np.abs(value).max(initial=0.0)))
            batches += 1
            device.clock.advance(_LAYER_NS)
        if not batches:
            raise _FailedError(
                "INTERNAL_ERROR",
                "Error Code 2: Internal Error (Calibration failure occurred with no scaling factors detected. This could be due "
                "to no int8 calibrator or insufficient custom scales for network layers.)",
            )
        return ranges

    def _calibration_shapes(self, model: OnnxModel) -> dict[str, Shape]:
        config = self.config
        chosen = config.calibration_profile
        profile = chosen._state.shapes if chosen is not None else config.profiles[0] if config.profiles else {}
        if chosen is None and any(tensor.is_dynamic for tensor in model.inputs):
            self._say("WARNING", "Calibration Profile is not defined. Running calibration with Profile 0")
        return {
            tensor.name: profile[tensor.name][1] if tensor.name in profile else tensor.shape for tensor in model.inputs
        }

    def _time_layers(self, model: OnnxModel, monitor: _Progress, *, is_here: bool) -> None:
        """Choose a kernel for each layer: from the timing cache, or by running it, for which there has to be memory."""
        library, config = self.library, self.config
        cache = config.cache._state.entries if config.cache is not None and not library.flavour.is_rtx else {}
        types = tensor_types(model.proto)
        nodes = [node for node in model.proto.graph.node if node.op_type != "Constant"]
        memory = GpuMemory(library, self.builder.allocator)
        with monitor.phase("Timing graph nodes", len(nodes), "Building engine") as step:
            for node in nodes:
                names = [name for name in (*node.input, *node.output) if name in types]
                key = " ".join([node.op_type, *(f"{types[name].element}{list(types[name].shape)}" for name in names)])
                if key not in cache:
                    if config.has("ERROR_ON_TIMING_CACHE_MISS"):
                        raise _FailedError(
                            "UNSUPPORTED_STATE",
                            f"Error Code 10: Internal Error (Timing cache miss for node {node.name}.)",
                        )
                    if is_here and not library.flavour.is_rtx:
                        size = sum(volume(types[name].shape, unknown=1) * types[name].dtype.itemsize for name in names)
                        self._try_tactic(node.name or node.op_type, 2 * size, memory)
                    library.device.clock.advance(_LAYER_NS * (1 + config.settings.get("builder_optimization_level", 3)))
                    cache[key] = f"sim_{len(cache)}"
                step()

    def _try_tactic(self, node: str, size_bytes: int, memory: GpuMemory) -> None:
        pools, device = self.config.pools, self.library.device
        limits = [pools[name] for name in ("WORKSPACE", "TACTIC_DRAM") if name in pools]
        available = min([device.free_bytes, *limits])
        if size_bytes <= available:
            address = memory.allocate(
                size_bytes, self.builder.voice, f"tactic of {node}", "[virtualMemoryBuffer.cpp::resizePhysical]"
            )
            if address is not None:
                memory.free(address)
                return
        self._say(
            "WARNING",
            f"Tactic Device request: {-(-size_bytes >> 20)}MB Available: {available >> 20}MB. Device memory is insufficient to "
            "use tactic.",
        )
        raise _FailedError(
            "UNSUPPORTED_STATE",
            f"Error Code 10: Internal Error (Could not find any implementation for node {node}.)",
        )

    def _plan(self, model: OnnxModel, sms: tuple[str, ...]) -> Plan:
        config = self.config
        profiles = tuple(
            {tensor.name: profile.get(tensor.name, (tensor.shape,) * 3) for tensor in model.inputs}
            for profile in config.profiles
        )
        at = 1 if model.shape_inputs else 2  # the greatest values of all shapes at once need not fit together
        at_most = [{name: shapes[at] for name, shapes in profile.items()} for profile in profiles]
        kinds = {tensor.name: tensor.dtype for tensor in model.inputs}
        most = [{name: np.array(of[1], kinds[name]) for name, of in told.items()} for told in config.profile_values]
        static = {tensor.name: tensor.shape for tensor in model.inputs}
        try:
            scratch = tuple(
                model.scratch_bytes(shapes, values)
                for shapes, values in zip(at_most or [static], most or [{}], strict=True)
            )
        except ModelError as error:
            raise _FailedError("INVALID_CONFIG", f"Error Code 4: Internal Error ({error})") from error
        return Plan(
            name=self.network.name,
            sms=sms,
            model=model.data,
            profiles=profiles,
            scratch_bytes=scratch,
            weights_bytes=model.weights_bytes,
            layers=tuple(describe_layers(model.proto, self.library.flavour)),
            verbosity=config.choice("profiling_verbosity", "LAYER_NAMES_ONLY"),
            hardware_level=config.choice("hardware_compatibility_level", "NONE"),
            is_version_compatible=config.has("VERSION_COMPATIBLE"),
            has_lean_runtime=config.has("VERSION_COMPATIBLE") and not config.has("EXCLUDE_LEAN_RUNTIME"),
            shape_values=tuple({name: tuple(map(tuple, of)) for name, of in v.items()} for v in config.profile_values),
            is_refittable=any(config.has(flag) for flag in ("REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL")),
        )


class _Progress:
    """Tells a monitor of phases and steps; a step that is answered with False ends the build."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor

    def phase(self, name: str, steps: int, parent: str | None = None) -> _Phase:
        return _Phase(self._monitor, name, steps, parent)


class _Phase:
    def __init__(self, monitor: Any, name: str, steps: int, parent: str | None) -> None:
        self._monitor = monitor
        self._name = name
        self._steps = steps
        self._parent = parent
        self._done = 0

    def __enter__(self) -> Callable[[], None]:
        if self._monitor is not None:
            called(self._monitor.phase_start, self._name, self._parent, self._steps)
        return self._step

    def __exit__(self, *unused: object) -> None:
        if self._monitor is not None:
            called(self._monitor.phase_finish, self._name)

    def _step(self) -> None:
        if self._monitor is None:
            return
        goes_on = called(self._monitor.step_complete, self._name, self._done)
        self._done += 1
        if goes_on is False:
            raise _FailedError("FAILED_EXECUTION", "Error Code 7: BuildCanceled (Build canceled by user)")


def _is_always_typed(library: Library) -> bool:
    """Whether networks have no other way to be: from 11 on, and in TensorRT-RTX."""
    return not hasattr(library.module.BuilderFlag, "FP16")


def _has_qdq(proto: onnx.ModelProto) -> bool:
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in proto.graph.node)


def _with_io_types(proto: onnx.ModelProto, kinds: Mapping[str, str]) -> onnx.ModelProto:
    """The model with inputs and outputs of other types, behind casts."""
    import onnx
    from onnx import helper

    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    numbers = {"FLOAT": 1, "HALF": _HALF}
    before: list[onnx.NodeProto] = []
    for values, is_input in ((graph.input, True), (graph.output, False)):
        for value in values:
            kind = value.type.tensor_type
            wanted = numbers.get(kinds.get(value.name, ""), kind.elem_type)
            if wanted == kind.elem_type:
                continue
            inner, had = f"{value.name}_inner", kind.elem_type
            _rename(graph.node, value.name, inner, is_input=is_input)
            pair = (value.name, inner, had) if is_input else (inner, value.name, wanted)
            cast = helper.make_node("Cast", [pair[0]], [pair[1]], f"cast {value.name}", to=pair[2])
            (before.append if is_input else graph.node.append)(cast)
            kind.elem_type = wanted
    nodes = [*before, *graph.node]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return result


def _rename(nodes: Sequence[onnx.NodeProto], old: str, new: str, *, is_input: bool) -> None:
    for node in nodes:
        for names in (node.input,) if is_input else (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new


FACES: tuple[type[Face], ...] = (*PARSER_FACES, Builder, *CONFIG_FACES)
