"""A real TensorRT parses and builds the model, and the engine check holds the engine: no GPU where TensorRT-RTX builds."""

import pytest

from harness.session import Row


@pytest.mark.rows(0, "build")
def test_model_builds(row: Row) -> None:
    row.settle()
