"""Rows about memory and take-off are judged again from what their processes took, and from nothing that the record says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import BoardConfig, Configuration, ModelConfig
from harness.errors import UsageError
from harness.limits import LIMITS_FILE, limits_of, limits_text
from harness.records import Case, Check, Figure, Measurement, Outcome, Run, Tolerance, Verdict, to_json
from harness.run_folder import RunFolder
from harness.signoff.bundle import judge_again
from harness.tier2.processes import FileSizes, MemoryLooks, judge_looks, judge_starts, keep, read_kept, starts_of
from harness.tier2.rejudge import read_run, rejudge
from harness.tier2.takeoff import TakeoffSeen
from tests.harness.tier2.test_takeoff import BOARD, CASES, LOADS, MODELS, ROW, other_outputs, play

GIB = 1 << 30
MEMORY = Case("quick-memory", 2, "memory", "memory", CASES[0].runtime, "fp32", "fp32", "small")


def took(host_gib: float, gpu_gib: float = 2.0) -> tuple[Figure, ...]:
    return (
        Figure("host_bytes", host_gib * GIB, "bytes", "PSS"),
        Figure("gpu_bytes", gpu_gib * GIB, "bytes", "NVML"),
    )


def looks(host_gib: float = 1.0) -> MemoryLooks:
    """Five launches, of which the last takes most, and twenty looks for a leak."""
    launches = tuple(took(host_gib * share) for share in (0.9, 0.9, 0.9, 0.9, 1.0))
    still = {"disk, host": (1e9,) * 20}
    return MemoryLooks(MEMORY.id, {"disk": took(0.5)}, launches, still, still)


def configuration(board: BoardConfig = BOARD) -> Configuration:
    models = {name: ModelConfig(name, budget={"orin": LOADS[name]}) for name in MODELS}
    return Configuration("c.toml", Path(), "c0" * 32, boards={"orin": board}, models=models)


def made(folder: Path, verdicts: Callable[[RunFolder], tuple[Verdict, ...]]) -> Run:
    """A finished run that judged these rows on the board ``orin``."""
    with RunFolder(folder) as opened:
        settled = verdicts(opened)
        run = Run(
            id="it", started_at="", finished_at="", complete=True, exit_code=None, last_line="", command="", seed=0,
            settings={"board": "orin"}, environment={}, configuration_sha256="c0" * 32, pack_sha256="", trigate_version="0",
            planned=tuple(one.case for one in settled), verdicts=settled,
        )  # fmt: skip
        limits = limits_of(configuration(), configuration().models, "orin", ())
        opened.write(LIMITS_FILE, limits_text(limits))
        opened.write_run(run)
    return run


def of_memory(kept: MemoryLooks) -> Callable[[RunFolder], tuple[Verdict, ...]]:
    return lambda folder: (keep(folder, judge_looks(Measurement(MEMORY, profile="pr"), kept, board=BOARD), kept),)


def of_takeoff(seen: TakeoffSeen) -> Callable[[RunFolder], tuple[Verdict, ...]]:
    def judged(folder: RunFolder) -> tuple[Verdict, ...]:
        shown = replace(seen, measurement=replace(seen.measurement, profile="pr"))
        files = {"engine files": FileSizes(2, 5 << 20)}
        kept = starts_of(shown, CASES, files, is_unified=None, card_is_ours=True)
        near = {model: {"y": Tolerance("y", "derived", 1e-3, 1e-3)} for model in MODELS}
        verdict = judge_starts(shown, kept, board=BOARD, budgets=LOADS, tolerances=near)
        return (keep(folder, verdict, kept),)

    return judged


def told(folder: Path) -> list[str]:
    """What speaks against the run's rows; the exit code is nobody's here."""
    return [problem.words for problem in judge_again(read_run(folder), folder)[1] if "exit code" not in problem.words]


def edit(folder: Path, change: Callable[[Verdict], Verdict]) -> None:
    run = read_run(folder)
    run = replace(run, verdicts=tuple(map(change, run.verdicts)), planned=tuple(change(v).case for v in run.verdicts))
    (folder / "run.json").write_text(json.dumps(to_json(run)))


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize("host_gib", [1.0, 2.0])
def test_a_row_about_memory_is_judged_again_from_its_launches_and_looks(host_gib: float, tmp_path: Path) -> None:
    run = made(tmp_path / "run", of_memory(looks(host_gib)))
    assert run.verdicts[0].outcome is (Outcome.PASS if host_gib == 1.0 else Outcome.FAIL)
    (row,), _ = judge_again(run, tmp_path / "run")
    assert (row.now, row.source, row.differs) == (run.verdicts[0].outcome, "what processes took", ())
    assert told(tmp_path / "run") == []


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize("change", [None, other_outputs(1e-9, from_process=3)])
def test_a_take_off_is_judged_again_from_its_processes(change: Callable[..., object] | None, tmp_path: Path) -> None:
    run = made(tmp_path / "run", of_takeoff(play(tmp_path, change)))  # type: ignore[arg-type] # a change of one of them
    assert run.verdicts[0].outcome is (Outcome.PASS if change is None else Outcome.FAIL)
    (row,), _ = judge_again(run, tmp_path / "run")
    assert (row.now, row.source, row.differs) == (run.verdicts[0].outcome, "what processes took", ())
    text = (tmp_path / "run" / f"raw/{ROW.id}.json").read_text()
    assert str(tmp_path) not in text  # where engines lay is nobody's business


def passing(one: Verdict) -> Verdict:
    checks = tuple(replace(check, outcome=Outcome.PASS, reason="it is under") for check in one.checks)
    return replace(one, outcome=Outcome.PASS, reason="it is under", checks=checks)


def smaller(one: Verdict) -> Verdict:
    figures = tuple(replace(figure, value=1.0) for figure in one.summary.figures)
    return replace(passing(one), summary=replace(one.summary, figures=figures))


def of_another_kind(one: Verdict) -> Verdict:
    measurement = one.summary.measurement
    case = replace(one.case, kind="conformance")
    return replace(passing(one), summary=replace(one.summary, measurement=replace(measurement, case=case, raw_file="")))


def without_its_file(one: Verdict) -> Verdict:
    measurement = replace(one.summary.measurement, raw_file="")
    return replace(passing(one), summary=replace(one.summary, measurement=measurement))


def with_a_check(one: Verdict) -> Verdict:
    return replace(one, checks=(*one.checks, Check("leak of disk, gpu", Outcome.PASS, "none")))


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (passing, "was PASS; by what processes took it is FAIL: host memory 2 GiB of 1.5 GiB"),
        (smaller, "was PASS; by what processes took it is FAIL"),
        (of_another_kind, "its samples are kept, and what run.json says of it (a row of kind conformance)"),
        (without_its_file, "run.json names no file of what its processes took"),
        (with_a_check, "the check leak of disk, gpu: PASS is in run.json alone"),
    ],
)
def test_a_row_about_memory_that_was_rewritten_by_whoever_can_sign_fails_at_what_processes_took(
    change: Callable[[Verdict], Verdict], words: str, tmp_path: Path
) -> None:
    made(tmp_path / "run", of_memory(looks(2.0)))
    edit(tmp_path / "run", change)
    if change is without_its_file:
        (tmp_path / "run" / f"raw/{MEMORY.id}.json").unlink()
    assert words in " ".join(told(tmp_path / "run"))


@pytest.mark.covers("T2-02", "RE-03")
def test_memory_and_take_off_are_judged_again_under_other_budgets(tmp_path: Path) -> None:
    made(tmp_path / "memory", of_memory(looks()))
    made(tmp_path / "takeoff", of_takeoff(play(tmp_path)))
    tight = replace(BOARD, gpu_memory_bytes=GIB, engines_bytes=1 << 20)
    for name, words in (("memory", "GPU memory 2 GiB of 1 GiB"), ("takeoff", "GPU memory: GPU memory 2 GiB of 1 GiB")):
        again = rejudge(tmp_path / name, configuration(tight), "orin", tmp_path / f"{name}-again")
        assert again.verdicts[0].outcome is Outcome.FAIL
        assert words in again.verdicts[0].reason
        assert told(tmp_path / f"{name}-again") == []
    disk = {check.name: check.outcome for check in again.verdicts[0].checks}
    assert disk["engine files"] is Outcome.FAIL
    unlimited = rejudge(tmp_path / "takeoff", configuration(), "", tmp_path / "nowhere")
    assert unlimited.verdicts[0].outcome is Outcome.MEASURED


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"schema": 9}', "has schema 9; this trigate reads up to 1: upgrade trigate"),
        (b'{"row": "another"}', "is of the row 'another', and quick-memory is judged by it"),
    ],
)
def test_a_file_that_is_not_what_the_row_left_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=words):
        read_kept(path, MEMORY)
    with pytest.raises(UsageError, match="cannot be read"):
        read_kept(tmp_path / "none.json", MEMORY)
