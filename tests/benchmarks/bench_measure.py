"""What taking a sample costs: storing a row against appending a tuple, and a null call measured against a bare loop."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness.records import Case
from harness.tier2.null_runtime import NullEngine
from harness.tier2.samples import SampleLog

COUNT = 20_000
AT = 10**12


@pytest.mark.benchmark(group="measure")
def test_sample_add(benchmark: Any) -> None:
    def call() -> None:
        add = SampleLog(["m"]).add
        for at in range(COUNT):
            add(0, AT + at, AT, AT, AT)

    benchmark.pedantic(call, rounds=10, warmup_rounds=2)


@pytest.mark.benchmark(group="measure")
def test_sample_append_tuple(benchmark: Any) -> None:
    def call() -> None:
        kept: list[tuple[int, ...]] = []
        append = kept.append
        for at in range(COUNT):
            append((0, 0, AT + at, AT, AT, AT, 2, 0, -1, -1, -1, -1))

    benchmark.pedantic(call, rounds=10, warmup_rounds=2)


def engine() -> NullEngine:
    return NullEngine(Case("null", 2, "harness", "null", "pytorch_fp16", "fp32", "fp32", "small"))


@pytest.mark.benchmark(group="measure")
def test_calls_measured(benchmark: Any) -> None:
    infer, now = engine().infer, time.perf_counter_ns

    def call() -> None:
        add = SampleLog(["m"]).add
        for at in range(COUNT):
            started = now()
            infer(at)
            add(0, started, started, started, now())

    benchmark.pedantic(call, rounds=10, warmup_rounds=2)


@pytest.mark.benchmark(group="measure")
def test_calls_bare(benchmark: Any) -> None:
    infer = engine().infer

    def call() -> None:
        for at in range(COUNT):
            infer(at)

    benchmark.pedantic(call, rounds=10, warmup_rounds=2)
