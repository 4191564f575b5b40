"""Engines from models on simulated devices of each release: what is asked, what comes out, and what is refused."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
pytest.importorskip("polygraphy", reason="polygraphy: not installed")

from harness.fakes.device import SimulatedDevice  # noqa: E402
from harness.fakes.faults import Fault, FaultPlan  # noqa: E402
from harness.fakes.install import installed  # noqa: E402
from runtime.config import RuntimeConfig  # noqa: E402
from runtime.data import BuildConfig, EngineCacheEntry, Profile, TensorSpec  # noqa: E402
from runtime.errors import (  # noqa: E402
    CalibrationCacheError,
    EngineBuildError,
    EngineSchemaMismatchError,
    RuntimeCoreError,
    RuntimeNotAvailableError,
)
from runtime.files import FileSystem, sha256_hex  # noqa: E402
from runtime.gate import EngineGate  # noqa: E402
from runtime.logs import EventLog  # noqa: E402
from runtime.model_file import model_sha256  # noqa: E402
from runtime.names import parse_engine_name  # noqa: E402
from runtime.platform import HostTuple  # noqa: E402
from runtime.sidecar import Manifest, read_manifest  # noqa: E402
from runtime.strategies.trt_build import build_engine, check_profiles, io_bytes, provision  # noqa: E402
from runtime.strategies.trt_job import BuildJob, BuildResult, Progress  # noqa: E402
from runtime.strategies.trt_launch import ChildLaunch, in_process  # noqa: E402
from runtime.strategies.trt_layers import layers_path  # noqa: E402
from runtime.strategies.trt_options import builder_words  # noqa: E402
from tests.harness import tiny  # noqa: E402

ORIN = HostTuple("87", "6.2", "10.3.0", "36.4.3", "p3767-0000")
HOSTS = {
    "10.3.0": ORIN,
    "10.13.3.9": HostTuple("110", "7.1", "10.13.3.9", "38.4.0", "p3834-0008"),
    "10.16.1.11": HostTuple("87", "7.2", "10.16.1.11", "39.2.0", "p3767-0000"),
    "11.4.0.106": HostTuple("110", "7.2", "11.4.0.106", "39.2.0", "p3834-0008"),
    "rtx1.7.1.116": HostTuple("89", "none", "rtx1.7.1.116"),
}
STAND_IN = Path(__file__).with_name("trtexec_stand_in.py")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.write_onnx(tmp_path / "tiny.onnx")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for at in range(4):
        np.savez(folder / f"{at}.npz", x=np.random.default_rng(at).standard_normal((2, tiny.WIDTH)).astype(np.float32))
    return folder


@pytest.fixture
def trtexec(tmp_path: Path) -> Path:
    """The stand-in as a program of its own, for an Orin with TensorRT 10.3."""
    return write_trtexec(tmp_path / "trtexec", "10.3.0", "87")


def write_trtexec(path: Path, version: str, sm: str, mode: str = "") -> Path:
    root = Path(__file__).parents[3]
    path.write_text(
        f"#!/bin/sh\nSTAND_IN_MODE='{mode}' PYTHONPATH={root} exec {sys.executable} {STAND_IN} {version} {sm} \"$@\"\n"
    )
    path.chmod(0o755)
    return path


class Bench:
    """One host with its TensorRT, and a folder for engines."""

    def __init__(self, folder: Path, flavour: str, device: SimulatedDevice, module: Any) -> None:
        self.folder = folder
        self.host = HOSTS[flavour]
        self.device = device
        self.trt = module
        self.log = io.StringIO()

    def _how(self, more: dict[str, Any]) -> dict[str, Any]:
        config = RuntimeConfig(engine_cache_dir=self.folder, trtexec_timeout_s=more.pop("timeout_s", 60.0))
        return {
            "config": config,
            "host": self.host,
            "launch": in_process,
            "log": EventLog(stream=self.log),
            **more,
        }

    def build(self, model: Path, asked: BuildConfig, **more: Any) -> EngineCacheEntry:
        return build_engine(model, asked, **self._how(more))

    def provision(self, model: Path, asked: BuildConfig, **more: Any) -> tuple[EngineCacheEntry, bool]:
        done = provision(model, asked, **self._how(more))
        return done.entry, done.is_new

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())} if self.folder.exists() else {}

    def lines(self, kind: str) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in told if line["kind"] == kind]


@contextmanager
def bench_of(folder: Path, flavour: str = "10.3.0", *, faults: FaultPlan | None = None) -> Iterator[Bench]:
    host = HOSTS[flavour]
    is_jetson = host.jetpack != "none"
    device = SimulatedDevice(sm=host.sm, is_integrated=is_jetson, faults=faults or FaultPlan())
    with installed(device, tensorrt=flavour) as fakes:
        yield Bench(folder, flavour, device, fakes.tensorrt)
    device.check()
    assert device.leaks() == []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_of(tmp_path / "engines") as made:
        yield made


def asked(precision: str, frames: Path | None = None, **more: Any) -> BuildConfig:
    return BuildConfig(precision=precision, calibration_dataset=frames, **more)


def refused(bench: Bench, *arguments: Any, kind: Any = EngineBuildError, **more: Any) -> str:
    """The words of a refusal; the folder is as it was."""
    before = bench.files()
    with pytest.raises(kind) as caught:
        bench.build(*arguments, **more)
    assert bench.files() == before
    error: RuntimeCoreError = caught.value
    return str(error)


# --- what comes out -----------------------------------------------------------------------------------------------


@pytest.mark.covers("TT-01", "TT-02", "TT-03", "TR-01", "TR-02")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "mixed"])
@pytest.mark.parametrize("flavour", HOSTS)
def test_every_release_builds_every_precision_and_the_gate_lets_it_pass(
    tmp_path: Path, model: Path, frames: Path, flavour: str, precision: str
) -> None:
    with bench_of(tmp_path / "engines", flavour) as bench:
        entry = bench.build(model, asked(precision, frames if precision in ("int8", "mixed") else None))
        host = bench.host
        verified = EngineGate(host).validate(entry)
        name = parse_engine_name(entry.engine_path.name)
        assert (name.model, name.sm, name.jetpack, name.precision) == ("tiny", host.sm, host.jetpack, precision)
        assert name.is_rtx == flavour.startswith("rtx")
        manifest = verified.manifest
        assert verified.header is not None
        assert manifest.trt == verified.header.trt
        assert manifest.model_sha256 == model_sha256(model)
        expected = "flags" if flavour == "10.3.0" else "strongly-typed"
        ranges = {"int8", "mixed"} & {precision}
        expected += ("+calibrator" if flavour == "10.3.0" else "+qdq") if ranges else ""
        assert manifest.route == entry.extras["route"] == expected
        assert manifest.inputs == (TensorSpec("x", (2, tiny.WIDTH), "float32"),)
        assert manifest.outputs == (TensorSpec("y", (2, 4), "float32"),)
        got = entry.extras["precision_got"]
        assert {"fp32": "fp32", "fp16": "fp16", "int8": "int8"}.get(precision, "fp16") in got


@pytest.mark.covers("TT-04", "TR-02")
def test_the_manifest_holds_what_the_budget_and_a_later_reader_need(bench: Bench, model: Path) -> None:
    entry = bench.build(model, asked("fp16", workspace_mb=37))
    manifest = read_manifest(entry.engine_path)
    assert (manifest.module, manifest.l4t, manifest.jetpack) == ("p3767-0000", "36.4.3", "6.2")
    assert manifest.builder == "tensorrt 10.3.0"
    assert manifest.trt == "10.3.0.30"
    assert manifest.header == "used"
    assert manifest.opt_buffer_bytes == 4 * (2 * tiny.WIDTH + 2 * 4)
    engine = bench.trt.Runtime(bench.trt.Logger()).deserialize_cuda_engine(entry.engine_path.read_bytes())
    assert manifest.device_memory_bytes == engine.device_memory_size_v2
    options = manifest.builder_options
    assert (options["workspace_mb"], options["builder_flags"], options["tf32"]) == ("37", "FP16", "off")
    assert "builder_optimization_level=3, default_device_type=GPU" in builder_words(options)
    assert "flags=FP16, " in builder_words(options)
    layers = layers_path(entry.engine_path).read_bytes()
    assert options["layers_sha256"] == sha256_hex(layers)
    told = json.loads(layers)
    assert told["source"] == "inspector"
    assert told["precision"] == {"fp16": 4}
    assert {layer["precision"] for layer in told["layers"]} <= {"fp16", ""}
    assert told["inspector"]["Layers"]


@pytest.mark.covers("TT-04")
def test_the_bytes_of_the_weights_are_told_where_the_library_tells_them(tmp_path: Path, model: Path) -> None:
    with bench_of(tmp_path / "new", "11.4.0.106") as bench:
        assert (read_manifest(bench.build(model, asked("fp32")).engine_path).weights_bytes or 0) > 0
    with bench_of(tmp_path / "old") as bench:
        assert read_manifest(bench.build(model, asked("fp32")).engine_path).weights_bytes is None


def spy(bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[Any, ...]]:
    seen: list[tuple[Any, ...]] = []
    real = getattr(bench.trt.IBuilderConfig, name)

    def watched(config: Any, *arguments: Any) -> Any:
        seen.append(tuple(getattr(argument, "name", argument) for argument in arguments))
        return real(config, *arguments)

    monkeypatch.setattr(bench.trt.IBuilderConfig, name, watched)
    return seen


@pytest.mark.covers("TT-01")
def test_the_workspace_is_applied_and_shared_memory_is_left_to_others(
    bench: Bench, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = spy(bench, monkeypatch, "set_memory_pool_limit")
    cleared = spy(bench, monkeypatch, "clear_flag")
    entry = bench.build(model, asked("fp16", workspace_mb=37))
    told = dict(limits)
    assert told["WORKSPACE"] == 37 << 20
    assert 37 << 20 <= told["TACTIC_DRAM"] <= bench.device.memory_bytes // 2
    assert read_manifest(entry.engine_path).builder_options["tactic_dram_mb"] == str(told["TACTIC_DRAM"] >> 20)
    assert ("TF32",) in cleared


@pytest.mark.covers("TT-01")
def test_a_discrete_gpu_keeps_its_own_limit_for_trying_kernels(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench_of(tmp_path / "engines", "rtx1.7.1.116") as bench:
        limits = spy(bench, monkeypatch, "set_memory_pool_limit")
        bench.build(model, asked("fp32"))
        assert [pool for pool, _ in limits] == ["WORKSPACE"]


@pytest.mark.covers("TT-01")
def test_a_build_reports_its_phases_in_order(bench: Bench, model: Path, frames: Path) -> None:
    seen: list[Progress] = []
    bench.build(model, asked("int8", frames), on_progress=seen.append)
    phases = list(dict.fromkeys(told.phase for told in seen))
    assert phases[:2] == ["preparing", "parsing"]
    assert "calibrating" in phases
    assert phases[-1] == "reading back"
    assert all(0 <= told.step <= told.of for told in seen)
    assert max(told.step for told in seen if told.phase == "calibrating") == 4
    assert any(told.parent for told in seen)


@pytest.mark.covers("LO-01")
def test_a_build_says_what_it_made_in_one_line(bench: Bench, model: Path) -> None:
    entry = bench.build(model, asked("fp16"))
    (line,) = bench.lines("c7.engine_built")
    assert (line["engine"], line["route"], line["precisions"]) == (entry.engine_path.name, "flags", {"fp16": 4})
    assert line["size_bytes"] == entry.engine_path.stat().st_size


# --- trtexec ------------------------------------------------------------------------------------------------------


@pytest.mark.covers("TT-01")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_both_routes_give_the_same_entry(bench: Bench, model: Path, trtexec: Path, precision: str) -> None:
    first = bench.build(model, asked(precision))
    bench.folder = bench.folder.with_name("other")
    second = bench.build(model, asked(precision, route="trtexec"), trtexec=trtexec)
    assert second.engine_path.name == first.engine_path.name
    assert {**second.extras, "tool": "polygraphy"} == dict(first.extras)
    one, two = read_manifest(first.engine_path), read_manifest(second.engine_path)
    assert replace(one, builder_options={}, sha256="0" * 64) == replace(two, builder_options={}, sha256="0" * 64)
    assert two.builder_options["tool"] == "trtexec"
    EngineGate(ORIN).validate(second)
    assert json.loads(layers_path(second.engine_path).read_text())["precision"] == {precision: 4}


@pytest.mark.covers("TT-01", "TT-02", "TR-08")
def test_int8_through_trtexec_uses_a_trusted_cache_and_else_nodes_of_the_model(
    bench: Bench, model: Path, frames: Path, trtexec: Path
) -> None:
    entry = bench.build(model, asked("int8", frames, route="trtexec"), trtexec=trtexec)
    assert entry.extras["route"] == "flags+qdq"
    assert "int8" in entry.extras["precision_got"]
    assert bench.build(model, asked("int8", frames)).extras["route"] == "flags+calibrator"
    entry = bench.build(model, asked("int8", frames, route="trtexec"), trtexec=trtexec)
    assert entry.extras["route"] == "flags+calibrator"
    assert "int8" in entry.extras["precision_got"]


@pytest.mark.covers("TT-01", "TT-02")
def test_trtexec_of_11_types_strongly_and_takes_profiles(tmp_path: Path) -> None:
    with bench_of(tmp_path / "engines", "11.4.0.106") as bench:
        program = write_trtexec(tmp_path / "trtexec", "11.4.0.106", "110")
        profiles = (Profile("x", (1, tiny.WIDTH), (2, tiny.WIDTH), (8, tiny.WIDTH)),)
        path = dynamic(tmp_path)
        entry = bench.build(path, asked("fp16", route="trtexec", optimization_profiles=profiles), trtexec=program)
        assert entry.extras["route"] == "strongly-typed"
        manifest = EngineGate(bench.host).validate(entry).manifest
        assert (manifest.profiles, manifest.inputs[0].shape) == (profiles, ("n", tiny.WIDTH))


@pytest.mark.covers("TT-01")
@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("fail", "trtexec ended with 1; it says: Error[2]: [codeGenerator.cpp"),
        ("no file", "trtexec ended well and wrote no engine"),
        ("other version", "is of TensorRT 10.7.0, and the library that would load its engines is 10.3.0"),
    ],
)
def test_a_trtexec_that_fails_leaves_nothing(bench: Bench, model: Path, tmp_path: Path, mode: str, says: str) -> None:
    program = write_trtexec(tmp_path / "trtexec", "10.3.0", "87", mode)
    assert says in refused(bench, model, asked("fp16", route="trtexec"), trtexec=program)


@pytest.mark.covers("TT-01")
def test_tensorrt_rtx_has_no_trtexec(tmp_path: Path, model: Path, trtexec: Path) -> None:
    with bench_of(tmp_path / "engines", "rtx1.7.1.116") as bench:
        assert "has no trtexec" in refused(bench, model, asked("fp16", route="trtexec"), trtexec=trtexec)


# --- the child process --------------------------------------------------------------------------------------------


def child(flavour: str, sm: str, *faults: str) -> ChildLaunch:
    options = [word for fault in faults for word in ("--fault", fault)]
    return ChildLaunch(command=(sys.executable, "-m", "harness.fakes.child", flavour, sm, *options, "--"))


@pytest.mark.covers("TT-01")
def test_the_child_process_gives_the_engine_that_this_process_gives(bench: Bench, model: Path) -> None:
    here = bench.build(model, asked("fp16"))
    bench.folder = bench.folder.with_name("other")
    seen: list[Progress] = []
    there = bench.build(model, asked("fp16"), launch=child("10.3.0", "87"), on_progress=seen.append)
    assert there.extras == here.extras
    assert sorted(path.name for path in bench.folder.iterdir()) == sorted(
        path.name for path in here.engine_path.parent.iterdir()
    )
    assert {"preparing", "parsing", "reading back"} <= {told.phase for told in seen}
    (line,) = (line for line in bench.lines("c7.engine_built") if line["peak_bytes"] is not None)
    assert line["peak_bytes"] > 10 << 20


@pytest.mark.covers("TT-01")
def test_an_error_in_the_child_is_the_same_error_here(bench: Bench, model: Path, frames: Path) -> None:
    launch = child("10.3.0", "87", "tensorrt.Builder.build_serialized_network=CUDA_ERROR_OUT_OF_MEMORY")
    assert "no memory was left" in refused(bench, model, asked("fp16"), launch=launch)


@pytest.mark.covers("TT-01")
def test_a_build_in_a_child_that_takes_too_long_leaves_no_file(bench: Bench, model: Path, tmp_path: Path) -> None:
    program = write_trtexec(tmp_path / "trtexec", "10.3.0", "87", "hang")
    told = refused(
        bench,
        model,
        asked("fp16", route="trtexec"),
        launch=child("10.3.0", "87"),
        trtexec=program,
        timeout_s=3.0,
    )
    assert "took longer than 3 s and was ended" in told


# --- profiles -----------------------------------------------------------------------------------------------------


def dynamic(folder: Path) -> Path:
    """The tiny model with its first axis free."""
    made = onnx.load(tiny.write_onnx(folder / "free.onnx"))
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(made, folder / "free.onnx")
    return folder / "free.onnx"


def wide(least: int, best: int, most: int) -> Profile:
    return Profile("x", (least, tiny.WIDTH), (best, tiny.WIDTH), (most, tiny.WIDTH))


@pytest.mark.covers("TT-01", "TR-02")
def test_free_sizes_are_built_through_their_profile_and_stand_in_the_manifest(bench: Bench, tmp_path: Path) -> None:
    entry = bench.build(dynamic(tmp_path), asked("fp16", optimization_profiles=(wide(1, 2, 8),)))
    manifest = read_manifest(entry.engine_path)
    assert entry.extras["precision_got"] == "fp16 4"
    assert manifest.profiles == (wide(1, 2, 8),)
    assert (manifest.inputs[0].shape, manifest.outputs[0].shape) == (("n", tiny.WIDTH), ("n", 4))
    assert manifest.opt_buffer_bytes == 4 * 8 * (tiny.WIDTH + 4)
    engine = bench.trt.Runtime(bench.trt.Logger()).deserialize_cuda_engine(entry.engine_path.read_bytes())
    assert [tuple(shape) for shape in engine.get_tensor_profile_shape("x", 0)] == [(1, 16), (2, 16), (8, 16)]


@pytest.mark.covers("TT-01")
@pytest.mark.parametrize(
    ("profiles", "says"),
    [
        ((), "input 'x' is nx16, with 'n' free, and no profile was given for it"),
        ((Profile("z", (1, 16), (1, 16), (1, 16)),), "no profile was given for it"),
        (
            (wide(1, 2, 8), Profile("z", (1,), (1,), (1,))),
            "a profile names the input 'z'; the model's inputs are x (float32 nx16)",
        ),
        ((Profile("x", (1,), (2,), (3,)),), "the profile of 'x' has 1 axes (min 1, opt 2, max 3); the input is nx16, with 2"),
        (
            (Profile("x", (1, 15), (2, 15), (3, 15)),),
            "the profile of 'x' is min 1x15, opt 2x15, max 3x15; the model fixes axis 1 at 16 (nx16)",
        ),
    ],
    ids=["missing", "of another", "unknown", "rank", "fixed"],
)  # fmt: skip
def test_a_profile_that_contradicts_the_model_is_refused_before_anything_is_built(
    bench: Bench, tmp_path: Path, profiles: Any, says: str
) -> None:
    calls = len(bench.device.calls)
    assert says in refused(bench, dynamic(tmp_path), asked("fp16", optimization_profiles=profiles))
    assert len(bench.device.calls) == calls


@pytest.mark.covers("TT-01")
def test_one_free_size_of_two_inputs_is_one_size() -> None:
    specs = (TensorSpec("a", ("n",), "float32"), TensorSpec("b", ("n", 2), "float32"))
    same = Profile("a", (1,), (2,), (3,)), Profile("b", (1, 2), (2, 2), (3, 2))
    check_profiles(specs, same)
    with pytest.raises(EngineBuildError, match=r"profile of 'b' lets 'n' be 1, 2, 4 .* that of 'a' 1, 2, 3"):
        check_profiles(specs, (same[0], Profile("b", (1, 2), (2, 2), (4, 2))))


def test_an_input_of_unknown_rank_takes_any_profile() -> None:
    check_profiles((TensorSpec("a", ("...",), "float32"),), (Profile("a", (1, 2), (1, 2), (1, 2)),))


@pytest.mark.covers("TT-04")
def test_bytes_of_inputs_and_outputs_are_those_at_the_largest_shapes() -> None:
    inputs = (TensorSpec("a", ("n", 3), "float32"), TensorSpec("b", (5,), "int64"))
    profile = (Profile("a", (1, 3), (2, 3), (4, 3)),)
    assert io_bytes(inputs, (TensorSpec("y", ("n",), "float16"),), profile) == 4 * 3 * 4 + 5 * 8 + 4 * 2
    assert io_bytes(inputs, (TensorSpec("y", (7,), "bfloat16"),), profile) == 4 * 3 * 4 + 5 * 8 + 7 * 2
    assert io_bytes(inputs, (TensorSpec("y", ("m",), "float32"),), profile) is None
    assert io_bytes((), (TensorSpec("y", (2,), "mystery"),), ()) is None


@pytest.mark.covers("TR-08")
def test_calibration_inputs_must_lie_in_the_profile(bench: Bench, tmp_path: Path, frames: Path) -> None:
    told = refused(bench, dynamic(tmp_path), asked("int8", frames, optimization_profiles=(wide(3, 4, 8),)))
    assert "calibration inputs have 'x' 2x16; its profile allows 3x16 to 8x16" in told
    entry = bench.build(dynamic(tmp_path), asked("int8", frames, optimization_profiles=(wide(1, 4, 8),)))
    assert "int8" in entry.extras["precision_got"]


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.covers("TT-02")
@pytest.mark.parametrize("flavour", ["10.3.0", "10.13.3.9"])
def test_an_engine_that_stayed_in_fp32_is_not_kept(tmp_path: Path, model: Path, flavour: str) -> None:
    with bench_of(tmp_path / "engines", flavour) as bench:

        def deaf(job: BuildJob, **how: Any) -> BuildResult:
            """The builder that takes the request and builds fp32 all the same, as was reported for Thor."""
            return in_process(replace(job, precision="fp32"), **how)

        told = refused(bench, model, asked("fp16"), launch=deaf)
        assert "is not kept: asked for fp16, and every layer computes in fp32 (fp32 4)" in told


@pytest.mark.covers("TT-02", "LO-01")
def test_a_layer_that_stayed_behind_is_said_once_and_recorded(bench: Bench, model: Path) -> None:
    def partly(job: BuildJob, **how: Any) -> BuildResult:
        return replace(in_process(job, **how), precisions={"fp16": 3, "fp32": 1})

    entry = bench.build(model, asked("fp16"), launch=partly)
    assert entry.extras["precision_got"] == "fp16 3, fp32 1"
    assert read_manifest(entry.engine_path).builder_options["precision_got"] == "fp16 3, fp32 1"
    (line,) = bench.lines("c7.precision_differs")
    assert (line["level"], line["reason"]) == ("WARN", "asked for fp16; the layers compute in fp16 3, fp32 1")


@pytest.mark.covers("TT-01")
def test_a_parser_failure_names_the_node_and_the_operator(bench: Bench, tmp_path: Path) -> None:
    helper = onnx.helper
    floats = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [1, 3, 3]), ("y", [1]))]
    nodes = [helper.make_node("Relu", ["x"], ["r"], "fine"), helper.make_node("Det", ["r"], ["y"], "the_culprit")]
    graph = helper.make_graph(nodes, "g", floats[:1], floats[1:])
    path = tmp_path / "det.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    told = refused(bench, path, asked("fp32"))
    assert "det.onnx is refused by the parser of TensorRT 10.3.0: node 'the_culprit' (Det): " in told


@pytest.mark.covers("TT-01")
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("tensorrt.Builder.build_serialized_network", "INTERNAL_ERROR"), "TensorRT says"),
        (Fault("tensorrt.Builder.build_serialized_network", "CUDA_ERROR_OUT_OF_MEMORY"), "no memory was left"),
        (
            Fault("tensorrt.Runtime.deserialize_cuda_engine", "INTERNAL_ERROR"),
            "loading the new engine of tiny.onnx again",
        ),
    ],
)
def test_a_builder_that_answers_none_is_told_in_tensorrts_words_and_the_next_build_works(
    bench: Bench, model: Path, fault: Fault, says: str
) -> None:
    bench.device.faults.add(fault)
    assert says in refused(bench, model, asked("fp16"))
    bench.build(model, asked("fp16"))


@pytest.mark.covers("TT-01")
@pytest.mark.parametrize("call", ["cuMemAlloc", "cuMemHostAlloc", "cuMemcpyHtoDAsync", "cuStreamCreate"])
def test_a_device_that_fails_under_the_calibrator_is_told_and_leaks_nothing(
    bench: Bench, model: Path, frames: Path, call: str
) -> None:
    bench.device.faults.add(Fault(call, "CUDA_ERROR_OUT_OF_MEMORY"))
    told = refused(bench, model, asked("int8", frames))
    assert call in told or "no memory was left" in told
    assert bench.device.leaks() == []


@pytest.mark.covers("TT-01")
def test_a_build_here_can_be_cancelled(bench: Bench, model: Path) -> None:
    seen: list[Progress] = []
    told = refused(bench, model, asked("fp16"), on_progress=seen.append, is_cancelled=lambda: len(seen) > 6)
    assert "was cancelled" in told


@pytest.mark.covers("TT-03")
def test_only_a_library_that_can_builds_for_another_gpu(bench: Bench, model: Path) -> None:
    told = refused(bench, model, asked("fp16"), sm="89")
    assert "TensorRT 10.3.0 builds for the GPU of this machine" in told
    assert "not for SM 89" in told


@pytest.mark.covers("TT-03")
def test_a_gpu_that_no_engine_can_be_built_for_is_told_with_those_that_can(tmp_path: Path, model: Path) -> None:
    with bench_of(tmp_path / "engines", "rtx1.7.1.116") as bench:
        assert "builds for no GPU of SM 87; expected one of 75, 80, 86, 89, 120, 121" in refused(
            bench, model, asked("fp16"), sm="87"
        )
        entry = bench.build(model, asked("fp16"), sm="120")
        assert entry.sm == "120"
        EngineGate(replace(bench.host, sm="120")).validate(entry)


@pytest.mark.covers("TT-03")
def test_without_a_gpu_one_has_to_be_named(bench: Bench, model: Path) -> None:
    bench.host = replace(ORIN, sm="none")
    assert "there is no GPU here, and none was named" in refused(bench, model, asked("fp16"))


@pytest.mark.covers("TR-03")
def test_a_library_that_is_not_the_hosts_builds_nothing_that_is_kept(bench: Bench, model: Path) -> None:
    bench.host = replace(ORIN, trt="10.16.2.10")
    assert "it was built by trt 10.3.0, and this host says that it has trt 10.16.2.10" in refused(
        bench, model, asked("fp16")
    )


@pytest.mark.covers("TT-01")
def test_a_model_that_changes_while_it_is_built_gives_no_engine(bench: Bench, model: Path) -> None:
    def meddle(job: BuildJob, **how: Any) -> BuildResult:
        result = in_process(job, **how)
        tiny.write_onnx(model, tiny.weights(seed=4))
        return result

    assert "changed while its engine was built" in refused(bench, model, asked("fp16"), launch=meddle)


@pytest.mark.covers("TR-06")
def test_what_is_no_model_is_refused_before_a_library_is_asked(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "Git LFS pointer" in refused(bench, path, asked("fp16"))
    assert "is not in" in refused(bench, tmp_path / "absent.onnx", asked("fp16"))


@pytest.mark.covers("RT-11")
def test_a_library_that_is_missing_is_named(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    config = RuntimeConfig(engine_cache_dir=tmp_path / "engines")
    with pytest.raises(RuntimeNotAvailableError, match="tensorrt or tensorrt_rtx"):
        build_engine(model, asked("fp16"), config=config, host=ORIN, launch=in_process)
    assert not (tmp_path / "engines").exists()


class FullDisk(FileSystem):
    def write(self, descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.covers("TR-02", "RT-09")
def test_a_full_disk_leaves_the_engine_that_was_there(bench: Bench, model: Path) -> None:
    bench.build(model, asked("fp16"))
    told = refused(bench, model, asked("fp16", workspace_mb=9), fs=FullDisk())
    assert "cannot be stored" in told
    assert "No space left" in told


@pytest.mark.covers("TR-01")
@pytest.mark.parametrize(
    ("stem", "name"),
    [("my model (2)", "my-model--2-"), ("_hidden", "hidden"), ("disk_v1.2", "disk_v1.2"), ("ÅÄ", "model")],
)
def test_a_model_of_any_name_gives_an_engine_of_a_valid_one(bench: Bench, tmp_path: Path, stem: str, name: str) -> None:
    entry = bench.build(tiny.write_onnx(tmp_path / f"{stem}.onnx"), asked("fp32"))
    assert entry.engine_path.name == f"{name}__sm87_jp6.2_trt10.3_fp32.engine"
    assert entry.extras["model_name"] == stem


# --- header -------------------------------------------------------------------------------------------------------


@pytest.mark.covers("TR-05")
@pytest.mark.parametrize(
    ("at", "data", "says"),
    [(24, bytes([9, 9, 9, 9]), "says trt 9.9.9.9, the library 10.3.0"), (4, b"\7", "serialization version 7")],
)
def test_where_header_and_library_disagree_the_header_is_not_used(
    bench: Bench, model: Path, at: int, data: bytes, says: str
) -> None:
    def other_layout(job: BuildJob, **how: Any) -> BuildResult:
        result = in_process(job, **how)
        plan = bytearray(result.plan.read_bytes())
        plan[at : at + len(data)] = data
        result.plan.write_bytes(plan)
        return result

    entry = bench.build(model, asked("fp16"), launch=other_layout)
    verified = EngineGate(ORIN).validate(entry)
    assert (verified.manifest.header, verified.header, verified.manifest.trt) == ("not used", None, "10.3.0")
    assert any(says in line["remark"] for line in bench.lines("c7.build_remark"))
    with pytest.raises(EngineSchemaMismatchError):
        EngineGate(HostTuple("87", "7.2", "10.16.2.10", "39.2.0", "p3767-0000")).validate(entry)


# --- provisioning -------------------------------------------------------------------------------------------------


@pytest.mark.covers("TT-10")
def test_what_passes_the_gate_is_not_built_again(bench: Bench, model: Path, frames: Path) -> None:
    for request in (asked("fp16"), asked("int8", frames)):
        entry, is_new = bench.provision(model, request)
        assert is_new
        before, calls = bench.files(), len(bench.device.calls)
        again, is_new = bench.provision(model, request)
        assert not is_new
        assert again == entry
        assert again.extras == entry.extras
        assert bench.files() == before
        assert len(bench.device.calls) == calls


def other_model(bench: Bench, model: Path, frames: Path) -> BuildConfig:
    tiny.write_onnx(model, tiny.weights(seed=9))
    return asked("int8", frames)


def other_inputs(bench: Bench, model: Path, frames: Path) -> BuildConfig:
    np.savez(frames / "9.npz", x=np.ones((2, tiny.WIDTH), np.float32))
    return asked("int8", frames)


def other_workspace(bench: Bench, model: Path, frames: Path) -> BuildConfig:
    return asked("int8", frames, workspace_mb=99)


def other_host(bench: Bench, model: Path, frames: Path) -> BuildConfig:
    bench.host = replace(ORIN, module="p3701-0005")
    return asked("int8", frames)


def spoiled_engine(bench: Bench, model: Path, frames: Path) -> BuildConfig:
    (path,) = bench.folder.glob("*.engine")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return asked("int8", frames)


def lost_sidecar(bench: Bench, model: Path, frames: Path) -> BuildConfig:
    (path,) = bench.folder.glob("*.engine.sha256")
    path.unlink()
    return asked("int8", frames)


def older_recipe(bench: Bench, model: Path, frames: Path) -> BuildConfig:
    (path,) = bench.folder.glob("*.engine.json")
    manifest = Manifest.from_json(path.read_text())
    path.write_text(replace(manifest, builder_options={**manifest.builder_options, "recipe": "0"}).to_json())
    return asked("int8", frames)


@pytest.mark.covers("TT-10")
@pytest.mark.parametrize(
    "change",
    [other_model, other_inputs, other_workspace, other_host, spoiled_engine, lost_sidecar, older_recipe],
    ids=lambda change: change.__name__,
)
def test_what_would_be_another_engine_or_does_not_pass_is_built(
    bench: Bench, model: Path, frames: Path, change: Callable[[Bench, Path, Path], BuildConfig]
) -> None:
    bench.provision(model, asked("int8", frames))
    request = change(bench, model, frames)
    entry, is_new = bench.provision(model, request)
    assert is_new
    EngineGate(bench.host).validate(entry)
    assert not bench.provision(model, request)[1]


@pytest.mark.covers("TT-10")
def test_another_profile_is_another_engine(bench: Bench, tmp_path: Path) -> None:
    path = dynamic(tmp_path)
    assert bench.provision(path, asked("fp16", optimization_profiles=(wide(1, 2, 8),)))[1]
    assert not bench.provision(path, asked("fp16", optimization_profiles=(wide(1, 2, 8),)))[1]
    assert bench.provision(path, asked("fp16", optimization_profiles=(wide(1, 4, 8),)))[1]


# --- caches -------------------------------------------------------------------------------------------------------


def the(bench: Bench, pattern: str) -> Path:
    (path,) = bench.folder.glob(pattern)
    return path


@pytest.mark.covers("TT-01")
def test_the_timing_cache_is_kept_reused_and_not_used_once_it_was_changed(bench: Bench, model: Path) -> None:
    bench.build(model, asked("fp32"))
    cache = the(bench, "timing__*.cache")
    assert cache.name == "timing__sm87_p3767-0000_trt10.3.0_cuda12.6.cache"
    entry = bench.build(model, asked("fp32"))
    assert read_manifest(entry.engine_path).builder_options["timing_cache"] == "reused"
    cache.write_bytes(cache.read_bytes() + b" ")
    entry = bench.build(model, asked("fp32"))
    assert read_manifest(entry.engine_path).builder_options["timing_cache"] == "new"
    (line,) = bench.lines("c7.build_remark")
    assert (line["level"], "the timing cache is not used" in line["remark"]) == ("WARN", True)
    entry = bench.build(model, asked("fp32"))
    assert read_manifest(entry.engine_path).builder_options["timing_cache"] == "reused"


@pytest.mark.covers("TT-01", "TT-03")
def test_tensorrt_rtx_has_no_timing_cache_to_keep(tmp_path: Path, model: Path) -> None:
    with bench_of(tmp_path / "engines", "rtx1.7.1.116") as bench:
        entry = bench.build(model, asked("fp32"))
        assert not list(bench.folder.glob("timing__*"))
        assert "timing_cache" not in read_manifest(entry.engine_path).builder_options


def calibrations(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each sample that a build reads."""
    from runtime.calibration import CalibrationDataset

    seen: list[Any] = []
    real = CalibrationDataset.samples

    def watched(dataset: CalibrationDataset) -> Iterator[Any]:
        for sample in real(dataset):
            seen.append(sample)
            yield sample

    monkeypatch.setattr(CalibrationDataset, "samples", watched)
    return seen


