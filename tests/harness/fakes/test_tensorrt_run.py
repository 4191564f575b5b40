"""Loading on the fake TensorRT: engines, their memory, what they tell, and who hears of what goes wrong."""

from __future__ import annotations

import gc
import json
from typing import Any

import numpy as np
import pytest

from harness.fakes.tensorrt_plan import read_plan
from tests.harness.fakes.kit import FLAVOURS, FLOAT, GPU, Bound, Kit, computed, convolution, model, node, sample, value

pytestmark = pytest.mark.covers("T0-02", "T0-03")

BATCHES = {"x": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}
WIDE = {"x": ((5, 3, 8, 8), (6, 3, 8, 8), (8, 3, 8, 8))}
RIGHT = computed(convolution(), {"x": sample()})[0]


def loaded(kit: Kit, batch: int | str = 2, profiles: Any = (), **how: Any) -> Any:
    return kit.load(kit.build(convolution(batch), profiles=profiles), **how)


# The life of an engine


@pytest.mark.parametrize("version", FLAVOURS)
@pytest.mark.parametrize("strategy", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"])
def test_one_life_leaves_nothing_behind(version: str, strategy: str) -> None:
    kit = Kit(version)
    engine = loaded(kit)
    bound = Bound(kit, engine, {"x": sample()}, strategy=strategy)
    np.testing.assert_array_equal(bound.run()["y"], RIGHT)
    np.testing.assert_array_equal(bound.run()["y"], RIGHT)
    del engine
    bound.close()
    gc.collect()
    assert kit.device.live_bytes == 0
    kit.device.check()
    kit.device.release_primary()
    assert kit.device.leaks() == []


@pytest.mark.parametrize("version", FLAVOURS)
def test_an_engine_tells_its_tensors(version: str) -> None:
    kit = Kit(version)
    trt = kit.trt
    engine = loaded(kit, "n", [BATCHES, WIDE])
    assert (engine.num_io_tensors, engine.num_optimization_profiles, engine[1]) == (2, 2, "y")
    assert [engine.get_tensor_name(i) for i in range(2)] == ["x", "y"]
    assert [engine.get_tensor_mode(n) for n in ("x", "y", "z")] == [
        *(trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT),
        trt.TensorIOMode.NONE,
    ]
    assert (tuple(engine.get_tensor_shape("x")), engine.get_tensor_dtype("x")) == ((-1, 3, 8, 8), trt.float32)
    assert engine.get_tensor_location("x") == trt.TensorLocation.DEVICE
    assert (engine.get_tensor_format("x"), engine.get_tensor_bytes_per_component("x")) == (trt.TensorFormat.LINEAR, 4)
    assert engine.is_shape_inference_io("x") is False
    assert [tuple(shape) for shape in engine.get_tensor_profile_shape("x", 1)] == list(WIDE["x"])
    assert engine.get_tensor_profile_shape("x", 2) == []
    assert engine.get_tensor_profile_shape("y", 0) == []
    sizes = [engine.get_device_memory_size_for_profile_v2(i) for i in range(2)]
    assert 0 < sizes[0] < sizes[1] == engine.device_memory_size_v2
    assert engine.get_device_memory_size_for_profile_v2(5) == 0
    assert engine.get_tensor_name(7) is None
    assert len(kit.errors()) == 4
    static = loaded(kit)
    assert [tuple(shape) for shape in static.get_tensor_profile_shape("x", 0)] == [(2, 3, 8, 8)] * 3
    assert bytes(static.serialize()) == kit.build(convolution())


def test_engine_statistics_are_there_where_the_release_has_them() -> None:
    new, old = loaded(Kit("10.16.1.11")), loaded(Kit("10.13.3.9"))
    assert new.get_engine_stat(new._library.module.EngineStat.TOTAL_WEIGHTS_SIZE) == new.get_engine_stat() > 0
    assert not hasattr(old, "get_engine_stat")


@pytest.mark.parametrize("data", [bytearray, memoryview, bytes, lambda b: np.frombuffer(b, np.uint8)])
def test_any_buffer_is_taken_and_nothing_else(data: Any) -> None:
    kit = Kit()
    assert kit.load(data(kit.build(convolution()))) is not None
    with pytest.raises(TypeError, match="incompatible function arguments"):
        kit.load("a path")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "plan.header.size == blobSize failed"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "Magic tag does not match"),
        (lambda data: b"version https://git-lfs" + bytes(100), "Magic tag does not match"),
        (lambda data: b"", "empty memory buffer"),
    ],
)
def test_a_damaged_plan_gives_none_and_takes_no_memory(damage: Any, words: str) -> None:
    kit = Kit()
    assert kit.load(damage(kit.build(convolution()))) is None
    assert words in kit.errors()[-1]
    assert kit.device.live_bytes == 0


