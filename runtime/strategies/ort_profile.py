"""Where the nodes of a session ran and in which type they computed, from ONNX Runtime's profile (OR-06).

Types are those of the inputs that each node really got: the CPU provider computes many fp16 graphs in fp32 between
casts that it inserts, and the model file would not show it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.data import EngineLayer

__all__ = ["PROVIDER_NAMES", "Placement", "read_placement"]

PROVIDER_NAMES: Mapping[str, str] = {
    "TensorrtExecutionProvider": "tensorrt",
    "CUDAExecutionProvider": "cuda",
    "CPUExecutionProvider": "cpu",
}

_FLOATS: Mapping[str, str] = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}
_INT8_OPERATORS = ("QLinear", "QGemm", "QAttention", "DynamicQuantizeM", "MatMulInteger", "ConvInteger")
# fmt: off
_MOVES = frozenset((
    "Cast", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Identity", "Reshape", "Transpose", "Flatten",
    "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Gather", "GatherElements", "GatherND", "ScatterND",
    "ScatterElements", "Expand", "Tile", "Pad", "Shape", "Size", "DepthToSpace", "SpaceToDepth", "ReorderInput",
    "ReorderOutput", "MemcpyFromHost", "MemcpyToHost",
))
# fmt: on
"""Operators that move or convert values: they compute nothing, so they have no precision."""


@dataclass(frozen=True)
class Placement:
    """Distinct nodes and their counts. ``by_precision`` holds those that compute with floating point or int8."""

    by_provider: Mapping[str, int]
    by_precision: Mapping[str, int]
    casts: int
    layers: tuple[EngineLayer, ...] = ()

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16``, ``int8`` (beside fp32, in which such a graph keeps the rest), ``mixed`` or ``unknown``."""
        found = set(self.by_precision)
        if "int8" in found and found <= {"int8", "fp32"}:
            return "int8"
        if len(found) == 1:
            only = found.pop()
            return only if only in ("fp32", "fp16") else "unknown"
        return "mixed" if found else "unknown"


def read_placement(profile: str | bytes) -> Placement:
    """Read the JSON of one profiled run. Raises ``ValueError`` where it is none."""
    nodes: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in json.loads(profile):
        arguments = event.get("args", {})
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and "provider" in arguments:
            nodes[event["name"], str(arguments.get("node_index"))] = arguments  # a loop's body runs more than once
    layers = tuple(
        EngineLayer(
            name.removesuffix("_kernel_time"),
            str(node.get("op_name", "")),
            _precision(node) or "",
            PROVIDER_NAMES.get(node["provider"], node["provider"]),
        )
        for (name, _), node in nodes.items()
    )
    providers = Counter(layer.provider for layer in layers)
    precisions = Counter(layer.precision for layer in layers if layer.precision)
    casts = sum(layer.kind == "Cast" for layer in layers)
    return Placement(dict(providers), dict(precisions), casts, layers)


def _precision(node: Mapping[str, Any]) -> str | None:
    operator = node.get("op_name", "")
    if operator in _MOVES:
        return None
    if node["provider"] == "TensorrtExecutionProvider":
        return "unknown"  # one fused node; TensorRT chose the types of its layers
    if operator.startswith(_INT8_OPERATORS):
        return "int8"
    found = {_FLOATS[kind] for value in node.get("input_type_shape", ()) for kind in value if kind in _FLOATS}
    if len(found) > 1:
        return "mixed"
    return found.pop() if found else None
