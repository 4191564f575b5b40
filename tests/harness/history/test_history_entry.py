"""What of a run the history keeps: figures that were measured, each once, and what tells one series from another."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from harness.history.entry import digest_of, entry_of, printable, to_seconds
from harness.records import Figure, LatencyFigures, Outcome, Quantile, Run, Verdict
from tests.harness.compared_runs import a_run, parity_of


def with_row(at: int, **given: Any) -> Run:
    """The run of a board with its row ``at`` (0 parity, 1 latency, 2 load, 3 memory) changed; by name of summary's fields."""
    run = a_run("a", boot="a").run
    rows = list(run.verdicts)
    rows[at] = replace(rows[at], summary=replace(rows[at].summary, **given))
    return replace(run, verdicts=tuple(rows))


def figures(run: Run, at: int) -> dict[str, float]:
    return {one.name: one.value for one in entry_of(run, "").rows[at].figures}


def test_a_latency_row_keeps_its_quantiles_with_their_intervals() -> None:
    at = Quantile(0.5, 10, 9, None, 0.95)
    run = with_row(
        1, latency=LatencyFigures(7, 1, at, replace(at, value_ns=20), replace(at, value_ns=30), 11.0, 8, 40, 39.0)
    )
    told = {one.name: one for one in entry_of(run, "").rows[1].figures}
    assert (told["p50_ns"].value, told["p50_ns"].low, told["p50_ns"].high) == (10.0, 9.0, None)
    assert (told["p95_ns"].value, told["failed"].value, told["calls_per_s"].unit) == (20.0, 1.0, "Hz")
    assert told["energy_per_call_j"].unit == "J"


def test_a_parity_row_keeps_the_worst_of_all_outputs() -> None:
    outputs = (parity_of(1e-4, output="a"), parity_of(5e-4, output="b", cosine_min=0.9), parity_of(2e-4, output="c"))
    told = figures(with_row(0, parity=outputs), 0)
    assert (told["rel_l2_max"], told["rel_l2_median"], told["max_abs"], told["cosine_min"]) == (5e-4, 2.5e-4, 5e-4, 0.9)


def test_rounds_are_told_by_their_median_and_other_brackets_stay() -> None:
    some = (
        Figure("load_ns[warm 0]", 1.0, "ns"),
        Figure("load_ns[warm 1]", 3.0, "ns"),
        Figure("load_ns[warm 2]", 2.0, "ns"),
        Figure("gpu_bytes[disk]", 7.0, "bytes"),
        Figure("hot[3]", 5.0, "ns"),
    )
    assert figures(with_row(2, figures=some), 2) == {"load_ns[warm]": 2.0, "gpu_bytes[disk]": 7.0, "hot": 5.0}


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_was_not_measured_is_no_figure(value: float | None) -> None:
    assert figures(with_row(2, figures=(Figure("x", value, "ns"),)), 2) == {}


def test_a_row_that_did_not_run_has_no_figure() -> None:
    run = a_run("a", boot="a").run
    rows = tuple(replace(one, outcome=Outcome.NOT_RUN) for one in run.verdicts)
    entry = entry_of(replace(run, verdicts=rows), "")
    assert [row.figures for row in entry.rows] == [()] * 4
    assert entry.counts == {"NOT RUN": 4}


def test_a_setting_is_size_rate_and_caps() -> None:
    entry = entry_of(a_run("a", boot="a").run, "")
    assert entry.rows[1].setting == "flight, 39 Hz, gpu_mhz 1173, emc_mhz 3199, online_cpus 8"
    assert {row.machine for row in entry.rows} == {"p3767-0000"}


def test_without_a_board_the_machine_is_the_gpu_or_the_processor() -> None:
    def bare(verdict: Verdict) -> Verdict:
        measurement = verdict.summary.measurement
        board = replace(measurement.board_start, module=None)
        return replace(verdict, summary=replace(verdict.summary, measurement=replace(measurement, board_start=board)))

    run = a_run("a", boot="a", change=bare).run
    assert entry_of(run, "").machine == "Orin"
    assert entry_of(replace(run, environment={"module": "none", "gpu": "L4", "cpu": "x"}), "").machine == "L4"


def test_a_simulated_run_is_marked_by_its_scenario_or_its_rows() -> None:
    def simulated(verdict: Verdict) -> Verdict:
        measurement = replace(verdict.summary.measurement, simulated=True)
        return replace(verdict, summary=replace(verdict.summary, measurement=measurement))

    run = a_run("a", boot="a").run
    assert entry_of(run, "").simulated == ""
    assert entry_of(replace(run, settings={"simulated": "steady"}), "").simulated == "steady"
    one = replace(run, verdicts=(simulated(run.verdicts[0]), *run.verdicts[1:]))
    assert (entry_of(one, "").simulated, [row.simulated for row in entry_of(one, "").rows]) == (
        "",
        ["simulated", "", "", ""],
    )
    assert entry_of(replace(run, verdicts=tuple(map(simulated, run.verdicts))), "").simulated == "by rows"


def test_a_digest_is_of_what_the_run_says() -> None:
    run = a_run("a", boot="a").run
    assert digest_of(run) == digest_of(a_run("a", boot="a").run) != digest_of(replace(run, last_line="PASS 4."))


@pytest.mark.parametrize(
    ("word", "seconds"),
    [
        ("1970-01-02", 86400.0), ("1970-01-01T01:00:00+01:00", 0.0), ("1970-01-01T00:00:01Z", 1.0), ("", None), ("soon", None),
        ("2026-02-30", None),
    ],
)  # fmt: skip
def test_a_time_without_an_offset_is_utc_and_no_time_is_none(word: str, seconds: float | None) -> None:
    assert to_seconds(word) == seconds


def test_text_that_no_file_holds_is_replaced_and_all_other_text_is_kept() -> None:
    assert printable("\ud800x") == "?x"
    assert printable("名前 مدل‌ساز 🚁") == "名前 مدل‌ساز 🚁"
