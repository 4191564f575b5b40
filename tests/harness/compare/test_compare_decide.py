"""What to do, in words: how long to measure and when that is in vain, and which three changes matter most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.compare import compare_runs
from harness.compare.decide import counted, decide, foremost
from harness.records import Verdict
from harness.records.comparison import Cause, Change, Decision, RowChange, Side, Standing, State
from tests.harness.compared_runs import NEWER, a_run, base_runs, broken, new_runs, not_run

pytestmark = pytest.mark.covers("RE-02")

SIDE = Side("old", "id", "", "", True, "0.1.0", ("b1", "b2"), 3600.0)


def change(standing: Standing, **given: object) -> Change:
    told = Change(
        "p95", "ns", standing, f"p95 is {standing.value}", is_judged=True, may_block=True, about="p95", margin=0.05
    )
    return replace(told, **given)  # type: ignore[arg-type]


def row(name: str, one: Change, *, cause: Cause = Cause.NONE, **given: object) -> RowChange:
    works = State.WORKS
    told = RowChange(name, "latency", name, "tensorrt", "fp16", "", works, works, "", "", one.standing, cause, one.words,
                     may_block=one.may_block, changes=(one,))  # fmt: skip
    return replace(told, **given)  # type: ignore[arg-type]


def test_where_boots_lie_too_far_apart_it_says_that_longer_is_in_vain_and_why() -> None:
    base = [a_run(f"old-{ms}", boot=f"b{ms}", ms=ms) for ms in (6.0, 10.0, 17.0)]
    new = [a_run(f"new-{ms}", boot=f"n{ms}", ms=ms, environment=NEWER) for ms in (8.0, 12.0)]
    found = compare_runs(base, new)
    assert found.decision is Decision.MEASURE_MORE
    told = next(words for words in found.to_do if "will not decide" in words)
    assert "of disk-tensorrt-fp16-b1-latency" in told
    assert "boot sessions of one side lie" in told
    assert "against a margin of" in told
    assert "more boot session" not in found.words


@pytest.mark.parametrize("needed", [13, None])
def test_no_more_boot_sessions_are_advised_than_anybody_measures(needed: int | None) -> None:
    one = change(Standing.OPEN, base_sessions=2, new_sessions=2, needed_base=needed, needed_new=needed, between=0.1)
    _, words, code, to_do = decide([row("disk", one)], [SIDE], [SIDE])
    assert code == 3
    assert to_do == [words.partition("is open. ")[2]]
    assert words.startswith("MEASURE MORE: 1 of 1 row is open. Measuring longer will not decide p95 of disk")


def test_what_a_few_more_boots_decide_is_advised_with_its_time() -> None:
    one = change(Standing.OPEN, base_sessions=2, new_sessions=1, needed_base=3, needed_new=3, between=0.01)
    _, words, _, _ = decide([row("disk", one)], [SIDE], [SIDE])
    assert (
        "Measure 1 more boot session of the base, about 60 min and 2 more boot sessions of the new side, about 2.0 h."
        in words
    )


def test_what_would_take_weeks_is_not_advised() -> None:
    slow = replace(SIDE, took_s=30 * 3600.0)
    one = change(Standing.OPEN, base_sessions=2, new_sessions=2, needed_base=6, needed_new=6, between=0.05)
    assert "will not decide" in decide([row("disk", one)], [slow], [slow])[1]


def test_one_row_is_said_as_one() -> None:
    assert [counted(count, "row") for count in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    same = row("disk", change(Standing.SAME))
    assert "1 row works on both sides" in decide([same], [SIDE], [SIDE])[1]
    broke = row("disk", change(Standing.BROKE))
    assert decide([broke], [SIDE], [SIDE])[1] == (
        "HOLD: disk: p95 is stopped working. Of 1 row 1 stopped working or fails its limit."
    )


def test_who_is_to_hold_reads_which_figure_of_the_first_row_by_how_much_and_why() -> None:
    cycles = "12.73 million cycles, now 14.2, at 1173 MHz"
    slow = change(Standing.WORSE, ratio=1.119, low=1.11, high=1.129, cause=Cause.WORK, why=cycles)
    told = decide([row(name, slow, cause=Cause.WORK) for name in ("disk", "aliked", "lightglue", "x")], [SIDE], [SIDE])[
        1
    ]
    assert told == (
        f"HOLD: disk: p95 +11.9 % [+11.0, +12.9], more work: {cycles}. And aliked, lightglue and 1 more. Of 4 rows 4 regressed."
    )
    dark = change(Standing.WORSE, ratio=1.119, cause=Cause.UNKNOWN, why="no clock was read")
    told = decide([row("disk", dark)], [SIDE], [SIDE])[1]
    assert told.startswith("HOLD: disk: p95 +11.9 % (interval not known), the run folders do not tell why. Of 1 row")


def test_where_a_side_lacks_the_library_no_longer_measuring_is_advised() -> None:
    lacks = row("disk", change(Standing.STARTED, may_block=False), base_state=State.NOT_INSTALLED)
    _, words, code, _ = decide([lacks], [SIDE], [SIDE])
    assert code == 3
    assert words.endswith(
        "Measuring longer does not help: tensorrt is not installed on the base side. Install it there."
    )


def test_the_three_that_matter_most_are_the_gravest_and_rows_that_say_the_same_are_one() -> None:
    hot = change(Standing.WORSE, ratio=1.1, cause=Cause.CLOCK, why="hot")
    rows = [
        row("faster", change(Standing.BETTER, ratio=0.5, may_block=False)),
        *(row(f"slow{at}", hot, cause=Cause.CLOCK) for at in range(3)),
        row("slowest", change(Standing.WORSE, ratio=1.5, cause=Cause.WORK, why="cycles"), cause=Cause.WORK),
        row("changed", change(Standing.CHANGED, may_block=False)),
        row("gone", change(Standing.BROKE)),
        row("same", change(Standing.SAME)),
    ]  # fmt: skip
    found = foremost(rows)
    assert [(one.row, one.others) for one in found] == [("gone", 0), ("slowest", 0), ("slow0", 2)]
    assert (found[1].cause, found[1].why) == (Cause.WORK, "cycles")


def test_a_bump_with_nothing_planted_has_nothing_that_matters() -> None:
    assert compare_runs(base_runs(), new_runs()).foremost == ()


def test_libraries_that_are_missing_are_one_matter_and_read_otherwise_than_what_broke() -> None:
    def turn(verdict: Verdict) -> Verdict:
        return broken(verdict) if verdict.case.kind == "parity" else not_run(verdict)

    found = compare_runs(base_runs(), new_runs(change=turn)).foremost
    assert [(one.standing, one.others) for one in found] == [(Standing.BROKE, 0), (Standing.MISSING, 2)]


def test_a_long_reason_is_told_in_brief_where_it_is_to_be_decided() -> None:
    for step in ("", " `sudo reboot` ends it."):
        told = f"PASS before, INCONCLUSIVE now: 1 other process on the GPU.{step}"
        long = f"{told} (but for that: {'it was under ' * 80})"
        one = change(Standing.OPEN, words=long, is_judged=False, about="verdict")
        _, words, _, to_do = decide([row("memory", one)], [SIDE], [SIDE])
        assert to_do == [f"Decide memory: {told}"]
        assert len(words) < 170


def test_an_adoption_says_what_nobody_compared() -> None:
    numerics_alone = [replace(one, run=replace(one.run, verdicts=one.run.verdicts[:1], planned=one.run.planned[:1]))
                      for one in (*base_runs(), *new_runs())]  # fmt: skip
    found = compare_runs(numerics_alone[:3], numerics_alone[3:])
    assert (found.decision, len(found.rows)) == (Decision.ADOPT, 1)
    assert found.words.endswith("1 row works on both sides. Not compared: latency, energy, memory.")
    assert "Not compared" not in compare_runs(base_runs(), new_runs()).words


def test_rows_that_wait_for_one_step_are_one_thing_to_decide_and_the_step_is_not_cut_off() -> None:
    def open_(launches: int) -> Change:
        words = (
            f"PASS before, INCONCLUSIVE now: p95 is not known to be under 60 ms: {'0 of 140400 over the budget; ' * 9}"
            f"no history of this board gives a floor: `trigate run --profile floor` learns it ({launches} launches); quiet"
        )
        return change(Standing.OPEN, words=words, is_judged=False, about="verdict")

    _, _, _, to_do = decide([row("disk", open_(5)), row("heat", open_(6))], [SIDE], [SIDE])
    step = "no history of this board gives a floor: `trigate run --profile floor` learns it"
    assert to_do == [f"Decide disk and 1 more: PASS before, INCONCLUSIVE now: {step}."]


def test_a_row_without_evidence_says_why_in_what_is_to_be_done() -> None:
    gone = row(
        "disk", change(Standing.MISSING), words="no evidence on the new side: tensorrt: no GPU", new_state=State.NOT_RUN
    )
    assert decide([gone], [SIDE], [SIDE])[3] == ["Measure on the new side what it lacks (disk): tensorrt: no GPU."]


def test_what_is_in_vain_is_said_before_what_would_help_other_figures() -> None:
    far = change(Standing.OPEN, base_sessions=2, new_sessions=2, between=0.1)
    near = change(Standing.OPEN, base_sessions=2, new_sessions=2, needed_base=3, needed_new=3, between=0.01)
    other = replace(SIDE, sessions=("n1", "n2"))
    first, second = decide([row("disk", far), row("heat", near)], [SIDE], [other])[3]
    assert first.startswith("Measuring longer will not decide p95 of disk")
    assert second.startswith("For the other open figures measure 1 more boot session of the base")
    assert "trigate run --against PYTHON" in decide([row("heat", near)], [SIDE], [SIDE])[3][1]  # one boot, one host


@pytest.mark.parametrize("standing", [Standing.WORSE, Standing.OPEN, Standing.SAME])
def test_every_decision_on_simulated_rows_says_that_it_is_no_evidence(standing: Standing) -> None:
    rows = [row("disk", change(standing), simulated=True), row("heat", change(Standing.SAME))]
    assert decide(rows[:1], [SIDE], [SIDE])[1].endswith(" All SIMULATED: no evidence.")
    assert decide(rows, [SIDE], [SIDE])[1].endswith(" 1 row SIMULATED: no evidence.")
    assert "SIMULATED" not in decide(rows[1:], [SIDE], [SIDE])[1]


def test_an_adoption_tells_of_rows_that_fail_or_break_on_both_sides() -> None:
    quiet = change(Standing.SAME)
    states = (State.WORKS, State.FAILS, State.BROKE, State.NOT_RUN)
    rows = [row(state.name, quiet, base_state=state, new_state=state) for state in states]
    told = "1 row works on both sides, 1 fails its limit on both sides, 1 broke on both sides, 1 without evidence on either side."
    assert told in decide(rows, [SIDE], [SIDE])[1]
