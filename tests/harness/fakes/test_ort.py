"""The recording ONNX Runtime, under the real strategy: the provider is scripted, the values are real."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.ort import make_ort
from harness.fakes.tensorrt_plan import Plan, flavour_of, write_plan
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, TensorSpec
from runtime.errors import DeviceLostError, EngineDeserializeError, InferenceError, OutOfMemoryError
from runtime.logs import EventLog
from runtime.platform import HostTuple
from runtime.strategies.ep_context import ep_context_model
from runtime.strategies.ort import OnnxTrtEpRuntime
from tests.harness.fakes.kit import computed, convolution, sample

pytestmark = pytest.mark.covers("T0-02")

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
HOST = HostTuple(sm="87", jetpack="6.2", trt="10.3.0", module="test", l4t="36.4.3")
RIGHT = computed(convolution(), {"x": sample()})[0]


class Bench:
    def __init__(self, folder: Path, *faults: Fault, active: str = TENSORRT, **config: Any) -> None:
        self.device = SimulatedDevice(faults=FaultPlan(faults))
        self.log = io.StringIO()
        self.load = make_ort(self.device, active)
        self.runtime = OnnxTrtEpRuntime(
            RuntimeConfig(
                **{"runtime": "onnx_trt_ep", "engine_cache_dir": str(folder), "intra_op_threads": 1, **config}
            ),
            host=HOST,
            log=EventLog(stream=self.log),
            load=self.load,
        )
        path = folder / "model.onnx"
        path.write_bytes(convolution().SerializeToString())
        self.entry = self.runtime.compile_engine(path, BuildConfig(precision="fp32"))

    def calls(self) -> list[str]:
        return [call.api.removeprefix("onnxruntime.") for call in self.device.calls]


@pytest.mark.parametrize(("active", "told"), [(TENSORRT, "tensorrt"), (CUDA, "cuda"), (CPU, "cpu")])
def test_the_scripted_provider_is_the_active_one_and_the_values_are_the_models(
    active: str, told: str, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, active=active)
    handle = bench.runtime.deserialize_engine(bench.entry)
    np.testing.assert_array_equal(bench.runtime.infer(handle, {"x": sample()})["y"], RIGHT)
    assert f'"provider": "{told}"' in bench.log.getvalue()
    described = bench.runtime.describe(handle)
    assert (described.provider, set(described.nodes_by_provider)) == (told, {told})
    bench.runtime.release_engine(handle)


def test_every_call_is_written_down(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    handle = bench.runtime.deserialize_engine(bench.entry)
    bench.runtime.infer(handle, {"x": sample()})
    assert bench.calls() == ["InferenceSession", "InferenceSession", "InferenceSession.run", "InferenceSession.run"]


def test_the_library_falls_back_as_the_real_one_does() -> None:
    library = make_ort(SimulatedDevice(), CPU)()
    data = convolution().SerializeToString()
    with pytest.raises(RuntimeError, match="Please install TensorRT libraries"):
        library.InferenceSession(data, providers=[TENSORRT, CUDA, CPU], enable_fallback=0)
    assert library.InferenceSession(data, providers=[(CUDA, {}), CPU]).get_providers() == [CPU]
    assert library.get_available_providers() == [TENSORRT, CUDA, CPU]
    assert make_ort(SimulatedDevice(), available=[CPU])().get_available_providers() == [CPU]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("RuntimeException", InferenceError),
        ("EPFail", InferenceError),
        ("MemoryError", OutOfMemoryError),
        ("CUDA_ERROR_OUT_OF_MEMORY", OutOfMemoryError),
        ("CUDA_ERROR_ILLEGAL_ADDRESS", DeviceLostError),
    ],
)
def test_a_planned_fault_of_a_run_is_the_error_that_it_stands_for(
    error: str, kind: type[Exception], tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    handle = bench.runtime.deserialize_engine(bench.entry)
    bench.device.faults.add(Fault("onnxruntime.InferenceSession.run", error))
    with pytest.raises(kind):
        bench.runtime.infer(handle, {"x": sample()})
    if kind is DeviceLostError:
        with pytest.raises(DeviceLostError):
            bench.runtime.infer(handle, {"x": sample()})
    else:
        np.testing.assert_array_equal(bench.runtime.infer(handle, {"x": sample()})["y"], RIGHT)


def test_a_planned_fault_of_a_session_passes_to_the_next_head(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.device.faults.add(Fault("onnxruntime.InferenceSession", "EPFail"))
    handle = bench.runtime.deserialize_engine(bench.entry)
    assert "injected EPFail" in bench.log.getvalue()
    np.testing.assert_array_equal(bench.runtime.infer(handle, {"x": sample()})["y"], RIGHT)


def test_outputs_that_are_bound_are_computed_and_written_down(tmp_path: Path) -> None:
    library = make_ort(
        SimulatedDevice(faults=FaultPlan([Fault("onnxruntime.InferenceSession.run_with_iobinding", "Fail")]))
    )()
    session = library.InferenceSession(convolution().SerializeToString(), providers=[(TENSORRT, {})])
    binding, out = session.io_binding(), np.empty((2, 5), np.float32)
    binding.bind_cpu_input("x", sample())
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    with pytest.raises(library.capi.onnxruntime_pybind11_state.Fail):
        session.run_with_iobinding(binding)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(out, RIGHT)


def context_model(sm: str) -> bytes:
    data = convolution().SerializeToString()
    plan = write_plan(Plan("m", (sm,), data, (), (0,), 8, ()), flavour_of("10.3.0"))
    specs = (TensorSpec("x", (2, 3, 8, 8), "float32"),), (TensorSpec("y", (2, 5), "float32"),)
    return bytes(ep_context_model(memoryview(plan), *specs, sm=sm, trt="10.3.0"))


def test_an_engine_in_a_context_model_computes_what_is_in_it() -> None:
    library = make_ort(SimulatedDevice(sm="87"))()
    session = library.InferenceSession(context_model("87"), providers=[(TENSORRT, {})])
    np.testing.assert_array_equal(session.run(None, {"x": sample()})[0], RIGHT)


def test_an_engine_for_another_gpu_is_an_ep_fail() -> None:
    library = make_ort(SimulatedDevice(sm="87"))()
    with pytest.raises(library.capi.onnxruntime_pybind11_state.EPFail, match="could not deserialize engine"):
        library.InferenceSession(context_model("89"), providers=[(TENSORRT, {})])


def test_a_model_that_no_head_takes_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.device.faults.add(Fault("onnxruntime.InferenceSession", "InvalidGraph", forever=True))
    with pytest.raises(EngineDeserializeError, match="no provider of ONNX Runtime"):
        bench.runtime.deserialize_engine(bench.entry)
