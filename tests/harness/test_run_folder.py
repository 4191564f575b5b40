import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from harness.errors import UsageError
from harness.records import (
    JOURNAL,
    Case,
    Measurement,
    Outcome,
    RecordError,
    Run,
    Summary,
    Verdict,
    run_from_folder,
    run_from_text,
    to_json,
)
from harness.run_folder import RunFolder
from tests.harness.test_records import run_record


@pytest.mark.covers("RE-01")
def test_run_json_is_always_whole(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        folder.write_run(run_record())
        assert run_from_text((tmp_path / "run" / "run.json").read_text()) == run_record()
        assert folder.earlier() == run_record()


class Clock:
    """It goes on by what each look at it says that a write takes."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def unfinished(rows: int) -> Run:
    cases = tuple(Case(f"r{at}", 0, "harness", "m", "tensorrt", "fp16", "fp16", "") for at in range(rows))
    return replace(run_record(), planned=cases, complete=False, exit_code=None)


def passed(run: Run, at: int) -> Verdict:
    return Verdict(Summary(Measurement(case=run.planned[at])), Outcome.PASS, f"row {at}")


@pytest.mark.covers("RE-01")
def test_every_row_and_the_last_line_are_on_disk_while_run_json_is_seldom_written(tmp_path: Path) -> None:
    clock, run, written = Clock(), unfinished(100), []

    class Slow(RunFolder):
        def write(self, name: str, data: bytes) -> str:
            clock.now_s += 1.0  # of a large run
            written.append(name)
            return super().write(name, data)

    with Slow(tmp_path / "run", clock=clock) as folder:
        folder.write_run(run)
        for at in range(100):
            clock.now_s += 1.0
            run = replace(run, verdicts=(*run.verdicts, passed(run, at)))
            if folder.is_due:
                folder.write_run(run)
            else:
                folder.note_row(run.verdicts[-1])
            assert at % 25 or run_from_folder(tmp_path / "run").verdicts == run.verdicts
        folder.note_last_line('r100 "ü"\nruns')
        assert folder.earlier() == replace(run, last_line='r100 "ü"\nruns')
        assert written == ["run.json"] * 6, "the first, and then a twentieth of the time"
        folder.write_run(replace(run, complete=True, exit_code=0))
    assert not (tmp_path / "run" / JOURNAL).exists()


def _dies_after(path: Path, rows: int) -> None:
    folder, run = RunFolder(path, clock=lambda: 0.0), unfinished(9)
    folder._due_s = 1.0
    folder.write_run(run)
    folder._due_s = 1.0
    for at in reversed(range(rows)):
        folder.note_row(passed(run, at))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.covers("RE-01")
def test_a_run_that_is_killed_keeps_its_finished_rows_in_their_order(tmp_path: Path) -> None:
    from reports.run_folder import read_run

    child = multiprocessing.get_context("spawn").Process(target=_dies_after, args=(tmp_path / "run", 5))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    for read in (run_from_folder, read_run):
        assert [row.reason for row in read(tmp_path / "run").verdicts] == [f"row {at}" for at in range(5)]
    with RunFolder(tmp_path / "run", resume=True) as folder:
        assert folder.earlier() == run_from_folder(tmp_path / "run")


@pytest.mark.covers("RE-01")
def test_a_line_of_the_journal_that_was_cut_short_is_left_out_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    run = unfinished(3)
    with RunFolder(tmp_path / "run") as folder:
        folder.write_run(run)
        for at in range(3):
            folder.note_row(passed(run, at))
    path = tmp_path / "run" / JOURNAL
    whole = path.read_text()
    path.write_text(whole[:-40])
    assert [row.case.id for row in run_from_folder(tmp_path / "run").verdicts] == ["r0", "r1"]
    path.write_text(whole.replace('"run": "r"', '"run": "another"', 2))
    assert [row.case.id for row in run_from_folder(tmp_path / "run").verdicts] == ["r2"]
    for damaged in (whole.replace('"PASS"', '"PERHAPS"'), whole[80:], "[]\n"):
        path.write_text(damaged)
        with pytest.raises(RecordError, match=r"run\.journal is damaged in line 1"):
            run_from_folder(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(json.dumps(to_json(replace(run, complete=True, exit_code=0))))
    assert run_from_folder(tmp_path / "run").verdicts == (), "a run that has ended needs no journal"


def test_a_folder_with_a_run_is_kept(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        folder.write_run(run_record())
    with pytest.raises(UsageError, match="--resume"):
        RunFolder(tmp_path)
    with RunFolder(tmp_path, resume=True) as folder:
        assert folder.earlier() == run_record()


def test_a_folder_with_other_files_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        RunFolder(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        RunFolder(tmp_path / "thesis.txt")
    with pytest.raises(UsageError, match="part of the path is a file"):
        RunFolder(tmp_path / "thesis.txt" / "run")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def _try_to_open(path: Any, answers: Any) -> None:
    try:
        RunFolder(path, resume=True)
    except UsageError as error:
        answers.put(str(error))
    else:
        answers.put("opened")


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with RunFolder(tmp_path):
        second = context.Process(target=_try_to_open, args=(tmp_path, answers))
        second.start()
        assert "another trigate writes" in answers.get(timeout=60)
        second.join()
    with RunFolder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("number", "says"), [(28, "disk is full"), (30, "read-only"), (13, "permission is denied"), (122, "quota")]
)
def test_a_disk_that_refuses_is_explained(tmp_path: Path, number: Any, says: Any) -> None:
    with RunFolder(tmp_path) as folder, pytest.raises(UsageError, match=says), folder.explained():
        raise OSError(number, os.strerror(number))


def test_arrays_and_samples_are_written_under_their_names(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow: not installed")

    with RunFolder(tmp_path) as folder:
        folder.write_arrays("outputs/a.npz", {"x/error": np.arange(3.0)})
        folder.write_samples("samples/a.parquet", {"call": np.arange(2), "ok": [True, False]})
    with np.load(tmp_path / "outputs" / "a.npz") as arrays:
        assert arrays["x/error"].tolist() == [0.0, 1.0, 2.0]
    assert pyarrow.parquet.read_table(tmp_path / "samples" / "a.parquet").column("ok").to_pylist() == [True, False]


def test_samples_are_kept_as_differences_of_times_and_read_back_as_they_were(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    due = np.arange(20_000) * 25_641_026
    table = {
        "stream": np.arange(20_000) % 3,
        "scheduled_ns": due,
        "done_ns": due + chance.integers(9_000_000, 15_000_000, 20_000),
    }
    with RunFolder(tmp_path / "run") as folder:
        folder.write_samples("a.parquet", {**table, "clock_mhz": np.full(20_000, np.nan), "model": ["Größe"] * 20_000})
    path = tmp_path / "run/a.parquet"
    assert path.stat().st_size < 3.5 * 20_000
    read = pyarrow.parquet.read_table(path)
    assert all(np.array_equal(read[name].to_numpy(), values) for name, values in table.items())
    assert np.isnan(read["clock_mhz"].to_numpy()).all()
    assert set(read["model"].to_pylist()) == {"Größe"}
