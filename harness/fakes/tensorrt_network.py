"""The classes that describe a network: ``INetworkDefinition``, its tensors and layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.fakes.bindings import Face
from harness.fakes.onnx_model import OnnxModel, Tensor, tensor_types
from harness.fakes.tensorrt_library import DTYPES, Library, Voice
from harness.fakes.tensorrt_precision import LAYER_TYPES
from harness.fakes.tensorrt_properties import recorder_setting, setting

if TYPE_CHECKING:
    import onnx

__all__ = ["FACES", "Network", "make_network", "tensor_face"]


@dataclass(eq=False)
class Network:
    """``proto``: what was parsed. ``changed``: types that were set by hand, ``precisions``: of layers, likewise."""

    voice: Voice
    builder: Any
    flags: int
    is_strongly_typed: bool
    proto: onnx.ModelProto | None = None
    name: str = "Unnamed Network 0"
    tensors: dict[str, Any] = field(default_factory=dict)
    precisions: dict[str, str] = field(default_factory=dict)
    output_types: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        return list(self.proto.graph.node) if self.proto is not None else []

    def shape_inputs(self) -> frozenset[str]:
        return OnnxModel(self.proto.SerializeToString()).shape_inputs if self.proto is not None else frozenset()

    def inputs(self) -> list[str]:
        if self.proto is None:
            return []
        weights = {tensor.name for tensor in self.proto.graph.initializer}
        return [value.name for value in self.proto.graph.input if value.name not in weights]

    def outputs(self) -> list[str]:
        return [value.name for value in self.proto.graph.output] if self.proto is not None else []


@dataclass(eq=False)
class _NetTensor:
    network: Network
    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def tensor(self) -> Tensor | None:
        assert self.network.proto is not None
        return tensor_types(self.network.proto).get(self.name)

    def value(self) -> onnx.ValueInfoProto | None:
        """The declaration of an input or output."""
        assert self.network.proto is not None
        graph = self.network.proto.graph
        return next((value for value in (*graph.input, *graph.output) if value.name == self.name), None)


@dataclass(eq=False)
class _Layer:
    network: Network
    place: int

    @property
    def node(self) -> onnx.NodeProto:
        return self.network.nodes[self.place]


def make_network(library: Library, builder: Any, voice: Voice, flags: int, *, is_strongly_typed: bool) -> Any:
    """An empty ``INetworkDefinition``."""
    return library.make("INetworkDefinition", Network(voice.child(), builder, flags, is_strongly_typed))


def tensor_face(library: Library, network: Network, name: str) -> Any:
    """The one ``ITensor`` of a tensor."""
    if name not in network.tensors:
        network.tensors[name] = library.make("ITensor", _NetTensor(network, name))
    return network.tensors[name]


class INetworkDefinition(Face):
    __slots__ = ()
    error_recorder = recorder_setting()
    has_implicit_batch_dimension = property(lambda self: False)
    builder = property(lambda self: self._state.builder)
    flags = property(lambda self: self._state.flags)
    num_layers = property(lambda self: len(self._state.nodes))
    num_inputs = property(lambda self: len(self._state.inputs()))
    num_outputs = property(lambda self: len(self._state.outputs()))

    @property
    def name(self) -> str:
        return str(self._state.name)

    @name.setter
    def name(self, value: str) -> None:
        self._state.name = value

    def __len__(self) -> int:
        return len(self._state.nodes)

    def __getitem__(self, arg0: int) -> Any:
        if not -len(self._state.nodes) <= arg0 < len(self._state.nodes):
            raise IndexError("Out of bounds")
        return self.get_layer(arg0 % len(self._state.nodes))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._state.flags >> int(flag) & 1)

    def get_input(self, index: int) -> Any:
        return self._tensor(self._state.inputs(), index, "getInput", "getNbInputs")

    def get_output(self, index: int) -> Any:
        return self._tensor(self._state.outputs(), index, "getOutput", "getNbOutputs")

    def get_layer(self, index: int) -> Any:
        if 0 <= index < len(self._state.nodes):
            return self._library.make("ILayer", _Layer(self._state, index))
        return self._none("getLayer", index, len(self._state.nodes), "getNbLayers")

    def mark_output(self, tensor: Any) -> None:
        state = self._state
        if tensor._state.name not in state.outputs():
            known = tensor._state.tensor
            value = state.proto.graph.output.add()
            value.name = tensor._state.name
            value.type.tensor_type.elem_type = known.element if known else 1

    def unmark_output(self, tensor: Any) -> None:
        graph = self._state.proto.graph
        kept = [value for value in graph.output if value.name != tensor._state.name]
        del graph.output[:]
        graph.output.extend(kept)

    def _tensor(self, names: list[str], index: int, method: str, count: str) -> Any:
        if 0 <= index < len(names):
            return tensor_face(self._library, self._state, names[index])
        return self._none(method, index, len(names), count)

    def _none(self, method: str, index: int, length: int, count: str) -> None:
        self._library.fail(
            self._state.voice,
            "INVALID_ARGUMENT",
            f"INetworkDefinition::{method}: Error Code 3: API Usage Error (Parameter check failed, condition: (0) <= (index) && "
            f"(index) < ({count}()). Invalid index: {index}. Valid range is [0, {length}).)",
        )


class ITensor(Face):
    """Of a parsed network: what can be changed is the name, the shape and the type of inputs, and the type of outputs."""

    __slots__ = ()
    location = setting("location", None)
    allowed_formats = setting("allowed_formats", 8191)
    broadcast_across_batch = setting("broadcast_across_batch", False)
    is_shape_tensor = property(lambda self: self._state.name in self._state.network.shape_inputs())
    is_execution_tensor = property(lambda self: not self.is_shape_tensor)
    is_network_input = property(lambda self: self._state.name in self._state.network.inputs())
    is_network_output = property(lambda self: self._state.name in self._state.network.outputs())

    @property
    def name(self) -> str:
        return str(self._state.name)

    @name.setter
    def name(self, value: str) -> None:
        state = self._state
        graph = state.network.proto.graph
        for node in graph.node:
            for names in (node.input, node.output):
                for place, old in enumerate(names):
                    if old == state.name:
                        names[place] = value
        for declared in (*graph.input, *graph.output, *graph.value_info):
            if declared.name == state.name:
                declared.name = value
        state.network.tensors[value] = state.network.tensors.pop(state.name)
        state.name = value

    @property
    def shape(self) -> Any:
        tensor = self._state.tensor
        return self._library.dims(tensor.shape if tensor is not None else ())

    @shape.setter
    def shape(self, value: Any) -> None:
        declared = self._state.value()
        if declared is not None:
            shape = declared.type.tensor_type.shape
            del shape.dim[:]
            for size in value:
                dim = shape.dim.add()
                if size >= 0:
                    dim.dim_value = int(size)

    @property
    def dtype(self) -> Any:
        tensor = self._state.tensor
        return self._library.enum("DataType", DTYPES.get(tensor.element if tensor else 1, "FLOAT"))

    @dtype.setter
    def dtype(self, value: Any) -> None:
        state = self._state
        if state.value() is not None:
            state.network.settings.setdefault("io types", {})[state.name] = value.name

    @property
    def dynamic_range(self) -> Any:
        most = self._state.network.ranges.get(self._state.name)
        return None if most is None else (-most, most)

    @dynamic_range.setter
    def dynamic_range(self, value: Any) -> None:
        self.set_dynamic_range(*value)

    def set_dynamic_range(self, min: float, max: float) -> bool:  # noqa: A002  # the library's names
        self._state.network.ranges[self._state.name] = sorted((abs(min), abs(max)))[1]
        return True

    def reset_dynamic_range(self) -> None:
        self._state.network.ranges.pop(self._state.name, None)

    def get_dimension_name(self, index: int) -> Any:
        tensor = self._state.tensor
        names = tensor.dim_names if tensor else ()
        return (names[index] if index < len(names) else "") or None


class ILayer(Face):
    """One node of the model. ``precision`` and output types are obeyed by a builder of a weakly typed network."""

    __slots__ = ()
    num_inputs = property(lambda self: len(self._state.node.input))
    num_outputs = property(lambda self: len(self._state.node.output))
    metadata = property(
        lambda self: f"[ONNX Layer: {self._state.node.name}]",
        lambda self, value: None,
    )

    @property
    def name(self) -> str:
        return str(self._state.node.name)

    @name.setter
    def name(self, value: str) -> None:
        precisions, old = self._state.network.precisions, self._state.node.name
        if old in precisions:
            precisions[value] = precisions.pop(old)
        self._state.node.name = value

    @property
    def type(self) -> Any:
        return self._library.enum("LayerType", LAYER_TYPES.get(self._state.node.op_type, "UNARY"))

    def get_input(self, index: int) -> Any:
        return self._tensor(self._state.node.input, index)

    def get_output(self, index: int) -> Any:
        return self._tensor(self._state.node.output, index)

    def _tensor(self, names: Any, index: int) -> Any:
        return tensor_face(self._library, self._state.network, names[index]) if 0 <= index < len(names) else None

    @property
    def precision(self) -> Any:
        return self._library.enum("DataType", self._state.network.precisions.get(self._state.node.name, "FLOAT"))

    @precision.setter
    def precision(self, value: Any) -> None:
        self._state.network.precisions[self._state.node.name] = value.name

    @property
    def precision_is_set(self) -> bool:
        return self._state.node.name in self._state.network.precisions

    def reset_precision(self) -> None:
        self._state.network.precisions.pop(self._state.node.name, None)

    def get_output_type(self, index: int) -> Any:
        wanted = self._state.network.output_types.get(self._state.node.output[index])
        return self._library.enum("DataType", wanted) if wanted else self.get_output(index).dtype

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._state.network.output_types[self._state.node.output[index]] = dtype.name

    def output_type_is_set(self, index: int) -> bool:
        return self._state.node.output[index] in self._state.network.output_types

    def reset_output_type(self, index: int) -> None:
        self._state.network.output_types.pop(self._state.node.output[index], None)


FACES: tuple[type[Face], ...] = (INetworkDefinition, ITensor, ILayer)
