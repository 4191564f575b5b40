from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config import BoardConfig, Budget, LoadRule, ModelConfig
from harness.plan import Ask, board_for, flight_models, lane_name, plan, requirements
from harness.records import ABOUT_A_FLIGHT
from runtime.protocol import LABELS

BOTH = ModelConfig("both", onnx=Path("a.onnx"), checkpoint=Path("a.pt"), architecture="a")
ONNX = ModelConfig("only", onnx=Path("a.onnx"))


def ask(*models: ModelConfig, **more: Any) -> Ask:
    settings = {
        "tiers": (0, 1, 2),
        "runtimes": LABELS,
        "size": "small",
        "require": (),
        "board": None,
        "unavailable": {"tensorrt": "tensorrt: not installed"},
    }
    return Ask(models=models, **{**settings, **more})


def test_ids_are_unique_and_say_what_the_row_is() -> None:
    cases = plan(ask(BOTH, ONNX))
    ids = [case.id for case in cases]
    assert len(set(ids)) == len(ids)
    assert {
        "both-pytorch_fp16-fp16-b1",
        "both-onnx_trt_ep-fp16-b1-latency",
        "both-onnx_trt_ep-fp32-b1-semantic",
    } <= set(ids)


def test_the_first_parity_row_of_a_model_with_both_artifacts_is_their_meaning() -> None:
    first = next(case for case in plan(ask(BOTH, tiers=(1,))))
    assert (first.kind, first.precision, first.against) == ("semantic", "fp32", "pytorch_fp16")


@pytest.mark.covers("T1-03")
def test_a_runtime_that_cannot_run_is_a_row_with_its_reason_in_both_lanes() -> None:
    rows = [case for case in plan(ask(BOTH)) if case.runtime == "tensorrt" and case.kind == "parity"]
    assert [(case.precision, case.not_run) for case in rows] == [
        ("fp32", "tensorrt: not installed"),
        ("fp16", "tensorrt: not installed"),
    ]


@pytest.mark.covers("T1-03")
def test_a_model_without_a_checkpoint_has_its_torch_rows_with_the_reason() -> None:
    rows = [case for case in plan(ask(ONNX)) if case.runtime == "pytorch_fp16"]
    assert {case.kind for case in rows} == {"parity"}
    assert {case.not_run for case in rows} == {"pytorch_fp16: the model has no checkpoint"}


@pytest.mark.covers("RE-04")
def test_what_is_named_is_required_where_it_can_be_judged() -> None:
    budgeted = ModelConfig("b", onnx=Path("a.onnx"), budget={"orin-nx": Budget(p95_ms=60)})
    cases = plan(ask(ONNX, budgeted, require=("onnx_trt_ep[tensorrt]",)))
    required = {case.id for case in cases if case.required}
    assert "only-onnx_trt_ep-fp16-b1" in required
    assert "only-onnx_trt_ep-fp16-b1-latency" not in required
    assert "b-onnx_trt_ep-fp16-b1-latency" not in required  # MEASURED in this release
    assert not any("tensorrt-" in name for name in required)


@pytest.mark.covers("RE-04")
def test_on_a_jetson_tensorrt_is_required_unless_somebody_says_otherwise() -> None:
    assert requirements([], None, True, []) == ("tensorrt",)
    assert requirements([], None, False, []) == ()
    assert requirements([], None, True, ["pytorch_fp16"]) == ("pytorch_fp16",)
    assert requirements(["onnx_trt_ep"], BoardConfig("b", require=("tensorrt",)), True, []) == (
        "onnx_trt_ep",
        "tensorrt",
    )


@pytest.mark.covers("T0-01")
def test_each_runtime_is_held_against_the_contract_before_any_model() -> None:
    cases = plan(
        ask(ONNX, about_runtimes=("conformance",), runtimes=(*LABELS, "my.module:Mine"), require=("onnx_trt_ep",))
    )
    about = [case for case in cases if case.kind == "conformance"]
    assert list(cases[: len(about)]) == about
    assert {case.tier for case in about} == {0}
    real = {case.runtime: case for case in about if not case.simulated}
    assert list(real) == [*LABELS, "my.module:Mine"]
    assert real["my.module:Mine"].id == "conformance-my.module.Mine"
    assert real["tensorrt"].not_run == "tensorrt: not installed"
    assert [case.runtime for case in about if case.required] == ["onnx_trt_ep"]
    assert not [case for case in plan(ask(ONNX, about_runtimes=("conformance",), tiers=(1, 2))) if case.tier == 0]


