"""Assumptions about TensorRT, ONNX Runtime, CUDA, NVML and jetson-stats.

    python -m harness.probes.libraries tensorrt|onnxruntime|cuda|nvml|jtop FOLDER

tries one library in a process of its own, which may crash or hang, and prints one line of JSON per assumption. Each
function below takes the library, or what makes it, so that the simulated device can stand in for it by name.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.board import GPU_FOLDERS, SystemFiles
from harness.probes import Finding, Host, Probe, ok, unknown, wrong
from harness.words import counted
from runtime.config import RuntimeConfig
from runtime.data import BuildConfig, EngineCacheEntry
from runtime.errors import InferenceError, OutOfMemoryError, RuntimeCoreError, RuntimeNotAvailableError
from runtime.plan import read_plan_header
from runtime.platform import detect_host, nvml_compute_capability
from runtime.protocol import Describes, InferenceRuntime, Splits

__all__ = [
    "PROBES",
    "asked",
    "cuda",
    "jtop",
    "load_under_work",
    "main",
    "nvml",
    "onnxruntime",
    "plainly",
    "tensorrt",
    "trt_options",
]

Named = tuple[str, Finding]

ONE_NODE = bytes.fromhex(
    "08083a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a020801"
    "42040a00100d"
)
"""An ONNX model of IR 8 and opset 13: y = x + x, float32 [1]."""

_ANY_SM = "89"
"""A GPU to build for where there is none and the library needs none."""

_X = {"x": np.ones(1, np.float32)}


def tensorrt(
    make: Callable[[RuntimeConfig], InferenceRuntime],
    folder: Path,
    *,
    library: Any,
    trt: str,
    has_gpu: bool = True,
) -> Iterator[Named]:
    """What one engine of one node tells, built and run through the runtime.

    ``library``: as ``load_library`` gives it. ``trt``: the version that the files of this host name. Without a GPU an engine
    is built at most (``make`` then gives a runtime that builds for a GPU by name).
    """
    able = library.capabilities
    listed, real = _numbers(trt), _numbers(able.version)
    agree = bool(listed) and listed[: min(len(listed), 3)] == real[: min(len(listed), 3)]
    words = f"the library is {able.trt}, and its package {trt}"
    yield "tensorrt-version-of-package", (ok if agree else wrong)(words, trt=able.trt)
    yield "engine-validity", _validity(able.product, able.has_engine_validity)
    runtime = make(RuntimeConfig("tensorrt", engine_cache_dir=folder))
    model = folder / "one.onnx"
    model.write_bytes(ONE_NODE)
    begun = time.monotonic()
    entry = runtime.compile_engine(model, BuildConfig("fp32"))
    took = f"built in {time.monotonic() - begun:.1f} s"
    yield "plan-header", _header(entry, able.trt, took)
    yield "timing-cache", _timing(folder, able.has_timing_cache)
    if not has_gpu:
        yield from ((name, unknown("there is no GPU here")) for name in _ON_A_GPU)
        return
    try:
        handle = runtime.deserialize_engine(entry)
    except RuntimeCoreError as error:
        yield "engine-runs", wrong(f"the engine that was built here does not load: {str(error)[:200]}")
        return
    try:
        answer = float(runtime.infer(handle, _X)["y"][0])
        yield "engine-runs", (ok("1 + 1 is 2") if answer == 2.0 else wrong(f"1 + 1 is {answer}"))
        yield "event-timing", _events(runtime, handle)
        if isinstance(runtime, Describes):
            found = runtime.describe(handle)
            words = f"{found.precision} was asked for as fp32, {found.device_bytes} bytes on the device"
            yield "precision-inspectable", (ok if found.precision == "fp32" else unknown)(words)
    finally:
        runtime.release_engine(handle)
    yield "budget-refuses", _refusal(make, folder, entry)


_ON_A_GPU = ("engine-runs", "event-timing", "precision-inspectable", "budget-refuses")


def _numbers(version: str) -> list[str]:
    return re.findall(r"[0-9]+", version.removeprefix("rtx"))


def _validity(product: str, has: bool) -> Finding:
    words = f"{product} {'has' if has else 'has no'} get_engine_validity"
    return (ok if has == (product == "tensorrt_rtx") else wrong)(words)


def _header(entry: EngineCacheEntry, trt: str, took: str) -> Finding:
    try:
        header = read_plan_header(entry.engine_path.read_bytes())
    except RuntimeCoreError as error:
        return wrong(f"a plan of {trt} ({took}) has another header: {error}")
    wanted, found = _numbers(trt)[:4], _numbers(header.trt)
    if found[: len(wanted)] != wanted:
        return wrong(f"a plan of {trt} says {header.trt} ({took})")
    return ok(f"{header.kind} {header.trt}, {header.length} bytes ({took})", kind=header.kind)


def _timing(folder: Path, relied_on: bool) -> Finding:
    caches = sorted(path.name for path in folder.rglob("timing__*.cache"))
    if not relied_on:
        return unknown("this library has no timing cache that is of use, so none is relied on")
    return ok(caches[0]) if caches else wrong("the build left no timing cache")


def _events(runtime: InferenceRuntime, handle: Any) -> Finding:
    if not isinstance(runtime, Splits):
        return unknown("this runtime does not split its calls")
    try:
        if not runtime.time_calls(handle):
            return unknown("there is no device whose events could be asked")
        runtime.infer(handle, _X)
        begun = time.monotonic_ns()
        runtime.infer(handle, _X)
        took = time.monotonic_ns() - begun
        split = runtime.split_ns(handle)
    except InferenceError as error:
        return wrong(f"events cannot be used: {error}")
    if split is None:
        return wrong("a timed call has no split")
    words = f"copies {split[0]} and {split[2]} ns, compute {split[1]} ns, wait {split[3]} ns, of {took} ns on the host"
    # a simulated device keeps its own time, so only a real one's events are held against the host's clock
    too_much = not getattr(runtime, "simulated", False) and sum(split[:3]) > 1.1 * took + 50_000
    return wrong(words) if min(split) < 0 or too_much else ok(words)


def _refusal(make: Callable[[RuntimeConfig], InferenceRuntime], folder: Path, entry: EngineCacheEntry) -> Finding:
    small = make(RuntimeConfig("tensorrt", engine_cache_dir=folder, gpu_memory_budget_bytes=1))
    try:
        handle = small.deserialize_engine(entry)
    except OutOfMemoryError as error:
        return ok(f"refused: {str(error)[:160]}")
    except RuntimeCoreError as error:
        return wrong(f"refused, but as {type(error).__name__}: {str(error)[:160]}")
    small.release_engine(handle)
    return wrong("an engine was loaded into a budget of 1 byte")


def onnxruntime(library: Any, options: Mapping[str, str]) -> Iterator[Named]:
    """``options``: what we would set of the TensorRT provider, by name."""
    version, compiled = library.__version__, list(library.get_available_providers())
    library.set_default_logger_severity(4)
    name = "TensorrtExecutionProvider"
    if name not in compiled:
        yield "ort-trt-options", unknown(f"onnxruntime {version} was built without TensorRT: {', '.join(compiled)}")
    else:
        yield "ort-trt-options", trt_options(library, options)
    yield "ort-no-silent-fallback", _fallback(library, compiled)
    yield "ort-placement", _placement(library)


def _session(library: Any, providers: list[Any], settings: Any = None) -> Any:
    session = library.InferenceSession(ONE_NODE, settings, providers=providers, enable_fallback=0)
    session.disable_fallback()
    return session


_PLACE = re.compile(r"\S+\.(?:cc|cpp|cxx|cu|h|hpp):\d+ ")


def plainly(error: BaseException) -> str:
    """On one line, without the place in the library's own sources and the function there, which ONNX Runtime puts first."""
    words = " ".join(str(error).split())
    for _ in range(words.count(":")):
        place = _PLACE.search(words)
        if place is None:
            break
        words = words[: place.start()] + words[_after_function(words, place.end()) :].lstrip()
    return words.strip()


