"""T1-02: planted faults are found at their layer, in either artifact and in a runtime; inputs and fp32 sets shrink."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch: not installed")
onnx = pytest.importorskip("onnx", reason="onnx: not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime: not installed")
features = pytest.importorskip("kornia.feature", reason="kornia: not installed")

from onnx import helper, numpy_helper  # noqa: E402  (after the checks for the libraries)
from torch import nn  # noqa: E402

from harness.numerics.divergence import locate_artifacts, locate_runtime, shrink, smallest_fp32_set  # noqa: E402
from harness.numerics.fp16_search import run_fp16  # noqa: E402
from harness.numerics.onnx64 import OnnxEvaluator  # noqa: E402
from harness.records import Tolerance  # noqa: E402
from runtime.data import TensorSpec  # noqa: E402

pytestmark = pytest.mark.covers("T1-02")


class Attention(nn.Module):
    def __init__(self, width: Any, heads: Any) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        batch, count, width = x.shape
        split = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (query @ key.transpose(-1, -2) * self.scale).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, count, width))


class Block(nn.Module):
    def __init__(self, width: Any, heads: Any) -> None:
        super().__init__()
        self.norm, self.attn, self.norm2 = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        self.up, self.act, self.down = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.norm(x))
        return x + self.down(self.act(self.up(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self, width: Any = 32, heads: Any = 4, layers: Any = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, stride=4)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, 16)

    def forward(self, image: Any) -> Any:
        x = self.stem(image).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1)), x


class Disk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.disk = features.DISK()

    def forward(self, image: Any) -> Any:
        return self.disk.heatmap_and_dense_descriptors(image)


class Matcher(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.glue = features.LightGlue(
            features=None, weights=None, input_dim=64, n_layers=2, depth_confidence=-1, width_confidence=-1, flash=False
        )

    def forward(self, keypoints0: Any, descriptors0: Any, keypoints1: Any, descriptors1: Any) -> Any:
        size = torch.tensor([[128.0, 96.0]])
        found = self.glue({
            "image0": {"keypoints": keypoints0, "descriptors": descriptors0, "image_size": size},
            "image1": {"keypoints": keypoints1, "descriptors": descriptors1, "image_size": size},
        })  # fmt: skip
        return found["matching_scores0"], found["log_assignment"]


class Exported:
    """A module, its ONNX file, and one feed."""

    def __init__(self, module: Any, folder: Any, feed: Any) -> None:
        self.module, self.path, self.feed, self.names = module.eval(), folder / "model.onnx", feed, list(feed)
        arguments = tuple(torch.from_numpy(array) for array in feed.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.module, arguments, str(self.path), dynamo=True, opset_version=18, external_data=False,
                input_names=self.names, verbose=False,
            )  # fmt: skip

    def model(self) -> Any:
        return onnx.load(str(self.path))

    def locate(self, *, model: Any = None, module: Any = None) -> Any:
        return locate_artifacts(
            self.path if model is None else model,
            self.module if module is None else module,
            self.feed,
            input_names=self.names,
        )


def uniform(*shape: Any, high: Any = 1.0, seed: Any = 0) -> Any:
    return (np.random.default_rng(seed).random(shape) * high).astype(np.float32)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    module = Transformer()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return Exported(module, tmp_path_factory.mktemp("transformer"), {"image": uniform(1, 3, 32, 32)})


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    return Exported(Disk(), tmp_path_factory.mktemp("disk"), {"image": uniform(1, 3, 64, 64)})


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    feed = {
        "keypoints0": uniform(1, 32, 2, high=96, seed=1),
        "descriptors0": uniform(1, 32, 64, seed=2),
        "keypoints1": uniform(1, 32, 2, high=96, seed=3),
        "descriptors1": uniform(1, 32, 64, seed=4),
    }
    return Exported(Matcher(), tmp_path_factory.mktemp("matcher"), feed)


def transpose(layer: Any) -> None:
    layer.weight.copy_(layer.weight.transpose(0, 1).clone())


def swap_channels(layer: Any) -> None:
    layer.weight[[0, 1]] = layer.weight[[1, 0]].clone()


def drop_bias(layer: Any) -> None:
    layer.bias = None


def zero_bias(layer: Any) -> None:
    layer.bias.zero_()


def raise_epsilon(layer: Any) -> None:
    layer.eps *= 100


def other_gelu(layer: Any) -> None:
    layer.approximate = "tanh"


def other_scale(layer: Any) -> None:
    layer.scale *= 1.05


def spoiled(module: Any, path: Any, plant: Any) -> Any:
    twin = copy.deepcopy(module)
    with torch.no_grad():
        plant(twin.get_submodule(path))
    return twin


# -- an ONNX file against a torch module ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transformer", "disk", "matcher"])
def test_artifacts_of_one_model_agree(name: Any, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(name).locate()
    assert found.first is None
    assert "agree on every output" in found.notes[0]


TRANSFORMER_PLANTS = [
    ("blocks.2.attn.out", transpose, "transposed"),
    ("blocks.1.norm2", raise_epsilon, "constant 1e-05 in ONNX, 0.001 in torch"),
    ("blocks.3.attn", other_scale, "constant 0.353553 in ONNX, 0.371231 in torch"),
    ("blocks.0.up", swap_channels, "channels 0, 1 are in another order"),
    ("stem", swap_channels, "channels 0, 1 are in another order"),
    ("blocks.2.down", drop_bias, "the ONNX node uses `blocks.2.down.bias`, torch does not"),
    ("blocks.1.attn.qkv", zero_bias, "it is zero in torch"),
    ("blocks.1.act", other_gelu, "ONNX has the erf form of GELU"),
    ("head", swap_channels, "channels 0, 1"),
]


@pytest.mark.parametrize(
    ("path", "plant", "cause"), TRANSFORMER_PLANTS, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_fault_in_the_torch_transformer_is_found_with_its_cause(
    transformer: Any, path: Any, plant: Any, cause: Any
) -> None:
    first = transformer.locate(module=spoiled(transformer.module, path, plant)).first
    assert first is not None
    assert first.module == path
    assert cause in first.words
    assert first.local_error > 1e-5


def test_a_fault_in_every_layer_of_the_transformer_is_found_there(transformer: Any) -> None:
    plants = {nn.LayerNorm: raise_epsilon, nn.Linear: swap_channels, nn.GELU: other_gelu, nn.Conv2d: swap_channels}
    layers = [
        (path, plants[type(layer)]) for path, layer in transformer.module.named_modules() if type(layer) in plants
    ]
    missed = []
    for path, plant in layers:
        first = transformer.locate(module=spoiled(transformer.module, path, plant)).first
        if first is None or first.module != path:
            missed.append((path, first))
    assert len(layers) >= 20
    assert len(missed) <= 0.05 * len(layers), missed


def test_a_fault_in_every_layer_of_disk_is_found_there(disk: Any) -> None:
    plants = {nn.InstanceNorm2d: raise_epsilon, nn.Conv2d: swap_channels}
    for path, layer in disk.module.named_modules():
        plant = next((plants[kind] for kind in plants if isinstance(layer, kind)), None)
        if plant is None:
            continue
        first = disk.locate(module=spoiled(disk.module, path, plant)).first
        assert first is not None, path
        assert first.module == path


@pytest.mark.parametrize(
    ("path", "plant"),
    [
        ("glue.transformers.1.cross_attn.to_out", transpose),
        ("glue.transformers.0.self_attn.ffn.1", raise_epsilon),
        ("glue.transformers.1.self_attn.Wqkv", swap_channels),
        ("glue.transformers.0.cross_attn.to_v", zero_bias),
        ("glue.transformers.1.cross_attn.ffn.2", other_gelu),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_in_a_torch_matcher_is_found_at_its_layer(matcher: Any, path: Any, plant: Any) -> None:
    first = matcher.locate(module=spoiled(matcher.module, path, plant)).first
    assert first is not None
    assert first.module == path


def node_of(model: Any, module: Any, *kinds: Any) -> Any:
    """The first node of these types in a torch module's part of the file, or right before its first node."""
    scoped = OnnxEvaluator(model).nodes
    inside = [node.index for node in scoped if node.module == module]
    near = [*inside, *(at - 1 for at in inside)]
    return next(model.graph.node[at] for at in near if model.graph.node[at].op_type in kinds)


