from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.combine import Combined, combine, labels_for, requirements_of
from harness.errors import UsageError
from harness.records import BoardState, Case, Measurement, Outcome, Run, Summary, Verdict, to_json

pytestmark = pytest.mark.covers("RE-03", "RE-04")

BASE = Case("", 1, "parity", "disk", "tensorrt", "fp16", "fp16", "small")


def row(name: str, outcome: Outcome = Outcome.PASS, reason: str = "because", **given: Any) -> Verdict:
    measurement = Measurement(
        case=replace(BASE, id=name, **given), provider="cuda", simulated=bool(given.get("simulated"))
    )
    return Verdict(Summary(measurement), outcome, reason)


def run_of(name: str, *verdicts: Verdict, planned: Sequence[Case] = (), **given: Any) -> Run:
    base = Run(
        id=name,
        started_at="2026-03-04T10:00:00+00:00",
        finished_at="2026-03-04T11:00:00+00:00",
        complete=True,
        exit_code=0,
        last_line="",
        command=f"trigate run --out {name}",
        seed=0,
        settings={},
        environment={"os": "Linux", "gpu": name},
        configuration_sha256="c0" * 32,
        pack_sha256="9a" * 32,
        planned=(*(verdict.case for verdict in verdicts), *planned),
        verdicts=verdicts,
        trigate_version="0.1.0",
    )
    return replace(base, **given)


def combined(*runs: Run) -> Combined:
    return combine([(run.id, run) for run in runs])


def test_rows_of_all_runs_stand_by_tier_each_with_the_run_that_it_is_from() -> None:
    board = run_of("board", row("c", tier=2), row("d", tier=2))
    found = combined(board, run_of("cloud", row("a", tier=0)), run_of("desk", row("b")))
    assert [verdict.case.id for verdict in found.run.verdicts] == ["a", "b", "c", "d"]
    assert found.rows == {"a": "cloud", "b": "desk", "c": "board", "d": "board"}
    assert found.run.verdicts[0].summary.measurement.notes == ("from run cloud",)
    assert found.run.complete
    assert (found.run.exit_code, found.run.last_line) == (0, "PASS 4.")
    assert found.run.environment == {"os": "Linux", "gpu": "board: board; cloud: cloud; desk: desk"}
    assert found.parts["board"] is board


def test_a_row_that_ran_in_one_run_only_is_taken_and_why_the_other_did_not_is_a_note() -> None:
    cloud = run_of("cloud", row("a"), row("b", Outcome.NOT_RUN, "tensorrt: not installed"))
    for order in ((cloud, run_of("board", row("b"))), (run_of("board", row("b")), cloud)):
        found = combined(*order)
        assert found.rows["b"] == "board"
        assert [verdict.outcome for verdict in found.run.verdicts] == [Outcome.PASS, Outcome.PASS]
        (note,) = found.notes
        assert note.startswith("b is from board; in cloud it did not run")
        assert "tensorrt: not installed" in note


def test_rows_that_ran_in_two_runs_are_refused_by_name_with_what_to_do() -> None:
    with pytest.raises(
        UsageError, match=r"1 row ran twice.*b \(PASS in cloud, FAIL in board\)\. Leave one of the runs out"
    ):
        combined(run_of("cloud", row("a"), row("b")), run_of("board", row("b", Outcome.FAIL)))
    many = [row(f"r{at}") for at in range(9)]
    with pytest.raises(UsageError, match=r"9 rows ran twice.* and 4 more\. Leave one"):
        combined(run_of("one", *many), run_of("two", *(replace(each, reason="other") for each in many)))


def test_a_row_that_is_the_same_in_two_runs_is_one_row() -> None:
    found = combined(run_of("one", row("a", required=True)), run_of("two", row("a"), row("b")))
    assert found.rows == {"a": "one", "b": "two"}
    assert found.run.verdicts[0].case.required


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(list(Outcome))), min_size=1, max_size=8), st.randoms())
def test_in_whatever_order_the_runs_are_given_the_rows_and_their_verdict_are_the_same(
    rows: list[tuple[int, Outcome]], chance: Random
) -> None:
    """Each row ran in one of three runs, and did not in the others."""
    runs = [
        run_of(
            f"run {at}",
            *(row(f"r{k}", outcome if at == where else Outcome.NOT_RUN) for k, (where, outcome) in enumerate(rows)),
        )
        for at in range(3)
    ]
    whole = combined(*runs).run
    shuffled = combined(*chance.sample(runs, 3)).run
    assert {each.case.id: each.outcome for each in whole.verdicts} == {
        f"r{k}": outcome for k, (_, outcome) in enumerate(rows)
    }
    assert {each.case.id: each.outcome for each in shuffled.verdicts} == {
        each.case.id: each.outcome for each in whole.verdicts
    }
    assert (shuffled.exit_code, shuffled.id, shuffled.complete) == (whole.exit_code, whole.id, whole.complete)
    assert (whole.exit_code == 1) == any(outcome is Outcome.FAIL for _, outcome in rows)


