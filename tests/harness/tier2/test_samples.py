"""Rows of a launch in one array, and the journal that outlives the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.tier2.samples import COLUMNS, UNKNOWN, Phase, SampleLog, Status, open_journal, read_journal

BYTES = 8 * len(COLUMNS)
whole = st.integers(-(2**63), 2**63 - 1)
row = st.lists(whole, min_size=7, max_size=7)
rows_of_ints = st.lists(st.tuples(row, st.none() | st.tuples(whole, whole, whole, whole)), max_size=20)


@pytest.mark.covers("T2-01")
@given(rows_of_ints)
@settings(max_examples=50, deadline=None)
def test_columns_give_back_what_was_added(rows: list[tuple[list[int], tuple[int, int, int, int] | None]]) -> None:
    log = SampleLog(["a"], launch=4)
    add: Any = log.add
    for numbers, split in rows:
        if split is None:
            add(*numbers)
        else:
            add(*numbers, split)
    columns = log.columns()
    assert tuple(columns) == COLUMNS
    assert len(log) == len(rows)
    assert set(columns["launch"].tolist()) <= {4}
    for at, (numbers, split) in enumerate(rows):
        expected = [4, *numbers, *(split or [UNKNOWN] * 4)]
        assert [int(columns[name][at]) for name in COLUMNS] == expected
    again = SampleLog.from_columns(["a"], columns, launch=4)
    assert all(np.array_equal(again.column(name), columns[name]) for name in COLUMNS)
    again.add(0, 1, 2, 3, 4)
    assert again.last("done_ns") == 4


def test_a_row_says_what_it_is_by_default() -> None:
    log = SampleLog(["a"])
    with pytest.raises(IndexError):
        log.last("status")
    log.add(0, 10, 20, 30, 40)
    assert (log.last("phase"), log.last("status"), log.last("wait_ns")) == (Phase.MEASURE, Status.OK, UNKNOWN)
    assert log.columns()["scheduled_ns"].dtype == np.int64


def test_columns_of_unlike_lengths_are_no_rows() -> None:
    columns = SampleLog(["a"]).columns()
    with pytest.raises(ValueError, match="same shape"):
        SampleLog.from_columns(["a"], {**columns, "launch": np.zeros(2, np.int64)})


@pytest.mark.covers("T2-01")
@pytest.mark.parametrize("cut", [0, 1, 8, BYTES - 1])
def test_a_journal_that_was_cut_off_gives_its_whole_rows_and_can_be_gone_on_with(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows.journal"
    with open_journal(path) as journal:
        log = SampleLog(["a"], journal=journal)
        for at in range(5):
            log.add(0, at, at, at, at)
            if at == 2:
                log.flush()
        log.flush()
        log.flush()
    assert path.stat().st_size == 5 * BYTES
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])
    kept = 5 if not cut else 4
    assert read_journal(path)["done_ns"].tolist() == list(range(kept))
    with open_journal(path) as journal:
        later = SampleLog(["a"], launch=1, journal=journal)
        later.add(0, 9, 9, 9, 9)
        later.flush()
    columns = read_journal(path)
    assert columns["done_ns"].tolist() == [*range(kept), 9]
    assert columns["launch"].tolist() == [0] * kept + [1]
    assert read_journal(path, from_byte=kept * BYTES)["done_ns"].tolist() == [9]


def test_a_log_without_a_journal_flushes_nowhere() -> None:
    log = SampleLog(["a"])
    log.add(0, 1, 1, 1, 1)
    log.flush()
    assert len(log) == 1
