from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch: not installed")
onnx = pytest.importorskip("onnx", reason="onnx: not installed")

from torch import nn  # noqa: E402 (after importorskip)
from torch.nn import functional  # noqa: E402

from harness.numerics.reference import OnnxReference, ReferenceUnusableError, TorchReference, prove_true_fp32  # noqa: E402
from runtime.protocol import Array  # noqa: E402

U16 = 2.0**-11
U32 = 2.0**-24


def relative(got: Array, expected: Array) -> float:
    return float(np.linalg.norm(got.astype(np.float64) - expected) / np.linalg.norm(expected))


def feed(*shape: int, seed: int = 0) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


class Narrowing(nn.Module):
    """Every way in which code that was turned to float64 still computes in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.plain = torch.full((8,), 0.3)

    def forward(self, x: Any) -> Any:
        y = self.linear(x).float() + torch.linspace(0, 1, 8) * torch.arange(8.0)
        y = y * self.plain + torch.zeros(8, dtype=torch.float32) + y.new_tensor([0.1])
        y = torch.matmul(y.half().float(), torch.eye(8)) + torch.from_numpy(np.ones(8, np.float32))
        buffer = torch.empty(y.shape)
        buffer[...] = functional.softmax(y, -1, dtype=torch.float32)
        return buffer.to(torch.float32)


def narrowing_in_numpy(module: Narrowing, x: Array) -> Array:
    weight, bias = (parameter.detach().double().numpy() for parameter in module.linear.parameters())
    y = x.astype(np.float64) @ weight.T + bias + np.linspace(0, 1, 8) * np.arange(8.0)
    y = y * np.float64(np.float32(0.3)) + 0.1 + 1.0
    raised = np.exp(y - y.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


@pytest.mark.covers("T1-01")
def test_the_reference_is_float64_even_where_the_model_asks_for_less() -> None:
    torch.manual_seed(0)
    module = Narrowing()
    x = feed(4, 8)
    exact = TorchReference(module, ["x"], ["y"]).exact(x)["y"]
    assert exact.dtype == np.float64
    truth = narrowing_in_numpy(module, x["x"])
    assert relative(exact, truth) < 1e-14
    assert relative(module(torch.from_numpy(x["x"])).detach().numpy(), truth) > 1e-9
    assert module.linear.weight.dtype == torch.float32
    assert module.plain.dtype == torch.float32


def test_an_op_that_stays_narrow_is_named_and_nothing_is_judged_by_it() -> None:
    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = [torch.zeros(4)]  # in a list: torch neither moves nor converts it

        def forward(self, x: Any) -> Any:
            return self.held[0].copy_(x)

    with pytest.raises(ReferenceUnusableError, match=r"aten\.copy_.*torch\.float32.*made outside"):
        TorchReference(Outside(), ["x"], ["y"]).exact(feed(4))


@pytest.mark.covers("T1-01")
@pytest.mark.parametrize("bits", [7, 10])
def test_a_matrix_product_of_tf32_or_bfloat16_is_found_out(bits: int) -> None:
    def rounded(array: Array) -> Array:
        mantissa, exponent = np.frexp(array)
        return np.asarray(np.ldexp(np.round(mantissa * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponent), np.float32)

    prove_true_fp32(np.matmul)
    with pytest.raises(ReferenceUnusableError, match="TF32 or bfloat16 is on"):
        prove_true_fp32(lambda left, right: rounded(left) @ rounded(right))


def test_the_single_run_is_float32_and_leaves_the_module_alone() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Dropout(0.5))
    module.train()
    reference = TorchReference(module, ["x"], ["y"])
    x = feed(1, 3, 12, 12)
    exact, single = reference.exact(x)["y"], reference.single(x)["y"]
    assert single.dtype == np.float32
    assert 0.0 < relative(single, exact) < 20 * U32
    assert module.training
    assert np.array_equal(reference.exact(x)["y"], exact)


@pytest.mark.parametrize("u", [U16, U32])
def test_noise_is_of_the_size_of_rounding_and_repeats_with_its_seed(u: float) -> None:
    torch.manual_seed(2)
    reference = TorchReference(nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.LayerNorm(64)), ["x"], ["y"])
    x = {"x": np.random.default_rng(0).standard_normal((50, 64))}
    exact = reference.exact(x)["y"]
    first, again, other = (reference.noisy(x, u=u, seed=seed)["y"] for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert 0.5 * u < relative(first, exact) < 5 * u


def test_values_that_the_precision_holds_are_not_rounded() -> None:
    class Grid(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.arange(640.0) * 2.0 + torch.relu(x) * 0.0, x.reshape(-1)[:3]

    reference = TorchReference(Grid(), ["x"], ["grid", "head"])
    x = {"x": np.linspace(-1, 1, 640)}
    noisy = reference.noisy(x, u=U16, seed=0)
    assert np.array_equal(noisy["grid"], 2.0 * np.arange(640.0))
    assert noisy["head"][0] == -1.0
    assert 0 < abs(noisy["head"][1] - x["x"][1]) < U16
    single = reference.noisy({"x": x["x"].astype(np.float32)}, u=U32, seed=0)
    assert np.array_equal(single["head"], x["x"].astype(np.float32)[:3].astype(np.float64))


def test_attention_and_norms_are_taken_apart_under_noise_and_mean_the_same() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(16, 16)
            self.norm = nn.LayerNorm(16)
            self.convolution = nn.Conv1d(16, 16, 3, padding=1)

        def forward(self, x: Any) -> Any:
            y = self.project(self.norm(x))
            y = functional.scaled_dot_product_attention(y, y, x)
            return functional.gelu(y, approximate="tanh") + functional.gelu(
                self.convolution(y.transpose(1, 2))
            ).transpose(1, 2)

    torch.manual_seed(3)
    reference = TorchReference(Attention(), ["x"], ["y"])
    x = feed(2, 9, 16)
    exact = reference.exact(x)["y"]
    assert relative(reference.noisy(x, u=2.0**-50, seed=0)["y"], exact) < 1e-13
    assert relative(reference.noisy(x, u=U16, seed=0)["y"], exact) > 0.5 * U16


def test_what_is_written_in_place_is_noisy_too_and_inf_stays_inf() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Any) -> Any:
            y = x.clone()
            y.mul_(1.1)
            y[0] = float("-inf")
            return y

    reference = TorchReference(InPlace(), ["x"], ["y"])
    noisy = reference.noisy({"x": np.ones(100)}, u=U16, seed=0)["y"]
    assert noisy[0] == -np.inf
    assert 0 < np.abs(noisy[1:] / 1.1 - 1.0).max() <= 1.01 * U16


def test_inputs_and_outputs_are_found_by_name_or_in_order() -> None:
    class Names(nn.Module):
        def forward(self, left: Any, right: Any) -> Any:
            return {"sum": left + right, "parts": (left, [right]), "index": left.argmax()}

    left, right = np.arange(3.0), np.full(3, 10.0)
    by_name = TorchReference(Names(), ["right", "left"], ["index", "sum"]).exact(
        {"left": left, "right": right, "z": left}
    )
    assert list(by_name) == ["index", "sum"]
    assert by_name["index"].dtype == np.int64
    assert by_name["index"] == 2
    in_order = TorchReference(Names(), ["a", "b"], ["s", "l", "r", "i"]).exact({"b": right, "a": left})
    assert np.array_equal(in_order["s"], left + right)
    assert np.array_equal(in_order["l"], left)
    with pytest.raises(ReferenceUnusableError, match="gives 4 tensors; 2 outputs are named: a, b"):
        TorchReference(Names(), ["left", "right"], ["a", "b"]).exact({"left": left, "right": right})
    with pytest.raises(ReferenceUnusableError, match="lacks 'right'; it has left"):
        TorchReference(Names(), ["left", "right"], ["sum"]).exact({"left": left})


def test_the_peak_is_the_largest_finite_activation_and_where_it_is() -> None:
    class Peak(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.masked_fill(x * 7e4, x < 0, float("-inf")).softmax(-1)

    peak, where = TorchReference(Peak(), ["x"], ["y"]).peak({"x": np.array([1.0, -2.0, 0.5])})
    assert peak == pytest.approx(1.4e5)
    assert "mul" in where


@pytest.mark.covers("T1-01")
def test_long_sums_get_the_error_of_adding_one_by_one_and_no_more() -> None:
    """What a library does that accumulates an instance norm naively in float32; ONNX Runtime's CPU kernel is one."""
    from harness.numerics.rounding import noise_width

    generator = np.random.default_rng(8)
    terms = 4096
    rows = generator.uniform(0.5, 1.5, (64, terms)).astype(np.float32)
    naive = np.add.accumulate(rows, axis=1, dtype=np.float32)[:, -1]
    truth = rows.astype(np.float64).sum(axis=1)
    spread = float(np.sqrt(np.mean((naive / truth - 1.0) ** 2)))
    assert 0.5 < noise_width(U32, terms) / math.sqrt(3.0) / spread < 2.0
    assert noise_width(U16, terms) == U16

    class Norm(nn.Module):
        def forward(self, x: Any) -> Any:
            return functional.instance_norm(x)

    image = {"x": 1.0 + 0.3 * generator.standard_normal((1, 1, 96, 128))}
    reference = TorchReference(Norm(), ["x"], ["y"])
    exact = reference.exact(image)["y"]
    errors = [relative(reference.noisy(image, u=U32, seed=seed)["y"], exact) / U32 for seed in range(6)]
    assert 20 < max(errors) < 400