def test_runs_of_two_packs_are_refused_with_both_named() -> None:
    with pytest.raises(UsageError, match=r"one is of pack 9a9a9a9a9a9a9a9a and two of pack bbbbbbbbbbbbbbbb"):
        combined(run_of("one", row("a")), run_of("two", row("b"), pack_sha256="bb" * 32))


def test_a_run_without_a_pack_joins_with_rows_about_runtimes_or_simulated_ones_alone() -> None:
    about = row("conformance-tensorrt", kind="conformance", tier=0)
    flown = row("flight-tensorrt-fp16", kind="flight", simulated="steady", tier=2)
    found = combined(run_of("cloud", about, flown, pack_sha256=""), run_of("desk", row("a")))
    assert found.run.pack_sha256 == "9a" * 32
    assert "cloud has no pack: its rows are about runtimes, or SIMULATED" in found.notes
    with pytest.raises(UsageError, match=r"cloud has no pack, and rows about models \(b\).*--pack"):
        combined(run_of("cloud", about, row("b"), pack_sha256=""), run_of("desk", row("a")))


def test_one_run_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"one and copy are one run \(one\)"):
        combine([("one", run_of("one", row("a"))), ("copy", run_of("one", row("b")))])


def test_what_any_of_the_runs_had_to_show_is_required_of_all_together() -> None:
    cloud = run_of(
        "cloud", row("a", Outcome.NOT_RUN, "no GPU", required=True), settings={"require": "tensorrt"}, exit_code=3
    )
    assert combined(cloud, run_of("desk", row("z"))).run.exit_code == 3
    with_board = combined(cloud, run_of("board", row("a")))
    assert with_board.run.exit_code == 0
    assert with_board.run.verdicts[0].case.required
    placed = replace(cloud, settings={"require": "tensorrt[dla]"})
    whole = combined(placed, run_of("board", row("a"))).run
    assert whole.exit_code == 3
    assert "Required tensorrt[dla]: 1 of 1 rows do not show it" in whole.last_line


def test_a_simulated_row_satisfies_nothing_beside_real_ones() -> None:
    asked = run_of("cloud", row("a", Outcome.NOT_RUN, "no board", required=True), settings={"require": "tensorrt"})
    found = combined(asked, run_of("sim", row("a", simulated="steady"), pack_sha256=""))
    assert found.run.exit_code == 3
    assert "No evidence about TensorRT" in found.run.last_line


@pytest.mark.parametrize(
    ("outcomes", "codes", "expected"),
    [((Outcome.FAIL, Outcome.PASS), (1, 0), 1), ((Outcome.PASS, Outcome.PASS), (4, 0), 4), ((Outcome.MEASURED,) * 2, (0, 0), 0)],
)  # fmt: skip
def test_the_exit_code_of_all_together_keeps_its_precedence(
    outcomes: tuple[Outcome, Outcome], codes: tuple[int, int], expected: int
) -> None:
    runs = [run_of(f"run{at}", row(f"r{at}", outcomes[at]), exit_code=codes[at]) for at in range(2)]
    assert combined(*runs).run.exit_code == expected


def test_an_interrupted_run_is_never_green_unless_another_ran_its_rows() -> None:
    cut = run_of("cut", row("a"), planned=[replace(BASE, id="b")], complete=False, interrupted=True, exit_code=130)
    alone = combined(cut, run_of("desk", row("z"))).run
    assert (alone.exit_code, alone.complete, alone.interrupted) == (3, False, True)
    assert "not reached: the run was interrupted" in alone.last_line
    whole = combined(cut, run_of("board", row("b")))
    assert (whole.run.exit_code, whole.run.complete, whole.run.interrupted) == (0, True, False)
    assert any("cut was interrupted" in note for note in whole.notes)


