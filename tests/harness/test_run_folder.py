import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import UsageError
from harness.records import run_from_text
from harness.run_folder import RunFolder
from tests.harness.test_records import run_record


@pytest.mark.covers("RE-01")
def test_run_json_is_always_whole(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        folder.write_run(run_record())
        assert run_from_text((tmp_path / "run" / "run.json").read_text()) == run_record()
        assert folder.earlier() == run_record()


@pytest.mark.covers("RE-01")
def test_the_last_line_alone_can_be_written_again_and_again(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        folder.write_run(replace(run_record(), last_line='"a" \\ b'))
        for words in ('row "ü" \\1 runs,\n', "", "row b runs"):
            folder.write_last_line(words)
            assert folder.earlier() == replace(run_record(), last_line=words)


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
    import pyarrow.parquet

    with RunFolder(tmp_path) as folder:
        folder.write_arrays("outputs/a.npz", {"x/error": np.arange(3.0)})
        folder.write_samples("samples/a.parquet", {"call": np.arange(2), "ok": [True, False]})
    with np.load(tmp_path / "outputs" / "a.npz") as arrays:
        assert arrays["x/error"].tolist() == [0.0, 1.0, 2.0]
    assert pyarrow.parquet.read_table(tmp_path / "samples" / "a.parquet").column("ok").to_pylist() == [True, False]
