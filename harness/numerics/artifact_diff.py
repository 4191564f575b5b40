"""Where an ONNX file and the torch module that it should be part ways: both in float64, matched value by value.

In float64 two artifacts of one model agree to 1e-6 at every tensor that both have, so what does not agree means
something else, and is no rounding. Neither names nor the order of operators need to agree: a tensor is found by its
elements (``harness.numerics.sketch``), and what only one side has, because an exporter splits or fuses operators, is recognised
by what comes of it being found again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from harness.numerics.onnx64 import Node, OnnxEvaluator
from harness.numerics.sketch import SAME, Index, Sketch, relative, same_values, sketch
from harness.numerics.torch_trace import TorchOp, Trace, trace
from harness.records import Divergence, LayerFinding
from runtime.protocol import Array

__all__ = ["locate_artifacts"]

Progress = Callable[[int, int, str], None]

# They only move or repeat elements; what comes of them tells whether they moved them rightly.
_MOVES = frozenset({
    "Cast", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad", "Reshape", "Slice",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
_SELECTS = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "Split"})
_TORCH_MOVES = frozenset({
    "aten._to_copy", "aten._unsafe_view", "aten.alias", "aten.cat", "aten.clone", "aten.detach", "aten.expand",
    "aten.index", "aten.permute", "aten.reshape", "aten.select", "aten.slice", "aten.split", "aten.split_with_sizes",
    "aten.squeeze", "aten.stack", "aten.t", "aten.transpose", "aten.unbind", "aten.unsqueeze", "aten.view",
})  # fmt: skip
_REGION = 24  # operators that one torch operator is split into, at most


@dataclass
class _Found:
    """What is known of one ONNX tensor: its summary, and the torch value that it equals."""

    summary: Sketch
    match: int | None


class _Sides:
    """Both recordings of one call, and the statuses of the ONNX nodes."""

    def __init__(self, evaluator: OnnxEvaluator, recorded: Trace) -> None:
        self.evaluator = evaluator
        self.trace = recorded
        self.index = Index(recorded.values)
        self.found: dict[str, _Found] = {}
        self.constants: dict[str, Array] = dict(evaluator.weights)
        self.maker = {name: node for node in evaluator.nodes for name in node.outputs}

    def see(self, name: str, array: Array) -> None:
        summary = sketch(array)
        self.found[name] = _Found(summary, self.index.find(summary))

    def run(self, feed: Mapping[str, Array], progress: Progress | None) -> None:
        total = len(self.evaluator.nodes)

        def after(node: Node, results: list[Array]) -> list[Array]:
            constant = all(not name or name in self.constants for name in (*node.inputs, *node.implicit))
            for name, result in zip(node.outputs, results, strict=False):
                if constant:
                    self.constants[name] = result
                elif isinstance(result, np.ndarray) and result.dtype.kind == "f":
                    self.see(name, result)
            if progress is not None:
                progress(node.index + 1, total, node.name)
            return results

        for name, array in feed.items():
            if array.dtype.kind == "f":
                self.see(name, array.astype(np.float64))
        self.evaluator.run(feed, after=after)

    def matched(self, node: Node) -> bool:
        """Every floating output is a torch value. True for a node without one."""
        return all(self.found[name].match is not None for name in node.outputs if name in self.found)

    def proven(self, node: Node) -> bool:
        """Some output is a torch value, and not by coincidence."""
        seen = [self.found[name] for name in node.outputs if name in self.found]
        return any(entry.match is not None and not entry.summary.weak for entry in seen)

    def flows(self, node: Node) -> list[str]:
        """The floating inputs that depend on the model's inputs."""
        return [name for name in (*node.inputs, *node.implicit) if name in self.found]


