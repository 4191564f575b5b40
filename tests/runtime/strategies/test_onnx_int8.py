"""Q/DQ by ONNX Runtime's static quantisation, run for real: what is quantised, how well, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from runtime.calibration import CalibrationRanges, format_ranges, parse_ranges  # noqa: E402
from runtime.strategies.onnx_int8 import QuantizeError, half_scales, measure_ranges, plain_model, quantize  # noqa: E402

pytestmark = pytest.mark.covers("TT-02")


def floats(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def write_cnn(path: Path, *, scale: float = 1.0, opset: int = 18, external: bool = False) -> Path:
    """x -> Conv -> Relu -> Conv -> y, with biases."""
    chance = np.random.default_rng(1)
    weights = {
        "w0": 0.3 * scale * chance.standard_normal((8, 3, 3, 3)),
        "b0": 0.1 * scale * chance.standard_normal(8),
        "w1": 0.2 * chance.standard_normal((4, 8, 3, 3)),
        "b1": 0.1 * chance.standard_normal(4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["h"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"], "act"),
        helper.make_node("Conv", ["r", "w1", "b1"], ["y"], "second", pads=[1, 1, 1, 1]),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "cnn", [floats("x", 1, 3, 8, 8)], [floats("y", 1, 4, 8, 8)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


def feeds(count: int = 8) -> list[dict[str, Any]]:
    chance = np.random.default_rng(2)
    return [{"x": chance.uniform(0, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def run(model: Any, feed: dict[str, Any]) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model.SerializeToString() if hasattr(model, "SerializeToString") else str(model)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, feed)[0]


def cosine(left: Any, right: Any) -> float:
    return float(np.vdot(left, right) / np.linalg.norm(left) / np.linalg.norm(right))


def test_the_ranges_are_the_largest_magnitudes_over_all_samples(tmp_path: Path) -> None:
    model = plain_model(write_cnn(tmp_path / "a.onnx"))
    told = measure_ranges(model, feeds())
    assert told.header == f"ORT-{ort.__version__}-MinMax"
    assert told.ranges["x"] == pytest.approx(max(float(feed["x"].max()) for feed in feeds()), rel=1e-6)
    assert {"x", "r"} <= set(told.ranges)


def test_a_quantised_model_computes_nearly_the_same(tmp_path: Path) -> None:
    path = write_cnn(tmp_path / "a.onnx")
    quantized = quantize(plain_model(path), measure_ranges(plain_model(path), feeds()))
    onnx.checker.check_model(quantized, full_check=True)
    held_out = {"x": np.random.default_rng(9).uniform(0, 1, (1, 3, 8, 8)).astype(np.float32)}
    wide, narrow = run(path, held_out), run(quantized, held_out)
    assert cosine(wide, narrow) > 0.999
    assert np.abs(wide - narrow).max() > 1e-5


def test_every_convolution_has_pairs_in_front_and_biases_and_outputs_have_none(tmp_path: Path) -> None:
    path = write_cnn(tmp_path / "a.onnx")
    graph = quantize(plain_model(path), measure_ranges(plain_model(path), feeds(1))).graph
    made_by = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "Conv":
            assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert node.input[2] in {"b0", "b1"}  # TensorRT refuses an int32 bias behind a DequantizeLinear
    assert made_by["y"].op_type == "Conv"
    assert {t.data_type for t in graph.initializer if t.name.endswith("zero_point")} == {TensorProto.INT8}
    zero_points = [numpy_helper.to_array(t) for t in graph.initializer if t.name.endswith("zero_point")]
    assert not any(point.any() for point in zero_points)


def test_ranges_that_went_through_a_file_give_the_same_model(tmp_path: Path) -> None:
    path = write_cnn(tmp_path / "a.onnx")
    ranges = parse_ranges(format_ranges(measure_ranges(plain_model(path), feeds(2))))
    first, second = (quantize(plain_model(path), ranges).SerializeToString() for _ in range(2))
    assert first == second


def test_weights_outside_the_file_and_an_old_operator_set_are_brought_in(tmp_path: Path) -> None:
    path = write_cnn(tmp_path / "a.onnx", external=True, opset=11)
    model = plain_model(path)
    assert (tmp_path / "weights.bin").exists()
    assert model.opset_import[0].version == 13
    quantized = quantize(model, measure_ranges(plain_model(path), feeds(2)))
    assert cosine(run(path, feeds(1)[0]), run(quantized, feeds(1)[0])) > 0.999


def test_a_quantised_model_may_be_cast_to_fp16_but_for_scales_that_fp16_has_not(tmp_path: Path) -> None:
    from runtime.strategies.onnx_fp16 import cast_model

    for scale, is_small in ((1.0, False), (1e-3, True)):
        path = write_cnn(tmp_path / "a.onnx", scale=scale)
        quantized = quantize(plain_model(path), measure_ranges(plain_model(path), feeds()))
        model, wide = half_scales(quantized)
        assert bool(wide) == is_small, wide
        half = cast_model(model, keep_fp32=wide)
        onnx.checker.check_model(half, full_check=True)
        assert cosine(run(path, feeds(1)[0]), run(half, feeds(1)[0])) > 0.999


def test_a_model_with_nothing_to_quantise_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [floats("x", 2)], [floats("y", 2)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "a.onnx")
    with pytest.raises(QuantizeError, match=r"none of the operators that are quantised \(Conv, Gemm, MatMul\)"):
        quantize(plain_model(tmp_path / "a.onnx"), CalibrationRanges("ORT-1-MinMax", {}))


def test_ranges_of_no_samples_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="ranges cannot be measured"):
        measure_ranges(plain_model(write_cnn(tmp_path / "a.onnx")), [])
