"""``python -m runtime.strategies.trt compile``: what it takes, prints and returns."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="onnx: not installed")

import numpy as np

from runtime.data import EngineCacheEntry
from runtime.gate import EngineGate
from runtime.platform import detect_host
from runtime.strategies.trt_command import main
from tests.runtime.strategies.trt_bench import FLOAT, model, node, save, value

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def convolution(tmp_path: Path) -> Path:
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    proto = model(
        [node("Conv", ["x", "w"], ["c"], pads=[1] * 4), node("Relu", ["c"], ["y"])],
        [value("x", FLOAT, [1, 3, 16, 16])],
        [value("y", FLOAT, [1, 8, 16, 16])],
        ("w", weights),
    )
    return save(proto, tmp_path / "conv.onnx")


def written(folder: Path, content: Any) -> str:
    path = folder / "build.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.mark.covers("TT-08")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"precison": "fp16"}, "has the unknown key 'precison'; known are precision, workspace_mb"),
        ({"precision": "fp8"}, "precision is 'fp8'; expected one of fp32, fp16, int8, mixed"),
        ({"precision": "int8"}, "int8 needs a calibration_dataset"),
        ({"workspace_mb": "much"}, "workspace_mb is 'much'"),
        ({"precision": ["fp16"]}, "precision is \\['fp16'\\]"),
        ({"optimization_profiles": {"x": 1}}, "expected a list"),
        ({"optimization_profiles": [{"input": "x", "min": [1]}]}, "a profile is"),
        ({"optimization_profiles": [["x", [2], [1], [3]]]}, "each size must satisfy"),
        ("[1]", "is a JSON list; expected an object"),
        ("{", "is not JSON"),
        (None, "cannot be read"),
    ],
)
def test_a_configuration_that_is_wrong_is_exit_2_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, said: str
) -> None:
    path = str(tmp_path / "absent.json") if content is None else written(tmp_path, content)
    assert main(["compile", "m.onnx", path, "--out", str(tmp_path / "engines")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(said, captured.err)
    assert not (tmp_path / "engines").exists()


@pytest.mark.covers("TT-08")
@pytest.mark.parametrize("arguments", [["compile"], ["compile", "m.onnx", "b.json", "--sm", "8.9"], ["build"], []])
def test_a_call_that_is_wrong_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m runtime.strategies.trt" in capsys.readouterr().err


@pytest.mark.covers("TT-08", "LO-01")
def test_a_build_that_fails_is_exit_1_with_one_log_line_and_nothing_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, {"precision": "fp32"})
    assert main(["compile", str(tmp_path / "absent.onnx"), config, "--out", str(tmp_path / "engines")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    event = json.loads(captured.err.splitlines()[-1])
    assert (event["kind"], event["level"], event["backbone"]) == ("c7.build_failed", "ERROR", "absent")


@pytest.mark.covers("TT-08")
def test_help_shows_a_configuration_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compile", "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    example = told[told.index("  {") : told.index("  }\n") + 4]
    values = json.loads(re.sub(r"(?<=\S) {2,}[A-Za-z(].*$", "", example, flags=re.MULTILINE))
    assert set(values) == {"precision", "workspace_mb", "calibration_dataset", "optimization_profiles", "route"}
    assert main(["compile", str(tmp_path / "absent.onnx"), written(tmp_path, values), "--out", str(tmp_path)]) == 1


@pytest.mark.covers("TT-08", "TT-03")
def test_an_engine_is_compiled_for_a_named_gpu_and_its_entry_is_all_that_is_printed(
    tmp_path: Path, convolution: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx: not installed")
    config = written(tmp_path, {"precision": "fp16", "workspace_mb": 64})
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "runtime.strategies.trt", "compile", str(convolution), config),
            *("--sm", "89", "--out", str(tmp_path / "engines")),
        ],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    entry = EngineCacheEntry.from_json(done.stdout)
    assert len(done.stdout.splitlines()) == 1
    assert entry.engine_path.parent == tmp_path / "engines"
    verified = EngineGate(replace(detect_host(), sm="89")).validate(entry)
    assert (verified.manifest.sm, verified.manifest.precision) == ("89", "fp16")
