"""TensorrtRuntime on the simulated device: the order of its work, its memory, its budget, and every way to fail."""

from __future__ import annotations

import gc
import io
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx: not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")

from harness.fakes.device import SimulatedDevice
from harness.fakes.faults import Fault, FaultPlan
from harness.fakes.install import installed
from runtime.config import RuntimeConfig
from runtime.cuda import CudaDriver
from runtime.data import BuildConfig, EngineHandle
from runtime.errors import (
    DeviceLostError,
    EngineBuildError,
    EngineDeserializeError,
    EngineHashMismatchError,
    EngineSchemaMismatchError,
    InferenceError,
    OutOfMemoryError,
    RuntimeCoreError,
    RuntimeNotAvailableError,
)
from runtime.files import FileSystem
from runtime.logs import EventLog
from runtime.platform import HostTuple, nvml_compute_capability
from runtime.protocol import Describes, InferenceRuntime
from runtime.strategies.trt import TensorrtRuntime
from runtime.strategies.trt_lane import BANK_BYTES
from runtime.strategies.trt_library import load_library, make_logger
from tests.runtime.strategies.trt_bench import (
    FLAVOURS,
    FLOAT,
    SCRATCH_BYTES,
    WEIGHTS_BYTES,
    Bench,
    added,
    doubled,
    expanded,
    model,
    node,
    on_device,
    ramp,
    save,
    selected,
    spec,
    value,
)

X = ramp(1, 8)
Y = np.maximum(2 * X, 0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with on_device(tmp_path) as made:
        yield made


@pytest.fixture(params=FLAVOURS)
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A bench for each TensorRT in turn."""
    with on_device(tmp_path, request.param) as made:
        yield made


# Loading: gate, budget, library, context, buffers


@pytest.mark.covers("TT-05", "TT-07", "TT-03")
def test_an_engine_is_loaded_and_run_alike_on_every_tensorrt(each: Bench) -> None:
    runtime = each.runtime()
    assert isinstance(runtime, InferenceRuntime)
    assert isinstance(runtime, Describes)
    handle = runtime.deserialize_engine(each.entry())
    np.testing.assert_array_equal(runtime.infer(handle, {"x": X})["y"], Y)
    np.testing.assert_array_equal(runtime.infer(handle, {"x": -X})["y"], np.maximum(-2 * X, 0))
    runtime.release_engine(handle)
    assert runtime.resident_bytes == each.device.live_bytes == 0


def test_the_drivers_memory_can_be_asked_while_there_is_a_device(bench: Bench) -> None:
    runtime = bench.runtime()
    assert runtime.memory_info() is None
    handle = runtime.deserialize_engine(bench.entry())
    before = runtime.memory_info()
    assert before is not None
    assert 0 < before.free_bytes < before.total_bytes
    runtime.release_engine(handle)
    after = runtime.memory_info()
    assert after is not None
    assert after.free_bytes > before.free_bytes


def nothing_may_be_loaded() -> Any:
    raise AssertionError("the library was loaded")


@pytest.mark.covers("TR-03", "RT-11", "TT-05")
def test_an_engine_that_the_gate_refuses_touches_neither_the_library_nor_the_device(bench: Bench) -> None:
    entry = bench.entry()
    entry.engine_path.write_bytes(entry.engine_path.read_bytes()[:-1])
    runtime = bench.runtime(load=nothing_may_be_loaded)
    with pytest.raises(EngineHashMismatchError):
        runtime.deserialize_engine(entry)
    assert bench.device.calls == []
    assert [event["kind"] for event in bench.events()] == ["c7.engine_refused", "c7.deserialize_failed"]


@pytest.mark.covers("TT-06")
def test_a_budget_is_refused_by_prediction_before_the_library_or_the_device_is_touched(bench: Bench) -> None:
    entry = bench.entry()
    plan = entry.engine_path.stat().st_size
    predicted = plan + SCRATCH_BYTES + 1024
    runtime = bench.runtime(load=nothing_may_be_loaded, gpu_memory_budget_bytes=predicted - 1)
    with pytest.raises(OutOfMemoryError) as refused:
        runtime.deserialize_engine(entry)
    said = str(refused.value)
    assert entry.engine_path.name in said
    assert f"predicted to need {predicted} bytes" in said
    assert "0 are resident" in said
    assert f"gpu_memory_budget_bytes is {predicted - 1}" in said
    assert bench.device.calls == []
    assert runtime.resident_bytes == 0
    assert bench.events("c7.out_of_memory")[0]["level"] == "ERROR"
    exactly = bench.runtime(gpu_memory_budget_bytes=predicted)
    exactly.release_engine(exactly.deserialize_engine(entry))


@pytest.mark.covers("TT-06")
def test_buffers_that_the_manifest_does_not_tell_are_taken_for_256_mib(bench: Bench) -> None:
    entry = bench.entry(opt_buffer_bytes=None)
    predicted = entry.engine_path.stat().st_size + SCRATCH_BYTES + (256 << 20)
    with pytest.raises(OutOfMemoryError, match=f"{predicted} bytes .*buffers {256 << 20}"):
        bench.runtime(gpu_memory_budget_bytes=predicted - 1).deserialize_engine(entry)


@pytest.mark.covers("TT-06", "RT-10")
def test_what_is_resident_counts_against_the_budget_of_the_next_engine_until_it_is_released(bench: Bench) -> None:
    first, second = bench.entry(name="first"), bench.entry(name="second")
    predicted = first.engine_path.stat().st_size + SCRATCH_BYTES + 1024
    runtime = bench.runtime(gpu_memory_budget_bytes=predicted + WEIGHTS_BYTES + SCRATCH_BYTES)
    handle = runtime.deserialize_engine(first)
    resident = runtime.resident_bytes
    with pytest.raises(OutOfMemoryError, match=f"second.*{resident} are resident"):
        runtime.deserialize_engine(second)
    assert (runtime.resident_bytes, runtime.resident_engines()) == (resident, ["first@fp16"])
    runtime.release_engine(handle)
    runtime.release_engine(runtime.deserialize_engine(second))


@pytest.mark.covers("TT-06", "LO-01")
def test_the_figure_of_the_ledger_replaces_the_prediction_and_both_are_told(each: Bench) -> None:
    entry = each.entry()
    runtime = each.runtime()
    handle = runtime.deserialize_engine(entry)
    allocated = WEIGHTS_BYTES + SCRATCH_BYTES + X.nbytes + Y.nbytes
    assert runtime.resident_bytes == each.device.live_bytes == allocated
    event = each.events("c7.engine_loaded")[0]
    predicted = entry.engine_path.stat().st_size + SCRATCH_BYTES + 1024
    assert (event["predicted_bytes"], event["device_bytes"], event["resident_bytes"]) == (
        predicted,
        allocated,
        allocated,
    )
    described = runtime.describe(handle)
    assert described.device_bytes == allocated
    assert described.host_bytes == each.device.live_host_bytes > 0
    assert any(f"predicted {predicted} bytes, allocated {allocated}" in note for note in described.notes)


@pytest.mark.covers("TT-06", "RT-09")
def test_the_allocator_holds_tensorrt_to_the_budget_where_the_manifest_was_wrong(each: Bench) -> None:
    entry = each.entry(weights_bytes=10 << 20)
    runtime = each.runtime(gpu_memory_budget_bytes=1 << 20)
    with pytest.raises(OutOfMemoryError) as refused:
        runtime.deserialize_engine(entry)
    assert f"deserialising {entry.engine_path.name}: TensorRT asked for {10 << 20} bytes" in str(refused.value)
    assert f"{1 << 20} of {1 << 20} are left in gpu_memory_budget_bytes" in str(refused.value)
    assert runtime.resident_bytes == each.device.live_bytes == each.device.peak_bytes == 0


@pytest.mark.covers("TT-06", "RT-09")
def test_the_contexts_own_need_is_refused_before_any_of_it_is_allocated(each: Bench) -> None:
    entry = each.entry(scratch_bytes=8 << 20, device_memory_bytes=None)
    runtime = each.runtime(gpu_memory_budget_bytes=8 << 20)
    with pytest.raises(OutOfMemoryError) as refused:
        runtime.deserialize_engine(entry)
    needed = (8 << 20) + X.nbytes + Y.nbytes
    assert f"{entry.engine_path.name} needs {needed} bytes of device memory for its context and buffers" in str(
        refused.value
    )
    assert f"{WEIGHTS_BYTES} are resident" in str(refused.value)
    assert each.device.peak_bytes == WEIGHTS_BYTES
    assert each.device.live_bytes == runtime.resident_bytes == 0


@pytest.mark.covers("TT-06")
def test_a_tensorrt_that_asks_our_allocator_for_nothing_is_said_once_to_be_capped_by_prediction(bench: Bench) -> None:
    runtime = bench.runtime()
    entry = bench.entry(weights_bytes=0)
    for _ in range(2):
        runtime.release_engine(runtime.deserialize_engine(entry))
    assert [alert.kind.value for alert in bench.alerts] == ["c7.budget_by_prediction"]
    assert "cap by prediction only: TensorRT did not ask" in bench.alerts[0].fields["reason"]


class Greedy:
    """A context that asks the engine's allocator for memory in each call, as a library may that allocates lazily."""

    def __init__(self, context: Any, allocator: Any) -> None:
        self._context = context
        self._allocator = allocator
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def execute_async_v3(self, stream: int) -> bool:
        self.calls += 1
        if self.calls > 1:  # the first is the warm-up's
            self._allocator.deallocate_async(self._allocator.allocate_async(256, 256, 0, stream), stream)
        return bool(self._context.execute_async_v3(stream))


@pytest.mark.covers("TT-06")
def test_an_allocator_that_is_called_after_the_first_run_is_said_once_to_cap_no_longer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}
    engine_kind, runtime_kind = bench.fakes.tensorrt.ICudaEngine, bench.fakes.tensorrt.Runtime
    create, put = engine_kind.create_execution_context, runtime_kind.gpu_allocator.fset

    def keep(self: Any, allocator: Any) -> None:
        made["allocator"] = allocator
        put(self, allocator)

    monkeypatch.setattr(runtime_kind, "gpu_allocator", property(None, keep))
    monkeypatch.setattr(
        engine_kind,
        "create_execution_context",
        lambda self, strategy: Greedy(create(self, strategy), made["allocator"]),
    )
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry())
    assert bench.alerts == []
    for _ in range(3):
        np.testing.assert_array_equal(runtime.infer(handle, {"x": X})["y"], Y)
    assert [alert.fields["reason"] for alert in bench.alerts] == [
        "cap by prediction only: TensorRT asked our allocator for memory in a call"
    ]
    made.clear()