def locate_artifacts(
    model_path: Path | onnx.ModelProto,
    module: Any,
    feed: Mapping[str, Array],
    *,
    input_names: Sequence[str],
    progress: Progress | None = None,
) -> Divergence:
    """The first layer at which the ONNX file and the torch module part, on one feed.

    ``input_names``: the feed's names in the order of ``module.forward``. ``first`` is ``None`` if all floating outputs
    agree, or if no layer can be told; ``notes`` say which.
    """
    sides = _Sides(OnnxEvaluator(model_path), trace(module, [feed[name] for name in input_names]))
    sides.run(feed, progress)
    outputs = [spec.name for spec in sides.evaluator.outputs if spec.name in sides.found]
    wrong = [name for name in outputs if sides.found[name].match is None]
    if not wrong:
        return Divergence(None, notes=(f"in float64 both artifacts agree on every output, to {SAME:g}",))
    roots = _roots(sides)
    if not roots:
        return Divergence(None, notes=(f"{', '.join(wrong)} differ, but no layer before them does",))
    findings = [_finding(sides, root, wrong) for root in roots[:4]]
    return Divergence(findings[0], suspects=tuple(findings[1:]))


def _roots(sides: _Sides) -> list[Node]:
    """Nodes that are not matched, from which nothing matched comes, and whose inputs are right; in order."""
    nodes = sides.evaluator.nodes
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in sides.flows(node):
            readers.setdefault(name, []).append(node)
    confirmed = [False] * len(nodes)
    for node in reversed(nodes):
        right = {entry.index for name in node.outputs for entry in readers.get(name, ()) if name in sides.found}
        right = {at for at in right if (sides.proven(nodes[at]) and sides.matched(nodes[at])) or confirmed[at]}
        parts = [entry.index for name in node.outputs for entry in readers.get(name, ()) if entry.op_type in _SELECTS]
        # A part that is right says nothing of the rest: all parts that are taken have to be.
        confirmed[node.index] = bool(right - set(parts)) or (bool(parts) and right.issuperset(parts))
    tainted: set[str] = set()
    moved: dict[str, Node] = {}
    roots: list[Node] = []
    for node in nodes:
        made = [name for name in node.outputs if name in sides.found]
        if not made or sides.matched(node) or confirmed[node.index]:
            continue
        flows = sides.flows(node)
        if any(name in tainted for name in flows):
            tainted.update(made)
        elif node.op_type in _MOVES:
            moved.update(dict.fromkeys(made, node))
        else:
            roots.append(next((moved[name] for name in flows if name in moved and _reordered(sides, name)), node))
            tainted.update(made)
    return roots


def _reordered(sides: _Sides, name: str) -> bool:
    """Torch has a tensor of these very elements, in another order."""
    mine = sides.found[name].summary
    return any(value.shape == mine.shape and same_values(mine, value) for value in sides.trace.values)


def _onnx_region(sides: _Sides, root: Node) -> list[Node]:
    """The root and what follows it unmatched, as far as one torch operator may have been split."""
    region, made = [root], set(root.outputs)
    for node in sides.evaluator.nodes[root.index + 1 :]:
        flows = sides.flows(node)
        if len(region) < _REGION and any(name in made for name in flows) and not sides.matched(node):
            region.append(node)
            made.update(node.outputs)
    return region


def _torch_region(sides: _Sides, root: Node) -> list[TorchOp]:
    """What torch computes from the root's inputs, as far as ONNX does not have it."""
    values, trace_ = sides.trace.values, sides.trace
    have = {found.match for found in sides.found.values()}
    start = {sides.found[name].match for name in sides.flows(root)} - {None}
    reach = {values[at].key for at in start if at is not None}
    region: list[TorchOp] = []
    for op in trace_.ops:
        flows = [at for at in op.inputs if at not in trace_.parameters]
        if not any(values[at].key in reach for at in flows):
            continue
        if op.name in _TORCH_MOVES:
            reach.update(values[at].key for at in op.outputs)
        elif op.outputs and op.outputs[0] not in have and len(region) < _REGION:
            region.append(op)
            reach.update(values[at].key for at in op.outputs)
    return region


def _makers(sides: _Sides, root: Node) -> list[TorchOp]:
    """What made the root's inputs in torch: one operator there may do the work of several, the root among them."""
    given = {sides.found[name].match for name in sides.flows(root)}
    return [op for op in sides.trace.ops if given.intersection(op.outputs)]


