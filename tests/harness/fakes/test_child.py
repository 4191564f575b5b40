"""The child process of a build on a simulated device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.fakes.child import main
from runtime.strategies.trt_job import BuildJob, BuildResult
from tests.harness.fakes.kit import convolution

pytest.importorskip("polygraphy", reason="polygraphy: not installed")

pytestmark = pytest.mark.covers("T0-02")

ROOT = Path(__file__).resolve().parents[3]


def run(folder: Path, *options: str, flavour: str = "10.3.0", sm: str = "87", precision: str = "fp16") -> Any:
    model = folder / "model.onnx"
    model.write_bytes(convolution().SerializeToString())
    out = folder / "out"
    out.mkdir()
    job = BuildJob(model, out, precision, 64, "polygraphy", sm)
    command = [sys.executable, "-m", "harness.fakes.child", flavour, sm, *options, "--"]
    return subprocess.run(command, cwd=ROOT, input=job.to_json() + "\n", capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("flavour", "sm"), [("10.3.0", "87"), ("10.13.3.9", "110")])
def test_a_build_in_a_process_of_its_own_leaves_its_result(flavour: str, sm: str, tmp_path: Path) -> None:
    done = run(tmp_path, flavour=flavour, sm=sm)
    assert done.returncode == 0, done.stderr
    result = BuildResult.from_json((tmp_path / "out/result.json").read_text(encoding="utf-8"))
    assert result is not None
    phases = {json.loads(line)["phase"] for line in done.stdout.splitlines()}
    assert "Timing graph nodes" in phases
    assert [path for path in (tmp_path / "out").iterdir() if path.stat().st_size > 500]


def test_a_fault_of_the_builder_is_a_failure_with_tensorrts_words(tmp_path: Path) -> None:
    done = run(tmp_path, "--fault", "tensorrt.Builder.build_serialized_network=INTERNAL_ERROR")
    assert done.returncode == 1
    told = json.loads((tmp_path / "out/failure.json").read_text(encoding="utf-8"))
    assert told["kind"] == "EngineBuildError"
    assert "INTERNAL_ERROR (injected)" in told["message"]


def test_a_device_with_too_little_memory_is_a_failure_too(tmp_path: Path) -> None:
    done = run(tmp_path, "--memory-mb", "0")
    assert done.returncode == 1
    assert (tmp_path / "out/failure.json").exists()


def test_a_flavour_that_there_is_no_fake_of_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there are 10\.3\.0"):
        main(["9.0", "87", "--"])


def test_arguments_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["10.3.0", "--", "87"])
    assert "usage: python -m harness.fakes.child" in capsys.readouterr().err
