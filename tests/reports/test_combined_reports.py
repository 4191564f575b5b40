"""Files of several run folders, each read from the folder of its own run and from nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import reports
from harness.records import Run
from reports import combine, junit
from reports.run_folder import read_run

pytestmark = pytest.mark.covers("RE-01", "RE-03")


@pytest.fixture(scope="module")
def folders(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tmp_path = tmp_path_factory.mktemp("together")
    found = {"cloud": tmp_path / "a" / "cloud", "board": tmp_path / "board"}
    builder.full_run(found["cloud"])
    builder.tier2_run(found["board"])
    return found


def together(folders: dict[str, Path]) -> tuple[Run, dict[str, Run], dict[str, str]]:
    parts = {label: read_run(folder) for label, folder in folders.items()}
    verdicts = tuple(verdict for run in parts.values() for verdict in run.verdicts)
    rows = {verdict.case.id: label for label, run in parts.items() for verdict in run.verdicts}
    whole = replace(parts["cloud"], verdicts=verdicts, planned=tuple(verdict.case for verdict in verdicts))
    return whole, parts, rows


def test_samples_plots_and_errors_are_those_of_the_run_that_a_row_is_from(folders: dict[str, Path]) -> None:
    whole, parts, rows = together(folders)
    report = reports.load_together(whole, parts, folders, rows)
    assert report.folder == folders["board"].parent
    assert len(report.samples("disk-onnx_trt_ep-fp16-b1-latency")) == 410
    assert "launch" in report.samples("lightglue-tensorrt-fp16-b1-latency")
    page = reports.texts(report, ["html"])["report.html"]
    alone = reports.texts(reports.load(folders["cloud"]), ["html"])["report.html"]
    assert page.count("<svg") > alone.count("<svg") > 0


def test_a_name_that_leads_out_of_its_run_folder_is_not_followed_into_another(folders: dict[str, Path]) -> None:
    whole, _, rows = together(folders)
    secret = "../board/samples/lightglue-tensorrt-fp16-b1-latency.parquet"
    row = whole.verdicts[0]

    def named(name: str) -> Any:
        measurement = replace(row.summary.measurement, samples_file=name)
        run = replace(whole, verdicts=(replace(row, summary=replace(row.summary, measurement=measurement)),))
        return combine.anchored(run, folders, rows)[1].verdicts[0].summary.measurement.samples_file

    assert named("samples/x.parquet") == "a/cloud/samples/x.parquet"
    for name in (f"../{secret}", "/etc/passwd", "a\0b"):
        assert named(name) == ""


def test_combined_json_names_the_very_record_that_was_drawn(folders: dict[str, Path]) -> None:
    import hashlib

    whole, parts, rows = together(folders)
    told = json.loads(combine.to_json(whole, parts, folders, rows))
    assert told["schema"] == combine.SCHEMA
    for run in told["runs"]:
        assert run["run_json_sha256"] == hashlib.sha256((folders[run["label"]] / "run.json").read_bytes()).hexdigest()
    assert sum(run["rows"] for run in told["runs"]) == len(told["rows"]) == len(whole.verdicts)


def test_a_report_of_one_run_takes_away_what_told_of_several_in_its_folder(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    whole, parts, rows = together(folders)
    reports.write(reports.load_together(whole, parts, folders, rows), tmp_path, ["md"])
    assert (tmp_path / "combined.json").exists()
    reports.write(reports.load(folders["board"]), tmp_path, ["md"])
    assert {path.name for path in tmp_path.iterdir()} == {"report.md"}


def test_junit_has_a_suite_per_run_tier_and_model_with_the_command_of_its_own_run(folders: dict[str, Path]) -> None:
    from xml.etree import ElementTree as ET

    whole, parts, rows = together(folders)
    root = ET.fromstring(junit.render(whole, parts, rows))
    commands = {
        str(suite.get("name")).partition(".")[0]: suite.find("properties/property[@name='command']") for suite in root
    }
    assert {label: str(found.get("value")) for label, found in commands.items() if found is not None} == {
        label: run.command for label, run in parts.items()
    }
    assert len(list(root.iter("testcase"))) == len(whole.verdicts)


def test_the_page_and_the_comment_tell_each_run_with_what_it_was_by_itself_and_where(folders: dict[str, Path]) -> None:
    whole, parts, rows = together(folders)
    made = reports.texts(reports.load_together(whole, parts, folders, rows), ["html", "md"])
    table = (
        made["report.html"]
        .partition("<caption>The runs that were drawn together</caption>")[2]
        .partition("</table>")[0]
    )
    for label, counts in (
        ("cloud", "FAIL 1, INCONCLUSIVE 1, NOT RUN 18"),
        ("board", "FAIL 2, INCONCLUSIVE 1, MEASURED 3"),
    ):
        assert f"<bdi>{label}</bdi>" in table
        assert counts in table
        assert f"| {label} | FAIL (1) | {counts}" in made["report.md"]
    assert (
        "The runs that were drawn together"
        not in reports.texts(reports.load(folders["cloud"]), ["html"])["report.html"]
    )


def test_doubts_about_a_run_are_told_with_its_label(folders: dict[str, Path]) -> None:
    whole, parts, rows = together(folders)
    parts["board"] = replace(parts["board"], exit_code=0)
    made = reports.texts(reports.load_together(whole, parts, folders, rows), ["md", "html"])
    assert "**Doubt:** board: run.json has exit code 0, and 2 of its rows FAIL" in made["report.md"]
    assert "board: run.json has exit code 0, and 2 of its rows FAIL" in made["report.html"].partition("<main")[0]
