"""Baselines are shown, by machine and row, and never judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.baselines import (
    Baseline,
    Baselines,
    against_baseline,
    load_baselines,
    machine_of,
    with_baseline,
    write_baselines,
)
from harness.errors import UsageError
from harness.records import Case, Measurement, Outcome, Summary, Verdict
from harness.statistics.quantiles import latency_figures

CASE = Case("latency[m-tensorrt]", 2, "latency", "m", "tensorrt", "fp16", "fp16", "full")
SERVICE_NS = np.random.default_rng(1).permutation(np.arange(10_000_000, 12_000_000, 1000))
FIGURES = latency_figures(SERVICE_NS, 0, 40_000_000_000)
ROW = Verdict(Summary(Measurement(CASE), latency=FIGURES), Outcome.MEASURED, "p95 11.9 ms")


@pytest.mark.covers("BA-05")
def test_a_change_against_the_baseline_is_shown_and_judges_nothing() -> None:
    slower = Baseline(p50_ns=10_000_000, p95_ns=11_895_000, calls_per_s=100.0, calls=500)
    assert against_baseline(FIGURES, slower) == (
        "p95 11.9 ms, baseline 11.9 ms: +0 % (within the interval); p50 11 ms, baseline 10 ms: +10 %; "
        "50 calls/s, baseline 100: -50 %"
    )
    baselines = Baselines(machines={"Orin": {CASE.id: slower}})
    shown = with_baseline(with_baseline(ROW, baselines, "Orin"), baselines, "Orin")
    assert shown.summary.measurement.notes == (against_baseline(FIGURES, slower),)
    assert (shown.outcome, shown.reason) == (ROW.outcome, ROW.reason)
    assert with_baseline(ROW, baselines, "another") is ROW


@pytest.mark.covers("BA-05")
def test_baselines_are_kept_beside_other_machines_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "baselines" / "latency.json"
    assert load_baselines(path) == Baselines()
    assert write_baselines(path, "Orin", [ROW], run="r1", versions={"tensorrt": "10.3"}) == (CASE.id,)
    other = replace(ROW, summary=replace(ROW.summary, measurement=Measurement(replace(CASE, id="other"))))
    write_baselines(path, "Orin", [other])
    write_baselines(path, "Thor", [ROW])
    kept = load_baselines(path)
    assert {machine: sorted(rows) for machine, rows in kept.machines.items()} == {
        "Orin": [CASE.id, "other"],
        "Thor": [CASE.id],
    }
    first = kept.of("Orin", CASE.id)
    assert first == Baseline(FIGURES.p50.value_ns, FIGURES.p95.value_ns, 50.0, 2000, "r1", {"tensorrt": "10.3"})
    assert kept.of("Orin", "none") is None


@pytest.mark.covers("BA-05")
@pytest.mark.parametrize(
    "row",
    [
        replace(ROW, outcome=Outcome.FAIL),
        replace(ROW, summary=replace(ROW.summary, measurement=Measurement(CASE, simulated=True))),
        replace(ROW, summary=replace(ROW.summary, latency=None)),
        replace(ROW, summary=replace(ROW.summary, latency=replace(FIGURES, failed=1))),
    ],
)
def test_what_is_no_sound_row_is_no_baseline(tmp_path: Path, row: Verdict) -> None:
    with pytest.raises(UsageError, match="no latency row that could be a baseline"):
        write_baselines(tmp_path / "latency.json", "Orin", [row])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[1]", '{"schema": 2, "machines": {}}', '{"machines": {"a": {"b": {}}}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "latency.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"latency\.json holds no baselines"):
        load_baselines(path)


def test_figures_that_cannot_be_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    write_baselines(path, "Orin", [ROW])
    path.write_text(path.read_text().replace('"p50_ns": 10', '"p50_ns": -10'))
    with pytest.raises(UsageError, match="has p50 -10"):
        load_baselines(path)


def test_a_machine_is_its_module_or_its_gpu_or_its_cpu() -> None:
    host = {"gpu": "H200", "cpu": "EPYC"}
    assert machine_of(host, "Orin NX") == "Orin NX"
    assert machine_of(host) == "H200"
    assert machine_of({"cpu": "EPYC"}) == "EPYC"
    assert machine_of({}) == "unknown machine"


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written|holds no baselines"):
        write_baselines(tmp_path / "file" / "latency.json", "Orin", [ROW])
