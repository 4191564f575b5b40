"""The stated float64 evaluator: right on ONNX's own tests, exact where the reference is not, open to hooks."""

from __future__ import annotations

import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx: not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402  (after the check for onnx)

from harness.numerics.onnx64 import EvaluatorError, OnnxEvaluator  # noqa: E402

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
REPLACED = {
    "AffineGrid", "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DequantizeLinear", "Erf",
    "GatherElements", "GatherND", "Gelu", "GridSample", "LRN", "LogSoftmax", "MaxPool", "ScatterElements", "ScatterND",
    "Softmax",
}  # fmt: skip


def model(
    nodes: Any,
    inputs: Any,
    outputs: Any,
    *,
    initializers: Any = (),
    opset: Any = 18,
    elem: Any = TensorProto.FLOAT,
    functions: Any = (),
    extra: Any = (),
) -> Any:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, elem, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, elem, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in dict(initializers).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in extra)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions))


def random(shape: Any, dtype: Any = np.float32, seed: Any = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.covers("T1-01")
@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: path.stem)
def test_every_light_model_gives_its_stored_output(path: Path) -> None:
    evaluator = OnnxEvaluator(path)
    feed = {}
    for spec in evaluator.inputs:  # the input that ONNX's own runner gives them
        shape = [int(size) for size in spec.shape]
        count = int(np.prod(shape))
        feed[spec.name] = (np.arange(count).reshape(shape) / count).astype(np.float32)
    got = evaluator.run(feed)
    for number, spec in enumerate(evaluator.outputs):
        stored = numpy_helper.to_array(onnx.load_tensor(str(path.with_name(f"{path.stem}_output_{number}.pb"))))
        assert got[spec.name].dtype == np.float64
        np.testing.assert_allclose(got[spec.name], stored, rtol=1e-5)


def test_there_are_nine_light_models() -> None:
    assert len(list(LIGHT.glob("*.onnx"))) == 9


def own_cases() -> Any:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        assert case.model is not None
        if {node.op_type for node in case.model.graph.node} & REPLACED:
            yield case


@pytest.mark.covers("T1-01")
def test_the_replaced_kernels_pass_onnx_own_operator_tests() -> None:
    passed, failures = 0, []
    for case in own_cases():
        for given, wanted in case.data_sets:
            if not all(isinstance(value, np.ndarray | np.generic) for value in (*given, *wanted)):
                continue  # float8 and int4 tensors have no numpy type
            try:
                evaluator = OnnxEvaluator(case.model)
                got = evaluator.run(dict(zip([spec.name for spec in evaluator.inputs], given, strict=False)))
                for spec, want in zip(evaluator.outputs, wanted, strict=True):
                    narrow = np.asarray(want).dtype.name in ("float16", "bfloat16")
                    rtol, atol = (3e-2, 3e-2) if narrow else (1e-3, 1e-5)
                    np.testing.assert_allclose(got[spec.name], np.asarray(want, np.float64), rtol, atol)
                passed += 1
            except Exception as error:
                failures.append(f"{case.name}: {type(error).__name__} {str(error)[:100]}")
    assert failures == []
    assert passed > 250


def test_erf_and_gelu_are_float64_all_the_way() -> None:
    x = np.linspace(-3, 3, 50)
    got = OnnxEvaluator(model([helper.make_node("Erf", ["x"], ["y"])], {"x": [50]}, {"y": [50]})).run({"x": x})["y"]
    from scipy.special import erf

    np.testing.assert_allclose(got, erf(x), rtol=1e-14)
    gelu = OnnxEvaluator(model([helper.make_node("Gelu", ["x"], ["y"])], {"x": [50]}, {"y": [50]}, opset=20))
    np.testing.assert_allclose(gelu.run({"x": x})["y"], 0.5 * x * (1 + erf(x / np.sqrt(2))), rtol=1e-14)


def test_old_softmax_sees_the_axes_from_its_axis_on_as_one() -> None:
    x = random((2, 3, 4))
    got = OnnxEvaluator(
        model([helper.make_node("Softmax", ["x"], ["y"])], {"x": [2, 3, 4]}, {"y": [2, 3, 4]}, opset=9)
    ).run({"x": x})["y"]
    np.testing.assert_allclose(got.sum(axis=(1, 2)), 1.0)


