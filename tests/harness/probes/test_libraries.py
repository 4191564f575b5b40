"""Assumptions about libraries: TensorRT and NVML on the simulated device, ONNX Runtime as it is here, children that fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.probes import Finding, Host, State, libraries
from harness.probes.libraries import PROBES, asked, main, plainly
from runtime.platform import HostTuple

NOBODY = HostTuple("none", "none", "none")
HERE = Host(Path("/"), NOBODY, True, {}, subprocess.run, "python3")


def states(found: Iterator[tuple[str, Finding]]) -> dict[str, str]:
    return {name: finding.state.value for name, finding in found}


# --- TensorRT ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Any]:
    pytest.importorskip("onnx", reason="onnx: not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
    from tests.runtime.strategies import trt_bench

    with trt_bench.on_device(tmp_path) as made:
        yield made


def try_tensorrt(bench: Any, *, trt: str = "10.3.0.30", **more: Any) -> dict[str, Finding]:
    from runtime.strategies.trt_launch import in_process
    from runtime.strategies.trt_library import load_library

    def make(config: Any) -> Any:
        return bench.runtime(launch=in_process, gpu_memory_budget_bytes=config.gpu_memory_budget_bytes)

    folder = bench.folder / "engines"
    folder.mkdir(exist_ok=True)
    return dict(libraries.tensorrt(make, folder, library=load_library(), trt=trt, **more))


def test_a_tensorrt_that_is_as_documented_has_no_wrong_assumption(bench: Any) -> None:
    found = try_tensorrt(bench)
    assert set(found) == {probe.id for probe in PROBES["tensorrt"]}
    assert {name: finding.seen for name, finding in found.items() if finding.state is State.WRONG} == {}
    for name in (
        "tensorrt-version-of-package",
        "plan-header",
        "timing-cache",
        "engine-runs",
        "event-timing",
        "budget-refuses",
    ):
        assert found[name].state is State.OK, found[name]
    assert found["plan-header"].facts == {"kind": "tensorrt"}


def test_a_package_of_another_version_and_a_plan_of_another_form_are_wrong(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reads_another(data: bytes) -> Any:
        return SimpleNamespace(trt="9.9.9.9", kind="tensorrt", length=len(data))

    monkeypatch.setattr(libraries, "read_plan_header", reads_another)
    found = try_tensorrt(bench, trt="10.13.3.9")
    assert found["tensorrt-version-of-package"].state is State.WRONG
    assert "a plan of 10.3.0 says 9.9.9.9" in found["plan-header"].seen


def test_without_a_gpu_an_engine_is_built_and_not_run(bench: Any) -> None:
    found = try_tensorrt(bench, has_gpu=False)
    assert found["plan-header"].state is State.OK
    assert found["engine-runs"].state is State.UNKNOWN


# --- NVML, jtop -------------------------------------------------------------------------------------------------------


class Meter:
    """An NVML whose energy goes on by ``joules`` a reading at 10 W."""

    def __init__(self, joules: float) -> None:
        self.joules, self.read, self.held = joules, 0, 0

    def nvmlInit(self) -> None:
        self.held += 1

    def nvmlShutdown(self) -> None:
        self.held -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:
        return 10_000

    def nvmlDeviceGetTotalEnergyConsumption(self, device: int) -> int:
        self.read += 1
        return round(self.read * self.joules * 1000)

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[Any]:
        raise RuntimeError("Not Supported")


@pytest.mark.parametrize(("joules", "state"), [(10.0, "OK"), (10_000.0, "WRONG"), (0.0, "WRONG")])
def test_an_energy_counter_is_held_against_the_power(joules: float, state: str) -> None:
    ticks = iter([0.0, 1.0])
    meter = Meter(joules)
    found = states(libraries.nvml(meter, sleep=lambda _: None, now=lambda: next(ticks)))
    assert found == {
        "energy-counter": state,
        "nvml-processes": "UNKNOWN",
    }
    assert meter.held == 0


def test_an_orin_whose_nvml_supports_nothing_is_unknown() -> None:
    from harness.fakes.device import SimulatedDevice
    from harness.fakes.nvml import make_nvml

    found = states(libraries.nvml(make_nvml(SimulatedDevice(sm="87")), sleep=lambda _: None))
    assert set(found.values()) == {"UNKNOWN"}


class Jtop:
    """jetson-stats' client, with one clock and one sensor that is off."""

    max_khz, off_c = 1_173_000, -256

    def __init__(self, interval: float) -> None:
        self.gpu = {"gpu": {"freq": {"max": self.max_khz}}}
        self.temperature = {"cv0": {"temp": self.off_c, "online": False}}

    def __enter__(self) -> Jtop:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def close(self) -> None:
        return

    def ok(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("changes", "state"),
    [({}, "OK"), ({"max_khz": 1_173_000_000}, "WRONG"), ({"off_c": 0}, "WRONG"), ({"max_khz": 0}, "UNKNOWN")],
)
def test_jtops_units_are_held_against_devfreq(tmp_path: Path, changes: dict[str, int], state: str) -> None:
    folder = tmp_path / "sys/class/devfreq/17000000.gpu"
    folder.mkdir(parents=True)
    (folder / "max_freq").write_text("1173000000\n", encoding="ascii")
    assert states(libraries.jtop(type("Client", (Jtop,), changes), tmp_path)) == {"jtop-units": state}


