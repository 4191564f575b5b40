"""The host's tuple, read from recorded file systems of boards, containers and workstations."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runtime.platform import JETPACK_OF_L4T, HostTuple, detect_host

ORIN_NX = "nvidia,p3768-0000+p3767-0000-super\0nvidia,p3767-0000\0nvidia,tegra234\0"
THOR = "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0"
RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8\n"


def package(name: str, version: str, status: str = "install ok installed") -> str:
    return f"Package: {name}\nStatus: {status}\nArchitecture: arm64\nVersion: {version}\nDescription: x\n more\n\n"


def host(root: Path, *, compatible: str = "", release: str = "", packages: str = "") -> Path:
    files = {
        "proc/device-tree/compatible": compatible,
        "etc/nv_tegra_release": release,
        "var/lib/dpkg/status": packages,
    }
    for name, text in files.items():
        if text:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


@pytest.mark.covers("TR-03")
def test_an_orin_with_jetpack_6_2_is_recognised(tmp_path: Path) -> None:
    packages = package("libc6", "2.35") + package("libnvinfer10", "10.3.0.30-1+cuda12.5")
    root = host(tmp_path, compatible=ORIN_NX, release=RELEASE, packages=packages)
    assert detect_host(root) == HostTuple("87", "6.2", "10.3.0.30", "36.4.3", "p3767-0000")


@pytest.mark.covers("TR-03")
def test_a_container_without_the_release_file_is_known_by_its_packages(tmp_path: Path) -> None:
    packages = package("nvidia-l4t-core", "38.4.0-20251010120000") + package("libnvinfer10", "10.13.3.9-1+cuda13.0")
    root = host(tmp_path, compatible=THOR, packages=packages)
    assert detect_host(root) == HostTuple("110", "7.1", "10.13.3.9", "38.4.0", "p3834-0008")


@pytest.mark.covers("TR-03")
def test_a_jetson_with_an_l4t_that_is_not_in_the_table_has_an_unknown_jetpack(tmp_path: Path) -> None:
    root = host(tmp_path, compatible=ORIN_NX, release=RELEASE.replace("R36", "R41").replace("4.3", "1.0"))
    assert detect_host(root) == HostTuple("87", "unknown", "none", "41.1.0", "p3767-0000")
    bare = detect_host(host(tmp_path / "bare", compatible="vendor,board\0nvidia,tegra999"))
    assert bare == HostTuple("none", "unknown", "none", "unknown", "unknown")


@pytest.mark.covers("TR-03")
def test_a_workstation_asks_for_its_gpu_and_has_no_jetpack(tmp_path: Path) -> None:
    assert detect_host(tmp_path) == HostTuple("none", "none", "none")
    found = detect_host(tmp_path, compute_capability=lambda: "89", installed={"tensorrt_rtx": "1.7.1.116"}.get)
    assert found == HostTuple("89", "none", "rtx1.7.1.116")


@pytest.mark.covers("TR-03")
def test_the_tensorrt_that_python_imports_comes_before_the_systems_and_before_rtx(tmp_path: Path) -> None:
    removed = package("libnvinfer8", "8.6.1", "deinstall ok config-files")
    root = host(tmp_path, packages=removed + package("libnvinfer10", "10.16.2.10-1+cuda13.2"))
    both = {"tensorrt_rtx_cu12": "1.7.1.116", "tensorrt_cu12_bindings": "10.14.1.48.post1"}
    assert detect_host(root, installed=both.get).trt == "10.14.1.48"
    assert detect_host(root, installed={"tensorrt_rtx_cu12": "1.7.1.116"}.get).trt == "10.16.2.10"


@pytest.mark.covers("TR-01")
def test_an_engine_built_here_is_named_with_the_short_version() -> None:
    name = HostTuple("87", "6.2", "10.3.0.30", "36.4.3", "p3767-0000").engine_name("disk", "fp16")
    assert name.format() == "disk__sm87_jp6.2_trt10.3_fp16.engine"
    assert HostTuple("89", "none", "rtx1.7.1.116").engine_name("disk", "fp16").trt == "rtx1.7"


@pytest.mark.covers("RT-11")
def test_detecting_this_host_imports_no_heavy_library() -> None:
    before = set(sys.modules)
    detected = detect_host()
    assert detected.sm == "none" or detected.sm.isdigit()
    assert not {"tensorrt", "cuda", "torch", "onnxruntime"} & {name.split(".")[0] for name in set(sys.modules) - before}


@pytest.mark.covers("TR-03")
def test_garbage_in_every_file_is_no_crash(tmp_path: Path) -> None:
    root = host(tmp_path, compatible="nvidia,tegra234", release="# R", packages="Package: libnvinfer10\nStatus")
    (root / "etc/nv_tegra_release").write_bytes(b"# R\xff\xfe")
    assert detect_host(root) == HostTuple("87", "unknown", "none", "unknown", "unknown")


@pytest.mark.covers("TR-03")
def test_the_table_holds_the_flights_board() -> None:
    assert JETPACK_OF_L4T["36.4.3"] == "6.2"
    assert all(len(l4t.split(".")) == 3 for l4t in JETPACK_OF_L4T)
