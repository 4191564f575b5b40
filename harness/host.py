"""What this machine is and what it has, without importing a heavy library: for the run's environment and for planning."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.records import BoardState
from runtime.config import BUILD_FLAGS, is_built
from runtime.libraries import LIBRARIES, unavailable
from runtime.platform import HostTuple, detect_host
from runtime.thermal import ThermalStatePublisher

__all__ = ["Availability", "availability", "board_state", "environment", "is_there"]

_VERSIONS = (
    "trigate", "numpy", "torch", "onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx", "onnx", "cuda-bindings",
    "scipy", "pytest", "polygraphy", "kornia",
)  # fmt: skip


@dataclass(frozen=True)
class Availability:
    """Whether a runtime can be tried here; ``reason`` is short (``tensorrt: not installed``), ``remedy`` says how to mend it."""

    runtime: str
    can_try: bool
    reason: str = ""
    remedy: str = ""


def availability(environ: Mapping[str, str], host: HostTuple | None = None) -> dict[str, Availability]:
    """For each runtime: is its build flag on, is its library there, can it run on ``host`` (this one)? Imports nothing."""
    host = detect_host() if host is None else host
    found: dict[str, Availability] = {}
    for label, library in LIBRARIES.items():
        if not is_built(label, environ):
            flag = BUILD_FLAGS[label]
            found[label] = Availability(label, False, f"{label}: {flag} is off", f"Set {flag}=ON.")
        elif not any(is_there(module) for module in library.modules):
            error = unavailable(label, ModuleNotFoundError(f"No module named {library.modules[0]!r}"))
            found[label] = Availability(label, False, f"{label}: not installed", error.remedy)
        elif label == "tensorrt" and host.sm == "none":
            found[label] = Availability(
                label, False, _no_gpu(host), "Run on a host with an NVIDIA GPU, or on the board."
            )
        else:
            found[label] = Availability(label, True)
    return found


def _no_gpu(host: HostTuple) -> str:
    if host.trt.startswith("rtx"):
        return f"tensorrt: no GPU; TensorRT-RTX {host.trt.removeprefix('rtx')} builds engines here, and cannot run them"
    return "tensorrt: no GPU"


def is_there(module: str) -> bool:
    """Whether a library can be found; imports nothing."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # an import hook may refuse by raising
        return False


def environment(host: HostTuple) -> dict[str, str]:
    """Flat facts for ``run.json``, text to text. What cannot be known is left out."""
    facts = {
        "os": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpu_count": str(os.cpu_count() or ""),
        "memory_bytes": _memory_bytes(),
        "python": platform.python_version(),
        "python_executable": Path(sys.executable).name,
        "sm": host.sm,
        "jetpack": host.jetpack,
        "tensorrt_host": host.trt,
        "l4t": host.l4t,
        "module": host.module,
    }
    for name in _VERSIONS:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {key: value for key, value in facts.items() if value}


def _memory_bytes() -> str:
    try:
        import psutil
    except ImportError:  # in an installation that only lends its runtimes (harness.bump.against_child)
        return ""
    return str(psutil.virtual_memory().total)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def board_state(telemetry: ThermalStatePublisher | None = None) -> BoardState:
    """The state of this machine now, from what costs nothing to read. Without telemetry only the load is known."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if telemetry is None:
        return BoardState(load_1min=load)
    now = telemetry.read()
    if not now.is_telemetry_available:
        return BoardState(load_1min=load)
    return BoardState(
        cpu_temp_c=now.cpu_temp_c,
        gpu_temp_c=now.gpu_temp_c,
        clock_mhz=now.measured_clock_mhz,
        throttled=now.thermal_throttle_active,
        load_1min=load,
    )
