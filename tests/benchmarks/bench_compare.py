"""What a comparison of two sign-off runs costs: 60 rows and 1.4 million requests each, beside reading their samples alone.

Run: python -m pytest tests/benchmarks/bench_compare.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from harness.compare import compare, compare_runs, write_comparison
from harness.compare.load import load_folder
from reports import compare_page
from tests.harness.compared_folders import a_signoff
from tests.harness.compared_runs import NEWER

MODELS = 12
REQUESTS = 120_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("signoff")
    return [
        a_signoff(root / "old", boot="b1", models=MODELS, requests=REQUESTS),
        a_signoff(root / "new", boot="n1", models=MODELS, requests=REQUESTS, environment=NEWER),
    ]


def whole(folders: Sequence[Path], out: Path) -> None:
    write_comparison(compare(folders[:1], folders[1:]), out)
    compare_page.write(out)


def samples_alone(folders: Sequence[Path]) -> int:
    files = [file for folder in folders for file in sorted((folder / "samples").iterdir())]
    return sum(int(pyarrow.parquet.read_table(file).num_rows) for file in files)


@pytest.mark.benchmark(group="compare")
def test_compare_two_signoffs(benchmark: Any, folders: list[Path], tmp_path: Path) -> None:
    benchmark.pedantic(lambda: whole(folders, tmp_path), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="compare")
def test_read_two_signoffs(benchmark: Any, folders: list[Path]) -> None:
    assert benchmark.pedantic(lambda: samples_alone(folders), rounds=3, warmup_rounds=1) == 2 * MODELS * REQUESTS


@pytest.mark.benchmark(group="compare")
def test_judge_runs_that_are_loaded(benchmark: Any, folders: list[Path]) -> None:
    old, new = (load_folder(folder) for folder in folders)
    benchmark.pedantic(lambda: compare_runs([old], [new]), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="compare")
def test_compare_ten_thousand_rows(benchmark: Any, tmp_path: Path) -> None:
    kinds = ("parity", "semantic")
    runs = [
        a_signoff(tmp_path / name, boot=name, models=5000, kinds=kinds, environment=facts)
        for name, facts in (("old", None), ("new", NEWER))
    ]
    benchmark.pedantic(lambda: whole(runs, tmp_path / "page"), rounds=1)
