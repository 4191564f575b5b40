"""T1-02: on a mismatch, the first layer that diverges, the smallest input that shows it, the layers to keep in fp32.

``locate_runtime``    a runtime against the float64 evaluator, on one ONNX model (methods B4.5)
``locate_artifacts``  an ONNX file against a torch module (``harness.numerics.artifact_diff``, loads torch)
``shrink``            a smaller input that still fails (``harness.numerics.shrink``)
``smallest_fp32_set`` after an fp16 failure (``harness.numerics.fp16_search``)
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from harness.numerics.fp16_search import smallest_fp32_set
from harness.numerics.onnx64 import Node, OnnxEvaluator
from harness.numerics.rounding import Rounding
from harness.numerics.shrink import shrink
from harness.records import Divergence, LayerFinding
from runtime.protocol import Array

__all__ = ["locate_artifacts", "locate_runtime", "shrink", "smallest_fp32_set"]

Candidate = Callable[[Path, Mapping[str, Array]], Mapping[str, Array]]
Progress = Callable[[int, int, str], None]

_UNIT = {"fp32": 2.0**-24, "fp16": 2.0**-11}
_TIMES_NOISE = 4.0
_NOISE_RUNS = 4
_GROUP_BYTES = 1 << 30


def locate_artifacts(
    model_path: Path | onnx.ModelProto,
    module: Any,
    feed: Mapping[str, Array],
    *,
    input_names: Sequence[str],
    progress: Progress | None = None,
) -> Divergence:
    """See ``harness.numerics.artifact_diff``; torch is loaded here, not before."""
    from harness.numerics.artifact_diff import locate_artifacts as locate

    return locate(model_path, module, feed, input_names=input_names, progress=progress)


def locate_runtime(
    model_path: Path,
    candidate: Candidate,
    feed: Mapping[str, Array],
    *,
    lane: str,
    seed: int = 0,
    progress: Progress | None = None,
) -> Divergence:
    """The first layer that the runtime computes with more error than its number format explains.

    ``candidate(path, feed)`` runs a model file and gives all its outputs by name; it is called with copies of the model
    in which every tensor is an output. Per node, the local error is the candidate's output against the evaluator's for
    the candidate's own inputs, and is held against 4 times the error that rounding noise of the lane (``fp32``,
    ``fp16``) makes there; the accumulated error is against the exact run. If marking tensors as outputs makes the fault
    go away, it is in a fused kernel: then the tensors are marked one at a time, by bisection.
    """
    search = _Runtime(model_path, candidate, feed, _UNIT[lane], seed)
    findings = search.walk(progress)
    if findings:
        return Divergence(findings[0], suspects=tuple(findings[1:6]), notes=search.notes)
    whole, noise = search.output_error(candidate(model_path, feed)), search.output_noise()
    if whole > _TIMES_NOISE * noise and search.marked_error < whole / 4:
        return search.bisect(whole)
    words = f"no layer errs by more than {_TIMES_NOISE:g} times its own noise"
    end = f"the outputs err by rel L2 {whole:.1e}, rounding noise alone makes {noise:.1e}"
    return Divergence(None, notes=(words, end, *search.notes))


@dataclass
class _Runtime:
    """One model, one feed, and the runtime that is looked at."""

    model_path: Path
    candidate: Candidate
    feed: Mapping[str, Array]
    unit: float
    seed: int

    def __post_init__(self) -> None:
        self.evaluator = OnnxEvaluator(self.model_path)
        self.constants: dict[str, Array] = dict(self.evaluator.weights)
        self.dynamic: list[Node] = []
        self.notes: tuple[str, ...] = ()
        self.marked_error = math.inf  # of the outputs, in the run with marks where it was least
        self._bytes: dict[str, int] = {}
        self._floats: set[str] = set()

        def after(node: Node, results: list[Array]) -> list[Array]:
            if all(not name or name in self.constants for name in (*node.inputs, *node.implicit)):
                self.constants.update(zip(node.outputs, results, strict=False))
                return results
            self.dynamic.append(node)
            for name, result in zip(node.outputs, results, strict=False):
                self._bytes[name] = getattr(result, "nbytes", 0)
                if isinstance(result, np.ndarray) and result.dtype.kind == "f":
                    self._floats.add(name)
            return results

        self.outputs = self.evaluator.run(self.feed, after=after)

    def walk(self, progress: Progress | None) -> list[LayerFinding]:
        """Findings in topological order, at most six."""
        findings: list[LayerFinding] = []
        for group in self._groups():
            wanted = {name for node in group for name in (*node.outputs, *node.inputs, *node.implicit) if name}
            got, exact = self._run_marked(wanted & self._bytes.keys()), self._exact(wanted)
            for node in group:
                if progress is not None:
                    progress(node.index + 1, len(self.evaluator.nodes), node.name)
                finding = self._judge(node, exact | got, exact)
                if finding is not None:
                    findings.append(finding)
                if len(findings) == 6:
                    return findings
        return findings

    def output_error(self, got: Mapping[str, Array]) -> float:
        return max((_distance(got[name], value) for name, value in self._float_outputs() if name in got), default=0.0)

    def output_noise(self) -> float:
        rounding = Rounding(self.unit, self.seed)
        noisy = self.evaluator.run(
            {name: rounding(np.asarray(array)) for name, array in self.feed.items()},
            after=lambda _, results: [rounding(entry) for entry in results],
            weights=lambda _, array: rounding(array),
        )
        return max((_distance(noisy[name], value) for name, value in self._float_outputs()), default=0.0) + self.unit

    def bisect(self, whole: float) -> Divergence:
        """With one tensor marked at a time: the first from which on the runtime is wrong."""
        nodes = [node for node in self.dynamic if self._floats.intersection(node.outputs)]
        right, wrong, seen = -1, len(nodes) - 1, whole
        while wrong - right > 1:
            middle = (right + wrong) // 2
            name = next(entry for entry in nodes[middle].outputs if entry in self._floats)
            error = _distance(self._run_marked({name})[name], self._exact({name})[name])
            if error > whole / 16:
                wrong, seen = middle, error
            else:
                right = middle
        node = nodes[wrong]
        words = (
            f"{_place(node)}: wrong by rel L2 {seen:.1e} from here on, in a kernel that fuses it with what is before"
        )
        first = LayerFinding(node.name, node.op_type, node.module, node.outputs[0], None, seen, None, words)
        return Divergence(first, notes=("marking every tensor as an output makes the fault go away",))

    def _judge(self, node: Node, held: Mapping[str, Array], exact: Mapping[str, Array]) -> LayerFinding | None:
        names = [name for name in node.outputs if name in self._floats]
        given = [held[name] if name else None for name in node.inputs]
        if not names:
            return None
        expected = dict(zip(node.outputs, self.evaluator.run_node(node, given, context=held), strict=False))
        local, name = max((_distance(held[name], expected[name]), name) for name in names)
        terms = _summed_terms(node, given)
        sums = math.sqrt(1.0 + terms / 24.0)
        if self.unit > _UNIT["fp32"]:
            sums = min(sums, 2.0)  # fp16 kernels sum in float32, or in short blocks
        if local <= _TIMES_NOISE * self.unit * sums:  # the least that the noise can be
            return None
        noise = self._noise(node, given, held, name, expected[name]) * sums
        if not terms:
            noise = max(noise, self._formula_loss(node, given, held, name, expected[name]))
        if local <= _TIMES_NOISE * noise:
            return None
        grown = _distance(held[name], exact[name])
        size = f"by rel L2 {local:.1e}, {local / noise:.0f} times" if math.isfinite(local) else "in NaN or Inf, beyond"
        words = f"{_place(node)}: same inputs, output differs {size} its rounding noise"
        return LayerFinding(node.name, node.op_type, node.module, name, _finite(local), _finite(grown), noise, words)

    def _noise(
        self, node: Node, given: Sequence[Array | None], held: Mapping[str, Array], name: str, expected: Array
    ) -> float:
        """What rounding of all that is read and written explains, by Monte Carlo.

        Sums on their way come on top: K terms, rounded after each, are off by about sqrt(K / 6) units; kernels sum in a
        few lanes, so half of that.
        """
        rng = np.random.default_rng((self.seed, node.index))
        worst = self.unit
        for _ in range(_NOISE_RUNS):
            shaken = [None if value is None else self._shake(rng, value) for value in given]
            noisy = self._shake(rng, self.evaluator.run_node(node, shaken, context=held)[node.outputs.index(name)])
            distance = _distance(noisy, expected)
            worst = max(worst, distance if math.isfinite(distance) else 0.0)
        return worst

    def _formula_loss(
        self, node: Node, given: Sequence[Array | None], held: Mapping[str, Array], name: str, expected: Array
    ) -> float:
        """What the operator's own formula loses (``exp(x) - 1``): seen in float32, scaled to the lane.

        Four times, since a kernel's ``exp`` may be off by some units in the last place where numpy's is not.
        """
        single = self._single.run_node(node, given, context=held)[node.outputs.index(name)]
        loss = 4.0 * _distance(single, expected) * self.unit / _UNIT["fp32"]
        return loss if math.isfinite(loss) else 0.0

    @cached_property
    def _single(self) -> OnnxEvaluator:
        return OnnxEvaluator(self.model_path, dtype=np.float32)

    def _shake(self, rng: np.random.Generator, value: Array) -> Array:
        """Noise on every element, on exact ones too: the candidate's own values are all exact in its format."""
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            return value
        return np.asarray(value * (1.0 + self.unit * rng.uniform(-1.0, 1.0, value.shape)))

    def _float_outputs(self) -> Iterable[tuple[str, Array]]:
        return ((name, value) for name, value in self.outputs.items() if value.dtype.kind == "f")

    def _groups(self) -> Iterable[list[Node]]:
        """Consecutive nodes whose tensors fit in memory together."""
        group: list[Node] = []
        size = 0
        for node in self.dynamic:
            needs = sum(self._bytes.get(name, 0) for name in (*node.inputs, *node.outputs))
            if group and size + needs > _GROUP_BYTES:
                yield group
                group, size = [], 0
            group.append(node)
            size += needs
        if group:
            yield group

    def _exact(self, wanted: Iterable[str]) -> dict[str, Array]:
        names = set(wanted)
        found = {name: array for name, array in self.constants.items() if name in names}
        found |= {name: np.asarray(array) for name, array in self.feed.items() if name in names}

        def after(node: Node, results: list[Array]) -> list[Array]:
            found.update((name, entry) for name, entry in zip(node.outputs, results, strict=False) if name in names)
            return results

        self.evaluator.run(self.feed, after=after)
        return found

    def _run_marked(self, names: set[str]) -> dict[str, Array]:
        """The candidate's values of these tensors, floats in float64."""
        model = onnx.load(str(self.model_path))
        present = {entry.name for entry in model.graph.output}
        del model.graph.value_info[:]  # what a converter left there may be of before its conversion
        types = {entry.name: entry for entry in onnx.shape_inference.infer_shapes(model).graph.value_info}
        for name in sorted(names - present):
            entry = onnx.ValueInfoProto(name=name)
            if name in types:
                entry.type.tensor_type.elem_type = types[name].type.tensor_type.elem_type
            model.graph.output.append(entry)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "marked.onnx"
            onnx.save(model, str(path))
            got = self.candidate(path, self.feed)
        self.marked_error = min(self.marked_error, self.output_error(got))
        left_out = names - got.keys()
        if left_out:
            self.notes = (f"the runtime does not give {len(left_out)} of the tensors that were marked",)
        return {name: _widened(got[name]) for name in names & got.keys()}


