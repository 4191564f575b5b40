"""Shapes, memory and values of ONNX models."""

from __future__ import annotations

import numpy as np
import pytest

from harness.fakes.onnx_model import ModelError, OnnxModel, Tensor, open_model, volume
from tests.harness.fakes.kit import FLOAT, INT64, computed, convolution, model, node, sample, value

pytestmark = pytest.mark.covers("T0-03")


def opened(proto: object) -> OnnxModel:
    return OnnxModel(proto.SerializeToString())  # type: ignore[attr-defined]


def test_inputs_and_outputs_are_told_without_weights() -> None:
    found = opened(convolution("n"))
    assert found.inputs == (Tensor("x", FLOAT, (-1, 3, 8, 8), ("n", "", "", "")),)
    assert [(tensor.name, tensor.dtype.name, tensor.is_dynamic) for tensor in found.outputs] == [("y", "float32", True)]
    assert found.weights_bytes >= 4 * (108 + 20)


def test_the_values_are_those_of_the_model() -> None:
    np.testing.assert_array_equal(
        opened(convolution()).run({"x": sample()})[0], computed(convolution(), {"x": sample()})[0]
    )
    with pytest.raises(ModelError):
        opened(convolution()).run({"x": sample(3)})


def test_the_same_bytes_are_opened_once() -> None:
    data = convolution().SerializeToString()
    assert open_model(data) is open_model(bytes(bytearray(data)))


def test_shapes_follow_from_those_of_the_inputs() -> None:
    found = opened(convolution("n"))
    types = found.types({"x": (7, 3, 8, 8)})
    assert {name: types[name].shape for name in "abcdy"} == {
        **dict.fromkeys("ab", (7, 4, 8, 8)),
        "c": (7, 4, 1, 1),
        "d": (7, 4),
        "y": (7, 5),
    }
    assert found.types({"x": (7, 3, 8, 8)}) is types
    with pytest.raises(ModelError):
        found.types({"x": (7, 8, 8)})


def test_a_shape_that_is_computed_is_found_by_computing_it() -> None:
    proto = model(
        [
            node("Shape", ["x"], ["s"]),
            node("Cast", ["s"], ["f"], to=FLOAT),
            node("Sqrt", ["f"], ["r"]),
            node("Cast", ["r"], ["i"], to=INT64),
            node("ConstantOfShape", ["i"], ["y"]),
        ],
        [value("x", FLOAT, ["a", "b"])],
        [value("y", FLOAT, ["c", "d"])],
    )
    assert opened(proto).types({"x": (4, 9)})["y"].shape == (2, 3)


def test_a_shape_that_the_data_decide_stays_open() -> None:
    proto = model([node("NonZero", ["x"], ["y"])], [value("x", FLOAT, [2, 3])], [value("y", INT64, [2, "k"])])
    assert opened(proto).types({"x": (2, 3)})["y"].shape == (2, -1)


def test_scratch_memory_is_the_most_that_lives_at_once() -> None:
    """a and b live together (2 x 2048 bytes for a batch of 2), c and d come when those are gone."""
    found = opened(convolution("n"))
    assert found.scratch_bytes({"x": (2, 3, 8, 8)}) == 2 * 4 * (2 * 4 * 8 * 8)
    assert found.scratch_bytes({"x": (4, 3, 8, 8)}) == 2 * found.scratch_bytes({"x": (2, 3, 8, 8)})
    one = model([node("Relu", ["x"], ["y"])], [value("x", FLOAT, [4])], [value("y", FLOAT, [4])])
    assert opened(one).scratch_bytes({"x": (4,)}) == 0


def test_a_tensor_that_is_read_late_lives_till_then() -> None:
    nodes = [
        node("Relu", ["x"], ["early"]),
        node("Neg", ["early"], ["a"]),
        node("Neg", ["a"], ["b"]),
        node("Add", ["b", "early"], ["y"]),
    ]
    proto = model(nodes, [value("x", FLOAT, [64])], [value("y", FLOAT, [64])])
    assert opened(proto).scratch_bytes({"x": (64,)}) == 3 * 256


def test_tensors_in_the_middle_can_be_asked_for() -> None:
    values = opened(convolution()).intermediate({"x": sample()}, ["b", "y"])
    assert (values["b"] >= 0).all()
    np.testing.assert_array_equal(values["y"], computed(convolution(), {"x": sample()})[0])


def test_volume_counts_an_open_dimension_as_it_is_told() -> None:
    assert (volume((2, 3)), volume(()), volume((2, -1), unknown=5), volume((0, 4))) == (6, 1, 10, 0)
