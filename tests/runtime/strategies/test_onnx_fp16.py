"""The cast on models in which converters are known to go wrong, run for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from runtime.strategies.onnx_fp16 import CastError, cast_model, cast_to_fp16  # noqa: E402
from tests.harness import tiny  # noqa: E402


def run(path: Path, feed: dict[str, Any]) -> list[Any]:
    return list(ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed))


def model_of(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any], *, ir: int = 10) -> Any:
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=ir)


def floats(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def test_weights_and_arithmetic_are_half_and_the_ends_stay_float32(tmp_path: Path) -> None:
    source = tiny.write_onnx(tmp_path / "a.onnx")
    cast_to_fp16(source, tmp_path / "b.onnx")
    cast = onnx.load(tmp_path / "b.onnx")
    assert {tensor.data_type for tensor in cast.graph.initializer} == {TensorProto.FLOAT16}
    assert [v.type.tensor_type.elem_type for v in (*cast.graph.input, *cast.graph.output)] == [TensorProto.FLOAT] * 2
    x = np.random.default_rng(0).standard_normal((2, tiny.WIDTH)).astype(np.float32)
    wide, half = run(source, {"x": x})[0], run(tmp_path / "b.onnx", {"x": x})[0]
    error = np.linalg.norm(wide - half) / np.linalg.norm(wide)
    assert 1e-5 < error < 3e-3


def test_a_node_that_is_kept_computes_in_float32(tmp_path: Path) -> None:
    cast = cast_model(onnx.load(tiny.write_onnx(tmp_path / "a.onnx")), keep_fp32={"norm"})
    assert {t.name for t in cast.graph.initializer if t.data_type == TensorProto.FLOAT} == {"norm.weight", "norm.bias"}
    onnx.checker.check_model(cast, full_check=True)


def test_what_a_schema_has_no_half_form_of_stays_float32(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["big"], "resize", mode="linear"),
        helper.make_node("Shape", ["big"], ["shape"], "shape"),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"], "zeros"),
        helper.make_node("Add", ["big", "zeros"], ["sum"], "add"),
        helper.make_node("Cast", ["sum"], ["again"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["two"], "two", value_float=2.0),
        helper.make_node("Mul", ["again", "two"], ["y"], "mul"),
    ]
    model = model_of(
        nodes, [floats("x", 1, 1, 2, 2)], [floats("y", 1, 1, 4, 4)], {"scales": np.array([1, 1, 2, 2], np.float32)}
    )
    onnx.save(model, tmp_path / "a.onnx")
    cast_to_fp16(tmp_path / "a.onnx", tmp_path / "b.onnx")
    x = np.array([[[[0, 1], [2, 3]]]], np.float32)
    np.testing.assert_allclose(run(tmp_path / "b.onnx", {"x": x})[0], run(tmp_path / "a.onnx", {"x": x})[0], rtol=2e-3)
    assert [t.data_type for t in onnx.load(tmp_path / "b.onnx").graph.initializer] == [TensorProto.FLOAT]


def test_an_old_model_whose_weights_are_inputs_too_is_cast(tmp_path: Path) -> None:
    model = model_of(
        [helper.make_node("Mul", ["x", "w"], ["y"], "mul")],
        [floats("x", 2), floats("w", 2)],
        [floats("y", 2)],
        {"w": np.array([2, 3], np.float32)},
        ir=3,
    )
    onnx.save(model, tmp_path / "a.onnx")
    cast_to_fp16(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert run(tmp_path / "b.onnx", {"x": np.array([1, 1], np.float32)})[0].tolist() == [2.0, 3.0]


@pytest.mark.parametrize("weight", [7e4, -1e6])
def test_a_weight_beyond_the_range_is_refused_by_name_and_nothing_is_left(tmp_path: Path, weight: float) -> None:
    model = model_of(
        [helper.make_node("Mul", ["x", "w"], ["y"], "mul")],
        [floats("x", 1)],
        [floats("y", 1)],
        {"w": np.array([weight], np.float32)},
    )
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(CastError, match=r"'w' holds .* fp16 ends at 65504"):
        cast_to_fp16(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_a_custom_operator_is_left_in_float32(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("Sparkle", ["r"], ["s"], "sparkle", domain="my.company"),
        helper.make_node("Relu", ["s"], ["y"], "relu2"),
    ]
    model = model_of(nodes, [floats("x", 2)], [floats("y", 2)], {})
    model.opset_import.add(domain="my.company", version=1)
    model.graph.value_info.append(floats("s", 2))
    cast = cast_model(model)
    sparkle = next(node for node in cast.graph.node if node.op_type == "Sparkle")
    feeder = next(node for node in cast.graph.node if sparkle.input[0] in node.output)
    assert (feeder.op_type, feeder.attribute[0].i) == ("Cast", TensorProto.FLOAT)
