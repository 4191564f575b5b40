"""What `trigate doctor` says of a host: boards as folders, libraries as interpreters that fail as the real ones do."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.doctor import Examination, examine

ORIN = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def board(root: Path, release: str = ORIN) -> Path:
    write(root / "proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0000\0nvidia,tegra234\0")
    write(root / "proc/device-tree/model", "NVIDIA Jetson Orin NX Engineering Reference Developer Kit")
    if release:
        write(root / "etc/nv_tegra_release", release + "\n")
    return root


def wrong(examination: Examination) -> dict[str, str]:
    return dict(examination.obstacles)


def interpreter(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_an_orin_is_recognised_from_its_files_alone(tmp_path: Path) -> None:
    found = examine(board(tmp_path), {})
    assert found.facts == {"sm": "87", "jetpack": "6.2", "trt": "none", "l4t": "36.4.3", "module": "p3767-0000"}
    assert found.trials == ()
    assert found.tiers["tier 2"] == "a board"
    assert "desktop" not in str(found.obstacles)
    assert "nv_tegra_release" not in str(found.obstacles)


def test_telemetry_is_asked_of_the_board_in_question_and_not_of_this_machine(tmp_path: Path) -> None:
    found = examine(board(tmp_path), {})
    assert found.telemetry.startswith("none: ")
    assert any("/sys" in mend for mend in wrong(found).values())
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    write(zone / "type", "cpu-thermal\n")
    write(zone / "temp", "51000\n")
    assert examine(tmp_path, {}).telemetry == "SysfsSource"


def test_a_python_that_jetpack_has_no_libraries_for_is_told_with_the_one_that_it_has(tmp_path: Path) -> None:
    found = examine(board(tmp_path, "# R35 (release), REVISION: 4.1"), {})
    said, mend = next(pair for pair in found.obstacles if pair[0].startswith("this is Python"))
    assert "JetPack 5.1.2 ships its libraries for Python 3.8 alone" in said
    assert mend.startswith("Start with: /usr/bin/python3 -m venv --system-site-packages")


def test_an_l4t_that_is_not_in_the_table_is_unknown_and_named(tmp_path: Path) -> None:
    found = examine(board(tmp_path, "# R40 (release), REVISION: 1.0"), {})
    assert found.facts["jetpack"] == "unknown"
    assert "L4T 40.1.0 is not in our table, so its JetPack is unknown" in wrong(found)


def test_a_board_without_any_release_is_told_where_to_look(tmp_path: Path) -> None:
    found = wrong(examine(board(tmp_path, release=""), {}))
    assert "no L4T release is found, so the JetPack is unknown" in found
    assert not [said for said in found if "not in our table" in said]


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_a_container_that_hides_the_release_file_is_told_how_to_mount_it(tmp_path: Path, mark: str) -> None:
    write(board(tmp_path, release="") / mark, "")
    found = wrong(examine(tmp_path, {}))
    assert "-v /etc/nv_tegra_release" in found["the container does not show /etc/nv_tegra_release"]
    assert "no L4T release is found, so the JetPack is unknown" not in found
    write(tmp_path / "etc/nv_tegra_release", ORIN)
    assert "the container does not show /etc/nv_tegra_release" not in wrong(examine(tmp_path, {}))


@pytest.mark.parametrize(
    ("path", "text"),
    [("proc/812/comm", "gdm3\n"), ("proc/90/comm", "Xorg\n"), ("proc/5/comm", "lightdm\n"), ("tmp/.X11-unix/X0", "")],
)
def test_a_running_desktop_is_in_the_way_of_a_board(tmp_path: Path, path: str, text: str) -> None:
    write(board(tmp_path / "board") / path, text)
    found = wrong(examine(tmp_path / "board", {}))
    assert found["a desktop is running: it takes GPU time and memory"] == "sudo systemctl isolate multi-user.target"
    write(tmp_path / "workstation" / path, text)
    assert "desktop" not in str(wrong(examine(tmp_path / "workstation", {})))


def test_other_processes_are_no_desktop(tmp_path: Path) -> None:
    write(board(tmp_path) / "proc/1/comm", "systemd\n")
    write(tmp_path / "proc/acpi/comm", "gdm3\n")
    (tmp_path / "tmp/.X11-unix").mkdir(parents=True)
    assert "desktop" not in str(wrong(examine(tmp_path, {})))


def test_an_empty_file_system_is_a_host_without_anything(tmp_path: Path) -> None:
    found = examine(tmp_path, {})
    assert found.facts["jetpack"] == "none"
    assert found.obstacles == ()
    assert found.to_text().splitlines()[-1] == "Nothing stands in the way."
    assert found.tiers["tier 1"] == "nothing can run: install a runtime"


def test_what_is_told_as_text_and_as_json_is_the_same(tmp_path: Path) -> None:
    found = examine(board(tmp_path, release=""), {})
    text, data = found.to_text(), json.loads(json.dumps(found.to_json()))
    for obstacle in data["obstacles"]:
        assert obstacle["wrong"] in text
        assert obstacle["mend"] in text


@pytest.mark.covers("FA-02")
def test_a_runtime_whose_flag_is_off_is_not_tried() -> None:
    off = dict.fromkeys(("BUILD_TENSORRT_RUNTIME", "BUILD_ONNX_TRT_EP_RUNTIME", "BUILD_PYTORCH_FP16_RUNTIME"), "OFF")
    found = examine(Path("/"), off, python="not tried")
    assert {trial.said for trial in found.trials} == {
        "tensorrt: BUILD_TENSORRT_RUNTIME is off",
        "onnx_trt_ep: BUILD_ONNX_TRT_EP_RUNTIME is off",
        "pytorch_fp16: BUILD_PYTORCH_FP16_RUNTIME is off",
    }
    assert {(trial.said, trial.remedy) for trial in found.trials} <= set(found.obstacles)


def tried(label: str, python: str) -> Any:
    return next(trial for trial in examine(Path("/"), os.environ, python=python).trials if trial.runtime == label)


class TestTrials:
    """What a fresh interpreter says of a library that is installed here."""

    @pytest.fixture(autouse=True)
    def _with_onnxruntime(self) -> None:
        pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")

    @pytest.mark.parametrize(
        ("stderr", "says", "mends"),
        [
            (
                "Traceback (most recent call last):\\n  File x\\nImportError: libnvdla_compiler.so: cannot open",
                "its library cannot be used: ImportError: libnvdla_compiler.so: cannot open",
                "apt-get install nvidia-l4t-dla-compiler",
            ),
            ("ImportError: libcudnn.so.9: cannot open", "libcudnn.so.9", "install TensorRT, CUDA and cuDNN"),
            ("RuntimeError: no kernel image is available", "no kernel image", "no code for this GPU"),
            ("ValueError: else", "ValueError: else", "Read the error above"),
        ],
        ids=["dla", "cudnn", "kernel", "unknown"],
    )
    def test_a_broken_library_is_explained(self, tmp_path: Path, stderr: str, says: str, mends: str) -> None:
        trial = tried("onnx_trt_ep", interpreter(tmp_path / "python", f"printf '{stderr}\\n' >&2; exit 1"))
        assert not trial.works
        assert says in trial.said
        assert "Traceback" not in trial.said
        assert mends in trial.remedy

    def test_a_library_that_takes_the_process_down_is_told_by_its_signal(self, tmp_path: Path) -> None:
        trial = tried("onnx_trt_ep", interpreter(tmp_path / "python", "kill -SEGV $$"))
        assert (trial.works, trial.said) == (False, "its library cannot be used: it ended by signal 11")

    def test_a_python_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        trial = tried("onnx_trt_ep", str(tmp_path / "python"))
        assert (trial.works, trial.said) == (False, f"{tmp_path}/python cannot be started: No such file or directory")

    def test_only_a_provider_that_loads_is_said_to_load(self) -> None:
        import onnxruntime

        trial = tried("onnx_trt_ep", sys.executable)
        assert trial.works, trial.said
        version, _, words = trial.said.partition(", loads: ")
        assert version == onnxruntime.__version__
        loads, _, fails = words.partition("; compiled in, and does not load: ")
        assert "CPU" in loads.split()
        compiled_in = {name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()}
        assert {*loads.split(), *fails.split()} == compiled_in & {"Tensorrt", "CUDA", "CPU"}
        if not Path("/dev/nvidiactl").exists():
            assert loads == "CPU"
