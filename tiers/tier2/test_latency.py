"""Latency per runtime: p50, p95, p99 with intervals, and calls per second."""

import pytest

from harness.session import Row


@pytest.mark.rows(2, "latency")
def test_latency(row: Row) -> None:
    row.settle()
