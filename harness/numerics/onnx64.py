"""The stated evaluator for models that exist only as ONNX: the operators of ``onnx.reference``, computed in float64.

ONNX Runtime has no float64 convolution, so it cannot be its own reference. Here a model is converted (initializers,
constants, casts) so that every floating tensor is of one working dtype, and is walked node by node in Python, so that
a caller may see and replace what each node gives. Operators that the reference gets wrong, or computes slowly, are in
``harness.numerics.onnx_kernels``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun, RuntimeContextError

from harness.numerics.onnx_kernels import Declined, find_kernel, torch_or_none
from runtime.data import TensorSpec
from runtime.errors import ConfigError
from runtime.protocol import Array

__all__ = ["EvaluatorError", "Node", "OnnxEvaluator"]

Hook = Callable[["Node", list[Array]], list[Array]]
Weights = Callable[[str, Array], Array]

_FLOATS = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE})
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


class EvaluatorError(ConfigError):
    """The model, or one of its operators, cannot be evaluated here; the message names it."""


@dataclass(frozen=True)
class Node:
    """One node of the main graph, in topological order.

    ``inputs``: names, empty text for an optional one that is left out. ``implicit``: names of the outer graph that its
    subgraphs read. ``module``: the torch module's path (``blocks.3.norm``), where the exporter wrote it down.
    """

    index: int
    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    module: str = ""
    implicit: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


class OnnxEvaluator:
    """Evaluates an ONNX model with every floating tensor in ``dtype``: float64, or float32 for the single run.

    ``model``: a path (external data is read from its folder) or a model with its data inside. Local functions are
    inlined. Raises ``EvaluatorError`` that names the operator for one that is unknown or random.
    """

    def __init__(self, model: Path | onnx.ModelProto, *, dtype: Any = np.float64) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.float64), np.dtype(np.float32)):
            raise EvaluatorError(f"dtype is {self.dtype}; expected float64 or float32.")
        proto = _load(model)
        self._working = helper.np_dtype_to_tensor_dtype(self.dtype)
        self._weights = {tensor.name: self._settle(numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer}
        self._ranks = {name: array.ndim for name, array in self._weights.items()}
        self.inputs = tuple(_spec(value) for value in proto.graph.input if value.name not in self._weights)
        self.outputs = tuple(_spec(value) for value in proto.graph.output)
        self.opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
        del proto.graph.initializer[:]
        _convert(proto.graph, int(self._working))
        self.nodes = tuple(_node(index, node) for index, node in enumerate(proto.graph.node))
        self._operators = self._instantiate(proto)
        self._last_use = self._find_last_uses()

    @property
    def name(self) -> str:
        """What computes, in words."""
        torch = torch_or_none()
        slow = "numpy kernels only (torch is not installed)" if torch is None else f"torch {torch.__version__} kernels"
        return f"onnx.reference {onnx.__version__} in {self.dtype.name}, {slow}"

    @property
    def weights(self) -> Mapping[str, Array]:
        """The initializers, floating ones in the working dtype. Not to be written to."""
        return self._weights

    def run(
        self,
        feed: Mapping[str, Array],
        *,
        after: Hook | None = None,
        before: Hook | None = None,
        weights: Weights | None = None,
    ) -> dict[str, Array]:
        """The graph's outputs by name, floating ones in the working dtype.

        ``after(node, outputs)`` sees every node's outputs and gives what is to be used in their place; ``before(node,
        inputs)`` does so for what one node reads (an optional input that is left out is ``None``), and ``weights(name,
        array)`` for every floating initializer. Values are freed after their last use.
        """
        values = self._start(feed, weights)
        kept = {spec.name for spec in self.outputs}
        for node in self.nodes:
            given: list[Any] = [values[name] if name else None for name in node.inputs]
            if before is not None:
                given = before(node, given)
            results = self._evaluate(node, given, values)
            if after is not None:
                results = after(node, results)
            values.update(zip(node.outputs, results, strict=False))
            for name in self._last_use[node.index]:
                if name not in kept:
                    values.pop(name, None)
        return {spec.name: values[spec.name] for spec in self.outputs}

    def run_node(
        self, node: Node, values: Sequence[Array | None], *, context: Mapping[str, Array] | None = None
    ) -> list[Array]:
        """One node's outputs for the inputs ``values``, in the order of ``node.inputs``.

        ``context``: the outer values that its subgraphs read (``node.implicit``), for ``If``, ``Loop`` and ``Scan``.
        """
        given = [None if value is None else self._settle(np.asarray(value)) for value in values]
        return self._evaluate(node, given, context or {})

    def _start(self, feed: Mapping[str, Array], weights: Weights | None) -> dict[str, Array]:
        missing = [spec.name for spec in self.inputs if spec.name not in feed]
        unknown = sorted(set(feed) - {spec.name for spec in self.inputs} - set(self._weights))
        if missing or unknown:
            expected = ", ".join(spec.name for spec in self.inputs)
            raise EvaluatorError(f"inputs missing: {missing}, unknown: {unknown}; expected {expected}.")
        values = dict(self._weights)
        if weights is not None:
            values = {
                name: weights(name, array) if array.dtype.kind == "f" else array for name, array in values.items()
            }
        return values | {name: self._settle(np.asarray(array)) for name, array in feed.items()}

    def _evaluate(self, node: Node, given: Sequence[Array | None], values: Mapping[str, Array]) -> list[Array]:
        operator = self._operators[node.index]
        extra: dict[str, Any] = {}
        if operator.need_context():
            extra["context"] = {name: values[name] for name in node.implicit if name in values}
        try:
            with np.errstate(all="ignore"):
                results = operator.run(*given, **extra)  # type: ignore[no-untyped-call]  # onnx is not annotated there
        except Exception as error:
            shapes = ", ".join("-" if value is None else f"{value.dtype}{list(np.shape(value))}" for value in given)
            raise EvaluatorError(f"{node.op_type} `{node.name}` cannot be evaluated on ({shapes}): {error}") from error
        return [self._settle(result) for result in results]

    def _settle(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and (value.dtype.kind == "f" or value.dtype.name == "bfloat16"):
            return value.astype(self.dtype, copy=False)
        return value

    def _instantiate(self, proto: onnx.ModelProto) -> list[OpRun]:
        opsets = {
            entry.domain.replace("ai.onnx", "") if entry.domain == "ai.onnx" else entry.domain: entry.version
            for entry in proto.opset_import
        }
        for node in _all_nodes(proto.graph):
            if node.op_type in _RANDOM:
                raise EvaluatorError(f"{node.op_type} `{node.name}` is random; it has no reference.")
        try:
            return list(_reference(int(self._working))(proto.graph, opsets=opsets).rt_nodes_)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise EvaluatorError(
                f"an operator of this model has no reference implementation: {error}",
                remedy="Export it with standard ONNX operators, or give the torch module as the reference.",
            ) from error

    def _find_last_uses(self) -> list[list[str]]:
        last: dict[str, int] = {}
        for node in self.nodes:
            for name in (*node.inputs, *node.implicit, *node.outputs):
                if name:
                    last[name] = node.index
        uses: list[list[str]] = [[] for _ in self.nodes]
        for name, index in last.items():
            uses[index].append(name)
        return uses


@cache
def _reference(working: int) -> type[ReferenceEvaluator]:
    """The reference with our kernels; the class that also evaluates subgraphs and the bodies of schema functions."""

    class Reference(ReferenceEvaluator):
        def __init__(self, proto: Any, *args: Any, **kwargs: Any) -> None:
            if isinstance(proto, onnx.FunctionProto):
                _convert_nodes(proto.node, working)
            super().__init__(proto, *args, **kwargs)
            for operator in self.rt_nodes_:
                for name in operator.attributes_names_:
                    if isinstance(getattr(operator, name), np.float32):  # would compute with its like in float32
                        setattr(operator, name, float(getattr(operator, name)))

        def _load_impl(self, node: onnx.NodeProto, input_types: Any = None) -> Any:
            opset = self.opsets.get(node.domain, 0)
            kernel = find_kernel(node.op_type, opset) if node.domain == "" and len(node.output) == 1 else None
            try:
                original = super()._load_impl(node, input_types)
            except RuntimeContextError:
                if kernel is None:
                    raise
                original = OpRun
            if kernel is None and (node.domain or not isinstance(original, type) or original.__name__ != node.op_type):
                return original  # a function of the schema, or a class that states the version of its schema
            return _adapt(
                original if isinstance(original, type) else OpRun, kernel, onnx.defs.get_schema(node.op_type, opset)
            )

    return Reference


def _adapt(original: Any, kernel: Callable[..., Array] | None, schema: Any) -> type[OpRun]:
    """``original`` with the default attributes of the model's opset (its own are the newest), and with our kernel."""
    if kernel is None:
        return type(original.__name__, (original,), {"op_schema": schema})

    compute = kernel

    class Adapted(original):  # type: ignore[misc]  # the base is found at run time
        op_schema = schema

        def run(self, *args: Any, **extra: Any) -> Any:
            return OpRun.run(self, *args, **extra)  # type: ignore[no-untyped-call]  # skips the checks of unary operators

        def _run(self, *args: Any, **attributes: Any) -> Any:
            try:
                return (compute(*args, **attributes),)
            except Declined:
                return super()._run(*args, **attributes)

    return Adapted