def _finding(sides: _Sides, root: Node, wrong: Sequence[str]) -> LayerFinding:
    mine, theirs = _onnx_region(sides, root), _torch_region(sides, root)
    node, op, distance = _closest(sides, root, mine, theirs)
    stated = next((entry.module for entry in mine if entry.module), "")
    ends = {name for entry in (root, node) for name in entry.outputs}
    biases = [entry for entry in mine if entry.op_type == "Add" and ends.intersection(entry.inputs)]
    mine = [entry for entry in mine if entry.index <= node.index or entry in biases]
    theirs = theirs[: theirs.index(op) + 1] if op in theirs else []
    module = _finer(stated, op.module if op is not None else "")
    words = f"`{module or node.name}` {node.op_type}: same inputs, "
    if op is None or not math.isfinite(distance):
        words += "and torch has no such output"
    else:
        words += f"output differs by rel L2 {distance:.1e} from torch's {op.name}"
    name = next(entry for entry in node.outputs if entry in sides.found)
    if _reordered(sides, name):
        words += "; the same elements in another order"
    causes = [] if root.op_type in _MOVES else _causes(sides, root, mine, theirs)
    end = min(_distance_to_outputs(sides, entry) for entry in wrong)
    return LayerFinding(
        layer=node.name,
        operator=node.op_type,
        module=module,
        output=name,
        local_error=distance if math.isfinite(distance) else None,
        accumulated_error=end if math.isfinite(end) else None,
        noise=SAME,
        words="; ".join((words, *causes)),
    )


def _finer(stated: str, seen: str) -> str:
    """The module's path: the exporter's, unless the one that torch ran says more."""
    return seen if not stated or seen.startswith(stated + ".") else stated


def _closest(
    sides: _Sides, root: Node, mine: Sequence[Node], theirs: Sequence[TorchOp]
) -> tuple[Node, TorchOp | None, float]:
    """The node and the torch operator that are one: of the first torch module after the root's inputs.

    The pair whose outputs are nearest to each other, if they are near; else the root, and what is there in its place.
    """

    def distance(node: Node, op: TorchOp) -> float:
        name = next((entry for entry in node.outputs if entry in sides.found), "")
        return relative(sides.found[name].summary, sides.trace.values[op.outputs[0]]) if name else math.inf

    if root.op_type in _MOVES:
        return root, None, math.inf
    given = {sides.found[name].match for name in sides.flows(root)}
    direct = [op for op in theirs if op.module == root.module and given.intersection(op.inputs)]
    first = next(iter((*direct, *theirs)), None)
    shifts = root.op_type in {"Add", "Sub", "Mul", "Div"}
    if shifts and any(np.size(sides.constants[name]) > 1 for name in root.inputs if name in sides.constants):
        makers = [op for op in _makers(sides, root) if op.name not in _TORCH_MOVES]
        first = min((op for op in (first, *makers) if op is not None), key=lambda op: distance(root, op), default=None)
    if first is None:
        return root, None, math.inf
    there = [op for op in theirs if op.module == first.module] or [first]
    table = np.array([[distance(node, op) for op in there] for node in mine])
    for column, op in enumerate(there):
        row = int(np.argmin(table[:, column]))
        if table[row, column] < 0.5 and column == int(np.argmin(table[row])):
            return mine[row], op, float(table[row, column])
    return root, first, distance(root, first)


def _distance_to_outputs(sides: _Sides, name: str) -> float:
    mine = sides.found[name].summary
    return min((relative(mine, sides.trace.values[at]) for at in sides.trace.outputs), default=math.inf)


def _causes(sides: _Sides, root: Node, mine: Sequence[Node], theirs: Sequence[TorchOp]) -> list[str]:
    """What differs in the constants of the two regions, in words."""
    names = dict.fromkeys(name for node in mine for name in node.inputs if name in sides.constants)
    own = {name: _effective(sides, mine, name) for name in names}
    held = {name: array for name, array in own.items() if array.dtype.kind == "f" and array.size > 1}
    used = {at for op in (*theirs, *_makers(sides, root)) for at in op.inputs if at in sides.trace.arrays}
    parameters = {sides.trace.parameters[at]: sides.trace.arrays[at] for at in sorted(used)}
    held_alike = {name for name, array in held.items() if any(_equal(array, wanted) for wanted in parameters.values())}
    causes = []
    for name, wanted in parameters.items():
        if any(_equal(array, wanted) for array in held.values()):
            continue
        others = [entry for entry in held if entry not in held_alike]
        told = [
            f"`{entry}` against torch's `{name}`: {words}"
            for entry in others
            if (words := _difference(held[entry], wanted))
        ]
        if told:
            causes.append(told[0])
        elif wanted.ndim == 1 and any(name == sides.trace.parameters.get(at) for op in theirs for at in op.inputs):
            causes.append(f"torch uses `{name}`, the ONNX node does not")
    if not causes:
        causes = [
            f"the ONNX node uses `{name}`, torch does not"
            for name, array in held.items()
            if name not in held_alike and array.ndim == 1 and not np.isin(array, (0.0, 1.0)).all()
        ]
    return causes[:2] or _scalar_causes(mine, theirs, own)


