"""A model's files are sound, before any runtime is asked: readable, contained, and within what the board's parser takes."""

import pytest

from harness.session import Row


@pytest.mark.rows(0, "artifact")
def test_artifact(row: Row) -> None:
    row.settle()