@pytest.mark.parametrize("groups", [1, 4])
def test_a_group_norm_is_taken_apart_and_means_the_same(groups: int) -> None:
    reference = TorchReference(nn.GroupNorm(groups, 8), ["x"], ["y"])
    x = feed(2, 8, 5, 5)
    assert relative(reference.noisy(x, u=2.0**-50, seed=0)["y"], reference.exact(x)["y"]) < 1e-13


def onnx_model() -> Any:
    generator = np.random.default_rng(4)
    weight = generator.standard_normal((16, 16)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        onnx.helper.make_node("Add", ["a", "b"], ["c"], name="bias"),
        onnx.helper.make_node("Softmax", ["c"], ["y"], name="softmax"),
        onnx.helper.make_node("ArgMax", ["c"], ["i"], name="index", axis=-1, keepdims=0),
        onnx.helper.make_node("Transpose", ["x"], ["t"], name="turn"),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "small",
        [value("x", onnx.TensorProto.FLOAT, [4, 16])],
        [
            value("y", onnx.TensorProto.FLOAT, [4, 16]),
            value("i", onnx.TensorProto.INT64, [4]),
            value("t", onnx.TensorProto.FLOAT, [16, 4]),
        ],
        [
            onnx.numpy_helper.from_array(weight, "w"),
            onnx.numpy_helper.from_array(generator.standard_normal(16).astype(np.float32), "b"),
        ],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.covers("T1-01")
def test_an_onnx_model_is_a_reference_of_the_same_kind() -> None:
    model = onnx_model()
    weight, bias = (onnx.numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer)
    reference = OnnxReference(model)
    x = feed(4, 16)
    exact, single = reference.exact(x), reference.single(x)
    logits = x["x"].astype(np.float64) @ weight + bias
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    assert reference.output_names == ("y", "i", "t")
    assert relative(exact["y"], raised / raised.sum(-1, keepdims=True)) < 1e-14
    assert [value.dtype.name for value in (exact["y"], single["y"], exact["i"])] == ["float64", "float32", "int64"]
    assert 0 < relative(single["y"], exact["y"]) < 50 * U32
    noisy = reference.noisy(x, u=U16, seed=1)
    assert np.array_equal(noisy["y"], reference.noisy(x, u=U16, seed=1)["y"])
    assert 0.3 * U16 < relative(noisy["y"], exact["y"]) < 30 * U16
    assert np.abs(noisy["t"] / exact["t"] - 1.0).max() <= U16
    assert np.array_equal(reference.noisy(x, u=U32, seed=1)["t"], exact["t"])
    assert reference.peak(x) == (float(np.abs(logits).max()), "Add bias")


def test_what_a_users_model_raises_is_one_sentence() -> None:
    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            return None if x.shape[0] == 1 else x @ x

    reference = TorchReference(Broken(), ["x"], ["y"])
    for run in (reference.exact, reference.single):
        with pytest.raises(ReferenceUnusableError, match=r"torch float64 fails on this input: RuntimeError: .*shapes"):
            run(feed(2, 3))
        with pytest.raises(ReferenceUnusableError, match="fails on this input"):
            run(feed(1, 3))