def _after_function(words: str, at: int) -> int:
    """Behind the C++ function whose signature begins there; there itself, where none does."""
    opened = words.find("(", at)
    depth = 0
    for end in range(opened, len(words)) if opened >= 0 and "::" in words[at:opened] else ():
        depth += {"(": 1, ")": -1}.get(words[end], 0)
        if depth == 0:
            return end + 1
    return at


def trt_options(library: Any, options: Mapping[str, str]) -> Finding:
    """Whether a session of the TensorRT provider takes these options and has them in effect."""
    name = "TensorrtExecutionProvider"
    try:
        session = _session(library, [(name, dict(options))])
    except Exception as error:
        words = plainly(error)
        if re.search(r"[Uu]nknown provider option|[Ii]nvalid.*option|not.*valid.*option", words):
            return wrong(f"onnxruntime {library.__version__} refuses one of our options: {words[:200]}")
        return unknown(f"the provider does not load here: {words[:240]}")
    if name not in session.get_providers():
        return unknown("the provider is compiled in, and does not load here")
    effective = session.get_provider_options()[name]
    lost = [option for option in options if option not in effective]
    return (
        wrong(f"not among the effective options: {', '.join(lost)}")
        if lost
        else ok(f"all {len(options)} are in effect")
    )


def _fallback(library: Any, compiled: list[str]) -> Finding:
    """A provider that does not load either raises, or is missing from ``get_providers``: then nobody is deceived."""
    said = []
    for name in compiled:
        try:
            session = _session(library, [name])
            answer = session.run(None, _X)[0]
        except Exception as error:
            said.append(f"{name} raises {type(error).__name__}")
            continue
        listed = session.get_providers()
        if name in listed and float(answer[0]) != 2.0:
            return wrong(f"{name} says that it runs, and 1 + 1 is {answer[0]}")
        said.append(f"{name} {'runs' if name in listed else 'is left out, and get_providers says so'}")
    return ok("; ".join(said))


