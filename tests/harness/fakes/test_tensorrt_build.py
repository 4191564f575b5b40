"""The builder of the fake TensorRT: what it builds, and what it refuses in the real one's words."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from harness.fakes.faults import Fault
from harness.fakes.tensorrt_plan import flavour_of, read_plan
from tests.harness.fakes.kit import (
    FLAVOURS,
    FLOAT,
    GPU,
    HALF,
    Bound,
    Kit,
    computed,
    convolution,
    model,
    node,
    sample,
    value,
)

pytestmark = pytest.mark.covers("T0-02", "T0-03")

BATCHES = {"x": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}
OLD = ("10.3.0", "10.13.3.9", "10.16.1.11")


def refused(kit: Kit, proto: Any, *flags: str, profiles: Any = (), strongly: bool = False) -> str:
    """The error of a build that gives None."""
    builder = kit.trt.Builder(kit.logger)
    creation = kit.trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(creation.STRONGLY_TYPED) if strongly else 0)
    assert kit.trt.OnnxParser(network, kit.logger).parse(proto.SerializeToString())
    assert builder.build_serialized_network(network, kit.configure(builder, *flags, profiles=profiles)) is None
    return kit.errors()[-1]


def layers(kit: Kit, plan: bytes) -> dict[str, Any]:
    return {layer["Name"]: layer for layer in read_plan(memoryview(plan), flavour(kit), kit.device.sm).layers}


def flavour(kit: Kit) -> Any:
    return next(
        f for f in map(flavour_of, FLAVOURS) if f.text.startswith(kit.trt.__version__) and f.is_rtx == kit.is_rtx
    )


def types(layer: Any) -> list[str]:
    return [tensor.get("Datatype", tensor.get("Format/Datatype")) for tensor in layer["Inputs"]]


# Whole builds


@pytest.mark.parametrize("version", FLAVOURS)
@pytest.mark.parametrize("is_dynamic", [False, True])
def test_an_engine_computes_what_the_model_does(version: str, is_dynamic: bool) -> None:
    kit = Kit(version)
    proto = convolution("n" if is_dynamic else 2)
    plan = kit.build(proto, profiles=[BATCHES] if is_dynamic else ())
    for batch in (1, 2, 4) if is_dynamic else (2,):
        bound = Bound(kit, kit.load(plan), {"x": sample(batch)})
        np.testing.assert_array_equal(bound.run()["y"], computed(proto, {"x": sample(batch)})[0])
        bound.close()
    kit.device.check()


@pytest.mark.parametrize("version", OLD)
def test_the_fp16_flag_gives_half_precision_and_a_smaller_plan(version: str) -> None:
    kit = Kit(version)
    proto = convolution()
    wide, half = kit.build(proto), kit.build(proto, "FP16")
    result = Bound(kit, kit.load(half), {"x": sample()}).run()["y"]
    exact = computed(proto, {"x": sample()})[0]
    assert 0 < np.abs(result - exact).max() < 1e-2
    assert kit.load(half)._state.plan.weights_bytes < kit.load(wide)._state.plan.weights_bytes
    told = types(layers(kit, half)["conv"])[0], types(layers(kit, wide)["conv"])[0]
    assert ["Half" in word or "FP16" in word for word in told] == [True, False]


@pytest.mark.parametrize("version", FLAVOURS)
def test_a_strongly_typed_network_has_the_types_of_its_model(version: str) -> None:
    kit = Kit(version)
    builder = kit.trt.Builder(kit.logger)
    network = builder.create_network(1 << int(kit.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    proto = convolution(dtype=HALF)
    assert kit.trt.OnnxParser(network, kit.logger).parse(proto.SerializeToString())
    engine = kit.load(builder.build_serialized_network(network, kit.configure(builder)))
    assert engine.get_tensor_dtype("x") == kit.trt.float16
    feed = {"x": sample(dtype=np.float16)}
    np.testing.assert_array_equal(Bound(kit, engine, feed).run()["y"], computed(proto, feed)[0])


def test_a_layer_that_is_told_to_stays_in_fp32_when_constraints_are_obeyed() -> None:
    kit = Kit("10.3.0")
    for flags, stays in ((("FP16",), False), (("FP16", "OBEY_PRECISION_CONSTRAINTS"), True)):
        builder, network, _ = kit.parse(convolution())
        layer = network.get_layer(0)
        assert not layer.precision_is_set
        layer.precision = kit.trt.float32
        assert layer.precision_is_set
        plan = bytes(builder.build_serialized_network(network, kit.configure(builder, *flags)))
        assert ("FP32" in types(layers(kit, plan)["conv"])[0]) is stays
        assert "FP16" in types(layers(kit, plan)["mix"])[0]


def test_weights_that_no_half_can_hold_leave_the_engine_in_fp32_with_a_warning() -> None:
    big = model(
        [node("Mul", ["x", "w"], ["y"], "m")],
        [value("x", FLOAT, [4])],
        [value("y", FLOAT, [4])],
        {"w": np.full(4, 1e6, "f")},
    )
    kit = Kit("10.3.0")
    assert "FP32" in types(layers(kit, kit.build(big, "FP16"))["m"])[0]
    assert any(
        "Running in FP32 although fp16 is enabled" in text for severity, text in kit.lines if severity == "WARNING"
    )


def test_the_builder_lists_the_layers_when_it_is_told_to_say_everything() -> None:
    kit = Kit("rtx1.7.1.116")
    kit.build(convolution())
    listed = [text for severity, text in kit.lines if severity == "VERBOSE" and text.startswith("Layers:\n")]
    assert len(listed) == 1
    assert (
        "Name: conv, LayerType: CaskConvolution, Inputs: [ { Name: x, Dimensions: [2,3,8,8], Datatype: Float"
        in listed[0]
    )


def test_two_builds_are_the_same_plan() -> None:
    kit = Kit()
    assert kit.build(convolution()) == kit.build(convolution())


# What it refuses


def test_an_empty_network_has_no_output() -> None:
    kit = Kit()
    builder = kit.trt.Builder(kit.logger)
    assert builder.build_serialized_network(builder.create_network(), kit.configure(builder)) is None
    assert "Network must have at least one output" in kit.errors()[-1]


@pytest.mark.parametrize(
    ("batch", "shapes", "words"),
    [
        ("n", None, "no optimization profile has been defined"),
        ("n", {"z": BATCHES["x"]}, "Dynamic input tensor x is missing dimensions in profile 0"),
        ("n", {"x": ((1, 3, 8), (2, 3, 8), (4, 3, 8))}, "has 4 dimensions but profile 0 has 3 dimensions"),
        ("n", {"x": ((1, 3, 9, 8),) * 3}, "At dimension axis 2, profile has min=9, opt=9, max=9 but tensor has 8"),
        (2, BATCHES, "static dimensions that don't match kMIN dimensions in profile index 0"),
    ],
)
def test_a_profile_that_contradicts_the_model_ends_the_build(batch: Any, shapes: Any, words: str) -> None:
    assert words in refused(Kit(), convolution(batch), profiles=[] if shapes is None else [shapes])


@pytest.mark.covers("T0-06")
@pytest.mark.parametrize(
    ("batch", "shapes"),
    [("n", None), ("n", {"z": BATCHES["x"]}), ("n", {"x": ((1, 3, 8),) * 3}), ("n", {"x": ((1, 3, 9, 8),) * 3})],
)
def test_the_real_builder_refuses_it_in_the_same_words(batch: Any, shapes: Any) -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    kit, real_kit = Kit("rtx1.7.1.116"), Kit("rtx1.7.1.116")
    real_kit.trt = real
    real_kit.logger = real_kit.make_logger()
    profiles = [] if shapes is None else [shapes]
    ours, theirs = (refused(each, convolution(batch), profiles=profiles, strongly=True) for each in (kit, real_kit))
    assert theirs.startswith(ours.removesuffix(")"))


@pytest.mark.parametrize(("flag", "proto", "words"), [
    ("INT8", convolution(dtype=HALF), "fp16 precision has been set for at least one layer or layer output, but fp16 is not"),
    ("FP16", model(
        [node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"), node("DequantizeLinear", ["q", "s", "z"], ["y"], "d")],
        [value("x", FLOAT, [4])], [value("y", FLOAT, [4])], {"s": np.float32(0.1), "z": np.int8(0)}),
     "Int8 precision has been set for at least one layer or layer output, but int8 is not"),
])  # fmt: skip
def test_a_weakly_typed_network_needs_the_flags_of_its_types(flag: str, proto: Any, words: str) -> None:
    assert words in refused(Kit("10.3.0"), proto, flag)


def test_a_strongly_typed_network_takes_no_precision_flags() -> None:
    assert "Strongly typed networks cannot be built with" in refused(
        Kit("10.13.3.9"), convolution(), "FP16", strongly=True
    )


@pytest.mark.parametrize(("version", "sm"), [("10.13.3.9", "87"), ("10.3.0", "120"), ("rtx1.7.1.116", "87")])
def test_a_gpu_that_the_release_has_no_kernels_for_is_refused(version: str, sm: str) -> None:
    kit = Kit(version, sm)
    if kit.is_rtx:
        builder, network, _ = kit.parse(convolution())
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        assert config.set_compute_capability(kit.trt.ComputeCapability.CURRENT, 0)
        assert builder.build_serialized_network(network, config) is None
        error = kit.errors()[-1]
    else:
        error = refused(kit, convolution())
    assert f"Target GPU SM {sm} is not supported by this TensorRT release" in error


def test_too_little_memory_ends_the_build_with_the_tactic_that_found_none() -> None:
    kit = Kit("10.3.0", memory_bytes=4096)
    assert "Could not find any implementation for node conv" in refused(kit, convolution())
    assert any(
        "Tactic Device request: 1MB Available: 0MB. Device memory is insufficient" in text for _, text in kit.lines
    )
    assert kit.device.live_bytes == 0


def test_a_pool_limit_bounds_what_tactics_may_take() -> None:
    kit = Kit("10.3.0")
    builder, network, _ = kit.parse(convolution())
    config = kit.configure(builder)
    config.set_memory_pool_limit(kit.trt.MemoryPoolType.TACTIC_DRAM, 512)
    assert config.get_memory_pool_limit(kit.trt.MemoryPoolType.TACTIC_DRAM) == 512
    assert config.get_memory_pool_limit(kit.trt.MemoryPoolType.WORKSPACE) == kit.device.memory_bytes
    assert builder.build_serialized_network(network, config) is None


def test_unknown_creation_flags_give_no_network() -> None:
    kit = Kit("11.4.0.106")
    assert kit.trt.Builder(kit.logger).create_network(1 << 7) is None
    assert "flagSet.toU32()" in kit.errors()[-1]


def build_one(kit: Kit, builder: Any) -> Any:
    network = builder.create_network()
    assert kit.trt.OnnxParser(network, kit.logger).parse(convolution().SerializeToString())
    return builder.build_serialized_network(network, kit.configure(builder))


@pytest.mark.parametrize(
    ("call", "make"),
    [
        ("Builder.create_network", lambda kit, builder: builder.create_network()),
        ("Builder.create_builder_config", lambda kit, builder: builder.create_builder_config()),
        ("Builder.build_serialized_network", build_one),
        (
            "IBuilderConfig.create_timing_cache",
            lambda kit, builder: builder.create_builder_config().create_timing_cache(b""),
        ),
    ],
)
@pytest.mark.parametrize("error", ["FAILED_ALLOCATION", "INTERNAL_ERROR", "CUDA_ERROR_OUT_OF_MEMORY"])
def test_a_planned_fault_makes_a_call_give_none_and_the_next_one_works(call: str, make: Any, error: str) -> None:
    kit = Kit("10.3.0", None, Fault(f"tensorrt.{call}", error))
    builder = kit.trt.Builder(kit.logger)
    builder.error_recorder = recorder = kit.make_recorder()
    assert make(kit, builder) is None
    assert recorder.errors[0][0] == (error if error.startswith(("FAILED", "INTERNAL")) else "UNSPECIFIED_ERROR")
    assert kit.errors() == []
    assert make(kit, builder) is not None
    assert kit.device.live_bytes == 0


@pytest.mark.parametrize("kind", ["Builder", "Runtime"])
def test_a_planned_fault_of_a_constructor_is_the_exception_of_pybind11(kind: str) -> None:
    kit = Kit("10.3.0", None, Fault(f"tensorrt.{kind}.__init__", "FAILED_INITIALIZATION"))
    with pytest.raises(TypeError, match=r"pybind11::init\(\): factory function returned nullptr"):
        getattr(kit.trt, kind)(kit.logger)
    assert getattr(kit.trt, kind)(kit.logger).logger is kit.logger


# Progress and timing


class Told:
    """What a monitor was told."""

    def __init__(self, trt: Any, stop_at: int = 1000) -> None:
        self.calls: list[Any] = []

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
            def __init__(monitor) -> None:
                trt.IProgressMonitor.__init__(monitor)

            def phase_start(monitor, name: str, parent: str | None, steps: int) -> None:
                self.calls.append(("start", name, parent, steps))

            def step_complete(monitor, name: str, step: int) -> bool:
                self.calls.append(("step", name, step))
                return len(self.calls) < stop_at

            def phase_finish(monitor, name: str) -> None:
                self.calls.append(("finish", name))

        self.monitor = Monitor()


def test_progress_comes_in_nested_phases_whose_steps_are_counted() -> None:
    kit = Kit()
    builder, network, _ = kit.parse(convolution())
    config = kit.configure(builder)
    told = Told(kit.trt)
    config.progress_monitor = told.monitor
    assert builder.build_serialized_network(network, config) is not None
    starts = [call for call in told.calls if call[0] == "start"]
    assert starts == [("start", "Building engine", None, 3), ("start", "Timing graph nodes", "Building engine", 5)]
    for _, name, _, steps in starts:
        assert [call[2] for call in told.calls if call[:2] == ("step", name)] == list(range(steps))
        assert told.calls.count(("finish", name)) == 1
    with pytest.raises(TypeError):
        config.progress_monitor = 3


def test_a_step_that_is_answered_with_false_cancels_the_build() -> None:
    kit = Kit()
    builder, network, _ = kit.parse(convolution())
    config = kit.configure(builder)
    told = Told(kit.trt, stop_at=4)
    config.progress_monitor = told.monitor
    assert builder.build_serialized_network(network, config) is None
    assert "Build canceled by user" in kit.errors()[-1]
    assert told.calls[-1] == ("finish", "Building engine")
    assert kit.device.live_bytes == 0


def test_a_build_that_may_not_time_fails_at_the_first_layer_that_the_cache_lacks() -> None:
    assert "Timing cache miss for node conv" in refused(Kit("10.3.0"), convolution(), "ERROR_ON_TIMING_CACHE_MISS")


def test_an_ahead_of_time_build_of_tensorrt_rtx_asks_nothing_of_the_device() -> None:
    kit = Kit("rtx1.7.1.116", "87")
    kit.device.lost_to = "CUDA_ERROR_LAUNCH_FAILED"
    builder, network, _ = kit.parse(convolution())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 2
    assert config.get_compute_capability(1).name == "NONE"
    for index, name in enumerate(("SM86", "SM120")):
        assert config.set_compute_capability(getattr(kit.trt.ComputeCapability, name), index)
    assert config.set_compute_capability(kit.trt.ComputeCapability.SM86, 2) is False
    plan = bytes(builder.build_serialized_network(network, config))
    assert struct.unpack_from("<I", plan, 32) == (4 + 16,)


# INT8


class Batches:
    """A calibrator over batches that lie on the device one after another."""

    def __init__(
        self, kit: Kit, count: int = 3, cache: bytes | None = None, kind: str = "IInt8EntropyCalibrator2"
    ) -> None:
        base = getattr(kit.trt, kind)
        self.written: bytes | None = None
        self.kept: Any = None
        self.asked: list[Any] = []
        self.data = [sample(2, seed) for seed in range(count)]

        class Calibrator(base):  # type: ignore[misc, valid-type]
            def __init__(calibrator) -> None:
                base.__init__(calibrator)

            def get_batch_size(calibrator) -> int:
                return 2

            def get_batch(calibrator, names: list[str]) -> Any:
                self.asked.append(names)
                if len(self.asked) > len(self.data):
                    return None
                address = kit.device.allocate(self.data[0].nbytes)
                kit.device.write(address, self.data[len(self.asked) - 1].tobytes())
                return [address]

            def read_calibration_cache(calibrator) -> bytes | None:
                return cache

            def write_calibration_cache(calibrator, data: Any) -> None:
                self.written, self.kept = bytes(data), data

        self.calibrator: Any = Calibrator()


def int8(kit: Kit, batches: Batches, *flags: str, proto: Any = None) -> bytes | None:
    builder, network, _ = kit.parse(proto or convolution())
    config = kit.configure(builder, "INT8", *flags)
    config.int8_calibrator = batches.calibrator
    plan = builder.build_serialized_network(network, config)
    return None if plan is None else bytes(plan)


@pytest.mark.parametrize("flags", [(), ("FP16",)])
def test_calibration_reads_the_device_and_the_engine_computes_in_int8(flags: tuple[str, ...]) -> None:
    kit = Kit("10.3.0")
    batches = Batches(kit)
    plan = int8(kit, batches, *flags)
    assert batches.asked == [["x"]] * 4
    told = layers(kit, plan or b"")
    assert [("Int8" in types(told[name])[0]) for name in ("conv", "relu", "mix")] == [True, False, True]
    feed = {"x": batches.data[0]}
    result, exact = Bound(kit, kit.load(plan), feed).run()["y"], computed(convolution(), feed)[0]
    assert 0 < np.abs(result - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("IInt8EntropyCalibrator2", "EntropyCalibration2"), ("IInt8MinMaxCalibrator", "MinMaxCalibration")],
)
def test_the_cache_is_the_real_text_and_is_enough_for_the_next_build(kind: str, algorithm: str) -> None:
    kit = Kit("10.13.3.9")
    first = Batches(kit, kind=kind)
    plan = int8(kit, first)
    lines = (first.written or b"").decode().splitlines()
    assert lines[0] == f"TRT-101303-{algorithm}"
    most = max(float(np.abs(batch).max()) for batch in first.data)
    assert struct.unpack(">f", bytes.fromhex(dict(line.split(": ") for line in lines[1:])["x"]))[0] == pytest.approx(
        most / 127
    )
    second = Batches(kit, cache=first.written, kind=kind)
    assert int8(kit, second) == plan
    assert (second.asked, second.written) == ([], None)


def test_the_memory_of_the_cache_is_gone_after_the_call() -> None:
    kit = Kit("10.3.0")
    batches = Batches(kit)
    int8(kit, batches)
    with pytest.raises(ValueError, match="released memoryview"):
        bytes(batches.kept)


@pytest.mark.parametrize("cache", [b"TRT-100300-MinMaxCalibration\nx: 3c010a14\n", b"junk", b""])
def test_a_cache_of_another_algorithm_or_none_is_not_used(cache: bytes) -> None:
    kit = Kit("10.3.0")
    batches = Batches(kit, cache=cache)
    assert int8(kit, batches) is not None
    assert batches.written is not None


def test_a_tensor_that_the_cache_lacks_stays_in_fp32_with_a_warning() -> None:
    kit = Kit("10.3.0")
    plan = int8(kit, Batches(kit, cache=b"TRT-100300-EntropyCalibration2\nx: 3d000000\n"))
    told = layers(kit, plan or b"")
    assert ["Int8" in types(told[name])[0] for name in ("conv", "mix")] == [True, False]
    assert any("Missing scale and zero-point for tensor d" in text for _, text in kit.lines)


def test_a_calibrator_without_batches_ends_the_build() -> None:
    kit = Kit("10.3.0")
    assert int8(kit, Batches(kit, count=0)) is None
    assert "Calibration failure occurred with no scaling factors detected" in kit.errors()[-1]


def test_a_batch_outside_of_its_memory_ends_the_build_and_is_written_down() -> None:
    kit = Kit("10.3.0")
    batches = Batches(kit)
    batches.data = [sample(1)]
    assert int8(kit, batches) is None
    assert "illegal memory access" in kit.errors()[-1]
    assert "out of bounds" in kit.device.violations[0]


def test_a_batch_whose_copy_has_not_run_is_written_down() -> None:
    kit = Kit("10.3.0")
    batches = Batches(kit)
    address = kit.device.allocate(sample().nbytes)
    given = iter([[address]])
    batches.calibrator.get_batch = lambda names: next(given, None)
    int8(kit, batches)
    assert "calibration input x reads bytes of" in kit.device.violations[0]


def test_what_a_calibrator_raises_ends_its_batches(capfd: pytest.CaptureFixture[str]) -> None:
    kit = Kit("10.3.0")
    batches = Batches(kit)

    def get_batch(names: list[str]) -> Any:
        raise OSError("disk")

    batches.calibrator.get_batch = get_batch
    assert int8(kit, batches) is None
    assert "Exception caught in get_batch(): OSError: disk" in capfd.readouterr().err


def test_int8_without_ranges_is_told_and_stays_wide() -> None:
    kit = Kit("10.3.0")
    assert "FP32" in types(layers(kit, kit.build(convolution(), "INT8"))["conv"])[0]
    assert any("Calibrator is not being used" in text for _, text in kit.lines)


def test_ranges_set_by_hand_serve_as_well() -> None:
    kit = Kit("10.3.0")
    builder, network, _ = kit.parse(convolution())
    tensor = network.get_input(0)
    tensor.dynamic_range = (-3.0, 2.0)
    assert tensor.dynamic_range == (-3.0, 3.0)
    plan = bytes(builder.build_serialized_network(network, kit.configure(builder, "INT8")))
    assert "Int8" in types(layers(kit, plan)["conv"])[0]
    tensor.reset_dynamic_range()
    assert tensor.dynamic_range is None


def test_a_model_with_its_own_q_and_dq_is_built_as_it_is_and_the_calibrator_not_asked() -> None:
    from harness.fakes.tensorrt_precision import quantize

    proto, _ = quantize(convolution(), {"x": 3.0, "d": 2.0}, ())
    kit = Kit("10.3.0")
    batches = Batches(kit)
    plan = int8(kit, batches, proto=proto)
    assert batches.asked == []
    assert any("Calibrator won't be used in explicit quantization mode" in text for _, text in kit.lines)
    np.testing.assert_array_equal(
        Bound(kit, kit.load(plan), {"x": sample()}).run()["y"], computed(proto, {"x": sample()})[0]
    )


def test_dynamic_shapes_are_calibrated_at_the_best_shape_of_the_chosen_profile() -> None:
    kit = Kit("10.3.0")
    for chooses in (False, True):
        batches = Batches(kit)
        builder, network, _ = kit.parse(convolution("n"))
        config = kit.configure(builder, "INT8", profiles=[BATCHES])
        config.int8_calibrator = batches.calibrator
        if chooses:
            profile = builder.create_optimization_profile()
            profile.set_shape("x", *[(2, 3, 8, 8)] * 3)
            assert config.set_calibration_profile(profile) is True
            assert config.get_calibration_profile() is profile
        assert builder.build_serialized_network(network, config) is not None
        assert batches.written is not None


# Settings


def test_what_the_plan_says_comes_from_the_configuration() -> None:
    kit = Kit("10.13.3.9")
    builder, network, _ = kit.parse(convolution())
    network.name = "my net"
    config = kit.configure(builder, "REFIT", "VERSION_COMPATIBLE", detailed=False)
    config.hardware_compatibility_level = kit.trt.HardwareCompatibilityLevel.AMPERE_PLUS
    engine = kit.load(builder.build_serialized_network(network, config))
    assert (engine.name, engine.refittable, engine.num_layers, engine.hardware_compatibility_level.name) == (
        *("my net", True),
        *(5, "AMPERE_PLUS"),
    )
    assert engine.profiling_verbosity == kit.trt.ProfilingVerbosity.LAYER_NAMES_ONLY


def test_an_engine_can_be_built_and_loaded_in_one_call_where_the_release_has_it() -> None:
    kit = Kit("10.13.3.9")
    builder, network, _ = kit.parse(convolution())
    assert builder.build_engine_with_config(network, kit.configure(builder)).num_io_tensors == 2


@pytest.mark.parametrize("version", FLAVOURS)
def test_polygraphy_builds_and_loads_through_its_own_loaders(version: str, tmp_path: Any, monkeypatch: Any) -> None:
    """In a process of its own: Polygraphy decides at import which TensorRT it is for."""
    pytest.importorskip("polygraphy", reason="polygraphy: not installed")
    path = tmp_path / "model.onnx"
    path.write_bytes(convolution("n").SerializeToString())
    script = tmp_path / "build.py"
    script.write_text(POLYGRAPHY)
    rtx = {"POLYGRAPHY_USE_TENSORRT_RTX": "1"} if version.startswith("rtx") else {}
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    environment, command = {**os.environ, **rtx}, [sys.executable, script, version, GPU[version], path]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"tensors": ["x", "y"], "violations": [], "module": "tensorrt_rtx" if rtx else "tensorrt"}


POLYGRAPHY = """
import json, sys
from harness.fakes.device import SimulatedDevice
from harness.fakes.install import installed

version, sm, path = sys.argv[1:]
device = SimulatedDevice(sm=sm)
with installed(device, tensorrt=version) as fakes:
    from polygraphy.backend.trt import (CreateConfig, Profile, engine_bytes_from_network, engine_from_bytes,
                                        network_from_onnx_path)
    trt = fakes.tensorrt
    profiles = [Profile().add("x", (1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))]
    if version.startswith("rtx"):
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
        config = CreateConfigRTX(use_gpu=False, compute_capabilities=[(8, 9)], profiles=profiles)
    else:
        fp16 = {"fp16": True} if version.startswith("10") else {}
        config = CreateConfig(profiles=profiles, memory_pool_limits={trt.MemoryPoolType.WORKSPACE: 1 << 28},
                              profiling_verbosity=trt.ProfilingVerbosity.DETAILED, **fp16)
    builder, network, parser = network_from_onnx_path(path)
    data = engine_bytes_from_network((builder, network, parser), config=config)
    engine = engine_from_bytes(bytes(data))
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    print(json.dumps({"tensors": names, "violations": device.violations, "module": trt.__name__}))
"""
