"""OnnxTrtEpRuntime on the real onnxruntime of a host without a GPU, and on one whose active provider is scripted."""

from __future__ import annotations

import ast
import gc
import io
import json
import struct
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import runtime
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineCacheEntry, EngineHandle, EngineLayer, Profile, TensorSpec, ThermalState
from runtime.errors import (
    DeviceLostError,
    EngineBuildError,
    EngineDeserializeError,
    EngineHashMismatchError,
    EngineSchemaMismatchError,
    EngineSidecarMissingError,
    InferenceError,
    OutOfMemoryError,
    RuntimeNotAvailableError,
)
from runtime.files import sha256_hex
from runtime.logs import EventLog, Record
from runtime.platform import HostTuple
from runtime.protocol import Describes, InferenceRuntime
from runtime.sidecar import Manifest, publish_engine
from runtime.strategies.ort import OnnxTrtEpRuntime
from runtime.strategies.ort_chain import CHAIN, CPU, CUDA, TENSORRT, ProviderChain, Source
from runtime.strategies.ort_profile import Placement, read_placement

onnx = pytest.importorskip("onnx", reason="onnx: not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402  # after the check that it is there

HOST = HostTuple("87", "6.2", "10.3.0.30", "36.4.3", "p3767-0000")
FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
X = np.arange(8, dtype="float32").reshape(1, 8) - 3

value = helper.make_tensor_value_info
node = helper.make_node


def model(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    *,
    initializers: tuple[Any, ...] = (),
    opset: int = 18,
    ir: int = 10,
    domains: tuple[str, ...] = (),
) -> Any:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def relu() -> Any:
    return model([node("Relu", ["x"], ["y"], name="act")], [value("x", FLOAT, [1, 8])], [value("y", FLOAT, [1, 8])])


def convolution(kind: int = FLOAT, dtype: str = "float32", batch: int | str = "n") -> Any:
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(dtype)
    nodes = [node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4), node("Relu", ["c"], ["y"], name="act")]
    inputs, outputs = [value("x", kind, [batch, 3, 8, 8])], [value("y", kind, [batch, 8, 8, 8])]
    return model(nodes, inputs, outputs, initializers=(numpy_helper.from_array(weights, "w"),))


_GIVEN = ("is_fallback", "environ", "clock", "thermal_publisher")
Served = tuple[OnnxTrtEpRuntime, EngineHandle]


