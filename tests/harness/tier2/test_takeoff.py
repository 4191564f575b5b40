"""Take-off and what comes after a kill: real processes once, and each way in which it can go wrong."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config import BoardConfig, Budget
from harness.records import Case, Figure, Outcome, Tolerance, Verdict
from harness.tier2.fresh import ChildResult, Failure, ProcessJob
from harness.tier2.memory import find
from harness.tier2.takeoff import TakeoffSeen, judge_takeoff, takeoff
from tests.harness.children import case_of, ended, in_process, job_in

MODELS = ("disk", "lightglue")
CASES = [case_of(model, "Quick") for model in MODELS]
ROW = Case("quick-takeoff", 2, "takeoff", "takeoff", CASES[0].runtime, "fp32", "fp32", "small")
GIB = 1 << 30
BOARD = BoardConfig("orin", gpu_memory_bytes=4 * GIB, host_memory_bytes=3 * GIB // 2)
LOADS = {model: Budget(load_s=60.0) for model in MODELS}
MARKS = (Figure("process_bytes", GIB, "bytes", "PSS"), Figure("driver_process_bytes", 2 * GIB, "bytes", "NVML"))


def play(folder: Path, change: Callable[[int, ProcessJob, ChildResult], ChildResult] | None = None) -> TakeoffSeen:
    """A take-off without children. ``change``: (which process, its job, its result) -> what it is to be."""
    number = iter(range(4))

    def run(job: ProcessJob, **_: Any) -> ChildResult:
        at = next(number)
        result = replace(in_process(job), marks=MARKS)
        return result if change is None else change(at, job, result)

    return takeoff(ROW, CASES, job_in(folder, *MODELS), environ={}, run=run)


def judged(
    seen: TakeoffSeen, *, board: BoardConfig | None = BOARD, loads: Any = LOADS, rel_l2: float = 1e-3
) -> Verdict:
    tolerances = {model: {"y": Tolerance("y", "derived", rel_l2, rel_l2)} for model in MODELS}
    return judge_takeoff(seen, CASES, board=board, budgets=loads, tolerances=tolerances)


@pytest.mark.covers("T2-05")
def test_real_processes_take_off_are_killed_and_take_off_again(tmp_path: Path) -> None:
    seen = takeoff(ROW, CASES, job_in(tmp_path, *MODELS), environ=os.environ, infer_s=0.05, timeout_s=120)
    assert seen.killed is not None
    assert (seen.killed.signal, seen.killed.is_ours, seen.killed.step) == (9, True, "inferring")
    verdict = judged(seen, board=None, loads={})
    assert verdict.outcome is Outcome.MEASURED
    assert "after SIGKILL the same outputs, bit for bit; no file was left behind; no budget applies" in verdict.reason
    for name in ("takeoff_ready_ns", "takeoff_load_ns", "restart_ready_ns", "restart_host_bytes"):
        assert (find(verdict.summary.figures, name).value or 0) > 0
    assert verdict.case == ROW


@pytest.mark.covers("T2-05", "T2-02")
def test_budgets_are_kept_by_both_take_offs_or_by_none(tmp_path: Path) -> None:
    seen = play(tmp_path)
    assert judged(seen).outcome is Outcome.PASS
    small = judged(seen, board=replace(BOARD, gpu_memory_bytes=GIB))
    assert (small.outcome, "over in 2 of 2 launches" in small.reason) == (Outcome.FAIL, True)
    slow = judged(seen, loads={"lightglue": Budget(load_s=1e-9)})
    assert (slow.outcome, slow.reason.startswith("load of lightglue")) == (Outcome.FAIL, True)
    assert judged(seen, board=None, loads={}).outcome is Outcome.MEASURED


@pytest.mark.covers("T2-05")
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_process_that_does_not_come_up_fails_the_row(tmp_path: Path, at: int) -> None:
    failed = ended(1, failure=Failure("EngineDeserializeError", "the engine is damaged"), step="loading disk")
    seen = play(tmp_path, lambda number, job, result: failed if number == at else result)
    verdict = judged(seen)
    assert verdict.outcome is Outcome.FAIL
    assert "EngineDeserializeError while loading disk: the engine is damaged" in verdict.reason
    assert verdict.reason.startswith({0: "filling the caches", 1: "take-off", 3: "restart"}[at])


@pytest.mark.covers("T2-05", "T2-02")
def test_a_take_off_that_the_kernel_killed_is_over_budget(tmp_path: Path) -> None:
    seen = play(tmp_path, lambda number, job, result: ended(-9, step="loading disk") if number == 3 else result)
    checks = {check.name: check for check in judged(seen).checks}
    assert checks["GPU memory"].outcome is Outcome.FAIL
    assert "over 4 GiB in 1 of 2 launches" in checks["GPU memory"].reason
    assert checks["restart"].outcome is Outcome.FAIL


@pytest.mark.covers("T2-05")
@pytest.mark.parametrize(("code", "words"), [(0, "it ended by itself"), (-9, "it never inferred")])
def test_a_process_that_was_not_killed_in_mid_inference_shows_nothing(tmp_path: Path, code: int, words: str) -> None:
    instead = ended(code, is_ours=code != 0, why="took longer than 60 s and was ended")
    verdict = judged(play(tmp_path, lambda number, job, result: instead if number == 2 else result))
    assert verdict.outcome is Outcome.FAIL
    assert words in verdict.reason


def other_outputs(by: float, *, from_process: int) -> Callable[[int, ProcessJob, ChildResult], ChildResult]:
    """From that process on, outputs are larger by this share, and their digests others."""

    def change(number: int, job: ProcessJob, result: ChildResult) -> ChildResult:
        if number < from_process or result.seen is None:
            return result
        engines = tuple(
            replace(engine, digests=tuple(f"{one}{number}" for one in engine.digests)) for engine in result.seen.engines
        )
        for path in Path(job.outputs).glob("*.npz") if job.outputs and number == 3 else ():
            with np.load(path) as arrays:
                changed: dict[str, Any] = {name: arrays[name] * np.float32(1 + by) for name in arrays.files}
            np.savez(path, **changed)
        return replace(result, seen=replace(result.seen, engines=engines))

    return change


@pytest.mark.covers("T2-05")
def test_other_bytes_after_the_kill_are_judged_by_what_undisturbed_processes_do(tmp_path: Path) -> None:
    wavers = judged(play(tmp_path / "a", other_outputs(1e-3, from_process=1)))
    assert wavers.outcome is Outcome.PASS
    assert "the runtime does not give the same bytes in every process; after SIGKILL they agree" in wavers.reason
    changed = judged(play(tmp_path / "b", other_outputs(1e-3, from_process=3)))
    assert changed.outcome is Outcome.FAIL
    assert "two undisturbed processes gave the same bytes, and after SIGKILL they are others" in changed.reason
    wrong = judged(play(tmp_path / "c", other_outputs(3e-3, from_process=1)))
    assert wrong.outcome is Outcome.FAIL
    assert "after SIGKILL over the tolerance" in wrong.reason


@pytest.mark.covers("T2-05")
@pytest.mark.parametrize(("number", "is_left"), [(1, False), (2, True), (3, True)])
def test_a_file_that_the_killed_process_left_is_told(tmp_path: Path, number: int, is_left: bool) -> None:
    def litter(at: int, job: ProcessJob, result: ChildResult) -> ChildResult:
        if at == number:
            (Path(job.job.config["engine_cache_dir"]) / ".build-x7").mkdir()
        return result

    verdict = judged(play(tmp_path, litter))
    assert (verdict.outcome is Outcome.FAIL, ".build-x7" in verdict.reason) == (is_left, is_left)


def test_what_the_killed_process_did_not_give_back_is_a_figure(tmp_path: Path) -> None:
    def shrinks(number: int, job: ProcessJob, result: ChildResult) -> ChildResult:
        return replace(result, before=(Figure("nvmap_bytes", 100.0 * (1 + number), "bytes", "NvMap"),))

    figure = find(judged(play(tmp_path, shrinks)).summary.figures, "kept_after_kill_bytes")
    assert figure.value == 200
    assert "approximate" in figure.source
