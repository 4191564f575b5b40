"""What the harness knows of its machine without importing a heavy library."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host import availability, board_state, environment
from runtime.config import BUILD_FLAGS
from runtime.platform import HostTuple

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.covers("FA-02", "T1-03")
@pytest.mark.parametrize("label", sorted(BUILD_FLAGS))
def test_a_flag_that_is_off_is_the_reason_whether_or_not_the_library_is_there(label: str) -> None:
    found = availability({BUILD_FLAGS[label]: "OFF"})[label]
    assert (found.can_try, found.reason, found.remedy) == (
        False, f"{label}: {BUILD_FLAGS[label]} is off", f"Set {BUILD_FLAGS[label]}=ON.",
    )  # fmt: skip


@pytest.mark.covers("T1-03", "RT-11")
def test_what_is_not_installed_is_told_shortly_with_its_remedy_and_nothing_heavy_is_imported() -> None:
    code = (
        "import json, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'onnxruntime', 'tensorrt', 'tensorrt_rtx'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from harness.host import availability, environment\n"
        "from runtime.platform import HostTuple\n"
        "environment(HostTuple('none', 'none', 'none'))\n"
        "heavy = sorted({'torch', 'onnxruntime', 'tensorrt', 'onnx', 'pandas', 'scipy'} & set(sys.modules))\n"
        "print(json.dumps([heavy, {k: [v.can_try, v.reason, v.remedy] for k, v in availability({}).items()}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    heavy, found = json.loads(done.stdout)
    assert heavy == []
    for label, extra in (("tensorrt", "trt"), ("onnx_trt_ep", "ort"), ("pytorch_fp16", "torch")):
        can_try, reason, remedy = found[label]
        assert (can_try, reason) == (False, f"{label}: not installed")
        assert extra in remedy


def test_the_environment_is_text_and_says_nothing_that_is_not_known() -> None:
    facts = environment(HostTuple("87", "6.2", "10.3.0.30", "36.4.3", "p3767-0000"))
    assert facts["module"] == "p3767-0000"
    assert facts["tensorrt_host"] == "10.3.0.30"
    assert facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert int(facts["memory_bytes"]) > 1 << 20
    assert all(isinstance(value, str) and value for value in facts.values())
    assert not [value for value in facts.values() if str(Path.home()) in value]


def test_the_state_of_the_machine_has_figures_or_nothing() -> None:
    state = board_state()
    assert state.load_1min is None or state.load_1min >= 0
    assert state.clock_mhz is None or state.clock_mhz > 0


@pytest.mark.covers("T1-03", "TT-03")
def test_a_tensorrt_without_a_gpu_cannot_run_and_says_what_it_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("raise ImportError('nobody imports it to ask')\n")
    monkeypatch.syspath_prepend(tmp_path)
    rtx = availability({}, HostTuple("none", "none", "rtx1.7.1.116"))["tensorrt"]
    assert (rtx.can_try, rtx.reason) == (
        False,
        "tensorrt: no GPU; TensorRT-RTX 1.7.1.116 builds engines here, and cannot run them",
    )
    assert availability({}, HostTuple("none", "none", "10.16.1.11"))["tensorrt"].reason == "tensorrt: no GPU"
    assert availability({}, HostTuple("87", "6.2", "10.3.0.30"))["tensorrt"].can_try
