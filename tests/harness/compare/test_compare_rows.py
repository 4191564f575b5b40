"""Single figures of a row, old against new: what is counted, what is measured, and what the run folders do not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.compare import compare_runs
from harness.compare.facts import settings_words
from harness.compare.load import PERCENTS, Entry, Loaded
from harness.compare.rows import state_of
from harness.records import Check, Figure, Measurement, Outcome, Summary, Verdict
from harness.records.comparison import Cause, Change, Comparison, Decision, Standing, State
from runtime.libraries import unavailable
from tests.harness.compared_runs import (
    a_run,
    base_runs,
    broken,
    case,
    launch,
    measured,
    new_runs,
    not_run,
    on,
    parity_of,
    with_measurement,
)

pytestmark = pytest.mark.covers("RE-02")

PARITY = "disk-tensorrt-fp16-b1"
LATENCY = "disk-tensorrt-fp16-b1-latency"


def changes(found: Comparison, kind: str) -> dict[str, Change]:
    return {change.name: change for row in found.rows if row.kind == kind for change in row.changes}


def with_drawn(runs: list[Loaded], reference: Any, error: Any) -> list[Loaded]:
    return [replace(one, drawn={PARITY: {"scores": (reference, error)}}) for one in runs]


def with_parity(*figures: Any) -> Callable[[Verdict], Verdict]:
    return on("parity", lambda one: replace(one, summary=replace(one.summary, parity=figures)))


def with_figures(kind: str, *figures: Figure) -> Callable[[Verdict], Verdict]:
    return on(kind, lambda one: replace(one, summary=replace(one.summary, figures=figures)))


def with_launches(runs: list[Loaded], *launches: Any) -> list[Loaded]:
    return [replace(one, launches={LATENCY: {"disk": launches}}) for one in runs]


# --- numerics --------------------------------------------------------------------------------------------------------


def test_drift_is_told_against_one_reference_and_old_against_new_where_both_stored_the_same_elements() -> None:
    reference = np.linspace(1.0, 2.0, 100)
    error = np.full(100, 1e-4)
    old, new = with_drawn(base_runs(), reference, error), with_drawn(new_runs(), reference, error * 3)
    found = changes(compare_runs(old, new), "parity")
    assert found["error of scores"].standing is Standing.SAME
    assert "0.0004, now 0.0004; its tolerance 0.002" in found["error of scores"].words
    direct = float(np.linalg.norm(2 * error) / np.linalg.norm(reference))
    assert f"relative L2 difference {direct:.3g}, over 100 stored elements" in found["scores, old against new"].words


def test_old_against_new_finds_the_elements_that_both_drew_where_the_largest_error_is_another() -> None:
    reference = np.linspace(1.0, 2.0, 100)
    moved = reference.copy()
    moved[3] = 7.0
    new = with_drawn(new_runs(), moved, np.full(100, 2e-4))
    found = changes(compare_runs(with_drawn(base_runs(), reference, np.full(100, 2e-4)), new), "parity")
    words = "the same values, over 99 stored elements drawn for the plots: not both sides kept their outputs"
    assert found["scores, old against new"].words == words


@pytest.mark.parametrize("other", [np.linspace(5.0, 6.0, 100), np.zeros(100), np.empty(0)])
def test_old_against_new_is_not_known_where_the_folders_do_not_hold_it(other: Any) -> None:
    old = with_drawn(base_runs(), np.linspace(1.0, 2.0, 100), np.full(100, 1e-4))
    new = with_drawn(new_runs(), other, np.zeros(other.size))
    assert changes(compare_runs(old, new), "parity")["scores, old against new"].standing is Standing.UNKNOWN
    without = changes(compare_runs(old, new_runs()), "parity")["scores, old against new"]
    assert without.words == "not known: the run folders hold no outputs of it on both sides"


def test_an_error_that_doubled_within_its_tolerance_is_shown_and_holds_nothing() -> None:
    found = compare_runs(base_runs(), new_runs(error=1.5e-3))
    drift = changes(found, "parity")["error of scores"]
    assert (drift.standing, drift.cause, drift.may_block) == (Standing.CHANGED, Cause.NUMERICS, False)
    assert found.exit_code == 0


@pytest.mark.parametrize("given", [{"nan": 3}, {"inf": 1}])
def test_a_nan_that_was_not_there_holds_the_release(given: dict[str, Any]) -> None:
    found = compare_runs(base_runs(), new_runs(change=with_parity(parity_of(4e-4, **given))))
    assert found.exit_code == 1
    assert changes(found, "parity")["error of scores"].standing is Standing.WORSE


def test_an_output_that_is_gone_is_named() -> None:
    both = with_parity(parity_of(4e-4), parity_of(4e-4, output="matches"))
    gone = changes(compare_runs(base_runs(change=both), new_runs()), "parity")["error of matches"]
    assert (gone.standing, gone.words) == (Standing.WORSE, "the new side has no output matches")
    came = changes(compare_runs(base_runs(), new_runs(change=both)), "parity")["error of matches"]
    assert came.standing is Standing.CHANGED


def test_another_precision_route_is_the_cause_of_another_error() -> None:
    turn = with_measurement(precision_ran="fp32")
    found = changes(compare_runs(base_runs(), new_runs(error=1e-6, change=turn)), "parity")
    assert found["error of scores"].cause is Cause.PRECISION
    assert found["precision that ran"].words == "ran in fp16, now in fp32"


def test_layers_that_a_builder_fused_otherwise_are_no_other_route() -> None:
    found = changes(
        compare_runs(base_runs(), new_runs(change=with_measurement(nodes_by_precision={"fp16": 23, "fp32": 2}))), "latency"
    )  # fmt: skip
    assert "precision that ran" not in found


def test_a_row_that_is_no_witness_any_more_holds_the_release() -> None:
    note = "asked for fp16, computed in fp32: no witness of fp16 arithmetic"
    found = compare_runs(base_runs(), new_runs(change=on("parity", with_measurement(witness=False, notes=(note,)))))
    assert found.exit_code == 1
    assert note in changes(found, "parity")["witness"].words


def test_a_clause_that_a_runtime_keeps_no_more_holds_the_release_though_its_row_failed_before() -> None:
    def keeps(*failing: str) -> Callable[[Verdict], Verdict]:
        checks = tuple(
            Check(name, Outcome.FAIL if name in failing else Outcome.PASS, "seen") for name in ("C-01", "C-02")
        )
        clauses = Verdict(Summary(Measurement(case("conformance", "conformance"))), Outcome.FAIL, "not all", checks)
        return lambda verdict: clauses if verdict.case.kind == "memory" else verdict

    found = compare_runs(base_runs(change=keeps("C-01")), new_runs(change=keeps("C-02")))
    told = changes(found, "conformance")
    assert (told["C-01"].standing, told["C-02"].standing) == (Standing.BETTER, Standing.WORSE)
    assert found.exit_code == 1


def test_two_runtimes_of_a_pair_are_told_against_each_other_and_not_against_a_reference() -> None:
    pair = case("disk", "pair", against="pytorch_fp16")
    turn = on("parity", lambda one: replace(with_measurement(case=pair)(one), outcome=Outcome.MEASURED))
    told = changes(compare_runs(base_runs(change=turn), new_runs(change=turn)), "pair")
    assert list(told) == ["error of scores"]
    assert told["error of scores"].words.startswith("relative L2 error against pytorch_fp16 0.0004")


# --- time ------------------------------------------------------------------------------------------------------------


def test_requests_that_fail_now_hold_the_release_and_are_not_left_out_of_p95() -> None:
    lost = launch(10.0, failed=40, p95_ns=None)
    found = compare_runs(base_runs(), with_launches(new_runs(), launch(10.0), lost))
    told = changes(found, "latency")
    assert found.exit_code == 1
    assert "40 of 400 requests of a launch failed" in told["p95"].words
    assert told["p50"].standing is Standing.SAME
    assert told["lost requests"].standing is Standing.WORSE


def test_a_tail_that_grew_alone_is_seen_at_p95_alone() -> None:
    tail = launch(10.0, p95_ns=13e6, service_p95_ns=13e6, cycles_p95=13.0)
    told = changes(compare_runs(base_runs(), with_launches(new_runs(), tail, tail)), "latency")
    assert (told["p95"].standing, told["p95"].cause) == (Standing.WORSE, Cause.WORK)
    assert told["p50"].standing is Standing.SAME


def test_requests_that_wait_longer_while_the_calls_take_as_long_are_no_more_work() -> None:
    waits = launch(10.0, p50_ns=14e6, p95_ns=16e6)
    assert changes(compare_runs(base_runs(), with_launches(new_runs(), waits)), "latency")["p50"].cause is Cause.UNKNOWN
    hot = replace(waits, throttled=0.3)
    assert changes(compare_runs(base_runs(), with_launches(new_runs(), hot)), "latency")["p50"].cause is Cause.CLOCK


def test_without_a_clock_more_work_is_not_claimed() -> None:
    blind: dict[str, Any] = {"cycles_p50": None, "cycles_p95": None}
    old = [
        with_launches([one], launch(ms, **blind))[0] for one, ms in zip(base_runs(), (10.0, 10.02, 9.98), strict=True)
    ]
    slow = launch(12.0, **blind)
    assert changes(compare_runs(old, with_launches(new_runs(), slow)), "latency")["p50"].cause is Cause.UNKNOWN
    threads = with_launches(new_runs(change=with_measurement(threads={"cores": 1})), slow)
    of_threads = with_launches(base_runs(change=with_measurement(threads={"cores": 4})), launch(10.0, **blind))
    p50 = changes(compare_runs(of_threads, threads), "latency")["p50"]
    assert (p50.cause, p50.why) == (Cause.TOOL, "threads cores 4, now cores 1")


@pytest.mark.parametrize(
    ("runtime", "old", "now", "words"),
    [
        ("onnx_trt_ep", {"intra_op": 2, "torch": 1}, {"intra_op": 2}, ""),
        ("onnx_trt_ep", {"intra_op": 2, "torch": 1}, {"intra_op": 2, "torch": 4}, ""),
        ("onnx_trt_ep", {"intra_op": 2, "MKL_NUM_THREADS": 1}, {"intra_op": 4}, "intra_op 2, now intra_op 4"),
        ("pytorch_fp16", {"intra_op": 2, "torch": 1}, {"intra_op": 4, "torch": 4}, "torch 1, now torch 4"),
        ("tensorrt", {"cores": 2, "intra_op": 2}, {"cores": 2, "intra_op": 4}, ""),
        ("somebody_s", {"fibres": 2}, {"fibres": 4}, "fibres 2, now fibres 4"),
        ("onnx_trt_ep", {}, {"intra_op": 4}, ""),
    ],
)  # fmt: skip
def test_of_threads_only_what_the_rows_own_runtime_heeds_and_both_sides_tell_is_a_difference(
    runtime: str, old: dict[str, int], now: dict[str, int], words: str
) -> None:
    sides = []
    for threads in (old, now):
        loaded = a_run("one", boot="b1", change=with_measurement(threads=threads))
        sides.append([Entry(loaded, case("disk", "latency", runtime=runtime), loaded.run.verdicts[1])])
    assert settings_words(*sides) == (f"threads {words}" if words else "")


def test_without_an_interval_or_another_version_no_cause_is_claimed() -> None:
    one = new_runs(("n1",), ms=17.0, load_ms=500.0, build_s=55.0, gpu_bytes=300e6, environment={})
    found = compare_runs(base_runs()[:1], one)
    told = [change for row in found.rows for change in row.changes if change.standing is Standing.OPEN]
    assert {change.name for change in told} >= {"p95", "build time", "GPU memory", "load time"}
    assert {change.cause for change in told} == {Cause.NONE}
    again = changes(compare_runs(base_runs(), new_runs(build_s=55.0, environment={})), "load")["build time"]
    assert (again.standing, again.cause) == (Standing.WORSE, Cause.UNKNOWN)


def test_a_latency_row_without_any_figure_is_open_and_never_the_same() -> None:
    bare = [replace(one, launches={}) for one in new_runs()]
    found = compare_runs(base_runs(), bare)
    assert found.exit_code == 3
    assert changes(found, "latency")["p95"].words == "not known: the new side has no figure of it"


# --- energy, memory, loading, building ---------------------------------------------------------------------------------


def test_energy_that_grew_with_the_calls_has_their_cause() -> None:
    told = changes(compare_runs(base_runs(), new_runs(ms=12.0, energy_j=0.48)), "latency")
    assert (told["energy per call"].standing, told["energy per call"].cause) == (Standing.WORSE, Cause.WORK)
    alone = changes(compare_runs(base_runs(), new_runs(energy_j=0.48)), "latency")["energy per call"]
    assert (alone.standing, alone.cause, alone.why) == (Standing.WORSE, Cause.UNKNOWN, "calls take as long")


def test_memory_that_two_instruments_read_is_not_compared() -> None:
    figures = (
        Figure("gpu_bytes", 900e6, "bytes", "the runtime's ledger: at least"),
        Figure("host_bytes", 200e6, "bytes", "pages"),
    )
    found = changes(compare_runs(base_runs(), new_runs(change=with_figures("memory", *figures))), "memory")
    assert found["GPU memory"].standing is Standing.UNKNOWN
    assert "not compared" in found["GPU memory"].words


def test_a_figure_that_one_side_lacks_is_told_with_its_reason_and_never_a_zero() -> None:
    figures = (
        Figure("gpu_bytes", None, "bytes", why="neither driver nor NvMap tells"),
        Figure("host_bytes", 2e8, "bytes", "the process's pages"),
    )
    found = changes(compare_runs(base_runs(), new_runs(change=with_figures("memory", *figures))), "memory")
    assert found["GPU memory"].words == "not known on the new side: neither driver nor NvMap tells"
    assert found["GPU memory"].new is None


def test_a_load_of_fresh_processes_is_compared_by_sessions_of_processes() -> None:
    load = changes(compare_runs(base_runs(), new_runs(load_ms=450.0)), "load")["load time"]
    assert (load.standing, load.base_sessions, load.new_sessions) == (Standing.WORSE, 3, 2)
    assert load.ratio == pytest.approx(1.5, abs=0.03)
    assert "4 launches" in load.words


def built(reason: str) -> Callable[[Verdict], Verdict]:
    row = case("disk", "build")

    def turn(verdict: Verdict) -> Verdict:
        if verdict.case.kind != "memory":
            return verdict
        summary = Summary(measured(row, verdict.summary.measurement.board_start.boot_id or ""))
        return Verdict(summary, Outcome.PASS, reason, (Check("build", Outcome.PASS, reason),))

    return turn


def test_engine_size_is_read_from_the_build_row_and_not_known_where_it_says_nothing() -> None:
    old = base_runs(change=built("TensorRT 10.3 built it for SM 87 in 30.0 s, 40.0 MB"))
    new = new_runs(change=built("TensorRT 10.16 built it for SM 87 in 31.0 s, 52.0 MB"))
    size = changes(compare_runs(old, new), "build")["engine size"]
    assert (size.standing, size.cause) == (Standing.CHANGED, Cause.TOOL)
    assert size.ratio == pytest.approx(1.3)
    mute = changes(compare_runs(old, new_runs(change=built("it was built"))), "build")["engine size"]
    assert mute.standing is Standing.UNKNOWN


def test_a_warning_that_is_new_is_shown_and_one_that_counts_otherwise_is_not() -> None:
    old = base_runs(change=with_measurement(warnings=("3 tactics were skipped",)))
    new = new_runs(change=with_measurement(warnings=("4 tactics were skipped", "weights were clipped to fp16")))
    found = [change for row in compare_runs(old, new).rows for change in row.changes if change.name == "new warning"]
    assert {change.words for change in found} == {"weights were clipped to fp16"}
    assert {change.standing for change in found} == {Standing.CHANGED}


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("buffer at 0x7f00aa10 is not aligned", "buffer at 0x55d0c2 is not aligned"),
        ("cache /tmp/a1/timing.cache is older", "cache /tmp/b2/x.cache is older"),
        ("engine 9a9a9a9a9a9a9a9a was rebuilt", "engine bcbcbcbcbcbcbcbc was rebuilt"),
        ("[10:59:01.25] 17 tactics in 3.5 s", "[11:02:44.01] 19 tactics in 4.1 s"),
        ("", "p95 is 3 % over its own, baseline of 2026"),
        ("", "route changed: implicit INT8 is gone; explicit Q/DQ instead"),
        ("", "by the base's route, flags; TensorRT 10.16 would take strongly-typed: see x@strongly-typed"),
    ],
)
def test_a_warning_is_not_new_for_its_numbers_addresses_digests_times_and_paths(old: str, now: str) -> None:
    found = compare_runs(
        base_runs(change=with_measurement(warnings=(old,), notes=(old,))),
        new_runs(change=with_measurement(warnings=(now,), notes=(now,))),
    )
    assert not [change for row in found.rows for change in row.changes if change.about == "warnings"]


def test_a_move_to_the_cpu_holds_the_release() -> None:
    found = compare_runs(base_runs(), new_runs(change=on("latency", with_measurement(provider="cpu"))))
    where = changes(found, "latency")["where it runs"]
    assert (where.standing, where.cause, found.exit_code) == (Standing.WORSE, Cause.TOOL, 1)


def test_an_engine_of_the_same_bytes_was_not_built_again() -> None:
    same = with_measurement(model_sha256="ab" * 32)
    found = changes(compare_runs(base_runs(change=same), new_runs(change=same)), "latency")
    assert "the same engine, byte for byte" in found["engine"].words


# --- states ------------------------------------------------------------------------------------------------------------


def test_every_way_in_which_a_row_can_end_has_its_state() -> None:
    loaded = a_run("one", boot="b1")
    verdict = loaded.run.verdicts[0]
    states = {
        State.WORKS: verdict,
        State.FAILS: replace(verdict, outcome=Outcome.FAIL),
        State.BROKE: broken(verdict),
        State.NOT_INSTALLED: not_run(verdict, "tensorrt: cannot be imported (libnvinfer.so.10 is missing)"),
        State.NOT_RUN: not_run(verdict, "not applicable: no sensor"),
        State.NOT_REACHED: None,
    }
    for state, one in states.items():
        assert state_of(Entry(loaded, verdict.case, one)) is state
    all_lost = with_measurement(sample_count=9, failed_count=9)(replace(verdict, outcome=Outcome.FAIL))
    assert state_of(Entry(loaded, verdict.case, all_lost)) is State.BROKE
    unbuilt = Verdict(
        Summary(Measurement(case("disk", "build"))), Outcome.FAIL, "no", (Check("build", Outcome.FAIL, "no"),)
    )
    assert state_of(Entry(loaded, unbuilt.case, unbuilt)) is State.BROKE


# --- what a second look found ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "dropped", "standing"),
    [(1, 0, Standing.WORSE), (1, 1, Standing.CHANGED), (40, 40, Standing.WORSE)],
    ids=["a call failed", "one was dropped", "forty were dropped"],
)
def test_a_call_that_fails_holds_a_release_and_a_single_dropped_one_may_be_chance(
    failed: int, dropped: int, standing: Standing
) -> None:
    old = [with_launches([one], launch(ms))[0] for one, ms in zip(base_runs(), (10.0, 10.01, 9.99), strict=True)]
    lost = changes(
        compare_runs(old, with_launches(new_runs(), launch(10.0, failed=failed, dropped=dropped))), "latency"
    )
    found = lost["lost requests"]
    assert (found.standing, found.may_block) == (standing, standing is Standing.WORSE)
    assert ("by chance" in found.words) == (standing is Standing.CHANGED)


@pytest.mark.parametrize(
    ("error", "standing"), [(5e-3, Standing.OPEN), (1.5e-3, Standing.SAME), (4e-4, Standing.CHANGED)]
)
def test_an_error_that_grew_where_no_tolerance_says_how_far_is_for_somebody_to_decide(
    error: float, standing: Standing
) -> None:
    old, now = (with_parity(parity_of(value, tolerance=None)) for value in (1e-3, error))
    found = compare_runs(base_runs(change=old), new_runs(change=now))
    change = changes(found, "parity")["error of scores"]
    assert (change.standing, found.decision is Decision.MEASURE_MORE) == (standing, standing is Standing.OPEN)
    if standing is Standing.OPEN:
        assert "Decide disk-tensorrt-fp16-b1" in found.words


def test_memory_that_the_new_side_does_not_tell_is_open_and_what_the_base_never_told_is_not() -> None:
    silent = with_figures("memory", Figure("gpu_bytes", None, "bytes", "", why="no NvMap"))
    lost = compare_runs(base_runs(), new_runs(change=silent))
    change = changes(lost, "memory")["GPU memory"]
    assert (lost.decision, change.standing) == (Decision.MEASURE_MORE, Standing.OPEN)
    assert change.words == "not known on the new side: no NvMap"
    assert (
        changes(compare_runs(base_runs(change=silent), new_runs()), "memory")["GPU memory"].standing is Standing.UNKNOWN
    )


@pytest.mark.parametrize(
    ("old", "now", "told"),
    [
        ({"cpu": 82}, {"cpu": 78}, ""),
        ({"gpu": 129}, {"gpu": 128, "cpu": 1}, "nodes on gpu 129, now on cpu 1, gpu 128"),
        ({"cpu": 10, "gpu": 90}, {"cpu": 60, "gpu": 40}, "nodes on cpu 10, gpu 90, now on cpu 60, gpu 40"),
    ],
    ids=["fused otherwise", "a provider more", "other shares"],
)
def test_nodes_that_were_fused_otherwise_have_not_moved(old: dict[str, int], now: dict[str, int], told: str) -> None:
    base, new = (with_measurement(nodes_by_provider=nodes) for nodes in (old, now))
    placed = changes(compare_runs(base_runs(change=base), new_runs(change=new)), "latency")["node placement"]
    assert placed.standing is (Standing.CHANGED if told else Standing.SAME)
    assert placed.words == (told or "on the same providers; the graph was optimised otherwise: 82 nodes, now 78")


def test_requests_that_wait_for_slower_calls_are_slower_for_the_reason_of_those_calls() -> None:
    old = [with_launches([one], launch(ms))[0] for one, ms in zip(base_runs(), (10.0, 10.01, 9.99), strict=True)]
    tail: dict[str, Any] = {"service_p95_ns": 15e6, "cycles_p95": 15.0}
    queued = with_launches(new_runs(), launch(10.0, p50_ns=11e6, p95_ns=16e6, **tail))
    p50 = changes(compare_runs(old, queued), "latency")["p50"]
    assert (p50.standing, p50.cause) == (Standing.WORSE, Cause.WORK)
    assert "waited for those of disk (p95 of a call +36 %): 11 million cycles, now 15" in p50.why


def test_another_process_is_named_where_no_clock_was_read() -> None:
    blind: dict[str, Any] = {"cycles_p50": None, "cycles_p95": None}
    old = [
        with_launches([one], launch(ms, **blind))[0] for one, ms in zip(base_runs(), (10.0, 10.01, 9.99), strict=True)
    ]

    def beside(one: Verdict) -> Verdict:
        board = replace(one.summary.measurement.board_start, gpu_processes=("4000 Xorg",))
        return with_measurement(board_start=board)(one)

    p50 = changes(compare_runs(old, with_launches(new_runs(change=beside), launch(12.0, **blind))), "latency")["p50"]
    assert (p50.standing, p50.cause, p50.again) == (
        Standing.OPEN,
        Cause.ENVIRONMENT,
        "another process used the GPU: Xorg",
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome.PASS, "kept its limit"),
        (Outcome.INCONCLUSIVE, "was not decided"),
        (Outcome.MEASURED, "had no limit"),
    ],
)
def test_a_row_that_fails_now_says_what_it_was(outcome: Outcome, words: str) -> None:
    def ended(how: Outcome) -> Callable[[Verdict], Verdict]:
        return on("latency", lambda one: replace(one, outcome=how, reason="p95"))

    found = compare_runs(base_runs(change=ended(outcome)), new_runs(change=ended(Outcome.FAIL)))
    row = next(row for row in found.rows if row.id == LATENCY)
    assert (row.standing, row.words.startswith(words)) == (Standing.BROKE, True), row.words


@pytest.mark.parametrize("version", ["10.16.0", "10.3.0"])
def test_a_model_that_another_version_refuses_to_build_stopped_working_for_that_version(version: str) -> None:
    refused = on(
        "memory", lambda one: replace(one, outcome=Outcome.FAIL, reason="EngineBuildError while loading disk: opset")
    )
    environment = {"jetpack": "6.2", "tensorrt": version}
    found = compare_runs(base_runs(), new_runs(change=refused, environment=environment))
    row = next(row for row in found.rows if row.kind == "memory")
    assert (row.standing, row.new_state) == (Standing.BROKE, State.BROKE)
    assert row.cause is (Cause.TOOL if version == "10.16.0" else Cause.UNKNOWN)
    back = compare_runs(base_runs(change=refused), new_runs(environment=environment))
    row = next(row for row in back.rows if row.kind == "memory")
    assert (row.standing, row.cause is Cause.TOOL) == (Standing.STARTED, version == "10.16.0")


@pytest.mark.parametrize(
    ("error", "standing", "state"),
    [
        ("ImportError: libnvinfer.so.10: undefined symbol: _ZN4", Standing.BROKE, State.BROKE),
        ("ImportError: libnvinfer.so.10: cannot open shared object file", Standing.MISSING, State.NOT_INSTALLED),
        ("ModuleNotFoundError: No module named 'tensorrt'", Standing.MISSING, State.NOT_INSTALLED),
    ],
)
def test_a_library_that_is_there_and_does_not_load_broke_and_one_that_is_not_there_did_not(
    error: str, standing: Standing, state: State
) -> None:
    reason = str(unavailable("tensorrt", Exception()).args[0]).replace("Exception: ", error)
    found = compare_runs(base_runs(), new_runs(change=on("latency", lambda one: not_run(one, reason))))
    row = next(row for row in found.rows if row.id == LATENCY)
    assert (row.standing, row.new_state, row.cause) == (standing, state, Cause.ENVIRONMENT)
    assert ("did not break" in row.words) == (standing is Standing.MISSING)


@pytest.mark.parametrize(
    ("size", "told"), [(60.0, "the engine of disk 30.0 MiB, now 60.0 MiB"), (30.0, "the same engines")]
)
def test_memory_that_an_engine_of_another_size_explains_says_so(size: float, told: str) -> None:
    def engine(mebibytes: float) -> Callable[[Verdict], Verdict]:
        return with_figures("load", Figure("engine_bytes", mebibytes * 2**20, "bytes", "the file"))

    found = compare_runs(base_runs(change=engine(30.0)), new_runs(change=engine(size), gpu_bytes=500e6))
    grown = changes(found, "memory")["GPU memory"]
    assert (grown.standing, grown.cause, grown.why.startswith(told)) == (Standing.WORSE, Cause.MEMORY, True), grown.why


@pytest.mark.parametrize(("slower", "is_told"), [(1.5, True), (1.0, False)])
def test_slowest_calls_that_p95_does_not_show_are_for_somebody_to_look_at(slower: float, is_told: bool) -> None:
    def with_percentiles(runs: list[Loaded], factor: float) -> list[Loaded]:
        steps = (1.0, 1.002, 0.998)
        drawn = [[1e7 * step * (factor if percent > 97 else 1.0) for percent in PERCENTS] for step in steps]
        return [
            with_launches([one], launch(10.0 * step, percentiles_ns=tuple(percentiles)))[0]
            for one, step, percentiles in zip(runs, steps, drawn, strict=False)
        ]

    found = compare_runs(with_percentiles(base_runs(), 1.0), with_percentiles(new_runs(), slower))
    p99 = changes(found, "latency").get("p99")
    assert (p99 is not None, found.decision) == (is_told, Decision.ADOPT)
    assert ("1 with changes to look at" in found.words) is is_told
    if p99 is not None:
        assert (p99.standing, p99.ratio is not None and round(p99.ratio, 1)) == (Standing.CHANGED, slower)