def _load(model: Path | onnx.ModelProto) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
    else:
        try:
            proto = onnx.load(str(model))
        except Exception as error:
            raise EvaluatorError(f"{model} is not a readable ONNX model: {error}") from error
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    return proto


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"dim{at}"
        for at, dim in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, shape, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name)


def _node(index: int, node: onnx.NodeProto) -> Node:
    implicit = {name for graph in _subgraphs(node) for name in _free_names(graph)}
    return Node(
        index=index,
        name=node.name or f"{node.op_type}_{index}",
        op_type=node.op_type,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        module=_module(node),
        implicit=tuple(sorted(implicit - set(node.input))),
        attributes={entry.name: helper.get_attribute_value(entry) for entry in node.attribute},
    )


def _module(node: onnx.NodeProto) -> str:
    """The torch module's path: from the dynamo exporter's metadata, or from the TorchScript exporter's node names."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            try:
                scopes = [str(scope) for scope in ast.literal_eval(entry.value)]
            except (ValueError, SyntaxError):
                break
            return scopes[-2] if len(scopes) > 1 else ""
    if re.fullmatch(r"(/[^/]+)+", node.name):
        return ".".join(node.name.split("/")[1:-1])
    return ""


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for entry in node.attribute:
        if entry.type == onnx.AttributeProto.GRAPH:
            yield entry.g
        yield from entry.graphs


def _free_names(graph: onnx.GraphProto) -> set[str]:
    """What a subgraph, with the ones inside it, reads from outside."""
    known = {entry.name for entry in (*graph.input, *graph.initializer)}
    known |= {entry.values.name for entry in graph.sparse_initializer}
    free: set[str] = set()
    for node in graph.node:
        read = set(node.input).union(*(_free_names(inner) for inner in _subgraphs(node)))
        free |= read - known - {""}
        known |= set(node.output)
    return free


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in _subgraphs(node):
            yield from _all_nodes(inner)


def _convert(graph: onnx.GraphProto, working: int) -> None:
    """In place: every floating type that the graph states becomes ``working``, in subgraphs too."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = working
    for tensor in graph.initializer:
        _convert_tensor(tensor, working)
    _convert_nodes(graph.node, working)


def _convert_nodes(nodes: Iterable[onnx.NodeProto], working: int) -> None:
    for node in nodes:
        if node.domain == "ai.onnx":
            node.domain = ""
        for entry in node.attribute:
            if entry.name in _TYPE_ATTRIBUTES and entry.i in _FLOATS:
                entry.i = working
            elif entry.type == onnx.AttributeProto.TENSOR:
                _convert_tensor(entry.t, working)
            elif node.op_type == "Constant" and entry.name in ("value_float", "value_floats"):
                held = entry.f if entry.name == "value_float" else list(entry.floats)
                array = np.asarray(held, dtype=helper.tensor_dtype_to_np_dtype(working))
                entry.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(array)))
        for inner in _subgraphs(node):
            _convert(inner, working)


def _convert_tensor(tensor: onnx.TensorProto, working: int) -> None:
    if tensor.data_type in _FLOATS and tensor.data_type != working:
        array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(working))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
