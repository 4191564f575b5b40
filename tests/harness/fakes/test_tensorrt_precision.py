"""Quantisation by ranges, the text of a calibration cache, and the list of layers."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.fakes.tensorrt_plan import flavour_of
from harness.fakes.tensorrt_precision import (
    describe_layers,
    layer_lines,
    quantize,
    read_cache,
    tensors_to_calibrate,
    write_cache,
)
from tests.harness.fakes.kit import FLOAT, computed, convolution, model, node, onnx, sample, value

pytestmark = pytest.mark.covers("T0-03")

OLD = flavour_of("10.3.0")
RANGES = {"x": 4.0, "d": 3.0}
NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1).filter(str.isprintable)


def test_every_float_that_is_no_weight_is_calibrated() -> None:
    assert tensors_to_calibrate(convolution()) == ["x", "a", "b", "c", "d", "y"]


def test_quantised_nodes_read_int8_and_compute_nearly_the_same() -> None:
    proto, nodes = quantize(convolution(), RANGES, ())
    onnx.checker.check_model(proto, full_check=True)
    assert nodes == {"conv", "mix"}
    assert {tensor.name: tensor.data_type for tensor in proto.graph.initializer if tensor.name.endswith("int8")} == {
        "k@0_int8": onnx.TensorProto.INT8,
        "w@-1_int8": onnx.TensorProto.INT8,
    }
    (result,), (exact,) = (computed(one, {"x": sample()}) for one in (proto, convolution()))
    assert 0 < np.abs(result - exact).max() < 0.05 * np.abs(exact).max()


def test_weights_have_a_scale_for_each_channel_that_uses_all_steps() -> None:
    proto, _ = quantize(convolution(), RANGES, ())
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    steps, scales = arrays["k@0_int8"], arrays["k@0_scale"]
    original = next(onnx.numpy_helper.to_array(t) for t in convolution().graph.initializer if t.name == "k")
    assert scales.shape == (4,)
    assert np.abs(steps).reshape(4, -1).max(axis=1).tolist() == [127] * 4
    assert np.abs(steps * scales.reshape(4, 1, 1, 1) - original).max() <= scales.max() / 2 + 1e-6


@pytest.mark.parametrize(
    ("ranges", "keep", "nodes"), [({}, (), set()), ({"x": 4.0}, (), {"conv"}), (RANGES, ("conv",), {"mix"})]
)
def test_a_node_without_a_range_or_that_is_kept_stays_as_it_is(ranges: Any, keep: Any, nodes: Any) -> None:
    assert quantize(convolution(), ranges, keep)[1] == nodes


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_with_a_bias_is_quantised_along_its_outputs(transposed: int) -> None:
    chance = np.random.default_rng(0)
    weight = chance.standard_normal((4, 6) if transposed else (6, 4)).astype(np.float32)
    gemm = model(
        [node("Gemm", ["x", "w", "b"], ["y"], "gemm", transB=transposed)],
        [value("x", FLOAT, [3, 6])],
        [value("y", FLOAT, [3, 4])],
        {"w": weight, "b": np.ones(4, np.float32)},
        opset=11,
    )
    proto, nodes = quantize(gemm, {"x": 3.0}, ())
    feed = {"x": chance.uniform(-3, 3, (3, 6)).astype(np.float32)}
    assert nodes == {"gemm"}
    assert np.abs(computed(proto, feed)[0] - computed(gemm, feed)[0]).max() < 0.1
    assert proto.opset_import[0].version == 13


@given(
    st.dictionaries(NAMES, st.floats(2**-20, 2**20, width=32), max_size=6),
    st.sampled_from(["EntropyCalibration2", "X"]),
)
def test_a_cache_comes_back_as_it_was_written(ranges: dict[str, float], algorithm: str) -> None:
    data = write_cache(ranges, OLD, algorithm)
    found = read_cache(data, algorithm)
    assert found is not None
    assert found.keys() == ranges.keys()
    assert all(math.isclose(found[name], ranges[name], rel_tol=1e-6) for name in ranges)
    assert data.startswith(f"TRT-100300-{algorithm}\n".encode())


def test_a_scale_is_written_as_the_bits_of_a_big_endian_float() -> None:
    assert (
        write_cache({"input": 127.0}, OLD, "EntropyCalibration2")
        == b"TRT-100300-EntropyCalibration2\ninput: 3f800000\n"
    )
    assert read_cache(b"TRT-8502-EntropyCalibration2\na: b: 40000000\n", "EntropyCalibration2") == {"a: b": 254.0}
    assert struct.unpack(">f", bytes.fromhex("40000000")) == (2.0,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        b"TRT-100300-Other\nx: 3f800000\n",
        b"TRT-1-E\nx: 3f80\n",
        b"TRT-1-E\nx: zz\n",
        b"TRT-1-E\n3f800000\n",
    ],
)
def test_what_is_no_cache_of_this_algorithm_is_none(data: bytes) -> None:
    assert read_cache(data, "E") is None


def test_layers_tell_what_they_read_and_write() -> None:
    proto, _ = quantize(convolution(), RANGES, ())
    layers = {layer["Name"]: layer for layer in describe_layers(proto, OLD)}
    assert list(layers) == [
        "Reformatting CopyNode for Input Tensor 0 to quantize x",
        *("conv", "relu", "mean", "flat"),
        "Reformatting CopyNode for Input Tensor 0 to quantize d",
        "mix",
    ]
    conv = layers["conv"]
    assert [tensor["Format/Datatype"] for tensor in (*conv["Inputs"], *conv["Outputs"])] == [
        "Row major Int8 format",
        "Row major linear FP32",
    ]
    assert conv["Weights"] == {"Type": "Int8", "Count": 108}
    assert layers["mix"]["Constants"][0]["Format/Datatype"] == "Row major Int8 format"
    assert layers["flat"]["Outputs"][0]["Format/Datatype"] == "Row major Int8 format"


def test_the_same_is_told_in_lines() -> None:
    lines = layer_lines(describe_layers(convolution(), flavour_of("rtx1.7.1.116"))).splitlines()
    assert lines[0] == "Layers:"
    assert lines[1].startswith(
        "Name: conv, LayerType: CaskConvolution, Inputs: [ { Name: x, Dimensions: [2,3,8,8], Datatype: Float"
    )
    assert "Constants: [ { Name: w, Dimensions: [4,5], Datatype: Float" in lines[5]
