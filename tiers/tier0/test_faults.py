"""Each runtime meets each fault: the fault matrix of ``harness.faults.matrix``, on the simulated device."""

import pytest

from harness.session import Row


@pytest.mark.rows(0, "faults")
def test_runtime_meets_each_fault(row: Row) -> None:
    row.settle()
