from dataclasses import replace
from typing import Any

import pytest

from harness import gates
from harness.records import Case, Check, Measurement, Outcome, Summary, Verdict

CASE = Case("m-onnx_trt_ep-fp16-b1", 1, "parity", "m", "onnx_trt_ep", "fp16", "fp16", "small", required=True)


def verdict(outcome: Outcome, case: Case = CASE, reason: str = "why", **measured: Any) -> Verdict:
    measurement = Measurement(case=case, **{"placement": "onnx_trt_ep[cpu]", "provider": "cpu", **measured})
    return Verdict(Summary(measurement), outcome, reason)


PASS, FAIL, OPEN, SEEN, NOT_RUN = (
    verdict(outcome)
    for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.MEASURED, Outcome.NOT_RUN)
)


@pytest.mark.covers("RE-04")
@pytest.mark.parametrize(
    ("rows", "require", "code"),
    [
        ([PASS], [], 0),
        ([PASS, SEEN, NOT_RUN], [], 0),
        ([SEEN], [], 0),
        ([PASS, FAIL], [], 1),
        ([FAIL, NOT_RUN], ["onnx_trt_ep"], 1),
        ([PASS, OPEN], ["onnx_trt_ep"], 3),
        ([PASS, SEEN], ["onnx_trt_ep"], 3),
        ([PASS, NOT_RUN], ["onnx_trt_ep"], 3),
        ([PASS], ["onnx_trt_ep"], 0),
        ([PASS], ["onnx_trt_ep[cpu]"], 0),
        ([PASS], ["onnx_trt_ep[tensorrt]"], 3),
        ([PASS], ["tensorrt"], 3),
        ([PASS], ["model[m]"], 0),
        ([verdict(Outcome.PASS, replace(CASE, kind="artifact")), NOT_RUN], ["model[m]"], 3),
        ([SEEN], ["model[m]"], 3),
        ([NOT_RUN], [], 3),
        ([], [], 3),
    ],
)
def test_exit_codes(rows: Any, require: Any, code: Any) -> None:
    assert gates.exit_code(rows, require) == code


@pytest.mark.covers("RE-04")
def test_an_internal_error_comes_before_everything() -> None:
    assert gates.exit_code([FAIL], [], internal=True) == 4


@pytest.mark.covers("RE-04")
def test_a_simulated_row_and_one_that_is_no_witness_satisfy_nothing() -> None:
    assert gates.satisfies(verdict(Outcome.PASS), "onnx_trt_ep")
    assert not gates.satisfies(verdict(Outcome.PASS, simulated=True), "onnx_trt_ep")
    assert not gates.satisfies(verdict(Outcome.PASS, witness=False), "onnx_trt_ep")


@pytest.mark.covers("RE-04")
def test_the_last_line_says_it_in_words() -> None:
    absent = replace(CASE, id="m-tensorrt-fp16-b1", runtime="tensorrt", required=False)
    rows = [PASS, PASS, verdict(Outcome.NOT_RUN, absent, "tensorrt: not installed")]
    assert gates.last_line(rows, []) == "PASS 2, NOT RUN 1 (tensorrt: not installed). No evidence about TensorRT."
    assert gates.last_line([], []) == "Nothing ran."
    assert "Required tensorrt: it has no row." in gates.last_line([PASS], ["tensorrt"])


@pytest.mark.covers("RE-04", "T0-02")
def test_simulated_rows_are_counted_apart_and_are_no_evidence_about_tensorrt() -> None:
    fake = replace(CASE, id="conformance-tensorrt-simulated-10.3.0", kind="conformance", runtime="tensorrt")
    rows = [PASS, *(verdict(outcome, fake, simulated=True) for outcome in (Outcome.PASS, Outcome.PASS, Outcome.FAIL))]
    line = gates.last_line(rows, [])
    assert line == "PASS 3 (2 simulated), FAIL 1 (1 simulated). No evidence about TensorRT."
    assert gates.exit_code(rows[:3], ["tensorrt"]) == 3
    assert gates.exit_code(rows[:3], []) == 0


def checks(**outcomes: Outcome) -> list[Check]:
    return [Check(name, outcome, f"{name} was seen") for name, outcome in outcomes.items()]


@pytest.mark.covers("T0-01")
def test_a_runtime_is_judged_by_every_check_that_could_be_held() -> None:
    held = checks(a=Outcome.PASS, b=Outcome.PASS, c=Outcome.NOT_RUN)
    judged = gates.judge_runtime(Measurement(CASE, simulated=True), held)
    assert (judged.outcome, judged.reason) == (Outcome.PASS, "2 clauses hold on the simulated device; 1 not run")
    assert judged.checks == tuple(held)
    judged = gates.judge_runtime(Measurement(CASE), checks(a=Outcome.PASS, b=Outcome.FAIL, c=Outcome.FAIL), unit="pair")
    assert (judged.outcome, judged.reason) == (Outcome.FAIL, "b: b was seen; 1 more pair does not hold")
    judged = gates.judge_runtime(Measurement(CASE), checks(a=Outcome.NOT_RUN))
    assert (judged.outcome, judged.reason) == (Outcome.NOT_RUN, "a was seen")
    assert gates.judge_runtime(Measurement(CASE), []).outcome is Outcome.NOT_RUN


@pytest.mark.covers("RE-04")
def test_a_cpu_placement_on_a_host_with_a_gpu_is_refused_unless_asked_for() -> None:
    refused = gates.misplaced(PASS, gpu_host=True, device="auto")
    assert refused.outcome is Outcome.FAIL
    assert "--device cpu" in refused.remedy
    assert gates.misplaced(PASS, gpu_host=True, device="cpu") is PASS
    assert gates.misplaced(PASS, gpu_host=False, device="auto") is PASS
    assert gates.misplaced(NOT_RUN, gpu_host=True, device="auto") is NOT_RUN


def test_the_gravest_check_decides_and_the_first_of_equals() -> None:
    checks = [
        Check("a", Outcome.PASS, ""),
        Check("b", Outcome.INCONCLUSIVE, ""),
        Check("c", Outcome.FAIL, "1"),
        Check("d", Outcome.FAIL, "2"),
    ]
    assert gates.worst(checks).name == "c"
    assert gates.worst(checks[:2]).name == "b"


@pytest.mark.covers("RE-04")
@pytest.mark.parametrize("board", ["", "bump_base"])
def test_a_row_that_breaks_on_the_simulated_board_is_counted_as_simulated(board: str) -> None:
    refused = gates.refusal(replace(CASE, simulated=board), RuntimeError("no kernel"))
    assert refused.summary.measurement.simulated is bool(board)