def _placement(library: Any) -> Finding:
    settings = library.SessionOptions()
    settings.log_severity_level = 4
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = str(Path(folder, "profile"))
        session = _session(library, ["CPUExecutionProvider"], settings)
        session.run(None, _X)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    placed = {event["args"]["provider"] for event in events if "provider" in event.get("args", {})}
    if not placed:
        return wrong("the profile names no provider of any node")
    return ok(f"the profile names {', '.join(sorted(placed))}")


def cuda(
    library: Any, root: Path, sm: str, folder: Path, *, is_tegra: bool, size_bytes: int = 256 << 20, readings: int = 30
) -> Iterator[Named]:
    """What PyTorch's CUDA tells. ``sm``: by our table. ``size_bytes``: of the file that is put into the page cache."""
    if not library.cuda.is_available():
        for name in ("sm-of-tegra", "integrated-of-tegra", "oom-by-pytorch", "cuda-free-includes-cache", "load-0-1000"):
            yield name, unknown("PyTorch finds no CUDA device")
        return
    major, minor = library.cuda.get_device_capability(0)
    words = f"the device is SM {major}{minor}, and our table says {sm}"
    yield "sm-of-tegra", (ok if f"{major}{minor}" == sm else wrong)(words, sm=f"{major}{minor}")
    facts = library.cuda.get_device_properties(0)
    shares = bool(getattr(facts, "is_integrated", is_tegra))
    words = f"it {'shares' if shares else 'does not share'} the processor's memory, and is {'a' if is_tegra else 'no'} Jetson"
    yield "integrated-of-tegra", (ok if shares == is_tegra else wrong)(words, is_integrated=shares)
    yield "oom-by-pytorch", _out_of_memory(library, 4 * int(facts.total_memory))

    def free() -> int:
        return int(library.cuda.mem_get_info(0)[0])

    yield "cuda-free-includes-cache", _free(free, root, folder, size_bytes, is_tegra=is_tegra)
    yield "load-0-1000", load_under_work(library, root, readings=readings)


