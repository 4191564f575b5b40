"""What all classes of the fake TensorRT share, and the ones that a user derives from."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.tensorrt import make_tensorrt
from harness.fakes.tensorrt_library import DTYPES

pytestmark = pytest.mark.covers("T0-02", "T0-04")

FLAVOURS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106", "rtx1.7.1.116")


@pytest.fixture(params=FLAVOURS)
def trt(request: pytest.FixtureRequest) -> Any:
    return make_tensorrt(SimulatedDevice(), request.param)


def test_the_module_has_its_name_and_version() -> None:
    told = [(trt.__name__, vars(trt)["__version__"]) for trt in (make_tensorrt(SimulatedDevice(), v) for v in FLAVOURS)]
    assert told == [
        ("tensorrt", "10.3.0"),
        ("tensorrt", "10.13.3.9"),
        ("tensorrt", "10.16.1.11"),
        ("tensorrt", "11.4.0.106"),
        ("tensorrt_rtx", "1.7.1.116"),
    ]


def test_every_type_has_a_size_and_those_of_numpy_their_numpy_type(trt: Any) -> None:
    assert (trt.float32, trt.float16, trt.bool, trt.int64) == (
        *(trt.DataType.FLOAT, trt.DataType.HALF),
        *(trt.DataType.BOOL, trt.DataType.INT64),
    )
    assert [trt.DataType.HALF.itemsize, trt.int8.itemsize, trt.int4.itemsize] == [2, 1, 0.5]
    assert (trt.nptype(trt.float16), trt.nptype(trt.bool)) == (np.float16, np.bool_)
    with pytest.raises(TypeError, match="equivalent numpy datatype"):
        trt.nptype(trt.bfloat16)
    assert (trt.volume((2, 3)), trt.volume(trt.Dims((4, 5))), trt.volume(())) == (6, 20, 1)
    assert all(hasattr(trt.DataType, name) for name in DTYPES.values())


def test_dims_are_a_sequence_that_equals_any_other(trt: Any) -> None:
    shape = trt.Dims([2, 3, 4])
    assert (tuple(shape), len(shape), shape[-1], shape[1:], 3 in shape) == ((2, 3, 4), 3, 4, (3, 4), True)
    assert shape == (2, 3, 4) == shape
    assert shape == [2, 3, 4]
    assert shape != (2, 3)
    assert shape != 3
    assert (repr(shape), shape.MAX_DIMS, len(trt.Dims())) == ("(2, 3, 4)", 8, 0)
    with pytest.raises(TypeError, match="unhashable"):
        hash(shape)


def test_host_memory_is_a_buffer_and_nothing_more(trt: Any, tmp_path: Path) -> None:
    cache = trt.Builder(trt.Logger()).create_network  # any object, to reach the library
    memory = cache.__self__._library.host_memory(b"some bytes")
    assert (bytes(memory), memory.nbytes, memory.dtype, bool(memory)) == (b"some bytes", 10, trt.int8, True)
    assert bytes(memoryview(memory)[:4]) == b"some"
    assert hashlib.sha256(memory).digest() == hashlib.sha256(b"some bytes").digest()
    with (tmp_path / "file").open("wb") as file:
        file.write(memory)
    assert (tmp_path / "file").read_bytes() == b"some bytes"
    for wrong in (
        lambda: len(memory),
        lambda: memory[0],
        lambda: list(memory),
        lambda: memory + b"",
        lambda: 3 in memory,
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError, match="No constructor defined!"):
        trt.IHostMemory(b"")


def test_the_loggers_severities_are_on_both_classes(trt: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert trt.ILogger.Severity is trt.Logger.Severity
    assert [int(trt.Logger.ERROR), int(trt.ILogger.WARNING), trt.Logger.VERBOSE.name] == [1, 2, "VERBOSE"]
    logger = trt.Logger(trt.Logger.ERROR)
    logger.log(trt.Logger.WARNING, "not this")
    logger.min_severity = trt.Logger.INFO
    logger.log(trt.Logger.INFO, "but this")
    assert capfd.readouterr().err == "[TRT] [I] but this\n"
    assert trt.Logger().min_severity == trt.Logger.WARNING


def test_context_managers_warn_and_do_nothing(trt: Any) -> None:
    runtime = trt.Runtime(trt.Logger())
    with pytest.warns(DeprecationWarning, match="Context managers for TensorRT types are deprecated"), runtime as same:
        assert same is runtime
    assert runtime.deserialize_cuda_engine(b"") is None


def test_a_method_that_was_not_overridden_says_so(trt: Any, capfd: pytest.CaptureFixture[str]) -> None:
    class Allocator(trt.IGpuAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IGpuAllocator.__init__(self)

    allocator = Allocator()
    assert allocator.allocate_async(8, 256, 0, 0) is None
    assert allocator.deallocate_async(0, 0) is False
    assert capfd.readouterr().err.count("was not overriden. Please provide an implementation") == 2
    assert allocator.reallocate(0, 256, 8) is None
    assert allocator.api_language.name == "PYTHON"
    assert allocator.interface_info.kind == "IGpuAllocator"


def test_an_allocator_of_the_older_kind_is_asked_through_its_older_methods(trt: Any) -> None:
    class Allocator(trt.IGpuAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IGpuAllocator.__init__(self)
            self.asked: list[Any] = []

        def allocate(self, size: int, alignment: int, flags: int) -> int:
            self.asked.append((size, alignment, flags))
            return 512

        def deallocate(self, memory: int) -> bool:
            self.asked.append(memory)
            return True

    allocator = Allocator()
    assert (allocator.allocate_async(8, 256, 0, 7), allocator.deallocate_async(512, 7)) == (512, True)
    assert allocator.asked == [(8, 256, 0), 512]


def test_a_recorder_without_methods_answers_that_there_are_no_errors(
    trt: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    recorder = trt.IErrorRecorder()
    assert (recorder.num_errors(), recorder.has_overflowed(), recorder.get_error_desc(0)) == (0, False, "")
    assert recorder.MAX_DESC_LENGTH == 127
    assert "num_errors was not overriden" in capfd.readouterr().err


def test_plugins_are_there(trt: Any) -> None:
    assert trt.init_libnvinfer_plugins(None, "") is True
    assert trt.get_nv_onnx_parser_version() > 10000


def test_two_modules_share_nothing() -> None:
    one, two = (make_tensorrt(SimulatedDevice(), "10.3.0") for _ in range(2))
    assert one.DataType is not two.DataType
    assert one.DataType.HALF != two.DataType.HALF
    with pytest.raises(TypeError):
        one.Runtime(two.Logger())


def test_a_builder_that_is_gone_counts_no_more(trt: Any) -> None:
    first = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(first)
    assert len(trt.Builder(first)._library._roots) >= 1
    del builder
    gc.collect()
    assert len(trt.Runtime(first)._library._roots) == 1
