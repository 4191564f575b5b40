"""The two lanes of methods B: fp32 for meaning, the deployed precision for rounding; pairs for information."""

import pytest

from harness.session import Row


@pytest.mark.rows(1, "semantic")
def test_artifacts_mean_the_same(row: Row) -> None:
    row.settle()


@pytest.mark.rows(1, "parity")
def test_runtime_agrees_with_the_reference(row: Row) -> None:
    row.settle()


@pytest.mark.rows(1, "pair")
def test_pair_of_runtimes(row: Row) -> None:
    row.settle()
