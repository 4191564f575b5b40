"""The bump: what is planted in the engine, the device or the environment is named, and nothing planted is silent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.compare import UnlikeError, compare, compare_runs, read_comparison, write_comparison
from harness.compare.load import Loaded
from harness.compare.runs import OLDER
from harness.errors import UsageError
from harness.records import BoardState, Figure, Outcome, Verdict
from harness.records.comparison import Cause, Comparison, Decision, RowChange, Standing, State
from tests.harness.compared_runs import (
    CAPS,
    NEWER,
    a_run,
    base_runs,
    broken,
    launch,
    measured,
    new_runs,
    not_run,
    on,
    with_measurement,
)

pytestmark = pytest.mark.covers("RE-02")


def row(comparison: Comparison, kind: str) -> RowChange:
    return next(one for one in comparison.rows if one.kind == kind)


def test_a_bump_with_nothing_planted_is_silent() -> None:
    found = compare_runs(base_runs(), new_runs())
    assert (found.decision, found.exit_code) == (Decision.ADOPT, 0)
    assert {one.standing for one in found.rows} == {Standing.SAME}
    judged = [change for one in found.rows for change in one.changes if change.is_judged]
    assert len(judged) >= 9
    assert {change.standing for change in judged} == {Standing.SAME}
    assert {change.cause for change in judged} == {Cause.NONE}
    assert [(one.name, one.base, one.new) for one in found.versions] == [
        ("jetpack", "6.2", "7.2"),
        ("tensorrt", "10.3.0", "10.16.0"),
    ]


def test_nothing_planted_holds_no_release_whatever_the_seed() -> None:
    held = [compare_runs(base_runs(seed=seed), new_runs(seed=seed + 100)).exit_code == 1 for seed in range(25)]
    assert sum(held) <= 2


@pytest.mark.parametrize(
    ("planted", "kind", "cause"),
    [
        ({"ms": 12.0}, "latency", Cause.WORK),
        ({"ms": 12.0, "clock_mhz": 1000.0 / 1.2}, "latency", Cause.CLOCK),
        ({"ms": 12.0, "change": with_measurement(precision_ran="fp32")}, "latency", Cause.PRECISION),
        ({"ms": 12.0, "change": with_measurement(nodes_by_precision={"fp16": 4, "fp32": 8})}, "latency", Cause.PRECISION),
        ({"ms": 12.0, "change": with_measurement(nodes_by_provider={"TensorRT": 9, "CUDA": 3})}, "latency", Cause.TOOL),
        ({"gpu_bytes": 520e6}, "memory", Cause.MEMORY),
        ({"error": 9e-3, "change": on("parity", lambda one: replace(one, outcome=Outcome.FAIL))}, "parity", Cause.NUMERICS),
        ({"build_s": 55.0}, "load", Cause.TOOL),
    ],
)  # fmt: skip
def test_what_is_planted_holds_the_release_and_its_cause_is_named(
    planted: dict[str, Any], kind: str, cause: Cause
) -> None:
    found = compare_runs(base_runs(), new_runs(**planted))
    assert (found.decision, found.exit_code) == (Decision.HOLD, 1)
    worst = row(found, kind)
    assert worst.id in found.words
    assert worst.standing in (Standing.WORSE, Standing.BROKE)
    assert worst.cause is cause


def test_a_faster_version_is_better_and_adopted() -> None:
    found = compare_runs(base_runs(), new_runs(ms=8.0))
    assert found.exit_code == 0
    assert row(found, "latency").standing is Standing.BETTER
    assert row(found, "latency").cause is Cause.LESS_WORK


def test_another_process_on_the_gpu_speaks_neither_for_nor_against_a_version() -> None:
    crowded = BoardState(module="p3767-0000", caps=CAPS, boot_id="n1", source="files", gpu_processes=("4000 chrome",))
    found = compare_runs(base_runs(), new_runs(("n1",), ms=13.0, change=with_measurement(board_end=crowded)))
    assert (found.decision, found.exit_code) == (Decision.MEASURE_MORE, 3)
    assert row(found, "latency").cause is Cause.ENVIRONMENT
    assert "Measure the new side again" in found.words
    assert "chrome" in found.words


def test_a_power_cap_that_moved_in_mid_run_is_measured_again() -> None:
    lower = BoardState(
        module="p3767-0000", caps={**CAPS, "gpu_mhz": 816.0}, boot_id="n1", source="files", gpu_processes=()
    )
    runs = new_runs(("n1",), ms=13.0, clock_mhz=1000.0 / 1.3, change=with_measurement(board_end=lower))
    found = compare_runs(base_runs(), runs)
    assert (found.decision, row(found, "latency").cause) == (Decision.MEASURE_MORE, Cause.CLOCK)
    assert "a power cap moved in mid-run (gpu_mhz from 1173 to 816)" in found.words


def test_a_single_base_session_decides_nothing_and_the_page_says_how_long_it_takes() -> None:
    found = compare_runs(base_runs()[:1], new_runs(ms=13.0))
    assert (found.decision, found.exit_code) == (Decision.MEASURE_MORE, 3)
    assert "2 more boot sessions of the base (on a board that still has its version), about 80 min" in found.words
    p95 = next(change for change in row(found, "latency").changes if change.name == "p95")
    assert (p95.standing, p95.cause) == (Standing.OPEN, Cause.NONE)
    assert p95.ratio == pytest.approx(1.3, abs=0.03)


def test_launches_of_one_boot_are_one_session_whatever_the_number_of_runs() -> None:
    same_boot = [a_run(f"old-{at}", boot="b1", seed=at) for at in range(4)]
    found = compare_runs(same_boot, new_runs(ms=13.0))
    p95 = next(change for change in row(found, "latency").changes if change.name == "p95")
    assert (p95.base_sessions, p95.standing) == (1, Standing.OPEN)
    assert any("single boot session" in words for words in found.caveats)


def test_one_weak_regression_among_many_rows_may_be_chance() -> None:
    """Alone it would hold the release; of as many figures as a release has, one such is expected by chance."""
    base = [a_run(f"old-{ms}", boot=f"b{ms}", ms=ms) for ms in (9.4, 10.0, 10.6)]
    new = [a_run(f"new-{ms}", boot=f"n{ms}", ms=ms, environment=NEWER) for ms in (10.8, 11.2, 11.6)]
    p50 = next(change for change in row(compare_runs(base, new), "latency").changes if change.name == "p50")
    assert p50.p_regression is not None
    assert 0.005 < p50.p_regression < 0.05
    assert p50.standing is Standing.OPEN
    assert "it may be chance" in p50.words


def test_a_row_that_passed_and_is_inconclusive_now_is_open_and_says_why() -> None:
    undecided = on(
        "latency", lambda one: replace(one, outcome=Outcome.INCONCLUSIVE, reason="the board was not declared")
    )
    found = compare_runs(base_runs(), new_runs(change=undecided))
    assert (found.decision, found.exit_code) == (Decision.MEASURE_MORE, 3)
    assert "PASS before, INCONCLUSIVE now: the board was not declared" in found.words


@pytest.mark.parametrize(
    ("turn", "standing", "state", "code", "words"),
    [
        (broken, Standing.BROKE, State.BROKE, 1, "stopped working: it ran, and now breaks: EngineBuildError"),
        (not_run, Standing.MISSING, State.NOT_INSTALLED, 3, "not installed on the new side"),
        (lambda one: not_run(one, "no GPU"), Standing.MISSING, State.NOT_RUN, 3, "no evidence on the new side: no GPU"),
        (
            lambda one: replace(one, outcome=Outcome.FAIL, reason="p95 is over 60 ms"),
            Standing.BROKE, State.FAILS, 1, "kept its limit, and fails it now: p95 is over 60 ms",
        ),
    ],
)  # fmt: skip
def test_rows_that_stopped_working_come_first_and_not_installed_reads_differently_from_broke(
    turn: Callable[[Verdict], Verdict], standing: Standing, state: State, code: int, words: str
) -> None:
    found = compare_runs(base_runs(), new_runs(ms=12.5, change=on("parity", turn)))
    first = found.rows[0]
    assert (first.kind, first.standing, first.new_state) == ("parity", standing, state)
    assert words in first.words
    alone = compare_runs(base_runs(), new_runs(change=on("parity", turn)))
    assert alone.exit_code == code
    assert ("Install tensorrt" in alone.words) == (state is State.NOT_INSTALLED)


def test_out_of_memory_is_told_as_the_cause_of_a_row_that_broke() -> None:
    error = "OutOfMemoryError: disk needs 5 GiB, 4 GiB are left"
    found = compare_runs(base_runs(), new_runs(change=on("memory", lambda one: broken(one, error))))
    assert (found.rows[0].standing, found.rows[0].cause) == (Standing.BROKE, Cause.MEMORY)


def test_rows_that_started_working_are_told_and_hold_nothing() -> None:
    found = compare_runs(base_runs(change=on("parity", broken)), new_runs())
    assert (found.rows[0].kind, found.rows[0].standing) == ("parity", Standing.STARTED)
    assert found.exit_code == 0


def test_a_row_that_is_missing_on_one_side_is_a_row() -> None:
    short = [
        replace(one, run=replace(one.run, verdicts=one.run.verdicts[:-1], planned=one.run.planned[:-1])) for one in new_runs()
    ]  # fmt: skip
    found = compare_runs(base_runs(), short)
    assert (row(found, "memory").standing, row(found, "memory").new_state) == (Standing.MISSING, State.ABSENT)
    assert found.exit_code == 3
    backward = compare_runs([replace(one, run=replace(one.run, environment={})) for one in short], base_runs())
    assert row(backward, "memory").words.startswith("only on the new side")
    assert backward.exit_code == 0


def test_a_run_that_ended_early_has_rows_without_evidence_and_says_so() -> None:
    half = [
        replace(one, run=replace(one.run, verdicts=one.run.verdicts[:2], complete=False, interrupted=True))
        for one in new_runs(("n1",))
    ]
    found = compare_runs(base_runs(), half)
    assert {one.kind for one in found.rows if one.new_state is State.NOT_REACHED} == {"load", "memory"}
    assert found.exit_code == 3
    assert any("new-n1 was interrupted" in words for words in found.caveats)


def test_a_row_that_broke_in_one_of_two_new_runs_has_stopped_working() -> None:
    runs = [*new_runs(("n1",)), *new_runs(("n2",), change=on("latency", broken))]
    found = compare_runs(base_runs(), runs)
    assert found.rows[0].standing is Standing.BROKE
    assert "the new's runs do not agree (works in 1, broke in 1)" in found.rows[0].words


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pack_sha256": "77" * 32}, "pack: 9a9a9a9a9a9a9a9a in old-b1"),
        ({"settings": {"profile": "signoff", "size": "flight"}}, "profile: pr in old-b1"),
        ({"schema": 0}, "schema: 2 in old-b1"),
        ({"change": with_measurement(input_sha256=("cc" * 32,))}, "inputs: aaaaaaaa bbbbbbbb in the base, cccccccc"),
        ({"change": with_measurement(timing_boundary="device events")}, "timing boundary: host clock"),
        ({"change": on("latency", with_measurement(rate_hz=3.0))}, "rate: 39 Hz in the base, 3 Hz"),
        ({"change": with_measurement(simulated=True)}, "a simulated board on one side"),
    ],
)
def test_unlike_is_refused_with_the_difference_named(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UnlikeError, match="nothing is compared") as refused:
        compare_runs(base_runs(), new_runs(**given))
    assert told in str(refused.value)
    assert refused.value.differences


@pytest.mark.parametrize(
    ("board", "told"),
    [
        ({"module": "p3701-0005"}, "module: p3767-0000 in old-b1"),
        ({"caps": {**CAPS, "gpu_mhz": 918.0}}, "the GPU's highest clock: 1173 in the base, 918 in the new"),
        ({"caps": {**CAPS, "emc_mhz": 2133.0}}, "the memory's highest clock: 3199 in the base, 2133"),
        ({"caps": {**CAPS, "online_cpus": 4.0}}, "online processors: 8 in the base, 4 in the new"),
    ],
)
def test_another_board_or_power_cap_is_refused(board: dict[str, Any], told: str) -> None:
    state = replace(measured(base_runs()[0].run.planned[0], "n1").board_start, **board)
    with pytest.raises(UnlikeError) as refused:
        compare_runs(base_runs(), new_runs(change=with_measurement(board_start=state)))
    assert told in str(refused.value)


def test_a_mode_of_another_name_with_the_same_caps_is_shown_and_not_refused() -> None:
    state = replace(measured(base_runs()[0].run.planned[0], "n1").board_start, power_mode="MAXN_SUPER_2")
    found = compare_runs(base_runs(), new_runs(("n1",), change=with_measurement(board_start=state)))
    assert [(one.base, one.new) for one in found.environment] == [("unknown", "MAXN_SUPER_2")]
    assert found.exit_code == 0


def test_another_model_is_refused_and_an_engine_that_was_built_anew_is_not() -> None:
    def in_torch(digest: str) -> Callable[[Verdict], Verdict]:
        return lambda one: replace(
            one,
            summary=replace(
                one.summary,
                measurement=replace(
                    one.summary.measurement, case=replace(one.case, runtime="pytorch_fp16"), model_sha256=digest
                ),
            ),
        )

    compare_runs(base_runs(change=in_torch("5f" * 32)), new_runs(change=in_torch("5f" * 32)))
    with pytest.raises(UnlikeError, match="model: 5f5f5f5f5f5f5f5f in the base, 6060"):
        compare_runs(base_runs(change=in_torch("5f" * 32)), new_runs(change=in_torch("60" * 32)))


def test_another_batch_is_refused_though_its_rows_have_other_names() -> None:
    def two(verdict: Verdict) -> Verdict:
        renamed = replace(verdict.case, batch=2, id=verdict.case.id.replace("-b1", "-b2"))
        return with_measurement(case=renamed)(verdict)

    with pytest.raises(UnlikeError, match="batch of disk: 1 in the base, 2 in the new"):
        compare_runs(base_runs(), new_runs(change=on("latency", two)))


def test_a_side_of_two_versions_is_refused() -> None:
    with pytest.raises(UnlikeError, match=r"the base.s runs are of several versions: tensorrt 10\.3\.0 in old-b1"):
        compare_runs([*base_runs(), a_run("old-b4", boot="b4", environment=NEWER)], new_runs())


def test_one_run_speaks_once() -> None:
    with pytest.raises(UsageError, match="are one run"):
        compare_runs(base_runs(), [replace(base_runs()[0], name="copy")])
    with pytest.raises(UsageError, match="needs a run on each side"):
        compare_runs(base_runs(), [])


def test_a_margin_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no margin 'p59'"):
        compare_runs(base_runs(), new_runs(), margins={"p59": 0.1})
    with pytest.raises(UsageError, match="expected a share above 0"):
        compare_runs(base_runs(), new_runs(), margins={"p95": -0.1})
    assert compare_runs(base_runs(), new_runs(ms=11.0), margins={"p95": 0.3, "p50": 0.3}).exit_code == 0


def test_it_says_that_version_and_reflash_cannot_be_told_apart_and_how_two_boards_would() -> None:
    told = " ".join(compare_runs(base_runs(), new_runs()).caveats)
    assert "the version and the reflash cannot be told apart" in told
    assert "(dA - dB) / 2 is the version" in told
    alike = compare_runs(base_runs(), new_runs(environment={}))
    assert any("a version with itself" in words for words in alike.caveats)


def test_a_clock_that_ran_backward_between_the_runs_is_told_and_decides_nothing() -> None:
    early = new_runs(started_at="2019-01-01T00:00:00+00:00", finished_at="2018-12-31T23:00:00+00:00")
    found = compare_runs(base_runs(), early)
    assert any("ends before it begins" in words for words in found.caveats)
    assert any("began before a base run" in words for words in found.caveats)
    assert found.exit_code == 0


def test_a_comparison_is_written_and_read_again_whole(tmp_path: Path) -> None:
    found = compare_runs(base_runs(), new_runs(ms=12.0, change=on("parity", broken)))
    assert read_comparison(write_comparison(found, tmp_path / "out")) == found


def test_the_same_folder_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run folder"):
        compare([tmp_path], [tmp_path / "other"])


# --- builds, and rows by another route ---------------------------------------------------------------------------------


def with_twin(loaded: Loaded, **given: Any) -> Loaded:
    """The run with its latency row a second time, by another precision route."""
    timed = next(one for one in loaded.run.verdicts if one.case.kind == "latency")
    case = replace(timed.case, id=f"{timed.case.id}@strongly-typed", route="strongly-typed")
    measurement = replace(timed.summary.measurement, case=case, lineage={"route": "strongly-typed"})
    twin = replace(timed, summary=replace(timed.summary, measurement=measurement))
    slower = tuple(launch(20.0, number=seen.launch) for seen in loaded.launches[timed.case.id]["disk"])
    run = replace(loaded.run, verdicts=(*loaded.run.verdicts, twin), planned=(*loaded.run.planned, case))
    return replace(loaded, run=run, launches={**loaded.launches, case.id: {"disk": slower}})


def test_a_row_by_another_route_beside_that_of_the_base_holds_nothing() -> None:
    by_flags = with_measurement(lineage={"route": "flags"})
    base = base_runs(change=on("latency", by_flags))
    found = compare_runs(base, [with_twin(one) for one in new_runs(change=on("latency", by_flags))])
    twin = next(one for one in found.rows if one.id.endswith("@strongly-typed"))
    p95 = next(change for change in twin.changes if change.name == "p95")
    assert (found.decision, twin.standing, twin.may_block) == (Decision.ADOPT, Standing.WORSE, False)
    assert (p95.cause, p95.base_sessions, p95.new_sessions) == (Cause.PRECISION, 3, 2)
    assert twin.words.startswith("by another precision route than the base's: p95 worse, p50 worse: +1")
    assert found.foremost[0].row == twin.id


def test_a_default_of_the_builder_that_moved_is_told_once_and_is_the_cause_of_what_became_slower() -> None:
    three, two = (
        with_measurement(lineage={"builder_options": f"builder_optimization_level={level}, flags={more}"})
        for level, more in ((3, "FP16"), (2, "FP16, tiling_optimization_level=NONE"))
    )
    found = compare_runs(base_runs(change=three), new_runs(ms=12.0, change=two))
    (told,) = [change for one in found.rows for change in one.changes if change.name == "builder options"]
    assert (told.standing, told.cause) == (Standing.CHANGED, Cause.TOOL)
    assert told.words == "builder_optimization_level 3, now 2"  # and nothing of an option that is new
    p95 = next(change for change in row(found, "latency").changes if change.name == "p95")
    assert (p95.cause, p95.why.partition(";")[0]) == (Cause.TOOL, told.words)
    same = compare_runs(base_runs(change=three), new_runs(change=three))
    assert "builder options" not in {change.name for one in same.rows for change in one.changes}


def test_a_route_that_the_new_version_has_not_is_the_cause() -> None:
    gone = "route changed: implicit INT8 with a calibrator is gone in TensorRT 11.0; explicit Q/DQ nodes instead"
    found = compare_runs(base_runs(), new_runs(ms=12.0, change=on("latency", with_measurement(notes=(gone,)))))
    p95 = next(change for change in row(found, "latency").changes if change.name == "p95")
    assert p95.cause is Cause.PRECISION
    assert p95.why.startswith("another route: implicit INT8 with a calibrator is gone")


def with_builds(runs: list[Loaded], factors: tuple[float, ...], prefix: str) -> list[Loaded]:
    """Each launch on an engine of its own, which makes it so much slower; the same engines in every boot."""
    found = []
    for one in runs:
        ((case_id, launches),) = one.launches.items()
        seen = tuple(
            replace(each, p50_ns=each.p50_ns * factor, p95_ns=each.p95_ns * factor, build=f"{prefix}{at}")
            for at, (each, factor) in enumerate(zip(launches["disk"], factors, strict=True))
            if each.p50_ns and each.p95_ns
        )
        found.append(replace(one, launches={case_id: {"disk": seen}}))
    return found


def test_engines_that_differ_from_build_to_build_widen_the_interval_of_boots_that_share_them() -> None:
    spread = (0.94, 1.0, 1.06)
    base, new = with_builds(base_runs(), spread, "old"), with_builds(new_runs(ms=10.4), spread, "new")
    alone = compare_runs(base_runs(), new_runs(ms=10.4))
    built = compare_runs(base, new)
    wide, narrow = (
        next(change for change in row(found, "latency").changes if change.name == "p95") for found in (built, alone)
    )
    assert wide.high is not None
    assert narrow.high is not None
    assert wide.high - 1 > 2 * (narrow.high - 1)
    assert (wide.base_builds, wide.new_builds) == (3, 3)


def test_one_build_of_the_base_decides_nothing_on_build_time_and_an_engine_is_told_by_one_row() -> None:
    def figures(seconds: float, megabytes: float) -> Callable[[Verdict], Verdict]:
        told = (
            Figure("build_ns", seconds * 1e9, "ns", "built in this run"),
            Figure("engine_bytes", megabytes * 1e6, "bytes", ""),
        )

        def turn(one: Verdict) -> Verdict:
            if one.case.kind not in ("latency", "parity"):
                return one
            measurement = replace(one.summary.measurement, lineage={"engine": f"e{seconds}"})
            return replace(one, summary=replace(one.summary, measurement=measurement, figures=told))

        return turn

    found = compare_runs(base_runs(change=figures(30, 20)), new_runs(change=figures(90, 25)))
    told = [(one.kind, change) for one in found.rows for change in one.changes if change.about in ("build", "engine")]
    own = {change.name: change for kind, change in told if kind == "latency"}
    assert {kind for kind, _ in told} == {"latency", "load"}
    assert (own["build time"].standing, own["build time"].may_block) == (Standing.UNKNOWN, False)
    assert "a single base build does not tell how far builds lie apart" in own["build time"].words
    assert (own["engine size"].standing, own["engine size"].cause) == (Standing.CHANGED, Cause.TOOL)
    assert own["engine size"].ratio == pytest.approx(1.25)


def test_what_no_row_is_about_is_no_caveat() -> None:
    onnx = [
        replace(one, run=replace(one.run, verdicts=verdicts, planned=tuple(each.case for each in verdicts)))
        for one in (*base_runs()[:1], *new_runs()[:1])
        for parity in [one.run.verdicts[0]]
        for case in [replace(parity.case, id="disk-onnx_trt_ep-fp16-b1", runtime="onnx_trt_ep")]
        for seen in [
            replace(parity.summary.measurement, case=case, placement="onnx_trt_ep[cpu]", model_sha256="f1" * 32)
        ]
        for verdicts in [(replace(parity, summary=replace(parity.summary, measurement=seen)),)]
    ]
    told = " ".join(compare_runs(onnx[:1], onnx[1:]).caveats)
    assert "Two builds" not in told
    assert "boot session" not in told
    everything = " ".join(compare_runs(base_runs()[:1], new_runs()[:1]).caveats)
    assert "Two builds of one version" in everything
    assert "single boot session" in everything


def test_a_version_that_goes_down_asks_whether_the_sides_were_mixed_up() -> None:
    def told(**environment: str) -> str:
        return " ".join(compare_runs(base_runs(), new_runs(environment=environment)).caveats)

    assert f"{OLDER} (tensorrt from 10.3.0 to 8.6.1):" in told(tensorrt="8.6.1")
    assert OLDER not in told(tensorrt="10.16.0")
    assert OLDER not in told(tensorrt="rtx1.7.1")  # another product
    assert OLDER not in told(tensorrt="none")
