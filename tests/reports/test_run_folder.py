from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from harness.records import Outcome, RecordError
from reports import run_folder

pytestmark = pytest.mark.covers("RE-01")


def test_a_folder_that_is_not_there_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"absent is no folder\. Give the folder that"):
        run_folder.read_run(tmp_path / "absent")


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(RecordError, match=r"has no run\.json: it is no run folder"):
        run_folder.read_run(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.2, 0.999])
def test_a_truncated_run_is_refused_by_name(small: Path, part: float) -> None:
    text = (small / "run.json").read_text()
    (small / "run.json").write_text(text[: int(len(text) * part)])
    with pytest.raises(RecordError, match=r"run\.json: run\.json is not JSON"):
        run_folder.read_run(small)


def test_a_newer_schema_is_refused_with_the_version_that_is_read(small: Path) -> None:
    value = json.loads((small / "run.json").read_text())
    (small / "run.json").write_text(json.dumps({**value, "schema": 99}))
    with pytest.raises(RecordError, match=r"has schema 99; this trigate reads up to 2: upgrade"):
        run_folder.read_run(small)


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema": "1"}', "null"])
def test_json_that_is_no_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RecordError, match=r"not a trigate run"):
        run_folder.read_run(tmp_path)


def test_a_run_without_a_field_is_refused_by_the_name_of_the_field(small: Path) -> None:
    value = json.loads((small / "run.json").read_text())
    del value["seed"]
    (small / "run.json").write_text(json.dumps(value))
    with pytest.raises(RecordError, match="seed"):
        run_folder.read_run(small)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["verdicts", 0, "outcome"], "PASSED", r"verdicts\[0\]\.outcome is 'PASSED'; expected one of PASS, FAIL"),
        (["verdicts", 2, "summary", "measurement", "load_ns"], "soon", r"measurement\.load_ns is 'soon'; expected int"),
        (["verdicts", 0, "summary", "parity", 0, "rel_l2_max"], "small", r"rel_l2_max is 'small'; expected a number"),
        (["planned"], {}, r"Run\.planned is dict; expected a list"),
        (["environment", "cpu"], 7, r"environment\.cpu is 7; expected str"),
        (["exit_code"], False, r"exit_code is False; expected int"),
        (["verdicts", 1], None, r"verdicts\[1\] is NoneType; expected an object"),
    ],
)
def test_a_run_edited_by_hand_is_refused_by_the_place_of_what_does_not_fit(
    full: Path, tmp_path: Path, path: list[Any], value: object, says: str
) -> None:
    run = json.loads((full / "run.json").read_text())
    at = run
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(RecordError, match=says):
        run_folder.read_run(tmp_path)


@pytest.mark.parametrize(("what", "says"), [("verdicts", "has verdicts of two rows"), ("planned", "plans two rows")])
def test_a_run_with_a_row_twice_is_refused_by_the_rows_name(full: Path, tmp_path: Path, what: str, says: str) -> None:
    run = json.loads((full / "run.json").read_text())
    run[what].append(run[what][3])
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(
        RecordError, match=f"{says} called 'disk-pytorch_fp16-fp16-b1': it was edited, or is of two runs"
    ):
        run_folder.read_run(tmp_path)


def test_what_a_record_says_against_itself_is_told(full: Path) -> None:
    run = run_folder.read_run(full)
    assert run_folder.doubts(run) == ()
    passing = next(row for row in run.verdicts if row.outcome is Outcome.PASS and row.checks)
    failing = next(row for row in run.verdicts if row.outcome is Outcome.FAIL)
    swapped = tuple(replace(row, outcome=Outcome.PASS) if row is failing else row for row in run.verdicts)
    other = "The last line of run.json does not count its rows"
    for given, says in (
        ({"exit_code": 0}, "run.json has exit code 0, and 1 of its rows FAIL: it was perhaps edited."),
        ({"exit_code": 77}, "run.json has exit code 77, which trigate has not: it was perhaps edited."),
        ({"exit_code": 1, "verdicts": (passing,), "last_line": "PASS 1."}, "exit code 1, and none of its rows FAIL"),
        (
            {"exit_code": 0, "verdicts": swapped, "last_line": ""},
            f"{failing.case.id}: the verdict is not that of its checks",
        ),
        ({"verdicts": run.verdicts[1:]}, f"{other} (PASS 22, FAIL 1, INCONCLUSIVE 1, "),
        ({"last_line": run.last_line.replace("PASS 23", "PASS 24")}, other),
        (
            {"finished_at": "2026-03-04T09:59:00+00:00"},
            "The clock ran backward: the run began at 2026-03-04T10:00:00+00:00",
        ),
        ({"finished_at": "2026-03-04T09:59:00"}, "The clock ran backward"),
        ({"schema": 1}, "The run has schema 1, of an older trigate (this one writes 2)"),
    ):
        (doubt,) = run_folder.doubts(replace(run, **given))
        assert says in doubt
    assert run_folder.doubts(replace(run, finished_at="later", started_at="")) == ()


def test_files_that_the_record_names_and_the_folder_lacks_are_told(full: Path, tmp_path: Path) -> None:
    run = run_folder.read_run(full)
    assert run_folder.missing_files(run, full) == ["outputs/absent.npz"]
    copied = tmp_path / "half"
    shutil.copytree(full, copied)
    names = {row.summary.measurement.samples_file for row in run.verdicts} - {"", "../../etc/passwd"}
    shutil.rmtree(copied / "samples")
    assert {*run_folder.missing_files(run, copied)} == {"outputs/absent.npz", *names}
    (doubt,) = run_folder.doubts(run, copied)
    assert doubt.startswith(f"The folder lacks {len(names) + 1} files that run.json names (")
    (copied / "outputs" / "absent.npz").touch()
    (copied / "samples").mkdir()
    for name in names:
        (copied / name).touch()
    assert run_folder.doubts(run, copied) == ()