@pytest.mark.covers("T0-01", "T0-02", "RE-04")
def test_the_simulated_device_is_asked_for_by_name_in_every_flavour_and_its_rows_are_never_required() -> None:
    cases = plan(ask(ONNX, about_runtimes=("conformance",), tiers=(0,), require=("tensorrt",)))
    fakes = {case.simulated: case for case in cases if case.simulated}
    assert list(fakes) == ["10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106", "rtx1.7.1.116"]
    assert {case.runtime for case in fakes.values()} == {"tensorrt"}
    assert not any(case.required or case.not_run for case in fakes.values())
    assert fakes["10.3.0"].id == "conformance-tensorrt-simulated-10.3.0"
    without = plan(ask(ONNX, about_runtimes=("conformance",), tiers=(0,), unsimulated="onnxruntime: not installed"))
    assert {case.not_run for case in without if case.simulated} == {"onnxruntime: not installed"}


@pytest.mark.covers("T0-05", "RE-04")
def test_faults_are_planted_on_the_simulated_device_alone_and_in_the_files_of_all_runtimes_once() -> None:
    about = {"about_runtimes": ("faults",), "tiers": (0,), "runtimes": (*LABELS, "my.module:Mine"), "require": LABELS}
    rows = [case for case in plan(ask(ONNX, **about)) if case.kind == "faults"]
    assert [(case.runtime, case.simulated) for case in rows] == [
        ("tensorrt", "10.3.0"),
        ("tensorrt", "rtx1.7.1.116"),
        ("onnx_trt_ep", "gpu"),
        ("pytorch_fp16", "gpu"),
        ("files", "disk"),
    ]
    assert not any(case.required or case.not_run for case in rows)
    assert {case.runtime for case in rows if case.precision == "fp16"} == {"tensorrt", "pytorch_fp16"}
    only_theirs = plan(ask(ONNX, about_runtimes=("faults",), tiers=(0,), runtimes=("my.module:Mine",)))
    assert not [case for case in only_theirs if case.kind == "faults"]
    lacking = {"onnx_trt_ep": "onnx_trt_ep: not installed", "tensorrt": "tensorrt: not installed"}
    without = plan(ask(ONNX, about_runtimes=("faults",), tiers=(0,), unavailable=lacking, unsimulated="no onnxruntime"))
    assert {case.runtime: case.not_run for case in without if case.kind == "faults"} == {
        "tensorrt": "no onnxruntime",
        "onnx_trt_ep": "onnx_trt_ep: not installed",
        "pytorch_fp16": "",
        "files": "",
    }


@pytest.mark.covers("T2-02")
def test_a_board_is_found_by_its_module_and_overridden_by_name() -> None:
    boards = {"nx": BoardConfig("nx", module="p3767-0000"), "agx": BoardConfig("agx", module="p3701-0005")}
    assert board_for(boards, "nvidia,p3768-0000+p3767-0000", "") is boards["nx"]
    assert board_for(boards, "some desktop", "") is None
    assert board_for(boards, "some desktop", "agx") is boards["agx"]


def test_a_lane_is_named_for_people() -> None:
    assert lane_name("pytorch_fp16", "fp32") == "torch · fp32"
    assert lane_name("onnx_trt_ep", "fp16") == "ort · fp16"


@pytest.mark.covers("T2-01", "T2-05")
def test_tier_2_has_rows_of_each_model_and_of_all_models_of_a_runtime_together() -> None:
    flying = replace(BOTH, load=LoadRule(39.0))
    rows = plan(ask(flying, ONNX, tiers=(2,), runtimes=("onnx_trt_ep", "pytorch_fp16")))
    assert [case.id for case in rows if case.model == "both"] == [
        "both-onnx_trt_ep-fp16-b1-load",
        "both-onnx_trt_ep-fp16-b1-latency",
        "both-pytorch_fp16-fp16-b1-load",
        "both-pytorch_fp16-fp16-b1-latency",
    ]
    together = [(case.kind, case.runtime) for case in rows[1:] if case.kind in ABOUT_A_FLIGHT]
    assert together == [
        *[(kind, "onnx_trt_ep") for kind in ("flight", "memory", "takeoff", "heat")],
        *[(kind, "pytorch_fp16") for kind in ("flight", "memory", "takeoff", "heat")],
    ]
    assert rows[0].id == "harness"
    still = {case.kind for case in plan(ask(ONNX, tiers=(2,), runtimes=("onnx_trt_ep",)))}
    assert "flight" not in still  # nobody says how often it is called
    assert [model.name for model in flight_models([BOTH, ONNX], "pytorch_fp16")] == ["both"]