def _scalar_causes(mine: Sequence[Node], theirs: Sequence[TorchOp], own: Mapping[str, Array]) -> list[str]:
    here = {float(array.ravel()[0]) for array in own.values() if array.dtype.kind == "f" and array.size == 1}
    here |= {float(value) for node in mine for value in node.attributes.values() if isinstance(value, float)}
    there = {value for op in theirs for value in op.scalars}
    only_here = sorted(value for value in here if not any(math.isclose(value, other, rel_tol=1e-6) for other in there))
    only_there = sorted(value for value in there if not any(math.isclose(value, other, rel_tol=1e-6) for other in here))
    if len(only_here) == 1 and len(only_there) == 1 and only_here[0]:
        return [f"constant {only_here[0]:.6g} in ONNX, {only_there[0]:.6g} in torch"]
    forms = {node.attributes.get("approximate") for node in mine if node.op_type == "Gelu"}
    kinds = {node.op_type for node in mine} & {"Erf", "Tanh"}
    if (forms or kinds) and any(op.name == "aten.gelu" for op in theirs):
        form = "tanh" if b"tanh" in forms or kinds == {"Tanh"} else "erf"
        return [f"ONNX has the {form} form of GELU, torch the other"]
    return []


def _effective(sides: _Sides, mine: Sequence[Node], name: str) -> Array:
    """A constant as torch passes it: a transposed Gemm operand as the matrix that multiplies."""
    array = np.asarray(sides.constants[name])
    turned = any(
        node.op_type == "Gemm" and node.attributes.get("transB") and len(node.inputs) > 1 and node.inputs[1] == name
        for node in mine
    )
    return array.T if turned else array


def _equal(one: Array, other: Array) -> bool:
    if one.size != other.size:
        return False
    return bool(np.linalg.norm(one.ravel() - other.ravel()) <= SAME * np.linalg.norm(other))


def _difference(mine: Array, wanted: Array) -> str:
    """How a weight of the same size differs from torch's; empty text where it is another weight altogether."""
    if mine.size != wanted.size:
        return ""
    if not mine.any() and wanted.any():
        return "it is zero here"
    if not wanted.any():
        return "it is zero in torch"
    flat = mine.reshape(wanted.shape)
    if wanted.ndim == 2 and (_equal(mine.T, wanted) or _equal(flat.T, wanted)):
        return "transposed"
    for axis in range(wanted.ndim):
        order = _axis_order(flat, wanted, axis)
        if order is not None:
            moved = [at for at, place in enumerate(order) if at != place]
            return f"channels {', '.join(map(str, moved[:4]))} are in another order"
    ratio = float((flat * wanted).sum() / (wanted * wanted).sum()) if wanted.any() else 0.0
    if ratio and _equal(flat, ratio * wanted):
        return f"times {ratio:.6g}"
    distance = float(np.linalg.norm(flat - wanted) / np.linalg.norm(wanted))
    return f"rel L2 {distance:.1e} apart" if distance < 0.5 else ""


def _axis_order(mine: Array, wanted: Array, axis: int) -> list[int] | None:
    """The order of ``wanted``'s slices along ``axis`` that gives ``mine``, if there is one."""
    rows = np.moveaxis(mine, axis, 0).reshape(mine.shape[axis], -1)
    torch_rows = np.moveaxis(wanted, axis, 0).reshape(wanted.shape[axis], -1)
    by_size, by_size_torch = np.lexsort(rows.T[:3]), np.lexsort(torch_rows.T[:3])
    if not _equal(rows[by_size], torch_rows[by_size_torch]):
        return None
    order = np.empty(len(rows), int)
    order[by_size] = by_size_torch
    return [int(place) for place in order]
