"""All models of a runtime together: the flight mix, memory, take-off, heat; and what the harness itself costs."""

import pytest

from harness.session import Row


@pytest.mark.rows(2, "flight", "memory", "takeoff", "heat", "harness")
def test_flight(row: Row) -> None:
    row.settle()