def test_lrn_sums_over_channels_of_every_sample() -> None:
    x = random((2, 5, 3, 3))
    node = helper.make_node("LRN", ["x"], ["y"], size=3, alpha=0.5, beta=0.75, bias=2.0)
    got = OnnxEvaluator(model([node], {"x": list(x.shape)}, {"y": list(x.shape)})).run({"x": x})["y"]
    wide = x.astype(np.float64)
    middle = (wide[:, 1:4] ** 2).sum(axis=1)
    np.testing.assert_allclose(got[:, 2], wide[:, 2] / (2.0 + 0.5 / 3 * middle) ** 0.75, rtol=1e-12)


def linear(dtype: Any = np.float32) -> Any:
    weight, bias = random((4, 3), dtype, 1), random((3,), dtype, 2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="multiply"),
        helper.make_node("Add", ["h", "b"], ["s"], name="shift"),
        helper.make_node("Relu", ["s"], ["y"], name="clip"),
    ]
    elem = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return (
        model(nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, initializers={"w": weight, "b": bias}, elem=elem),
        weight,
        bias,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_narrow_model_is_computed_in_float64(dtype: Any) -> None:
    proto, weight, bias = linear(dtype)
    x = random((2, 4), dtype)
    got = OnnxEvaluator(proto).run({"x": x})["y"]
    wide = x.astype(np.float64) @ weight.astype(np.float64) + bias.astype(np.float64)
    np.testing.assert_allclose(got, np.maximum(wide, 0), rtol=1e-14)
    assert got.dtype == np.float64


def test_casts_and_constants_do_not_narrow() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Constant", [], ["c"], value_float=0.1),
        helper.make_node("Mul", ["half", "c"], ["y"]),
    ]
    got = OnnxEvaluator(model(nodes, {"x": [1]}, {"y": [1]})).run({"x": np.array([1.0 + 1e-9])})["y"]
    np.testing.assert_allclose(got, (1 + 1e-9) * float(np.float32(0.1)), rtol=1e-15)


def test_single_runs_in_float32() -> None:
    proto, weight, bias = linear()
    x = random((2, 4))
    got = OnnxEvaluator(proto, dtype=np.float32).run({"x": x})["y"]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.maximum(x @ weight + bias, 0), rtol=1e-5)


def test_the_signature_is_that_of_the_model() -> None:
    evaluator = OnnxEvaluator(linear()[0])
    assert [(spec.name, spec.shape, spec.dtype) for spec in evaluator.inputs] == [("x", ("n", 4), "float32")]
    assert [(node.index, node.name, node.op_type) for node in evaluator.nodes] == [
        (0, "multiply", "MatMul"),
        (1, "shift", "Add"),
        (2, "clip", "Relu"),
    ]
    assert "float64" in evaluator.name
    assert "torch" in evaluator.name


def test_after_sees_and_replaces_what_a_node_gives() -> None:
    seen = []

    def after(node: Any, results: Any) -> Any:
        seen.append(node.name)
        return [np.full_like(results[0], 7.0)] if node.name == "shift" else results

    got = OnnxEvaluator(linear()[0]).run({"x": random((2, 4))}, after=after)["y"]
    assert seen == ["multiply", "shift", "clip"]
    assert (got == 7.0).all()


def test_before_replaces_what_one_node_reads() -> None:
    def before(node: Any, values: Any) -> Any:
        return [value * 0 for value in values] if node.name == "shift" else values

    assert not OnnxEvaluator(linear()[0]).run({"x": random((2, 4))}, before=before)["y"].any()


def test_weights_replaces_every_floating_initializer_for_one_run() -> None:
    proto, _, bias = linear()
    evaluator, names = OnnxEvaluator(proto), []

    def weights(name: Any, array: Any) -> Any:
        names.append(name)
        return array if name == "b" else array * 0

    got = evaluator.run({"x": random((2, 4))}, weights=weights)["y"]
    np.testing.assert_allclose(got, np.maximum(np.stack([bias, bias]), 0))
    assert sorted(names) == ["b", "w"]
    assert evaluator.run({"x": random((2, 4))})["y"].any()


def test_one_node_runs_alone() -> None:
    evaluator = OnnxEvaluator(linear()[0])
    assert evaluator.run_node(evaluator.nodes[2], [np.array([-1.0, 2.0], np.float32)])[0].tolist() == [0.0, 2.0]


