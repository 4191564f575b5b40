"""The rules of rows about more than one model, on a mix whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.config import BoardConfig, Budget
from harness.instruments.trace import Trace
from harness.profiles import PROFILES
from harness.records import Case, Check, Measurement, Outcome, Summary, Verdict, from_json, to_json
from harness.tier2.gate import (
    flown,
    indicative,
    judge_flight,
    launches_of,
    of_others,
    on_its_board,
    over_memory,
    streams_of,
    within_deadline,
)
from harness.tier2.samples import UNKNOWN, Phase, SampleLog
from harness.tier2.station import Seen, Stream
from runtime.protocol import Array

CASE = Case("flight-onnx_trt_ep-fp16", 2, "flight", "flight", "onnx_trt_ep", "fp16", "fp16", "flight")
FAST = Stream(replace(CASE, id=f"{CASE.id}-fast", model="fast", kind="latency"), 39.0, 13, 60_000_000)
SLOW = Stream(replace(CASE, id=f"{CASE.id}-slow", model="slow", kind="latency", precision="int8", lane="int8"), 3.0)
STREAMS = (FAST, SLOW)
ROW = Measurement(CASE, profile="pr", placement="onnx_trt_ep[cuda]", provider="cuda", timing_boundary="numpy to numpy")
PLACED = {"fast": "onnx_trt_ep[cuda]", "slow": "onnx_trt_ep[cuda]"}
BOARD = BoardConfig("orin", gpu_memory_bytes=4 << 30, host_memory_bytes=3 << 29)
SECONDS = 150


def mix(slow_ms: float = 20.0) -> dict[str, Array]:
    """Both streams for ``SECONDS``: a call of the fast one takes 2 ms."""
    parts = []
    for at, (stream, ms) in enumerate(zip(STREAMS, (2.0, slow_ms), strict=True)):
        count = round(SECONDS * stream.rate_hz)
        zero = np.zeros(count, np.int64)
        due = np.round(np.arange(count) * 1e9 / stream.rate_hz).astype(np.int64)
        took = (1e6 * ms * np.random.default_rng(at).lognormal(0.0, 0.05, count)).astype(np.int64)
        parts.append({
            "launch": zero, "stream": zero + at, "scheduled_ns": due, "woke_ns": due, "started_ns": due,
            "done_ns": due + took, "phase": zero + Phase.MEASURE, "status": zero,
            **dict.fromkeys(("h2d_ns", "compute_ns", "d2h_ns", "wait_ns"), zero + UNKNOWN),
        })  # fmt: skip
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def judged(columns: dict[str, Array], launches: list[Seen] | None = None, row: Measurement = ROW) -> Verdict:
    budgets = (Budget(p95_ms=50.0), Budget(p95_ms=100.0))
    verdict, of_streams = judge_flight(
        row,
        columns,
        {},
        STREAMS,
        limits=[within_deadline(stream, budget) for stream, budget in zip(STREAMS, budgets, strict=True)],
        floors=[None, None],
        profile=replace(PROFILES["pr"], least_s=100.0),
        launches=[launches_of(launches or [], stream, "slow") for stream in STREAMS],
    )
    assert len(of_streams) == 2
    return verdict


def seen(placements: dict[str, str], **changes: str) -> Seen:
    log = SampleLog(["fast", "slow"])
    return Seen(replace(ROW, **changes), log, Trace(), placements=placements)  # type: ignore[arg-type] # by name


@pytest.mark.covers("T2-01", "T2-03")
def test_a_mix_passes_where_every_stream_keeps_its_limit_and_fails_by_the_one_that_does_not() -> None:
    passed = judged(mix())
    assert (passed.outcome, "fast: p95 is under 60 ms" in passed.reason) == (Outcome.PASS, True)  # its deadline
    failed = judged(mix(slow_ms=120.0))
    assert failed.outcome is Outcome.FAIL
    assert failed.reason.startswith("slow: p95 is over 100 ms")


@pytest.mark.covers("T2-03")
def test_launches_are_held_against_each_other_for_every_stream() -> None:
    alike = judged(mix(), [seen(PLACED), seen(PLACED), seen({}, placement="")])  # the last was over before it began
    assert alike.outcome is Outcome.PASS
    moved = judged(mix(), [seen(PLACED), seen({**PLACED, "fast": "onnx_trt_ep[tensorrt]"})])
    assert moved.outcome is Outcome.INCONCLUSIVE
    assert moved.reason.startswith("fast: the launches are not of one kind: placement is 'onnx_trt_ep[cuda]'")
    rebuilt = judged(mix(), [seen(PLACED, model_sha256="a"), seen(PLACED, model_sha256="b")])
    assert rebuilt.reason.startswith("slow: the launches are not of one kind: model sha256 is 'a'")
    for changed in ("timing_boundary", "provider"):
        other = judged(mix(), [seen(PLACED), seen(PLACED, **{changed: "other"})])
        assert changed.replace("_", " ") in other.reason


def test_the_streams_of_a_mix_are_kept_in_its_record() -> None:
    row = replace(ROW, streams=flown(STREAMS, PLACED))
    again = from_json(Measurement, to_json(row))
    assert again == row
    assert streams_of(CASE, again.streams) == STREAMS


@pytest.mark.covers("T2-02")
@pytest.mark.parametrize(
    "words", ["killed (SIGKILL): the kernel was out of memory", "killed by signal 9 (SIGKILL): by"]
)
def test_a_process_that_the_kernel_killed_is_over_the_memory_budget(words: str) -> None:
    open_row = Verdict(Summary(replace(ROW, incomplete=words)), Outcome.INCONCLUSIVE, f"incomplete: {words}")
    verdict = over_memory(open_row, BOARD)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason == f"counts as over the memory budget (4 GiB of GPU memory, 1.5 GiB of host memory): {words}"
    assert [(check.name, check.outcome) for check in verdict.checks] == [("kernel", Outcome.FAIL)]
    assert over_memory(open_row, BoardConfig("desk")) == over_memory(open_row, None) == open_row
    crashed = replace(open_row, summary=Summary(replace(ROW, incomplete="killed by signal 11 (SIGSEGV)")))
    assert over_memory(crashed, BOARD) == crashed


@pytest.mark.covers("T2-04", "T1-03")
def test_what_a_row_lacks_leaves_it_open_and_takes_no_failure_away() -> None:
    passed, failed = (Verdict(Summary(ROW), one, "so") for one in (Outcome.PASS, Outcome.FAIL))
    cold = [Check("board: power mode", Outcome.INCONCLUSIVE, "15W")]
    assert on_its_board(passed, cold, fails_anyway=True).reason == "15W (but for that: so)"
    assert on_its_board(failed, cold, fails_anyway=True).outcome is Outcome.FAIL
    assert on_its_board(failed, cold, fails_anyway=False).outcome is Outcome.INCONCLUSIVE
    assert of_others(passed, "slow: gone").outcome is Outcome.INCONCLUSIVE
    assert of_others(failed, "slow: gone").reason == "without slow: gone; of the others: so"
    assert indicative(of_others(passed, "gone")).outcome is Outcome.MEASURED
    assert indicative(failed) == failed