@pytest.mark.covers("TR-08")
@pytest.mark.parametrize("flavour", ["10.3.0", "11.4.0.106"])
def test_ranges_are_made_once_for_one_dataset_and_again_for_another(
    tmp_path: Path, model: Path, frames: Path, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench_of(tmp_path / "engines", flavour) as bench:
        seen = calibrations(bench, monkeypatch)
        first = bench.build(model, asked("int8", frames))
        assert len(seen) == 4
        second = bench.build(model, asked("int8", frames, workspace_mb=9))
        assert len(seen) == 4
        assert second.extras["precision_got"] == first.extras["precision_got"]
        key = "calibration_cache_sha256"
        options = [read_manifest(entry.engine_path).builder_options for entry in (first, second)]
        assert options[0][key] == options[1][key] == sha256_hex(the(bench, "*_int8.cache").read_bytes())
        assert bench.lines("c7.calibration_rebuilt") == []
        np.savez(frames / "9.npz", x=np.ones((2, tiny.WIDTH), np.float32))
        bench.build(model, asked("int8", frames))
        assert len(seen) == 9
        (line,) = bench.lines("c7.calibration_rebuilt")
        assert line["level"] == "INFO"


@pytest.mark.covers("TR-08")
@pytest.mark.parametrize("spoiled", ["*_int8.cache", "*_int8.cache.sha256", "*_int8.cache.dataset_sha256"])
def test_a_spoiled_calibration_cache_stops_the_build_and_stays_as_it_is(
    bench: Bench, model: Path, frames: Path, spoiled: str
) -> None:
    bench.build(model, asked("int8", frames))
    path = the(bench, spoiled)
    path.write_bytes(b"not " + path.read_bytes())
    told = refused(bench, model, asked("int8", frames), kind=CalibrationCacheError)
    assert "int8.cache" in told
    bench.build(model, asked("fp16"))


@pytest.mark.covers("TR-08")
def test_inputs_that_change_between_check_and_build_are_refused(bench: Bench, model: Path, frames: Path) -> None:
    def meddle(job: BuildJob, **how: Any) -> BuildResult:
        np.savez(frames / "0.npz", x=np.zeros((2, tiny.WIDTH), np.float32))
        return in_process(job, **how)

    told = refused(bench, model, asked("int8", frames), kind=CalibrationCacheError, launch=meddle)
    assert "changed since they were checked" in told


@pytest.mark.covers("TR-08")
@pytest.mark.parametrize("flavour", ["10.3.0", "11.4.0.106"])
@pytest.mark.parametrize("spoil", ["changed", "gone"])
def test_inputs_that_change_while_they_are_used_give_no_engine_and_no_cache(
    tmp_path: Path, model: Path, frames: Path, flavour: str, spoil: str
) -> None:
    def meddle(told: Progress) -> None:
        if (told.phase, told.step) == ("calibrating", 2) and (frames / "3.npz").exists():
            (frames / "3.npz").unlink()
            if spoil == "changed":
                np.savez(frames / "3.npz", x=np.zeros((2, tiny.WIDTH), np.float32))

    with bench_of(tmp_path / "engines", flavour) as bench:
        told = refused(bench, model, asked("int8", frames), kind=CalibrationCacheError, on_progress=meddle)
    assert "changed while they were used" in told or "3.npz in" in told


@pytest.mark.covers("TR-08", "RT-03")
def test_an_empty_calibration_folder_is_refused_before_a_library_is_asked(
    bench: Bench, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    calls = len(bench.device.calls)
    told = refused(bench, model, asked("int8", tmp_path / "empty"), kind=CalibrationCacheError)
    assert "holds no calibration inputs" in told
    assert len(bench.device.calls) == calls


@pytest.mark.covers("TT-02", "TT-10")
def test_where_a_release_has_both_routes_each_builds_an_engine_of_its_own(
    tmp_path: Path, model: Path, frames: Path
) -> None:
    with bench_of(tmp_path / "engines", "10.16.1.11") as bench:
        by_flags = asked("int8", frames, typing="flags")
        assert bench.provision(model, by_flags)[0].extras["route"] == "flags+calibrator"
        entry, is_new = bench.provision(model, asked("int8", frames))  # the same name: it takes the other's place
        assert (is_new, entry.extras["route"]) == (True, "strongly-typed+qdq")
        assert bench.provision(model, by_flags)[1]
        assert not bench.provision(model, by_flags)[1]
    with bench_of(tmp_path / "newer", "11.4.0.106") as bench:
        assert "does not build by the route 'flags'" in refused(bench, model, by_flags)
