"""What is documented for the calls of TensorRT and CUDA, and what each error of theirs must lead to."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
pytest.importorskip("polygraphy", reason="polygraphy: not installed")

from harness.fakes.bindings import read_manifest
from harness.fakes.device import SimulatedDevice
from harness.fakes.tensorrt import live_runtimes, make_tensorrt
from harness.faults.matrix import IN_WORK, Life, Pair, Site
from harness.faults.tensorrt import Socket
from runtime.cuda import STICKY
from runtime.errors import (
    DeviceLostError,
    EngineBuildError,
    EngineDeserializeError,
    InferenceError,
    OutOfMemoryError,
    RuntimeNotAvailableError,
)
from runtime.logs import Kind
from tiers.faults import lives_of


@pytest.fixture(scope="module")
def lives() -> Any:
    with lives_of("tensorrt", "10.3.0", "fp16") as found:
        yield found


def of(life: Life, step: str, api: str, error: str) -> Any:
    return life.expect(Pair(Site(step, api, 2), error, forever=False))


@pytest.mark.covers("T0-05")
def test_errors_are_those_of_the_bindings_own_documentation_and_those_of_earlier_work(lives: list[Life]) -> None:
    manifest = read_manifest("cuda-bindings-12.9.0")
    flight = lives[1]
    for api in ("cuMemAlloc", "cuStreamCreate", "cuCtxSetCurrent", "cuStreamSynchronize", "cuMemFreeHost"):
        found = list(flight.errors(api))
        assert found[: len(manifest[api]["errors"])] == manifest[api]["errors"]
        assert {"CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_ECC_UNCORRECTABLE"} <= set(found)
        assert len(found) == len(set(found))
    assert set(flight.errors("cuInit")) == set(manifest["cuInit"]["errors"])
    in_work = [error for error in flight.errors("cuMemcpyHtoDAsync") if error.endswith(IN_WORK)]
    assert len(in_work) >= 10
    assert {error.removesuffix(IN_WORK) for error in in_work} <= STICKY
    codes = read_manifest("tensorrt-10.3.0")["ErrorCodeTRT"]["enum"]
    assert {*flight.errors("tensorrt.IExecutionContext.set_input_shape"), "SUCCESS"} == set(codes)
    assert "CUDA_ERROR_OUT_OF_MEMORY" in flight.errors("tensorrt.Runtime.deserialize_cuda_engine")
    assert lives[2].errors("cuMemAlloc") == ()
    assert lives[2].errors("cuEventRecord")


@pytest.mark.covers("T0-05", "RT-07")
@pytest.mark.parametrize(
    ("step", "api", "error", "kind"),
    [
        ("load", "cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", OutOfMemoryError),
        ("load", "cuMemAlloc", "CUDA_ERROR_INVALID_VALUE", EngineDeserializeError),
        ("load", "cuInit", "CUDA_ERROR_INVALID_DEVICE", RuntimeNotAvailableError),
        ("load", "cuDeviceGet", "CUDA_ERROR_ILLEGAL_ADDRESS", DeviceLostError),
        ("infer 1", "cuStreamSynchronize", "CUDA_ERROR_LAUNCH_FAILED", DeviceLostError),
        ("infer 1", "tensorrt.IExecutionContext.execute_async_v3", "FAILED_EXECUTION", InferenceError),
        ("infer 1", "tensorrt.IExecutionContext.execute_async_v3", "FAILED_ALLOCATION", OutOfMemoryError),
        ("describe", "tensorrt.ICudaEngine.create_engine_inspector", "INTERNAL_ERROR", InferenceError),
        ("compile", "cuMemGetInfo", "CUDA_ERROR_ILLEGAL_ADDRESS", EngineBuildError),
        ("compile", "cuInit", "CUDA_ERROR_INVALID_DEVICE", RuntimeNotAvailableError),
        ("release", "cuMemFree", "CUDA_ERROR_INVALID_VALUE", None),
    ],
)
def test_each_error_has_one_answer(lives: list[Life], step: str, api: str, error: str, kind: Any) -> None:
    expected = of(lives[1], step, api, error)
    assert expected.error is kind
    assert expected.is_lost == (error in STICKY and step != "compile")
    if kind is None:
        assert (expected.log, expected.words, expected.may_stay) == (Kind.RELEASE_FAILED, ("cuMemFree",), True)
    else:
        assert expected.words


@pytest.mark.covers("T0-05")
def test_an_error_of_work_is_told_by_the_call_that_waits_for_it(lives: list[Life]) -> None:
    expected = of(lives[1], "infer 1", "cuMemcpyHtoDAsync", f"CUDA_ERROR_ILLEGAL_ADDRESS{IN_WORK}")
    assert (expected.error, expected.words) == (DeviceLostError, ("cuStreamSynchronize",))


def test_a_socket_is_the_device_that_is_plugged_in() -> None:
    socket: Any = Socket()
    module = make_tensorrt(socket, "10.3.0")
    first = socket.device
    runtime = module.Runtime(module.Logger())
    socket.device = SimulatedDevice()
    module.Runtime(module.Logger())
    assert [call.api for call in first.calls] == ["tensorrt.Runtime.__init__"]
    assert [call.api for call in socket.device.calls] == ["tensorrt.Runtime.__init__"]
    assert live_runtimes(module) == ["a Runtime of TensorRT"]
    del runtime
    assert live_runtimes(module) == []
