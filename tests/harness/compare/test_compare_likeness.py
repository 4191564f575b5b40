"""Unlike is refused with the difference named, and what only one side knows is no difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.compare import compare_runs
from harness.compare.likeness import UnlikeError
from harness.records import Measurement, Outcome, Summary, Verdict
from harness.records.comparison import Decision, Standing
from tests.harness.compared_runs import NEWER, a_run, base_runs, broken, new_runs, not_run, on, with_measurement

pytestmark = pytest.mark.covers("RE-02")


def descended(**lineage: str) -> Callable[[Verdict], Verdict]:
    return with_measurement(lineage=lineage)


@pytest.mark.parametrize(
    ("old", "now", "told"),
    [
        (
            {"model": "aa" * 32},
            {"model": "bb" * 32},
            "model: aaaaaaaaaaaaaaaa in the base, bbbbbbbbbbbbbbbb in the new",
        ),
        ({"model[disk]": "aa" * 32}, {"model[disk]": "bb" * 32}, "model: disk aaaaaaaaaaaaaaaa in the base, disk bbbb"),
        ({"reference": "aa" * 32}, {"reference": "bb" * 32}, "reference: aaaaaaaaaaaaaaaa in the base"),
        ({"golden": "aa" * 32}, {"golden": "bb" * 32}, "golden outputs: aaaaaaaaaaaaaaaa in the base"),
    ],
)
def test_another_model_or_reference_is_refused_by_name(old: dict[str, str], now: dict[str, str], told: str) -> None:
    with pytest.raises(UnlikeError, match=told):
        compare_runs(base_runs(change=descended(**old)), new_runs(change=descended(**now)))


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ({"model": "aa" * 32, "engine": "e1" * 32}, {"model": "aa" * 32, "engine": "e2" * 32}),
        ({}, {"model": "bb" * 32, "reference": "cc" * 32}),
    ],
)
def test_another_engine_and_what_one_side_alone_tells_are_no_difference(
    old: dict[str, str], now: dict[str, str]
) -> None:
    found = compare_runs(base_runs(change=descended(**old)), new_runs(change=descended(**now)))
    assert found.decision is Decision.ADOPT


def test_another_schema_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        UnlikeError, match=r"schema: 1 in old-b1.*2 in new-n1.*measure old-b1 again with trigate 0\.1\.0"
    ):
        compare_runs(base_runs(schema=1), new_runs())


def test_runs_of_one_older_schema_are_compared() -> None:
    assert compare_runs(base_runs(schema=1), new_runs(schema=1)).decision is Decision.ADOPT


def test_a_simulated_board_is_not_compared_with_a_real_one() -> None:
    with pytest.raises(UnlikeError, match="a simulated board on one side, a real one on the other"):
        compare_runs(base_runs(change=with_measurement(simulated=True)), new_runs())


def test_a_new_side_on_which_nothing_ran_is_no_other_module() -> None:
    found = compare_runs(base_runs(), new_runs(change=not_run))
    assert found.decision is Decision.MEASURE_MORE
    assert {row.standing for row in found.rows} == {Standing.MISSING}
    assert found.words.startswith("MEASURE MORE: 4 of 4 rows are open. Install tensorrt on the new side (")


@pytest.mark.parametrize(
    ("old", "now", "told"),
    [
        ({"module": "p3767-0000"}, {"module": "p3767-0001"}, "module: p3767-0000 in old, p3767-0001 in new"),
        ({"gpu": "RTX A", "cpu": "x"}, {"gpu": "RTX B", "cpu": "x"}, r"module \(gpu\): RTX A in old, RTX B in new"),
        ({"gpu": "none", "cpu": "x"}, {"gpu": "RTX B", "cpu": "y"}, r"module \(cpu\): x in old, y in new"),
    ],
)
def test_another_machine_is_named_by_the_first_fact_that_all_runs_know(
    old: dict[str, str], now: dict[str, str], told: str
) -> None:
    ran_nowhere: Any = {"change": not_run}
    with pytest.raises(UnlikeError, match=told):
        compare_runs(
            [a_run("old", boot="b1", environment=old, **ran_nowhere)],
            [a_run("new", boot="n1", environment={**NEWER, **now}, **ran_nowhere)],
        )


def test_every_difference_is_named_at_once_with_its_rows() -> None:
    runs = new_runs(change=on("latency", with_measurement(profile="signoff", timing_boundary="events")))
    with pytest.raises(UnlikeError) as refused:
        compare_runs(base_runs(pack_sha256="11" * 32), [replace(one, run=replace(one.run, schema=1)) for one in runs])
    told = " ".join(refused.value.differences)
    assert len(refused.value.differences) == 4
    for words in (
        "schema",
        "pack",
        "profile: pr in the base, signoff in the new (disk-tensorrt-fp16-b1-latency)",
        "timing",
    ):
        assert words in told


def test_a_row_that_broke_before_it_ran_anywhere_is_not_taken_for_another_board() -> None:
    def crashed(verdict: Verdict) -> Verdict:
        return broken(Verdict(Summary(Measurement(verdict.case)), Outcome.FAIL, ""))

    simulated = with_measurement(simulated=True)
    found = compare_runs(
        base_runs(change=simulated),
        new_runs(change=lambda one: crashed(one) if one.case.kind == "memory" else simulated(one)),
    )
    row = next(row for row in found.rows if row.kind == "memory")
    assert (found.decision, row.standing, row.simulated) == (Decision.HOLD, Standing.BROKE, True)


def test_a_profile_is_refused_once_and_not_row_by_row() -> None:
    other = new_runs(settings={"profile": "quick", "size": "flight"}, change=with_measurement(profile="quick"))
    with pytest.raises(UnlikeError) as refused:
        compare_runs(base_runs(), other)
    assert [words.partition(":")[0] for words in refused.value.differences] == ["profile"]


def test_a_batch_that_one_side_has_beside_the_shared_one_is_a_row_and_no_other_batch() -> None:
    def and_four(verdict: Verdict) -> Verdict:
        case = replace(verdict.case, id=f"{verdict.case.id}-b4", batch=4)
        measurement = replace(verdict.summary.measurement, case=case)
        return replace(verdict, summary=replace(verdict.summary, measurement=measurement))

    def with_both(one: Any) -> Any:
        verdicts = (*one.run.verdicts, and_four(one.run.verdicts[1]))
        return replace(one, run=replace(one.run, verdicts=verdicts, planned=tuple(each.case for each in verdicts)))

    found = compare_runs([with_both(one) for one in base_runs()], new_runs())
    assert [row.id for row in found.rows if row.standing is Standing.MISSING] == ["disk-tensorrt-fp16-b1-latency-b4"]


def test_a_row_that_broke_tells_no_caps_and_does_not_put_likeness_in_doubt() -> None:
    base = base_runs(change=lambda one: broken(one) if one.case.kind == "latency" else one)
    assert not any("power caps" in words for words in compare_runs(base, new_runs()).caveats)


def test_a_model_that_broke_on_one_side_is_no_other_model_of_a_row_about_all() -> None:
    both = descended(**{"model[disk]": "aa" * 32, "model[aliked]": "bb" * 32})
    one_broke = descended(**{"model[disk]": "aa" * 32})
    for base, new in ((both, one_broke), (one_broke, both)):
        assert compare_runs(base_runs(change=base), new_runs(change=new)).decision is Decision.ADOPT
