"""A fake TensorRT with a logger, a recorder and an allocator that keep what they are told, and small models."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.tensorrt import make_tensorrt

onnx: Any = pytest.importorskip("onnx", reason="onnx: not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")

TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper
FLAVOURS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106", "rtx1.7.1.116")
GPU = {"10.3.0": "87", "10.13.3.9": "110", "10.16.1.11": "87", "11.4.0.106": "89", "rtx1.7.1.116": "89"}
"""A compute capability that each release runs on."""
FLOAT, HALF, INT32, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64

node, value = helper.make_node, helper.make_tensor_value_info
Shapes = Mapping[str, tuple[Sequence[int], Sequence[int], Sequence[int]]]


def model(nodes: Any, inputs: Any, outputs: Any, weights: Mapping[str, Any] | None = None, opset: int = 17) -> Any:
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, arrays)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def convolution(batch: int | str = 2, dtype: int = FLOAT) -> Any:
    """x (batch, 3, 8, 8) -> conv -> relu -> mean -> matmul -> y (batch, 5)."""
    chance = np.random.default_rng(7)
    kind = np.float32 if dtype == FLOAT else np.float16
    return model(
        [
            node("Conv", ["x", "k"], ["a"], "conv", pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["b"], "relu"),
            node("GlobalAveragePool", ["b"], ["c"], "mean"),
            node("Flatten", ["c"], ["d"], "flat"),
            node("MatMul", ["d", "w"], ["y"], "mix"),
        ],
        [value("x", dtype, [batch, 3, 8, 8])],
        [value("y", dtype, [batch, 5])],
        {"k": chance.standard_normal((4, 3, 3, 3)).astype(kind), "w": chance.standard_normal((4, 5)).astype(kind)},
    )


def sample(batch: int = 2, seed: int = 1, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal((batch, 3, 8, 8)).astype(dtype)


def computed(proto: Any, feed: Mapping[str, Any]) -> list[Any]:
    """What ONNX Runtime makes of a model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feed)))


class Kit:
    """One device with one TensorRT. ``lines``: what the logger got, as (severity, text)."""

    def __init__(
        self,
        version: str = "10.3.0",
        sm: str | None = None,
        *faults: Fault,
        device: SimulatedDevice | None = None,
        **of: Any,
    ) -> None:
        self.device = device or SimulatedDevice(sm=sm or GPU[version], faults=FaultPlan(faults), **of)
        self.device.set_current(self.device.retain_primary())
        self.trt: Any = make_tensorrt(self.device, version)
        self.lines: list[tuple[str, str]] = []
        self.logger = self.make_logger()
        self.is_typed = not hasattr(self.trt.BuilderFlag, "FP16")
        self.is_rtx = version.startswith("rtx")

    def make_logger(self) -> Any:
        trt, lines = self.trt, self.lines

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                lines.append((severity.name, text))

        return Logger()

    def make_recorder(self) -> Any:
        trt = self.trt

        class Recorder(trt.IErrorRecorder):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IErrorRecorder.__init__(self)
                self.errors: list[tuple[str, str]] = []

            def report_error(self, code: Any, text: str) -> bool:
                self.errors.append((code.name, text))
                return False

        return Recorder()

    def make_allocator(self, limit_bytes: int = 1 << 40) -> Any:
        trt, device = self.trt, self.device

        class Allocator(trt.IGpuAllocator):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IGpuAllocator.__init__(self)
                self.live: dict[int, int] = {}
                self.asked: list[int] = []

            def allocate_async(self, size: int, alignment: int, flags: int, stream: int) -> int | None:
                self.asked.append(size)
                if size == 0 or size + sum(self.live.values()) > limit_bytes:
                    return None
                address = device.allocate(size)
                self.live[address] = size
                return address

            def deallocate_async(self, memory: int, stream: int) -> bool:
                if memory:
                    del self.live[memory]
                    device.free(memory)
                return True

        return Allocator()

    def errors(self) -> list[str]:
        return [text for severity, text in self.lines if severity == "ERROR"]

    def parse(self, proto: Any) -> tuple[Any, Any, Any]:
        """(builder, network, parser) of a model that parses."""
        builder = self.trt.Builder(self.logger)
        flags = 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if self.is_typed else 0
        network = builder.create_network(flags)
        parser = self.trt.OnnxParser(network, self.logger)
        assert parser.parse(proto if isinstance(proto, bytes) else proto.SerializeToString()), self.lines
        return builder, network, parser

    def configure(self, builder: Any, *flags: str, profiles: Sequence[Shapes] = (), detailed: bool = True) -> Any:
        config = builder.create_builder_config()
        for flag in flags:
            config.set_flag(getattr(self.trt.BuilderFlag, flag))
        for shapes in profiles:
            profile = builder.create_optimization_profile()
            for name, of in shapes.items():
                profile.set_shape(name, *of)
            assert config.add_optimization_profile(profile) >= 0
        if self.is_rtx:
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(self.trt.ComputeCapability, f"SM{self.device.sm}"), 0)
        if detailed:
            config.profiling_verbosity = self.trt.ProfilingVerbosity.DETAILED
        return config

    def build(self, proto: Any, *flags: str, profiles: Sequence[Shapes] = (), detailed: bool = True) -> bytes:
        """A plan."""
        builder, network, _ = self.parse(proto)
        plan = builder.build_serialized_network(
            network, self.configure(builder, *flags, profiles=profiles, detailed=detailed)
        )
        assert plan is not None, self.lines
        return bytes(plan)

    def load(self, plan: Any, *, allocator: Any = None, recorder: Any = None) -> Any:
        """The engine, or None."""
        runtime = self.trt.Runtime(self.logger)
        if allocator is not None:
            runtime.gpu_allocator = allocator
        if recorder is not None:
            runtime.error_recorder = recorder
        return runtime.deserialize_cuda_engine(plan)