def test_the_plan_of_another_release_and_of_another_gpu_give_none() -> None:
    old, new = Kit("10.3.0"), Kit("10.16.1.11")
    assert new.load(old.build(convolution())) is None
    assert "Version tag does not match. Note: Current Version: 242, Serialized Engine Version: 239" in new.errors()[-1]
    thor = Kit("10.16.1.11", "110")
    assert thor.load(new.build(convolution())) is None
    assert "expecting compute 11.0 got compute 8.7" in thor.errors()[-1]


def test_a_version_compatible_plan_loads_where_host_code_is_allowed() -> None:
    plan = Kit("10.3.0").build(convolution(), "VERSION_COMPATIBLE")
    kit = Kit("10.16.1.11")
    runtime = kit.trt.Runtime(kit.logger)
    assert runtime.deserialize_cuda_engine(plan) is None
    runtime.engine_host_code_allowed = True
    np.testing.assert_array_equal(Bound(kit, runtime.deserialize_cuda_engine(plan), {"x": sample()}).run()["y"], RIGHT)


def test_the_validity_of_a_plan_is_told_without_loading_it() -> None:
    kit = Kit("rtx1.7.1.116")
    plan = kit.build(convolution())
    runtime, trt = kit.trt.Runtime(kit.logger), kit.trt
    assert runtime.engine_header_size == 64
    told = {
        "whole": plan,
        "header": plan[:64],
        "garbage": b"garbage" * 20,
        "older": plan[:24] + bytes([1, 6, 1, 116]) + plan[28:],
        "for another gpu": plan[:32] + bytes([1]) + plan[33:],
    }
    answers = {name: runtime.get_engine_validity(data) for name, data in told.items()}
    valid, invalid = trt.EngineValidity.VALID, trt.EngineValidity.INVALID
    assert answers == {
        "whole": (valid, 0),
        "header": (valid, 0),
        "garbage": (invalid, 32),
        "older": (invalid, 1),
        "for another gpu": (invalid, 2),
    }


# Memory


@pytest.mark.parametrize("version", FLAVOURS)
def test_an_allocator_is_asked_for_weights_and_scratch_and_gets_them_back(version: str) -> None:
    kit = Kit(version)
    allocator = kit.make_allocator()
    engine = loaded(kit, allocator=allocator)
    plan = engine._state.plan
    assert allocator.asked == [plan.weights_bytes]
    bound = Bound(kit, engine, {"x": sample()})
    assert allocator.asked == [plan.weights_bytes, plan.scratch_bytes[0]]
    np.testing.assert_array_equal(bound.run()["y"], RIGHT)
    assert len(allocator.asked) == 2
    with pytest.raises(AttributeError):
        kit.trt.Runtime(kit.logger).gpu_allocator  # noqa: B018  # it can only be written
    del engine
    bound.close()
    gc.collect()
    assert allocator.live == {}
    kit.device.check()