def change_weight(model: Any, node: Any, change: Any, at: Any = 1) -> None:
    array = numpy_helper.to_array(next(entry for entry in model.graph.initializer if entry.name == node.input[at]))
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(change(array.copy())), "planted"))
    node.input[at] = "planted"


def test_a_transposed_weight_in_the_file_is_found(transformer: Any) -> None:
    model = transformer.model()
    change_weight(model, node_of(model, "blocks.2.attn.out", "MatMul"), np.transpose)
    first = transformer.locate(model=model).first
    assert first.module == "blocks.2.attn.out"
    assert "`planted` against torch's `blocks.2.attn.out.weight`: transposed" in first.words


def test_an_epsilon_in_the_file_is_found(transformer: Any) -> None:
    model = transformer.model()
    node = node_of(model, "blocks.1.norm2", "LayerNormalization")
    next(entry for entry in node.attribute if entry.name == "epsilon").f = 1e-3
    first = transformer.locate(model=model).first
    assert (first.module, first.operator) == ("blocks.1.norm2", "LayerNormalization")
    assert first.words.startswith("`blocks.1.norm2` LayerNormalization: same inputs, output differs by rel L2 ")
    assert "constant 0.001 in ONNX, 1e-05 in torch" in first.words


def test_one_attention_scale_in_the_file_is_found(transformer: Any) -> None:
    model = transformer.model()
    node = node_of(model, "blocks.3.attn", "Mul")
    change_weight(model, node, lambda scale: np.asarray(scale * np.float32(1.05)))
    first = transformer.locate(model=model).first
    assert (first.module, first.layer) == ("blocks.3.attn", node.name)
    assert "constant 0.371231 in ONNX, 0.353553 in torch" in first.words