@pytest.mark.covers("T2-02", "RE-04")
def test_tier_2_rows_are_required_where_the_board_limits_them() -> None:
    board = BoardConfig("orin-nx", gpu_memory_bytes=1)
    model = replace(BOTH, load=LoadRule(39.0), budget={"orin-nx": Budget(p95_ms=60)})
    rows = plan(ask(model, tiers=(2,), runtimes=("pytorch_fp16",), require=("pytorch_fp16",), board=board))
    assert {case.kind for case in rows if case.required} == {"latency", "flight", "heat", "memory"}
    assert not any(case.required for case in plan(ask(model, tiers=(2,), require=("pytorch_fp16",))))


@pytest.mark.covers("T0-02")
def test_on_a_simulated_board_every_row_says_so_and_none_is_required() -> None:
    board = BoardConfig("orin-nx")
    model = replace(ONNX, load=LoadRule(39.0), budget={"orin-nx": Budget(p95_ms=60)})
    asked = ask(model, tiers=(2,), runtimes=("tensorrt",), require=("tensorrt",), board=board, scenario="steady")
    rows = plan(asked)
    assert {case.kind for case in rows} == {"load", "latency", "flight", "memory", "takeoff", "heat"}
    assert {(case.simulated, case.not_run) for case in rows} == {("steady", "")}


def test_floors_are_learned_in_the_mix_and_alone_by_what_does_not_fly_in_it() -> None:
    board = BoardConfig("orin-nx", "p3767-0000")
    limited = {"orin-nx": Budget(p95_ms=60.0)}
    flown = ModelConfig("flown", onnx=Path("a.onnx"), precision=("fp16", "int8"), load=LoadRule(39.0), budget=limited)
    unrated = ModelConfig("unrated", onnx=Path("b.onnx"), budget=limited)
    shown = ModelConfig("shown", onnx=Path("c.onnx"))
    night = Ask(
        (2,),
        ("tensorrt",),
        (flown, unrated, shown),
        "small",
        (),
        board,
        {},
        only=("flight", "latency"),
        profile="floor",
    )
    ids = ["unrated-tensorrt-fp16-b1-latency", "flight-tensorrt-fp16", "flight-tensorrt-int8"]
    assert [case.id for case in plan(night)] == ids


@pytest.mark.covers("T2-01")
def test_all_models_together_have_a_row_in_each_precision_that_any_of_them_has() -> None:
    flown = ModelConfig("flown", onnx=Path("a.onnx"), precision=("fp16", "int8"), load=LoadRule(39.0))
    rows = plan(ask(flown, ONNX, tiers=(2,), runtimes=("tensorrt", "onnx_trt_ep"), unavailable={}))
    heat = {case.id: case.not_run for case in rows if case.kind == "heat"}
    assert heat == {
        "heat-tensorrt-fp16": "",
        "heat-tensorrt-int8": "",
        "heat-onnx_trt_ep-fp16": "",
        "heat-onnx_trt_ep-int8": "onnx_trt_ep: no int8 in this release",
    }
    assert {case.id for case in rows if case.lane == "int8"} >= {"flight-tensorrt-int8", "memory-tensorrt-int8"}


@pytest.mark.covers("T2-01", "T2-03")
def test_a_row_that_no_instrument_here_shows_anything_for_is_planned_with_the_reason() -> None:
    rows = plan(
        replace(ask(ONNX, tiers=(2,), unavailable={"tensorrt": "tensorrt: no GPU"}), unseen={"heat": "no sensor"})
    )
    told = {case.id: case.not_run for case in rows if case.kind in ("heat", "memory")}
    assert told["heat-tensorrt-fp16"] == "tensorrt: no GPU"
    assert told["heat-onnx_trt_ep-fp16"] == "no sensor"
    assert told["memory-onnx_trt_ep-fp16"] == ""


@pytest.mark.covers("RE-04")
@pytest.mark.parametrize(
    ("profile", "board", "expected"),
    [
        ("quick", True, {"parity", "semantic"}),
        ("signoff", False, {"parity", "semantic"}),
        ("pr", True, {"parity", "semantic", "latency", "flight", "heat", "takeoff"}),
        ("signoff", True, {"parity", "semantic", "latency", "flight", "heat", "load", "takeoff"}),
    ],
)
def test_a_named_runtime_asks_for_what_is_judged_and_for_no_other_row(
    profile: str, board: bool, expected: set[str]
) -> None:
    budget = {"orin": Budget(p95_ms=10.0, load_s=5.0)}
    model = ModelConfig("m", source="flight:disk", load=LoadRule(39.0), budget=budget)
    rows = plan(
        ask(
            model, tiers=(1, 2), require=("onnx_trt_ep",), board=BoardConfig("orin") if board else None, profile=profile
        )
    )
    assert {case.kind for case in rows if case.required} == expected
    assert {case.runtime for case in rows if case.required} == {"onnx_trt_ep"}
    assert {"pair", "memory"} <= {case.kind for case in rows}
