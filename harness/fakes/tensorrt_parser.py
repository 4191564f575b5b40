"""The parser: ``OnnxParser`` and ``ParserError``. What it finds wrong, and its words, are those of the real one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.fakes.bindings import Face
from harness.fakes.tensorrt_library import DTYPES, Voice
from harness.fakes.tensorrt_network import FACES as NETWORK_FACES
from harness.fakes.tensorrt_network import Network, tensor_face

if TYPE_CHECKING:
    import onnx

__all__ = ["FACES"]

_REFUSED = frozenset(
    (
        *(
            "Unique",
            "StringNormalizer",
            "TfIdfVectorizer",
            "Compress",
            "Det",
            "Multinomial",
            "Bernoulli",
            "ImageDecoder",
        ),
        *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear", "BitwiseAnd"),
        *(
            "SequenceAt",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceInsert",
            "SplitToSequence",
            "ConcatFromSequence",
        ),
        *("Optional", "OptionalGetElement", "OptionalHasElement", "StringConcat", "StringSplit", "RegexFullMatch"),
    )
)
"""Operators that the parser has a checker for that always says no, as its list of operators tells."""
_DEQUANTIZES = frozenset({3, 2, 17, 22, 21, 23})  # INT8, UINT8, FP8, INT4, UINT4, FP4


@dataclass(frozen=True)
class _Error:
    """One finding of the parser, as its users see it."""

    code: str
    desc: str
    file: str
    line: int
    func: str
    node: int = -1
    name: str = ""
    operator: str = ""


@dataclass(eq=False)
class _Parser:
    network: Network
    logger: Any
    errors: list[_Error] = field(default_factory=list)
    flags: int = 0
    subgraphs: list[tuple[list[int], bool]] = field(default_factory=list)


class ParserError(Face):
    __slots__ = ()

    def code(self) -> Any:
        return self._library.enum("ErrorCode", self._state.code)

    def desc(self) -> str:
        return str(self._state.desc)

    def file(self) -> str:
        return str(self._state.file)

    def line(self) -> int:
        return int(self._state.line)

    def func(self) -> str:
        return str(self._state.func)

    def node(self) -> int:
        return int(self._state.node)

    def node_name(self) -> str:
        return str(self._state.name)

    def node_operator(self) -> str:
        return str(self._state.operator)

    def local_function_stack(self) -> list[str]:
        return []

    def local_function_stack_size(self) -> int:
        return 0

    def __repr__(self) -> str:
        return _sentence(self._state)

    __str__ = __repr__


class OnnxParser(Face):
    __slots__ = ()

    def __init__(self, network: Any, logger: Any) -> None:
        self._state = _Parser(network._state, logger)

    @property
    def num_errors(self) -> int:
        return len(self._state.errors)

    @property
    def num_subgraphs(self) -> int:
        return len(self._state.subgraphs)

    @property
    def flags(self) -> int:
        return int(self._state.flags)

    @flags.setter
    def flags(self, value: int) -> None:
        self._state.flags = value

    def set_flag(self, flag: Any) -> None:
        self._state.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._state.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._state.flags >> int(flag) & 1)

    def get_error(self, index: int) -> Any:
        return self._library.make("ParserError", self._state.errors[index])

    def clear_errors(self) -> None:
        self._state.errors.clear()

    def get_used_vc_plugin_libraries(self) -> list[str]:
        return []

    def get_layer_output_tensor(self, name: str, i: int) -> Any:
        node = next((node for node in self._state.network.nodes if node.name == name), None)
        return (
            tensor_face(self._library, self._state.network, node.output[i])
            if node and 0 <= i < len(node.output)
            else None
        )

    def parse(self, model: Any, path: str | None = None) -> bool:
        return self._entered("parse") and self._parse(bytes(memoryview(model)), path)

    def parse_from_file(self, model: str) -> bool:
        if not self._entered("parse_from_file"):
            return False
        if not Path(model).is_file():
            what = "stat(onnxModelFile, &sb) == 0 && S_ISREG(sb.st_mode): Input file cannot be found, or is not a regular file"
            return self._fail(
                _Error(
                    "INVALID_VALUE", f"Assertion failed: {what}: {model}", "ModelImporter.cpp", 1422, "parseFromFile"
                )
            )
        return self._parse(Path(model).read_bytes(), model)

    def supports_model_v2(self, model: Any, path: str | None = None) -> bool:
        if not self._entered("supports_model_v2"):
            return False
        state = self._state
        proto = self._read(bytes(memoryview(model)), path)
        refused = {error.node for error in _check_nodes(proto, state.logger)} if proto is not None else set()
        state.subgraphs = (
            _runs([place not in refused for place in range(len(proto.graph.node))]) if proto is not None else []
        )
        return proto is not None and not refused

    def supports_model(self, model: Any, path: str | None = None) -> tuple[bool, list[tuple[list[int], bool]]]:
        return self.supports_model_v2(model, path), self._state.subgraphs

    def is_subgraph_supported(self, index: int) -> bool:
        return bool(self._state.subgraphs[index][1])

    def get_subgraph_nodes(self, index: int) -> list[int]:
        return list(self._state.subgraphs[index][0])

    def supports_operator(self, op_name: str) -> bool:
        import onnx

        return bool(onnx.defs.has(op_name)) and op_name not in _REFUSED

    def _entered(self, method: str) -> bool:
        voice = Voice(self._state.logger, self._state.network.voice.recorder)
        interface = "IParser::parseFromFile" if method == "parse_from_file" else "IParser::parse"
        return self._library.entered(f"OnnxParser.{method}", voice, interface, needs_device=False)  # type: ignore[no-any-return]

    def _parse(self, data: bytes, path: str | None) -> bool:
        state = self._state
        if state.network.proto is not None:
            what = "Assertion failed: model->ByteSizeLong() == 0: A model was previously parsed!"
            return self._fail(
                _Error("MODEL_DESERIALIZE_FAILED", what, "onnxProtoUtils.hpp", 71, "deserializeOnnxModel")
            )
        proto = self._read(data, path)
        if proto is None:
            return False
        found = list(_check_nodes(proto, state.logger))
        for error in found:
            self._fail(error)
        if found:
            return False
        state.network.proto = proto
        return True

    def _read(self, data: bytes, path: str | None) -> onnx.ModelProto | None:
        """The model with its weights, or None, which then has been said."""
        import onnx

        try:
            proto = onnx.load_from_string(data)
        except Exception:  # protobuf's own, which is not public
            what = "Assertion failed: model->ParseFromCodedStream(&codedInput): Failed to parse the ONNX model."
            self._fail(_Error("MODEL_DESERIALIZE_FAILED", what, "onnxProtoUtils.hpp", 73, "deserializeOnnxModel"))
            return None
        opset = next((entry.version for entry in proto.opset_import if not entry.domain), 0)
        for line in (f"ONNX IR version:  {proto.ir_version}", f"Opset version:    {opset}"):
            self._library.say(self._state.logger, "INFO", line)
        folder = Path(path).parent if path else Path.cwd()
        for tensor in proto.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL and not self._has_weights(tensor, folder):
                return None
        onnx.external_data_helper.load_external_data_for_model(proto, str(folder))
        return proto

    def _has_weights(self, tensor: onnx.TensorProto, folder: Path) -> bool:
        location = next(entry.value for entry in tensor.external_data if entry.key == "location")
        if (folder / location).is_file():
            return True
        self._library.say(
            self._state.logger, "ERROR", f"WeightsContext.cpp:203: Failed to open file: {folder / location}"
        )
        what = (
            "Failed to import initializer: In node -1 with name:  and operator:  (importInitializers): UNSUPPORTED_NODE: "
            "Assertion failed: ctx->getWeightsContext().convertOnnxWeights(initializer, &weights): Failed to import "
            f"initializer: {tensor.name}"
        )
        return self._fail(_Error("INVALID_GRAPH", what, "ModelImporter.cpp", 899, "importInitializers"))

    def _fail(self, error: _Error) -> bool:
        state, library = self._state, self._library
        state.errors.append(error)
        voice = Voice(state.logger, state.network.voice.recorder)
        if voice.recorder is not None and error.node < 0:  # what is wrong with a node, the logger alone is told
            code = "INVALID_ARGUMENT" if error.func == "parseFromFile" else "INTERNAL_ERROR"
            library.fail(voice, code, _sentence(error))
        if error.node >= 0:
            outputs = error.operator
            library.say(
                state.logger, "ERROR", f"ModelImporter.cpp:140: While parsing node number {error.node} [{outputs}]:"
            )
            library.say(
                state.logger, "ERROR", f"ModelImporter.cpp:142: --- Begin node ---{os.linesep}Node name: {error.name}"
            )
            library.say(state.logger, "ERROR", "ModelImporter.cpp:143: --- End node ---")
        number = int(library.enum("ErrorCode", error.code))
        library.say(
            state.logger,
            "ERROR",
            f"ModelImporter.cpp:151: ERROR: {error.file}:{error.line} In function {error.func}:\n[{number}] {error.desc}",
        )
        return False


def _sentence(error: _Error) -> str:
    if error.func == "deserializeOnnxModel":
        return f"({error.func}): {error.code}: {error.desc}"
    where = f"In node {error.node} with name: {error.name} and operator: {error.operator}"
    return f"{where} ({error.func}): {error.code}: {error.desc}"


def _check_nodes(proto: onnx.ModelProto, logger: Any) -> Iterator[_Error]:
    """What the parser finds wrong with a model, in the order of its nodes."""
    import onnx

    known = {value.name for value in proto.graph.input} | {tensor.name for tensor in proto.graph.initializer} | {""}
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.type.tensor_type.elem_type not in DTYPES:
            what = 'convertDtype(onnxDtype.elem_type(), &trtDtype) && "Failed to convert ONNX date type to TensorRT data type."'
            yield _Error("UNSUPPORTED_NODE", f"Assertion failed: {what}", value.name, 992, "importInput")
    found = False
    for place, node in enumerate(proto.graph.node):
        where: dict[str, Any] = {"node": place, "name": node.name, "operator": node.op_type}
        missing = [name for name in node.input if name not in known]
        known |= set(node.output)
        domain = "" if node.domain == "ai.onnx" else node.domain
        if missing:
            what = "Assertion failed: (ctx->tensors().count(inputName)): Node input was not registered."
            yield _Error("INVALID_GRAPH", what, "ModelImporter.cpp", 356, "parseNode", **where)
        elif domain or not onnx.defs.has(node.op_type):
            what = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
            yield _Error("INVALID_NODE", what, "onnxOpCheckers.cpp", 998, "checkFallbackPluginImporter", **where)
        elif node.op_type in _REFUSED:
            yield _Error("UNSUPPORTED_NODE", "false", "onnxOpCheckers.cpp", 1258, f"check{node.op_type}", **where)
        elif node.op_type == "DequantizeLinear" and types.get(node.input[0], 3) not in _DEQUANTIZES:
            kind = onnx.TensorProto.DataType.Name(types[node.input[0]]).title()
            what = (
                f"Invalid Node - {node.name}\nITensor::getDimensions: Error Code 4: API Usage Error ({node.name}: input has "
                f"type {kind} but must have type FP8, FP4, Int4, Int8, or UInt8. In checkType at nodeBase.cpp:456)"
            )
            yield _Error("INVALID_NODE", what, "ModelImporter.cpp", 489, "parseNode", **where)
        else:
            continue
        found = True
    if not found and opsets:
        yield from _check_shapes(proto)


def _check_shapes(proto: onnx.ModelProto) -> Iterator[_Error]:
    """Shapes that contradict each other, at the node whose inference says so."""
    import onnx

    try:
        onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        text = str(error)
        for place, node in enumerate(proto.graph.node):
            if f"op_type:{node.op_type}" in text and (not node.name or node.name in text):
                what = f"Invalid Node - {node.name}\nITensor::getDimensions: Error Code 4: API Usage Error ({text.strip()})"
                yield _Error(
                    "INVALID_NODE", what, "ModelImporter.cpp", 489, "parseNode", place, node.name, node.op_type
                )
                return
        yield _Error("INVALID_GRAPH", text.strip(), "ModelImporter.cpp", 489, "parseGraph")


def _runs(supported: list[bool]) -> list[tuple[list[int], bool]]:
    """Neighbouring nodes that are all supported or all not."""
    runs: list[tuple[list[int], bool]] = []
    for place, is_supported in enumerate(supported):
        if not runs or runs[-1][1] != is_supported:
            runs.append(([], is_supported))
        runs[-1][0].append(place)
    return runs


FACES: tuple[type[Face], ...] = (*NETWORK_FACES, ParserError, OnnxParser)
