"""Rows as pytest items: each ends as its verdict says, in the plan's order, and what is ours to mend is no verdict."""

from collections.abc import Callable
from pathlib import Path

import pytest

import tiers
from harness.records import Case, Measurement, Outcome, Summary, Verdict
from harness.session import exit_of, run_rows, timed
from harness.tier2.rounds import Rounds

SUITES = Path(str(tiers.__file__)).parent


def case(at: int, tier: int = 1, kind: str = "parity") -> Case:
    return Case(f"m{at}-pytorch_fp16-fp32-b1-{kind}", tier, kind, f"m{at}", "pytorch_fp16", "fp32", "fp32", "small")


def verdict(case: Case, outcome: Outcome, duration_ns: int = 0) -> Verdict:
    return Verdict(Summary(Measurement(case, duration_ns=duration_ns)), outcome, outcome.value)


def session(cases: list[Case], settle: Callable[[Case], Verdict], *arguments: str) -> tuple[bool, list[str], list[str]]:
    heard: list[str] = []
    interrupted, internal = run_rows(cases, SUITES, settle, lambda v: heard.append(v.case.id), arguments)
    return interrupted, internal, heard


@pytest.mark.covers("T1-03", "RE-04")
def test_every_row_is_settled_whatever_the_others_outcomes() -> None:
    outcomes = list(Outcome)
    cases = [case(at) for at in range(len(outcomes))]
    of = {row.id: outcome for row, outcome in zip(cases, outcomes, strict=True)}
    assert session(cases, lambda row: verdict(row, of[row.id])) == (False, [], [row.id for row in cases])


def test_rows_run_in_the_order_of_the_plan_across_kinds() -> None:
    cases = [case(0, 2, "latency"), case(0), case(0, 0, "artifact"), case(1), case(1, 0, "artifact")]
    _, _, heard = session(cases, lambda row: verdict(row, Outcome.PASS))
    assert heard == [row.id for row in cases]


@pytest.mark.covers("RE-04")
def test_a_fault_of_ours_is_internal_with_its_traceback_and_the_other_rows_go_on() -> None:
    def settle(row: Case) -> Verdict:
        if row.model == "m0":
            raise ZeroDivisionError("ours")
        return verdict(row, Outcome.PASS)

    interrupted, internal, heard = session([case(0), case(1)], settle)
    assert (interrupted, heard) == (False, [case(1).id])
    (told,) = internal
    assert case(0).id in told
    assert told.endswith("ZeroDivisionError: ours")


@pytest.mark.covers("RE-04")
def test_ctrl_c_ends_the_session_and_keeps_what_was_heard() -> None:
    def settle(row: Case) -> Verdict:
        if row.model == "m1":
            raise KeyboardInterrupt
        return verdict(row, Outcome.PASS)

    interrupted, internal, heard = session([case(at) for at in range(3)], settle)
    assert (interrupted, internal, heard) == (True, [], [case(0).id])


def test_pytests_own_selection_is_passed_on_and_what_it_leaves_out_is_heard_of() -> None:
    settled: list[str] = []

    def settle(row: Case) -> Verdict:
        settled.append(row.id)
        return verdict(row, Outcome.PASS)

    _, _, heard = session([case(0), case(1)], settle, "-k", "m1")
    assert settled == [case(1).id]
    assert sorted(heard) == [case(0).id, case(1).id]


def test_a_row_that_does_not_say_how_long_it_took_is_timed() -> None:
    assert timed(lambda row: verdict(row, Outcome.PASS))(case(0)).summary.measurement.duration_ns > 0
    assert timed(lambda row: verdict(row, Outcome.PASS, 7))(case(0)).summary.measurement.duration_ns == 7


@pytest.mark.covers("RE-04")
def test_the_exit_code_goes_by_what_weighs_most() -> None:
    passed, failed = (verdict(case(at), outcome) for at, outcome in enumerate((Outcome.PASS, Outcome.FAIL)))
    assert exit_of([passed], [], False, []) == 0
    assert exit_of([passed, failed], [], False, []) == 1
    assert exit_of([], [], False, []) == 3
    assert exit_of([passed, failed], [], False, ["ours"]) == 4
    assert exit_of([passed, failed], [], True, ["ours"]) == 130


@pytest.mark.covers("T2-01")
@pytest.mark.parametrize("arguments", [(), ("--benchmark-disable",), ("-p", "no:benchmark")])
def test_rounds_of_a_load_row_are_run_whoever_is_there_to_run_them(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rounds = Rounds()
    given: list[list[int]] = []

    def settle(row: Case) -> Verdict:
        given.append(rounds.run(lambda: len(given), 3))
        return verdict(row, Outcome.PASS)

    heard: list[str] = []
    rows = [case(0, 2, "load"), case(1, 2, "load")]
    run_rows(rows, SUITES, settle, lambda v: heard.append(v.case.id), arguments, rounds=rounds)
    assert heard == [row.id for row in rows]
    assert given == [[0, 0, 0], [1, 1, 1]]
    assert list(tmp_path.iterdir()) == []