@dataclass
class Bench:
    """A runtime with everything around it in memory or under one folder."""

    folder: Path
    stream: io.StringIO = field(default_factory=io.StringIO)
    alerts: list[Record] = field(default_factory=list)

    def runtime(
        self, *, load: Callable[[], ModuleType] | None = None, host: HostTuple = HOST, **options: Any
    ) -> OnnxTrtEpRuntime:
        config: dict[str, Any] = {
            "runtime": "onnx_trt_ep",
            "engine_cache_dir": self.folder / "engines",
            "intra_op_threads": 1,
        }
        given: dict[str, Any] = {name: options.pop(name) for name in _GIVEN if name in options}
        log = EventLog(stream=self.stream, on_alert=self.alerts.append)
        if load is not None:
            given["load"] = load
        return OnnxTrtEpRuntime(RuntimeConfig(**{**config, **options}), log=log, host=host, **given)

    def save(self, proto: Any, name: str = "m.onnx") -> Path:
        path = self.folder / name
        onnx.save(proto, path)
        return path

    def entry(self, built: OnnxTrtEpRuntime, proto: Any = None, **config: Any) -> EngineCacheEntry:
        return built.compile_engine(self.save(proto or relu()), BuildConfig(**{"precision": "fp32", **config}))

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if not kind or line["kind"] == kind]

    def files(self) -> set[Path]:
        return set(self.folder.rglob("*"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@dataclass
class Script:
    """The real library, whose sessions compute on the CPU and claim the providers that they were asked for.

    ``on_open`` gets the head of each attempt, ``on_run`` the number of the run; what they raise, the library raises.
    """

    on_open: Callable[[str], None] = lambda head: None
    on_run: Callable[[int], None] = lambda number: None
    available: tuple[str, ...] = CHAIN
    opened: list[tuple[Any, Any, list[tuple[str, dict[str, str]]]]] = field(default_factory=list)
    sessions: list[weakref.ref[Any]] = field(default_factory=list)
    runs: int = 0

    def load(self) -> ModuleType:
        script = self

        class Session(ort.InferenceSession):  # type: ignore[misc, name-defined]  # the library is not typed
            def __init__(self, source: Any, options: Any, *, providers: Any, enable_fallback: int) -> None:
                assert enable_fallback == 0
                self.claimed = [entry if isinstance(entry, str) else entry[0] for entry in providers]
                if not isinstance(providers[0], str):  # not the validation of compile_engine
                    script.opened.append((source, options, providers))
                    script.on_open(self.claimed[0])
                    script.sessions.append(weakref.ref(self))
                source = source if isinstance(source, str) else relu().SerializeToString()
                plain = ort.SessionOptions()
                plain.enable_profiling = options.enable_profiling
                plain.profile_file_prefix = options.profile_file_prefix
                super().__init__(source, plain, providers=[CPU], enable_fallback=0)

            def get_providers(self) -> list[str]:
                return self.claimed

            def run(self, names: Any, feed: Any, run_options: Any = None) -> Any:
                script.runs += 1
                script.on_run(script.runs)
                return super().run(names, feed, run_options)

        library = ModuleType("onnxruntime")
        vars(library).update(vars(ort))
        vars(library).update(InferenceSession=Session, get_available_providers=lambda: list(script.available))
        return library

    @property
    def heads(self) -> list[str]:
        return [providers[0][0] for _, _, providers in self.opened]


def raising(error: Exception, *at: object) -> Callable[[object], None]:
    def step(now: object) -> None:
        if not at or now in at:
            raise error

    return step


def refusing(*heads: str) -> Callable[[str], None]:
    """Each time a new exception, since one that is kept keeps the frames alive through which it went."""

    def step(head: str) -> None:
        if head in heads:
            raise RuntimeError("no such thing")

    return step


NO_GPU = refusing(TENSORRT, CUDA)


def chain(**config: Any) -> ProviderChain:
    return ProviderChain(ort, RuntimeConfig(**{"runtime": "onnx_trt_ep", "intra_op_threads": 1, **config}))


def source(folder: Path) -> Source:
    path = folder / "m.onnx"
    onnx.save(relu(), path)
    spec = (TensorSpec("x", (1, 8), "float32"),)
    return Source(str(path), "fp32", spec, (replace(spec[0], name="y"),), (), 1, "0" * 64, folder / "cache")


# The ways in which the library falls back by itself. Each test shows first that it does, and then that ours does not.


@pytest.mark.covers("OR-02", "OR-04")
@pytest.mark.parametrize("asked", [[TENSORRT, CUDA, CPU], [(TENSORRT, {}), (CUDA, {}), CPU]])
def test_silent_fallback_1_from_tensorrt_through_cuda_to_the_cpu_is_closed(
    asked: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = ort.InferenceSession(relu().SerializeToString(), providers=asked)
    assert raw.get_providers() == [CPU]
    assert "Falling back" in capfd.readouterr().out
    with pytest.raises(EngineDeserializeError, match="refused it: Please install TensorRT libraries"):
        chain().attempt(TENSORRT, source(tmp_path))
    assert capfd.readouterr().out == ""


@pytest.mark.covers("OR-02", "OR-04")
@pytest.mark.parametrize("asked", [[TENSORRT], [TENSORRT, CPU]])
def test_silent_fallback_2_from_tensorrt_alone_to_the_cpu_is_closed(
    asked: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = ort.InferenceSession(relu().SerializeToString(), providers=asked)
    assert raw.get_providers() == [CPU]
    assert "Falling back" in capfd.readouterr().out
    with pytest.raises(EngineDeserializeError, match="refused it"):
        chain(ort_disallow_cpu_fallback=True).attempt(TENSORRT, source(tmp_path))
    assert capfd.readouterr().out == ""


@pytest.mark.covers("OR-02", "OR-04")
@pytest.mark.parametrize("options", [{}, {"enable_fallback": 0}])
def test_silent_fallback_3_from_cuda_which_no_option_of_the_library_turns_off_is_closed(
    options: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = ort.InferenceSession(relu().SerializeToString(), providers=[CUDA, CPU], **options)
    assert raw.get_providers() == [CPU]
    assert "Falling back" not in capfd.readouterr().out
    asked = "gave way to CPUExecutionProvider, where CUDAExecutionProvider, CPUExecutionProvider was asked for"
    with pytest.raises(EngineDeserializeError, match=asked):
        chain().attempt(CUDA, source(tmp_path))


@pytest.mark.covers("OR-02", "OR-04")
def test_silent_fallback_3_from_cuda_is_closed_with_the_cpu_left_off_too(tmp_path: Path) -> None:
    raw = ort.InferenceSession(relu().SerializeToString(), providers=[CUDA], enable_fallback=0)
    assert raw.get_providers() == [CPU]
    with pytest.raises(EngineDeserializeError, match="fallback to CPU EP has been explicitly disabled"):
        chain(ort_disallow_cpu_fallback=True).attempt(CUDA, source(tmp_path))


@pytest.mark.covers("OR-02", "OR-04")
def test_silent_fallback_4_from_a_provider_that_the_build_does_not_have_is_closed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(UserWarning, match="not in available provider names"):
        raw = ort.InferenceSession(relu().SerializeToString(), providers=["AnotherExecutionProvider"])
    assert raw.get_providers() == [CPU]
    capfd.readouterr()
    script = Script(available=(CPU,))
    plain = ProviderChain(script.load(), RuntimeConfig(runtime="onnx_trt_ep"))
    for head in (TENSORRT, CUDA):
        with pytest.raises(EngineDeserializeError, match="is not in this build, which has CPUExecutionProvider"):
            plain.attempt(head, source(tmp_path))
    assert script.opened == []
    assert capfd.readouterr().out == ""


@pytest.mark.covers("OR-02", "OR-04", "RT-07")
def test_silent_fallback_5_inside_a_run_is_closed(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """The library's own session object is made to report what a failing provider reports."""
    failure = ort.capi.onnxruntime_pybind11_state.EPFail("the engine failed")

    class FailsOnce:
        def __init__(self, real: Any) -> None:
            self.real, self.failures = real, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def run(self, *arguments: Any) -> None:
            self.failures += 1
            raise failure

    raw = ort.InferenceSession(relu().SerializeToString(), providers=[CPU])
    raw._sess = FailsOnce(raw._sess)
    np.testing.assert_array_equal(raw.run(None, {"x": X})[0], np.maximum(X, 0))
    assert "Falling back" in capfd.readouterr().out

    ours = bench.runtime()
    handle = ours.deserialize_engine(bench.entry(ours))
    session = handle.resources.session
    session._sess = broken = FailsOnce(session._sess)
    with pytest.raises(InferenceError, match="the engine failed") as refused:
        ours.infer(handle, {"x": X})
    assert refused.value.__cause__ is failure
    assert (session._sess, broken.failures) == (broken, 1)
    assert capfd.readouterr().out == ""


# The chain.


@pytest.mark.covers("OR-02", "OR-09")
def test_the_chain_is_walked_from_tensorrt_to_the_cpu_with_one_attempt_per_head(bench: Bench) -> None:
    script = Script(on_open=NO_GPU)
    ours = bench.runtime(load=script.load)
    ours.deserialize_engine(bench.entry(ours))
    asked = [[name for name, _ in providers] for _, _, providers in script.opened]
    assert asked == [[TENSORRT, CUDA, CPU], [CUDA, CPU], [CPU]]


@pytest.mark.covers("OR-02")
@pytest.mark.parametrize(("heads", "provider"), [((), "tensorrt"), ((TENSORRT,), "cuda"), ((TENSORRT, CUDA), "cpu")])
def test_the_first_head_that_takes_the_model_is_logged_with_why_the_others_did_not(
    bench: Bench, heads: Any, provider: Any
) -> None:
    script = Script(on_open=refusing(*heads))
    ours = bench.runtime(load=script.load)
    ours.deserialize_engine(bench.entry(ours))
    (event,) = bench.events("c7.provider_active")
    assert (event["level"], event["provider"], len(event["refused"])) == ("INFO", provider, len(heads))
    assert all("no such thing" in reason for reason in event["refused"].values())
    assert ours.current_runtime_label() == "onnx_trt_ep"
    assert bool(bench.alerts) == (provider == "cpu")


@pytest.mark.covers("OR-02")
def test_with_the_cpu_disallowed_it_is_listed_nowhere(bench: Bench) -> None:
    script = Script(on_open=NO_GPU)
    ours = bench.runtime(load=script.load, ort_disallow_cpu_fallback=True)
    with pytest.raises(EngineDeserializeError, match="left off: ort_disallow_cpu_fallback"):
        ours.deserialize_engine(bench.entry(ours))
    assert [[name for name, _ in providers] for _, _, providers in script.opened] == [[TENSORRT, CUDA], [CUDA]]
    for _, options, _ in script.opened:
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"


@pytest.mark.covers("OR-03")
def test_every_head_gets_its_options_and_the_model_full_optimisation(bench: Bench) -> None:
    script = Script()
    ours = bench.runtime(load=script.load, gpu_memory_budget_bytes=4096, device="cuda:1")
    entry = bench.entry(ours, precision="fp16")
    ours.deserialize_engine(entry)
    ((model_path, options, providers),) = script.opened
    given = dict(providers)
    assert given[TENSORRT]["trt_fp16_enable"] == "True"
    assert given[TENSORRT]["trt_max_workspace_size"] == "1024"
    assert given[TENSORRT]["trt_engine_cache_prefix"] == entry.sha256[:16]
    assert given[TENSORRT]["device_id"] == given[CUDA]["device_id"] == "1"
    assert (given[CUDA]["gpu_mem_limit"], given[CPU]) == ("4096", {})
    assert model_path == str(entry.engine_path)
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL


@pytest.mark.covers("OR-08")
def test_the_cache_lies_in_the_flights_folder_under_the_key(bench: Bench) -> None:
    script = Script()
    ours = bench.runtime(load=script.load, flight_id="f-117")
    entry = bench.entry(ours)
    ours.deserialize_engine(entry)
    cache = Path(dict(script.opened[0][2])[TENSORRT]["trt_engine_cache_path"])
    assert cache.parent == bench.folder / "engines/ort/f-117"
    assert cache.is_dir()
    for part in (entry.sha256[:32], f"ort{ort.__version__}", "trt10.3.0.30", "sm87", "fp32"):
        assert part in cache.name


@pytest.mark.covers("OR-04", "LO-01")
def test_on_this_host_the_cpu_is_one_warning_one_alert_and_nothing_on_standard_output(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    ours = bench.runtime()
    entry = bench.entry(ours)
    ours.deserialize_engine(entry)
    ours.infer(ours.deserialize_engine(entry), {"x": X})
    warned = bench.events("c7.cpu_fallback")
    assert [event["level"] for event in warned] == ["WARN", "WARN"]  # one per engine, none per call
    assert [alert.kind.value for alert in bench.alerts] == ["c7.cpu_fallback"] * 2
    reasons = warned[0]["refused"]
    assert "TensorRT" in reasons["tensorrt"]
    assert "CPUExecutionProvider" in reasons["cuda"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.covers("OR-04")
def test_with_the_cpu_disallowed_this_host_refuses_with_every_reason(bench: Bench) -> None:
    ours = bench.runtime(ort_disallow_cpu_fallback=True)
    entry = bench.entry(ours)
    before = bench.files()
    with pytest.raises(EngineDeserializeError) as refusal:
        ours.deserialize_engine(entry)
    for words in ("Please install TensorRT", "CUDAExecutionProvider refused it", "left off: ort_disallow_cpu_fallback"):
        assert words in str(refusal.value)
    assert refusal.value.__cause__ is not None
    assert (ours.resident_bytes, bench.files(), bench.alerts) == (0, before, [])
    assert [event["level"] for event in bench.events("c7.deserialize_failed")] == ["ERROR"]


@pytest.mark.covers("OR-09", "OR-04")
def test_a_cpu_only_mode_is_refused_it_is_a_fallback_that_warns_or_an_error(bench: Bench) -> None:
    script = Script()
    ours = bench.runtime(load=script.load, device="cpu")
    entry = bench.entry(ours)
    ours.deserialize_engine(entry)
    assert script.heads == [CPU]
    (event,) = bench.events("c7.cpu_fallback")
    assert list(event["refused"]) == ["tensorrt", "cuda"]
    assert all("device is cpu by configuration" in reason for reason in event["refused"].values())
    assert len(bench.alerts) == 1
    with pytest.raises(EngineDeserializeError, match="device is cpu by configuration"):
        bench.runtime(device="cpu", ort_disallow_cpu_fallback=True).deserialize_engine(entry)


@pytest.mark.covers("OR-09", "FA-05")
def test_it_is_headed_by_tensorrt_and_does_not_delegate_to_the_tensorrt_runtime() -> None:
    assert CHAIN == ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    assert OnnxTrtEpRuntime.__mro__[1:] == (object,)
    folder = Path(str(runtime.__file__)).parent / "strategies"
    for module in ("ort", "ort_chain", "ort_options", "ort_profile", "ep_context", "common"):
        tree = ast.parse((folder / f"{module}.py").read_text())
        names = [
            name
            for found in ast.walk(tree)
            if isinstance(found, (ast.Import, ast.ImportFrom))
            for name in [getattr(found, "module", "") or "", *(alias.name for alias in found.names)]
        ]
        assert not [name for name in names if name.endswith(("strategies.trt", "TensorrtRuntime", "tensorrt"))]
        imports_library = "onnxruntime" in names
        assert imports_library == (module == "ort")  # the one door


@pytest.mark.covers("RT-11")
def test_importing_the_strategy_loads_no_heavy_library() -> None:
    code = (
        "import sys, runtime.strategies.ort; heavy = {'onnxruntime', 'onnx', 'torch', 'tensorrt'} & set(sys.modules); "
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.covers("RT-07", "FA-02")
def test_a_library_that_is_not_there_is_said_with_how_to_install_it(bench: Bench) -> None:
    from runtime.libraries import unavailable

    def load() -> ModuleType:
        raise unavailable("onnx_trt_ep", ImportError("libcudart.so.13: cannot open"), machine="x86_64")

    with pytest.raises(RuntimeNotAvailableError, match=r"libcudart.so.13.*trigate\[ort\]"):
        bench.runtime(load=load)


@pytest.mark.covers("OR-03")
def test_environment_variables_of_the_library_are_said_to_be_ignored(bench: Bench) -> None:
    bench.runtime(environ={"ORT_TENSORRT_FP16_ENABLE": "1", "PATH": "/bin"})
    (event,) = bench.events()
    assert (event["level"], event["ignored"]) == ("WARN", ["ORT_TENSORRT_FP16_ENABLE"])
    bench.runtime(environ={"PATH": "/bin"})
    assert len(bench.events()) == 1


# compile_engine


@pytest.mark.covers("OR-01")
def test_compile_points_at_the_model_and_makes_nothing(bench: Bench) -> None:
    ours = bench.runtime()
    path = bench.save(convolution())
    before = bench.files()
    profile = Profile("x", (1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    entry = ours.compile_engine(path, BuildConfig(precision="fp16", optimization_profiles=(profile,)))
    assert bench.files() == before
    assert entry.engine_path == path
    assert entry.sha256 == sha256_hex(path.read_bytes())
    assert (entry.sm, entry.jetpack, entry.trt, entry.precision) == ("87", "6.2", "10.3", "fp16")
    assert entry.extras["model_name"] == "m"
    assert json.loads(entry.extras["inputs"]) == [{"name": "x", "shape": ["n", 3, 8, 8], "dtype": "float32"}]
    assert json.loads(entry.extras["outputs"])[0]["name"] == "y"
    assert json.loads(entry.extras["profiles"])[0]["opt"] == [2, 3, 8, 8]
    assert EngineCacheEntry.from_json(entry.to_json()) == entry


def bad_models() -> dict[str, tuple[Any, list[str]]]:
    x, y = [value("x", FLOAT, [1, 8])], [value("y", FLOAT, [1, 8])]
    good = convolution().SerializeToString()
    text = [value("x", TensorProto.STRING, [1])], [value("y", TensorProto.STRING, [1])]
    return {
        "unknown operator": (model([node("Foo", ["x"], ["y"], name="n7")], x, y), ["n7", "Foo", "opset 18"]),
        "custom operator": (
            model([node("Foo", ["x"], ["y"], domain="my.ops")], x, y, domains=("my.ops",)),
            ["my.ops:Foo", "opset 1 of my.ops"],
        ),
        "opset from the future": (model([node("Relu", ["x"], ["y"])], x, y, opset=99), ["opset 99"]),
        "IR from the future": (model([node("Relu", ["x"], ["y"])], x, y, ir=99), ["IR 99"]),
        "dangling input": (model([node("Relu", ["q"], ["y"], name="n7")], x, y), ["'q'"]),
        "wrong type": (model([node("And", ["x", "x"], ["y"], name="n7")], x, y), ["n7", "And"]),
        "text tensors": (model([node("Identity", ["x"], ["y"])], *text), ["'x' is ", "expected one of float16"]),
        "empty": (b"", ["empty"]),
        "no model": (b"hello, this is not a model", ["not an ONNX file"]),
        "truncated": (good[:-30], ["m.onnx"]),
        "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", ["Git LFS"]),
    }


@pytest.mark.covers("OR-01")
def test_a_model_that_the_library_takes_optimised_alone_is_no_refusal(bench: Bench) -> None:
    """ONNX Runtime 1.23 with some half-precision models: a type error in a cast that it inserted itself."""
    levels: list[Any] = []

    def load(refused: tuple[Any, ...] = (ort.GraphOptimizationLevel.ORT_DISABLE_ALL,)) -> ModuleType:
        class Session(ort.InferenceSession):  # type: ignore[misc, name-defined]
            def __init__(self, source: Any, options: Any, **given: Any) -> None:
                levels.append(options.graph_optimization_level)
                if levels[-1] in refused:
                    raise RuntimeError("Type Error: Type (tensor(float)) of output arg (InsertedPrecisionFreeCast_x)")
                super().__init__(source, options, **given)

        library = ModuleType("onnxruntime")
        vars(library).update(vars(ort), InferenceSession=Session)
        return library

    ours = bench.runtime(load=load, device="cpu")
    handle = ours.deserialize_engine(bench.entry(ours))
    np.testing.assert_array_equal(ours.infer(handle, {"x": X})["y"], np.maximum(X, 0))
    known = ort.GraphOptimizationLevel
    assert levels == [known.ORT_DISABLE_ALL, known.ORT_ENABLE_ALL, known.ORT_ENABLE_ALL]
    everything = (known.ORT_DISABLE_ALL, known.ORT_ENABLE_ALL)
    with pytest.raises(EngineBuildError, match=r"is refused by ONNX Runtime .*InsertedPrecisionFreeCast_x"):
        bench.entry(bench.runtime(load=lambda: load(everything)))


@pytest.mark.covers("OR-01", "RT-07", "LO-01")
@pytest.mark.parametrize("name", bad_models())
def test_a_bad_model_is_refused_with_what_is_wrong_in_it(bench: Bench, name: Any) -> None:
    content, words = bad_models()[name]
    path = bench.folder / "m.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    before = bench.files()
    with pytest.raises(EngineBuildError) as refusal:
        bench.runtime().compile_engine(path, BuildConfig(precision="fp32"))
    for word in (*words, "m.onnx"):
        assert word in str(refusal.value)
    assert "/onnxruntime_src" not in str(refusal.value)
    assert bench.files() == before
    assert [event["level"] for event in bench.events("c7.build_failed")] == ["ERROR"]


@pytest.mark.covers("OR-01", "TR-06")
def test_a_missing_model_and_missing_external_data_are_refused(bench: Bench) -> None:
    ours = bench.runtime()
    with pytest.raises(EngineBuildError, match=r"nowhere.onnx"):
        ours.compile_engine(bench.folder / "nowhere.onnx", BuildConfig(precision="fp32"))
    path = bench.folder / "e.onnx"
    onnx.save(convolution(), path, save_as_external_data=True, location="e.data", size_threshold=0)
    whole = ours.compile_engine(path, BuildConfig(precision="fp32"))
    (bench.folder / "e.data").unlink()
    with pytest.raises(EngineBuildError, match=r"e.data"):
        ours.compile_engine(path, BuildConfig(precision="fp32"))
    with pytest.raises(EngineDeserializeError, match=r"e.data"):
        ours.deserialize_engine(whole)


@pytest.mark.covers("RT-03")
def test_a_calibration_dataset_that_does_not_exist_is_refused(bench: Bench) -> None:
    asked = BuildConfig(precision="int8", calibration_dataset=bench.folder / "frames")
    with pytest.raises(EngineBuildError, match=r"frames does not exist"):
        bench.runtime().compile_engine(bench.save(convolution()), asked)


@pytest.mark.covers("OR-01")
def test_a_profile_that_fits_no_input_is_refused(bench: Bench) -> None:
    for profile in (Profile("q", (1,), (1,), (1,)), Profile("x", (1,), (1,), (1,))):
        with pytest.raises(EngineBuildError, match="profile"):
            bench.entry(bench.runtime(), convolution(), optimization_profiles=(profile,))


# deserialize_engine


@pytest.mark.covers("TR-06", "RT-07")
def test_a_model_that_changed_after_its_entry_was_made_is_refused(bench: Bench) -> None:
    ours = bench.runtime()
    entry = bench.entry(ours)
    bench.save(convolution(batch=1))
    with pytest.raises(EngineHashMismatchError, match=r"m.onnx hashes to"):
        ours.deserialize_engine(entry)


@pytest.mark.covers("OR-02")
def test_free_sizes_are_warmed_up_from_extras_or_from_the_profile_or_refused(bench: Bench) -> None:
    script = Script(on_open=NO_GPU)
    ours = bench.runtime(load=script.load)
    bare = bench.entry(ours, convolution())
    with pytest.raises(EngineDeserializeError, match="'x' has the shape nx3x8x8"):
        ours.deserialize_engine(bare)
    assert script.opened == []
    profile = Profile("x", (1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    handle = ours.deserialize_engine(bench.entry(ours, convolution(), optimization_profiles=(profile,)))
    for batch in (1, 4):
        assert ours.infer(handle, {"x": np.zeros((batch, 3, 8, 8), "float32")})["y"].shape == (batch, 8, 8, 8)
    with pytest.raises(InferenceError, match="its profile allows"):
        ours.infer(handle, {"x": np.zeros((5, 3, 8, 8), "float32")})
    inputs = json.dumps([{"name": "x", "shape": [2, 3, 8, 8], "dtype": "float32"}])
    handle = ours.deserialize_engine(replace(bare, extras={"inputs": inputs}))
    with pytest.raises(InferenceError, match="expected float32 2x3x8x8"):
        ours.infer(handle, {"x": np.zeros((1, 3, 8, 8), "float32")})


@pytest.mark.covers("RT-07")
@pytest.mark.parametrize(
    "declared",
    [("x", [1, 9], "float32"), ("x", [8], "float32"), ("x", [1, 8], "float64"), ("q", [1, 8], "float32")],
)
def test_extras_that_do_not_fit_the_model_are_refused(bench: Bench, declared: Any) -> None:
    ours = bench.runtime()
    inputs = json.dumps([dict(zip(("name", "shape", "dtype"), declared, strict=True))])
    with pytest.raises(EngineDeserializeError, match=r"extras\['inputs'\]"):
        ours.deserialize_engine(replace(bench.entry(ours), extras={"inputs": inputs}))


def test_a_model_that_leaves_ranks_open_is_served_once_the_entry_gives_them(bench: Bench) -> None:
    ours = bench.runtime()
    open_ranks = model([node("Relu", ["x"], ["y"])], [value("x", FLOAT, None)], [value("y", FLOAT, None)])
    entry = bench.entry(ours, open_ranks)
    with pytest.raises(EngineDeserializeError, match="nothing says which sizes"):
        ours.deserialize_engine(entry)
    inputs = json.dumps([{"name": "x", "shape": [1, 8], "dtype": "float32"}])
    handle = ours.deserialize_engine(replace(entry, extras={"inputs": inputs}))
    mine = np.empty_like(X)
    assert ours.infer(handle, {"x": X}, out={"y": mine})["y"] is mine
    np.testing.assert_array_equal(mine, np.maximum(X, 0))
    assert ours.describe(handle).outputs == (TensorSpec("y", ("y_0", "y_1"), "float32"),)


@pytest.mark.covers("OR-02", "RT-09")
def test_a_failed_warm_up_leaves_no_session_no_bytes_and_no_files(bench: Bench) -> None:
    script = Script(on_run=raising(RuntimeError("kernel exploded")), on_open=refusing(TENSORRT))
    ours = bench.runtime(load=script.load)
    entry = bench.entry(ours)
    before = bench.files()
    with pytest.raises(EngineDeserializeError, match=r"the warm-up run with zeros failed: kernel exploded") as kept:
        ours.deserialize_engine(entry)
    gc.collect()
    assert script.heads == [TENSORRT, CUDA]  # a warm-up that fails is not a reason to go on to the CPU
    assert [session() for session in script.sessions] == [None]
    assert (ours.resident_bytes, bench.files()) == (0, before)
    assert isinstance(kept.value.__cause__, RuntimeError)
    script.on_run = lambda number: None
    assert ours.infer(ours.deserialize_engine(entry), {"x": X})["y"].max() == X.max()


@pytest.mark.covers("RT-09")
def test_a_head_that_is_refused_takes_its_cache_folder_with_it_and_spares_what_was_there(bench: Bench) -> None:
    def half_built(head: str) -> None:
        if head == TENSORRT:
            cache = Path(dict(script.opened[-1][2])[TENSORRT]["trt_engine_cache_path"])
            (cache / "half.engine").write_bytes(b"half")
            raise RuntimeError("build failed")

    script = Script(on_open=half_built)
    ours = bench.runtime(load=script.load)
    entry = bench.entry(ours)
    other = bench.folder / "engines/ort/other-flight/kept.engine"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"kept")
    before = bench.files()
    ours.deserialize_engine(entry)
    assert bench.files() == before


@pytest.mark.covers("OR-03", "RT-07", "LO-01")
@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=orin"),
        RuntimeError("Available memory of 1024 is smaller than requested bytes of 4096"),
        RuntimeError("[TensorRT EP] Error Code 2: OutOfMemory (Requested size was 5 bytes.)"),
        MemoryError(),
    ],
)
def test_a_memory_refusal_is_out_of_memory_at_once_and_not_a_way_to_the_next_head(bench: Bench, failure: Any) -> None:
    script = Script(on_open=raising(failure))
    ours = bench.runtime(load=script.load)
    entry = bench.entry(ours)
    before = bench.files()
    with pytest.raises(OutOfMemoryError) as refusal:
        ours.deserialize_engine(entry)
    assert refusal.value.__cause__ is failure
    assert script.heads == [TENSORRT]
    assert (ours.resident_bytes, bench.files()) == (0, before)
    assert len(bench.events("c7.out_of_memory")) == 1


# .engine entries


def plan(tag: bytes = b"ftrt", version: tuple[int, ...] = (10, 3, 0, 30), body: bytes = b"verified body") -> bytes:
    return struct.pack("<4sI8xQ4B", tag, 0, 28 + len(body), *version) + body


def engine(
    folder: Path,
    name: str = "relu__sm87_jp6.2_trt10.3_fp16.engine",
    data: bytes = b"",
    host: HostTuple = HOST,
    **changes: Any,
) -> EngineCacheEntry:
    data = data or plan()
    said: dict[str, Any] = {
        "sha256": sha256_hex(data),
        "model_sha256": "0" * 64,
        "sm": host.sm,
        "jetpack": host.jetpack,
        "trt": host.trt,
        "precision": "fp16",
        "route": "polygraphy",
        "builder": "x",
        "module": host.module,
        "l4t": host.l4t,
        "inputs": (TensorSpec("x", (1, 8), "float32"),),
        "outputs": (TensorSpec("y", (1, "n"), "float16"),),
        **changes,
    }
    publish_engine(folder / name, data, Manifest(**said))
    return EngineCacheEntry(folder / name, said["sha256"], host.sm, host.jetpack, name.split("_trt")[1][:-12], "fp16")


@pytest.mark.covers("OR-02")
def test_an_engine_without_its_provider_is_refused_with_not_implemented_as_the_cause(bench: Bench) -> None:
    ours = bench.runtime()
    with pytest.raises(EngineDeserializeError, match="no provider of ONNX Runtime") as refusal:
        ours.deserialize_engine(engine(bench.folder))
    assert type(refusal.value.__cause__).__name__ == "NotImplemented"
    assert ours.resident_bytes == 0


@pytest.mark.covers("OR-02", "TR-04", "RT-12")
def test_the_provider_gets_the_verified_bytes_in_an_ep_context_model_without_optimisation(bench: Bench) -> None:
    script = Script()
    ours = bench.runtime(load=script.load)
    entry = engine(bench.folder)

    def swap(head: str) -> None:
        entry.engine_path.write_bytes(plan(body=b"swapped after"))

    script.on_open = swap
    handle = ours.deserialize_engine(entry)
    ((given, options, providers),) = script.opened
    proto = onnx.load_model_from_string(given)
    onnx.checker.check_model(proto, full_check=False)
    (context,) = proto.graph.node
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in context.attribute}
    assert (context.op_type, context.domain) == ("EPContext", "com.microsoft")
    assert (attributes["embed_mode"], attributes["main_context"]) == (1, 1)
    assert attributes["ep_cache_context"] == plan()
    assert (attributes["source"], attributes["hardware_architecture"]) == (b"TensorrtExecutionProvider", b"87")
    (given_in,), (given_out,) = proto.graph.input, proto.graph.output
    assert (given_in.name, given_in.type.tensor_type.elem_type) == ("x", FLOAT)
    assert [dim.dim_value for dim in given_in.type.tensor_type.shape.dim] == [1, 8]
    assert (given_out.type.tensor_type.elem_type, given_out.type.tensor_type.shape.dim[1].dim_param) == (HALF, "n")
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert options.get_session_config_entry("session.disable_model_compile") == "1"
    assert dict(providers)[TENSORRT]["trt_engine_cache_enable"] == "False"
    assert ours.resident_bytes == len(plan())
    assert ours.describe(handle).nodes_by_provider == {"tensorrt": 1}
    assert ours.describe(handle).precision == "unknown"
    assert not (bench.folder / "engines").exists()


@pytest.mark.covers("OR-02")
def test_the_engine_checks_refusal_is_final_and_comes_before_the_library(bench: Bench) -> None:
    script = Script()
    entry = engine(bench.folder)
    entry.engine_path.with_name(entry.engine_path.name + ".sha256").unlink()
    with pytest.raises(EngineSidecarMissingError):
        bench.runtime(load=script.load).deserialize_engine(entry)
    foreign = HostTuple("110", "7.1", "10.13.3.9", "38.4.0", "p3834-0008")
    with pytest.raises(EngineSchemaMismatchError, match="this host is sm110"):
        bench.runtime(load=script.load, host=foreign).deserialize_engine(engine(bench.folder))
    assert script.opened == []


@pytest.mark.covers("OR-02")
def test_an_engine_of_tensorrt_rtx_is_a_schema_mismatch_also_where_its_own_library_is(bench: Bench) -> None:
    script = Script()
    host = HostTuple("89", "none", "rtx1.7.1.116")
    name = "relu__sm89_jpnone_trtrtx1.7_fp16.engine"
    entry = engine(bench.folder, name, plan(b"vtrt", (1, 7, 1, 116)), host)
    with pytest.raises(EngineSchemaMismatchError, match="TensorRT-RTX"):
        bench.runtime(load=script.load, host=host).deserialize_engine(entry)
    assert script.opened == []


@pytest.mark.covers("OR-02")
@pytest.mark.parametrize("missing", ["inputs", "outputs"])
def test_an_engine_whose_manifest_does_not_name_its_tensors_is_refused(bench: Bench, missing: Any) -> None:
    nameless: dict[str, Any] = {missing: ()}
    with pytest.raises(EngineSchemaMismatchError, match=f"names no {missing}"):
        bench.runtime().deserialize_engine(engine(bench.folder, **nameless))


# infer, release, describe


@pytest.fixture
def served(bench: Bench) -> Served:
    ours = bench.runtime()
    return ours, ours.deserialize_engine(bench.entry(ours))


@pytest.mark.covers("RT-01", "RT-02")
def test_it_is_an_inference_runtime_that_describes(served: Served) -> None:
    ours, _ = served
    assert isinstance(ours, InferenceRuntime)
    assert isinstance(ours, Describes)
    assert ours.current_runtime_label() == "onnx_trt_ep"


@pytest.mark.covers("RT-08", "RT-01")
def test_results_are_right_the_callers_and_unchanged_by_later_calls(served: Served) -> None:
    ours, handle = served
    feed = {"x": X.copy()}
    first = ours.infer(handle, feed)["y"]
    kept = first.copy()
    ours.infer(handle, {"x": X * 7})
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(first, np.maximum(X, 0))
    np.testing.assert_array_equal(feed["x"], X)
    first[:] = 99
    np.testing.assert_array_equal(ours.infer(handle, feed)["y"], np.maximum(X, 0))


@pytest.mark.covers("RT-01")
@pytest.mark.parametrize("size", [8, 1 << 15])
def test_out_arrays_are_filled_and_returned_small_by_copy_large_in_place(bench: Bench, size: Any) -> None:
    ours = bench.runtime()
    x, outputs = [value("x", FLOAT, [1, size])], [value("y", FLOAT, [1, size]), value("z", FLOAT, [1, size])]
    two = model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["z"])], x, outputs)
    handle = ours.deserialize_engine(bench.entry(ours, two))
    assert handle.resources.is_bound == (size > 8)
    feed = {"x": np.linspace(-1, 1, size, dtype="float32").reshape(1, size)}
    mine = {name: np.full((1, size), 7, "float32") for name in ("z", "y")}
    results = ours.infer(handle, feed, out=mine)
    assert list(results) == ["y", "z"]
    assert results["y"] is mine["y"]
    np.testing.assert_array_equal(mine["y"], np.maximum(feed["x"], 0))
    np.testing.assert_array_equal(mine["z"], -feed["x"])
    part = ours.infer(handle, feed, out={"z": mine["z"]})
    assert part["z"] is mine["z"]
    np.testing.assert_array_equal(part["y"], mine["y"])
    with pytest.raises(InferenceError, match="overlaps input 'x'"):
        ours.infer(handle, feed, out={"y": feed["x"]})
    with pytest.raises(InferenceError, match="out names 'q'"):
        ours.infer(handle, feed, out={"q": mine["y"]})


@pytest.mark.covers("RT-08")
@pytest.mark.parametrize("feed", [{}, {"x": X, "q": X}, {"x": X[:, :4]}, {"x": X.astype("float64")}, None])
def test_a_wrong_input_does_not_reach_the_library(bench: Bench, feed: Any) -> None:
    script = Script(on_open=NO_GPU)
    ours = bench.runtime(load=script.load)
    handle = ours.deserialize_engine(bench.entry(ours))
    warm = script.runs
    with pytest.raises(InferenceError, match="input"):
        ours.infer(handle, feed)
    assert script.runs == warm
    assert [event["frame"] for event in bench.events("c7.inference_failed")] == [1]


@pytest.mark.covers("RT-05", "RT-10")
def test_foreign_and_released_handles_are_told_apart(bench: Bench, served: Served) -> None:
    ours, handle = served
    other = bench.runtime()
    foreign = other.deserialize_engine(bench.entry(other))
    with pytest.raises(InferenceError, match="another runtime"):
        ours.infer(foreign, {"x": X})
    ours.release_engine(foreign)
    assert not foreign.released
    ours.release_engine(EngineHandle(object(), foreign.entry, 1))
    ours.release_engine("handle")  # type: ignore[arg-type]  # wrong on purpose
    ours.release_engine(handle)
    assert handle.released
    ours.release_engine(handle)
    for call in (lambda: ours.infer(handle, {"x": X}), lambda: ours.describe(handle)):
        with pytest.raises(InferenceError, match="was released"):
            call()
    assert len(bench.events("c7.engine_released")) == 1


@pytest.mark.covers("RT-10", "RT-09")
def test_release_frees_the_session_at_once_and_sets_the_bytes_back(bench: Bench) -> None:
    script = Script(on_open=NO_GPU)
    ours = bench.runtime(load=script.load)
    entry = bench.entry(ours)
    gc.disable()
    try:
        first, second = ours.deserialize_engine(entry), ours.deserialize_engine(entry)
        size = entry.engine_path.stat().st_size
        assert ours.resident_bytes == 2 * size
        ours.release_engine(first)
        assert [session() is None for session in script.sessions] == [True, False]
    finally:
        gc.enable()
    assert ours.resident_bytes == size
    np.testing.assert_array_equal(ours.infer(second, {"x": X})["y"], np.maximum(X, 0))


@pytest.mark.covers("RT-07", "RT-09", "LO-01")
def test_a_failed_call_costs_that_call_alone(bench: Bench) -> None:
    failure = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Relu node.")
    script = Script(on_open=NO_GPU)
    ours = bench.runtime(load=script.load)
    handle = ours.deserialize_engine(bench.entry(ours))
    before = ours.resident_bytes, bench.files()
    script.on_run = raising(failure, script.runs + 1)
    with pytest.raises(InferenceError, match="the run failed: Non-zero status code") as refusal:
        ours.infer(handle, {"x": X})
    assert refusal.value.__cause__ is failure
    assert (ours.resident_bytes, bench.files()) == before
    np.testing.assert_array_equal(ours.infer(handle, {"x": X})["y"], np.maximum(X, 0))
    (event,) = bench.events("c7.inference_failed")
    assert (event["level"], event["backbone"], event["frame"], event["error"]) == ("ERROR", "m", 1, "InferenceError")


@pytest.mark.covers("RT-07")
def test_memory_that_the_real_library_cannot_get_is_out_of_memory_and_the_next_call_works(bench: Bench) -> None:
    ours = bench.runtime()
    nodes = [node("Expand", ["x", "s"], ["e"]), node("ReduceSum", ["e"], ["y"], keepdims=0)]
    inputs = [value("x", FLOAT, [1]), value("s", INT64, [1])]
    handle = ours.deserialize_engine(bench.entry(ours, model(nodes, inputs, [value("y", FLOAT, [])])))
    one = np.ones(1, "float32")
    with pytest.raises(OutOfMemoryError, match="Failed to allocate memory"):
        ours.infer(handle, {"x": one, "s": np.array([2**46])})
    assert ours.infer(handle, {"x": one, "s": np.array([5])})["y"] == 5
    assert len(bench.events("c7.out_of_memory")) == 1


@pytest.mark.covers("RT-07")
@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0"),
        ort.capi.onnxruntime_pybind11_state.DeviceReset("device removed"),
    ],
)
def test_after_a_lost_device_every_call_is_refused_at_once(bench: Bench, failure: Any) -> None:
    script = Script()
    ours = bench.runtime(load=script.load)
    entry = bench.entry(ours)
    handle = ours.deserialize_engine(entry)
    script.on_run = raising(failure, script.runs + 1)
    with pytest.raises(DeviceLostError, match="Restart the process"):
        ours.infer(handle, {"x": X})
    runs, opened = script.runs, len(script.opened)
    with pytest.raises(DeviceLostError, match="an earlier call lost the device"):
        ours.infer(handle, {"x": X})
    with pytest.raises(DeviceLostError):
        ours.deserialize_engine(entry)
    assert (script.runs, len(script.opened)) == (runs, opened)
    ours.release_engine(handle)
    assert ours.resident_bytes == 0


@pytest.mark.covers("RT-12")
def test_a_build_inside_a_call_is_an_error_of_that_call(bench: Bench) -> None:
    script = Script()
    ours = bench.runtime(load=script.load)
    handle = ours.deserialize_engine(bench.entry(ours))
    cache = Path(dict(script.opened[0][2])[TENSORRT]["trt_engine_cache_path"])
    ours.infer(handle, {"x": X})

    def build(number: int) -> None:
        (cache / "TRTKernel.engine").write_bytes(b"built")

    script.on_run = build
    with pytest.raises(InferenceError, match="built an engine inside this call"):
        ours.infer(handle, {"x": X})
    script.on_run = lambda number: None
    np.testing.assert_array_equal(ours.infer(handle, {"x": X})["y"], np.maximum(X, 0))


@pytest.mark.covers("OR-05")
def test_a_fallback_that_the_operator_chose_is_said_at_the_first_call_and_never_again(bench: Bench) -> None:
    script = Script()
    ours = bench.runtime(load=script.load, is_fallback=True)
    handle = ours.deserialize_engine(bench.entry(ours))
    assert bench.alerts == []
    threads = [threading.Thread(target=ours.infer, args=(handle, {"x": X})) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ours.infer(ours.deserialize_engine(bench.entry(ours)), {"x": X})
    assert [event["level"] for event in bench.events("c7.fallback_to_onnx_trt_ep")] == ["WARN"]
    assert [alert.kind.value for alert in bench.alerts] == ["c7.fallback_to_onnx_trt_ep"]


@pytest.mark.covers("OR-05")
def test_without_is_fallback_nothing_is_said(bench: Bench, served: Served) -> None:
    ours, handle = served
    ours.infer(handle, {"x": X})
    assert bench.events("c7.fallback_to_onnx_trt_ep") == []


@pytest.mark.covers("LO-01")
def test_frames_are_logged_only_if_asked_with_their_number_and_time(bench: Bench) -> None:
    ticks = iter(range(0, 10**12, 2_000_000))
    ours = bench.runtime(per_frame_debug_log=True, clock=lambda: next(ticks))
    handle = ours.deserialize_engine(bench.entry(ours))
    for _ in range(2):
        ours.infer(handle, {"x": X})
    frames = [
        (event["level"], event["backbone"], event["frame"], event["took_ms"]) for event in bench.events("c7.frame")
    ]
    assert frames == [("DEBUG", "m", 1, 2.0), ("DEBUG", "m", 2, 2.0)]
    assert not any(str(list(X[0])) in line for line in bench.stream.getvalue().splitlines())
    quiet = Bench(bench.folder)
    ours = quiet.runtime()
    ours.infer(ours.deserialize_engine(quiet.entry(ours)), {"x": X})
    assert quiet.events("c7.frame") == []


@pytest.mark.covers("RT-05")
def test_one_handle_serves_several_threads(served: Served) -> None:
    ours, handle = served
    wrong: list[Any] = []

    def work(seed: int) -> None:
        for step in range(200):
            x = np.full((1, 8), seed * 1000 + step, "float32")
            got = ours.infer(handle, {"x": x})["y"]
            if not np.array_equal(got, x):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.covers("BA-04")
def test_threads_are_set_explicitly_and_do_not_spin(bench: Bench) -> None:
    script = Script(on_open=NO_GPU)
    for threads, spins in ((2, "0"), (None, None)):
        ours = bench.runtime(load=script.load, intra_op_threads=threads)
        ours.deserialize_engine(bench.entry(ours))
        options = script.opened[-1][1]
        assert options.intra_op_num_threads == threads or (threads is None and options.intra_op_num_threads >= 1)
        assert options.inter_op_num_threads == 1
        if spins is not None:
            assert options.get_session_config_entry("session.intra_op.allow_spinning") == spins


@pytest.mark.covers("RT-06", "TH-01")
def test_thermal_state_is_the_publishers_or_the_safe_default(bench: Bench) -> None:
    reading = ThermalState(50.0, 51.0, False, 900.0, 7, True)

    class Publisher:
        def read(self) -> ThermalState:
            return reading

    assert bench.runtime(thermal_publisher=Publisher()).thermal_state() is reading
    assert bench.runtime(clock=lambda: 7).thermal_state() == ThermalState.unknown(7)


@pytest.mark.covers("OR-06", "T1-01")
def test_description_tells_where_nodes_ran_and_that_fp16_was_computed_in_fp32(bench: Bench) -> None:
    ours = bench.runtime()
    single = ours.describe(ours.deserialize_engine(bench.entry(ours, convolution(batch=1))))
    assert (single.provider, single.precision) == ("cpu", "fp32")
    assert sum(single.nodes_by_provider.values()) >= 1
    assert set(single.nodes_by_precision) == {"fp32"}
    assert single.inputs == (TensorSpec("x", (1, 3, 8, 8), "float32"),)

    handle = ours.deserialize_engine(bench.entry(ours, convolution(HALF, "float16", batch=1), precision="fp16"))
    before = bench.files()
    half = ours.describe(handle)
    assert half.precision in ("fp32", "mixed")
    assert half.nodes_by_precision["fp32"] >= 1
    assert any("casts ran" in note for note in half.notes)
    assert bench.files() == before
    assert ours.describe(handle) is half  # computed once


@pytest.mark.covers("OR-06")
def test_description_does_not_depend_on_the_working_directory(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = bench.runtime()
    entry = bench.entry(ours)
    monkeypatch.chdir(tmp_path)
    handle = ours.deserialize_engine(replace(entry, engine_path=Path("m.onnx")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ours.describe(handle).nodes_by_provider == {"cpu": 1}


@pytest.mark.covers("OR-06")
@pytest.mark.parametrize(
    ("kinds", "precision"),
    [
        ([("Conv", "float")], "fp32"),
        ([("Conv", "float16"), ("Reshape", "float"), ("Cast", "float")], "fp16"),
        ([("Conv", "float"), ("Max", "float16")], "mixed"),
        ([("QLinearConv", "uint8"), ("Softmax", "float")], "int8"),
        ([("QLinearConv", "uint8"), ("Softmax", "float16")], "mixed"),
        ([("Conv", "double")], "unknown"),
        ([("Add", "int64"), ("Gather", "float")], "unknown"),
    ],
)
def test_precision_comes_from_the_nodes_that_compute(kinds: Any, precision: Any) -> None:
    events = [
        {
            "cat": "Node",
            "name": f"n{index}_kernel_time",
            "args": {"op_name": operator, "provider": CPU, "input_type_shape": [{kind: [1]}, {"int64": [1]}]},
        }
        for index, (operator, kind) in enumerate(kinds)
    ]
    placement = read_placement(json.dumps([*events, *events, {"cat": "Session", "name": "model_run"}]))
    assert placement.precision == precision
    assert placement.by_provider == {"cpu": len(kinds)}  # a body that runs twice is one node


@pytest.mark.covers("OR-06")
def test_a_fused_tensorrt_node_has_no_precision_that_can_be_seen() -> None:
    event = {
        "cat": "Node",
        "name": "TRTKernel_graph_g_0_kernel_time",
        "args": {"op_name": "TRTKernel", "provider": TENSORRT, "input_type_shape": [{"float": [1]}]},
    }
    node = EngineLayer("TRTKernel_graph_g_0", "TRTKernel", "unknown", "tensorrt")
    assert read_placement(json.dumps([event])) == Placement({"tensorrt": 1}, {"unknown": 1}, 0, (node,))


@pytest.mark.covers("OR-06")
def test_a_session_that_claims_a_provider_which_computes_nothing_is_described_by_what_computes(bench: Bench) -> None:
    ours = bench.runtime(load=Script().load)
    description = ours.describe(ours.deserialize_engine(bench.entry(ours)))
    assert (description.provider, description.nodes_by_provider) == ("cpu", {"cpu": 1})
