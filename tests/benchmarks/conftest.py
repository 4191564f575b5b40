"""Prints what the benchmarks are for: the ratios of a group, in one run, beside the stored baseline's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

BASELINES = Path(__file__).resolve().parents[2] / "fixtures" / "baselines" / "ratios.json"

RATIOS = (
    # (what is said, numerator, denominator, limit of the ratio or None)
    ("import runtime / import numpy", "import_runtime", "import_numpy", 1.5),
    ("OnnxTrtEpRuntime.infer / session.run", "infer_ours", "infer_session_run", None),
    ("Polygraphy's OnnxrtRunner.infer / session.run", "infer_polygraphy", "infer_session_run", None),
    ("TensorrtRuntime.infer / allocating on each call (fake)", "trt_infer_ours", "trt_infer_allocating", 1.0),
    ("reading and hashing an engine / hashing alone", "hash_and_keep", "hash_alone", 1 / 0.85),
    ("a verdict on 1e6 samples / scipy's quantile_test", "judge_million", "quantile_test_million", None),
    ("a row of 1e6 samples / scipy's quantile_test", "row_million", "quantile_test_million", None),
    ("the same with 256,000 frames of telemetry / without", "row_million_with_trace", "row_million", 3.0),
    ("figures of 1e6 samples / sorting them", "figures_million", "sort_million", None),
    ("reading a run's numerics verdicts again / hashing its files", "recompute_numerics", "hash_numerics", 1.0),
    ("keeping a row's outputs / its statistics", "keep_outputs", "examine_outputs", 1.0),
    ("trigate run (warm) / polygraphy run", "run_trigate", "run_polygraphy", None),
    ("a page of 1e7 samples / pandas reading them", "report_ten_million", "read_ten_million", None),
    (
        "comparing two sign-off runs, with the page / reading their samples",
        "compare_two_signoffs",
        "read_two_signoffs",
        None,
    ),
    ("storing a sample / appending a tuple", "sample_add", "sample_append_tuple", None),
    ("10,000 runs asked in the index / 100 records read", "history_list", "history_read_100_records", None),
    ("a row over 10,000 runs and its steps / from DuckDB", "history_series", "history_series_duckdb", None),
)


def medians(session: Any) -> dict[str, float]:
    """Median seconds of each benchmark, by its name without ``test_``."""
    return {bench.name.removeprefix("test_"): bench.stats.median for bench in session.benchmarks if bench.stats.data}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)  # pytest-benchmark keeps it there, where it is installed
    if session is None or not session.benchmarks:
        return
    seconds = medians(session)
    stored = json.loads(BASELINES.read_text(encoding="utf-8")) if BASELINES.exists() else {}
    terminalreporter.section("ratios of this run (baseline)")
    for words, above, below, limit in RATIOS:
        if above not in seconds or below not in seconds:
            continue
        ratio = seconds[above] / seconds[below]
        was = stored.get("ratios", {}).get(f"{above}/{below}")
        told = f"{ratio:6.2f}  ({'no baseline' if was is None else f'{was:.2f}'})"
        told += f"  limit {limit:.2f}" if limit else ""
        terminalreporter.write_line(f"{words:<48} {told}")
    if {"infer_ours", "infer_session_run"} <= set(seconds):
        added_us = (seconds["infer_ours"] - seconds["infer_session_run"]) * 1e6
        terminalreporter.write_line(f"{'OnnxTrtEpRuntime.infer adds':<48} {added_us:6.2f} us  limit 3 us")
    if "sample_add" in seconds:
        sample_us = seconds["sample_add"] / 20_000 * 1e6
        terminalreporter.write_line(f"{'a sample costs':<48} {sample_us:6.2f} us  limit 2 us")
    if {"calls_measured", "calls_bare"} <= set(seconds):
        added_us = (seconds["calls_measured"] - seconds["calls_bare"]) / 20_000 * 1e6
        terminalreporter.write_line(f"{'two clock readings and a sample add to a call':<48} {added_us:6.2f} us")
    if "help" in seconds:
        terminalreporter.write_line(f"{'trigate --help':<48} {seconds['help'] * 1e3:6.0f} ms  limit 250 ms")
    for name, words, most_s in (
        ("judge_million", "judging 1e6 samples", 2),
        ("row_million_with_trace", "judging them as a row with 256,000 frames", 2),
        ("report_ten_million", "a page of 60 rows and 1e7 samples", 20),
        ("history_list", "a filter over 10,000 runs", 1),
        ("history_series", "a row over 10,000 runs, and its steps", 1),
    ):
        if name in seconds:
            terminalreporter.write_line(f"{words:<48} {seconds[name]:6.2f} s   limit {most_s} s")
    if "report_ten_thousand_rows" in seconds:
        terminalreporter.write_line(f"{'a page of 10,000 rows':<48} {seconds['report_ten_thousand_rows']:6.2f} s")
    if {"run_trigate", "run_polygraphy"} <= set(seconds):
        limit_s = 2 * seconds["run_polygraphy"] + 2
        terminalreporter.write_line(
            f"{'trigate run (warm)':<48} {seconds['run_trigate']:6.2f} s   limit {limit_s:.2f} s (twice polygraphy's, plus 2 s)"
        )
    if config.getoption("--store-baseline"):
        ratios = {f"{a}/{b}": round(seconds[a] / seconds[b], 3) for _, a, b, _ in RATIOS if {a, b} <= set(seconds)}
        machine = {"machine": config.getoption("--store-baseline"), "ratios": ratios}
        BASELINES.write_text(json.dumps(machine, indent=1) + "\n", encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store-baseline", metavar="MACHINE", help="write the ratios as the baseline, with the machine's name"
    )
