"""What a page of a large run costs: 60 rows with ten million samples, and ten thousand rows, in a process of their own.

Beside pandas, which reads the same samples whole and takes three quantiles of each row: less cannot be done to draw them.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.records import to_json
from tests.reports.big_run import big_run

MOST_BYTES = 2**30
MOST_PAGE_BYTES = 3_000_000
HERE = Path(__file__).resolve().parents[2]
DRAW = "import sys, pathlib, reports; reports.write_reports(pathlib.Path(sys.argv[1]))"
READ = """
import pathlib, sys, pandas
for path in sorted((pathlib.Path(sys.argv[1]) / "samples").iterdir()):
    samples = pandas.read_parquet(path)
    (samples["done_ns"] - samples["started_ns"]).quantile([0.5, 0.95, 0.99])
"""


def in_a_process(code: str, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=True, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)}
    )


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "sampled"
    run = big_run(folder, rows=60, samples=10_000_000)
    (folder / "run.json").write_text(json.dumps(to_json(run)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    run = big_run(folder, rows=10_000, samples=4_000_000, stored=False)
    (folder / "run.json").write_text(json.dumps(to_json(run)), encoding="utf-8")
    return folder


@pytest.mark.benchmark(group="report")
def test_report_ten_million(benchmark: Any, sampled: Path) -> None:
    benchmark.pedantic(in_a_process, args=(DRAW, sampled), rounds=3)
    assert (sampled / "report.html").stat().st_size < MOST_PAGE_BYTES
    assert most_bytes() < MOST_BYTES


@pytest.mark.benchmark(group="report")
def test_read_ten_million(benchmark: Any, sampled: Path) -> None:
    benchmark.pedantic(in_a_process, args=(READ, sampled), rounds=3)


@pytest.mark.benchmark(group="report")
def test_report_ten_thousand_rows(benchmark: Any, many: Path) -> None:
    benchmark.pedantic(in_a_process, args=(DRAW, many), rounds=3)
    assert (many / "report.html").stat().st_size < MOST_PAGE_BYTES
    assert most_bytes() < MOST_BYTES


def most_bytes() -> int:
    """The most that any process took which this one started."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
