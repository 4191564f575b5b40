from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from runtime.config import BUILD_FLAGS, RuntimeConfig
from runtime.errors import ConfigError, RuntimeNotAvailableError
from runtime.factory import STRATEGIES, build_inference_runtime
from runtime.libraries import LIBRARIES, unavailable
from runtime.logs import Record
from runtime.protocol import LABELS

ROOT = Path(__file__).parents[2]
HAS_TORCH = find_spec("torch") is not None
HAS_TENSORRT = any(find_spec(name) for name in LIBRARIES["tensorrt"].modules)


def build_in_a_child(label: str, preparation: str) -> str:
    """What building says in a process that was prepared; the library may be loaded in this one."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
{preparation}
from runtime import RuntimeConfig, RuntimeNotAvailableError, build_inference_runtime
try:
    build_inference_runtime(RuntimeConfig(runtime={label!r}, device="cpu"), environ={{}})
    print("built", {label!r})
except RuntimeNotAvailableError as error:
    print(error, "<-", repr(error.__cause__))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def without(*modules: str) -> str:
    return f"""
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.covers("FA-01", "RT-02")
def test_every_label_has_its_place_in_the_table_and_a_library() -> None:
    assert tuple(STRATEGIES) == tuple(LIBRARIES) == LABELS


@pytest.mark.covers("FA-02")
@pytest.mark.parametrize("label", LABELS)
def test_a_strategy_whose_flag_is_off_is_refused_by_the_flags_name(label: str) -> None:
    flag = BUILD_FLAGS[label]
    with pytest.raises(RuntimeNotAvailableError, match=f"{flag} is OFF. Set {flag}=ON"):
        build_inference_runtime(RuntimeConfig(runtime=label), environ={flag: "OFF"})
    with pytest.raises(ConfigError, match=flag):
        build_inference_runtime(RuntimeConfig(runtime=label), environ={flag: "perhaps"})


@pytest.mark.covers("FA-02", "FA-05")
@pytest.mark.parametrize("label", LABELS)
def test_a_missing_library_is_named_with_its_import_error_and_reads_unlike_a_flag(label: str) -> None:
    library = LIBRARIES[label]
    said = build_in_a_child(label, without(*library.modules))
    message, _, cause = said.partition("<-")
    assert library.modules[0] in message
    assert f"ModuleNotFoundError: No module named '{library.modules[0]}'" in message
    assert "ModuleNotFoundError" in cause
    assert "BUILD_" not in said
    assert "trigate[" in said or "aarch64" in said


@pytest.mark.covers("FA-02", "RT-11")
def test_a_library_that_is_there_and_cannot_be_imported_is_refused_with_its_error_in_full(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')"
    )
    said = build_in_a_child("pytorch_fp16", f"sys.path.insert(0, {str(tmp_path)!r})")
    assert "ImportError: libcudart.so.12: cannot open shared object file" in said
    assert "needs the library torch" in said


@pytest.mark.covers("FA-02", "FA-06")
def test_the_way_to_install_is_pip_on_a_workstation_and_the_systems_own_on_aarch64() -> None:
    for label in LABELS:
        error = ModuleNotFoundError("No module named 'x'")
        there = unavailable(label, error, machine="x86_64")
        assert f"pip install 'trigate[{LIBRARIES[label].extra}]'" in there.remedy
        board = unavailable(label, error, machine="aarch64")
        assert "pip install" not in board.remedy
        assert "--system-site-packages" in board.remedy
        assert LIBRARIES[label].on_jetson in board.remedy


@pytest.mark.covers("FA-02", "RT-11")
def test_tensorrt_is_not_imported_before_there_is_an_engine_to_load(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise AssertionError('imported before an engine passed the engine check')")
    said = build_in_a_child("tensorrt", f"sys.path.insert(0, {str(tmp_path)!r})")
    assert said.startswith("built tensorrt")


@pytest.mark.covers("FA-05")
@pytest.mark.skipif(HAS_TENSORRT, reason="TensorRT is installed here")
def test_no_other_runtime_stands_in_for_the_one_that_was_configured() -> None:
    with pytest.raises(RuntimeNotAvailableError, match="runtime tensorrt"):
        build_inference_runtime(RuntimeConfig(runtime="tensorrt"), environ={})


@pytest.mark.covers("FA-01", "LO-01")
@pytest.mark.skipif(not HAS_TORCH, reason="torch: not installed")
def test_the_default_is_the_conservative_runtime_and_it_says_when_it_is_ready(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from runtime.architectures import ArchitectureRegistry

    records: list[Record] = []
    registry = ArchitectureRegistry()
    config = RuntimeConfig(device="cpu", intra_op_threads=1)
    runtime: Any = build_inference_runtime(
        config, architecture_registry=registry, clock=lambda: 5, on_record=records.append, environ={}
    )
    assert runtime.current_runtime_label() == "pytorch_fp16"
    assert runtime.thermal_state().measured_at_ns == 5
    captured = capsys.readouterr()
    ready = json.loads(captured.err.splitlines()[-1])
    assert (ready["kind"], ready["level"], ready["runtime"], ready["engines"]) == (
        "c7.ready",
        "INFO",
        "pytorch_fp16",
        [],
    )
    assert captured.out == ""
    assert records == []
