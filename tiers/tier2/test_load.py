"""Loading in fresh processes: session creation, load and first call, as rounds of pytest-benchmark where it is there."""

import pytest

from harness.session import Row


@pytest.mark.rows(2, "load")
def test_load(row: Row, request: pytest.FixtureRequest) -> None:
    row.settle(item=request)