def test_values_are_freed_after_their_last_use() -> None:
    nodes = [helper.make_node("Neg", [f"t{at}"], [f"t{at + 1}"]) for at in range(20)]
    alive = []
    most = 0

    def after(_: Any, results: Any) -> Any:
        nonlocal most
        alive.append(weakref.ref(results[0]))
        most = max(most, sum(ref() is not None for ref in alive))
        return results

    OnnxEvaluator(model(nodes, {"t0": [4]}, {"t20": [4]})).run({"t0": random(4)}, after=after)
    assert most <= 3


def branch(name: Any, operator: Any) -> Any:
    node = helper.make_node(operator, ["x", "c"], [name])
    return helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value_float=2.0), node],
        name,
        [],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])],
    )


def test_a_subgraph_reads_the_outer_graph_and_is_converted_too() -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("a", "Mul"), else_branch=branch("b", "Add")),
    ]
    proto = model(nodes, {"x": [3]}, {"y": [3]}, initializers={"zero": np.float32(0)})
    evaluator = OnnxEvaluator(proto)
    x = np.array([1.0, 2.0, 3.0]) + 1e-12
    np.testing.assert_array_equal(evaluator.run({"x": x})["y"], x * 2)
    np.testing.assert_array_equal(evaluator.run({"x": -x})["y"], -x + 2)
    assert evaluator.nodes[2].implicit == ("x",)


def test_a_local_function_is_inlined() -> None:
    double = helper.make_function(
        "own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    node = helper.make_node("Double", ["x"], ["y"], domain="own")
    proto = model([node], {"x": [2]}, {"y": [2]}, functions=[double], extra=["own"])
    assert OnnxEvaluator(proto).run({"x": np.array([1.0, 2.0])})["y"].tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("node", "extra", "named"),
    [
        (helper.make_node("RandomNormalLike", ["x"], ["y"]), (), "RandomNormalLike"),
        (helper.make_node("Mystery", ["x"], ["y"], domain="vendor"), ("vendor",), "Mystery"),
        (helper.make_node("NoSuchOperator", ["x"], ["y"]), (), "NoSuchOperator"),
    ],
)
def test_an_operator_without_a_reference_is_refused_by_name(node: Any, extra: Any, named: Any) -> None:
    with pytest.raises(EvaluatorError, match=named):
        OnnxEvaluator(model([node], {"x": [2]}, {"y": [2]}, extra=extra))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(EvaluatorError, match=r"broken\.onnx"):
        OnnxEvaluator(path)


def test_a_wrong_feed_names_the_inputs() -> None:
    with pytest.raises(EvaluatorError, match="missing: \\['x'\\], unknown: \\['z'\\]"):
        OnnxEvaluator(linear()[0]).run({"z": random((2, 4))})


def test_a_node_that_fails_is_named_with_what_it_was_given() -> None:
    with pytest.raises(EvaluatorError, match=r"MatMul `multiply`.*float64\[2, 5\]"):
        OnnxEvaluator(linear()[0]).run({"x": random((2, 5))})


def test_the_module_is_read_from_either_exporter() -> None:
    proto = linear()[0]
    entry = proto.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'blocks', 'blocks.0.fc', 'linear']"
    proto.graph.node[1].name = "/blocks/0/norm/Add_1"
    assert [node.module for node in OnnxEvaluator(proto).nodes] == ["blocks.0.fc", "blocks.0.norm", ""]


def test_without_torch_the_numpy_kernels_give_the_same(tmp_path: Path) -> None:
    weight = random((4, 3, 3, 3), seed=3)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])
    proto = model([node], {"x": [1, 3, 8, 8]}, {"y": [1, 4, 4, 4]}, initializers={"w": weight})
    onnx.save(proto, str(tmp_path / "conv.onnx"))
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from harness.numerics.onnx64 import OnnxEvaluator\n"
        f"evaluator = OnnxEvaluator(Path({str(tmp_path / 'conv.onnx')!r}))\n"
        "x = np.random.default_rng(5).standard_normal((1, 3, 8, 8))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, evaluator.run({{'x': x}})['y'])\n"
        "print(evaluator.name)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert "torch is not installed" in done.stdout
    x = np.random.default_rng(5).standard_normal((1, 3, 8, 8))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), OnnxEvaluator(proto).run({"x": x})["y"], rtol=1e-10)