def test_a_run_that_was_killed_is_said_and_not_green() -> None:
    killed = run_of("killed", row("a"), planned=[replace(BASE, id="b")], complete=False, exit_code=None, finished_at="")
    found = combined(killed, run_of("desk", row("z")))
    assert found.run.exit_code == 3
    assert "killed did not finish, or is still running: what it had settled is here" in found.notes


@pytest.mark.parametrize(
    ("at", "told"), [("09:00", "backward by 90 min"), ("10:30", ""), ("12:10", "forward by 100 min")]
)
def test_a_clock_that_was_moved_between_two_runs_of_one_boot_is_said(at: str, told: str) -> None:
    def timed(name: str, started_at: str, uptime_s: float) -> Run:
        verdict = row(name, tier=2)
        board = BoardState(boot_id="b1", uptime_s=uptime_s)
        seen = replace(verdict.summary.measurement, board_start=board, started_at=started_at)
        return run_of(f"run {name}", replace(verdict, summary=replace(verdict.summary, measurement=seen)))

    second = timed("b", f"2026-03-04T{at}:00+00:00", 5400.0)
    notes = " ".join(combined(timed("a", "2026-03-04T10:00:00", 3600.0), second, timed("c", "yesterday", 1.0)).notes)
    assert (f"the clock ran {told} between run a and run b, in one boot" in notes) if told else not notes


def test_other_versions_schemas_and_configurations_are_said() -> None:
    old = run_of("old", row("a"), schema=1, trigate_version="0.0.9", configuration_sha256="dd" * 32)
    notes = " ".join(combined(old, run_of("new", row("b"))).notes)
    assert "several schemas: old: 1; new: 2" in notes
    assert "several versions of trigate: old: 0.0.9; new: 0.1.0" in notes
    assert "several configurations: old: dddddddddddddddd; new: c0c0c0c0c0c0c0c0" in notes


def test_all_together_is_a_record_like_any_other() -> None:
    from harness.records import run_from_text

    whole = combined(run_of("cloud", row("a")), run_of("board", row("b", tier=2))).run
    assert run_from_text(json.dumps(to_json(whole))) == whole


def test_requirements_are_read_from_the_record() -> None:
    bare = run_of("x", row("a"), row("b", runtime="my.module:Runtime", required=True))
    assert requirements_of(bare) == ("my.module:Runtime",)
    asked = replace(bare, settings={"require": "tensorrt[cuda],onnx_trt_ep", "runtime": "onnx_trt_ep"})
    assert requirements_of(asked) == ("tensorrt[cuda]", "onnx_trt_ep", "my.module:Runtime")
    named = replace(bare, command="trigate run --model models/disk.onnx --tier 1")
    assert requirements_of(named) == ("my.module:Runtime", "model[disk]")
    for word, name in (("disk.v2", "disk.v2"), ("disk.v2.onnx", "disk.v2"), ("my-disk.onnx", "my_disk")):
        own = replace(bare.planned[0], model=name) if bare.planned else replace(bare.verdicts[0].case, model=name)
        asked = replace(bare, planned=(own,), verdicts=(), command=f"trigate run --model={word} --tier 1")
        assert requirements_of(asked) == (f"model[{name}]",)


def test_what_a_run_folder_says_it_had_to_show_goes_before_what_the_record_lets_guess() -> None:
    cloud, board = run_of("cloud", row("a"), settings={"require": "tensorrt"}), run_of("board", row("b"))
    assert combine([("cloud", cloud), ("board", board)]).run.exit_code == 3
    assert combine([("cloud", cloud), ("board", board)], {"cloud": ()}).run.exit_code == 0
    told = combine([("cloud", cloud), ("board", board)], {"cloud": (), "board": ("onnx_trt_ep",)}).run
    assert "Required onnx_trt_ep: it has no row" in told.last_line


def test_labels_are_as_short_as_they_can_be_and_all_different(tmp_path: Path) -> None:
    assert labels_for([tmp_path / "a" / "cloud", tmp_path / "b" / "board"]) == ("cloud", "board")
    assert labels_for([tmp_path / "cloud" / "run", tmp_path / "board" / "run"]) == ("cloud/run", "board/run")
    assert labels_for([tmp_path / "run", tmp_path / "run"]) == ("run", "run (2)")