def _out_of_memory(library: Any, size_bytes: int) -> Finding:
    """PyTorch on a Jetson may fail in its own report of an allocation that failed."""
    try:
        library.empty(size_bytes, dtype=library.uint8, device="cuda")
    except Exception as error:
        words = f"{type(error).__name__}: {plainly(error)[:120]}"
        text = str(error)
        known = "out of memory" in text.lower() or ("NVML_SUCCESS" in text and "INTERNAL ASSERT" in text)
        return ok(words) if known or isinstance(error, library.OutOfMemoryError) else wrong(words)
    return wrong(f"{size_bytes >> 30} GiB were given out, four times what there is")


def _free(free_bytes: Callable[[], int], root: Path, folder: Path, size_bytes: int, *, is_tegra: bool) -> Finding:
    if not is_tegra:
        return unknown("memory is not shared with the processor here, so nothing is judged by MemAvailable")
    path = folder / "cached.bin"
    before, before_available = free_bytes(), _meminfo_bytes(root, "MemAvailable")
    with path.open("wb") as file:
        for _ in range(size_bytes >> 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    after, after_available = free_bytes(), _meminfo_bytes(root, "MemAvailable")
    path.unlink()
    if before_available is None or after_available is None:
        return wrong("/proc/meminfo has no MemAvailable")
    fell, available_fell = (before - after) >> 20, (before_available - after_available) >> 20
    words = f"a file of {size_bytes >> 20} MiB took {fell} MiB of CUDA's free memory, and {available_fell} MiB of MemAvailable"
    if available_fell > (size_bytes >> 20) // 2:
        return unknown(f"{words}: that folder is in memory itself")
    return ok(words) if fell > (size_bytes >> 20) // 2 else wrong(words)


def _meminfo_bytes(root: Path, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+([0-9]{{1,15}}) kB$", SystemFiles(root).text("proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def load_under_work(library: Any, root: Path, *, readings: int = 30, every_s: float = 0.05) -> Finding:
    """The highest load that is read while the GPU multiplies, by default for a second and a half."""
    files = SystemFiles(root)
    gpu = next((path for path in files.match("sys/class/devfreq/*") if path.name.endswith(GPU_FOLDERS)), None)
    places = [path for path in (gpu and gpu / "device/load", root / "sys/devices/platform/gpu.0/load") if path]
    place = next((path for path in places if files.number(path) is not None), None)
    if place is None:
        return unknown("no load of a GPU can be read")
    over = threading.Event()
    failed: list[str] = []

    def work() -> None:
        try:
            square = library.ones((2048, 2048), device="cuda")
            while not over.is_set():
                library.matmul(square, square)
                library.cuda.synchronize()
        except Exception as error:  # whatever CUDA and its allocator raise
            failed.append(f"{type(error).__name__}: {plainly(error)[:120]}")

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    seen = []
    for _ in range(readings):
        time.sleep(every_s)
        seen.append(files.number(place))
    over.set()
    worker.join(5)
    known = [value for value in seen if value is not None]
    if failed or not known:
        return unknown(f"no load was read under work: {'; '.join(failed or files.notes[-1:])}")
    if max(known) > 1000 or min(known) < 0:
        return wrong(f"under work the load goes from {min(known)} to {max(known)}")
    if max(known) > 100:
        return ok(f"under work up to {max(known)}: per mille", unit="per mille")
    return wrong(f"under work at most {max(known)}: per cent, or not this GPU's load")


def nvml(
    library: Any, *, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.monotonic
) -> Iterator[Named]:
    """The energy counter against the power, over a second."""
    try:
        library.nvmlInit()
        device = library.nvmlDeviceGetHandleByIndex(0)
    except Exception as error:  # NVMLError is a class of the library itself
        yield "energy-counter", unknown(f"NVML: {error}")
        yield "nvml-processes", unknown(f"NVML: {error}")
        return
    try:
        try:
            powers = [library.nvmlDeviceGetPowerUsage(device) / 1e3]
            first, begun = library.nvmlDeviceGetTotalEnergyConsumption(device), now()
            for _ in range(10):
                sleep(0.1)
                powers.append(library.nvmlDeviceGetPowerUsage(device) / 1e3)
            joules = (library.nvmlDeviceGetTotalEnergyConsumption(device) - first) / 1e3
            yield "energy-counter", _energy(joules, now() - begun, powers)
        except Exception as error:
            yield "energy-counter", unknown(f"this GPU does not tell: {error}")
        try:
            found = library.nvmlDeviceGetComputeRunningProcesses(device)
            yield "nvml-processes", ok(f"{counted(len(found), 'process', 'processes')} on the GPU")
        except Exception as error:
            yield "nvml-processes", unknown(f"this GPU does not tell: {error}")
    finally:
        with suppress(Exception):
            library.nvmlShutdown()


def _energy(joules: float, seconds: float, powers: list[float]) -> Finding:
    mean_w = sum(powers) / len(powers)
    words = f"{joules:.2f} J in {seconds:.2f} s, at {mean_w:.2f} W by the power that it tells"
    if joules <= 0 or mean_w <= 0:
        return wrong(f"the counter stands still: {words}") if mean_w > 0 else unknown(words)
    return ok(words, unit="mJ") if 0.5 <= joules / seconds / mean_w <= 2 else wrong(words)


def jtop(client: Any, root: Path) -> Iterator[Named]:
    """jetson-stats against the files: clocks in kHz, offline sensors at -256."""
    with client(interval=0.5) as service, closing(service):  # leaving jetson-stats 4.3 by itself ends no thread
        if not service.ok():
            yield "jtop-units", unknown("jtop's service sends nothing")
            return
        clocks = [dict(value).get("freq") or {} for _, value in service.gpu.items()]
        zones = {str(name): dict(value) for name, value in service.temperature.items()}
    gpu = next(
        (path for path in SystemFiles(root).match("sys/class/devfreq/*") if path.name.endswith(GPU_FOLDERS)), None
    )
    hertz = SystemFiles(root).number(gpu / "max_freq") if gpu else None
    told = next((clock.get("max") for clock in clocks if clock.get("max")), None)
    odd = [name for name, zone in zones.items() if not zone.get("online", True) and zone.get("temp") != -256]
    if odd:
        yield "jtop-units", wrong(f"sensors that are offline have a temperature: {', '.join(odd)}")
    elif hertz and told:
        agree = abs(told * 1e3 - hertz) < 0.02 * hertz
        yield "jtop-units", (ok if agree else wrong)(f"max is {told} for jtop and {hertz} Hz in devfreq")
    else:
        yield "jtop-units", unknown("no clock of the GPU to compare")


# --- the child, and who asks it -------------------------------------------------------------------------------------


def main(arguments: list[str], *, say: Callable[[str], object] = print, root: Path = Path("/")) -> int:
    """Try one library; a line of JSON per assumption."""
    name, folder = arguments[0], Path(arguments[1])
    try:
        for found, finding in _found(name, folder, root):
            say(
                json.dumps(
                    {"id": found, "state": finding.state.value, "seen": finding.seen, "facts": dict(finding.facts)}
                )
            )
    except RuntimeNotAvailableError as error:
        say(json.dumps({"why": error.message}))
    except ImportError as error:
        say(json.dumps({"why": str(error)}))
    except Exception as error:
        say(json.dumps({"why": f"{type(error).__name__}: {plainly(error)[:300]}"}))
        return 1
    return 0


def _found(name: str, folder: Path, root: Path) -> Iterator[Named]:
    if name == "tensorrt":
        from runtime.factory import build_inference_runtime
        from runtime.strategies.trt import TensorrtRuntime
        from runtime.strategies.trt_library import load_library

        library, host = load_library(), detect_host(root)
        has_gpu = host.sm != "none"
        make: Callable[[RuntimeConfig], InferenceRuntime] = build_inference_runtime
        if not has_gpu and library.capabilities.can_build_for_named_gpu:
            make = partial(TensorrtRuntime, host=replace(host, sm=_ANY_SM))
        yield from tensorrt(make, folder, library=library, trt=host.trt, has_gpu=has_gpu)
    elif name == "onnxruntime":
        import onnxruntime as ort

        from runtime.strategies.ort_options import parse_version, tensorrt_options

        version = parse_version(ort.__version__)
        options = tensorrt_options(version, device_id=0, gpu_budget_bytes=1 << 30, precision="fp16", cache=folder)
        yield from onnxruntime(ort, options)
    elif name == "cuda":
        host = detect_host(root)
        try:
            import torch
        except ImportError as error:
            capability = nvml_compute_capability()
            if capability is None or host.sm == "none":
                raise
            words = f"NVML says SM {capability}, and our table {host.sm} (PyTorch: {error})"
            yield "sm-of-tegra", (ok if capability == host.sm else wrong)(words, sm=capability)
            raise
        yield from cuda(torch, root, host.sm, folder, is_tegra=host.l4t != "none")
    elif name == "nvml":
        from runtime.thermal_sources.nvml import load_nvml

        yield from nvml(load_nvml())
    elif name == "jtop":
        from runtime.thermal_sources.jtop import load_jtop

        yield from jtop(load_jtop(), root)


def asked(name: str, host: Host, limit_s: float) -> dict[str, Finding]:
    """The findings of one child; under ``""`` why there are no more: it ended, it hung, or the library is not here."""
    if not host.is_here:
        return {"": unknown("libraries can be tried on the machine itself alone")}
    with tempfile.TemporaryDirectory(prefix="trigate-probe-", ignore_cleanup_errors=True) as folder:
        command = [host.python, "-m", "harness.probes.libraries", name, folder]
        why = ""
        try:
            done = host.run(
                command, capture_output=True, text=True, timeout=limit_s, check=False, env=dict(host.environ)
            )
            said, code = str(done.stdout), done.returncode
            why = "" if code == 0 else f"its process ended with {code}: {_last_line(str(done.stderr))}"
        except subprocess.TimeoutExpired as late:
            said = late.stdout.decode("utf-8", "replace") if isinstance(late.stdout, bytes) else str(late.stdout or "")
            why = f"it took over {limit_s:.0f} s"
        except OSError as error:
            said, why = "", f"its process cannot be started: {error.strerror or error}"
    found: dict[str, Finding] = {}
    for line in said.splitlines():
        try:
            told = json.loads(line)
        except ValueError:  # a library printed it
            continue
        if not isinstance(told, dict):
            continue
        if "why" in told:
            why = str(told["why"])
        elif {"id", "state", "seen"} <= set(told):
            make = {"OK": ok, "WRONG": wrong}.get(str(told["state"]), unknown)
            facts = told.get("facts")
            found[str(told["id"])] = make(str(told["seen"]), **(facts if isinstance(facts, dict) else {}))
    found[""] = unknown(why or "it was not asked: another finding stood before it")
    return found


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")[:200]


def _nowhere(_host: Host) -> Finding:  # these come from their child, by ``asked``
    return unknown("it was not asked")


_TRT = ("tensorrt",)
_ALL = ("latency", "load", "flight", "memory", "takeoff", "heat", "parity", "harness")
_ORT = ("onnx_trt_ep",)

PROBES: Mapping[str, tuple[Probe, ...]] = {
    "tensorrt": (
        Probe("tensorrt-version-of-package", "The packages of the host name the TensorRT that is imported.",
              "Debian's and Python's package metadata", "the library's own version", _nowhere, _ALL, _TRT),
        Probe("engine-validity", "TensorRT-RTX alone can say whether an engine fits before it is loaded.",
              "the Python bindings of 23 releases", "whether the call is there", _nowhere),
        Probe("plan-header", "A plan begins with 'ftrt' and holds its version in bytes 24 to 27, its length in 16 to 23.",
              "NVIDIA's trtexec; the length by observation", "a plan built here", _nowhere, _ALL, _TRT),
        Probe("timing-cache", "A build leaves a timing cache that the next one can use.", "NVIDIA's documentation",
              "the files of a build", _nowhere, ("load",), _TRT),
        Probe("engine-runs", "An engine that was built here runs here.", "NVIDIA's documentation", "1 + 1", _nowhere, _ALL, _TRT),
        Probe("event-timing", "CUDA's events split a call, and their parts fit into it.", "NVIDIA's documentation",
              "two calls with events", _nowhere, ("latency",), _TRT, ("h2d", "compute", "d2h", "wait")),
        Probe("precision-inspectable", "The inspector tells the precision that a layer really has.", "NVIDIA's documentation",
              "an fp32 engine", _nowhere),
        Probe("budget-refuses", "TensorRT asks our allocator, so that a budget refuses before the system has to.",
              "the Python bindings' documentation", "a budget of one byte", _nowhere, ("memory", "takeoff"), _TRT),
    ),
    "onnxruntime": (
        Probe("ort-trt-options", "The TensorRT provider knows every option that we set.", "the strings of ten releases",
              "a session with them", _nowhere, _ALL, _ORT),
        Probe("ort-no-silent-fallback", "A provider that does not load raises, or get_providers leaves it out.",
              "measured on a host without a GPU", "each compiled provider alone", _nowhere, _ALL, _ORT),
        Probe("ort-placement", "The profile names the provider of each node.", "measured", "a profile of one node", _nowhere,
              ("parity", "latency"), _ORT),
    ),
    "cuda": (
        Probe("sm-of-tegra", "The SoC decides the compute capability, by a table.", "jetson-stats' table",
              "the device's own answer", _nowhere, _ALL, _TRT),
        Probe("integrated-of-tegra", "A Jetson's GPU shares the processor's memory, and no other GPU does.",
              "NVIDIA's note on CUDA for Tegra", "the device's own answer", _nowhere, ("memory", "takeoff")),
        Probe("oom-by-pytorch", "Memory that PyTorch cannot get is told in one of three known forms.", "public reports",
              "four times all memory is asked for", _nowhere, ("memory", "takeoff"), ("pytorch_fp16",)),
        Probe("cuda-free-includes-cache", "On a Jetson CUDA's free memory falls with the page cache, and MemAvailable does not.",
              "public reports", "a file of 256 MiB", _nowhere, ("memory", "takeoff")),
    ),
    "nvml": (
        Probe("energy-counter", "NVML's energy counter is in millijoules and goes on.", "NVIDIA's documentation of NVML",
              "held against the power for a second", _nowhere, (), (), ("energy", "mean_power")),
        Probe("nvml-processes", "NVML lists the processes on the GPU.", "NVIDIA's documentation of NVML", "asked", _nowhere),
    ),
    "jtop": (
        Probe("jtop-units", "jtop's clocks are in kHz, and its sensors that are off say -256.", "jetson-stats' source",
              "held against devfreq", _nowhere, (), (), ("gpu_clock",)),
    ),
}  # fmt: skip


if __name__ == "__main__":
    _told = os.dup(1)
    os.dup2(2, 1)  # providers print as they load: only our own words are for standard output

    def _say(line: str) -> None:
        os.write(_told, f"{line}\n".encode())

    sys.exit(main(sys.argv[1:], say=_say))
