"""The rows of another run once more: the same pack and rows, and the same precision routes where TensorRT still has them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.bump.like import (
    Like,
    call_as,
    check_pack,
    differing,
    model_names,
    pack_for,
    plan_like,
    read_like,
    stored_call,
)
from harness.cli import main
from harness.config import ModelConfig
from harness.errors import UsageError
from harness.packs.folder import Pack, digest_of, write_pack
from harness.plan import Ask, plan
from harness.records import Case, Measurement, Outcome, Run, Summary, Verdict, to_json
from runtime.strategies.trt_precision import typings_of
from tests.harness.tiny_pack import write_tiny_pack

pytestmark = pytest.mark.covers("RE-02")

MODELS = (ModelConfig("disk", onnx=Path("d.onnx"), precision=("fp16",)),)


def cases(
    *precisions: str, unavailable: dict[str, str] | None = None, tiers: tuple[int, ...] = (1, 2)
) -> tuple[Case, ...]:
    models = tuple(replace(model, precision=precisions or ("fp16",)) for model in MODELS)
    labels = ("tensorrt", "onnx_trt_ep")
    return plan(Ask(tiers, labels, models, "flight", ("tensorrt",), None, unavailable or {}, builder="tensorrt"))


def base(planned: tuple[Case, ...], *, route: str = "", trt: str = "10.3.0", **more: Any) -> Like:
    lineage = {"route": route} if route else {}
    verdicts = tuple(
        Verdict(Summary(Measurement(case, lineage=lineage if case.runtime == "tensorrt" else {})), Outcome.PASS, "")
        for case in planned
    )
    given: dict[str, Any] = {
        "id": "b" * 32, "started_at": "", "finished_at": "", "complete": True, "exit_code": 0, "last_line": "",
        "command": "trigate run", "seed": 0, "settings": {}, "environment": {"tensorrt_host": trt},
        "configuration_sha256": "", "pack_sha256": "p" * 64, "planned": planned, "verdicts": verdicts,
        "trigate_version": "1", **more,
    }  # fmt: skip
    return Like(Path("runs/jp62a"), Run(**given))


def ids(like: Like, trt: str, here: tuple[Case, ...] | None = None) -> dict[str, Case]:
    return {case.id: case for case in plan_like(here or like.run.planned, like, trt).cases}


@pytest.mark.parametrize(
    ("trt", "ways"),
    [
        ("10.3.0", ("flags",)),
        ("10.13.3.9", ("strongly-typed", "flags")),
        ("10.16.2", ("strongly-typed", "flags")),
        ("11.4.0", ("strongly-typed",)),
        ("rtx1.7", ("strongly-typed",)),
        ("none", ()),
        ("", ()),
        ("odd", ()),
    ],
)
def test_by_which_ways_a_version_can_be_told_a_precision(trt: str, ways: tuple[str, ...]) -> None:
    assert typings_of(trt) == ways


def test_where_both_routes_are_there_a_row_is_measured_by_the_bases_and_by_the_new_ones() -> None:
    like = base(cases())
    found = plan_like(cases(), like, "10.16.2")
    rows = {case.id: case for case in found.cases}
    name = "disk-tensorrt-fp16-b1-latency"
    assert (rows[name].route, rows[f"{name}@strongly-typed"].route) == ("flags", "strongly-typed")
    assert not rows[f"{name}@strongly-typed"].required
    assert f"see {name}@strongly-typed" in found.notes[name][0]
    assert found.notes[f"{name}@strongly-typed"][0].startswith("by the route that TensorRT 10.16.2 takes by itself")
    assert rows["disk-tensorrt-fp32-b1"].route == ""  # in fp32 there is nothing to be told
    assert not any("onnx_trt_ep" in row and "@" in row for row in rows)
    assert rows["disk-tensorrt-fp16-b1-vs-onnx_trt_ep"].route == "flags"  # for information: once is enough
    assert "flight-tensorrt-fp16" not in rows  # no rates, so no mix: as in the base
    assert "memory-tensorrt-fp16@strongly-typed" in rows


@pytest.mark.parametrize(
    ("precision", "route", "words"),
    [
        ("fp16", "flags", "route changed: the builder's FP16 flag is gone in TensorRT 11.4; the model is cast to fp16"),
        ("int8", "flags+calibrator", "route changed: implicit INT8 with a calibrator is gone in TensorRT 11.4; explicit Q/DQ"),
        ("mixed", "flags+calibrator", "route changed: implicit INT8 with a calibrator is gone"),
    ],
)  # fmt: skip
def test_a_route_that_is_gone_is_one_row_by_the_new_one_with_the_words_for_it(
    precision: str, route: str, words: str
) -> None:
    like = base(cases(precision), route=route)
    found = plan_like(cases(precision), like, "11.4")
    assert [case.id for case in found.cases] == [case.id for case in like.run.planned]
    assert {case.route for case in found.cases} == {""}
    assert found.notes[f"disk-tensorrt-{precision}-b1-latency"][0].startswith(words)
    assert not any("fp32" in name or "disk-onnx" in name for name in found.notes)


def test_the_route_that_ran_counts_before_what_the_version_would_take() -> None:
    like = base(cases(), route="strongly-typed", trt="10.16")
    assert {case.route for case in plan_like(cases(), like, "10.16").cases} == {""}
    back = plan_like(cases(), like, "10.3")
    assert back.notes["disk-tensorrt-fp16-b1-latency"] == (
        "route changed: TensorRT 10.3 does not take precision from the model's types; builder flags instead",
    )


def test_a_run_that_has_both_rows_is_repeated_with_both_and_no_third() -> None:
    first = plan_like(cases(), base(cases()), "10.16.2").cases
    again = base(first, trt="10.16.2")
    assert [(case.id, case.route) for case in plan_like(cases(), again, "10.16.2").cases] == [
        (case.id, case.route) for case in first
    ]
    name = "disk-tensorrt-fp16-b1-latency"
    of_old = ids(again, "10.3")
    assert "does not take precision from the model's types" in of_old[f"{name}@strongly-typed"].not_run
    of_new = ids(again, "11.4")
    assert not of_new[f"{name}@strongly-typed"].not_run


def test_what_the_base_had_and_this_host_cannot_have_is_a_row_that_says_why() -> None:
    like = base(cases(tiers=(0, 1, 2)))
    here = cases(unavailable={"tensorrt": "tensorrt: not installed"}, tiers=(1, 2))
    rows = ids(like, "none", here)
    assert list(rows) == [case.id for case in like.run.planned]
    assert rows["disk-tensorrt-fp16-b1-latency"].not_run == "tensorrt: not installed"
    assert rows["disk-tensorrt-fp16-b1-build"].not_run == "tensorrt: it built the engine in jp62a; here nothing does"
    assert "here it is not planned" in rows["disk-onnx-fp32-b1-artifact"].not_run
    assert not rows["disk-tensorrt-fp16-b1-build"].required
    other = plan(Ask((1,), ("onnx_trt_ep",), (ModelConfig("xfeat", onnx=Path("x.onnx")),), "flight", (), None, {}))
    lost = ids(like, "none", other)
    assert lost["disk-onnx_trt_ep-fp16-b1"].not_run == "the model disk is not among those of this run"


def test_what_the_base_did_not_have_is_left_out_and_told() -> None:
    like = base(cases(tiers=(1,)))
    found = plan_like(cases(), like, "10.3")
    assert {case.tier for case in found.cases} == {1}
    assert "are left out: the base has no " in found.said[1]


CALL = {
    "config": Path("my.toml"), "model": [], "tier": None, "runtime": [], "require": ["tensorrt"], "profile": "signoff",
    "device": None, "seed": None, "pack": Path("P"), "simulated": "", "builds": None, "size": None, "history": None,
}  # fmt: skip
NOTHING: dict[str, Any] = {
    name: [] if isinstance(value, list) else "" if value == "" else None for name, value in CALL.items()
}


def test_what_a_call_leaves_out_is_the_bases() -> None:
    taken = call_as(NOTHING, CALL, base(()))
    assert (taken["profile"], taken["require"], taken["config"]) == ("signoff", ["tensorrt"], Path("my.toml"))
    assert taken["pack"] is None  # where it is here is another question
    assert call_as({**NOTHING, "profile": "signoff"}, CALL, base(()))["profile"] == "signoff"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "profile",
            "pr",
            "--profile pr does not go with --like runs/jp62a: that run was measured with --profile signoff",
        ),
        ("model", ["disk"], "--model disk does not go with .* measured without --model"),
        ("seed", 7, "--seed 7 does not go with"),
        ("tier", [1], "--tier 1 does not go with"),
        ("builds", 3, "--builds 3 does not go with"),
    ],
)
def test_what_asks_for_something_else_than_the_base_measured_is_refused_in_its_words(
    name: str, value: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        call_as({**NOTHING, name: value}, CALL, base(()))


def test_of_a_simulated_board_the_scenario_is_the_targets_own() -> None:
    simulated = {**CALL, "simulated": "bump_base", "seed": 1}
    taken = call_as({**NOTHING, "simulated": "bump_more_work", "seed": 2}, simulated, base(()))
    assert (taken["simulated"], taken["seed"]) == ("bump_more_work", 2)


def test_calls_that_ask_for_the_same_do_not_differ_whatever_they_say_beside() -> None:
    assert differing({**CALL, "out": "a"}, {**CALL, "out": "b", "quiet": True}) == []
    assert differing(CALL, {**CALL, "model": ["disk"], "profile": "pr"}) == ["--model", "--profile"]
    assert differing({**CALL, "seed": None}, {**CALL, "seed": 0}) == []


def test_the_words_of_the_call_that_began_a_run() -> None:
    like = base((), command="trigate run 'my file.toml' --pack P -- -k disk")
    assert stored_call(like.run) == ["my file.toml", "--pack", "P", "--", "-k", "disk"]
    for wrong in ("", "trigate judge x", "trigate run 'open"):
        with pytest.raises(UsageError, match="cannot be repeated"):
            stored_call(replace(like.run, command=wrong))


def carried(folder: Path) -> tuple[Path, str]:
    """A pack of one model, and its digest."""
    pack = Pack({"tiny": write_tiny_pack(folder / "room", "tiny", onnx=b"x")}, "", 0, "small")
    from harness.config import Configuration

    pack = replace(pack, sha256=digest_of(pack.models))
    configuration = Configuration("my.toml", folder, "c" * 64, models={"tiny": pack.models["tiny"].config()})
    return write_pack(pack, configuration, folder / "P").parent, pack.sha256


def test_the_pack_is_found_where_it_was_or_beside_the_run_by_its_digest(tmp_path: Path) -> None:
    path, sha256 = carried(tmp_path)
    like = replace(base((), pack_sha256=sha256), folder=tmp_path / "jp62a")
    assert pack_for(like, path) == path
    assert pack_for(like, Path("/nowhere/P")) == path  # copied to where the run is
    assert pack_for(like, None) is None
    with pytest.raises(UsageError, match=rf"sha256 {sha256}, and /nowhere/Q is not here.*--like \S+jp62a --pack DIR"):
        pack_for(like, Path("/nowhere/Q"))
    with pytest.raises(UsageError, match="P is another one"):
        pack_for(replace(like, run=replace(like.run, pack_sha256="f" * 64)), path)


def test_models_that_are_not_the_bases_are_refused_with_the_digest_that_is_wanted() -> None:
    like = base(cases())
    check_pack(like, "p" * 64, None)
    with pytest.raises(UsageError, match=r"--pack Q has sha256 ffff.*measured with pppp"):
        check_pack(like, "f" * 64, Path("Q"))
    with pytest.raises(UsageError, match=r"trigate pack \.\.\. --out P"):
        check_pack(like, "f" * 64, None)
    assert model_names(like) == ("disk",)


def stored(folder: Path, like: Like) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(to_json(like.run)))
    return folder


@pytest.mark.covers("RE-04")
def test_the_command_line_plans_the_bases_rows_from_its_pack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, sha256 = carried(tmp_path)
    words = f"trigate run --pack {path} --tier 1 --runtime onnx_trt_ep --out x"
    models = (ModelConfig("tiny", onnx=Path("m.onnx"), precision=("fp16",)),)
    rows = plan(Ask((1,), ("onnx_trt_ep",), models, "small", ("onnx_trt_ep",), None, {}))
    gone = replace(rows[0], id="tiny-tensorrt_rtx-fp16-b1-build", kind="build", runtime="tensorrt_rtx")
    run = stored(tmp_path / "jp62a", base((*rows, gone), pack_sha256=sha256, command=words))
    assert read_like(run).run.planned == (*rows, gone)
    assert main(["run", "--like", str(run), "--dry-run"]) == 0
    told = capsys.readouterr().out
    for case in rows:
        assert f"tier 1  {case.id}" in told
    assert f"{gone.id}  NOT RUN: tensorrt_rtx: it built the engine in jp62a; here nothing does" in told
    assert main(["run", "--like", str(run), "--profile", "pr", "--dry-run"]) == 2
    assert main(["run", "--like", str(tmp_path), "--dry-run"]) == 2
    (path / "pack.json").unlink()
    assert main(["run", "--like", str(run), "--dry-run"]) == 2
    assert "--pack DIR" in capsys.readouterr().err


@pytest.mark.covers("RE-04")
def test_a_run_is_not_gone_on_with_by_another_call_and_nothing_is_made_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.assemble.assemble", lambda *_: pytest.fail("a job is made"))
    run = stored(tmp_path / "a", base((), command="trigate run --model light_squeezenet --tier 1 --out a"))
    assert main(["run", "--resume", "--out", str(run), "--tier", "1"]) == 2
    told = capsys.readouterr().err
    assert "was begun by `trigate run --model light_squeezenet --tier 1 --out a`; this call differs in --model" in told
