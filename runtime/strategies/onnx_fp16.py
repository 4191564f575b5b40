"""An ONNX model cast to fp16: weights and arithmetic in half precision, float32 inputs and outputs kept.

Which operator takes half precision is asked of the operator's own schema, so nothing is listed here: where a schema
has no ``tensor(float16)`` for an input (``Resize``'s scales, a custom operator), that input stays float32, between
casts. Nodes named in ``keep_fp32`` compute in float32.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["CastError", "cast_model", "cast_to_fp16", "load_model", "onnx_errors", "save_model"]

_FLOAT, _HALF = 1, 10  # TensorProto.FLOAT and FLOAT16
_DTYPE_ATTRIBUTES = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype"}
_SUFFIX = "_fp16"
_MAX_ONE_FILE = 3 << 29  # protobuf ends at 2 GiB


class CastError(ValueError):
    """The model has no fp16 form; the message says why."""


def cast_to_fp16(source: Path, target: Path, keep_fp32: Collection[str] = ()) -> None:
    """Write ``source`` in fp16 to ``target``. Raises ``CastError``; then nothing is left at ``target``."""
    try:
        save_model(cast_model(load_model(source), keep_fp32), target)
    except onnx_errors() as error:
        target.unlink(missing_ok=True)
        raise CastError((str(error).strip() or type(error).__name__).splitlines()[0]) from error


def onnx_errors() -> tuple[type[Exception], ...]:
    """What onnx raises for a model that it does not take: of no common kind."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    return (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, DecodeError, ValueError, RuntimeError)


def load_model(source: Path) -> onnx.ModelProto:
    """A model with its weights inside."""
    import onnx

    return onnx.load(source)


def save_model(model: onnx.ModelProto, target: Path) -> None:
    """Write a model and hold it against the checker, which raises; weights go beside a model that is too large for one file."""
    import onnx

    onnx.save_model(
        model, target, save_as_external_data=model.ByteSize() > _MAX_ONE_FILE, location=target.name + ".data"
    )
    onnx.checker.check_model(str(target), full_check=True)


def cast_model(model: onnx.ModelProto, keep_fp32: Collection[str] = ()) -> onnx.ModelProto:
    """The same, in memory. Raises ``CastError`` for weights beyond fp16's range, local functions and subgraphs."""
    import onnx

    if model.functions:
        raise CastError(f"local function {model.functions[0].name}: inline it first (onnx.inliner)")
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = _Graph(inferred.graph, opsets, frozenset(keep_fp32))
    graph.cast()
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.CopyFrom(graph.graph)
    result.ir_version = max(model.ir_version, 4)  # before, an initializer had to be an input too
    return result


