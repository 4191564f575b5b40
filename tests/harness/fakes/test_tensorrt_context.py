"""Running on the fake TensorRT: right use goes through, and every wrong one is seen."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fakes.device import DeviceError, SimulatedDevice
from harness.fakes.faults import Fault
from tests.harness.fakes.kit import (
    FLOAT,
    INT64,
    Bound,
    Kit,
    computed,
    convolution,
    host_block,
    model,
    node,
    sample,
    value,
)

pytestmark = pytest.mark.covers("T0-02", "T0-03")

BATCHES = {"x": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}
WIDE = {"x": ((5, 3, 8, 8), (6, 3, 8, 8), (8, 3, 8, 8))}
RIGHT = computed(convolution(), {"x": sample()})[0]


def loaded(kit: Kit, batch: int | str = 2, profiles: Any = (), **how: Any) -> Any:
    return kit.load(kit.build(convolution(batch), profiles=profiles), **how)


# Shapes and addresses


def test_a_shape_outside_of_the_profile_is_refused_with_its_range() -> None:
    kit = Kit()
    context = loaded(kit, "n", [BATCHES]).create_execution_context()
    assert context.set_input_shape("x", (5, 3, 8, 8)) is False
    assert (
        "Set dimension [5,3,8,8] for tensor x does not satisfy any optimization profiles. Valid range for profile 0: "
        in (kit.errors()[-1])
    )
    assert "[1,3,8,8]..[4,3,8,8]" in kit.errors()[-1]
    for shape in ((1, 3, 9, 8), (1, 3, 8)):
        assert context.set_input_shape("x", shape) is False
        assert "Static dimension mismatch while setting input shape for x" in kit.errors()[-1]
    assert context.set_input_shape("y", (1, 5)) is False
    for wrong in (np.array([1, 3, 8, 8]), "x", None):
        with pytest.raises(TypeError):
            context.set_input_shape("x", wrong)
    assert context.set_input_shape("x", [4, 3, 8, 8]) is True
    assert context.set_input_shape("x", kit.trt.Dims((3, 3, 8, 8))) is True
    assert tuple(context.get_tensor_shape("y")) == (3, 5)
    assert tuple(context.get_tensor_strides("x")) == (192, 64, 8, 1)


def test_what_is_not_specified_is_told_by_name() -> None:
    kit = Kit()
    context = loaded(kit, "n", [BATCHES]).create_execution_context()
    assert (context.infer_shapes(), context.all_binding_shapes_specified) == (["x"], False)
    assert tuple(context.get_tensor_shape("y")) == (-1, 5)
    assert context.update_device_memory_size_for_shapes() == 0
    assert context.execute_async_v3(kit.device.create_stream()) is False
    assert "Following input tensors' dimensions are not specified: x." in kit.errors()[-1]
    assert context.set_input_shape("x", (1, 3, 8, 8))
    assert (context.infer_shapes(), context.all_binding_shapes_specified) == ([], True)


def test_another_profile_forgets_the_shapes_and_has_its_own_range() -> None:
    kit = Kit()
    engine = loaded(kit, "n", [BATCHES, WIDE])
    for strategy in ("STATIC", "ON_PROFILE_CHANGE"):
        context = engine.create_execution_context(getattr(kit.trt.ExecutionContextAllocationStrategy, strategy))
        stream = kit.device.create_stream()
        assert context.set_input_shape("x", (4, 3, 8, 8))
        assert context.set_optimization_profile_async(7, stream) is False
        assert context.set_optimization_profile_async(1, stream) is True
        assert (context.active_optimization_profile, context.infer_shapes()) == (1, ["x"])
        assert context.set_input_shape("x", (4, 3, 8, 8)) is False
        assert context.set_input_shape("x", (8, 3, 8, 8)) is True


def test_memory_for_the_shapes_at_hand_is_less_than_for_the_greatest() -> None:
    kit = Kit()
    engine = loaded(kit, "n", [BATCHES])
    context = engine.create_execution_context()
    sizes = [
        (context.set_input_shape("x", (n, 3, 8, 8)), context.update_device_memory_size_for_shapes())[1]
        for n in (1, 2, 4)
    ]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == engine.device_memory_size_v2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x", "Address is not set for input tensor x"),
        ("y", "Neither address or allocator is set for output tensor y"),
    ],
)
def test_a_missing_address_makes_the_run_fail(name: str, words: str) -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    assert bound.context.get_tensor_address(name) > 0
    bound.context.set_tensor_address(name, 0)
    assert bound.execute() is False
    assert words in kit.errors()[-1]
    assert bound.context.set_tensor_address("z", 0) is False


@pytest.mark.parametrize("size", [None, 1024])
def test_a_user_managed_context_does_not_run_without_enough_memory(size: int | None) -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()}, strategy="USER_MANAGED")
    bound.context.set_device_memory(0 if size is None else bound.scratch, size or 0)
    assert bound.execute() is False
    assert "The device memory of this context is" in kit.errors()[-1]
    bound.context.device_memory = bound.scratch
    np.testing.assert_array_equal(bound.run()["y"], RIGHT)
    with pytest.raises(AttributeError):
        bound.context.device_memory  # noqa: B018  # it can only be written


def test_a_context_that_manages_its_memory_takes_none() -> None:
    kit = Kit()
    context = loaded(kit).create_execution_context()
    context.set_device_memory(kit.device.allocate(1 << 16), 1 << 16)
    assert "kUSER_MANAGED" in kit.errors()[-1]


def test_misaligned_addresses_are_written_down() -> None:
    kit = Kit()
    engine = loaded(kit)
    block = kit.device.allocate(1 << 16)
    engine.create_execution_context().set_tensor_address("x", block + 4)
    engine.create_execution_context_without_device_memory().set_device_memory(block + 4, 1 << 12)
    assert ["not aligned to 256 bytes" in line for line in kit.device.violations] == [True, True]


def test_an_output_whose_shape_the_data_decide_comes_through_an_allocator() -> None:
    proto = model([node("NonZero", ["x"], ["y"], "nz")], [value("x", FLOAT, [2, 3])], [value("y", INT64, [2, "found"])])
    kit = Kit()
    engine = kit.load(kit.build(proto))
    context, trt = engine.create_execution_context(), kit.trt
    array = np.array([[0, 1, 2], [0, 0, 3]], np.float32)
    address = kit.device.allocate(array.nbytes)
    told: list[Any] = []
    kit.device.write(address, array.tobytes())

    class Outputs(trt.IOutputAllocator):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            told.append(size)
            self.memory = kit.device.allocate(size)
            return self.memory

        def notify_shape(self, name: str, shape: Any) -> None:
            told.append(tuple(shape))

    outputs, stream = Outputs(), kit.device.create_stream()
    assert tuple(context.get_tensor_shape("y")) == (2, -1)
    assert context.get_max_output_size("y") >= 2 * 6 * 8
    assert context.set_output_allocator("y", outputs)
    assert context.get_output_allocator("y") is outputs
    assert context.set_tensor_address("x", address)
    assert context.execute_async_v3(stream), kit.errors()
    assert told == []
    kit.device.synchronize(stream)
    assert told == [2 * 3 * 8, (2, 3)]
    assert np.frombuffer(kit.device.read(outputs.memory, 48), np.int64).tolist() == [0, 0, 1, 1, 2, 2]


# Order


def test_nothing_is_computed_before_the_stream_is_waited_for() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    assert bound.execute()
    assert "never written" in (bound.read() and kit.device.violations[0])
    kit.device.violations.clear()
    kit.device.synchronize(bound.stream)
    np.testing.assert_array_equal(bound.read()["y"], RIGHT)


def test_a_run_without_an_event_between_two_streams_reads_what_is_not_there_yet() -> None:
    for waits in (False, True):
        kit = Kit()
        bound = Bound(kit, loaded(kit), {"x": np.zeros((2, 3, 8, 8), np.float32)})
        host = host_block(kit.device, sample().tobytes())
        copies = kit.device.create_stream()
        kit.device.copy_in(bound.inputs["x"], host, sample().nbytes, copies)
        if waits:
            event = kit.device.create_event()
            kit.device.record_event(event, copies)
            kit.device.wait_event(bound.stream, event)
        assert np.array_equal(bound.run()["y"], RIGHT) is waits


def test_the_default_stream_works_and_warns() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    assert bound.context.execute_async_v3(0)
    kit.device.synchronize(0)
    np.testing.assert_array_equal(bound.read()["y"], RIGHT)
    assert any("Using default stream in enqueueV3()" in text for severity, text in kit.lines if severity == "WARNING")


def test_a_synchronous_run_is_done_when_it_returns() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    assert bound.context.execute_v2([bound.inputs["x"], bound.outputs["y"][0]])
    np.testing.assert_array_equal(bound.read()["y"], RIGHT)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 1), max_size=12), st.booleans())
def test_scratch_memory_is_shared_safely_only_by_runs_that_do_not_overlap(picks: list[int], shares: bool) -> None:
    chosen = iter(picks)

    def choose(ready: Any) -> int | None:
        pick = next(chosen, None)
        return None if pick is None else pick % len(ready)

    kit = Kit(device=SimulatedDevice(sm="87", mode=choose))
    engine = loaded(kit)
    first = Bound(kit, engine, {"x": sample()}, strategy="USER_MANAGED")
    second = Bound(kit, engine, {"x": sample()}, strategy="USER_MANAGED", scratch=first.scratch if shares else 0)
    assert first.execute()
    assert second.execute()
    for bound in (second, first):
        kit.device.synchronize(bound.stream)
    right = [np.array_equal(bound.read()["y"], RIGHT) for bound in (first, second)]
    assert all(right) == (not kit.device.violations)
    if not shares:
        assert right == [True, True]


def test_two_runs_that_overlap_in_one_scratch_memory_give_wrong_values_and_are_written_down() -> None:
    kit = Kit(
        device=SimulatedDevice(sm="87", mode=lambda ready: 0 if all("begin" in label for label in ready) else None)
    )
    engine = loaded(kit)
    first = Bound(kit, engine, {"x": sample()}, strategy="USER_MANAGED")
    second = Bound(kit, engine, {"x": sample()}, strategy="USER_MANAGED", scratch=first.scratch)
    assert first.execute()
    assert second.execute()
    for bound in (second, first):
        kit.device.enter("anything")
        kit.device.synchronize(bound.stream)
    assert not np.array_equal(first.read()["y"], RIGHT)
    assert any("was written to by another while it ran" in line for line in kit.device.violations)


def test_an_input_that_changes_while_it_is_read_is_written_down() -> None:
    steps: list[int] = []
    kit = Kit(device=SimulatedDevice(sm="87", mode=lambda ready: steps.pop() if steps else None))
    bound = Bound(kit, loaded(kit), {"x": sample()})
    assert bound.execute()
    steps.append(0)
    kit.device.enter("anything")
    kit.device.write(bound.inputs["x"], bytes(64))
    kit.device.synchronize(bound.stream)
    assert any("input x was changed while" in line for line in kit.device.violations)


# What was given back too early


@pytest.mark.parametrize("what", ["input", "output", "scratch", "engine"])
def test_memory_that_is_freed_before_the_run_is_over_is_caught(what: str) -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()}, strategy="USER_MANAGED")
    assert bound.execute()
    if what == "engine":
        del bound.context, bound.engine
        gc.collect()
    else:
        kit.device.free({"input": bound.inputs["x"], "output": bound.outputs["y"][0], "scratch": bound.scratch}[what])
    with pytest.raises(DeviceError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        kit.device.synchronize(bound.stream)
    assert any("use after free" in line for line in kit.device.violations)


def test_a_context_that_is_destroyed_with_a_run_pending_is_written_down() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()}, strategy="USER_MANAGED")
    assert bound.execute()
    del bound.context
    gc.collect()
    assert "destroyed with 1 of its runs pending" in kit.device.violations[0]


def test_an_engine_outlives_its_runtime_and_a_context_its_engine() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    del bound.engine
    gc.collect()
    np.testing.assert_array_equal(bound.run()["y"], RIGHT)
    kit.device.check()


def test_an_output_that_is_too_small_is_out_of_bounds() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    bound.context.set_tensor_address("y", kit.device.allocate(8))
    assert bound.execute()
    with pytest.raises(DeviceError):
        kit.device.synchronize(bound.stream)
    assert any("out of bounds" in line for line in kit.device.violations)


def test_a_stream_that_is_gone_is_refused() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    kit.device.destroy_stream(bound.stream)
    assert bound.execute() is False
    assert "invalid resource handle" in kit.errors()[-1]


# Faults


CALLS = {
    "Runtime.deserialize_cuda_engine": lambda b: b.kit.load(b.plan),
    "ICudaEngine.create_execution_context": lambda b: b.engine.create_execution_context(),
    "ICudaEngine.create_engine_inspector": lambda b: b.engine.create_engine_inspector(),
    "ICudaEngine.serialize": lambda b: b.engine.serialize(),
    "IExecutionContext.set_input_shape": lambda b: b.context.set_input_shape("x", (2, 3, 8, 8)),
    "IExecutionContext.set_tensor_address": lambda b: b.context.set_tensor_address("x", b.inputs["x"]),
    "IExecutionContext.set_optimization_profile_async": lambda b: b.context.set_optimization_profile_async(0, b.stream),
    "IExecutionContext.update_device_memory_size_for_shapes": lambda b: (
        b.context.update_device_memory_size_for_shapes()
    ),
    "IExecutionContext.execute_async_v3": lambda b: b.execute(),
}


@pytest.mark.parametrize(
    "error", ["FAILED_EXECUTION", "FAILED_ALLOCATION", "INTERNAL_ERROR", "CUDA_ERROR_OUT_OF_MEMORY"]
)
@pytest.mark.parametrize("call", CALLS)
def test_a_planned_fault_makes_a_call_fail_in_its_own_way_and_the_next_one_works(call: str, error: str) -> None:
    kit = Kit()
    plan = kit.build(convolution())
    recorder = kit.make_recorder()
    bound: Any = Bound(kit, kit.load(plan, recorder=recorder), {"x": sample()})
    bound.plan = plan
    kit.device.faults.add(Fault(f"tensorrt.{call}", error))
    assert not CALLS[call](bound)
    if call.startswith("Runtime"):  # another runtime, without a recorder
        assert "Error Code" in kit.errors()[-1]
    else:
        assert recorder.errors[-1][0] == (error if not error.startswith("CUDA") else "UNSPECIFIED_ERROR")
    assert CALLS[call](bound)
    np.testing.assert_array_equal(bound.run()["y"], RIGHT)


def test_shape_inference_that_fails_raises_as_documented() -> None:
    kit = Kit("10.3.0", None, Fault("tensorrt.IExecutionContext.infer_shapes", "INTERNAL_ERROR"))
    context = loaded(kit).create_execution_context()
    with pytest.raises(RuntimeError):
        context.infer_shapes()
    assert context.infer_shapes() == []


def test_shapes_that_contradict_each_other_are_told_by_shape_inference() -> None:
    proto = model(
        [node("Add", ["a", "b"], ["y"], "add")],
        [value("a", FLOAT, ["n", 4]), value("b", FLOAT, ["m", 4])],
        [value("y", FLOAT, ["k", 4])],
    )
    kit = Kit()
    span = ((1, 4), (2, 4), (8, 4))
    context = kit.load(kit.build(proto, profiles=[{"a": span, "b": span}])).create_execution_context()
    assert context.set_input_shape("a", (2, 4))
    assert context.set_input_shape("b", (3, 4))
    with pytest.raises(RuntimeError):
        context.infer_shapes()
    assert context.execute_async_v3(kit.device.create_stream()) is False


def test_work_that_fails_surfaces_later_and_a_sticky_error_stays() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    call = "tensorrt.IExecutionContext.execute_async_v3"
    kit.device.faults.add(Fault(call, "CUDA_ERROR_LAUNCH_FAILED", in_work=True))
    assert bound.execute() is True
    with pytest.raises(DeviceError, match="CUDA_ERROR_LAUNCH_FAILED"):
        kit.device.synchronize(bound.stream)
    assert bound.execute() is False
    assert "cudaError 719: unspecified launch failure" in kit.errors()[-1]
    assert bound.engine.create_execution_context() is None
    bound.close()
    assert kit.device.violations == []


def test_work_that_fails_once_leaves_the_next_run_right() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    call = "tensorrt.IExecutionContext.execute_async_v3"
    kit.device.faults.add(Fault(call, "CUDA_ERROR_INVALID_VALUE", in_work=True))
    assert bound.execute() is True
    with pytest.raises(DeviceError):
        kit.device.synchronize(bound.stream)
    np.testing.assert_array_equal(bound.run()["y"], RIGHT)
    kit.device.check()


def test_every_call_that_matters_is_written_down() -> None:
    kit = Kit("rtx1.7.1.116")
    bound = Bound(kit, loaded(kit), {"x": sample()}, strategy="USER_MANAGED")
    bound.run()
    bound.engine.create_engine_inspector().get_engine_information(kit.trt.LayerInformationFormat.JSON)
    called = {call.api for call in kit.device.calls}
    assert {f"tensorrt.{name}" for name in (
        "Builder.__init__", "Builder.create_network", "Builder.create_builder_config", "Builder.build_serialized_network",
        "OnnxParser.parse", "Runtime.__init__", "Runtime.deserialize_cuda_engine", "ICudaEngine.create_execution_context",
        "IExecutionContext.set_input_shape", "IExecutionContext.update_device_memory_size_for_shapes",
        "IExecutionContext.set_device_memory", "IExecutionContext.set_tensor_address", "IExecutionContext.execute_async_v3",
        "ICudaEngine.create_engine_inspector", "EngineInspector.get_engine_information",
    )} <= called  # fmt: skip


# Shapes that are inputs


def reshaping() -> Any:
    return model(
        [node("Reshape", ["x", "shape"], ["r"], "reshape"), node("Relu", ["r"], ["y"], "relu")],
        [value("x", FLOAT, [2, 6]), value("shape", INT64, [2])],
        [value("y", FLOAT, ["a", "b"])],
    )


def test_an_input_that_is_a_shape_lies_on_the_host_and_decides_the_outputs() -> None:
    kit = Kit()
    builder, network, _ = kit.parse(reshaping())
    assert [network.get_input(i).is_shape_tensor for i in range(2)] == [False, True]
    config, profile = kit.configure(builder), builder.create_optimization_profile()
    assert builder.build_serialized_network(network, config) is None
    assert "Network has dynamic or shape inputs, but no optimization profile" in kit.errors()[-1]
    profile.set_shape_input("shape", [1, 1], [3, 4], [12, 12])
    assert profile.get_shape_input("shape") == [[1, 1], [3, 4], [12, 12]]
    config.add_optimization_profile(profile)
    engine = kit.load(builder.build_serialized_network(network, config))
    assert [engine.is_shape_inference_io(name) for name in ("x", "shape")] == [False, True]
    assert engine.get_tensor_location("shape") == kit.trt.TensorLocation.HOST
    assert engine.get_tensor_profile_values(0, "shape") == [[1, 1], [3, 4], [12, 12]]
    context, device = engine.create_execution_context(), kit.device
    x, wanted = np.arange(12, dtype=np.float32).reshape(2, 6) - 5, np.array([3, 4])
    given, result = device.allocate(48), device.allocate(48)
    device.write(given, x.tobytes())
    assert context.infer_shapes() == ["shape"]
    for name, address in (("x", given), ("y", result), ("shape", wanted.ctypes.data)):
        assert context.set_tensor_address(name, address)
    assert (context.infer_shapes(), tuple(context.get_tensor_shape("y"))) == ([], (3, 4))
    stream = device.create_stream()
    assert context.execute_async_v3(stream)
    device.synchronize(stream)
    np.testing.assert_array_equal(
        np.frombuffer(device.read(result, 48), np.float32).reshape(3, 4), np.maximum(x, 0).reshape(3, 4)
    )
    context.set_tensor_address("shape", given)
    with pytest.raises(RuntimeError):
        context.infer_shapes()
    assert "shape input shape is on the device" in device.violations[0]


def test_a_profile_without_values_for_a_shape_ends_the_build() -> None:
    kit = Kit()
    builder, network, _ = kit.parse(reshaping())
    config = kit.configure(builder, profiles=[{"x": ((2, 6),) * 3}])
    assert builder.build_serialized_network(network, config) is None
    assert "Shape input tensor shape is missing values in profile 0" in kit.errors()[-1]