def test_swapped_input_channels_in_the_file_are_found(transformer: Any) -> None:
    model = transformer.model()
    change_weight(model, node_of(model, "stem", "Conv"), lambda weight: weight[:, [2, 1, 0]])
    first = transformer.locate(model=model).first
    assert (first.module, first.operator) == ("stem", "Conv")
    assert "channels 0, 2 are in another order" in first.words


def test_a_missing_bias_in_the_file_is_found(transformer: Any) -> None:
    model = transformer.model()
    add = node_of(model, "blocks.2.down", "Add")
    change_weight(model, add, np.zeros_like, at=[name.endswith(".bias") for name in add.input].index(True))
    first = transformer.locate(model=model).first
    assert first.module == "blocks.2.down"
    assert "torch's `blocks.2.down.bias`: it is zero here" in first.words


def test_the_tanh_form_of_gelu_in_the_file_is_found(tmp_path: Path, transformer: Any) -> None:
    other = Exported(spoiled(transformer.module, "blocks.2.act", other_gelu), tmp_path, transformer.feed)
    first = transformer.locate(model=other.path).first
    assert first.module == "blocks.2.act"
    assert "ONNX has the tanh form of GELU" in first.words


def test_channels_that_the_file_gathers_in_another_order_are_found_at_the_gather(transformer: Any) -> None:
    model = transformer.model()
    node = node_of(model, "blocks.2.attn.out", "MatMul")
    order = np.array([1, 0, *range(2, 32)])
    model.graph.initializer.append(numpy_helper.from_array(order, "order"))
    gather = helper.make_node("Gather", [node.input[0], "order"], ["swapped"], name="swapper", axis=2)
    at = list(model.graph.node).index(node)
    node.input[0] = "swapped"
    model.graph.node.insert(at, gather)
    first = transformer.locate(model=model).first
    assert first.layer == "swapper"
    assert "the same elements in another order" in first.words


def test_progress_of_the_search_is_told(transformer: Any) -> None:
    told = []
    locate_artifacts(
        transformer.path,
        transformer.module,
        transformer.feed,
        input_names=transformer.names,
        progress=lambda done, total, words: told.append((done, total, words)),
    )
    assert told[-1][0] == told[-1][1] == len(told)


def test_the_module_that_was_given_is_left_as_it_was(transformer: Any) -> None:
    before = {name: value.clone() for name, value in transformer.module.state_dict().items()}
    transformer.locate()
    after = transformer.module.state_dict()
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())
    assert torch.get_default_dtype() == torch.float32


# -- a runtime against the evaluator ----------------------------------------------------------------------------------


def session(source: Any) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_onnxruntime(path: Any, feed: Any) -> Any:
    loaded = session(str(path))
    names = [entry.name for entry in loaded.get_outputs()]
    return dict(zip(names, loaded.run(names, dict(feed)), strict=True))


def faulty(plant: Any) -> Any:
    """ONNX Runtime with a fault: it runs the file with ``plant`` applied to its graph."""

    def candidate(path: Path, feed: Any) -> Any:
        model = onnx.load(str(path))
        plant(model)
        loaded = session(model.SerializeToString())
        names = [entry.name for entry in loaded.get_outputs()]
        return dict(zip(names, loaded.run(names, dict(feed)), strict=True))

    return candidate


def bend(model: Any, name: Any, factor: Any = 1.01) -> None:
    """Make what one node gives ``factor`` times what it should be."""
    at, node = next((at, node) for at, node in enumerate(model.graph.node) if node.name == name)
    number = len(model.graph.node)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(factor, np.float32), f"factor{number}"))
    given, node.output[0] = node.output[0], f"straight{number}"
    bent = helper.make_node("Mul", [node.output[0], f"factor{number}"], [given], name=f"bend{number}")
    model.graph.node.insert(at + 1, bent)