@dataclass
class _Graph:
    """The graph while it is cast. ``floats``: values of float32 in the original, which become fp16 under their name."""

    graph: onnx.GraphProto
    opsets: dict[str, int]
    keep: frozenset[str]
    floats: set[str] = field(default_factory=set)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)
    as_float: dict[str, str] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def cast(self) -> None:
        graph = self.graph
        typed = [*graph.input, *graph.output, *graph.value_info]
        self.floats = {value.name for value in typed if value.type.tensor_type.elem_type == _FLOAT}
        self.weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == _FLOAT}
        self.floats |= set(self.weights)
        original = list(graph.node)
        outputs = {value.name for value in graph.output if value.name in self.floats}
        for value in graph.input:
            if value.name in self.floats and value.name not in self.weights:
                self.nodes.append(_cast(value.name, value.name + _SUFFIX, _HALF))
        for node in original:
            self._node(node)
        for name in sorted(outputs):
            self.nodes.append(_cast(name + _SUFFIX, name, _FLOAT))
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        halves = [_half(tensor) for name, tensor in self.weights.items() if name + _SUFFIX in used]
        inputs = [value for value in graph.input if value.name not in self.weights]
        del graph.node[:], graph.initializer[:], graph.value_info[:], graph.input[:]
        graph.input.extend(inputs)
        graph.node.extend(self.nodes)
        graph.initializer.extend([*kept, *halves])

    def _node(self, original: onnx.NodeProto) -> None:
        from onnx import NodeProto

        node = NodeProto()
        node.CopyFrom(original)
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise CastError(f"{node.op_type} {node.name!r} has a subgraph, which is not cast")
        taken, given = self._accepts(node)
        half = node.name not in self.keep and given
        for at, name in enumerate(node.input):
            if name in self.floats:
                node.input[at] = name + _SUFFIX if half and taken[at] else self._wide(name)
        results = [name for name in node.output if name in self.floats]
        if half:
            _retype(node)
            for at, name in enumerate(node.output):
                if name in self.floats:
                    node.output[at] = name + _SUFFIX
            self.nodes.append(node)
            return
        for at, name in enumerate(node.output):
            if name in results:
                node.output[at] = name + "_fp32"
        self.nodes.append(node)
        self.nodes += [_cast(name + "_fp32", name + _SUFFIX, _HALF) for name in results]

    def _wide(self, name: str) -> str:
        """The value in float32: a weight as it was, anything else behind a cast (made once)."""
        if name in self.weights:
            return name
        if name not in self.as_float:
            self.as_float[name] = name + "_wide"
            self.nodes.append(_cast(name + _SUFFIX, name + "_wide", _FLOAT))
        return self.as_float[name]

    def _accepts(self, node: onnx.NodeProto) -> tuple[list[bool], bool]:
        """Per input, whether its schema takes half precision; and whether every floating output may be half."""
        import onnx

        try:
            version = self.opsets[node.domain or "ai.onnx"]
            schema = onnx.defs.get_schema(node.op_type, version, "" if node.domain == "ai.onnx" else node.domain)
        except (KeyError, onnx.defs.SchemaError):
            return [False] * len(node.input), False
        allowed = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}

        def takes(formal: Sequence[onnx.defs.OpSchema.FormalParameter], at: int) -> bool:
            kind = formal[min(at, len(formal) - 1)].type_str
            return "tensor(float16)" in allowed.get(kind, [kind])

        inputs = [takes(schema.inputs, at) for at in range(len(node.input))]
        outputs = all(takes(schema.outputs, at) for at, name in enumerate(node.output) if name in self.floats)
        shared = {entry.type_str for entry in schema.outputs}
        bound = [
            inputs[at]
            for at, name in enumerate(node.input)
            if name in self.floats and schema.inputs[min(at, len(schema.inputs) - 1)].type_str in shared
        ]
        return inputs, outputs and all(bound)


def _retype(node: onnx.NodeProto) -> None:
    """Where a node names float32 itself, name fp16: constants, and the type that it casts to or makes."""
    from onnx import helper, numpy_helper

    for attribute in node.attribute:
        if attribute.HasField("t") and attribute.t.data_type == _FLOAT:
            attribute.t.CopyFrom(_half(attribute.t, attribute.t.name))
        if attribute.name == _DTYPE_ATTRIBUTES.get(node.op_type) and attribute.i == _FLOAT:
            attribute.i = _HALF
    if node.op_type == "Constant":
        for attribute in list(node.attribute):
            if attribute.name in ("value_float", "value_floats"):
                value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                node.attribute.remove(attribute)
                half = numpy_helper.from_array(np.asarray(value, np.float16))
                node.attribute.append(helper.make_attribute("value", half))
    made_by_default = {"ConstantOfShape", "EyeLike"}
    if node.op_type in made_by_default and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, np.float16))
        default = ("value", zero) if node.op_type == "ConstantOfShape" else ("dtype", _HALF)
        node.attribute.append(helper.make_attribute(*default))


def _half(tensor: onnx.TensorProto, name: str | None = None) -> onnx.TensorProto:
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half[np.isfinite(values)]).all():
        raise CastError(f"{tensor.name!r} holds {float(np.abs(values).max()):.3g}, and fp16 ends at 65504")
    return numpy_helper.from_array(half, tensor.name + _SUFFIX if name is None else name)


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    from onnx import helper

    return helper.make_node("Cast", [source], [target], f"cast {source} to {target}", to=to)
