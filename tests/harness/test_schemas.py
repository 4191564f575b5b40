"""Runs of other versions: ``tests/data/run_schema1`` was measured by trigate before schema 2, and is as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.records import SCHEMA_VERSION

OLD = Path(__file__).parents[1] / "data" / "run_schema1"
LATENCY = "light_resnet50-onnx_trt_ep-fp32-b1-latency"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def changed(folder: Path, to: Path, **given: Any) -> Path:
    """The run under another name with other facts; its verdicts stay."""
    shutil.copytree(folder, to)
    value = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (to / "run.json").write_text(json.dumps({**value, **given}), encoding="utf-8")
    return to


@pytest.mark.covers("RE-01")
def test_a_run_of_schema_1_is_read_and_drawn_and_says_that_it_is_older(old: Path) -> None:
    import reports

    report = reports.load(old)
    assert report.run.schema == 1
    assert len(report.samples(LATENCY)) > 200
    paths = {path.name: path for path in reports.write_reports(old)}
    assert (
        f"The run has schema 1, of an older trigate (this one writes {SCHEMA_VERSION})"
        in paths["report.md"].read_text()
    )
    assert "light_resnet50" in paths["report.html"].read_text()
    assert list(report.tables["latency"]["case"]) == [LATENCY]


@pytest.mark.covers("RE-02")
def test_runs_of_schema_1_are_compared_among_themselves(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = changed(old, tmp_path / "again", id="another")
    assert main(["compare", "--base", str(old), "--new", str(again), "--out", str(tmp_path / "compared")]) == 3
    assert "MEASURE MORE" in capsys.readouterr().out


@pytest.mark.covers("RE-02")
def test_a_run_of_schema_1_is_not_compared_with_one_of_schema_2(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = changed(old, tmp_path / "new", id="another", schema=2)
    assert main(["compare", "--base", str(old), "--new", str(new), "--out", str(tmp_path / "compared")]) == 2
    assert "schema" in capsys.readouterr().err
    assert not (tmp_path / "compared").exists()


@pytest.mark.parametrize("command", [["report"], ["compare", "--new", str(OLD), "--base"]])
@pytest.mark.covers("RE-01", "RE-02")
def test_a_run_of_a_newer_schema_is_refused_with_the_version_that_is_needed(
    command: list[str], old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = changed(old, tmp_path / "new", schema=SCHEMA_VERSION + 1, trigate_version="9.1.0")
    assert main([*command, str(new)]) == 2
    told = capsys.readouterr().err
    assert f"has schema {SCHEMA_VERSION + 1}; this trigate reads up to {SCHEMA_VERSION}" in told
    assert "upgrade trigate to 9.1.0, which wrote it, or newer" in told


@pytest.mark.covers("RE-03")
def test_runs_of_two_schemas_are_drawn_together_and_it_is_said(old: Path, tmp_path: Path) -> None:
    value = json.loads((old / "run.json").read_text(encoding="utf-8"))
    rows = [row for row in value["verdicts"] if row["outcome"] == "NOT RUN"]
    new = changed(old, tmp_path / "new", id="another", schema=2, verdicts=rows)
    assert main(["report", str(old), str(new), "--format", "md", "--out", str(tmp_path / "both")]) == 0
    told = json.loads((tmp_path / "both" / "combined.json").read_text(encoding="utf-8"))
    assert "the runs are of several schemas: old: 1; new: 2" in told["notes"]
    assert told["rows"][LATENCY] == "old"