@pytest.mark.parametrize("name", ["transformer", "disk", "matcher"])
def test_a_right_runtime_has_no_diverging_layer(name: Any, request: pytest.FixtureRequest) -> None:
    exported = request.getfixturevalue(name)
    assert locate_runtime(exported.path, run_onnxruntime, exported.feed, lane="fp32").first is None


def test_a_runtime_fault_in_any_of_twenty_layers_is_named(transformer: Any) -> None:
    kinds = {"MatMul", "Conv", "LayerNormalization", "Softmax", "Erf", "Add"}
    nodes = [node for node in OnnxEvaluator(transformer.path).nodes if node.op_type in kinds]
    chosen = nodes[:: len(nodes) // 20][:20]
    missed = []
    for node in chosen:
        candidate = faulty(lambda model, node=node: bend(model, node.name))
        first = locate_runtime(transformer.path, candidate, transformer.feed, lane="fp32").first
        if first is None or first.layer != node.name:
            missed.append((node.name, first))
        else:
            assert first.local_error == pytest.approx(0.01, rel=0.01)
            assert first.local_error is not None
            assert first.noise is not None
            assert first.local_error > 4 * first.noise
    assert len(chosen) == 20
    assert len(missed) <= 1, missed


def test_of_two_faults_the_first_is_named_and_the_other_is_a_suspect(transformer: Any) -> None:
    early, *_, late = [node.name for node in OnnxEvaluator(transformer.path).nodes if node.op_type == "Softmax"]

    def two(model: Any) -> None:
        bend(model, early)
        bend(model, late)

    found = locate_runtime(transformer.path, faulty(two), transformer.feed, lane="fp32")
    assert found.first is not None
    assert found.first.layer == early
    assert [finding.layer for finding in found.suspects] == [late]


def test_a_fault_that_marking_outputs_hides_is_found_by_bisection(transformer: Any) -> None:
    nodes = OnnxEvaluator(transformer.path).nodes
    target = next(node for node in nodes if node.op_type == "LayerNormalization" and node.index > len(nodes) // 2)

    def fused(model: Any) -> None:  # the fault exists only where the tensor stays inside a kernel
        if target.outputs[0] not in {entry.name for entry in model.graph.output}:
            bend(model, target.name)

    found = locate_runtime(transformer.path, faulty(fused), transformer.feed, lane="fp32")
    assert found.first is not None
    reached = next(node.index for node in nodes if node.name == found.first.layer)
    assert target.index <= reached <= target.index + 3
    assert "fuses" in found.first.words


def test_a_runtime_that_gives_nan_is_named_at_the_layer(transformer: Any) -> None:
    target = next(node for node in OnnxEvaluator(transformer.path).nodes if node.op_type == "Softmax")

    def poison(model: Any) -> None:
        bend(model, target.name, np.nan)

    first = locate_runtime(transformer.path, faulty(poison), transformer.feed, lane="fp32").first
    assert first is not None
    assert first.layer == target.name
    assert first.local_error is None
    assert "NaN" in first.words


def test_the_fp16_lane_forgives_what_the_fp32_lane_does_not(transformer: Any) -> None:
    def rounded(path: Any, feed: Any) -> Any:
        return {
            name: value.astype(np.float16).astype(np.float32) for name, value in run_onnxruntime(path, feed).items()
        }

    assert locate_runtime(transformer.path, rounded, transformer.feed, lane="fp16").first is None
    assert locate_runtime(transformer.path, rounded, transformer.feed, lane="fp32").first is not None


# -- a smaller input --------------------------------------------------------------------------------------------------


def test_an_input_shrinks_to_the_block_that_fails() -> None:
    feed = {"image": uniform(1, 1, 32, 32), "offset": uniform(4)}

    def fails(given: Any) -> Any:
        return bool(given["image"][0, 0, 17, 5] > 0.9 * feed["image"][0, 0, 17, 5]) and bool(given["image"].any())

    feed["image"][0, 0, 17, 5] = 5.0
    small, words = shrink(feed, fails, budget_s=60)
    assert fails(small)
    changed = (small["image"] != feed["image"]).mean()
    assert changed > 0.95
    assert "`image` 1 of 64 blocks" in words
    assert "`offset` all its mean" in words


def test_free_dimensions_shrink_together_and_the_batch_first() -> None:
    specs = (TensorSpec("a", ("batch", "n", 2), "float32"), TensorSpec("b", ("batch", "n"), "float32"))
    feed = {"a": uniform(4, 16, 2), "b": uniform(4, 16)}
    feed["b"][2] = 3.0

    def fails(given: Any) -> Any:
        assert given["a"].shape[:2] == given["b"].shape
        return bool((given["b"] > 2.0).sum() >= 3)

    small, words = shrink(feed, fails, budget_s=60, specs=specs)
    assert small["b"].shape[0] == 1
    assert small["b"].shape[1] <= 4
    assert small["a"].shape[:2] == small["b"].shape
    assert fails(small)
    assert words.startswith("batch 1 of 4; n 4 of 16")


def test_a_change_that_cannot_be_run_is_not_taken() -> None:
    def fails(given: Any) -> Any:
        if not given["x"].all():
            raise RuntimeError("out of range")
        return True

    small, _ = shrink({"x": np.array([1, 2, 3], np.int64)}, fails, budget_s=60)
    assert small["x"].tolist() == [1, 2, 3]


def test_an_input_of_which_all_is_needed_stays_whole() -> None:
    feed = {"x": np.arange(1, 9, dtype=np.float32)}
    small, words = shrink(feed, lambda given: np.array_equal(given["x"], feed["x"]), budget_s=60)
    assert small["x"].tolist() == feed["x"].tolist()
    assert words == "`x` whole"


def test_the_search_ends_with_its_budget_and_still_fails() -> None:
    now = iter(range(10_000))
    asked = []

    def fails(given: Any) -> Any:
        asked.append(given)
        return bool((given["x"] > 500).sum() > 5)

    feed = {"x": np.arange(512, dtype=np.float32)}
    small, words = shrink(feed, fails, budget_s=12, clock=lambda: float(next(now)))
    assert (small["x"] > 500).sum() > 5
    assert "the time for the search ran out" in words
    assert len(asked) < 12


# -- layers that have to stay in fp32 ---------------------------------------------------------------------------------


def overflowing(exported: Any, times: Any = 1e6) -> Any:
    """The model with one LayerNormalization that is fed beyond fp16's range: the norm undoes it in fp32."""
    model = exported.model()
    at, node = [(at, node) for at, node in enumerate(model.graph.node) if node.op_type == "LayerNormalization"][3]
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(times, np.float32), "times"))
    model.graph.node.insert(at, helper.make_node("Mul", [node.input[0], "times"], ["big"], name="blow up"))
    model.graph.node[at + 1].input[0] = "big"
    return model, ("blow up", model.graph.node[at + 1].name)