@pytest.mark.parametrize("data", [b"\xff\xfe\x00binary", b"[" * 200_000])
def test_bytes_that_are_no_json_text_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "run.json").write_bytes(data)
    with pytest.raises(RecordError, match=r"run\.json"):
        run_folder.read_run(tmp_path)


def test_a_lone_surrogate_becomes_a_question_mark_and_other_text_stays(small: Path, builder: ModuleType) -> None:
    run = run_folder.read_run(small)
    names = {verdict.case.model for verdict in run.verdicts}
    assert builder.HOSTILE.replace("\ud800", "?") in names


@pytest.mark.parametrize("name", ["../outside.parquet", "/etc/hostname", "samples/../../outside.parquet", "a\0b"])
def test_a_file_outside_the_run_folder_is_not_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "outside.parquet").write_bytes(b"secret")
    with pytest.raises(RecordError, match="not inside the run folder"):
        run_folder.read_samples(folder, name)


def test_a_link_that_leaves_the_run_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "outside.npz").write_bytes(b"secret")
    (folder / "inside.npz").symlink_to(tmp_path / "outside.npz")
    with pytest.raises(RecordError, match="not inside the run folder"):
        run_folder.read_errors(folder, "inside.npz")


def test_calls_keeps_every_measured_call_and_counts_the_rest(tmp_path: Path, builder: ModuleType) -> None:
    latency_ns = np.arange(1, 31) * 1_000_000
    name = builder.write_samples(tmp_path, "samples/a.parquet", latency_ns, warmup=5, failed=2)
    seen = run_folder.calls(run_folder.read_samples(tmp_path, name))
    assert seen.latency_ms.tolist() == list(range(6, 29))
    assert (seen.warmup, seen.failed) == (5, 2)


@pytest.mark.covers("T2-03")
def test_calls_of_tier2_count_from_when_they_were_due_and_know_what_met_a_throttled_board(tmp_path: Path) -> None:
    table = {
        "launch": [0, 0, 0, 1],
        "scheduled_ns": [0, 0, 0, 5],
        "started_ns": [1_000_000] * 4,
        "done_ns": [3_000_000, 4_000_000, 5_000_000, 7_000_005],
        "phase": [1, 2, 2, 2],
        "status": [0, 0, 1, 0],
        "throttled": np.array([0, 1, 1, -1], np.int8),
        "model": ["a", "a", "b", "a"],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "s.parquet")
    samples = run_folder.read_samples(tmp_path, "s.parquet")
    assert run_folder.models(samples) == ["a", "b"]
    due, begun = run_folder.calls(samples, is_open=True), run_folder.calls(samples)
    assert due.latency_ms.tolist() == [4.0, 7.0]
    assert begun.latency_ms.tolist() == pytest.approx([3.0, 6.000005])
    assert due.throttled_ms.tolist() == [4.0]
    assert (due.warmup, due.failed) == (1, 1)
    assert run_folder.calls(samples, model="b").failed == 1


def test_a_trace_is_read_and_one_that_is_none_is_refused(tmp_path: Path, builder: ModuleType) -> None:
    name = builder.write_trace(tmp_path, "traces/a.parquet")
    assert len(run_folder.read_trace(tmp_path, name)) == 220
    pyarrow.parquet.write_table(pyarrow.table({"launch": [0]}), tmp_path / name)
    with pytest.raises(RecordError, match=r"traces/a\.parquet lacks the columns at_ns"):
        run_folder.read_trace(tmp_path, name)


@pytest.mark.parametrize("damage", ["truncate", "columns", "absent"])
def test_damaged_samples_are_refused_with_their_name(tmp_path: Path, builder: ModuleType, damage: str) -> None:
    name = builder.write_samples(tmp_path, "samples/a.parquet", np.full(30, 1_000_000))
    path = tmp_path / name
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "columns":
        pyarrow.parquet.write_table(pyarrow.table({"phase": ["measure"], "ok": [True]}), path)
    else:
        path.unlink()
    with pytest.raises(RecordError, match=r"samples/a\.parquet (cannot be read|lacks the columns done_ns, started_ns)"):
        run_folder.read_samples(tmp_path, name)


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub takes every keyword for allow_pickle


def test_errors_come_back_paired_by_output(tmp_path: Path) -> None:
    save(tmp_path / "e.npz", {"a/b/reference": np.array([1.0, 2.0]), "a/b/error": np.array([0.1, -0.2])})
    read = run_folder.read_errors(tmp_path, "e.npz")
    assert list(read) == ["a/b"]
    assert read["a/b"].error.tolist() == [0.1, -0.2]


def test_pickled_unpaired_and_damaged_errors_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "pickled.npz", {"a/reference": np.array([{}], object), "a/error": np.array([0.0])})
    save(tmp_path / "unpaired.npz", {"a/reference": np.zeros(2), "a/error": np.zeros(3)})
    save(tmp_path / "alone.npz", {"a/error": np.zeros(3)})
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("pickled", "unpaired", "alone", "array", "empty"):
        with pytest.raises(RecordError, match=name):
            run_folder.read_errors(tmp_path, f"{name}.npz")