# Rollback


def planned_error(api: str) -> str:
    return "FAILED_EXECUTION" if api.startswith("tensorrt.") else "CUDA_ERROR_UNKNOWN"


def calls_of_a_load(folder: Path, flavour: str, **entry: Any) -> list[str]:
    with on_device(folder, flavour) as bench:
        runtime = bench.runtime()
        handle = runtime.deserialize_engine(bench.entry(**entry))
        calls = bench.since(0)
        runtime.release_engine(handle)
        del runtime, handle
    return calls


@pytest.mark.covers("TT-05", "RT-09", "RT-07")
@pytest.mark.parametrize(("flavour", "is_dynamic"), [("10.3.0", True), ("rtx1.7.1.116", False)])
def test_each_step_of_loading_undoes_those_before_it(tmp_path: Path, flavour: str, is_dynamic: bool) -> None:
    what: dict[str, Any] = {}
    if is_dynamic:
        what = {"proto": doubled((1, "n")), "profile": {"x": ((1, 1), (1, 8), (1, 800_000))}}
    calls = calls_of_a_load(tmp_path / "reference", flavour, **what)
    assert {"cuMemAlloc", "cuMemHostAlloc", "cuStreamCreate", "tensorrt.Runtime.deserialize_cuda_engine"} <= set(calls)
    assert ("cuEventCreate" in calls) == is_dynamic
    seen: dict[str, int] = {}
    for api in calls:
        seen[api] = seen.get(api, 0) + 1
        with on_device(tmp_path, flavour) as bench:
            runtime = bench.runtime()
            entry = bench.entry(**what)
            bench.device.faults.add(Fault(api, planned_error(api), after_calls=seen[api] - 1))
            with pytest.raises(RuntimeCoreError) as failed:
                runtime.deserialize_engine(entry)
            assert not isinstance(failed.value, DeviceLostError), api
            assert runtime.resident_bytes == bench.device.live_bytes == bench.device.live_host_bytes == 0, api
            assert [leak for leak in bench.device.leaks() if "primary" not in leak] == [], api
            assert runtime.resident_engines() == []
            assert len(bench.events("c7.deserialize_failed")) == 1, api
            handle = runtime.deserialize_engine(entry)
            feed = {"x": X}
            np.testing.assert_array_equal(runtime.infer(handle, feed)["y"], Y)
            runtime.release_engine(handle)
            del runtime, handle, failed