def test_a_user_managed_context_asks_for_no_memory() -> None:
    kit = Kit()
    allocator = kit.make_allocator()
    engine = loaded(kit, allocator=allocator)
    context = engine.create_execution_context(kit.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    older = engine.create_execution_context_without_device_memory()
    assert (len(allocator.asked), context is None, older is None) == (1, False, False)


@pytest.mark.parametrize("what", ["engine", "context"])
def test_memory_that_an_allocator_refuses_gives_none_with_the_size(what: str) -> None:
    kit = Kit()
    plan = kit.build(convolution())
    weights, scratch = (
        getattr(read_plan(memoryview(plan), kit_flavour(), "87"), n) for n in ("weights_bytes", "scratch_bytes")
    )
    allocator, recorder = kit.make_allocator(weights - (what == "engine")), kit.make_recorder()
    engine = kit.load(plan, allocator=allocator, recorder=recorder)
    size = weights if what == "engine" else scratch[0]
    if what == "engine":
        assert engine is None
    else:
        assert engine.create_execution_context() is None
    assert recorder.errors[-1][0] == "FAILED_ALLOCATION"
    assert f"OutOfMemory (Requested size was {size} bytes.)" in recorder.errors[-1][1]
    assert kit.errors() == []
    del engine
    gc.collect()
    assert kit.device.live_bytes == 0


def kit_flavour() -> Any:
    from harness.fakes.tensorrt_plan import flavour_of

    return flavour_of("10.3.0")


def test_a_full_device_gives_none_and_the_words_of_cuda() -> None:
    kit = Kit()
    plan = kit.build(convolution())
    kit.device.memory_bytes = 100
    assert kit.load(plan) is None
    assert ["out of memory" in text or "OutOfMemory" in text for text in kit.errors()] == [True, True]


def test_a_request_of_0_bytes_must_be_answered_with_none() -> None:
    relu = model([node("Relu", ["x"], ["y"], "r")], [value("x", FLOAT, [4])], [value("y", FLOAT, [4])])
    kit = Kit()
    allocator = kit.make_allocator()
    engine = kit.load(kit.build(relu), allocator=allocator)
    bound = Bound(kit, engine, {"x": np.arange(4, dtype=np.float32) - 2})
    assert (allocator.asked, list(bound.run()["y"])) == ([0, 0], [0, 0, 0, 1])
    allocator.allocate_async = lambda *of: 0x100
    kit.load(kit.build(relu), allocator=allocator)
    assert "memory for a request of 0 bytes" in kit.device.violations[0]


def test_an_allocator_that_raises_is_one_that_refuses(capfd: pytest.CaptureFixture[str]) -> None:
    kit = Kit()
    allocator = kit.make_allocator()

    def allocate_async(*of: int) -> int:
        raise RuntimeError("no")

    allocator.allocate_async = allocate_async
    assert loaded(kit, allocator=allocator) is None
    assert "Exception caught in allocate_async(): RuntimeError: no" in capfd.readouterr().err


def test_an_allocator_that_misaligns_is_written_down() -> None:
    kit = Kit()
    allocator = kit.make_allocator()
    block = kit.device.allocate(1 << 20)
    allocator.allocate_async = lambda *of: block + 8
    allocator.deallocate_async = lambda *of: True
    loaded(kit, allocator=allocator)
    assert "not aligned to 256 bytes" in kit.device.violations[0]


# Inspector, logger, recorder


@pytest.mark.parametrize(("version", "word"), [("10.3.0", "Row major linear FP32"), ("10.16.1.11", "Float")])
def test_the_inspector_tells_names_types_and_shapes_of_a_detailed_engine(version: str, word: str) -> None:
    kit = Kit(version)
    inspector = loaded(kit).create_engine_inspector()
    told = json.loads(inspector.get_engine_information(kit.trt.LayerInformationFormat.JSON))
    assert told["Bindings"] == ["x", "y"]
    assert [layer["Name"] for layer in told["Layers"]] == ["conv", "relu", "mean", "flat", "mix"]
    conv = told["Layers"][0]
    assert (conv["LayerType"], conv["Metadata"], conv["Inputs"][0]["Dimensions"]) == (
        *("CaskConvolution", "[ONNX Layer: conv]"),
        [2, 3, 8, 8],
    )
    assert (conv["Inputs"][0]["Format/Datatype"], conv["Weights"]) == (word, {"Type": "Float", "Count": 108})
    assert "conv" in inspector.get_engine_information(kit.trt.LayerInformationFormat.ONELINE)
    assert json.loads(inspector.get_layer_information(4, kit.trt.LayerInformationFormat.JSON))["Name"] == "mix"


def test_newer_releases_tell_type_and_format_apart() -> None:
    kit = Kit("11.4.0.106")
    told = json.loads(loaded(kit).create_engine_inspector().get_engine_information(kit.trt.LayerInformationFormat.JSON))
    assert told["Layers"][0]["Inputs"][0]["Datatype"] == "Float"


@pytest.mark.parametrize("verbosity", ["LAYER_NAMES_ONLY", "NONE"])
def test_an_engine_that_was_not_built_in_detail_tells_names_or_nothing(verbosity: str) -> None:
    kit = Kit()
    builder, network, _ = kit.parse(convolution())
    config = kit.configure(builder)
    config.profiling_verbosity = getattr(kit.trt.ProfilingVerbosity, verbosity)
    engine = kit.load(builder.build_serialized_network(network, config))
    told = json.loads(engine.create_engine_inspector().get_engine_information(kit.trt.LayerInformationFormat.JSON))
    assert told["Layers"] == (["conv", "relu", "mean", "flat", "mix"] if verbosity == "LAYER_NAMES_ONLY" else [])


def test_formats_of_a_dynamic_engine_are_told_with_a_context_alone() -> None:
    kit = Kit()
    engine = kit.load(kit.build(convolution("n"), "FP16", profiles=[BATCHES]))
    inspector, kind = engine.create_engine_inspector(), kit.trt.LayerInformationFormat.JSON

    def reformat() -> str:
        layers = json.loads(inspector.get_engine_information(kind))["Layers"]
        return str(next(layer for layer in layers if layer["LayerType"] == "Reformat")["Inputs"][0]["Format/Datatype"])

    assert reformat() == "N/A due to dynamic shapes"
    inspector.execution_context = engine.create_execution_context()
    assert reformat() == "Row major linear FP32"


def test_a_recorder_takes_errors_from_the_logger_and_children_have_it_too() -> None:
    kit = Kit()
    recorder = kit.make_recorder()
    engine = loaded(kit, recorder=recorder)
    context = engine.create_execution_context()
    assert (engine.error_recorder, context.error_recorder) == (recorder, recorder)
    context.set_input_shape("nothing", (1,))
    assert [code for code, _ in recorder.errors] == ["INVALID_ARGUMENT"]
    assert kit.errors() == []
    context.error_recorder = None
    context.set_input_shape("nothing", (1,))
    assert len(kit.errors()) == 1
    with pytest.raises(TypeError):
        engine.error_recorder = 3


@pytest.mark.covers("T0-06")
def test_the_real_library_gives_errors_to_the_recorder_alone() -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    told: list[Any] = []
    for kit in (Kit("rtx1.7.1.116"), Kit("rtx1.7.1.116")):
        if told:
            kit.trt = real
            kit.logger = kit.make_logger()
        recorder = kit.make_recorder()
        assert kit.load(b"garbage" * 20, recorder=recorder) is None
        first = [(code, text.split(" In ")[0].rstrip(")")) for code, text in recorder.errors[:1]]
        told.append((first, kit.errors()))
    assert told[0] == told[1]


def test_a_second_logger_is_told_that_it_is_the_second_and_serves_its_own_runtime() -> None:
    for version, severity in (("10.3.0", "INFO"), ("11.4.0.106", "WARNING")):
        kit = Kit(version)
        first = kit.trt.Runtime(kit.logger)
        other = Kit(version)
        other.trt, other.lines = kit.trt, []
        other.logger = other.make_logger()
        second = kit.trt.Runtime(other.logger)
        assert [s for s, text in other.lines if "differs from one already" in text] == [severity]
        second.deserialize_cuda_engine(b"junk")
        assert (kit.errors(), len(other.errors())) == ([], 1)
        del first, second
        gc.collect()
        before = len(other.lines)
        kit.trt.Runtime(other.logger)
        assert len(other.lines) == before


def test_a_logger_that_raises_does_not_break_the_call(capfd: pytest.CaptureFixture[str]) -> None:
    kit = Kit()

    def log(severity: Any, text: str) -> None:
        raise ValueError("boom")

    kit.logger.log = log
    assert kit.load(b"junk") is None
    assert "[ERROR] Exception caught in log(): ValueError: boom" in capfd.readouterr().err


def test_a_profiler_is_told_the_layers() -> None:
    kit = Kit()
    bound = Bound(kit, loaded(kit), {"x": sample()})
    trt = kit.trt
    told: list[str] = []

    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            told.append(layer_name)

    assert bound.context.report_to_profiler() is False
    bound.context.profiler = Profiler()
    bound.run()
    assert bound.context.report_to_profiler() is True
    assert told == ["conv", "relu", "mean", "flat", "mix"]


@pytest.mark.parametrize("version", FLAVOURS)
def test_every_release_runs_on_the_gpu_that_the_kit_gives_it(version: str) -> None:
    kit = Kit(version)
    assert kit.device.sm == GPU[version]
    assert loaded(kit) is not None