class Bound:
    """A context with device memory for its inputs and outputs; ``run`` does a whole inference."""

    def __init__(
        self, kit: Kit, engine: Any, feed: Mapping[str, Any], *, strategy: str = "STATIC", scratch: int = 0
    ) -> None:
        self.kit, self.engine = kit, engine
        trt, device = kit.trt, kit.device
        self.context = engine.create_execution_context(getattr(trt.ExecutionContextAllocationStrategy, strategy))
        assert self.context is not None, kit.lines
        self.stream = device.create_stream()
        self.inputs, self.outputs = {}, {}
        for name, array in feed.items():
            assert self.context.set_input_shape(name, array.shape), kit.lines
        self.scratch = scratch
        if strategy == "USER_MANAGED":
            size = self.context.update_device_memory_size_for_shapes()
            if size and not scratch:
                self.scratch = device.allocate(size)
            self.context.set_device_memory(self.scratch, size)
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape = tuple(self.context.get_tensor_shape(name))
            kind = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            address = device.allocate(max(1, int(np.prod(shape))) * kind.itemsize)
            assert self.context.set_tensor_address(name, address)
            if name in feed:
                self.inputs[name] = address
                device.write(address, np.ascontiguousarray(feed[name]).tobytes())
            else:
                self.outputs[name] = (address, shape, kind)

    def execute(self) -> bool:
        return bool(self.context.execute_async_v3(self.stream))

    def read(self) -> dict[str, Any]:
        """The outputs as they lie on the device now."""
        return {
            name: np.frombuffer(self.kit.device.read(address, int(np.prod(shape)) * kind.itemsize), kind).reshape(shape)
            for name, (address, shape, kind) in self.outputs.items()
        }

    def run(self) -> dict[str, Any]:
        assert self.execute(), self.kit.lines
        self.kit.device.synchronize(self.stream)
        return self.read()

    def close(self) -> None:
        """Give everything back, in the order in which it must go."""
        device = self.kit.device
        del self.context, self.engine
        for address in (*self.inputs.values(), *(address for address, _, _ in self.outputs.values()), self.scratch):
            if address:
                device.free(address)
        device.destroy_stream(self.stream)


def host_block(device: SimulatedDevice, data: bytes) -> int:
    """Page-locked memory with these bytes."""
    address = device.allocate_host(len(data))
    ctypes.memmove(address, data, len(data))
    return address
