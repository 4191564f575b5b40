from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

import reports
from harness.records import Outcome, Run
from reports import tables

pytestmark = pytest.mark.covers("RE-01")

NAMES = {"verdicts", "checks", "parity", "pairs", "latency", "placement", "board"}
NAMES |= {"figures", "judgements", "launches"}
NAMES |= {"not_run", "task", "divergence", "coverage", "environment"}


@pytest.fixture(scope="module")
def report(full: Path) -> Any:
    return reports.load(full)


def test_every_table_is_a_dataframe_with_a_line_per_thing(report: Any) -> None:
    assert set(report.tables) == NAMES
    assert len(report.tables["verdicts"]) == len(report.run.planned)
    assert list(report.tables["verdicts"]["case"]) == [case.id for case in report.run.planned]


def test_a_run_without_rows_has_every_table_with_its_columns(report: Any) -> None:
    empty = replace(report.run, planned=(), verdicts=())
    made = tables.make(empty)
    assert set(made) == NAMES
    for name, frame in made.items():
        assert list(frame.columns) == list(report.tables[name].columns)


@pytest.mark.covers("T1-03")
def test_what_did_not_run_is_a_row_with_its_reason_in_every_table_it_belongs_to(report: Any) -> None:
    missing = [row for row in report.run.verdicts if row.outcome is Outcome.NOT_RUN]
    frame = report.tables["not_run"]
    assert list(frame["case"]) == [row.case.id for row in missing]
    assert set(frame["reason"]) == {"tensorrt: not installed"}
    pairs = report.tables["pairs"]
    assert (pairs[pairs["runtime"] == "tensorrt"]["outcome"] == "NOT RUN").all()


def test_parity_figures_and_tolerances_are_those_of_the_record(report: Any) -> None:
    verdict = next(row for row in report.run.verdicts if row.outcome is Outcome.FAIL)
    frame = report.tables["parity"]
    lines = frame[frame["case"] == verdict.case.id]
    assert list(lines["output"]) == [figures.output for figures in verdict.summary.parity]
    assert list(lines["rel_l2_max"]) == [figures.rel_l2_max for figures in verdict.summary.parity]
    assert set(lines["tolerance_source"]) == {"derived"}
    assert list(lines["output_outcome"]) == ["FAIL"] * len(lines)


def test_the_share_of_a_tolerance_is_the_larger_of_worst_and_median(builder: ModuleType) -> None:
    figures = builder.parity_of("x", 1.0, 4.0)
    tolerance = replace(figures.tolerance, rel_l2_median=0.5)
    assert tables.share_of_tolerance(figures) == 0.25
    assert tables.share_of_tolerance(replace(figures, tolerance=tolerance)) == pytest.approx(0.9)
    assert tables.share_of_tolerance(replace(figures, tolerance=None)) is None
    nothing = replace(tolerance, rel_l2_max=0.0, rel_l2_median=None)
    assert tables.share_of_tolerance(replace(figures, tolerance=nothing)) == math.inf


@pytest.mark.covers("PT-01")
def test_a_pair_stands_beside_what_each_of_the_two_is_from_the_reference(report: Any) -> None:
    frame = report.tables["pairs"]
    line = frame[(frame["case"] == "disk-onnx_trt_ep-fp32-b1-vs-pytorch_fp16") & (frame["output"] == "keypoints")].iloc[
        0
    ]
    parity = report.tables["parity"].set_index(["case", "output"])["rel_l2_max"]
    assert line["runtime_from_reference"] == parity["disk-onnx_trt_ep-fp32-b1", "keypoints"]
    assert line["against_from_reference"] == parity["disk-pytorch_fp16-fp32-b1", "keypoints"]


def test_latency_is_in_milliseconds_with_intervals_and_a_missing_bound_is_nan(report: Any) -> None:
    row = next(row for row in report.run.verdicts if row.summary.latency)
    line = report.tables["latency"].set_index("case").loc[row.case.id]
    assert line["p95_ms"] == row.summary.latency.p95.value_ns / 1e6
    assert line["p95_low_ms"] <= line["p95_ms"] <= line["p95_high_ms"]
    assert math.isnan(line["p99_high_ms"])
    assert line["load_ms"] == 412.0


def test_coverage_counts_only_what_is_evidence(report: Any) -> None:
    line = report.tables["coverage"].set_index("requirement").loc["T1-01"]
    rows = [row for row in report.run.verdicts if "T1-01" in row.case.covers]
    passes = [row for row in rows if row.outcome is Outcome.PASS]
    assert line["rows"] == len(rows)
    assert line["pass"] == len(passes)
    assert line["evidence"] == len(passes) - 6 - 1, "six rows are no witness and one is simulated"
    assert line["fail"] == 1


def test_a_divergence_has_a_line_per_layer_with_the_command(report: Any) -> None:
    frame = report.tables["divergence"]
    assert list(frame["role"]) == ["first", "suspect"]
    assert frame.iloc[0]["operator"] == "Softmax"
    assert frame.iloc[0]["reproduce"].startswith("trigate run --model lightglue")