@pytest.mark.covers("TR-04")
def test_an_engine_is_read_once_a_file_that_is_gone_once_it_was_opened_is_loaded_all_the_same(bench: Bench) -> None:
    opened: list[str] = []

    class Vanishing(FileSystem):
        def open(self, path: Path, *, follow: bool) -> Any:
            file = super().open(path, follow=follow)
            if path.suffix == ".engine":
                opened.append(path.name)
                path.unlink()
            return file

    entry = bench.entry()
    runtime = bench.runtime(fs=Vanishing())
    handle = runtime.deserialize_engine(entry)
    np.testing.assert_array_equal(runtime.infer(handle, {"x": X})["y"], Y)
    assert opened == [entry.engine_path.name]
    runtime.release_engine(handle)


@pytest.mark.covers("TR-04")
def test_a_file_that_is_swapped_after_the_check_changes_nothing(bench: Bench) -> None:
    entry = bench.entry()
    negated = model(
        [node("Neg", ["x"], ["y"])], [value("x", FLOAT, [1, 8])], [value("y", FLOAT, [1, 8])], ("two", np.zeros(1))
    )
    impostor = bench.entry(negated, name="impostor").engine_path.read_bytes()

    def swap_and_load() -> Any:
        entry.engine_path.write_bytes(impostor)
        return load_library()

    runtime = bench.runtime(load=swap_and_load)
    handle = runtime.deserialize_engine(entry)
    np.testing.assert_array_equal(runtime.infer(handle, {"x": X})["y"], Y)
    runtime.release_engine(handle)


# Running


@pytest.mark.covers("TT-07")
def test_a_call_copies_in_enqueues_copies_out_and_waits_and_nothing_else(each: Bench) -> None:
    runtime = each.runtime()
    handle = runtime.deserialize_engine(each.entry(added()))
    feed = {"a": ramp(2, 4), "b": ramp(2, 4) * 3}
    number, allocated = len(each.device.calls), each.device.allocations
    for _ in range(20):
        runtime.infer(handle, feed)
    once = [
        "cuCtxSetCurrent",
        *["cuMemcpyHtoDAsync"] * 2,
        "tensorrt.IExecutionContext.execute_async_v3",
        *["cuMemcpyDtoHAsync"] * 2,
        "cuStreamSynchronize",
    ]
    assert each.since(number) == once * 20
    assert each.device.allocations == allocated
    runtime.release_engine(handle)


@pytest.mark.covers("TT-09")
def test_a_timed_call_tells_what_the_device_spent_on_copies_and_compute_in_their_order(each: Bench) -> None:
    runtime = each.runtime(clock=each.device.clock)
    handle = runtime.deserialize_engine(each.entry(added()))
    feed = {"a": ramp(2, 4), "b": ramp(2, 4) * 3}
    runtime.infer(handle, feed)
    assert runtime.split_ns(handle) is None
    assert runtime.time_calls(handle)
    assert runtime.time_calls(handle)  # a second time makes no further events
    assert runtime.split_ns(handle) is None
    number, allocated, began_ns = len(each.device.calls), each.device.allocations, each.device.clock.now_ns()
    runtime.infer(handle, feed)
    took_ns = each.device.clock.now_ns() - began_ns
    assert [api for api in each.since(number) if api != "cuCtxSetCurrent"] == [
        "cuEventRecord",
        *["cuMemcpyHtoDAsync"] * 2,
        "cuEventRecord",
        "tensorrt.IExecutionContext.execute_async_v3",
        "cuEventRecord",
        *["cuMemcpyDtoHAsync"] * 2,
        "cuEventRecord",
        "cuStreamSynchronize",
    ]
    assert each.device.allocations == allocated
    split = runtime.split_ns(handle)
    assert split is not None
    assert min(split[:3]) > 0
    assert split[1] > 5 * max(split[0], split[2])  # a few bytes are copied, and a kernel is started
    assert took_ns - 2_000 <= sum(split) <= took_ns  # but for the call that makes the context current
    runtime.release_engine(handle)
    with pytest.raises(InferenceError, match="released"):
        runtime.split_ns(handle)


@pytest.mark.covers("TT-09", "RT-10")
def test_a_call_that_failed_has_no_split_and_events_that_cannot_be_made_are_told(tmp_path: Path) -> None:
    with on_device(
        tmp_path, faults=FaultPlan([Fault("cuEventCreate", "CUDA_ERROR_OUT_OF_MEMORY", after_calls=2)])
    ) as bench:
        runtime = bench.runtime()
        handle = runtime.deserialize_engine(bench.entry())
        with pytest.raises(OutOfMemoryError, match="timing"):
            runtime.time_calls(handle)
        assert runtime.time_calls(handle)
        runtime.infer(handle, {"x": X})
        assert runtime.split_ns(handle)
        with pytest.raises(InferenceError):
            runtime.infer(handle, {"x": X.astype(np.float64)})
        assert runtime.split_ns(handle)  # refused before any work: still the split of the call before
        runtime.release_engine(handle)
        del runtime, handle


@pytest.mark.covers("TT-07", "RT-11", "RT-12")
def test_a_call_imports_and_allocates_nothing_not_even_for_new_shapes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry(doubled((1, "n")), profile={"x": ((1, 1), (1, 8), (1, 64))}))

    class Forbidding:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            raise AssertionError(f"{name} is imported in a call")

    feeds = [ramp(1, size) for size in (8, 1, 64, 8)]
    allocated = bench.device.allocations
    with monkeypatch.context() as patch:
        patch.setattr(sys, "meta_path", [Forbidding()])
        results = [runtime.infer(handle, {"x": x})["y"] for x in feeds]
    for x, result in zip(feeds, results, strict=True):
        np.testing.assert_array_equal(result, np.maximum(2 * x, 0))
    assert bench.device.allocations == allocated
    runtime.release_engine(handle)


@pytest.mark.covers("RT-01", "TT-07")
def test_results_belong_to_the_caller_and_inputs_are_not_changed(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry())
    x = X.copy()
    x.setflags(write=False)
    first = runtime.infer(handle, {"x": x})["y"]
    kept = first.copy()
    second = runtime.infer(handle, {"x": x + 1})["y"]
    np.testing.assert_array_equal(first, kept)
    assert not np.may_share_memory(first, second)
    second[:] = 99
    np.testing.assert_array_equal(runtime.infer(handle, {"x": x})["y"], Y)
    runtime.release_engine(handle)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.covers("RT-01")
