"""What this host is, from files and package metadata alone: no import of, or call into, CUDA or TensorRT."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.names import EngineName

__all__ = ["JETPACK_OF_L4T", "HostTuple", "detect_host", "installed_version", "nvml_compute_capability"]

JETPACK_OF_L4T = {
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "35.6.3": "5.1.5",
    "35.6.4": "5.1.6",
    "36.2.0": "6.0",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.2": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.2.2": "7.0",
    "38.4.0": "7.1",
    "39.0.0": "7.2",
    "39.2.0": "7.2",
}
"""From jetson-stats' ``jetson_variables.py``; 36.2 and 39.0 are the previews of 6.0 and 7.2. Others are "unknown"."""

_SM_OF_TEGRA = {"tegra194": "72", "tegra234": "87", "tegra264": "110"}
_TENSORRT = ("tensorrt", "tensorrt_cu13", "tensorrt_cu12", "tensorrt_cu13_bindings", "tensorrt_cu12_bindings")
_TENSORRT_RTX = tuple(name.replace("tensorrt", "tensorrt_rtx", 1) for name in _TENSORRT)


@dataclass(frozen=True)
class HostTuple:
    """What an engine must have been built for to run here.

    ``sm``: compute capability (``"87"``) or ``"none"``. ``jetpack``: ``"6.2"``; ``"none"``: no Jetson; ``"unknown"``:
    a Jetson whose L4T is not in our table. ``trt``: as exact as it is known (``"10.3.0.30"``, ``"rtx1.7.1.116"``) or
    ``"none"``. ``l4t``: ``"36.4.3"``, and ``module``: ``"p3767-0000"``; both ``"none"`` or ``"unknown"`` like JetPack.
    """

    sm: str
    jetpack: str
    trt: str
    l4t: str = "none"
    module: str = "none"

    def engine_name(self, model: str, precision: str) -> EngineName:
        """The name of an engine that is built here. Raises ``EngineSchemaMismatchError``."""
        return EngineName(model, self.sm, self.jetpack, ".".join(self.trt.split(".")[:2]), precision)


def detect_host(
    root: Path = Path("/"),
    *,
    compute_capability: Callable[[], str | None] | None = None,
    installed: Callable[[str], str | None] | None = None,
) -> HostTuple:
    """Read the host's tuple off the file system under ``root``; never raises for what is missing or malformed.

    ``compute_capability`` answers for a discrete GPU, ``installed`` with the version of a Python distribution. By
    default both ask this machine, and nobody where ``root`` is another file system.
    """
    is_here = root == Path("/")
    compute_capability = compute_capability or (nvml_compute_capability if is_here else _nothing)
    installed = installed or (installed_version if is_here else _nothing)
    packages = _read(root / "var/lib/dpkg/status")
    compatible = _read(root / "proc/device-tree/compatible").replace("\0", " ")
    release = _read(root / "etc/nv_tegra_release")
    trt = _tensorrt(packages, installed)
    tegra = re.search(r"nvidia,(tegra\d+)", compatible)
    if not tegra and not release.startswith("# R"):
        return HostTuple(compute_capability() or "none", "none", trt)
    l4t = _l4t(release, packages)
    module = re.search(r"\+(p\d{4}-\d{4})", compatible) or re.search(r"nvidia,(p\d{4}-\d{4})", compatible)
    sm = _SM_OF_TEGRA.get(tegra[1]) if tegra else None
    return HostTuple(
        sm or compute_capability() or "none",
        JETPACK_OF_L4T.get(l4t, "unknown"),
        trt,
        l4t,
        module[1] if module else "unknown",
    )


def installed_version(distribution: str) -> str | None:
    """The version of an installed Python distribution, without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def nvml_compute_capability() -> str | None:
    """The compute capability of NVML's first GPU, ``"90"``, or ``None`` without a driver. No CUDA context is made."""
    import ctypes

    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        if nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) != 0:
            return None
        if nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor)) != 0:
            return None
        return f"{major.value}{minor.value}"
    finally:
        nvml.nvmlShutdown()


def _nothing(_name: str = "") -> None:
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _l4t(release: str, packages: str) -> str:
    """L4T as three numbers; the release file is often missing in a container, where the package may be there."""
    match = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", release)
    text = f"{match[1]}.{match[2]}" if match else _package(packages, "nvidia-l4t-core").partition("-")[0]
    numbers = re.findall(r"\d+", text)[:3]
    return ".".join([*numbers, "0", "0"][:3]) if numbers else "unknown"


def _tensorrt(packages: str, installed: Callable[[str], str | None]) -> str:
    """The TensorRT that Python would import, else the system's library, else TensorRT-RTX."""
    for name in _TENSORRT:
        if found := _version(installed(name)):
            return found
    if found := _version(_package(packages, r"libnvinfer\d+")):
        return found
    for name in _TENSORRT_RTX:
        if found := _version(installed(name)):
            return f"rtx{found}"
    return "none"


def _version(text: str | None) -> str | None:
    match = re.match(r"(\d+(?:\.\d+){1,3})", text or "")
    return match[1] if match else None


def _package(packages: str, pattern: str) -> str:
    """The version of an installed Debian package, or an empty text."""
    for stanza in re.finditer(rf"^Package: {pattern}\n(?:.+\n)*", packages, re.MULTILINE):
        version = re.search(r"^Version: (.+)$", stanza[0], re.MULTILINE)
        if version and re.search(r"^Status: \w+ ok installed$", stanza[0], re.MULTILINE):
            return version[1]
    return ""