def test_csv_is_read_back_as_it_was_and_runs_no_formula() -> None:
    frame = pd.DataFrame(
        {
            "=cmd": [""] * 6,
            "text": ["=1+1", "@cmd", 'a,b\n"c"', "名前", "-x", ""],
            "figure": [-1.5, math.nan, 3.0, 0.0, 1e-9, 2.0],
        }
    )
    read = pd.read_csv(io.StringIO(tables.to_csv(frame)), keep_default_na=True)
    assert list(read.columns) == ["'=cmd", "text", "figure"]
    assert list(read["figure"].fillna(-99)) == [-1.5, -99, 3.0, 0.0, 1e-9, 2.0]
    assert list(read["text"].fillna("")) == ["'=1+1", "'@cmd", 'a,b\n"c"', "名前", "'-x", ""]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_nothing_that_a_spreadsheet_takes_for_a_formula_begins_a_cell(first: str) -> None:
    told = tables.to_csv(pd.DataFrame({"model": [f"{first}cmd|' /C calc'!A0"]}))
    assert pd.read_csv(io.StringIO(told), keep_default_na=False)["model"][0].startswith("'")


def test_a_whole_figure_stays_whole_beside_one_that_is_missing(flown: Path) -> None:
    report = reports.load(flown)
    frame = report.tables["judgements"]
    assert list(frame["needed"].isna()) == [row.summary.judgement.needed is None for row in judged(report.run)]
    assert "900," in tables.to_csv(frame)
    assert "900.0" not in tables.to_csv(frame)
    told = json.loads(tables.to_json(report.run, report.tables))["tables"]["judgements"]
    assert [line["needed"] for line in told] == [row.summary.judgement.needed for row in judged(report.run)]
    assert {type(line["needed"]) for line in told} == {int, type(None)}


def judged(run: Run) -> list[Any]:
    return [row for row in run.verdicts if row.summary.judgement is not None]


def test_a_notebook_gets_the_raw_calls_of_a_row(report: Any) -> None:
    frame = report.samples("disk-onnx_trt_ep-fp16-b1-latency")
    assert len(frame) == 410
    assert {"call", "scheduled_ns", "woke_ns", "started_ns", "done_ns", "phase", "ok"} == set(frame.columns)
    with pytest.raises(KeyError):
        report.samples("disk-onnx_trt_ep-fp32-b1")


def test_the_environment_holds_the_settings_the_seed_and_the_command(report: Any) -> None:
    run: Run = report.run
    frame = report.tables["environment"].set_index(["section", "name"])["value"]
    assert frame["run", "command"] == run.command
    assert frame["run", "seed"] == "7"
    assert frame["settings", "size"] == "small"
    assert frame["host", "torch"] == "2.13.0"


def test_json_tables_hold_what_the_frames_hold_with_missing_figures_as_null(report: Any) -> None:
    told = json.loads(tables.to_json(report.run, report.tables))
    assert told["schema"] == tables.SCHEMA
    assert told["run"]["id"] == report.run.id
    assert set(told["tables"]) == NAMES
    for name, lines in told["tables"].items():
        frame = report.tables[name]
        assert len(lines) == len(frame)
        assert all(list(line) == list(frame.columns) for line in lines)
    latency = {line["case"]: line for line in told["tables"]["latency"]}
    row = next(row for row in report.run.verdicts if row.summary.latency)
    assert latency[row.case.id]["p95_ms"] == row.summary.latency.p95.value_ns / 1e6
    assert latency[row.case.id]["p99_high_ms"] is None
    assert latency[row.case.id]["calls"] == row.summary.latency.count


def test_json_tables_tell_an_endless_figure_in_words_and_a_whole_one_as_whole() -> None:
    frame = pd.DataFrame({"a": [math.inf, -math.inf, math.nan], "b": [1, 2, 3], "c": [True, None, "名前"]})
    run = Run("i", "", "", True, 0, "", "", 0, {}, {}, "", "", (), (), "0")
    lines = json.loads(tables.to_json(run, {"t": frame}))["tables"]["t"]
    assert lines == [
        {"a": "inf", "b": 1, "c": True},
        {"a": "-inf", "b": 2, "c": None},
        {"a": None, "b": 3, "c": "名前"},
    ]


def test_tables_of_several_runs_say_which_run_a_row_is_from(report: Any) -> None:
    sources = {case.id: "desk" if case.runtime == "pytorch_fp16" else "board" for case in report.run.planned}
    made = tables.make(
        report.run, {"desk": report.run, "board": replace(report.run, environment={"os": "L4T"})}, sources
    )
    for name, frame in made.items():
        if "case" in frame:
            assert list(frame.columns[:2]) == ["case", "run"], name
    frame = made["verdicts"]
    assert set(frame[frame["runtime"] == "pytorch_fp16"]["run"]) == {"desk"}
    environment = made["environment"].set_index(["section", "name"])
    assert environment["board"]["host", "os"] == "L4T"
    assert environment["desk"]["host", "torch"] == "2.13.0"
    assert environment["board"]["host", "torch"] == ""