# --- CUDA by PyTorch ---------------------------------------------------------------------------------------------------


class Torch:
    """What of PyTorch is asked, over a GPU whose free memory is the kernel's MemFree, or is not."""

    def __init__(self, *, follows_cache: bool = True) -> None:
        self.cuda, self.follows_cache = self, follows_cache
        self.asked = 0

    def is_available(self) -> bool:
        return True

    def get_device_capability(self, device: int) -> tuple[int, int]:
        return (8, 7)

    def mem_get_info(self, device: int) -> tuple[int, int]:
        self.asked += 1
        return (8 << 30) - (self.asked - 1) * ((4 << 20) if self.follows_cache else 0), 16 << 30

    uint8 = "uint8"
    OutOfMemoryError = MemoryError

    def get_device_properties(self, device: int) -> Any:
        return SimpleNamespace(is_integrated=True, total_memory=16 << 30)

    def empty(self, size: int, dtype: str, device: str) -> Any:
        raise RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp")

    def ones(self, shape: Any, device: str) -> int:
        return 1

    def matmul(self, a: int, b: int) -> int:
        return a

    def synchronize(self) -> None:
        return


@pytest.fixture
def orin(tmp_path: Path) -> Iterator[Any]:
    from tests.harness import board_trees

    with board_trees.orin_nx(tmp_path / "root") as tree:
        yield tree


def test_cuda_on_an_orin_is_held_against_what_was_assumed(orin: Any, tmp_path: Path) -> None:
    def tell(sm: str, *, follows_cache: bool) -> dict[str, Finding]:
        torch = Torch(follows_cache=follows_cache)
        return dict(libraries.cuda(torch, orin.root, sm, tmp_path, is_tegra=True, size_bytes=4 << 20, readings=1))

    names = ("sm-of-tegra", "cuda-free-includes-cache", "integrated-of-tegra", "oom-by-pytorch")
    right, wrong = tell("87", follows_cache=True), tell("110", follows_cache=False)
    assert [right[name].state.value for name in names] == ["OK"] * 4
    assert [wrong[name].state.value for name in names] == ["WRONG", "WRONG", "OK", "OK"]
    assert "took 0 MiB of CUDA's free memory" in wrong["cuda-free-includes-cache"].seen
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.parametrize(("busy", "state"), [(960, State.OK), (96, State.WRONG), (2000, State.WRONG)])
def test_the_load_under_work_shows_its_unit(orin: Any, busy: int, state: State) -> None:
    orin.write("sys/class/devfreq/17000000.gpu/device/load", busy)
    finding = libraries.load_under_work(Torch(), orin.root, readings=3, every_s=0.001)
    assert finding.state is state, finding


@pytest.mark.parametrize(
    ("error", "state"), [(MemoryError("CUDA"), State.OK), (RuntimeError("CUDA out of memory."), State.OK),
                         (RuntimeError("unspecified launch failure"), State.WRONG), (None, State.WRONG)])  # fmt: skip
def test_a_failed_allocation_of_pytorch_has_a_known_form(
    orin: Any, tmp_path: Path, error: Exception | None, state: State
) -> None:
    class Refusing(Torch):
        def empty(self, size: int, dtype: str, device: str) -> Any:
            if error is not None:
                raise error

    found = dict(libraries.cuda(Refusing(), orin.root, "87", tmp_path, is_tegra=True, size_bytes=1 << 20, readings=1))
    assert found["oom-by-pytorch"].state is state


def test_a_discrete_gpu_shares_no_memory(orin: Any, tmp_path: Path) -> None:
    found = dict(libraries.cuda(Torch(), orin.root, "87", tmp_path, is_tegra=False, readings=1))
    assert found["integrated-of-tegra"].state is State.WRONG  # this one says that it does
    assert found["cuda-free-includes-cache"].state is State.UNKNOWN


def test_work_that_cannot_be_done_shows_nothing_of_the_load(orin: Any) -> None:
    torch = Torch()
    torch.matmul = lambda a, b: 1 // 0  # type: ignore[method-assign]
    finding = libraries.load_under_work(torch, orin.root, readings=2, every_s=0.01)
    assert (finding.state, "ZeroDivisionError" in finding.seen) == (State.UNKNOWN, True)


