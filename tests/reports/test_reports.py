from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import reports
from harness.records import RecordError

pytestmark = pytest.mark.covers("RE-01")


def test_every_file_of_the_layout_is_written_and_named(small: Path) -> None:
    paths = reports.write_reports(small)
    names = {str(path.relative_to(small)) for path in paths}
    assert names >= {
        "report.html",
        "report.md",
        "junit.xml",
        "tables/verdicts.csv",
        "tables/latency.csv",
        "tables/parity.csv",
    }
    assert all(path.is_file() for path in paths)
    assert not list(small.rglob("*.tmp"))
    assert list(pd.read_csv(small / "tables" / "verdicts.csv")["case"]) == [
        case.id for case in reports.load(small).run.planned
    ]


def test_drawn_again_it_is_the_same_to_the_byte(small: Path) -> None:
    first = {path: path.read_bytes() for path in reports.write_reports(small)}
    assert {path: path.read_bytes() for path in reports.write_reports(small)} == first


def test_a_file_that_cannot_be_put_in_place_leaves_no_half_of_it(small: Path) -> None:
    (small / "report.md").mkdir()
    with pytest.raises(OSError, match=r"report\.md"):
        reports.write_reports(small)
    assert not list(small.rglob("*.tmp"))
    assert (small / "report.md").is_dir()


def test_a_folder_that_is_no_run_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        reports.write_reports(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_million_samples_make_the_page_no_larger(small: Path, builder: ModuleType) -> None:
    name = "samples/disk-onnx_trt_ep-fp16-b1-latency.parquet"
    before = next(path for path in reports.write_reports(small) if path.name == "report.html").stat().st_size
    latency_ns = (np.random.default_rng(0).lognormal(0, 0.1, 1_000_000) * 61e6).astype(np.int64)
    builder.write_samples(small, name, latency_ns)
    reports.write_reports(small)
    assert (small / "report.html").stat().st_size < before + 5_000


def test_the_package_sees_the_records_and_the_run_folder_and_nothing_else() -> None:
    for source in Path(reports.__file__).parent.glob("*.py"):
        text = source.read_text()
        imported = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
        assert not {
            name for name in imported if name.split(".")[0] in ("runtime", "tiers", "fixtures", "torch", "onnx")
        }, source
        assert all(name.startswith("harness.records") for name in imported if name.startswith("harness")), source