def test_the_callers_own_arrays_are_filled_and_returned(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry(added()))
    a, b = ramp(2, 4), ramp(2, 4) * 3
    out = {"difference": np.full((2, 4), 7, np.float32)}
    results = runtime.infer(handle, {"a": a, "b": b}, out=out)
    assert results["difference"] is out["difference"]
    assert list(results) == ["sum", "difference"]
    np.testing.assert_array_equal(results["sum"], a + b)
    np.testing.assert_array_equal(out["difference"], a - b)
    with pytest.raises(InferenceError, match=r"out\['sum'\] has shape 4x2"):
        runtime.infer(handle, {"a": a, "b": b}, out={"sum": np.zeros((4, 2), np.float32)})
    runtime.release_engine(handle)


@pytest.mark.covers("TT-07")
@pytest.mark.parametrize("mode", ["lazy", "eager", "chosen"])
def test_inputs_larger_than_the_staging_banks_arrive_whole_whatever_the_device_does_first(
    tmp_path: Path, mode: str
) -> None:
    chance = np.random.default_rng(5)

    def chooser(labels: Any) -> int | None:
        drawn = int(chance.integers(0, len(labels) + 1))
        return drawn if drawn < len(labels) else None

    shape = (3, 5 * BANK_BYTES // 36)
    with on_device(tmp_path, mode=chooser if mode == "chosen" else mode) as bench:
        runtime = bench.runtime()
        handle = runtime.deserialize_engine(bench.entry(added(shape)))
        outputs = 2 * 4 * shape[0] * shape[1]
        assert bench.device.live_host_bytes == 2 * BANK_BYTES + outputs
        feed = {name: chance.standard_normal(shape, np.float32) for name in ("a", "b")}
        number = len(bench.device.calls)
        for _ in range(2):
            results = runtime.infer(handle, feed)
            np.testing.assert_array_equal(results["sum"], feed["a"] + feed["b"])
            np.testing.assert_array_equal(results["difference"], feed["a"] - feed["b"])
        calls = bench.since(number)
        assert calls.count("cuEventSynchronize") == 2 * 2  # four banks full of data through two banks
        assert not {"cuMemAlloc", "cuMemHostAlloc", "cuEventCreate"} & set(calls)
        runtime.release_engine(handle)
        del runtime, handle


@pytest.mark.covers("TT-07")
def test_threads_share_a_handle_and_a_runtime_and_each_gets_its_own_results(bench: Bench) -> None:
    runtime = bench.runtime()
    shared = runtime.deserialize_engine(bench.entry(name="shared"))
    own = [runtime.deserialize_engine(bench.entry(name=f"own{index}")) for index in range(3)]
    wrong: list[str] = []

    def consume(index: int) -> None:
        try:
            for step in range(25):
                x = ramp(1, 8) + 10 * index + step
                results = [runtime.infer(handle, {"x": x})["y"] for handle in (shared, own[index])]
                if not all(np.array_equal(result, np.maximum(2 * x, 0)) for result in results):
                    wrong.append(f"thread {index}, step {step}")
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=consume, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    for handle in (shared, *own):
        runtime.release_engine(handle)
    assert bench.device.live_bytes == 0


@pytest.mark.covers("TT-07")
def test_the_primary_context_is_made_current_whatever_another_library_left_on_the_thread(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry())
    foreign = bench.device.create_context()
    np.testing.assert_array_equal(runtime.infer(handle, {"x": X})["y"], Y)
    bench.device.set_current(foreign)
    runtime.release_engine(handle)
    bench.device.destroy_context(foreign)
    assert bench.device.live_bytes == 0


@pytest.mark.covers("RT-08")
@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ({}, "input 'x' is missing"),
        ({"x": X, "z": X}, "input 'z' came"),
        ({"x": X[:, :4]}, "input 'x' has shape 1x4; expected float32 1x8"),
        ({"x": X.astype(np.float64)}, "input 'x' is float64 1x8; expected float32 1x8"),
        ({"x": np.asfortranarray(ramp(8, 8))[:1]}, "not C-contiguous"),
    ],
)
def test_a_wrong_input_is_refused_by_name_before_the_device_is_touched(
    bench: Bench, feed: dict[str, Any], said: str
) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry())
    number = len(bench.device.calls)
    with pytest.raises(InferenceError, match=said):
        runtime.infer(handle, feed)
    assert bench.since(number) == []
    event = bench.events("c7.inference_failed")[0]
    assert (event["backbone"], event["frame"]) == ("m", 1)
    np.testing.assert_array_equal(runtime.infer(handle, {"x": X})["y"], Y)
    runtime.release_engine(handle)


# Handles


@pytest.mark.covers("RT-05", "RT-10")
def test_release_frees_everything_twice_is_nothing_and_a_foreign_handle_is_ignored(each: Bench) -> None:
    runtime, other = each.runtime(), each.runtime()
    handle = runtime.deserialize_engine(each.entry())
    other.release_engine(handle)
    other.release_engine(object())  # type: ignore[arg-type]
    assert each.device.live_bytes == runtime.resident_bytes > 0
    with pytest.raises(InferenceError, match="belongs to another runtime"):
        other.infer(handle, {"x": X})
    runtime.release_engine(handle)
    number = len(each.device.calls)
    runtime.release_engine(handle)
    assert each.since(number) == []
    assert handle.released
    assert runtime.resident_bytes == each.device.live_bytes == each.device.live_host_bytes == 0
    assert runtime.resident_engines() == []
    with pytest.raises(InferenceError, match="was released"):
        runtime.infer(handle, {"x": X})
    with pytest.raises(InferenceError, match="was released"):
        runtime.describe(handle)


@pytest.mark.covers("RT-10")
@pytest.mark.parametrize("api", ["cuMemFree", "cuMemFreeHost", "cuStreamDestroy", "cuEventDestroy", "cuCtxSetCurrent"])
def test_a_fault_while_freeing_is_logged_once_and_the_rest_is_freed(bench: Bench, api: str) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry(doubled((1, "n")), profile={"x": ((1, 1), (1, 8), (1, 800_000))}))
    blocks = bench.device.leaks()
    bench.device.faults.add(Fault(api, "CUDA_ERROR_UNKNOWN"))
    runtime.release_engine(handle)
    failed = bench.events("c7.release_failed")
    assert len(failed) == (api != "cuMemFree" or 1)
    assert all(api in event["message"] for event in failed)
    assert runtime.resident_bytes == 0
    left = [leak for leak in bench.device.leaks() if "primary" not in leak]
    assert len(left) == (api != "cuCtxSetCurrent")  # what could not be freed, and nothing else
    assert len(blocks) > 5
    bench.device.lost_to = "done with"  # what is left is not the runtime's fault