def test_pytorch_without_cuda_leaves_all_unknown(tmp_path: Path) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    assert set(states(libraries.cuda(torch, tmp_path, "none", tmp_path, is_tegra=False)).values()) == {"UNKNOWN"}


# --- ONNX Runtime ------------------------------------------------------------------------------------------------------


def test_onnx_runtime_here_deceives_nobody() -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
    found = dict(libraries.onnxruntime(ort, {"device_id": "0"}))
    assert found["ort-no-silent-fallback"].state is State.OK, found
    assert found["ort-placement"].seen == "the profile names CPUExecutionProvider"
    assert found["ort-trt-options"].state is not State.WRONG


class Session:
    """A session of a provider that loads, and drops the options that it does not know."""

    def __init__(self, known: tuple[str, ...], providers: list[Any]) -> None:
        self.known, self.name, self.options = known, providers[0][0], providers[0][1]

    def disable_fallback(self) -> None:
        return

    def get_providers(self) -> list[str]:
        return [self.name, "CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {self.name: {name: value for name, value in self.options.items() if name in self.known}}


def test_an_option_that_the_provider_does_not_know_is_found_out() -> None:
    def library(known: tuple[str, ...]) -> Any:
        return SimpleNamespace(
            __version__="1.23.0",
            InferenceSession=lambda _model, _settings, providers, enable_fallback: Session(known, providers),
        )

    options = {"device_id": "0", "trt_new": "1"}
    assert libraries.trt_options(library(("device_id", "trt_new")), options).state is State.OK
    assert "trt_new" in libraries.trt_options(library(("device_id",)), options).seen


# --- the child --------------------------------------------------------------------------------------------------------


def test_a_child_tells_its_findings_in_lines_and_why_there_are_no_more() -> None:
    lines = ['{"id": "a", "state": "OK", "seen": "x", "facts": {"n": 1}}', "a library printed this", "[1]",
             '{"id": "b", "state": "WRONG", "seen": "y"}', '{"why": "no driver"}']  # fmt: skip

    def run(command: list[str], **_options: Any) -> Any:
        assert command[:4] == ["python3", "-m", "harness.probes.libraries", "cuda"]
        return SimpleNamespace(stdout="\n".join(lines), stderr="", returncode=0)

    found = asked("cuda", Host(Path("/"), NOBODY, True, {}, run, "python3"), 5)
    assert (found["a"].state, found["a"].facts, found["b"].state) == (State.OK, {"n": 1}, State.WRONG)
    assert found[""].seen == "no driver"


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        (SimpleNamespace(stdout="", stderr="boom\n", returncode=-11), "its process ended with -11: boom"),
        (subprocess.TimeoutExpired("x", 5, output=b'{"id": "a", "state": "OK", "seen": "x"}'), "it took over 5 s"),
        (FileNotFoundError(2, "No such file or directory"), "cannot be started: No such file or directory"),
    ],
)
def test_a_child_that_crashes_or_hangs_is_unknown_with_its_reason(ends: Any, says: str) -> None:
    def run(*_args: Any, **_options: Any) -> Any:
        if isinstance(ends, BaseException):
            raise ends
        return ends

    found = asked("nvml", Host(Path("/"), NOBODY, True, {}, run, "python3"), 5)
    assert says in found[""].seen
    assert ("a" in found) == isinstance(ends, subprocess.TimeoutExpired)


def test_libraries_are_not_tried_for_another_machines_files(tmp_path: Path) -> None:
    found = asked("nvml", Host(tmp_path, NOBODY, False, {}, pytest.fail, "python3"), 5)
    assert found[""].state is State.UNKNOWN


def test_a_library_that_is_not_there_ends_a_child_in_peace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jtop", None)
    said: list[str] = []
    assert main(["jtop", str(tmp_path)], say=said.append) in (0, 1)
    assert "jetson-stats cannot be imported" in json.loads(said[-1])["why"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "/onnxruntime_src/python/pybind_state.cc:729 void onnxruntime::python::Ops(P&, const ort::O&) Please install it.",
            "Please install it.",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : /src/a/b.cc:2043 ort::P& ort::Get(std::function<void (int)>) no\n x.so",
            "[ONNXRuntimeError] : 1 : FAIL : no x.so",
        ),
        ("a/b.h:3 it is (said)", "it is (said)"),
        ("a.cc:1 b.cc:2 c::d( never closed", "c::d( never closed"),
        ("no place at all: 3 (three)", "no place at all: 3 (three)"),
        ("", ""),
    ],
)
def test_the_place_in_a_librarys_own_sources_is_cut_away(said: str, told: str) -> None:
    assert plainly(RuntimeError(said)) == told
