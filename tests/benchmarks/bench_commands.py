"""Whole processes: imports, help, and a warm `trigate run` beside Polygraphy's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(sys.executable).parent


def _time(benchmark: Any, command: Sequence[str], rounds: int, **more: Any) -> None:
    def call() -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
        assert done.returncode == 0, done.stderr

    benchmark.pedantic(call, rounds=rounds, warmup_rounds=1)


@pytest.mark.benchmark(group="import")
@pytest.mark.parametrize("module", ["numpy", "runtime"])
def test_import(benchmark: Any, module: str) -> None:
    benchmark.name = f"import_{module}"
    _time(benchmark, [sys.executable, "-c", f"import {module}"], rounds=15)


@pytest.mark.benchmark(group="command")
def test_help(benchmark: Any) -> None:
    _time(benchmark, [str(SCRIPTS / "trigate"), "--help"], rounds=15)


@pytest.mark.benchmark(group="run")
def test_run_trigate(benchmark: Any, tmp_path: Path) -> None:
    numbers = iter(range(100))
    environ = {**os.environ, "TRIGATE_CACHE": str(tmp_path / "cache")}
    command = [str(SCRIPTS / "trigate"), "run", "--tier", "1", "--model", "light_squeezenet.onnx", "--quiet", "--out"]

    def call() -> None:
        done = subprocess.run(
            [*command, str(tmp_path / str(next(numbers)))], capture_output=True, text=True, check=False, env=environ
        )
        assert done.returncode == 0, done.stderr + done.stdout

    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="run")
def test_run_polygraphy(benchmark: Any) -> None:
    from fixtures.light import light_model

    path, _, _ = light_model("light_squeezenet")
    _time(benchmark, [str(SCRIPTS / "polygraphy"), "run", str(path), "--onnxrt"], rounds=3)