@pytest.mark.covers("RT-10")
@pytest.mark.parametrize("is_loaded", [True, False])
def test_the_context_goes_before_its_memory_the_engine_after_it_and_the_runtime_last(
    each: Bench, monkeypatch: pytest.MonkeyPatch, is_loaded: bool
) -> None:
    gone: list[str] = []

    def watch(kind: str) -> None:
        cls = getattr(each.fakes.tensorrt, kind)
        before = getattr(cls, "__del__", None)

        def end(self: Any) -> None:
            gone.append(f"{kind}, {each.device.live_bytes} bytes")
            if before is not None:
                before(self)

        monkeypatch.setattr(cls, "__del__", end, raising=False)

    for kind in ("IExecutionContext", "ICudaEngine", "Runtime"):
        watch(kind)
    runtime = each.runtime()
    entry = each.entry()
    if is_loaded:
        handle = runtime.deserialize_engine(entry)
        assert gone == []
        runtime.release_engine(handle)
        assert handle.released
    else:
        each.device.faults.add(Fault("cuStreamSynchronize", "CUDA_ERROR_UNKNOWN"))
        with pytest.raises(EngineDeserializeError, match="warming up"):
            runtime.deserialize_engine(entry)
    everything = WEIGHTS_BYTES + SCRATCH_BYTES + X.nbytes + Y.nbytes
    assert gone == [f"IExecutionContext, {everything} bytes", f"ICudaEngine, {WEIGHTS_BYTES} bytes", "Runtime, 0 bytes"]


@pytest.mark.covers("RT-10", "TT-06")
def test_what_tensorrt_does_not_give_back_is_freed_once_it_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.fakes.tensorrt.ICudaEngine, "__del__", lambda self: None)
    runtime = bench.runtime()
    runtime.release_engine(runtime.deserialize_engine(bench.entry()))
    assert runtime.resident_bytes == bench.device.live_bytes == 0
    assert bench.events("c7.release_failed") == []


@pytest.mark.covers("RT-10", "TT-07")
def test_release_waits_for_a_call_that_runs_and_one_that_comes_after_it_is_refused(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry())
    entered, released = threading.Event(), threading.Event()
    engine: Any = handle.resources
    run = engine.lane.run

    def slow(inputs: Any, out: Any = None) -> Any:
        entered.set()
        assert not released.wait(0.2), "the engine was freed under a call"
        return run(inputs, out)

    engine.lane.run = slow
    results: list[Any] = []
    caller = threading.Thread(target=lambda: results.append(runtime.infer(handle, {"x": X})["y"]))
    caller.start()
    entered.wait(10)
    runtime.release_engine(handle)
    released.set()
    caller.join(10)
    np.testing.assert_array_equal(results[0], Y)
    assert bench.device.live_bytes == 0
    with pytest.raises(InferenceError, match="released"):
        runtime._infer(engine, {"x": X}, None)


@pytest.mark.covers("RT-05", "RT-10")
def test_a_handle_that_is_dropped_without_a_release_is_freed(bench: Bench) -> None:
    runtime = bench.runtime()
    handle: EngineHandle | None = runtime.deserialize_engine(bench.entry())
    assert runtime.resident_bytes > 0
    handle = None
    gc.collect()
    assert runtime.resident_bytes == bench.device.live_bytes == bench.device.live_host_bytes == 0
    assert "dropped" in bench.events("c7.engine_released")[0]["reason"]
    assert handle is None


@pytest.mark.covers("TT-07", "RT-10")
def test_the_context_is_let_go_with_the_runtime_and_its_last_engine(bench: Bench) -> None:
    runtime: TensorrtRuntime | None = bench.runtime()
    assert runtime is not None
    gone = weakref.ref(runtime)
    handle: EngineHandle | None = runtime.deserialize_engine(bench.entry())
    assert [leak for leak in bench.device.leaks() if "primary" in leak]
    runtime = handle = None
    gc.collect()
    assert gone() is runtime is handle
    assert bench.device.leaks() == []
    assert bench.events("c7.release_failed") == []


# Shapes


@pytest.mark.covers("TT-07", "RT-08", "RT-12")
def test_free_sizes_follow_each_call_within_the_profile_and_are_refused_outside_it(each: Bench) -> None:
    runtime = each.runtime()
    entry = each.entry(doubled(("batch", 8)), profile={"x": ((1, 8), (2, 8), (4, 8))}, inputs=(spec("x", "batch", 8),))
    handle = runtime.deserialize_engine(entry)
    assert runtime.describe(handle).inputs[0].shape == ("batch", 8)
    assert runtime.describe(handle).outputs[0].shape == ("y_0", 8)
    for batch in (4, 1, 3, 3):
        x = ramp(batch, 8)
        results = runtime.infer(handle, {"x": x}, out={"y": np.zeros((batch, 8), np.float32)})
        np.testing.assert_array_equal(results["y"], np.maximum(2 * x, 0))
    with pytest.raises(InferenceError, match="input 'x' has shape 5x8; its profile allows 1x8 to 4x8"):
        runtime.infer(handle, {"x": ramp(5, 8)})
    number = len(each.device.calls)
    with pytest.raises(InferenceError, match=r"out\['y'\] has shape 4x8; this call's output is 2x8") as refused:
        runtime.infer(handle, {"x": ramp(2, 8)}, out={"y": np.zeros((4, 8), np.float32)})
    assert refused.value.__cause__ is None  # and not itself
    assert "cuMemcpyHtoDAsync" not in each.since(number)
    np.testing.assert_array_equal(runtime.infer(handle, {"x": ramp(2, 8)})["y"], np.maximum(2 * ramp(2, 8), 0))
    runtime.release_engine(handle)


@pytest.mark.covers("TT-07", "RT-12")
def test_an_input_whose_values_are_a_shape_is_read_on_the_host_in_each_call(each: Bench) -> None:
    runtime = each.runtime()
    entry = each.entry(expanded(), shape_values={"shape": ((1, 4), (2, 4), (5, 4))})
    handle = runtime.deserialize_engine(entry)
    x, allocated = ramp(1, 4), each.device.allocations
    for rows in (5, 1, 3):
        results = runtime.infer(handle, {"x": x, "shape": np.array([rows, 4])})
        np.testing.assert_array_equal(results["y"], np.repeat(x, rows, axis=0))
    assert each.device.allocations == allocated
    runtime.release_engine(handle)


