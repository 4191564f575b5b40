"""What a verdict on a million samples costs: our gate beside scipy's exact test of one quantile, and beside sorting them.

And a whole row with seven hours of telemetry beside the same row without; and what an hour of flight takes in memory.
"""

from __future__ import annotations

import tracemalloc
from array import array
from typing import Any

import numpy as np
import pytest
from scipy.stats import quantile_test

from harness.config import Budget
from harness.floors import Floor
from harness.instruments.trace import Frame, Trace, Values
from harness.profiles import PROFILES
from harness.records import Case, Measurement, Outcome, Verdict
from harness.statistics.quantiles import latency_figures
from harness.statistics.stopping import BudgetRule
from harness.tier2.latency_gate import judge
from harness.tier2.launch import FrameKeeper
from harness.tier2.samples import COLUMNS, Phase, SampleLog
from harness.tier2.station import Stream
from runtime.protocol import Array

COUNT = 1_000_000
FRAMES = 256_000
BUDGET_NS = 60_000_000
RATE_HZ = 39.0
MOST_BYTES = 200_000_000
ROW = Case("row", 2, "latency", "lightglue", "tensorrt", "fp16", "fp16", "flight")
BOARD = {
    "gpu_temp_c": 61.0, "cpu_temp_c": 58.0, "tj_temp_c": 62.0, "gpu_clock_mhz": 918.0, "gpu_cap_mhz": 918.0,
    "gpu_load_percent": 97.0, "oc_events": 3.0, "power_w": 15.0, "power_w.VDD_IN": 15.0, "fan_rpm": 2100.0,
    "alert_sensors": 3.0, "available_bytes": 4e9, **{f"temp_c.zone{at}": 50.0 for at in range(28)},
}  # fmt: skip
"""As many values as an Orin's instruments give."""


@pytest.fixture(scope="module")
def samples() -> Array:
    """About 4 % over the budget, and calls that hang together: the dearest case, for nothing is decided early."""
    chance = np.random.default_rng(1)
    slow = np.repeat(chance.random(COUNT // 20) < 0.02, 20)
    body = 53e6 * np.exp(0.06 * chance.standard_normal(COUNT))
    return np.asarray(np.where(slow, 1.2 * body, body), np.int64)


@pytest.mark.benchmark(group="judge")
def test_judge_million(benchmark: Any, samples: Array) -> None:
    rule = BudgetRule(BUDGET_NS, 39.0, least=300, most=COUNT, floor=20.0)
    missed = np.zeros(COUNT, bool)
    benchmark.pedantic(lambda: rule.judge(samples, missed), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="judge")
def test_figures_million(benchmark: Any, samples: Array) -> None:
    benchmark.pedantic(lambda: latency_figures(samples, 0, int(samples.sum())), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="judge")
def test_quantile_test_million(benchmark: Any, samples: Array) -> None:
    def call() -> None:
        quantile_test(samples, q=BUDGET_NS, p=0.95, alternative="less").confidence_interval(0.95)

    benchmark.pedantic(call, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="judge")
def test_sort_million(benchmark: Any, samples: Array) -> None:
    benchmark.pedantic(lambda: np.sort(samples), rounds=5, warmup_rounds=1)


def whole_row(samples: Array, trace: Trace | None) -> Verdict:
    """A latency row of one launch at 39 Hz, judged with all its figures."""
    due = (np.arange(samples.size) * (1e9 / RATE_HZ)).astype(np.int64)
    columns = {name: np.zeros(samples.size, np.int64) for name in COLUMNS}
    columns |= {name: np.full(samples.size, -1) for name in ("h2d_ns", "compute_ns", "d2h_ns", "wait_ns")}
    columns |= {"scheduled_ns": due, "woke_ns": due, "started_ns": due, "done_ns": due + samples // 3}
    columns["phase"][:] = Phase.MEASURE
    return judge(
        Measurement(case=ROW, rate_hz=RATE_HZ),
        columns,
        trace,
        budget=Budget(p95_ms=BUDGET_NS / 3e6),
        profile=PROFILES["pr"],
        floor=Floor(20.0, 3, "the largest of 3 sessions"),
        streams=(Stream(ROW, RATE_HZ),),
    )


@pytest.mark.benchmark(group="judge")
def test_row_million(benchmark: Any, samples: Array) -> None:
    verdict = benchmark.pedantic(whole_row, args=(samples, None), rounds=3, warmup_rounds=1)
    assert verdict.outcome is not Outcome.FAIL


@pytest.mark.benchmark(group="judge")
def test_row_million_with_trace(benchmark: Any, samples: Array) -> None:
    places = {name: at for at, name in enumerate(BOARD)}
    values = Values(places, array("d", BOARD.values()))
    frames = [Frame(at * 100_000_000, values) for at in range(FRAMES)]

    def anew() -> tuple[tuple[Array, Trace], dict[str, Any]]:
        return (samples, Trace(frames)), {}  # a trace remembers what was asked of it

    verdict = benchmark.pedantic(whole_row, setup=anew, rounds=3, warmup_rounds=1)
    assert any("no request met a throttled board" in check.reason for check in verdict.checks)


def test_an_hour_of_flight_and_its_verdict_are_in_a_few_megabytes() -> None:
    """Not timed: 39 requests and ten frames of forty values a second, kept, aligned and judged."""
    tracemalloc.start()
    try:
        log, trace = SampleLog(["lightglue"]), Trace()
        keeper = FrameKeeper(trace)
        for at in range(36_000):
            keeper.add(Frame(at * 100_000_000, dict(BOARD), missing={"energy_j": "no such counter"}))
        for at in range(round(3600 * RATE_HZ)):
            due = round(at * 1e9 / RATE_HZ)
            log.add(0, due, due, due, due + 17_000_000 + at % 1000)
        whole_row(log.column("done_ns") - log.column("scheduled_ns"), trace)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES, f"{peak / 1e6:.0f} MB"
