"""What the fake builder does to a model: a cast to fp16, quantisation by calibrated ranges, and its list of layers."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.fakes.onnx_model import Tensor, tensor_types
from harness.fakes.tensorrt_plan import Flavour

if TYPE_CHECKING:
    import onnx

__all__ = [
    "LAYER_TYPES",
    "describe_layers",
    "layer_lines",
    "quantize",
    "read_cache",
    "tensors_to_calibrate",
    "write_cache",
]

_FLOAT = 1
_QUANTIZED = {"Conv": 0, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1}
"""Operators that run in int8, with the axis of their weights that has a scale of its own for each channel."""
_STEPS = 127.0

LAYER_TYPES = {
    **dict.fromkeys(
        ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "Softplus", "HardSigmoid", "Clip"), "ACTIVATION"
    ),
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Greater", "Less", "And"), "ELEMENTWISE"
    ),
    **dict.fromkeys(("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"), "SHUFFLE"),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), "POOLING"),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"), "REDUCE"),
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization", "GroupNormalization"), "NORMALIZATION"),
    **dict.fromkeys(("Slice", "Pad", "Expand", "Split", "Tile"), "SLICE"),
    **dict.fromkeys(("MatMul", "Gemm"), "MATRIX_MULTIPLY"),
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "Constant": "CONSTANT",
    "Cast": "CAST",
    "LRN": "LRN",
    "Concat": "CONCATENATION",
    "Softmax": "SOFTMAX",
    "Resize": "RESIZE",
    "Gather": "GATHER",
    "Shape": "SHAPE",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "TopK": "TOPK",
    "Where": "SELECT",
    "Identity": "IDENTITY",
    "Einsum": "EINSUM",
    "NonZero": "NON_ZERO",
    "GridSample": "GRID_SAMPLE",
}
_KERNELS = {"CONVOLUTION": "CaskConvolution", "DECONVOLUTION": "CaskDeconvolutionV2", "MATRIX_MULTIPLY": "gemm"}
_KERNELS |= {"POOLING": "CaskPooling", "CAST": "Reformat", "QUANTIZE": "Reformat", "SHUFFLE": "Shuffle"}
_WORDS = {1: "Float", 10: "Half", 16: "BFloat16", 3: "Int8", 6: "Int32", 7: "Int64", 9: "Bool", 2: "UInt8", 17: "FP8"}
_LONG_WORDS = {1: "Row major linear FP32", 10: "Row major linear FP16 format", 3: "Row major Int8 format"}


def tensors_to_calibrate(model: onnx.ModelProto) -> list[str]:
    """Every float32 tensor that is no weight, in the order of the graph."""
    weights = {tensor.name for tensor in model.graph.initializer}
    types = tensor_types(model)
    names = [value.name for value in model.graph.input if value.name not in weights]
    names += [name for node in model.graph.node if node.op_type != "Constant" for name in node.output if name]
    return [name for name in names if name in types and types[name].element == _FLOAT]


def write_cache(ranges: Mapping[str, float], flavour: Flavour, algorithm: str) -> bytes:
    """A calibration table as TensorRT writes it: for each tensor the bits of its scale, as a big-endian float32.

    ``ranges``: the greatest magnitude of each tensor. ``algorithm``: ``EntropyCalibration2`` or ``MinMaxCalibration``.
    """
    major, minor, patch, _ = flavour.version
    lines = [f"TRT-{major * 10000 + minor * 100 + patch}-{algorithm}"]
    lines += [f"{name}: {struct.pack('>f', most / _STEPS).hex()}" for name, most in ranges.items()]
    return ("\n".join(lines) + "\n").encode()


def read_cache(data: bytes, algorithm: str) -> dict[str, float] | None:
    """The ranges in a table, or None where it is none, or one of another algorithm."""
    lines = data.decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith("TRT-") or not lines[0].endswith(f"-{algorithm}"):
        return None
    ranges = {}
    for line in lines[1:]:
        name, separator, bits = line.rpartition(": ")
        try:
            ranges[name] = float(struct.unpack(">f", bytes.fromhex(bits))[0]) * _STEPS
        except (ValueError, struct.error):
            return None
        if not separator:
            return None
    return ranges


def quantize(
    model: onnx.ModelProto, ranges: Mapping[str, float], keep: Collection[str]
) -> tuple[onnx.ModelProto, set[str]]:
    """The model with Q/DQ pairs at the inputs of what runs in int8, and the names of those nodes.

    A node in ``keep``, and one whose input has no range, stays as it is. Weights have one scale per output channel.
    """
    import onnx
    from onnx import helper, numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    if next(entry.version for entry in model.opset_import if not entry.domain) < 13:
        result = onnx.version_converter.convert_version(result, 13)
    graph = result.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == _FLOAT}
    nodes: list[onnx.NodeProto] = []
    made: dict[str, str] = {}
    quantized = set()

    def scaled(name: str, scale: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(scale, np.float32), name + "_scale"))
        zeros = np.zeros(np.shape(scale), np.int8)
        graph.initializer.append(numpy_helper.from_array(zeros, name + "_zero"))
        return name + "_dequantized"

    def activation(name: str) -> str:
        if name not in made:
            made[name] = scaled(name, max(ranges[name], 1e-12) / _STEPS)
            pair = [name, name + "_scale", name + "_zero"]
            nodes.append(helper.make_node("QuantizeLinear", pair, [name + "_int8"], f"quantize {name}"))
            back = [name + "_int8", *pair[1:]]
            nodes.append(helper.make_node("DequantizeLinear", back, [made[name]], f"dequantize {name}"))
        return made[name]

    def weight(name: str, axis: int) -> str:
        key = f"{name}@{axis}"
        if key not in made:
            values = weights[name]
            axis %= values.ndim
            others = tuple(place for place in range(values.ndim) if place != axis)
            scale = np.maximum(np.abs(values).max(axis=others), 1e-12).astype(np.float32) / np.float32(_STEPS)
            shape = [-1 if place == axis else 1 for place in range(values.ndim)]
            steps = np.clip(np.rint(values / scale.reshape(shape)), -_STEPS, _STEPS).astype(np.int8)
            made[key] = scaled(key, scale)
            graph.initializer.append(numpy_helper.from_array(steps, key + "_int8"))
            pair = [key + "_int8", key + "_scale", key + "_zero"]
            nodes.append(helper.make_node("DequantizeLinear", pair, [made[key]], f"dequantize {name}", axis=axis))
        return made[key]

    for node in graph.node:
        axis = _QUANTIZED.get(node.op_type)
        sources = list(node.input[:2])
        known = [name in weights or name in ranges for name in sources]
        if axis is not None and node.name not in keep and len(sources) == 2 and all(known):
            if node.op_type == "Gemm":
                axis = 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
            for place, name in enumerate(sources):
                is_weight = name in weights
                ndim = weights[name].ndim if is_weight else 0
                node.input[place] = (
                    weight(name, axis) if is_weight and ndim > 1 else name if is_weight else activation(name)
                )
            quantized.add(node.name)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return result, quantized


def describe_layers(model: onnx.ModelProto, flavour: Flavour) -> list[dict[str, Any]]:
    """The layers of a built model as the inspector tells them in detail: what each reads and writes, and as what type.

    A layer behind a ``DequantizeLinear`` reads int8, one before a ``QuantizeLinear`` writes it, as in a fused engine.
    """
    types = tensor_types(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    constants = {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    source = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in source]
    source |= {node.output[0]: source[node.input[0]] for node in casts}  # an engine folds it into the layer that reads
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    outputs = {value.name for value in model.graph.output}
    layers = []
    for place, node in enumerate(model.graph.node):
        if node.op_type in ("Constant", "DequantizeLinear") or node in casts:
            continue
        fixed = [name for name in node.input if _origin(name, source) in weights | constants]
        read = [name for name in node.input if name and name not in fixed]
        name = node.name or f"{node.op_type}_{place}"
        kind = LAYER_TYPES.get(node.op_type, "UNARY")
        written = [
            (name, 3 if set(readers.get(name, ())) == {"QuantizeLinear"} and name not in outputs else None)
            for name in node.output
            if name
        ]
        reads = [_told(flavour, types, _origin(name, source)) for name in read]
        if kind in ("CAST", "QUANTIZE"):
            name = f"Reformatting CopyNode for Input Tensor 0 to {name}"
        layer: dict[str, Any] = {
            "Name": name,
            "LayerType": _KERNELS.get(kind, "kgen"),
            "Inputs": reads,
            "Outputs": [_told(flavour, types, tensor, element) for tensor, element in written],
        }
        held = [_told(flavour, types, _origin(name, source)) for name in fixed]
        if kind in ("CONVOLUTION", "DECONVOLUTION") and held:
            layer["Weights"] = {"Type": _word(types, _origin(fixed[0], source)), "Count": _count(types, fixed[0])}
        elif held:
            layer["Constants"] = held
        layer |= {"TacticName": f"sim_sm_{node.op_type.lower()}", "StreamId": 0}
        layer["Metadata"] = "" if "CopyNode" in name else f"[ONNX Layer: {node.name}]"
        layers.append(layer)
    return layers


def layer_lines(layers: list[dict[str, Any]]) -> str:
    """The same as the builder logs it at the end of a build, when it is told to say everything."""

    def told(tensors: list[dict[str, Any]]) -> str:
        parts = []
        for tensor in tensors:
            size = ",".join(map(str, tensor["Dimensions"]))
            kind = tensor.get("Datatype", tensor.get("Format/Datatype"))
            form = "Format: (Linear) Row major linear format"
            parts.append(f"{{ Name: {tensor['Name']}, Dimensions: [{size}], Datatype: {kind}, {form} }}")
        return "[ " + ", ".join(parts) + "]" if parts else "[]"

    lines = [
        f"Name: {layer['Name']}, LayerType: {layer['LayerType']}, Inputs: {told(layer['Inputs'])}, "
        f"Constants: {told(layer.get('Constants', []))}, Outputs: {told(layer['Outputs'])}, "
        f"TacticName: {layer['TacticName']}, StreamId: 0, Metadata: {layer['Metadata']}"
        for layer in layers
    ]
    return "Layers:\n" + "\n".join(lines)


def _origin(name: str, source: Mapping[str, onnx.NodeProto]) -> str:
    """What is dequantised into a tensor; the tensor itself where nothing is."""
    return str(source[name].input[0]) if name in source else name


def _told(flavour: Flavour, types: Mapping[str, Tensor], name: str, element: int | None = None) -> dict[str, Any]:
    tensor = types.get(name)
    number = element if element is not None else tensor.element if tensor else _FLOAT
    told: dict[str, Any] = {"Name": name, "Dimensions": list(tensor.shape) if tensor else []}
    word = _WORDS.get(number, "Float")
    if flavour.is_rtx or flavour.version >= (11,):
        return {**told, "Datatype": word, "Format": "(Linear) Row major linear format"}
    told["Location"] = "Device"
    return {**told, "Format/Datatype": _LONG_WORDS.get(number, word) if flavour.version < (10, 13) else word}


def _word(types: Mapping[str, Tensor], name: str) -> str:
    return _WORDS.get(types[name].element, "Float") if name in types else "Float"


def _count(types: Mapping[str, Tensor], name: str) -> int:
    return int(np.prod(types[name].shape)) if name in types else 0