@pytest.mark.covers("RT-08")
def test_a_size_that_two_inputs_share_is_one_size_in_a_call(bench: Bench) -> None:
    runtime = bench.runtime()
    sizes = ((1, 4), (2, 4), (4, 4))
    entry = bench.entry(
        added(("n", 4)),
        profile={"a": sizes, "b": sizes},
        inputs=(spec("a", "n", 4), spec("b", "n", 4)),
        outputs=(spec("sum", "n", 4), spec("difference", "n", 4)),
    )
    handle = runtime.deserialize_engine(entry)
    with pytest.raises(InferenceError, match="expected one size for 'n' in one call"):
        runtime.infer(handle, {"a": ramp(2, 4), "b": ramp(3, 4)})
    runtime.release_engine(handle)


@pytest.mark.covers("TT-05")
def test_a_free_size_without_a_profile_and_profiles_that_contradict_each_other_are_refused_by_input(
    bench: Bench,
) -> None:
    runtime = bench.runtime()
    with pytest.raises(EngineDeserializeError, match=r"input 'x' is 1x\?, and the engine has no optimization profile"):
        runtime.deserialize_engine(bench.entry(doubled((1, "n"))))
    apart = {"a": ((1, 4), (2, 4), (4, 4)), "b": ((1, 4), (2, 4), (3, 4))}
    with pytest.raises(EngineDeserializeError, match=r"making a context for .*infer"):
        runtime.deserialize_engine(bench.entry(added(("n", 4)), profile=apart))
    assert bench.device.live_bytes == runtime.resident_bytes == 0


@pytest.mark.covers("TT-05")
def test_an_output_whose_shape_depends_on_the_data_is_refused_with_the_way_out(bench: Bench) -> None:
    runtime = bench.runtime()
    with pytest.raises(EngineDeserializeError, match=r"the shape of output 'y' depends on the data.*TopK"):
        runtime.deserialize_engine(bench.entry(selected()))
    assert bench.device.live_bytes == 0


@pytest.mark.covers("TT-05", "TR-03")
def test_a_manifest_whose_tensors_are_not_the_engines_is_refused(bench: Bench) -> None:
    runtime = bench.runtime()
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"inputs": (spec("x", 1, 9),)}, "its manifest declares 'x' as float32 1x9; the engine has float32 1x8"),
        ({"inputs": (spec("x", 1, 8, dtype="float16"),)}, "as float16 1x8; the engine has float32"),
        ({"outputs": (spec("z", 1, 8),)}, "its manifest declares the outputs z; the engine has y"),
    )
    for declared, said in wrong:
        with pytest.raises(EngineSchemaMismatchError, match=said):
            runtime.deserialize_engine(bench.entry(**declared))
    assert bench.device.live_bytes == runtime.resident_bytes == 0


# Failing


@pytest.mark.covers("RT-07", "RT-09")
@pytest.mark.parametrize(
    ("api", "error", "kind", "said"),
    [
        ("cuMemcpyHtoDAsync", "CUDA_ERROR_INVALID_VALUE", InferenceError, "cuMemcpyHtoDAsync failed"),
        ("cuMemcpyDtoHAsync", "CUDA_ERROR_INVALID_VALUE", InferenceError, "cuMemcpyDtoHAsync failed"),
        ("cuCtxSetCurrent", "CUDA_ERROR_INVALID_CONTEXT", InferenceError, "cuCtxSetCurrent failed"),
        ("cuStreamSynchronize", "CUDA_ERROR_OUT_OF_MEMORY", OutOfMemoryError, "cuStreamSynchronize failed"),
        (
            "tensorrt.IExecutionContext.execute_async_v3",
            "INVALID_STATE",
            InferenceError,
            "IExecutionContext.execute_async_v3",
        ),
        ("tensorrt.IExecutionContext.execute_async_v3", "FAILED_ALLOCATION", OutOfMemoryError, "OutOfMemory"),
        ("tensorrt.IExecutionContext.execute_async_v3", "CUDA_ERROR_OUT_OF_MEMORY", OutOfMemoryError, "out of memory"),
    ],
)
def test_a_call_that_fails_says_which_call_of_the_device_and_the_next_one_works(
    each: Bench, api: str, error: str, kind: type[RuntimeCoreError], said: str
) -> None:
    runtime = each.runtime()
    handle = runtime.deserialize_engine(each.entry())
    resident, allocated = runtime.resident_bytes, each.device.allocations
    each.device.faults.add(Fault(api, error))
    with pytest.raises(kind, match=f"running {handle.entry.engine_path.name}.*{said}") as failed:
        runtime.infer(handle, {"x": X})
    assert type(failed.value) is kind
    event = each.events("c7.out_of_memory" if kind is OutOfMemoryError else "c7.inference_failed")[0]
    assert (event["level"], event["error"]) == ("ERROR", kind.__name__)
    assert (runtime.resident_bytes, each.device.allocations) == (resident, allocated)
    np.testing.assert_array_equal(runtime.infer(handle, {"x": -X})["y"], np.maximum(-2 * X, 0))
    runtime.release_engine(handle)


@pytest.mark.covers("RT-07")
def test_an_engine_is_not_blamed_with_what_tensorrt_said_of_another(each: Bench) -> None:
    runtime = each.runtime()
    first, second = (runtime.deserialize_engine(each.entry(name=name)) for name in ("first", "second"))
    for handle, code, other in ((first, "INVALID_STATE", "FAILED"), (second, "FAILED_EXECUTION", "INVALID")):
        each.device.faults.add(Fault("tensorrt.IExecutionContext.execute_async_v3", code))
        with pytest.raises(InferenceError, match=rf"TensorRT says: .*{code} \(injected\) \({code}\)\.") as failed:
            runtime.infer(handle, {"x": X})
        assert other not in str(failed.value)
    runtime.release_engine(first)
    runtime.release_engine(second)


@pytest.mark.covers("RT-07")
def test_what_was_logged_before_a_call_is_no_cause_of_its_failure(each: Bench) -> None:
    runtime, trt = each.runtime(), each.fakes.tensorrt
    handle = runtime.deserialize_engine(each.entry())
    make_logger(trt).log(trt.ILogger.Severity.ERROR, "of another engine: out of memory (cudaError 2)")
    each.device.faults.add(Fault("cuMemcpyHtoDAsync", "CUDA_ERROR_INVALID_VALUE"))
    with pytest.raises(InferenceError, match="cuMemcpyHtoDAsync failed: CUDA_ERROR_INVALID_VALUE") as failed:
        runtime.infer(handle, {"x": X})
    assert "another engine" not in str(failed.value)
    runtime.release_engine(handle)


