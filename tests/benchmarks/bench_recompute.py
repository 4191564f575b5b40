"""What it costs to keep what a verdict about numerics is computed from, and to compute it again: beside hashing the files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import gates
from harness.numerics.parity import examine
from harness.numerics.raw import Numerics, keep, raw_arrays
from harness.records import Case, Measurement, Run, Tolerance
from harness.run_folder import RunFolder
from harness.signoff.recompute import recompute
from runtime.protocol import Array

ROWS, OUTPUTS, SAMPLES, SIZE = 30, 3, 4, 512_000
"""As many rows as a sign-off of six models has; of each, outputs of a dense model at a quarter of the flight's size."""

Outputs = list[dict[str, Array]]


@pytest.fixture(scope="module")
def sides() -> tuple[Outputs, Outputs]:
    chance = np.random.default_rng(5)
    reference = [{f"y{at}": chance.standard_normal(SIZE) for at in range(OUTPUTS)} for _ in range(SAMPLES)]
    return reference, [{name: (array * 1.0001).astype(np.float32) for name, array in one.items()} for one in reference]


@pytest.fixture(scope="module")
def run(sides: tuple[Outputs, Outputs], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("bench") / "run"
    kept, elements = keep(sides[1])
    tolerances = {f"y{at}": Tolerance(f"y{at}", "derived", 1e-3, 5e-4) for at in range(OUTPUTS)}
    numerics = Numerics("row-0", "parity", "fp32", "reference", examine(*sides), tolerances, kept=kept)
    verdicts = []
    with RunFolder(folder) as opened:
        for at in range(ROWS):
            case = Case(f"row-{at}", 1, "parity", "m", "onnx_trt_ep", "fp32", "fp32", "small")
            numerics = replace(numerics, row=case.id)
            name = opened.write_arrays(f"raw/{case.id}.npz", raw_arrays(numerics, elements), compress=False)
            verdicts.append(gates.judge_numerics(Measurement(case, raw_file=name), numerics))
        planned = tuple(verdict.case for verdict in verdicts)
        done = Run("id", "", "", True, 0, "", "", 0, {}, {"sm": "none"}, "", "", planned, tuple(verdicts), "0")
        opened.write_run(done)
    return folder, done


@pytest.mark.benchmark(group="recompute")
def test_recompute_numerics(benchmark: Any, run: tuple[Path, Run]) -> None:
    rows = benchmark.pedantic(lambda: recompute(*run), rounds=5, warmup_rounds=1)
    assert all(row.agrees for row in rows)
    assert len(rows) == ROWS


@pytest.mark.benchmark(group="recompute")
def test_hash_numerics(benchmark: Any, run: tuple[Path, Run]) -> None:
    folder, done = run
    names = ["run.json", *(verdict.summary.measurement.raw_file for verdict in done.verdicts)]
    benchmark.pedantic(
        lambda: [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names], rounds=5, warmup_rounds=1
    )


@pytest.mark.benchmark(group="recompute")
def test_keep_outputs(benchmark: Any, sides: tuple[Outputs, Outputs]) -> None:
    benchmark.pedantic(lambda: keep(sides[1]), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="recompute")
def test_examine_outputs(benchmark: Any, sides: tuple[Outputs, Outputs]) -> None:
    benchmark.pedantic(lambda: examine(*sides), rounds=3, warmup_rounds=1)
