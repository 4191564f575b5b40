"""The row about memory: each engine alone, all together, leaks, and processes that do not come up."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config import BoardConfig
from harness.records import Case, Figure, Outcome
from harness.tier2.fresh import ChildResult, Failure, ProcessJob
from harness.tier2.memory import find
from harness.tier2.memory_row import MemorySeen, judge_memory_row, measure_memory
from tests.harness.children import case_of, ended, in_process, job_in

GIB = 1 << 30
MODELS = ("disk", "lightglue")
ROW = Case("quick-memory", 2, "memory", "memory", "tests.harness.children:Quick", "fp32", "fp32", "small")
BOARD = BoardConfig("orin", gpu_memory_bytes=4 * GIB, host_memory_bytes=3 * GIB // 2)


def measured(folder: Path, change: Callable[[int, ProcessJob, ChildResult], ChildResult] | None = None) -> MemorySeen:
    """Four processes without children: two alone, two launches of both, each engine with a gigabyte of the card."""
    number = iter(range(9))

    def run(job: ProcessJob, **_: Any) -> ChildResult:
        at, count = next(number), len(job.cases)
        marks = (
            Figure("process_bytes", count * GIB / 4, "bytes", "PSS"),
            Figure("driver_process_bytes", float(count * GIB), "bytes", "NVML"),
        )
        result = replace(in_process(job), marks=marks)
        return result if change is None else change(at, job, result)

    cases = [case_of(model, "Quick") for model in MODELS]
    return measure_memory(ROW, cases, job_in(folder, *MODELS), launches=2, cycles=0, looks=0, environ={}, run=run)


@pytest.mark.covers("T2-01", "T2-02")
def test_engines_are_seen_alone_and_together_and_the_budget_is_of_all_together(tmp_path: Path) -> None:
    seen = measured(tmp_path)
    verdict = judge_memory_row(seen, board=BOARD)
    assert verdict.outcome is Outcome.PASS
    assert find(verdict.summary.figures, "gpu_bytes[disk]").value == GIB
    assert find(verdict.summary.figures, "gpu_bytes").value == 2 * GIB
    assert (verdict.case, verdict.summary.measurement.launches) == (ROW, 2)
    assert judge_memory_row(seen, board=replace(BOARD, gpu_memory_bytes=GIB)).outcome is Outcome.FAIL
    assert judge_memory_row(seen, board=None).outcome is Outcome.MEASURED


@pytest.mark.covers("T2-02")
def test_a_launch_that_the_kernel_ends_is_over_budget(tmp_path: Path) -> None:
    seen = measured(tmp_path, lambda at, job, result: ended(-9, step="loading lightglue") if at == 3 else result)
    verdict = judge_memory_row(seen, board=BOARD)
    assert verdict.outcome is Outcome.FAIL
    assert "in 1 of 2 launches: the process was killed while loading lightglue" in verdict.reason


def test_an_engine_that_does_not_come_up_alone_fails_once(tmp_path: Path) -> None:
    failed = ended(1, failure=Failure("EngineDeserializeError", "damaged"), step="loading disk")
    seen = measured(tmp_path, lambda at, job, result: failed if at == 0 else result)
    assert (seen.resident, len(seen.engines)) == ((), 1)
    verdict = judge_memory_row(seen, board=BOARD)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason == "EngineDeserializeError while loading disk: damaged"


@pytest.mark.covers("T2-01")
def test_series_of_looks_become_leak_checks_under_the_models_name(tmp_path: Path) -> None:
    def leaks(at: int, job: ProcessJob, result: ChildResult) -> ChildResult:
        assert result.seen is not None
        series = {"host": tuple(5e8 + 1e6 * look for look in range(30))}
        engines = tuple(replace(engine, calls=series) for engine in result.seen.engines)
        return replace(result, seen=replace(result.seen, engines=engines)) if at == 1 else result

    verdict = judge_memory_row(measured(tmp_path, leaks), board=BOARD)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("lightglue, host grows by about 1.00 MB per 100 calls")