@pytest.mark.covers("RT-09", "TT-07")
def test_what_a_failed_call_left_on_the_stream_is_waited_for_before_its_buffers_are_used_again(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry())
    for api in ("tensorrt.IExecutionContext.execute_async_v3", "cuMemcpyDtoHAsync"):
        bench.device.faults.add(Fault(api, "CUDA_ERROR_INVALID_VALUE"))
        number = len(bench.device.calls)
        with pytest.raises(InferenceError):
            runtime.infer(handle, {"x": X + 100})
        assert bench.since(number)[-1] == "cuStreamSynchronize"
        np.testing.assert_array_equal(runtime.infer(handle, {"x": X})["y"], Y)
    bench.device.check()
    runtime.release_engine(handle)


@pytest.mark.covers("RT-09", "TT-07")
def test_where_waiting_for_a_failed_call_fails_too_the_next_call_waits_again_before_it_touches_the_buffers(
    bench: Bench,
) -> None:
    runtime = bench.runtime()
    handle = runtime.deserialize_engine(bench.entry())
    bench.device.faults.add(Fault("tensorrt.IExecutionContext.execute_async_v3", "INVALID_STATE"))
    bench.device.faults.add(Fault("cuStreamSynchronize", "CUDA_ERROR_UNKNOWN"))
    with pytest.raises(InferenceError, match=r"execute_async_v3 .*cuStreamSynchronize failed"):
        runtime.infer(handle, {"x": X + 100})
    number = len(bench.device.calls)
    np.testing.assert_array_equal(runtime.infer(handle, {"x": X})["y"], Y)
    assert bench.since(number)[:3] == ["cuCtxSetCurrent", "cuStreamSynchronize", "cuMemcpyHtoDAsync"]
    bench.device.check()
    runtime.release_engine(handle)


@pytest.mark.covers("RT-09", "RT-10", "TT-05")
@pytest.mark.parametrize("is_loading", [True, False])
def test_nothing_is_freed_while_a_call_that_failed_may_still_use_it(bench: Bench, is_loading: bool) -> None:
    runtime = bench.runtime()
    entry = bench.entry()
    failing = (Fault("cuMemcpyDtoHAsync", "CUDA_ERROR_UNKNOWN"), Fault("cuStreamSynchronize", "CUDA_ERROR_UNKNOWN"))
    if is_loading:
        for fault in failing:
            bench.device.faults.add(fault)
        with pytest.raises(EngineDeserializeError, match=r"warming up .*cuMemcpyDtoHAsync.*cuStreamSynchronize"):
            runtime.deserialize_engine(entry)
    else:
        handle = runtime.deserialize_engine(entry)
        for fault in failing:
            bench.device.faults.add(fault)
        with pytest.raises(InferenceError):
            runtime.infer(handle, {"x": X})
        runtime.release_engine(handle)
    bench.device.check()
    assert bench.device.live_bytes == bench.device.live_host_bytes == 0


