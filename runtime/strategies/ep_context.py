"""A TensorRT engine as ONNX Runtime takes it: a model of one ``EPContext`` node, written without ``onnx``.

The engine's bytes go into the node (``embed_mode`` 1) and the model is handed over as bytes, so that what the engine
gate verified is what TensorRT deserialises (TR-04): with a path (``embed_mode`` 0) the provider would read the file
again. The price is protobuf's limit of 2 GB and a second copy in host memory while loading. A model with this node
cannot fall back: no other provider has it.

Field numbers are those of ``onnx.proto``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.data import TensorSpec
from runtime.errors import EngineDeserializeError

__all__ = ["MAX_ENGINE_BYTES", "ep_context_model"]

MAX_ENGINE_BYTES = 2**31 - 2**20
"""Protobuf's 2 GB, less what the rest of the model needs."""

_IR_VERSION, _OPSET = 8, 17
_ELEMENT_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
}
"""TensorRT's tensor types that numpy has, as ONNX numbers them."""


def ep_context_model(
    engine: bytes | memoryview, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], *, sm: str, trt: str
) -> bytes:
    """The serialized model around ``engine``, with the engine's own tensor names, types and shapes.

    Raises ``EngineDeserializeError`` for an engine over ``MAX_ENGINE_BYTES`` and for a type that TensorRT has not.
    """
    if len(engine) > MAX_ENGINE_BYTES:
        raise EngineDeserializeError(
            f"the engine has {len(engine)} bytes; ONNX Runtime takes {MAX_ENGINE_BYTES} at most.",
            remedy="Load it with the runtime tensorrt.",
        )
    node = b"".join(
        [
            *(_text(1, spec.name) for spec in inputs),
            *(_text(2, spec.name) for spec in outputs),
            _text(3, "engine"),
            _text(4, "EPContext"),
            _integer_attribute("main_context", 1),
            _integer_attribute("embed_mode", 1),
            _text_attribute("source", "TensorrtExecutionProvider"),
            _text_attribute("hardware_architecture", sm),
            _text_attribute("ep_sdk_version", trt),
            _text_attribute("ep_cache_context", engine),
            _text(7, "com.microsoft"),
        ]
    )
    graph = b"".join(
        [
            _block(1, node),
            _text(2, "engine"),
            *(_block(11, _value(spec)) for spec in inputs),
            *(_block(12, _value(spec)) for spec in outputs),
        ]
    )
    return b"".join(
        [
            _number(1, _IR_VERSION),
            _block(8, _number(2, _OPSET)),
            _block(8, _text(1, "com.microsoft") + _number(2, 1)),
            _block(7, graph),
        ]
    )


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _block(field: int, content: bytes | memoryview) -> bytes:
    return b"".join([_varint(field << 3 | 2), _varint(len(content)), content])


def _text(field: int, text: str) -> bytes:
    return _block(field, text.encode())


def _integer_attribute(name: str, value: int) -> bytes:
    return _block(5, _text(1, name) + _number(3, value) + _number(20, 2))


def _text_attribute(name: str, value: str | bytes | memoryview) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _block(5, b"".join([_text(1, name), _block(4, content), _number(20, 3)]))


def _value(spec: TensorSpec) -> bytes:
    """A ``ValueInfoProto``."""
    element = _ELEMENT_TYPES.get(np.dtype(spec.dtype).name)
    if element is None:
        raise EngineDeserializeError(
            f"the manifest says that {spec.name!r} is {spec.dtype}; a TensorRT tensor is one of {', '.join(_ELEMENT_TYPES)}."
        )
    dims = b"".join(_block(1, _number(1, size) if isinstance(size, int) else _text(2, size)) for size in spec.shape)
    return _text(1, spec.name) + _block(2, _block(1, _number(1, element) + _block(2, dims)))
