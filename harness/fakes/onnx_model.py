"""What an ONNX model computes, and of what shapes: the arithmetic under the fake TensorRT, by ONNX Runtime on the CPU."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

__all__ = ["Array", "ModelError", "OnnxModel", "Shape", "Tensor", "open_model", "tensor_types", "volume"]

Array = NDArray[Any]
Shape = tuple[int, ...]

_DATA_DEPENDENT = frozenset({"NonZero", "NonMaxSuppression", "Unique", "Compress", "Loop", "If", "Scan"})
_SHAPE_PLACES = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "Pad": (1,),
    "ConstantOfShape": (0,),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
    "Range": (0, 1, 2),
}
"""Inputs of operators that decide a shape and carry no data."""
_INTEGERS = frozenset({6, 7})
_ALIGNMENT = 256


class ModelError(Exception):
    """The model cannot be run; the message is the library's."""


@dataclass(frozen=True)
class Tensor:
    """``element``: a number of ``TensorProto.DataType``. ``shape``: -1 where a dimension is not fixed."""

    name: str
    element: int
    shape: Shape
    dim_names: tuple[str, ...] = ()

    @property
    def is_dynamic(self) -> bool:
        return -1 in self.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = _helper().tensor_dtype_to_np_dtype(self.element)
        return dtype


@functools.lru_cache(maxsize=32)
def open_model(data: bytes) -> OnnxModel:
    """The model in these bytes, weights and all; the same bytes give the same object, whose session is made once."""
    return OnnxModel(data)


class OnnxModel:
    """One model. May be used from several threads."""

    def __init__(self, data: bytes) -> None:
        import onnx

        self.data = data
        self.proto = onnx.load_from_string(data)
        weights = {tensor.name for tensor in self.proto.graph.initializer}
        self.inputs = tuple(_tensor(value) for value in self.proto.graph.input if value.name not in weights)
        self.outputs = tuple(_tensor(value) for value in self.proto.graph.output)
        self.decides_shapes = any(node.op_type in _DATA_DEPENDENT for node in self.proto.graph.node)
        self.shape_inputs = self._shape_inputs()
        self._lock = threading.Lock()
        self._session: Any = None
        self._types: dict[Any, dict[str, Tensor]] = {}

    def _shape_inputs(self) -> frozenset[str]:
        """Inputs whose values are shapes: TensorRT wants these in host memory."""
        integers = {tensor.name for tensor in self.inputs if tensor.element in _INTEGERS}
        return frozenset(
            name
            for node in self.proto.graph.node
            for place, name in enumerate(node.input)
            if name in integers and place in _SHAPE_PLACES.get(node.op_type, ())
        )

    @property
    def weights_bytes(self) -> int:
        """Bytes of all initializers and constants."""
        return sum(tensor.ByteSize() - len(tensor.name) for tensor in _weights(self.proto))

    def run(self, feed: Mapping[str, Array]) -> list[Array]:
        """The outputs, in their order. Raises ``ModelError``."""
        try:
            with self._lock:
                if self._session is None:
                    self._session = _session(self.data)
            return [np.asarray(value) for value in self._session.run(None, dict(feed))]
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(str(error)) from error

    def types(self, shapes: Mapping[str, Shape], values: Mapping[str, Array] | None = None) -> dict[str, Tensor]:
        """Every tensor by its name, for these shapes of the inputs; -1 where only the data decide.

        ``values``: of the shape inputs. Raises ``ModelError`` where the shapes contradict the model.
        """
        told = {} if values is None else values
        key = (tuple(sorted(shapes.items())), tuple((name, told[name].tobytes()) for name in sorted(told)))
        if key not in self._types:
            self._types[key] = self._infer(shapes, told)
        return self._types[key]

    def scratch_bytes(self, shapes: Mapping[str, Shape], values: Mapping[str, Array] | None = None) -> int:
        """The most memory that tensors between layers take at once when the layers run in their order."""
        types = self.types(shapes, values)
        outside = {tensor.name for tensor in (*self.inputs, *self.outputs)} | {w.name for w in _weights(self.proto)}
        nodes = [node for node in self.proto.graph.node if node.op_type != "Constant"]
        last_use = {name: place for place, node in enumerate(nodes) for name in node.input}
        live = peak = 0
        ends: dict[int, int] = {}
        for place, node in enumerate(nodes):
            for name in node.output:
                if name in types and name not in outside:
                    size = _aligned(volume(types[name].shape, unknown=1) * types[name].dtype.itemsize)
                    live += size
                    ends[last_use.get(name, place)] = ends.get(last_use.get(name, place), 0) + size
            peak = max(peak, live)
            live -= ends.pop(place, 0)
        return peak

    def _infer(self, shapes: Mapping[str, Shape], told: Mapping[str, Array]) -> dict[str, Tensor]:
        found = _infer_types(self.proto, shapes)
        unknown = [name for name, tensor in found.items() if tensor.is_dynamic]
        is_told = told.keys() >= self.shape_inputs and not any(-1 in shape for shape in shapes.values())
        if unknown and not self.decides_shapes and is_told:
            feed = {tensor.name: np.zeros(shapes[tensor.name], tensor.dtype) for tensor in self.inputs} | dict(told)
            values = self.intermediate(feed, unknown)
            found.update({name: Tensor(name, found[name].element, value.shape) for name, value in values.items()})
        return found

    def intermediate(self, feed: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        """The values of these tensors, whether they are outputs or not. Raises ``ModelError``."""
        import onnx

        names = list(names)
        types = _infer_types(self.proto, {name: value.shape for name, value in feed.items()})
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.output[:]
        for name in names:
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, types[name].element, None))
        try:
            session = _session(proto.SerializeToString())
            return dict(zip(names, session.run(None, dict(feed)), strict=True))
        except Exception as error:
            raise ModelError(str(error)) from error


def tensor_types(proto: onnx.ModelProto) -> dict[str, Tensor]:
    """Every tensor of a model by its name, with -1 for each dimension that is not fixed."""
    return _infer_types(proto, {})


def volume(shape: Sequence[int], *, unknown: int = -1) -> int:
    """The number of elements; a dimension of -1 counts as ``unknown``."""
    return math.prod(unknown if size == -1 else size for size in shape)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


def _helper() -> Any:
    from onnx import helper

    return helper


def _session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _weights(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    constants = [
        attribute.t
        for node in proto.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.HasField("t")
    ]
    return [*proto.graph.initializer, *constants]


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    dims = list(kind.shape.dim)
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)
    return Tensor(value.name, kind.elem_type, shape, tuple(dim.dim_param for dim in dims))


def _infer_types(proto: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for value in model.graph.input:
        if value.name in shapes:
            kind = value.type.tensor_type
            del kind.shape.dim[:]
            for size in shapes[value.name]:
                dim = kind.shape.dim.add()
                if size >= 0:
                    dim.dim_value = size
    if shapes:
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=bool(shapes), data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(str(error)) from error
    graph = inferred.graph
    found = {value.name: _tensor(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        found.setdefault(tensor.name, Tensor(tensor.name, tensor.data_type, tuple(tensor.dims)))
    return found
