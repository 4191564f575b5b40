"""Signature and lane on an engine made by hand: inputs whose values make shapes, as no ONNX operator here needs them."""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.install import installed
from runtime.cuda import CudaDriver
from runtime.errors import EngineDeserializeError, InferenceError
from runtime.strategies.trt_lane import Lane, LibraryRefusedError
from runtime.strategies.trt_memory import Budget
from runtime.strategies.trt_signature import read_signature


class Named:
    """A member of an enumeration of the bindings: an object with a name, equal to itself alone."""

    def __init__(self, name: str) -> None:
        self.name = name


FLOAT, INT64, LINEAR, PACKED = Named("FLOAT"), Named("INT64"), Named("LINEAR"), Named("CHW32")
INPUT, OUTPUT, HOST, DEVICE = Named("INPUT"), Named("OUTPUT"), Named("HOST"), Named("DEVICE")
TRT: Any = SimpleNamespace(
    TensorIOMode=SimpleNamespace(INPUT=INPUT),
    TensorFormat=SimpleNamespace(LINEAR=LINEAR),
    TensorLocation=SimpleNamespace(HOST=HOST),
)
LARGEST = 6


class Repeats:
    """y has as many sevens plus x as the value of ``count`` says, a number that TensorRT reads in host memory."""

    num_io_tensors, num_optimization_profiles = 3, 1

    def __init__(self, **changed: Any) -> None:
        self.tensors: dict[str, tuple[Named, Named, Named, Named, tuple[int, ...]]] = {
            "x": (INPUT, FLOAT, LINEAR, DEVICE, (1,)),
            "count": (INPUT, INT64, LINEAR, HOST, (1,)),
            "y": (OUTPUT, FLOAT, LINEAR, DEVICE, (-1,)),
        } | changed

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Named:
        return self.tensors[name][0]

    def get_tensor_dtype(self, name: str) -> Named:
        return self.tensors[name][1]

    def get_tensor_format(self, name: str) -> Named:
        return self.tensors[name][2]

    def get_tensor_location(self, name: str) -> Named:
        return self.tensors[name][3]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][4]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return []

    def get_tensor_profile_values(self, profile_index: int, name: str) -> list[list[int]]:
        assert (profile_index, name) == (0, "count")  # in this order, whatever the docstring says
        return [[1], [4], [LARGEST]]


class RepeatsContext:
    """What a context of ``Repeats`` does, on the simulated device."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.device = device
        self.addresses: dict[str, int] = {}
        self.refuses = ""

    def count(self) -> int:
        return ctypes.c_int64.from_address(self.addresses["count"]).value

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        return self.refuses != "profile"

    def infer_shapes(self) -> list[str]:
        return ["count"] if self.refuses == "shapes" else []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.count(),) if name == "y" else (1,)

    def get_max_output_size(self, name: str) -> int:
        return 4 * LARGEST

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= 64

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 256 == 0
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        count = self.count()

        def work() -> None:
            x = np.frombuffer(self.device.read(self.addresses["x"], 4), np.float32)
            self.device.write(self.addresses["y"], np.full(count, 7 + x[0], np.float32).tobytes())

        self.device.enqueue(stream, "repeat", work)
        return True


def opened(device: SimulatedDevice, cuda: CudaDriver, undo: ExitStack) -> tuple[Lane, RepeatsContext]:
    cuda.make_current()
    context = RepeatsContext(device)
    memory = Budget(1 << 20).open(cuda)
    undo.callback(memory.free_rest)
    return Lane(cuda, memory, context, read_signature(TRT, Repeats()), scratch_bytes=64), context


def call(run: Any, *arguments: Any) -> None:
    run(*arguments)


@pytest.mark.covers("TT-07")
def test_an_input_whose_values_make_shapes_is_given_in_host_memory_and_followed_in_each_call() -> None:
    device = SimulatedDevice()
    with installed(device), ExitStack() as undo:
        cuda = CudaDriver()
        undo.callback(cuda.close)
        lane, context = opened(device, cuda, undo)
        lane.open(undo, call)
        assert lane.is_dynamic
        assert context.count() == LARGEST  # before there is a call
        lane.size()
        lane.allocate(undo, call)
        np.testing.assert_array_equal(lane.run(lane.zeros())["y"], np.full(LARGEST, 7, np.float32))
        for count in (1, LARGEST, 3):
            results = lane.run({"x": np.array([count], np.float32), "count": np.array([count])})
            np.testing.assert_array_equal(results["y"], np.full(count, 7 + count, np.float32))
        with pytest.raises(InferenceError, match=r"output 'y' would be 9, 36 bytes; TensorRT's own bound.* is 24"):
            lane.run({"x": np.zeros(1, np.float32), "count": np.array([9])})
        results = lane.run({"x": np.zeros(1, np.float32), "count": np.array([2])})
        np.testing.assert_array_equal(results["y"], [7, 7])
    device.check()
    assert device.leaks() == []


@pytest.mark.covers("TT-05")
@pytest.mark.parametrize(
    ("refuses", "said"),
    [("profile", "set_optimization_profile_async"), ("shapes", r"infer_shapes \(it does not know count\)")],
)
def test_a_context_that_refuses_its_profile_or_its_shapes_is_named_by_the_call(refuses: str, said: str) -> None:
    device = SimulatedDevice()
    with installed(device), ExitStack() as undo:
        cuda = CudaDriver()
        undo.callback(cuda.close)
        lane, context = opened(device, cuda, undo)
        context.refuses = refuses
        with pytest.raises(LibraryRefusedError, match=said):
            lane.open(undo, call)
    device.check()
    assert device.leaks() == []


@pytest.mark.covers("TT-05")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x": (INPUT, Named("BF16"), LINEAR, DEVICE, (1,))}, "'x' is of type BF16, which numpy does not have"),
        ({"y": (OUTPUT, FLOAT, PACKED, DEVICE, (1,))}, "'y' has the format CHW32; only LINEAR"),
        (
            {"x": (INPUT, FLOAT, LINEAR, DEVICE, (-1, 3))},
            r"input 'x' is \?x3, and the engine has no optimization profile",
        ),
    ],
)
def test_what_numpy_cannot_hold_or_a_profile_does_not_bound_is_refused_by_name(changed: Any, said: str) -> None:
    with pytest.raises(EngineDeserializeError, match=said):
        read_signature(TRT, Repeats(**changed))