def _summed_terms(node: Node, given: Sequence[Array | None]) -> int:
    """How many products an element of the output is the sum of; 0 for what does not sum, or is not known to."""
    shapes = [np.shape(value) for value in given if value is not None]
    if node.op_type == "Conv":
        return math.prod(shapes[1][1:])
    if node.op_type == "ConvTranspose":
        return math.prod((shapes[1][0], *shapes[1][2:]))
    if node.op_type in {"MatMul", "Gemm"}:
        return int(shapes[0][0] if node.attributes.get("transA") else shapes[0][-1])
    if node.op_type == "Einsum":
        terms, _, kept = node.attributes["equation"].decode().replace(" ", "").partition("->")
        sizes = {
            label: size
            for term, shape in zip(terms.split(","), shapes, strict=True)
            for label, size in zip(term, shape, strict=False)
        }
        return math.prod(size for label, size in sizes.items() if label not in kept)
    if node.op_type.startswith("Reduce"):
        return math.prod(shapes[0])
    if node.op_type in {"LayerNormalization", "LogSoftmax", "Softmax"}:
        return int(shapes[0][node.attributes.get("axis", -1)])
    if node.op_type in {"GlobalAveragePool", "GroupNormalization", "InstanceNormalization"}:
        return math.prod(shapes[0][2:])
    if node.op_type == "Resize":  # coordinates, as wide as the image, are computed in the lane's precision too
        return max(shapes[0][2:], default=0) ** 2 // 8
    return 0


def _place(node: Node) -> str:
    return f"`{node.module or node.name}` {node.op_type}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _widened(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _distance(got: Array, wanted: Array) -> float:
    """Relative L2; infinite where they are not finite in the same places, with the same signs."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if got.shape != wanted.shape:
        return math.inf
    finite = np.isfinite(wanted)
    if not np.array_equal(got[~finite], wanted[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return math.inf
    scale = float(np.linalg.norm(wanted[finite]))
    return float(np.linalg.norm(got[finite] - wanted[finite])) / scale if scale else float(got[finite].any())