@pytest.mark.covers("RT-07")
@pytest.mark.parametrize(
    "fault",
    [
        Fault("cuMemcpyHtoDAsync", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        Fault("cuStreamSynchronize", "CUDA_ERROR_LAUNCH_FAILED"),
        Fault("tensorrt.IExecutionContext.execute_async_v3", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        Fault("tensorrt.IExecutionContext.execute_async_v3", "CUDA_ERROR_LAUNCH_FAILED", in_work=True),
    ],
)
def test_after_a_sticky_error_every_call_says_so_at_once_and_the_device_is_left_alone(
    each: Bench, fault: Fault
) -> None:
    runtime = each.runtime()
    entry = each.entry()
    handle, other = runtime.deserialize_engine(entry), runtime.deserialize_engine(entry)
    each.device.faults.add(fault)
    with pytest.raises(DeviceLostError, match=r"running .*Restart the process"):
        runtime.infer(handle, {"x": X})
    number = len(each.device.calls)
    for again in (
        lambda: runtime.infer(handle, {"x": X}),
        lambda: runtime.infer(other, {"x": X}),
        lambda: runtime.deserialize_engine(entry),
        lambda: runtime.describe(handle),
        lambda: runtime.compile_engine(entry.engine_path, object()),  # type: ignore[arg-type]
    ):
        with pytest.raises(DeviceLostError, match="an earlier call failed for good: running"):
            again()
    runtime.release_engine(handle)
    runtime.release_engine(other)
    assert each.since(number) == []
    assert runtime.resident_bytes == 0
    assert each.events("c7.release_failed") == []
    assert runtime.thermal_state().is_telemetry_available is False


@pytest.mark.covers("RT-07", "TT-05")
def test_a_call_of_tensorrt_that_has_no_answer_to_fail_with_is_heard_all_the_same(each: Bench) -> None:
    runtime = each.runtime()
    entry = each.entry(scratch_bytes=0)
    for code, kind in (("INVALID_ARGUMENT", EngineDeserializeError), ("FAILED_ALLOCATION", OutOfMemoryError)):
        each.device.faults.add(Fault("tensorrt.IExecutionContext.set_device_memory", code))
        with pytest.raises(kind, match=r"making the buffers of .*IExecutionContext.set_device_memory"):
            runtime.deserialize_engine(entry)
        assert runtime.resident_bytes == each.device.live_bytes == 0
    runtime.release_engine(runtime.deserialize_engine(entry))


@pytest.mark.covers("RT-07", "TT-05")
def test_a_sticky_error_while_loading_loses_the_device_for_every_engine(bench: Bench) -> None:
    runtime = bench.runtime()
    entry = bench.entry()
    handle = runtime.deserialize_engine(entry)
    bench.device.faults.add(Fault("cuMemAlloc", "CUDA_ERROR_ECC_UNCORRECTABLE"))
    with pytest.raises(DeviceLostError, match="deserialising"):
        runtime.deserialize_engine(entry)
    with pytest.raises(DeviceLostError, match="earlier call"):
        runtime.infer(handle, {"x": X})
    runtime.release_engine(handle)


@pytest.mark.covers("TT-05", "RT-07")
def test_a_device_without_room_says_what_it_has_left(each: Bench) -> None:
    runtime = each.runtime()
    entry = each.entry()
    each.device.faults.add(Fault("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", after_calls=1))
    with pytest.raises(OutOfMemoryError, match=r"cuMemAlloc failed.*The device says that \d+ of \d+ bytes are free"):
        runtime.deserialize_engine(entry)
    assert runtime.resident_bytes == each.device.live_bytes == 0


@pytest.mark.covers("TT-05", "RT-07")
@pytest.mark.parametrize(
    ("built", "said"),
    [
        (
            {"built_for": "89"},
            "built for SM 8.9, this GPU is SM 8.7. TensorRT says: .*expecting compute 8.7 got compute 8.9",
        ),
        (
            {"built_with": "10.16.1.11", "header": "not used"},
            "built with TensorRT 10.16.1.11, this host has 10.3.0. TensorRT says: .*Version tag does not match",
        ),
        (
            {"built_with": "rtx1.7.1.116", "built_for": "89", "header": "not used"},
            "the bytes are no plan of this library",
        ),
    ],
)
def test_a_plan_that_is_not_what_its_name_says_is_refused_in_plain_words_and_in_tensorrts(
    bench: Bench, built: dict[str, Any], said: str
) -> None:
    runtime = bench.runtime()
    with pytest.raises(EngineDeserializeError, match=f"deserialising .*Runtime.deserialize_cuda_engine failed: {said}"):
        runtime.deserialize_engine(bench.entry(**built))
    assert runtime.resident_bytes == bench.device.live_bytes == 0


@pytest.mark.covers("TT-05", "TR-03")
def test_an_engine_for_another_gpu_than_the_configured_one_is_refused_before_tensorrt_sees_it(bench: Bench) -> None:
    entry = bench.entry()
    bench.device.sm = "89"
    runtime = bench.runtime(host=replace(bench.host, sm="87"))
    with pytest.raises(EngineSchemaMismatchError, match="built for SM 87; Simulated Orin is SM 89"):
        runtime.deserialize_engine(entry)
    assert not [call for call in bench.since(0) if call.startswith("tensorrt")]


@pytest.mark.covers("FA-05", "RT-07")
def test_a_host_without_a_gpu_holds_the_runtime_and_loads_nothing(bench: Bench) -> None:
    runtime = bench.runtime(device="cpu")
    assert runtime.current_runtime_label() == "tensorrt"
    assert runtime.simulated is False
    with pytest.raises(RuntimeNotAvailableError, match="TensorRT computes on a GPU alone"):
        runtime.deserialize_engine(bench.entry())
    assert bench.device.calls == []


# What it says of itself


@pytest.mark.covers("RT-01", "RT-02", "T0-01")
def test_a_description_is_read_back_from_the_engine_and_says_that_the_device_is_simulated(each: Bench) -> None:
    runtime = each.runtime()
    handle = runtime.deserialize_engine(each.entry())
    described = runtime.describe(handle)
    assert (described.provider, described.precision, dict(described.nodes_by_precision)) == (
        "simulated",
        "fp16",
        {"fp16": 1},
    )
    assert runtime.simulated
    product = "tensorrt_rtx" if each.flavour.is_rtx else "tensorrt"
    assert described.notes[0].startswith(product)
    assert any("SIMULATED" in note for note in described.notes)
    assert runtime.describe(handle) is described
    assert runtime.current_runtime_label() == "tensorrt"
    runtime.release_engine(handle)


@pytest.mark.covers("LO-01")
def test_frames_are_logged_only_when_asked_for_and_never_with_their_data(bench: Bench) -> None:
    runtime = bench.runtime(per_frame_debug_log=True, clock=iter(range(0, 10**9, 10**6)).__next__)
    handle = runtime.deserialize_engine(bench.entry())
    runtime.infer(handle, {"x": X})
    runtime.infer(handle, {"x": X})
    frames = bench.events("c7.frame")
    assert [(frame["frame"], frame["took_ms"], frame["backbone"]) for frame in frames] == [(1, 1.0, "m"), (2, 1.0, "m")]
    assert set(frames[0]) == {"kind", "level", "time_ns", "backbone", "frame", "took_ms"}
    quiet = bench.runtime()
    other = quiet.deserialize_engine(bench.entry())
    quiet.infer(other, {"x": X})
    assert len(bench.events("c7.frame")) == 2
    runtime.release_engine(handle)
    quiet.release_engine(other)


@pytest.mark.covers("TT-01", "TT-05", "RT-01", "T0-03")
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")  # of Polygraphy's calls
def test_what_it_compiles_it_loads_and_runs_on_every_tensorrt(each: Bench) -> None:
    pytest.importorskip("polygraphy", reason="polygraphy: not installed")
    from runtime.strategies.trt_launch import in_process

    runtime = each.runtime(launch=in_process)
    path = save(added(), each.folder / "sums.onnx")
    entry = runtime.compile_engine(path, BuildConfig(precision="fp32", workspace_mb=16))
    handle = runtime.deserialize_engine(entry)
    a, b = ramp(2, 4), ramp(2, 4) * 3
    results = runtime.infer(handle, {"a": a, "b": b})
    np.testing.assert_array_equal(results["sum"], a + b)
    np.testing.assert_array_equal(results["difference"], a - b)
    described = runtime.describe(handle)
    assert [spec.name for spec in described.inputs] == ["a", "b"]
    assert described.precision == "fp32"
    event = each.events("c7.engine_loaded")[0]
    assert event["device_bytes"] <= event["predicted_bytes"]
    runtime.release_engine(handle)


@pytest.mark.covers("TT-01", "LO-01")
def test_a_build_that_fails_is_an_error_of_ours_and_one_line_in_the_log(bench: Bench) -> None:
    runtime = bench.runtime()
    with pytest.raises(EngineBuildError):
        runtime.compile_engine(bench.folder / "absent.onnx", BuildConfig())
    assert [event["backbone"] for event in bench.events("c7.build_failed")] == ["absent"]


@pytest.mark.covers("T0-06", "RT-07", "TT-05")
def test_the_real_library_without_a_driver_refuses_a_real_engine_with_its_own_cuda_error_in_plain_words(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    if nvml_compute_capability() is not None:
        pytest.skip("a GPU is here, and the library may load the engine")
    device = SimulatedDevice(sm="89")
    with installed(device):  # of the driver's calls alone, which are ours; the library makes its own
        cuda = CudaDriver()
        host = HostTuple("89", "none", f"rtx{load_library().capabilities.version}")
        config = RuntimeConfig(runtime="tensorrt", engine_cache_dir=tmp_path / "engines")
        runtime = TensorrtRuntime(config, host=host, cuda=cuda, log=EventLog(stream=io.StringIO()))
        entry = runtime.compile_engine(save(added(), tmp_path / "sums.onnx"), BuildConfig(precision="fp32"))
        with pytest.raises(EngineDeserializeError) as refused:
            runtime.deserialize_engine(entry)
        assert "there is no CUDA driver here, or it is too old for this library" in str(refused.value)
        assert "cudaError 35" in str(refused.value)
        assert runtime.resident_bytes == device.live_bytes == 0
        cuda.close()
    device.check()
    assert device.leaks() == []