def outputs_and_limits(model: Any, feed: Any, limit: Any) -> Any:
    reference = OnnxEvaluator(model).run(feed)
    return reference, {name: Tolerance(name, "stated", limit, limit) for name in reference}


def test_the_two_nodes_that_overflow_in_fp16_are_the_ones_to_keep(transformer: Any) -> None:
    model, names = overflowing(transformer)
    reference, limits = outputs_and_limits(model, transformer.feed, 2e-2)
    told = []
    kept, words = smallest_fp32_set(
        model, transformer.feed, reference, limits, budget_s=120, progress=lambda *step: told.append(step)
    )
    assert kept == names
    assert words.startswith("2 of ")
    assert "`blow up` Mul" in words
    assert told


def test_fp16_overflow_is_infinite_in_the_emulation(transformer: Any) -> None:
    model, _ = overflowing(transformer)
    got = run_fp16(OnnxEvaluator(model, dtype=np.float32), transformer.feed)
    assert not all(np.isfinite(value).all() for value in got.values())


def test_where_fp16_passes_nothing_is_to_be_kept(transformer: Any) -> None:
    reference, limits = outputs_and_limits(transformer.path, transformer.feed, 2e-2)
    kept, words = smallest_fp32_set(transformer.path, transformer.feed, reference, limits, budget_s=60)
    assert kept == ()
    assert "within tolerance" in words


def test_what_fp32_cannot_mend_is_no_matter_of_precision(transformer: Any) -> None:
    reference, limits = outputs_and_limits(transformer.path, transformer.feed, 2e-2)
    wrong = {name: value * 1.5 for name, value in reference.items()}
    kept, words = smallest_fp32_set(transformer.path, transformer.feed, wrong, limits, budget_s=60)
    assert kept == ()
    assert "not even fp32" in words


def test_an_fp32_search_that_runs_out_of_time_says_so(transformer: Any) -> None:
    model, names = overflowing(transformer)
    reference, limits = outputs_and_limits(model, transformer.feed, 2e-2)
    now = iter(range(10_000))
    kept, words = smallest_fp32_set(
        model, transformer.feed, reference, limits, budget_s=5, clock=lambda: float(next(now))
    )
    assert set(names) < set(kept)
    assert "the search was stopped after 5 s" in words
