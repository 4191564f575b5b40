"""What a verdict on a million samples costs: our gate beside scipy's exact test of one quantile, and beside sorting them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import quantile_test

from harness.statistics import latency_figures
from harness.stopping import BudgetRule
from runtime.protocol import Array

COUNT = 1_000_000
BUDGET_NS = 60_000_000


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
